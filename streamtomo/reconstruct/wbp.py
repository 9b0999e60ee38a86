"""Weighted back-projection of a whole aligned stack, slab by slab in bounded memory.

Units: each view is brought to mean 0 and standard deviation 1 first; with the ramp in cycles per pixel and the sectors
in radians a voxel is then density per pixel in those units, whatever the number of views and the thickness.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.reconstruct.backproject import PLAIN, Scaled, Scratch, backproject
from streamtomo.reconstruct.filters import Filtering, RowFilter, filter_views, ramp_start, row_filter
from streamtomo.reconstruct.rays import Box, Rays, affine, single_axis, upright
from streamtomo.reconstruct.weights import angular_weights

Image = NDArray[np.float32]

SLAB_ROWS = 64
"""Slices made at a time: enough for the transforms to be efficient, few enough for the caches."""


class Views(NamedTuple):
    """Aligned views and all that weighs them."""

    stack: Image
    """`(n, ny, nx)`, the tilt axis along y through the middle of x."""
    tilts_deg: NDArray[np.float64]
    xtilts_deg: NDArray[np.float64]
    means: NDArray[np.float32]
    gains: NDArray[np.float32]
    """Sector in radians over standard deviation."""
    filtered: bool = False
    """Whether the rows of the stack are filtered already."""


def level(view: Image) -> tuple[float, float]:
    """Mean and standard deviation that a view is normalised by: in its own noise a view counts as much as any other."""
    sd = float(view.std(dtype=np.float64))
    return float(view.mean(dtype=np.float64)), sd if sd > 0 else 1.0


def weighted(
    stack: Image,
    tilts_deg: Sequence[float] | NDArray[np.float64],
    xtilts_deg: Sequence[float] | float = 0.0,
    *,
    levels: NDArray[np.float32] | None = None,
) -> Views:
    """The stack with its sectors; means and standard deviations `(n, 2)` are measured where they are not given."""
    if len(stack) != len(tilts_deg):
        raise ValueError(f"{len(stack)} views, but {len(tilts_deg)} tilt angles")
    if levels is None:
        levels = np.array([level(view) for view in stack])
    tilts = np.asarray(tilts_deg, np.float64)
    return Views(
        stack=stack,
        tilts_deg=tilts,
        xtilts_deg=np.broadcast_to(np.asarray(xtilts_deg, np.float64), tilts.shape),
        means=levels[:, 0].astype(np.float32),
        gains=(angular_weights(tilts_deg) / levels[:, 1]).astype(np.float32),
    )


def reconstruct(
    stack: Image,
    tilts_deg: Sequence[float],
    nz: int,
    *,
    filtering: Filtering,
    rows_per_slab: int = SLAB_ROWS,
    exact: bool = False,
) -> Iterator[tuple[int, Image]]:
    """Yield `(y0, slab)` with float32 slabs `(rows, nz, nx)`, a new array each, from y = 0 upward; z is up."""
    _, ny, nx = stack.shape
    views, scratch = weighted(stack, tilts_deg), Scratch()
    for y0 in range(0, ny, rows_per_slab):
        slab = np.empty((min(rows_per_slab, ny - y0), nz, nx), np.float32)
        make_slab(views, Box(nz, ny, nx), y0, slab, filtering=filtering, exact=exact, scratch=scratch)
        yield y0, slab


def make_slab(
    views: Views,
    box: Box,
    y0: int,
    out: NDArray[Any],
    *,
    filtering: Filtering,
    scaled: Scaled = PLAIN,
    exact: bool = False,
    scratch: Scratch | None = None,
) -> None:
    """Slices `y0` and on of a box into `out` `(rows, nz, nx)`, float32 or int16, as `backproject` takes it."""
    by = row_filter(views.stack.shape[2], filtering, start_of_ramp(views, box.nz))
    images, rays = _filtered(views, box, y0, len(out), by)
    backproject(images, rays, views.gains, out, scaled=scaled, exact=exact, scratch=scratch)


def start_of_ramp(views: Views, nz: int) -> float:
    """Where the ramp starts, cycles per pixel."""
    return ramp_start(float(np.sum(angular_weights(views.tilts_deg))), nz)


def filtered_ahead(views: Views, nz: int, filtering: Filtering) -> Views:
    """Views with an x-axis tilt, filtered once: their slabs overlap, and would filter most rows several times."""
    if not views.xtilts_deg.any():
        return views
    by = row_filter(views.stack.shape[2], filtering, start_of_ramp(views, nz))
    stack = filter_views(views.stack, views.means, by)
    return views._replace(stack=stack, means=np.zeros_like(views.means), filtered=True)


def _filtered(views: Views, box: Box, y0: int, rows: int, by: RowFilter) -> tuple[Image, Rays]:
    """Filtered upright images of a slab, and how its voxels are seen in them."""
    x, y, z = box.centre_xyz
    ny = views.stack.shape[1]
    first = y0 + geometry.centre(ny) + y - geometry.centre(box.ny)
    if not views.filtered and not views.xtilts_deg.any() and first.is_integer() and 0 <= first <= ny - rows:
        part = views.stack[:, int(first) : int(first) + rows]
        return filter_views(part, views.means, by), single_axis(views.tilts_deg, (x, z))
    slab = Box(box.nz, rows, box.nx, (x, y + y0 + geometry.centre(rows) - geometry.centre(box.ny), z))
    axes = zip(views.tilts_deg, views.xtilts_deg, strict=True)
    matrices = np.stack([geometry.project(np.eye(3), tilt, xtilt).T for tilt, xtilt in axes])
    rays, moves = affine(matrices, slab.centre_xyz)
    if views.filtered:
        return upright(list(views.stack), moves, rays, slab), rays
    flat = [view - mean for view, mean in zip(views.stack, views.means, strict=True)]
    images = upright(flat, moves, rays, slab)
    return filter_views(images, np.zeros_like(views.means), by), rays


def coverage_gain(views: Views, box: Box) -> Image:
    """`(nz, nx)`: what a voxel's sum is to be multiplied by so that it counts only the views that saw it.

    All of the sectors' sum over that of the views whose image reaches the voxel; 1 where all do, 0 where none does.
    """
    n, _, nx = views.stack.shape
    sectors = np.asarray(angular_weights(views.tilts_deg), np.float32)
    seen = np.empty((1, box.nz, box.nx), np.float32)
    rays = single_axis(views.tilts_deg, (box.centre_xyz[0], box.centre_xyz[2]))
    backproject(np.ones((n, 1, nx), np.float32), rays, sectors, seen, exact=True)
    total = float(sectors.sum())
    return np.where(seen[0] > 1e-3 * total, total / np.maximum(seen[0], 1e-3 * total), 0.0).astype(np.float32)
