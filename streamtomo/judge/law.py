"""The series' own law of absorption: what the light of a tilt ought to be.

Beer and Lambert: `ln light = a - depth / cos(tilt - pretilt)`, with the specimen's thickness in mean free paths as the
depth. In annular dark field light often grows with the path; whatever its sign, the law is learned from the tilts
already accepted, by iterated least squares that give way to outliers (Huber). The depth is that of electrons lost from
the image: it is a thickness only with a zero-loss filter or an objective aperture, and by the mean free path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.judge.record import Seen

Array = NDArray[np.float64]


class Expectation(NamedTuple):
    """What the other tilts predict for the light of a new one."""

    light: float
    scatter: float
    """Robust standard deviation of `ln light` about the prediction; 0 where too few tilts tell."""
    slack: float
    """How much lower `ln light` may be because the path through the specimen is longer than any seen so far."""
    depth: float | None = None
    """Thickness in mean free paths; None where the tilts do not tell."""
    depth_error: float = 0.0
    """Standard error of the depth."""
    pretilt_deg: float = 0.0


ENOUGH = 5
"""Tilts needed to fit the law; with fewer the nearest tilt is the prediction."""
ENOUGH_FOR_PRETILT = 9
SLOPE_KNOWN = 0.1
"""Range of paths, in thicknesses, from which a slope can be told."""
STEEPEST = 1.5
"""Loss of `ln light` per thickness of path that is believed where the slope is not known; a thick specimen's."""
PRETILTS_DEG = (0.0, *(sign * step for step in (4.0, 8.0, 12.0, 16.0, 20.0) for sign in (1.0, -1.0)))
STEEPEST_TILT_DEG = 82.0


def expected_light(angle_deg: float, accepted: Sequence[Seen]) -> Expectation | None:
    """The light that the accepted tilts predict at an angle; None where none of them has a positive level."""
    lit = [one for one in accepted if one.light > 0]
    if not lit or 2 * len(lit) < len(accepted):
        return None
    angles = np.array([one.angle_deg for one in lit])
    logs = np.log([one.light for one in lit])
    if len(lit) < ENOUGH:
        nearest = int(np.argmin(np.abs(angles - angle_deg)))
        longer = float(path(angle_deg) - path(angles[nearest]))
        return Expectation(math.exp(logs[nearest]), 0.0, STEEPEST * max(0.0, longer))
    return _law(angle_deg, angles, logs, np.array(_pretilts(angles)))


def path(angle_deg: float | Array) -> Array:
    """Path through a flat specimen, in thicknesses."""
    return geometry.thickness_path(np.clip(angle_deg, -STEEPEST_TILT_DEG, STEEPEST_TILT_DEG))


def _pretilts(angles: Array) -> Sequence[float]:
    """Pretilts worth trying: none unless both branches have tilts enough to tell."""
    told = len(angles) >= ENOUGH_FOR_PRETILT and angles.min() < -20 and angles.max() > 20
    return PRETILTS_DEG if told else PRETILTS_DEG[:1]


def _law(angle_deg: float, angles: Array, logs: Array, pretilts_deg: Array) -> Expectation:
    """Prediction of the law with that of the pretilts `(m,)` with which it scatters least."""
    paths, here = path(angles - pretilts_deg[:, None]), path(angle_deg - pretilts_deg)
    known = np.ptp(paths, axis=1) >= SLOPE_KNOWN
    offset, slope = _robust_lines(paths - 1, logs)
    offset, slope = np.where(known, offset, np.median(logs)), np.where(known, slope, 0.0)
    residuals = logs - offset[:, None] - slope[:, None] * (paths - 1)
    # the median of absolute residuals of a fitted line is too small for few points; the line itself is unsure far out
    n, mean = len(logs), paths.mean(axis=1)
    spread = ((paths - mean[:, None]) ** 2).sum(axis=1)
    lever = np.where(known, (here - mean) ** 2 / np.maximum(spread, 1e-12), 0.0)
    sd = 1.4826 * np.median(np.abs(residuals), axis=1) * math.sqrt(n / (n - 2))
    scatter = sd * np.sqrt(1 + 1 / n + lever)
    best = int(scatter.argmin())
    longer = float(here[best] - paths[best].max())
    slope_known = bool(known[best])
    slack = STEEPEST / 3 * (longer - float(np.ptp(paths[best])) / 2) if slope_known else STEEPEST * longer
    left = float((residuals[best] ** 2).sum())  # outliers count here
    return Expectation(
        light=math.exp(offset[best] + slope[best] * (here[best] - 1)),
        scatter=float(scatter[best]),
        slack=max(0.0, slack),
        depth=-float(slope[best]) if slope_known else None,
        depth_error=math.sqrt(left / (n - 2) / spread[best]) if slope_known else 0.0,
        pretilt_deg=float(pretilts_deg[best]),
    )


def _robust_lines(x: Array, y: Array) -> tuple[Array, Array]:
    """Offsets and slopes `(m,)` of the lines through points, `x` `(m, n)` and `y` `(n,)`, with Huber's weights."""
    weights = np.ones_like(x)
    offset = slope = np.zeros(len(x))
    for _ in range(8):
        total = weights.sum(axis=1)
        mean_x, mean_y = (weights * x).sum(axis=1) / total, (weights * y).sum(axis=1) / total
        across = x - mean_x[:, None]
        spread = np.maximum((weights * across**2).sum(axis=1), 1e-12)
        slope = (weights * across * (y - mean_y[:, None])).sum(axis=1) / spread
        offset = mean_y - slope * mean_x
        residuals = np.abs(y - offset[:, None] - slope[:, None] * x)
        limit = np.maximum(1.345 * 1.4826 * np.median(residuals, axis=1), 1e-6)
        weights = np.minimum(1.0, limit[:, None] / np.maximum(residuals, 1e-12))
    return offset, slope
