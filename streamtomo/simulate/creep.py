"""What the beam does to the specimen while a series is taken: the ice bends up into a dome, and creeps sideways.

A few long waves over the specimen, each with a direction in which it moves matter; they grow with the exposure and come
to rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, exp, pi, sin, sqrt

import numpy as np
from numpy.typing import NDArray

WAVES = 4
SHORTEST, LONGEST = 1.2, 2.5
"""Lengths of the waves, in sides of the field."""
RESTING_TILTS = 12.0
"""After so many tilts all but 1/e of the way is gone."""


@dataclass(frozen=True)
class Wave:
    """Moves matter at `(X, Y)` pixels from the specimen's centre by `way * sin(2 pi (x X + y Y) + phase)`."""

    x: float
    y: float
    """Waves per pixel."""
    phase: float
    way: tuple[float, float, float]


def make_waves(field_px: float, local_px: float, dome_px: float, rng: np.random.Generator) -> tuple[Wave, ...]:
    """Waves of `local_px` (RMS distance in the plane) altogether, and a dome `dome_px` high over the field's edges."""
    waves = []
    for _ in range(WAVES if local_px else 0):
        length, course, way = field_px * rng.uniform(SHORTEST, LONGEST), rng.uniform(0, 2 * pi), rng.uniform(0, 2 * pi)
        size = local_px * sqrt(2 / WAVES)
        move = (size * cos(way), size * sin(way), 0.0)
        waves.append(Wave(cos(course) / length, sin(course) / length, rng.uniform(0, 2 * pi), move))
    if dome_px:
        half = (0.0, 0.0, dome_px / 2)
        waves += [Wave(0.5 / field_px, 0.0, pi / 2, half), Wave(0.0, 0.5 / field_px, pi / 2, half)]
    return tuple(waves)


def settled(order: int) -> float:
    """Share of the whole way that is gone when the tilt is taken that is so many-th, from 0."""
    return 1.0 - exp(-order / RESTING_TILTS)


def crept(points: NDArray[np.floating], waves: tuple[Wave, ...], share: float) -> NDArray[np.floating]:
    """Points `(n, 3)` after this share of their way."""
    if not waves or not share:
        return points
    moved = points.copy()
    for wave in waves:
        turn = np.asarray(2 * pi * (wave.x * points[:, 0] + wave.y * points[:, 1]) + wave.phase, points.dtype)
        moved += np.sin(turn)[:, None] * np.asarray(wave.way, points.dtype) * points.dtype.type(share)
    return moved
