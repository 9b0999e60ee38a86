"""Back-projection as shift-and-add: no gather, only loads that follow each other.

Along a line of constant y and z the position in an upright view moves by one step for each voxel. So each row is first
sampled anew at those steps (`stretch`), in `PHASES` versions a fraction of a step apart, and back-projecting is adding
the right version to the line from the right sample on: one load and one addition. Sums are made in int16 where that
loses nothing (`counts`), else in float32; a line stays in the first-level cache until all views are in it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.jit import kernel, parallel_kernel, prange
from streamtomo.reconstruct import arrays, device
from streamtomo.reconstruct.rays import PHASES, Rays, Tables, tables
from streamtomo.reconstruct.stretch import LANCZOS, stretch, stretch_int16

Image = NDArray[np.float32]

TILE = 1024
"""Voxels of a line that are worked on at a time."""
SD_COUNTS = 64.0
"""The standard deviation of the views' noise in int16 sums: rounding is then 0.45 % of it."""
MEDIAN_TO_SD = 1.4826
"""Standard deviation over the median distance from 0, of Gaussian noise."""
SAMPLED = 5
"""Every so many pixels of some rows are enough for the median."""
MOST_CLIPPED = 1e-5
"""Sums are int16 only while a smaller share of the samples is beyond what can be added up without overflow."""
LEAN_SLICES = 8
"""Where rays lean along y, a box is worked on in layers so thin that a ray crosses no more slices than this."""


class Scratch:
    """Memory that is used again: a fresh page costs more than what is written to it."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """An array of whatever was there before; the next call takes it back."""
        return self.arrays(shape, dtype=dtype)[0]

    def arrays(self, *shapes: tuple[int, ...], dtype: type[np.generic]) -> list[NDArray[Any]]:
        """Arrays side by side, of whatever was there before; the next call takes them back."""
        sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape in shapes]
        if sum(sizes) > self._bytes.size:
            self._bytes = np.empty(sum(sizes), np.uint8)
        ends = np.cumsum(sizes)
        return [
            self._bytes[end - size : end].view(dtype).reshape(shape)
            for size, end, shape in zip(sizes, ends, shapes, strict=True)
        ]


class Scaled(NamedTuple):
    """Where sums go: `value = sum * scale + offset`, multiplied by `gain[z, x]` first where there is one."""

    scale: float = 1.0
    offset: float = 0.0
    gain: Image | None = None

    def divided(self, counts: float) -> Scaled:
        """For sums that are `counts` times too large."""
        return self._replace(scale=self.scale / counts)

    def layer(self, z: slice) -> Scaled:
        """For these heights only."""
        return self if self.gain is None else self._replace(gain=self.gain[z])


PLAIN = Scaled()


def backproject(
    images: Image,
    rays: Rays,
    gains: NDArray[np.float32],
    out: NDArray[Any],
    *,
    scaled: Scaled = PLAIN,
    exact: bool = False,
    scratch: Scratch | None = None,
) -> None:
    """Back-project filtered upright images into a box of voxels centred where the rays were made for.

    `images` `(n, rows, mx)` float32 as `rays.upright` makes them, or aligned views `(n, ny, mx)` where rays are level;
    view i counts `gains[i]` times. `out` `(ny, nz, nx)`, float32 or int16, contiguous or a turned view of a contiguous
    `(nz, ny, nx)`; overwritten. Beyond an image there is zero. `exact` keeps to float32 sums; `scratch` keeps the
    stretched rows' memory from call to call.
    """
    if (xp := device.arrays()) is not None:
        arrays.backproject(xp, images, rays, gains, out, scaled)
        return
    scratch = scratch or Scratch()
    _, nz, nx = out.shape
    counts = 0.0 if exact else int16_counts(images, gains)
    for layer in _layers(rays, nz):
        table = tables(rays, nz, nx, images.shape[2], layer)
        _backproject_layer(images, gains, table, counts, out[:, layer], scaled.layer(layer), scratch)


def int16_counts(images: Image, gains: NDArray[np.float32]) -> float:
    """Counts per unit of density for int16 sums; 0 where float32 is needed: strong gold, very many views.

    What is to be SD_COUNTS is the noise between strong features, so that these do not make its rounding coarse.
    """
    limit = sum_limit(len(images))
    sample = np.abs(images[:, :: max(1, images.shape[1] // 8), ::SAMPLED] * gains[:, None, None])
    noise = MEDIAN_TO_SD * float(np.median(sample))
    if not 0.0 < noise < np.inf or limit < SD_COUNTS:
        return 0.0
    counts = SD_COUNTS / noise
    return counts if within(images, gains, limit / counts) else 0.0


def within(images: Image, gains: NDArray[np.float32], limit: float) -> bool:
    """Whether hardly any of the samples of `images` `(n, rows, mx)`, times `gains`, is beyond a limit."""
    return bool(_beyond(images, gains, np.float32(limit)).sum() < MOST_CLIPPED * images.size)


def sum_limit(views: int) -> int:
    """The largest value of which `views` can be added up in int16."""
    return 32767 // views


def _layers(rays: Rays, nz: int) -> list[slice]:
    """Ranges of z that are worked on at a time: all of it where rays are level."""
    if rays.level:
        return [slice(0, nz)]
    thick = max(1, int(LEAN_SLICES / np.abs(rays.lean_y).max()))
    return [slice(z, min(nz, z + thick)) for z in range(0, nz, thick)]


def _backproject_layer(
    images: Image,
    gains: NDArray[np.float32],
    table: Tables,
    counts: float,
    out: NDArray[Any],
    scaled: Scaled,
    scratch: Scratch,
) -> None:
    lowest, highest = int(table.rows.min()), int(table.rows.max())
    images = images[:, lowest : highest + table.rows_per_slice * (out.shape[0] - 1) + 1]
    limit = sum_limit(len(images)) if counts else None
    stretched = stretched_rows(images, gains * np.float32(counts or 1.0), table, limit, scratch)
    sum_stretched(stretched, table._replace(rows=table.rows - lowest), scaled.divided(counts or 1.0), out)


def sum_stretched(stretched: NDArray[Any], table: Tables, scaled: Scaled, out: NDArray[Any]) -> None:
    """Sum stretched rows `(n, rows, PHASES, length)` into voxels `out` `(ny, nz, nx)`, as in `backproject`."""
    flat, strides = _flat(out)
    gain = scaled.gain if scaled.gain is not None else np.empty((0, 0), np.float32)
    where = np.int64(table.rows_per_slice), table.columns, table.rows
    values = np.float32(scaled.scale), np.float32(scaled.offset), gain
    if out.dtype == np.int16:
        _sum_int16(stretched, *where, *values, strides, out.shape, flat)
    else:
        _sum(stretched, *where, *values, strides, out.shape, flat)


def stretched_rows(
    images: Image, gains: NDArray[np.float32], table: Tables, limit: float | None, scratch: Scratch
) -> NDArray[Any]:
    """Rows of images times `gains`, stretched, `(n, rows, PHASES, length)`: int16 within `limit`, or float32."""
    shape = (*images.shape[:2], PHASES, table.length)
    if limit is None:
        exact = scratch.array(shape, np.float32)
        stretch(images, table.first, table.step, gains, LANCZOS, exact)
        return exact
    rounded = scratch.array(shape, np.int16)
    stretch_int16(images, table.first, table.step, gains, LANCZOS, np.float32(limit), rounded)
    return rounded


def _flat(out: NDArray[Any]) -> tuple[NDArray[Any], tuple[int, int]]:
    """All memory of `out` `(ny, nz, nx)` as one row from its first voxel on, and the strides of y and z in voxels."""
    strides = (out.strides[0] // out.itemsize, out.strides[1] // out.itemsize)
    if out.strides[2] != out.itemsize or min(strides) < out.shape[2]:
        raise ValueError("lines of voxels along x must be contiguous")
    length = (out.shape[0] - 1) * strides[0] + (out.shape[1] - 1) * strides[1] + out.shape[2]
    return np.lib.stride_tricks.as_strided(out, (length,), (out.itemsize,)), strides


@parallel_kernel
def _beyond(images: Any, gains: Any, limit: Any) -> Any:
    """How many of `gains * images` are beyond `limit`, for each row of y."""
    beyond = np.zeros(images.shape[1], np.int64)
    for y in prange(images.shape[1]):
        for i in range(images.shape[0]):
            row, gain = images[i, y], gains[i]
            count = np.int32(0)
            for x in range(row.shape[0]):
                count += np.int32(not abs(gain * row[x]) <= limit)
            beyond[y] += count
    return beyond


@kernel
def part(rows: Any, column: Any, x0: Any, x1: Any) -> Any:
    """Samples of a stretched row `(PHASES, length)` that fall on voxels `x0` to `x1` of a line."""
    start = column // PHASES
    return rows[column % PHASES, start + x0 : start + x1]


@kernel
def _add_eight(line: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> None:
    """Add eight rows to a line, all of one type and length."""
    for x in range(line.shape[0]):
        line[x] += ((a[x] + b[x]) + (c[x] + d[x])) + ((e[x] + f[x]) + (g[x] + h[x]))


@kernel
def _add_one(line: Any, a: Any) -> None:
    for x in range(line.shape[0]):
        line[x] += a[x]


@kernel
def _sum_line(rows: Any, c: Any, r: Any, x0: Any, x1: Any, line: Any) -> None:
    """The sum over views of voxels `x0` to `x1` of a line; `c`, `r` `(n,)`: columns and rows of the views."""
    n = rows.shape[0]
    line[:] = 0
    for i in range(0, n - 7, 8):
        _add_eight(
            line,
            part(rows[i, r[i]], c[i], x0, x1),
            part(rows[i + 1, r[i + 1]], c[i + 1], x0, x1),
            part(rows[i + 2, r[i + 2]], c[i + 2], x0, x1),
            part(rows[i + 3, r[i + 3]], c[i + 3], x0, x1),
            part(rows[i + 4, r[i + 4]], c[i + 4], x0, x1),
            part(rows[i + 5, r[i + 5]], c[i + 5], x0, x1),
            part(rows[i + 6, r[i + 6]], c[i + 6], x0, x1),
            part(rows[i + 7, r[i + 7]], c[i + 7], x0, x1),
        )
    for i in range(n - n % 8, n):
        _add_one(line, part(rows[i, r[i]], c[i], x0, x1))


@kernel
def _line(rows: Any, c: Any, r: Any, x0: Any, x1: Any, sums: Any) -> Any:
    """The same in `sums`; of a single view its own samples, untouched."""
    if rows.shape[0] == 1:
        return part(rows[0, r[0]], c[0], x0, x1)
    _sum_line(rows, c, r, x0, x1, sums[: x1 - x0])
    return sums[: x1 - x0]


@kernel
def _weigh(line: Any, gain: Any, out: Any) -> None:
    for x in range(line.shape[0]):
        out[x] = line[x] * gain[x]


@kernel
def _store(line: Any, scale: Any, offset: Any, out: Any) -> None:
    """A line of sums into float32 voxels."""
    for x in range(line.shape[0]):
        out[x] = line[x] * scale + offset


@kernel
def _store_int16(line: Any, scale: Any, offset: Any, out: Any) -> None:
    """A line of sums into int16 voxels, rounded, never beyond their range."""
    low, high = np.float32(-32768), np.float32(32767)
    for x in range(line.shape[0]):
        out[x] = np.int16(np.rint(min(max(line[x] * scale + offset, low), high)))


@parallel_kernel
def _sum(
    rows: Any, per_slice: Any, columns: Any, row_of: Any, scale: Any, offset: Any, gain: Any, strides: Any,
    shape: Any, flat: Any,
) -> None:  # fmt: skip
    """Stretched `rows` `(n, rows, PHASES, length)` summed into the float32 voxels `flat` of `shape` `(ny, nz, nx)`."""
    ny, nz, nx = shape
    for y in prange(ny):
        sums, weighed = np.empty(min(nx, TILE), rows.dtype), np.empty(min(nx, TILE), np.float32)
        for x0 in range(0, nx, TILE):
            x1 = min(nx, x0 + TILE)
            for z in range(nz):
                line = _line(rows, columns[z], row_of[z] + y * per_slice, x0, x1, sums)
                start = y * strides[0] + z * strides[1]
                if gain.shape[0] > 0:
                    _weigh(line, gain[z, x0:x1], weighed)
                    _store(weighed[: x1 - x0], scale, offset, flat[start + x0 : start + x1])
                else:
                    _store(line, scale, offset, flat[start + x0 : start + x1])


@parallel_kernel
def _sum_int16(
    rows: Any, per_slice: Any, columns: Any, row_of: Any, scale: Any, offset: Any, gain: Any, strides: Any,
    shape: Any, flat: Any,
) -> None:  # fmt: skip
    """The same into int16 voxels."""
    ny, nz, nx = shape
    for y in prange(ny):
        sums, weighed = np.empty(min(nx, TILE), rows.dtype), np.empty(min(nx, TILE), np.float32)
        for x0 in range(0, nx, TILE):
            x1 = min(nx, x0 + TILE)
            for z in range(nz):
                line = _line(rows, columns[z], row_of[z] + y * per_slice, x0, x1, sums)
                start = y * strides[0] + z * strides[1]
                if gain.shape[0] > 0:
                    _weigh(line, gain[z, x0:x1], weighed)
                    _store_int16(weighed[: x1 - x0], scale, offset, flat[start + x0 : start + x1])
                else:
                    _store_int16(line, scale, offset, flat[start + x0 : start + x1])
