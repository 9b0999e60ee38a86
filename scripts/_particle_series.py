"""A simulated tilt series of particles and gold in a slab, written as a stack with its angles.

It has its own ten lines of geometry and shares no code with the program: a point X, Y, Z is seen at a tilt t at
`X cos t + Z sin t, Y` from the image's middle, the tilt axis being vertical.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import mrcfile
import numpy as np
from _particles import Array, Cloud, random_turns
from numpy.typing import NDArray

BEADS, BEAD_A = 14, 50.0
PATCH = 6
"""Pixels around a Gaussian's middle that it is drawn on."""


class Truth(NamedTuple):
    """Where the particles are."""

    xyz_px: Array
    """`(p, 3)`, from the specimen's middle."""
    turns: Array


def written(
    path: Path,
    particle: Cloud,
    *,
    count: int,
    size: int,
    pixel_A: float,
    dose: float,
    contrast: float,
    seed: int,
    apart_A: float = 340.0,
    beads_A: float = 280.0,
    drift_px: float = 3.0,
    other: Cloud | None = None,
) -> Truth:
    """Write `path` (int16, 41 views) and its `.rawtlt`; `contrast` is the particle's absorption of electrons.

    Every second particle is an `other` one, if there is one, of the same width of its Gaussians.
    """
    rng = np.random.default_rng(seed)
    xyz = _placed(rng, count, size, apart_A / pixel_A)
    turns = random_turns(rng, count)
    beads = np.column_stack(
        [rng.uniform(-0.45, 0.45, (BEADS, 2)) * size, rng.choice([-1.0, 1.0], BEADS) * beads_A / pixel_A]
    )
    kinds = [particle if other is None or number % 2 == 0 else other for number in range(count)]
    points = np.concatenate(
        [at + one.xyz_A / pixel_A @ turn.T for at, turn, one in zip(xyz, turns, kinds, strict=True)]
    )
    masses = np.concatenate([one.masses for one in kinds])
    tilts = np.arange(-60, 61, 3.0)
    images = np.empty((len(tilts), size, size), np.int16)
    for number, tilt in enumerate(np.radians(tilts)):
        drift = rng.normal(0, drift_px, 2)
        phase = _seen(points, masses, tilt, size, particle.sigma_A / pixel_A, drift)
        gold = _seen(beads, np.full(BEADS, 1.0), tilt, size, BEAD_A / pixel_A / 2.5, drift)
        light = dose * pixel_A**2 * np.exp(-contrast * phase - 3.0 * gold) * np.exp(-0.3 / np.cos(tilt))
        images[number] = rng.poisson(light)
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(images)
        file.set_image_stack()
        file.voxel_size = pixel_A
    path.with_suffix(".rawtlt").write_text("".join(f"{tilt:.2f}\n" for tilt in tilts))
    return Truth(xyz, turns)


def _placed(rng: np.random.Generator, count: int, size: int, apart: float) -> Array:
    """Places in a slab that do not overlap and stay clear of its edge."""
    places: list[Array] = []
    while len(places) < count:
        one = np.append(rng.uniform(-0.42, 0.42, 2) * size, rng.uniform(-0.35, 0.35) * apart)
        if all(np.linalg.norm(one - other) > apart for other in places):
            places.append(one)
    return np.array(places)


def _seen(points: Array, masses: Array, tilt: float, size: int, sigma: float, drift: Array) -> NDArray[np.float64]:
    """The sum of Gaussians' projections, `(size, size)`."""
    image = np.zeros((size, size))
    x = points[:, 0] * np.cos(tilt) + points[:, 2] * np.sin(tilt) + drift[0] + (size - 1) / 2
    y = points[:, 1] + drift[1] + (size - 1) / 2
    near = np.arange(-PATCH, PATCH + 1)
    column, row = np.rint(x).astype(int)[:, None] + near, np.rint(y).astype(int)[:, None] + near
    across = np.exp(-((column - x[:, None]) ** 2) / (2 * sigma**2)) * ((column >= 0) & (column < size))
    along = np.exp(-((row - y[:, None]) ** 2) / (2 * sigma**2)) * ((row >= 0) & (row < size))
    at = np.clip(row, 0, size - 1)[:, :, None] * size + np.clip(column, 0, size - 1)[:, None, :]
    np.add.at(image.reshape(-1), at, masses[:, None, None] * along[:, :, None] * across[:, None, :])
    return image
