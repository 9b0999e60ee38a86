"""Simulated particles for averaging: a lopsided cloud of Gaussians, seen from anywhere, with noise and a missing wedge.

It has its own ten lines of geometry and shares no code with the program.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Volume = NDArray[np.float32]


class Cloud(NamedTuple):
    """A particle: Gaussians of one width about points."""

    xyz_A: Array
    """`(points, 3)`, their mean at 0."""
    masses: Array
    sigma_A: float


class Simulated(NamedTuple):
    """Particles in boxes, and the truth about them."""

    boxes: Volume
    """`(p, n, n, n)` of z, y, x; the particle about voxel n // 2, moved."""
    turns: Array
    """`(p, 3, 3)`: from the particle's x, y, z to the box's."""
    shifts: Array
    """`(p, 3)`, voxels."""


def cloud(rng: np.random.Generator, diameter_A: float = 250.0, points: int = 90, sigma_A: float = 6.0) -> Cloud:
    """Points of a random walk within a ball, one lobe heavier than the rest: it has neither symmetry nor a mirror."""
    at, xyz = np.zeros(3), []
    while len(xyz) < points:
        step = at + rng.normal(size=3) * diameter_A / 9
        if np.linalg.norm(step * [1.0, 1.3, 1.0]) < diameter_A / 2 - 2 * sigma_A:
            at = step
            xyz.append(at)
    placed = np.array(xyz)
    masses = rng.uniform(0.5, 1.5, points) * np.where(placed[:, 0] > diameter_A / 6, 2.0, 1.0)
    return Cloud(placed - np.average(placed, axis=0, weights=masses), masses, sigma_A)


def symmetric(particle: Cloud, order: int) -> Cloud:
    """The particle and its turns about z, all together: of symmetry C`order`."""
    turns = np.arange(order) * 2 * np.pi / order
    rows = [[[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]] for a in turns]
    return Cloud(
        np.concatenate([particle.xyz_A @ np.array(row).T for row in rows]),
        np.tile(particle.masses, order),
        particle.sigma_A,
    )


def drawn(particle: Cloud, n: int, voxel_A: float, turn: Array, shift: Array) -> Volume:
    """The density `(n, n, n)` of a particle, turned about its middle and moved by voxels x, y, z from `n // 2`."""
    at = particle.xyz_A @ turn.T / voxel_A + shift + n // 2
    sigma = particle.sigma_A / voxel_A
    x, y, z = (np.exp(-((np.arange(n) - at[:, axis, None]) ** 2) / (2 * sigma**2)) for axis in range(3))
    plane = np.einsum("p,py,px->pyx", particle.masses, y, x).reshape(len(at), -1)
    return np.asarray((z.T @ plane).reshape(n, n, n), np.float32)


def random_turns(rng: np.random.Generator, count: int) -> Array:
    """Rotations `(count, 3, 3)` without a preferred one, from random quaternions."""
    w, x, y, z = (q := rng.normal(size=(count, 4)) / 1.0).T / np.linalg.norm(q, axis=1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def within_tilts(box: Volume, highest_deg: float) -> Volume:
    """A box without what views up to a tilt about y do not see."""
    z, _, x = np.meshgrid(*(np.fft.fftfreq(n) for n in box.shape), indexing="ij")
    seen = np.abs(z) <= np.abs(x) * np.tan(np.radians(highest_deg)) + 1e-9
    return np.asarray(np.fft.ifftn(np.fft.fftn(box) * seen).real, np.float32)


def simulated(
    particle: Cloud, count: int, n: int, voxel_A: float, snr: float, seed: int, off_px: float = 2.0, tilt: float = 60.0
) -> Simulated:
    """Boxes with white noise, `snr` the variance of the particle within its ball over that of the noise.

    Dark particles; middles off by up to `off_px` along each axis.
    """
    rng = np.random.default_rng(seed)
    turns, shifts = random_turns(rng, count), rng.uniform(-off_px, off_px, (count, 3))
    one = drawn(particle, n, voxel_A, np.eye(3), np.zeros(3))
    extent = np.linalg.norm(particle.xyz_A, axis=1).max() / voxel_A
    at = np.arange(n) - n // 2
    ball = np.sqrt(at[:, None, None] ** 2 + at[:, None] ** 2 + at**2) < extent
    noise = np.sqrt(one[ball].var() / snr)
    boxes = np.empty((count, n, n, n), np.float32)
    for number in range(count):
        density = -drawn(particle, n, voxel_A, turns[number], shifts[number])
        boxes[number] = within_tilts(density + rng.normal(0, noise, density.shape), tilt)
    return Simulated(boxes, turns, shifts)
