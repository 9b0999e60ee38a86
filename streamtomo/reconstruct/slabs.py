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
    xy, xz, zy = (np.zeros(shape, np.float32) for shape in ((ny, nx), (nz, nx), (ny, nz)))
    planes = [central(n, nz) for n in voxels.shape]
    first, end = (np.array([getattr(one, side) for one in planes], np.int64) for side in ("start", "stop"))
    _add_up(voxels, first, end, xy, xz, zy)
    in_y, in_z, in_x = (np.float32(scale / count) for count in end - first)
    return Slabs(xy * in_z, xz * in_y, np.ascontiguousarray(zy.T) * in_x)


@parallel_kernel
def _add_up(voxels: Any, first: Any, end: Any, xy: Any, xz: Any, zy: Any) -> None:
    """Add the planes `first` to `end` `(3,)` of y, z, x to `xz` `(nz, nx)`, `xy` `(ny, nx)` and `zy` `(ny, nz)`."""
    ny, nz = zy.shape
    for y in prange(ny):
        for z in range(first[1], end[1]):
            _add(voxels[y, z], xy[y])
        for z in range(nz):
            total = np.float32(0.0)
            for x in range(first[2], end[2]):
                total += np.float32(voxels[y, z, x])
            zy[y, z] = total
    for z in prange(nz):
        for y in range(first[0], end[0]):
            _add(voxels[y, z], xz[z])


@kernel
def _add(line: Any, out: Any) -> None:
    for x in range(line.shape[0]):
        out[x] += np.float32(line[x])
