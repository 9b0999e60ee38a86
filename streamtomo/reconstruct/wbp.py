"""Weighted back-projection of a whole aligned stack, slab by slab in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from streamtomo.reconstruct.backproject import backproject
from streamtomo.reconstruct.weights import angular_weights, filter_rows

Image = NDArray[np.float32]

SLAB_BYTES = 256e6
"""A slab of voxels is about so large."""


def level(view: Image) -> tuple[float, float]:
    """Mean and standard deviation that a view is normalised by: in its own noise a view counts as much as any other."""
    sd = float(view.std(dtype=np.float64))
    return float(view.mean(dtype=np.float64)), sd if sd > 0 else 1.0


def reconstruct(
    stack: Image,
    tilts_deg: Sequence[float],
    nz: int,
    *,
    cutoff: float,
    falloff: float,
    rows_per_slab: int | None = None,
) -> Iterator[tuple[int, Image]]:
    """Yield `(y0, slab)` with slabs `(rows, nz, nx)`, a new array each, from y = 0 upward; z is up.

    `stack` is `(n, ny, nx)`, aligned, with the tilt axis along y through the middle of x. Each view is brought to
    mean 0 and standard deviation 1 first; with the ramp in cycles per pixel and the sectors in radians a voxel is then
    density per pixel in those units, whatever the number of views and the thickness.
    """
    n, ny, nx = stack.shape
    if n != len(tilts_deg):
        raise ValueError(f"{n} views, but {len(tilts_deg)} tilt angles")
    levels = np.array([level(view) for view in stack])
    scale = (angular_weights(tilts_deg) / levels[:, 1]).astype(np.float32)[:, None, None]
    mean = levels[:, 0].astype(np.float32)[:, None, None]
    rows = rows_per_slab or max(4, min(ny, int(SLAB_BYTES / (4 * nz * nx))))
    for y0 in range(0, ny, rows):
        views = filter_rows((stack[:, y0 : y0 + rows] - mean) * scale, cutoff, falloff)
        slab = np.zeros((views.shape[1], nz, nx), np.float32)
        backproject(views, tilts_deg, slab)
        yield y0, slab
