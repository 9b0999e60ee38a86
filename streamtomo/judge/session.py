"""This target against its siblings: what dims all of them together is the microscope, not the samples.

A pure machine: tilts of all series go in, in the order in which they came; news come out, once each way.
"""

from __future__ import annotations

from collections import deque
from statistics import median

from streamtomo.config_judge import Judge, limits
from streamtomo.judge.record import Seen, value_of

LAST = 3
"""So many of the last tilts must be dim, of two targets at least, where targets are exposed in turn ..."""
STARTS = 3
"""... and so many series must have begun before, and the last two of all be dim from the start, where they are not."""
KEPT = 50
"""Series whose start is remembered."""
LIKE_DEG = 5.0
"""Starts at angles that differ by more are not compared."""


class Session:
    """What the targets of a session have in common."""

    def __init__(self, settings: Judge) -> None:
        self._dim = limits(settings).dim_fraction
        self._off = settings.preset == "off"
        self._last: deque[tuple[str, float]] = deque(maxlen=LAST)
        self._starts: dict[str, Seen] = {}
        self.dimming = False
        """Whether all targets are dim now."""

    def add(self, series: str, one: Seen) -> str | None:
        """Take in a tilt; what people should know, in words, or None."""
        ratio = value_of(one, "intensity")
        if ratio is not None:
            self._last.append((series, ratio))
        began = series not in self._starts
        if began:
            self._starts = dict(list(self._starts.items())[-KEPT + 1 :])
            self._starts[series] = one
        words = self._all_dim() or (self._starts_dim() if began else None)
        if words is None and self.dimming and (ratio is None or ratio < self._dim):
            return None  # neither over nor news
        news = words is not None and not self.dimming
        over = words is None and self.dimming
        self.dimming = words is not None
        if self._off:
            return None
        return words if news else "the intensity is back: the dimming of all targets is over" if over else None

    def _all_dim(self) -> str | None:
        """The last tilts, of more than one target, are all dim against their own series."""
        targets = {series for series, _ in self._last}
        if len(self._last) < LAST or len(targets) < 2 or any(ratio >= self._dim for _, ratio in self._last):
            return None
        level = median(ratio for _, ratio in self._last)
        return f"the last tilts of {len(targets)} targets all have {level:.2f} of the intensity expected: {CAUSE}"

    def _starts_dim(self) -> str | None:
        """The last two series are dim from their first tilt on, against those before."""
        *before, last_but_one, last = self._starts.values() if len(self._starts) > STARTS else (None, None)
        known = [one.light for one in before if one is not None and last is not None and _alike(one, last)]
        if len(known) < STARTS or last is None or last_but_one is None:
            return None
        usual = median(known)
        if usual <= 0 or max(last.light, last_but_one.light) >= self._dim * usual:
            return None
        level = max(last.light, last_but_one.light) / usual
        return f"the last two series began with {level:.2f} of the intensity that those before did: {CAUSE}"


CAUSE = "the microscope, not the samples"


def _alike(one: Seen, other: Seen) -> bool:
    return abs(abs(one.angle_deg) - abs(other.angle_deg)) < LIKE_DEG
