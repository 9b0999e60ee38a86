"""Simultaneous iterative reconstruction: the box whose projections are the views, approached step by step.

    voxels += relaxation * C A^T R (views - A voxels),    R = 1 / (A 1),  C = 1 / (A^T 1)

with A and A^T exact transposes of each other; so the weighted residual can only fall while 0 < relaxation < 2. Source:
Gilbert 1972, in the form of Gregor and Benson 2008. Rays must be level: each slice is then a problem of its own, and
stays in the cache for all iterations. Views and projections are compared at the voxels' own steps (`sirt_kernels`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.reconstruct import arrays, device
from streamtomo.reconstruct.backproject import SD_COUNTS, Scratch, sum_limit
from streamtomo.reconstruct.project import REACH, _group
from streamtomo.reconstruct.rays import EDGE, FINE, PHASES, Rays, Tables, tables
from streamtomo.reconstruct.sirt_kernels import BETWEEN, iterate_slices
from streamtomo.reconstruct.stretch import LANCZOS, stretch

Image = NDArray[np.float32]

SLAB_ROWS = 32
LEAST_PATH = 0.25
"""Pixels whose ray has less than this part of the longest way through the box say nothing about it."""
PLATEAU = 0.01
"""Iterations that lower the residual by a smaller part than this are not worth their time."""
ROOM = 8.0
"""Standard deviations that what is left of a view may be summed up to at once."""
ANYTHING = -3.0e38
"""Density that nothing falls below."""


class Solver(NamedTuple):
    """The geometry of a box, and the weights that depend on nothing else."""

    rays: Rays
    nz: int
    nx: int
    image_nx: int
    table: Tables
    ends: NDArray[np.int64]
    """`(n, 2)`: the samples of each view that rays through the box meet."""
    groups: tuple[NDArray[np.int64], ...]
    """Lines that are projected together, as `iterate_slices` takes them."""
    by_path: Image
    """R `(n, length)`: 1 over the way of each sample's ray through the box; 0 where it hardly meets it."""
    by_views: Image
    """C `(1, nz, nx)`: 1 over the views that see a voxel."""
    between: Image
    """`sirt_kernels.BETWEEN`."""
    scratch: Scratch


class Limits(NamedTuple):
    """What is known of the specimen beforehand."""

    not_below: float | None = None
    """Voxels are kept from falling below that density."""
    mask: NDArray[Any] | None = None
    """`(rows, nz, nx)`: voxels stay 0 where it is 0."""


FREE = Limits()


def solver(rays: Rays, nz: int, nx: int, image_nx: int) -> Solver:
    """Weights for boxes of `nz` x `nx` in a slice, and images `image_nx` wide."""
    if not rays.level:
        raise ValueError("SIRT works slice by slice: rays must not lean along y")
    table = tables(rays, nz, nx, image_nx)
    starts = table.columns // PHASES
    ends = np.stack([starts.min(axis=0), starts.max(axis=0) + nx], axis=1)
    path = _ways(starts, nx, table.length)
    longest = path.max(axis=1, keepdims=True)
    counts = (path > LEAST_PATH * longest) & _within(table, image_nx)
    by_path = np.where(counts, 1 / np.maximum(path, 1), 0).astype(np.float32)
    seen = sum(counts[i][starts[:, i, None] + np.arange(nx)] for i in range(len(rays.step)))
    by_views = np.where(seen > 0, 1 / np.maximum(seen, 1), 0).astype(np.float32)[None]
    return Solver(rays, nz, nx, image_nx, table, ends, _groups(table, nz, nx), by_path, by_views, BETWEEN, Scratch())


def _ways(starts: NDArray[np.int64], nx: int, length: int) -> NDArray[np.int64]:
    """Lines of a slice that meet each sample `(n, length)`; a line covers `nx` samples from its start `(nz, n)` on."""
    ways = np.zeros((starts.shape[1], length + 1), np.int64)
    for way, start in zip(ways, starts.T, strict=True):
        np.add.at(way, start, 1)
        np.add.at(way, start + nx, -1)
    return ways.cumsum(axis=1)[:, :length]


def _within(table: Tables, image_nx: int) -> NDArray[np.bool_]:
    """Samples `(n, length)` that lie in the image."""
    at = (table.first[:, None] + PHASES * table.step[:, None] * np.arange(table.length)) / 2.0**FINE - EDGE
    return np.asarray((at > -0.5) & (at < image_nx - 0.5))


def _groups(table: Tables, nz: int, nx: int) -> tuple[NDArray[np.int64], ...]:
    """Where each view's groups begin, phase and ends of each `(groups, 3)`, its lines and their samples `(.., 8)`."""
    first, phase, zs, starts = _group(table.columns, np.int64(nz))
    low = starts.min(axis=1)
    where = np.stack([phase, low, starts.max(axis=1) + nx], axis=1)
    return first, where, np.where(zs < 0, nz, zs), low[:, None] - starts + REACH


def iterate(
    of: Solver, images: Image, iterations: int, *, relaxation: float = 1.0, limits: Limits = FREE
) -> tuple[Image, list[float]]:
    """Voxels `(rows, nz, nx)` from level images `(n, rows, mx)` with mean 0, and the residual before each iteration.

    The residual is the root mean square of views minus projections where rays meet the box, in units of the views'.
    """
    n, rows, _ = images.shape
    left = np.zeros((rows, iterations, n), np.float32)
    gain = np.float32(relaxation) * of.by_views
    if limits.mask is not None:
        gain = np.ascontiguousarray(gain * (limits.mask != 0))
    low = np.float32(ANYTHING if limits.not_below is None else limits.not_below)
    most = sum_limit(n)
    sd, most_counts = np.float64(min(SD_COUNTS, most / ROOM)), np.float32(most)
    if (xp := device.arrays()) is not None:
        voxels = arrays.iterate(xp, of, images, gain, float(low), float(sd), float(most), left)
        return voxels, _residuals(left, of.rays)
    views = of.scratch.array((n, rows, 1, of.table.length), np.float32)
    steps = of.rays.step.astype(np.float32)  # a sample stands for so much of a pixel
    stretch(images, of.table.first, of.table.step, steps, LANCZOS, views)
    voxels = np.zeros((rows, of.nz, of.nx), np.float32)
    first, where, zs, at = of.groups
    iterate_slices(
        views, of.table.columns, of.ends, first, where, zs, at, of.between, of.by_path, gain, low, sd, most_counts,
        voxels, left,
    )  # fmt: skip
    return voxels, _residuals(left, of.rays)


def _residuals(left: Image, rays: Rays) -> list[float]:
    """Of sums of squares `(rows, iterations, n)` in samples; before the first iteration all of the views is left."""
    pixels = (left.sum(axis=0, dtype=np.float64) / rays.step).sum(axis=1)
    return [float(one) for one in np.sqrt(pixels / (pixels[0] or 1.0))]


def until_plateau(residuals: list[float]) -> int:
    """How many of the iterations were worth their time."""
    for n, (before, after) in enumerate(pairwise(residuals), start=1):
        if after > (1 - PLATEAU) * before:
            return n
    return len(residuals)
