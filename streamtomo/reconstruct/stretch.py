"""Rows of upright images sampled at the voxels' own steps, once for all lines; and the exact transpose of that.

The one good interpolation (Lanczos-3) is made here. 16 rows are worked on at a time, side by side in memory, so that
the machine's vectors run over rows: positions and weights are then the same for all of a vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.jit import kernel, parallel_kernel, prange
from streamtomo.reconstruct.rays import EDGE, FINE, PHASES

LOBES = 3
FRACTIONS = 256
"""The interpolation's weights are tabulated at this many fractions of a pixel."""
LANES = 16
"""Rows that are stretched side by side."""
RUN = 64
"""Samples between two turns from side by side to one after the other."""
ONE = 1 << FINE
COARSE = FINE - 8
HALF = 1 << (COARSE - 1)
"""Half a step of the table, in fine units."""


def _lanczos_table() -> NDArray[np.float32]:
    """Weights `(FRACTIONS + 1, 2 * LOBES)` of the samples round a position, by its fraction; rows sum to 1."""
    fraction = np.arange(FRACTIONS + 1)[:, None] / FRACTIONS
    distance = fraction - np.arange(1 - LOBES, LOBES + 1)[None, :]
    weights = np.sinc(distance) * np.sinc(distance / LOBES)
    return np.ascontiguousarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


LANCZOS = _lanczos_table()


@kernel
def _side_by_side(image: Any, row: Any, lanes: Any) -> None:
    """16 rows of `image` `(rows, nx)` from `row` on into `lanes` `(nx + 2 * EDGE, 16)`, ends repeated, 0 beyond."""
    nx = image.shape[1]
    count = min(LANES, image.shape[0] - row)
    lanes[:] = np.float32(0.0)
    for y in range(count):
        source = image[row + y]
        for x in range(nx):
            lanes[EDGE + x, y] = source[x]
        for x in range(EDGE):
            lanes[x, y] = source[0]
            lanes[EDGE + nx + x, y] = source[nx - 1]


@kernel
def _reach(first: Any, step: Any, phase: Any, nx: Any, length: Any) -> Any:
    """The samples `low <= k < high` of a phase that lie within an image row of `nx` pixels."""
    start, stride = first + phase * step, PHASES * step
    low = max(0, min(length, -((start - EDGE * ONE) // stride)))
    high = max(low, min(length, ((nx - 1 + EDGE) * ONE - start) // stride + 1))
    return low, high


@kernel
def _sample(lanes: Any, start: Any, stride: Any, count: Any, gain: Any, table: Any, run: Any) -> None:
    """`count` samples of 16 rows, from `start` in steps of `stride`, times `gain`, into `run` `(RUN, 16)`."""
    for k in range(count):
        at = start + k * stride
        i = at >> FINE
        w = ((at & (ONE - 1)) + HALF) >> COARSE
        w0, w1, w2 = gain * table[w, 0], gain * table[w, 1], gain * table[w, 2]
        w3, w4, w5 = gain * table[w, 3], gain * table[w, 4], gain * table[w, 5]
        a, b, c, d, e, f = lanes[i - 2], lanes[i - 1], lanes[i], lanes[i + 1], lanes[i + 2], lanes[i + 3]
        out = run[k]
        for y in range(LANES):
            out[y] = w0 * a[y] + w1 * b[y] + w2 * c[y] + w3 * d[y] + w4 * e[y] + w5 * f[y]


@kernel
def _stretch_lanes(lanes: Any, first: Any, step: Any, gain: Any, table: Any, row: Any, stretched: Any) -> None:
    """16 rows side by side into `stretched` `(rows, PHASES, length)` float32, from `row` on."""
    count = min(LANES, stretched.shape[0] - row)
    run = np.empty((RUN, LANES), np.float32)
    for phase in range(stretched.shape[1]):
        low, high = _reach(first, step, phase, lanes.shape[0] - 2 * EDGE, stretched.shape[2])
        stretched[row : row + count, phase, :low] = np.float32(0.0)
        stretched[row : row + count, phase, high:] = np.float32(0.0)
        for k0 in range(low, high, RUN):
            n = min(RUN, high - k0)
            _sample(lanes, first + (k0 * PHASES + phase) * step, PHASES * step, n, gain, table, run)
            for y in range(count):
                out = stretched[row + y, phase, k0 : k0 + n]
                for k in range(n):
                    out[k] = run[k, y]


@kernel
def _stretch_lanes_int16(
    lanes: Any, first: Any, step: Any, gain: Any, table: Any, limit: Any, row: Any, stretched: Any
) -> None:
    """The same into int16, rounded, never beyond `limit`."""
    count = min(LANES, stretched.shape[0] - row)
    run = np.empty((RUN, LANES), np.float32)
    for phase in range(stretched.shape[1]):
        low, high = _reach(first, step, phase, lanes.shape[0] - 2 * EDGE, stretched.shape[2])
        stretched[row : row + count, phase, :low] = np.int16(0)
        stretched[row : row + count, phase, high:] = np.int16(0)
        for k0 in range(low, high, RUN):
            n = min(RUN, high - k0)
            _sample(lanes, first + (k0 * PHASES + phase) * step, PHASES * step, n, gain, table, run)
            for y in range(count):
                out = stretched[row + y, phase, k0 : k0 + n]
                for k in range(n):
                    out[k] = np.int16(np.rint(min(max(run[k, y], -limit), limit)))


@parallel_kernel
def stretch(images: Any, first: Any, step: Any, gains: Any, table: Any, stretched: Any) -> None:
    """Upright `images` `(n, rows, nx)`, times `gains` `(n,)`, into `stretched` `(n, rows, PHASES, length)` float32.

    With fewer phases, `(n, rows, 1, length)` for instance, only the first ones are made. Sample `k` of phase `p` lies
    at `first + (PHASES * k + p) * step` fine units of the edged row; beyond the image it is zero.
    """
    n, rows, nx = images.shape
    groups = (rows + LANES - 1) // LANES
    for task in prange(n * groups):
        i, row = task // groups, (task % groups) * LANES
        lanes = np.empty((nx + 2 * EDGE, LANES), np.float32)
        _side_by_side(images[i], row, lanes)
        _stretch_lanes(lanes, first[i], step[i], gains[i], table, row, stretched[i])


@parallel_kernel
def stretch_int16(images: Any, first: Any, step: Any, gains: Any, table: Any, limit: Any, stretched: Any) -> None:
    """The same into int16, rounded, never beyond `limit` (float32)."""
    n, rows, nx = images.shape
    groups = (rows + LANES - 1) // LANES
    for task in prange(n * groups):
        i, row = task // groups, (task % groups) * LANES
        lanes = np.empty((nx + 2 * EDGE, LANES), np.float32)
        _side_by_side(images[i], row, lanes)
        _stretch_lanes_int16(lanes, first[i], step[i], gains[i], table, limit, row, stretched[i])


@kernel
def _spread(run: Any, start: Any, stride: Any, count: Any, table: Any, lanes: Any) -> None:
    """Transpose of `_sample`: `count` samples of 16 rows added to `lanes` with the weights they were taken with."""
    width = lanes.shape[1]  # a number the compiler does not know: it would unroll the loop instead of using vectors
    for k in range(count):
        at = start + k * stride
        i = at >> FINE
        w = ((at & (ONE - 1)) + HALF) >> COARSE
        source = run[k]
        for tap in range(2 * LOBES):
            weight, out = table[w, tap], lanes[i - 2 + tap]
            for y in range(width):
                out[y] += weight * source[y]


@kernel
def _unstretch_lanes(stretched: Any, first: Any, step: Any, table: Any, row: Any, lanes: Any) -> None:
    """Transpose of `_stretch_lanes`: 16 rows of `stretched` from `row` on, added to `lanes`."""
    count = min(LANES, stretched.shape[0] - row)
    run = np.zeros((RUN, LANES), np.float32)
    for phase in range(PHASES):
        low, high = _reach(first, step, phase, lanes.shape[0] - 2 * EDGE, stretched.shape[2])
        for k0 in range(low, high, RUN):
            n = min(RUN, high - k0)
            for y in range(count):
                source = stretched[row + y, phase, k0 : k0 + n]
                for k in range(n):
                    run[k, y] = source[k]
            _spread(run, first + (k0 * PHASES + phase) * step, PHASES * step, n, table, lanes)


@parallel_kernel
def unstretch(stretched: Any, first: Any, step: Any, table: Any, images: Any) -> None:
    """The exact transpose of `stretch` with gains of 1: `stretched` `(n, rows, PHASES, length)` into `images`."""
    n, rows, nx = images.shape
    groups = (rows + LANES - 1) // LANES
    for task in prange(n * groups):
        i, row = task // groups, (task % groups) * LANES
        lanes = np.zeros((nx + 2 * EDGE, LANES), np.float32)
        _unstretch_lanes(stretched[i], first[i], step[i], table, row, lanes)
        for y in range(min(LANES, rows - row)):
            out = images[i, row + y]
            for x in range(nx):
                out[x] = lanes[EDGE + x, y]
            for x in range(EDGE):
                out[0] += lanes[x, y]
                out[nx - 1] += lanes[EDGE + nx + x, y]
