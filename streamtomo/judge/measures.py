"""The numbers that verdicts rest on: pure functions of records.

Intensity is compared with the series' own law of absorption (Beer-Lambert): `ln mean = a + s / cos(tilt - pretilt)`,
the slope `s` negative in bright field and often positive in annular dark field. Whatever its sign, the law is learned
from the tilts already accepted, by iterated least squares that give way to outliers (Huber).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.model import Correction, Placement

Array = NDArray[np.float64]


class Accepted(Struct, frozen=True, kw_only=True):
    """A tilt that was accepted before."""

    angle_deg: float
    correction: Correction
    placement: Placement


class Expectation(NamedTuple):
    """What the other tilts predict for the mean of a new one."""

    mean: float
    scatter: float
    """Robust standard deviation of `ln mean` about the prediction; 0 where too few tilts tell."""
    slack: float
    """How much lower `ln mean` may be because the path through the specimen is longer than any seen so far."""


ENOUGH = 5
"""Tilts needed to fit the law; with fewer the nearest tilt is the prediction."""
ENOUGH_FOR_PRETILT = 9
SLOPE_KNOWN = 0.1
"""Range of paths, in thicknesses, from which a slope can be told."""
STEEPEST = 1.5
"""Loss of `ln mean` per thickness of path that is believed where the slope is not known; a thick specimen's."""
PRETILTS_DEG = (0.0, *(sign * step for step in (4.0, 8.0, 12.0, 16.0, 20.0) for sign in (1.0, -1.0)))
STEEPEST_TILT_DEG = 82.0


def expected_mean(angle_deg: float, accepted: Sequence[Accepted]) -> Expectation | None:
    """The mean that the accepted tilts predict at an angle; None where none of them has a positive mean."""
    lit = [one for one in accepted if one.correction.mean > 0]
    if not lit or 2 * len(lit) < len(accepted):
        return None
    angles = np.array([one.angle_deg for one in lit])
    logs = np.log([one.correction.mean for one in lit])
    if len(lit) < ENOUGH:
        nearest = int(np.argmin(np.abs(angles - angle_deg)))
        longer = float(_path(angle_deg) - _path(angles[nearest]))
        return Expectation(math.exp(logs[nearest]), 0.0, STEEPEST * max(0.0, longer))
    return min((_law(angle_deg, angles, logs, pretilt) for pretilt in _pretilts(angles)), key=lambda law: law.scatter)


def jump(placement: Placement, field_px: tuple[int, int]) -> float:
    """Shift against the neighbour, as a fraction of the field."""
    return math.hypot(placement.step_x / field_px[0], placement.step_y / field_px[1])


def distance(placement: Placement, field_px: tuple[int, int]) -> float:
    """Distance from the first tilt's field, as a fraction of the field."""
    return math.hypot(placement.shift_x / field_px[0], placement.shift_y / field_px[1])


def _pretilts(angles: Array) -> Sequence[float]:
    """Pretilts worth trying: none unless both branches have tilts enough to tell."""
    told = len(angles) >= ENOUGH_FOR_PRETILT and angles.min() < -20 and angles.max() > 20
    return PRETILTS_DEG if told else PRETILTS_DEG[:1]


def _path(angle_deg: float | Array) -> Array:
    return geometry.thickness_path(np.clip(angle_deg, -STEEPEST_TILT_DEG, STEEPEST_TILT_DEG))


def _law(angle_deg: float, angles: Array, logs: Array, pretilt_deg: float) -> Expectation:
    """Prediction of the law with a given pretilt."""
    paths, here = _path(angles - pretilt_deg), float(_path(angle_deg - pretilt_deg))
    known = float(np.ptp(paths)) >= SLOPE_KNOWN
    offset, slope = _robust_line(paths - 1, logs) if known else (float(np.median(logs)), 0.0)
    residuals = logs - offset - slope * (paths - 1)
    # the median of absolute residuals of a fitted line is too small for few points; the line itself is unsure far out
    n = len(logs)
    lever = (here - float(paths.mean())) ** 2 / float(((paths - paths.mean()) ** 2).sum()) if known else 0.0
    scatter = 1.4826 * float(np.median(np.abs(residuals))) * math.sqrt(n / (n - 2) * (1 + 1 / n + lever))
    longer = here - float(paths.max())
    slack = STEEPEST / 3 * (longer - float(np.ptp(paths)) / 2) if known else STEEPEST * longer
    return Expectation(math.exp(offset + slope * (here - 1)), scatter, max(0.0, slack))


def _robust_line(x: Array, y: Array) -> tuple[float, float]:
    """Offset and slope of the line through points, by least squares with Huber's weights."""
    weights = np.ones_like(x)
    design = np.stack([np.ones_like(x), x], axis=1)
    for _ in range(8):
        root = np.sqrt(weights)
        solution, *_ = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)
        residuals = np.abs(y - design @ solution)
        limit = max(1.345 * 1.4826 * float(np.median(residuals)), 1e-6)
        weights = np.minimum(1.0, limit / np.maximum(residuals, 1e-12))
    return float(solution[0]), float(solution[1])
