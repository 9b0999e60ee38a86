"""Simultaneous iterative reconstruction: the box whose projections are the views, approached step by step.

    voxels += relaxation * C A^T R (views - A voxels),    R = 1 / (A 1),  C = 1 / (A^T 1)

with A = `project` and A^T = `backproject`, exact transposes of each other; so the weighted residual can only fall while
0 < relaxation < 2. Source: Gilbert 1972, in the form of Gregor and Benson 2008. Rays must be level: each slice is then
a problem of its own, and a slab stays in the cache for all iterations.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.reconstruct.backproject import Scaled, Scratch, backproject
from streamtomo.reconstruct.project import project
from streamtomo.reconstruct.rays import Rays

Image = NDArray[np.float32]

SLAB_ROWS = 32
LEAST_PATH = 0.25
"""Pixels whose ray has less than this part of the longest way through the box say nothing about it."""
PLATEAU = 0.01
"""Iterations that lower the residual by a smaller part than this are not worth their time."""


class Solver(NamedTuple):
    """The geometry of a box, and the weights that depend on nothing else."""

    rays: Rays
    nz: int
    nx: int
    by_path: Image
    """R `(n, 1, mx)`: 1 over the way of each pixel's ray through the box; 0 where it hardly meets it."""
    by_views: Image
    """C `(nz, nx)`: 1 over the views that see a voxel."""
    scratch: Scratch


def solver(rays: Rays, nz: int, nx: int, image_nx: int) -> Solver:
    """Weights for boxes of `nz` x `nx` in a slice, and images `image_nx` wide."""
    if not rays.level:
        raise ValueError("SIRT works slice by slice: rays must not lean along y")
    scratch = Scratch()
    path = project(np.ones((1, nz, nx), np.float32), rays, image_nx, scratch)
    longest = path.max(axis=2, keepdims=True)
    by_path = np.where(path > LEAST_PATH * longest, 1 / np.maximum(path, 1e-6), 0).astype(np.float32)
    seen = np.empty((1, nz, nx), np.float32)
    ones = np.ones(len(path), np.float32)
    backproject((by_path > 0).astype(np.float32), rays, ones, seen, exact=True, scratch=scratch)
    by_views = np.where(seen[0] > 0.5, 1 / np.maximum(seen[0], 0.5), 0).astype(np.float32)
    return Solver(rays, nz, nx, by_path, by_views, scratch)


def iterate(
    of: Solver, images: Image, iterations: int, *, relaxation: float = 1.0, not_below: float | None = None
) -> tuple[Image, list[float]]:
    """Voxels `(rows, nz, nx)` from level images `(n, rows, mx)` with mean 0, and the residual before each iteration.

    The residual is the root mean square of views minus projections where rays meet the box, in units of the views'.
    With `not_below` voxels are kept from falling below that density.
    """
    voxels = np.zeros((images.shape[1], of.nz, of.nx), np.float32)
    steps = np.full(len(images), relaxation, np.float32)
    residuals, scale = [], _rms(images * (of.by_path > 0)) or 1.0
    for iteration in range(iterations):
        difference = images - project(voxels, of.rays, images.shape[2], of.scratch) if iteration else images.copy()
        difference *= of.by_path > 0
        residuals.append(_rms(difference) / scale)
        difference *= of.by_path
        weights = Scaled(gain=of.by_views)
        backproject(difference, of.rays, steps, voxels, add=True, scaled=weights, exact=True, scratch=of.scratch)
        if not_below is not None:
            np.maximum(voxels, np.float32(not_below), out=voxels)
    return voxels, residuals


def until_plateau(residuals: list[float]) -> int:
    """How many of the iterations were worth their time."""
    for n, (before, after) in enumerate(pairwise(residuals), start=1):
        if after > (1 - PLATEAU) * before:
            return n
    return len(residuals)


def _rms(images: Image) -> float:
    return float(np.sqrt(np.mean(images * images, dtype=np.float64)))
