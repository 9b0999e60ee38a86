"""What the times of files prove about the clock of whoever writes them: a pure machine over listings and time.

A file's time alone proves nothing: a copy may keep that of its original. But a file that was seen to grow, and whose
time went forward as it did, was written between the two looks, and its new time is what the writer's clock (or that of
its file server) showed then. Copies that keep times jump back when they are complete, or appear whole. And a new file
whose time is yet to come proves a clock that is ahead.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from streamtomo.watch.settle import Seen

KEPT = 8
"""Proofs that count, the last ones: a clock may be set right."""
NEEDED, FILES_NEEDED = 6, 2
"""So many proofs, from so many files, must agree."""


class _Proof(NamedTuple):
    path: str
    low_s: float
    """The files' clock is ahead by this or more ..."""
    high_s: float
    """... and by this or less."""


class FileClock:
    """Compares the files' times with the clock that each call gets."""

    def __init__(self, agree_s: float) -> None:
        """Proofs agree that contradict each other by no more than `agree_s`."""
        self._agree_s = agree_s
        self._seen: dict[str, tuple[Seen, float]] = {}
        self._proofs: deque[_Proof] = deque(maxlen=KEPT)

    def saw(self, seen: Seen, now: float, *, new: bool) -> None:
        """The file looks like this now; `new` ones came during the watch if they were not seen before."""
        before = self._seen.get(seen.path)
        if before is not None and before[0] is seen:  # it was not looked at
            return
        self._seen[seen.path] = (seen, now)
        if before is None:
            if new and seen.mtime > now:
                self._proofs.append(_Proof(seen.path, seen.mtime - now, math.inf))
            return
        was, looked = before
        if seen.size > was.size and seen.mtime > was.mtime and now >= looked:
            self._proofs.append(_Proof(seen.path, seen.mtime - now, seen.mtime - looked))

    def forget(self, path: str) -> None:
        """The file is gone."""
        self._seen.pop(path, None)

    def bounds(self) -> tuple[float, float] | None:
        """By how many seconds the files' clock is ahead, from and to; None while too little proves anything.

        The upper bound is the most careful one: a network drive may show an old state of a file for a while.
        """
        lows, highs = [proof.low_s for proof in self._proofs], [proof.high_s for proof in self._proofs]
        if len(lows) < NEEDED or len({proof.path for proof in self._proofs}) < FILES_NEEDED:
            return None
        return (max(lows), max(highs)) if max(lows) - min(highs) <= self._agree_s else None
