"""Kernels of the edge-enhancing diffusion: what is read from a volume is written to another, tile by tile.

Each works on tiles of some rows of y through all z, so that the few planes it needs stay in the second-level cache.
Rows are added up in short loops of few arrays each: longer ones are not turned into vector code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.jit import kernel, parallel_kernel, prange

TILE = 16
"""Rows of y that are worked on at a time."""
REACH_SIGMAS, LEAST_REACH = 3, 3
"""A Gaussian ends here; taps reach at least so many voxels, with zeros where need be."""


def gaussian_taps(sigma: float) -> NDArray[np.float32]:
    """Weights of a Gaussian by distance from its middle, `(reach + 1,)`; with those of both sides the sum is 1."""
    reach = int(np.ceil(REACH_SIGMAS * sigma))
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    weights /= 2 * weights.sum() - weights[0]
    return np.pad(weights, (0, max(0, LEAST_REACH - reach))).astype(np.float32)


@kernel
def _axpy(weight: Any, row: Any, out: Any) -> None:
    for x in range(out.shape[0]):
        out[x] += weight * row[x]


@kernel
def _add_pair(weight: Any, a: Any, b: Any, out: Any) -> None:
    for x in range(out.shape[0]):
        out[x] += weight * (a[x] + b[x])


@kernel
def _seven(taps: Any, r0: Any, r1: Any, r2: Any, r3: Any, r4: Any, r5: Any, r6: Any, out: Any) -> None:
    t0, t1, t2, t3 = taps[0], taps[1], taps[2], taps[3]
    for x in range(out.shape[0]):
        out[x] = t0 * r3[x] + t1 * (r2[x] + r4[x]) + t2 * (r1[x] + r5[x]) + t3 * (r0[x] + r6[x])


@kernel
def _across_planes(taps: Any, u: Any, z: Any, y: Any, out: Any) -> None:
    """Rows `y` of the planes of `u` about `z`, weighed by their distance from it."""
    _seven(taps, u[z - 3, y], u[z - 2, y], u[z - 1, y], u[z, y], u[z + 1, y], u[z + 2, y], u[z + 3, y], out)
    for k in range(4, taps.shape[0]):
        _add_pair(taps[k], u[z - k, y], u[z + k, y], out)


@kernel
def _across_rows(taps: Any, u: Any, y: Any, out: Any) -> None:
    """Rows of `u` about `y`, weighed by their distance from it."""
    _seven(taps, u[y - 3], u[y - 2], u[y - 1], u[y], u[y + 1], u[y + 2], u[y + 3], out)
    for k in range(4, taps.shape[0]):
        _add_pair(taps[k], u[y - k], u[y + k], out)


@kernel
def _along(taps: Any, row: Any, out: Any) -> None:
    """`out[x] = sum_k taps[|k|] row[x + reach + k]`, `row` longer by twice the reach of the taps."""
    n, m = out.shape[0], taps.shape[0] - 1
    _seven(
        taps, row[m - 3 : m - 3 + n], row[m - 2 : m - 2 + n], row[m - 1 : m - 1 + n], row[m : m + n],
        row[m + 1 : m + 1 + n], row[m + 2 : m + 2 + n], row[m + 3 : m + 3 + n], out,
    )  # fmt: skip
    for k in range(4, taps.shape[0]):
        _add_pair(taps[k], row[m - k : m - k + n], row[m + k : m + k + n], out)


@parallel_kernel
def smooth(u: Any, taps: Any, pad: Any, out: Any) -> None:
    """Convolve `u` with taps along all axes; both `(nz + 2 pad, ny + 2 pad, nx + 2 pad)`, only the inside of `out`.

    `taps` as `gaussian_taps` makes them, their reach at most `pad`; the borders of `u` must be filled.
    """
    ny, wide, reach = u.shape[1] - 2 * pad, u.shape[2], taps.shape[0] - 1
    for tile in prange((ny + TILE - 1) // TILE):
        y0 = pad + tile * TILE
        rows = min(TILE, ny - tile * TILE)
        across = np.empty((rows + 2 * reach, wide), np.float32)
        line = np.empty(wide, np.float32)
        for z in range(pad, u.shape[0] - pad):
            for y in range(across.shape[0]):
                _across_planes(taps, u, z, y0 + y - reach, across[y])
            for y in range(rows):
                _across_rows(taps, across, y + reach, line)
                _along(taps, line[pad - reach : wide - pad + reach], out[z, y0 + y, pad : wide - pad])


@kernel
def _difference(a: Any, b: Any, out: Any) -> None:
    for x in range(out.shape[0]):
        out[x] = a[x] - b[x]


@kernel
def _rejection(gx: Any, gy: Any, gz: Any, scale: Any, out: Any) -> None:
    """`(1 - g) / |grad|²` with Weickert's diffusivity `g = 1 - exp(-3.31488 / (|grad| / K)^8)`; `scale` = 1 / K².

    exp(-x) is taken as `(1 - x / 32)^32`: 0 from 32 on, and all in vector instructions.
    """
    one, most, tiny = np.float32(1), np.float32(32), np.float32(1e-30)
    for x in range(out.shape[0]):
        squared = gx[x] * gx[x] + gy[x] * gy[x] + gz[x] * gz[x]
        ratio = squared * scale
        fourth = ratio * ratio * ratio * ratio
        exponent = np.float32(3.31488) / (fourth + tiny)
        exponent = exponent if exponent < most else most
        power = one - exponent / most
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        out[x] = power / (squared + tiny)


@kernel
def _entry(a: Any, b: Any, w: Any, identity: Any, out: Any) -> None:
    for x in range(out.shape[0]):
        out[x] = identity - w[x] * a[x] * b[x]


@kernel
def _tensor_row(s: Any, z: Any, y: Any, left: Any, scale: Any, work: Any, out: Any) -> None:
    """Six entries (xx, yy, zz, xy, xz, yz) of the tensor along a row, `out` `(6, m)`, from x = `left` on."""
    m = out.shape[1]
    gx, gy, gz, w = work[0], work[1], work[2], work[3]
    _difference(s[z, y, left + 1 : left + 1 + m], s[z, y, left - 1 : left - 1 + m], gx)
    _difference(s[z, y + 1, left : left + m], s[z, y - 1, left : left + m], gy)
    _difference(s[z + 1, y, left : left + m], s[z - 1, y, left : left + m], gz)
    _rejection(gx, gy, gz, scale, w)
    one, zero = np.float32(1), np.float32(0)
    _entry(gx, gx, w, one, out[0])
    _entry(gy, gy, w, one, out[1])
    _entry(gz, gz, w, one, out[2])
    _entry(gx, gy, w, zero, out[3])
    _entry(gx, gz, w, zero, out[4])
    _entry(gy, gz, w, zero, out[5])


@kernel
def _along_row(d: Any, u: Any, out: Any) -> None:
    """Flux along x itself; `d` from x - 1 to x + 1, `u` likewise."""
    half = np.float32(0.5)
    for x in range(out.shape[0]):
        after = (d[x + 1] + d[x + 2]) * (u[x + 2] - u[x + 1])
        out[x] = half * (after - (d[x] + d[x + 1]) * (u[x + 1] - u[x]))


@kernel
def _between_rows(d0: Any, d1: Any, d2: Any, u0: Any, u1: Any, u2: Any, out: Any) -> None:
    """Flux from row to row, whichever axis they are stacked along."""
    half = np.float32(0.5)
    for x in range(out.shape[0]):
        out[x] += half * ((d1[x] + d2[x]) * (u2[x] - u1[x]) - (d0[x] + d1[x]) * (u1[x] - u0[x]))


@kernel
def _skew_row(d0: Any, d1: Any, d2: Any, u0: Any, u2: Any, out: Any) -> None:
    """Mixed flux of x and the axis along which rows are stacked; `d1`, `u0`, `u2` from x - 1 to x + 1."""
    quarter = np.float32(0.25)
    for x in range(out.shape[0]):
        across = d1[x + 2] * (u2[x + 2] - u0[x + 2]) - d1[x] * (u2[x] - u0[x])
        out[x] += quarter * (across + d2[x] * (u2[x + 2] - u2[x]) - d0[x] * (u0[x + 2] - u0[x]))


@kernel
def _skew_planes(d: Any, a: Any, b: Any, sign: Any, out: Any) -> None:
    """One of the four terms of the mixed flux of y and z."""
    quarter = np.float32(0.25) * sign
    for x in range(out.shape[0]):
        out[x] += quarter * d[x] * (a[x] - b[x])


@kernel
def _divergence(d0: Any, d1: Any, d2: Any, r: Any, u: Any, z: Any, y: Any, pad: Any, line: Any) -> None:
    """Divergence of the flux along one row; `d0 d1 d2` tensors `(rows, 6, nx + 2)` of three planes, `r` the row."""
    n = line.shape[0]
    wide, mid = slice(pad - 1, pad + n + 1), slice(pad, pad + n)
    inner = slice(1, n + 1)
    _along_row(d1[r, 0], u[z, y, wide], line)
    _between_rows(d1[r - 1, 1, inner], d1[r, 1, inner], d1[r + 1, 1, inner], u[z, y - 1, mid], u[z, y, mid],
                  u[z, y + 1, mid], line)  # fmt: skip
    _between_rows(d0[r, 2, inner], d1[r, 2, inner], d2[r, 2, inner], u[z - 1, y, mid], u[z, y, mid],
                  u[z + 1, y, mid], line)  # fmt: skip
    _skew_row(d1[r - 1, 3, inner], d1[r, 3], d1[r + 1, 3, inner], u[z, y - 1, wide], u[z, y + 1, wide], line)
    _skew_row(d0[r, 4, inner], d1[r, 4], d2[r, 4, inner], u[z - 1, y, wide], u[z + 1, y, wide], line)
    plus, minus = np.float32(1), np.float32(-1)
    _skew_planes(d1[r + 1, 5, inner], u[z + 1, y + 1, mid], u[z - 1, y + 1, mid], plus, line)
    _skew_planes(d1[r - 1, 5, inner], u[z + 1, y - 1, mid], u[z - 1, y - 1, mid], minus, line)
    _skew_planes(d2[r, 5, inner], u[z + 1, y + 1, mid], u[z + 1, y - 1, mid], plus, line)
    _skew_planes(d0[r, 5, inner], u[z - 1, y + 1, mid], u[z - 1, y - 1, mid], minus, line)


@parallel_kernel
def step(u: Any, s: Any, scale: Any, rate: Any, pad: Any, out: Any) -> None:
    """One explicit step: the inside of `out` = `u + rate * div(D(s) grad u)`, all `(nz + 2 pad, ny + 2 pad, ...)`.

    `scale` is `1 / (2 K)²`, as gradients are differences over two voxels; the borders of `u` and `s` must be filled.
    """
    ny, n = u.shape[1] - 2 * pad, u.shape[2] - 2 * pad
    for tile in prange((ny + TILE - 1) // TILE):
        y0 = pad + tile * TILE
        rows = min(TILE, ny - tile * TILE)
        ring = np.empty((3, rows + 2, 6, n + 2), np.float32)
        work, line = np.empty((4, n + 2), np.float32), np.empty(n, np.float32)
        for z in range(pad - 1, u.shape[0] - pad + 1):
            for y in range(rows + 2):
                _tensor_row(s, z, y0 + y - 1, pad - 1, scale, work, ring[z % 3, y])
            if z < pad + 1:
                continue
            for y in range(rows):
                below, here, above = ring[(z - 2) % 3], ring[(z - 1) % 3], ring[z % 3]
                _divergence(below, here, above, y + 1, u, z - 1, y0 + y, pad, line)
                row = out[z - 1, y0 + y, pad : pad + n]
                row[:] = u[z - 1, y0 + y, pad : pad + n]
                _axpy(rate, line, row)
