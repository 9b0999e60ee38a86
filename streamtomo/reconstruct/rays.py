"""How views see a box of voxels, in the one form that the kernels know.

A view is affine: the specimen's point `(x, y, z)` is seen at `d + a x + b y + c z`. With `(lean_x, lean_y)` the
solution of `[a b] (lean_x, lean_y) = c` this is `d + a (x + lean_x z) + b (y + lean_y z)`: an image sampled anew along
`a` and `b` is seen by shifting it, not by interpolating at each voxel. So every image is first brought into its
*upright* form, in which `a = (step, 0)` and `b = (0, 1)`; aligned views without an x-axis tilt have it already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.resample import warp

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PHASES = 4
"""Versions of a stretched row, each a fraction of a sample further, that take the place of interpolation."""
ROWS = 4
"""Rows for each slice in an upright image whose rays lean along y; they take the place of interpolation, too."""
FINE = 32
"""Positions in an image are counted in 1 / 2^FINE pixels: a loop over them has neither branches nor conversions."""
EDGE = 3
"""Pixels repeated at both ends of a row, for the interpolation there."""
LEVEL = 1e-9
"""Rays that lean less than this along y stay within their slice."""


class Box(NamedTuple):
    """Voxels `(nz, ny, nx)` about a point of the specimen: X, Y, Z from the centre, in pixels."""

    nz: int
    ny: int
    nx: int
    centre_xyz: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Rays(NamedTuple):
    """`n` views of a box in upright form: voxel (x, y, z) is seen at `(x0 + step (x + lean_x z), y + lean_y z)`.

    All `(n,)`; voxels count from the box's centre, the image's columns from its centre.
    """

    step: Floats
    lean_x: Floats
    lean_y: Floats
    x0: Floats

    @property
    def level(self) -> bool:
        """Whether each ray stays within one slice: then a row of an upright image is a slice's."""
        return bool(np.abs(self.lean_y).max(initial=0.0) < LEVEL)

    def margin(self, nz: int) -> int:
        """Slices beyond both ends of the box that rays through it reach."""
        return 0 if self.level else int(np.ceil(np.abs(self.lean_y).max() * geometry.centre(nz))) + 1


class Tables(NamedTuple):
    """Where the kernels find things, for a box of `nz` x `nx` voxels in a slice."""

    first: Ints
    """`(n,)` position in the edged image row of sample 0 of phase 0, in fine units."""
    step: Ints
    """`(n,)` from one phase to the next, in fine units."""
    columns: Ints
    """`(nz, n)` sample of voxel x = 0, times PHASES, plus the phase."""
    rows: Ints
    """`(nz, n)` row of slice y = 0 in the upright image."""
    rows_per_slice: int
    length: int
    """Samples of a stretched row."""


def single_axis(tilts_deg: Sequence[float] | Floats, centre_xz: tuple[float, float] = (0.0, 0.0)) -> Rays:
    """Rays of aligned views without an x-axis tilt, through a box about X, Z of the specimen."""
    terms = geometry.tilt_terms(np.atleast_1d(np.asarray(tilts_deg, np.float64)))
    x0 = terms.cos * centre_xz[0] + terms.sin * centre_xz[1]
    return Rays(terms.cos, terms.tan, np.zeros_like(x0), x0)


def affine(matrices: Floats, centre_xyz: Sequence[float]) -> tuple[Rays, list[geometry.Array]]:
    """Rays of views `(n, 2, 3)` = `[a b c]` through a box, and what brings each image upright (view to upright)."""
    step: Floats = np.sqrt((matrices[:, :, 0] ** 2).sum(axis=1))
    lean: Floats = np.asarray(np.linalg.solve(matrices[:, :, :2], matrices[:, :, 2:])[..., 0], np.float64)
    centre = np.asarray(centre_xyz, np.float64)
    moves = []
    for matrix, length in zip(matrices, step, strict=True):
        from_upright = np.column_stack([matrix[:, 0] / length, matrix[:, 1], matrix @ centre])
        moves.append(geometry.invert(from_upright))
    return Rays(step, lean[:, 0], lean[:, 1], np.zeros(len(step))), moves


def upright(
    images: Sequence[NDArray[np.float32]], moves: Sequence[geometry.Array], rays: Rays, box: Box
) -> NDArray[np.float32]:
    """The images in upright form, `(n, rows, nx)`, zero where an image does not reach; `nx` as in the images.

    Rows are the box's slices with `rays.margin` more on both sides, ROWS for each slice where rays lean along y.
    """
    per_slice = 1 if rays.level else ROWS
    rows = per_slice * (box.ny + 2 * rays.margin(box.nz))
    finer = np.array([[1.0, 0.0, 0.0], [0.0, float(per_slice), (per_slice - 1) / -2.0]])
    out = np.empty((len(images), rows, images[0].shape[1]), np.float32)
    for image, move, to in zip(images, moves, out, strict=True):
        to[:] = warp(image, geometry.compose(move, finer), (rows, to.shape[1]), fill=0.0)
    return out


def tables(rays: Rays, nz: int, nx: int, image_nx: int, layer: slice = slice(None)) -> Tables:
    """The tables of a box `nz` x `nx`, or of a layer of it, for upright images `image_nx` wide."""
    heights = (np.arange(nz) - geometry.centre(nz))[layer, None]
    across = heights * rays.lean_x - geometry.centre(nx)  # where voxel x = 0 is seen, in samples
    start = -np.floor(across.min(axis=0))
    columns = np.rint(PHASES * (across + start)).astype(np.int64)
    per_slice = 1 if rays.level else ROWS
    first = rays.x0 - start * rays.step + geometry.centre(image_nx) + EDGE
    return Tables(
        first=np.rint(first * 2.0**FINE).astype(np.int64),
        step=np.rint(rays.step * (2.0**FINE / PHASES)).astype(np.int64),
        columns=columns,
        rows=np.rint(per_slice * (rays.margin(nz) + heights * rays.lean_y)).astype(np.int64),
        rows_per_slice=per_slice,
        length=nx + int(columns.max()) // PHASES + 1,
    )
