"""The time by which a run measures silence: seconds since 1970, steady whatever is done to the clock on the wall."""

import time

_AHEAD_S = time.time() - time.monotonic()


def now_s() -> float:
    """What the clock on the wall would show if nobody had set it since the program started."""
    return _AHEAD_S + time.monotonic()
