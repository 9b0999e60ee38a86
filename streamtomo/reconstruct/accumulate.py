"""One view added to voxels that are there: read and written once, which is all the time that it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.jit import kernel, parallel_kernel, prange
from streamtomo.reconstruct.backproject import Scratch, part, stretched_rows
from streamtomo.reconstruct.rays import Rays, tables

Image = NDArray[np.float32]
LIMIT = 32767.0
"""Of what int16 holds."""


def add_view(image: Image, rays: Rays, gain: float, voxels: NDArray[Any], scratch: Scratch) -> None:
    """Add the back-projection of a filtered aligned view `(ny, mx)`, `gain` for each unit, to `voxels` `(ny, nz, nx)`.

    Voxels are contiguous, float32, or int16, which never leave their range. `rays` are those of the view alone.
    """
    _, nz, nx = voxels.shape
    table, rounded = tables(rays, nz, nx, image.shape[1]), voxels.dtype == np.int16
    gains = np.array([gain], np.float32)
    rows = stretched_rows(image[None], gains, table, LIMIT if rounded else None, scratch)[0]
    add = _add_int16 if rounded else _add
    add(rows, np.ascontiguousarray(table.columns[:, 0]), voxels)


@kernel
def _add_line(row: Any, line: Any) -> None:
    for x in range(line.shape[0]):
        line[x] += row[x]


@kernel
def _add_line_int16(row: Any, line: Any) -> None:
    """The compiler knows this sum as one instruction."""
    low, high = np.int32(-32768), np.int32(32767)
    for x in range(line.shape[0]):
        line[x] = np.int16(min(max(np.int32(line[x]) + np.int32(row[x]), low), high))


@parallel_kernel
def _add(rows: Any, columns: Any, voxels: Any) -> None:
    """Stretched `rows` `(ny, PHASES, length)` added to float32 voxels; `columns` `(nz,)` as in `Tables`."""
    ny, nz, nx = voxels.shape
    for y in prange(ny):
        for z in range(nz):
            _add_line(part(rows[y], columns[z], 0, nx), voxels[y, z])


@parallel_kernel
def _add_int16(rows: Any, columns: Any, voxels: Any) -> None:
    """The same in int16."""
    ny, nz, nx = voxels.shape
    for y in prange(ny):
        for z in range(nz):
            _add_line_int16(part(rows[y], columns[z], 0, nx), voxels[y, z])
