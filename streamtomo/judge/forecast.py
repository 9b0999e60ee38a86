"""What will go wrong if things go on as they do: measures that near their limits, and the angle at which they pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamtomo.config_judge import Limits
from streamtomo.judge.law import path
from streamtomo.judge.plan import branch
from streamtomo.judge.record import Seen, value_of

LAST = 6
"""So many of the last tilts make a trend ..."""
FEWEST = 4
"""... and no fewer than these."""
CLEAR = 3.0
"""A trend is one when it has moved by so many times the scatter about it."""
GOES_ON = 1 / 3
"""It must go on by so much of itself in the last steps: one great step is no trend."""
AHEAD = 6
"""Tilts that a trend is followed beyond the last."""


class Forecast(NamedTuple):
    """One thing that will go wrong."""

    sign: str
    words: str
    angle_deg: float
    tilts: int
    """How many tilts from now."""


class _Trend(NamedTuple):
    measure: str
    sign: str
    limit: float
    rising: bool
    least: float
    """Change per tilt below which it is no trend."""
    words: str


def forecasts(seen: Sequence[Seen], left_deg: Sequence[float], limits: Limits) -> list[Forecast]:
    """What is foreseen, the nearest first; `left_deg` are the angles to come, in their order."""
    if not seen or not left_deg:
        return []
    found = [one for trend in _trends(limits) if (one := _follow(trend, seen, left_deg)) is not None]
    thick = _too_thick(seen, left_deg, limits)
    dark = _faded(seen[-1], left_deg, limits)
    return sorted([*found, *(one for one in (thick, dark) if one is not None)], key=lambda one: one.tilts)


def _trends(limits: Limits) -> tuple[_Trend, ...]:
    return (
        _Trend("distance", "field", limits.shift_bad, True, 0.02, "the target leaves the field"),
        _Trend("blocked", "shadow", limits.blocked_bad, True, 0.02, "the field lies in shadow"),
        _Trend("changed", "shadow", limits.changed_bad, True, 0.02, "the field is not what it was"),
        _Trend("blob", "shadow", limits.blocked_bad, True, 0.02, "the field is covered"),
        _Trend("intensity", "light", limits.dark_fraction, False, 0.02, "the intensity fails"),
    )


def _follow(trend: _Trend, seen: Sequence[Seen], left_deg: Sequence[float]) -> Forecast | None:
    """The trend of all tilts, or of those on the last one's branch."""
    start, last = seen[0].angle_deg, seen[-1].angle_deg
    side = branch(last, start)
    same = [one for one in seen if branch(one.angle_deg, start) in (side, 0)]
    along = [angle for angle in left_deg if branch(angle, start) == side]
    for tilts, ahead in ((seen, left_deg), (same, along)):
        steps = _steps_to(
            trend, [value for one in tilts[-LAST:] if (value := value_of(one, trend.measure)) is not None]
        )
        if steps is not None and steps <= min(AHEAD, len(ahead)):
            angle = ahead[steps - 1] if steps else last
            return Forecast(trend.sign, trend.words, angle, steps)
    return None


def _steps_to(trend: _Trend, values: Sequence[float]) -> int | None:
    """Tilts until a line through the values passes the limit; 0 if it has, None if it does not or is no line."""
    if len(values) < FEWEST:
        return None
    y = np.asarray(values, dtype=np.float64) * (1 if trend.rising else -1)
    limit = trend.limit if trend.rising else -trend.limit
    x = np.arange(len(y)) - (len(y) - 1.0)
    about = x - x.mean()
    slope = float(about @ y / (about @ about))
    now = float(y.mean() - slope * x.mean())
    scatter = float(np.std(y - now - slope * x)) * np.sqrt(len(y) / (len(y) - 2))
    lately = min(float(y[-1] - y[-2]), float(y[-1] - y[-3]) / 2)
    if slope < trend.least or slope * (len(y) - 1) < CLEAR * scatter or lately < GOES_ON * slope:
        return None
    return max(0, int(np.ceil((limit - now) / slope)))


def _faded(last: Seen, left_deg: Sequence[float], limits: Limits) -> Forecast | None:
    """When too little light will be left of a beam that weakens."""
    lost, rate = value_of(last, "fading"), value_of(last, "fading_rate")
    if lost is None or not rate or not lost < 1 or not rate < 1:
        return None
    tilts = max(0, math.ceil((math.log(limits.dark_fraction) - math.log1p(-lost)) / math.log1p(-rate)))
    if tilts > min(AHEAD, len(left_deg)):
        return None
    return Forecast("light", "the intensity fails", left_deg[tilts - 1] if tilts else last.angle_deg, tilts)


def _too_thick(seen: Sequence[Seen], left_deg: Sequence[float], limits: Limits) -> Forecast | None:
    """The angle from which on the specimen is too thick along the beam."""
    along = value_of(seen[-1], "depth")
    depth = along / float(path(seen[-1].angle_deg)) if along is not None else 0.0
    if depth <= 0:
        return None
    beyond = [(n, angle) for n, angle in enumerate(left_deg, 1) if depth * float(path(angle)) > limits.depth_bad]
    if not beyond:
        return None
    tilts, angle = min(beyond)
    return Forecast("light", "the specimen is too thick for the beam", angle, tilts)
