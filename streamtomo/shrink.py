"""From a full-size image to its aligned, binned view in one interpolation.

Each output pixel is a Lanczos-3 weighted mean of the input about the place where it is seen, `w(p) = sinc(p) sinc(p/3)`
with `p` in output pixels along the input's rows and columns: the same kernel interpolates and keeps what the coarser
grid cannot hold from folding back. Where the input does not reach, the output is the mean of the input nearby.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.jit import kernel, parallel_kernel, prange
from streamtomo.resample import index_transform
from streamtomo.window import LANES, window_sum

LOBES = 3
FRACTIONS = 128
"""The weights are tabulated at this many fractions of an input pixel."""
BLOCKS = 24
"""What is nearby is the mean of a block; so many along the input's longer side."""
UNBENT: geometry.Array = np.zeros((0, 0, 2))


def shrink(
    image: NDArray[Any],
    transform: geometry.Array,
    out_shape_yx: tuple[int, int],
    binning: int = 1,
    bend: geometry.Array | None = None,
) -> NDArray[np.float32]:
    """The image `(ny, nx)`, of whole or real numbers, moved by a raw-to-aligned `transform` and binned: float32.

    `transform` is a row of an `.xf` in pixels of the image; the output `out_shape_yx` is in pixels `binning` times
    larger, about the same centre. `bend` `(my, mx, 2)`, on a grid from the first pixel of the output to the last: how
    far from each pixel, in x and y, what it shows is found, in pixels of the output.
    """
    image = np.ascontiguousarray(image)
    coarser = np.asarray(transform, np.float64) / binning
    inverse = index_transform(coarser, image.shape, out_shape_yx)
    out = np.empty(out_shape_yx, np.float32)
    _shrink(image, inverse, *_weights(binning), _block_means(image), UNBENT if bend is None else bend, out)
    return out


@lru_cache(maxsize=8)
def _weights(binning: int) -> tuple[np.int64, NDArray[np.float32]]:
    """First pixel relative to the one at or below a position, and the weights `(FRACTIONS + 1, taps)` by fraction."""
    reach = LOBES * binning
    first = 1 - reach
    fraction = np.arange(FRACTIONS + 1)[:, None] / FRACTIONS
    p = (fraction - np.arange(first, reach + 1)[None, :]) / binning
    weights = np.where(np.abs(p) < LOBES, np.sinc(p) * np.sinc(p / LOBES), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    filled = np.zeros((len(weights), -(-weights.shape[1] // LANES) * LANES), np.float32)
    filled[:, : weights.shape[1]] = weights
    return np.int64(first), filled


def _block_means(image: NDArray[Any]) -> NDArray[np.float32]:
    """Means of blocks of the image, at most BLOCKS along its longer side, `(my, mx)`."""
    edges = [
        np.linspace(0, n, max(1, min(n, round(BLOCKS * n / max(image.shape)))) + 1).astype(np.int64)
        for n in image.shape
    ]
    sums = np.empty((len(edges[0]) - 1, len(edges[1]) - 1), np.float32)
    _mean_blocks(image, edges[0], edges[1], sums)
    return sums


@parallel_kernel
def _mean_blocks(image: Any, rows: Any, columns: Any, out: Any) -> None:
    for j in prange(out.shape[0]):
        for i in range(out.shape[1]):
            total = 0.0
            for y in range(rows[j], rows[j + 1]):
                line = image[y, columns[i] : columns[i + 1]]
                part = np.float32(0.0)
                for x in range(line.shape[0]):
                    part += np.float32(line[x])
                total += np.float64(part)
            out[j, i] = total / ((rows[j + 1] - rows[j]) * (columns[i + 1] - columns[i]))


@kernel
def _nearby(means: Any, u: Any, v: Any, nx: Any, ny: Any) -> Any:
    """The means of blocks at (u, v), linear between their centres, beyond them as at the border."""
    my, mx = means.shape
    a = min(max((u + 0.5) * mx / nx - 0.5, 0.0), mx - 1.0)
    b = min(max((v + 0.5) * my / ny - 0.5, 0.0), my - 1.0)
    i, j = min(int(a), max(mx - 2, 0)), min(int(b), max(my - 2, 0))
    f, g = np.float32(a - i), np.float32(b - j)
    i1, j1 = min(i + 1, mx - 1), min(j + 1, my - 1)
    low = means[j, i] + f * (means[j, i1] - means[j, i])
    high = means[j1, i] + f * (means[j1, i1] - means[j1, i])
    return low + g * (high - low)


@kernel
def _at_border(image: Any, i: Any, j: Any, wx: Any, wy: Any, taps: Any) -> Any:
    """`window_sum` where pixels are missing: the border's count again."""
    ny, nx = image.shape
    total = np.float32(0.0)
    for k in range(taps):
        row = image[min(max(j + k, 0), ny - 1)]
        part = np.float32(0.0)
        for x in range(taps):
            part += wx[x] * np.float32(row[min(max(i + x, 0), nx - 1)])
        total += wy[k] * part
    return total


@kernel
def _bent(bend: Any, x: Any, y: Any, nx: Any, ny: Any) -> Any:
    """Pixel (x, y) of an output of `nx` by `ny`, moved by a grid of shifts `(my, mx, 2)`, linear between its points."""
    my, mx, _ = bend.shape
    a, b = x * (mx - 1) / max(nx - 1, 1), y * (my - 1) / max(ny - 1, 1)
    i, j = min(int(a), max(mx - 2, 0)), min(int(b), max(my - 2, 0))
    f, g = a - i, b - j
    dx = (1 - g) * ((1 - f) * bend[j, i, 0] + f * bend[j, i + 1, 0])
    dx += g * ((1 - f) * bend[j + 1, i, 0] + f * bend[j + 1, i + 1, 0])
    dy = (1 - g) * ((1 - f) * bend[j, i, 1] + f * bend[j, i + 1, 1])
    dy += g * ((1 - f) * bend[j + 1, i, 1] + f * bend[j + 1, i + 1, 1])
    return x + dx, y + dy


@parallel_kernel
def _shrink(image: Any, inverse: Any, first: Any, table: Any, means: Any, bend: Any, out: Any) -> None:
    """`out[y, x]` from the image about `inverse @ (x, y, 1)`; `inverse` float64 `(2, 3)` in array indices of both.

    `bend` float64 `(my, mx, 2)` moves (x, y) first; with no points it does nothing.
    """
    ny, nx = image.shape
    taps = table.shape[1]
    for y in prange(out.shape[0]):
        for x in range(out.shape[1]):
            p, q = np.float64(x), np.float64(y)
            if bend.shape[0] > 1:
                p, q = _bent(bend, x, y, out.shape[1], out.shape[0])
            u = inverse[0, 0] * p + inverse[0, 1] * q + inverse[0, 2]
            v = inverse[1, 0] * p + inverse[1, 1] * q + inverse[1, 2]
            if not (u >= -0.5 and u <= nx - 0.5 and v >= -0.5 and v <= ny - 0.5):
                out[y, x] = _nearby(means, u, v, nx, ny)
                continue
            i, j = int(np.floor(u)), int(np.floor(v))
            wx = table[int((u - i) * FRACTIONS + 0.5)]
            wy = table[int((v - j) * FRACTIONS + 0.5)]
            i, j = i + first, j + first
            if i >= 0 and j >= 0 and i + taps <= nx and j + taps <= ny:
                out[y, x] = window_sum(image, j, i, wy, wx)
            else:
                out[y, x] = _at_border(image, i, j, wx, wy, taps)
