"""The time by which a run measures silence: seconds since 1970, steady whatever is done to the clock on the wall."""

import time

_WALL_S, _BEGAN_S = time.time(), time.monotonic()
_rate = 1.0


def now_s() -> float:
    """What the clock on the wall would show if nobody had set it since the program started."""
    return _WALL_S + _rate * (time.monotonic() - _BEGAN_S)


def run_faster(rate: float) -> None:
    """Let time pass faster from the program's start on: hours of acquisition are tried out in minutes."""
    global _rate
    _rate = rate
