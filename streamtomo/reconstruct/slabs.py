"""Thin central slabs of a volume, which are shown as pictures."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.jit import kernel, parallel_kernel, prange

Image = NDArray[np.float32]

THICK = 24
"""The slabs are means over one part in so many of the depth."""


class Slabs(NamedTuple):
    """The mean of each of the three slabs, y and z up."""

    xy: Image
    """`(ny, nx)`"""
    xz: Image
    """`(nz, nx)`"""
    yz: Image
    """`(nz, ny)`"""


def central(n: int, nz: int) -> slice:
    """The planes in the middle of `n` that are shown of a volume `nz` deep."""
    half = max(1, nz // THICK) // 2
    return slice(max(0, n // 2 - half), min(n, n // 2 + half + 1))


def central_slabs(voxels: NDArray[Any], scale: float = 1.0) -> Slabs:
    """Of voxels `(ny, nz, nx)`, float32 or int16, times `scale`."""
    ny, nz, nx = voxels.shape
    xy, xz, zy = (np.empty(shape, np.float32) for shape in ((ny, nx), (nz, nx), (ny, nz)))
    planes = [central(n, nz) for n in voxels.shape]
    first, end = (np.array([getattr(one, side) for one in planes], np.int64) for side in ("start", "stop"))
    _average(voxels, first, end, (scale / (end - first)).astype(np.float32), xy, xz, zy)
    return Slabs(xy, xz, np.ascontiguousarray(zy.T))


@parallel_kernel
def _average(voxels: Any, first: Any, end: Any, weight: Any, xy: Any, xz: Any, zy: Any) -> None:
    """Weighted sums of planes `first` to `end` `(3,)` of y, z, x: `xz` `(nz, nx)`, `xy` `(ny, nx)`, `zy` `(ny, nz)`.

    Of x, which lies closest in memory, all rows are added column by column: no sum waits for the one before.
    """
    ny, nz = zy.shape
    for y in prange(ny):
        _add_up(voxels[y, first[1] : end[1]], weight[1], xy[y])
        zy[y] = 0.0
        for x in range(first[2], end[2]):
            for z in range(nz):
                zy[y, z] += weight[2] * np.float32(voxels[y, z, x])
    for z in prange(nz):
        _add_up(voxels[first[0] : end[0], z], weight[0], xz[z])


@kernel
def _add_up(lines: Any, weight: Any, out: Any) -> None:
    out[:] = 0.0
    for i in range(lines.shape[0]):
        for x in range(lines.shape[1]):
            out[x] += weight * np.float32(lines[i, x])
