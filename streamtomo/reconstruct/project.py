"""Projection of a box of voxels: the exact transpose of `backproject` with gains of 1.

Each line of voxels is added to the stretched row of a view, in the phase and from the sample on that back-projection
would take it from; the stretched rows are then spread over the image's pixels with the weights they would be sampled
with. A flat slab of density 1 and thickness T projects to T / cos t, as it must.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.jit import kernel, parallel_kernel, prange
from streamtomo.reconstruct import arrays, device
from streamtomo.reconstruct.backproject import Scratch
from streamtomo.reconstruct.rays import PHASES, Rays, Tables, tables
from streamtomo.reconstruct.stretch import LANCZOS, unstretch

Image = NDArray[np.float32]

REACH = 64
"""Lines that are added together start no more samples apart than this; lines have as many zeros at both ends."""
EIGHT = 8
FEW = 3
"""So many views are made from the voxels as they lie."""
LAYER_BYTES = 512e3
"""Voxels of a slice that are worked on at a time: they stay in the second-level cache while all views are made."""


class Groups(NamedTuple):
    """Lines of a slice that go into one phase of a stretched row together, eight by eight."""

    first: NDArray[np.int64]
    """`(layers * n + 1,)`: groups of layer l and view i are `first[l * n + i]` to the next."""
    phase: NDArray[np.int64]
    """`(groups,)`"""
    z: NDArray[np.int64]
    """`(groups, 8)` the lines' heights; -1 for none."""
    column: NDArray[np.int64]
    """`(groups, 8)` the sample of a line's first voxel."""


def project(voxels: NDArray[Any], rays: Rays, image_nx: int, scratch: Scratch | None = None) -> Image:
    """Upright images `(n, rows, image_nx)` of voxels `(ny, nz, nx)`, float32; voxels may be int16.

    Rows are those of `backproject`'s images: one for a slice where rays are level, else as in `rays.upright`.
    """
    if (xp := device.arrays()) is not None and rays.level:
        return arrays.project(xp, voxels, rays, image_nx)
    ny, nz, nx = voxels.shape
    table = tables(rays, nz, nx, image_nx)
    views, rows = len(rays.step), table.rows_per_slice * (ny + 2 * rays.margin(nz))
    collect = _collected_few if views <= FEW else _collected
    stretched = collect(voxels, table, (views, rows, PHASES, table.length), scratch or Scratch())
    images = np.empty((views, rows, image_nx), np.float32)
    unstretch(stretched, table.first, table.step, LANCZOS, images)
    return images


def _collected(voxels: NDArray[Any], table: Tables, shape: tuple[int, ...], scratch: Scratch) -> Image:
    """The stretched rows of many views: lines are read eight at a time, from a copy with ends."""
    ny, nz, nx = voxels.shape
    groups = Groups(*_group(table.columns, np.int64(max(EIGHT, LAYER_BYTES // (4 * nx)))))
    stretched, lines = scratch.arrays(shape, (ny * nz + 1, nx + 2 * REACH), dtype=np.float32)
    _edge(voxels.reshape(-1, nx), lines)
    row_of, per_slice = np.ascontiguousarray(table.rows.T), np.int64(table.rows_per_slice)
    _collect(lines, *groups, row_of, per_slice, np.int64(ny), stretched)
    return stretched


def _collected_few(voxels: NDArray[Any], table: Tables, shape: tuple[int, ...], scratch: Scratch) -> Image:
    """The stretched rows of few views: reading the voxels once is what it costs."""
    stretched = scratch.array(shape, np.float32)
    columns, row_of = (np.ascontiguousarray(part.T) for part in (table.columns, table.rows))
    _collect_few(voxels, columns, row_of, np.int64(table.rows_per_slice), stretched)
    return stretched


@parallel_kernel
def _edge(voxels: Any, lines: Any) -> None:
    """Lines `(n, nx)` with REACH zeros at both ends, and an empty line after them, `(n + 1, nx + 2 * REACH)`."""
    n, nx = voxels.shape
    lines[n] = np.float32(0.0)
    for i in prange(n):
        lines[i, :REACH] = np.float32(0.0)
        lines[i, REACH : REACH + nx] = voxels[i]
        lines[i, REACH + nx :] = np.float32(0.0)


@kernel
def _group(columns: Any, thick: Any) -> Any:
    """`Groups` of `columns` `(nz, n)` = sample * PHASES + phase, for layers of `thick` lines."""
    nz, n = columns.shape
    layers = (nz + thick - 1) // thick
    first = np.zeros(layers * n + 1, np.int64)
    phases, zs = np.zeros(nz * n, np.int64), np.full((nz * n, EIGHT), -1, np.int64)
    starts = np.zeros((nz * n, EIGHT), np.int64)
    count = 0
    for layer in range(layers):
        for i in range(n):
            for phase in range(PHASES):
                filled = EIGHT
                for z in range(layer * thick, min(nz, (layer + 1) * thick)):
                    column = columns[z, i] // PHASES
                    if columns[z, i] % PHASES != phase:
                        continue
                    if filled == EIGHT or abs(column - starts[count - 1, 0]) > REACH:
                        phases[count], starts[count, :], filled = phase, column, 0
                        count += 1
                    zs[count - 1, filled], starts[count - 1, filled] = z, column
                    filled += 1
            first[layer * n + i + 1] = count
    return first, phases[:count], zs[:count], starts[:count]


@kernel
def _add_eight(out: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> None:
    for k in range(out.shape[0]):
        out[k] += ((a[k] + b[k]) + (c[k] + d[k])) + ((e[k] + f[k]) + (g[k] + h[k]))


@kernel
def _line(lines: Any, z: Any, row: Any, per_slice: Any, ny: Any) -> Any:
    """The line at height `z` of the slice whose row is `row`; the empty line if there is none."""
    y = row // per_slice
    if z < 0 or row < 0 or y >= ny or row % per_slice != 0:
        return lines[lines.shape[0] - 1]
    return lines[y * ((lines.shape[0] - 1) // ny) + z]


@kernel
def _add_group(lines: Any, zs: Any, starts: Any, rows: Any, per_slice: Any, ny: Any, stretched: Any) -> None:
    """Eight lines into one phase of a stretched row; `rows` `(nz,)`: the row of slice 0 less the one worked on."""
    low, high = starts.min(), starts.max() + lines.shape[1] - 2 * REACH
    at = low - starts + REACH
    n = high - low
    a, b = _line(lines, zs[0], -rows[zs[0]], per_slice, ny), _line(lines, zs[1], -rows[zs[1]], per_slice, ny)
    c, d = _line(lines, zs[2], -rows[zs[2]], per_slice, ny), _line(lines, zs[3], -rows[zs[3]], per_slice, ny)
    e, f = _line(lines, zs[4], -rows[zs[4]], per_slice, ny), _line(lines, zs[5], -rows[zs[5]], per_slice, ny)
    g, h = _line(lines, zs[6], -rows[zs[6]], per_slice, ny), _line(lines, zs[7], -rows[zs[7]], per_slice, ny)
    _add_eight(
        stretched[low:high],
        a[at[0] : at[0] + n], b[at[1] : at[1] + n], c[at[2] : at[2] + n], d[at[3] : at[3] + n],
        e[at[4] : at[4] + n], f[at[5] : at[5] + n], g[at[6] : at[6] + n], h[at[7] : at[7] + n],
    )  # fmt: skip


@parallel_kernel
def _collect(
    lines: Any, first: Any, phase: Any, zs: Any, starts: Any, row_of: Any, per_slice: Any, ny: Any, stretched: Any
) -> None:
    """Lines `(ny * nz + 1, nx + 2 * REACH)` into `stretched` `(n, rows, PHASES, length)`; one row of it at a time.

    `row_of` `(n, nz)`: the row of slice 0 of a view at each height.
    """
    n, rows = stretched.shape[0], stretched.shape[1]
    for row in prange(rows):
        stretched[:, row] = np.float32(0.0)
        for task in range(first.shape[0] - 1):
            i = task % n
            below = row_of[i] - row
            for g in range(first[task], first[task + 1]):
                _add_group(lines, zs[g], starts[g], below, per_slice, ny, stretched[i, row, phase[g]])


@parallel_kernel
def _collect_few(voxels: Any, columns: Any, row_of: Any, per_slice: Any, stretched: Any) -> None:
    """The same line by line, from voxels `(ny, nz, nx)`; `columns` and `row_of` `(n, nz)`."""
    ny, nz, nx = voxels.shape
    n, rows = stretched.shape[0], stretched.shape[1]
    for row in prange(rows):
        stretched[:, row] = np.float32(0.0)
        for i in range(n):
            for z in range(nz):
                y = (row - row_of[i, z]) // per_slice
                if (row - row_of[i, z]) % per_slice == 0 and 0 <= y < ny:
                    start = columns[i, z] // PHASES
                    _add_one(stretched[i, row, columns[i, z] % PHASES, start : start + nx], voxels[y, z])


@kernel
def _add_one(out: Any, line: Any) -> None:
    for x in range(line.shape[0]):
        out[x] += np.float32(line[x])
