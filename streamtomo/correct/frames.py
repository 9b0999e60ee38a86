"""Sums of movie frames: plain, or each moved by its own fraction of a pixel.

A frame is moved with a Lanczos-4 kernel, `w(p) = sinc(p) sinc(p / 4)` at eight pixels, rows and columns one after the
other: at half a pixel it keeps 0.9 of the amplitude at 0.4 cycles a pixel, and costs a tenth of a Fourier transform.
The gain is multiplied in before, where the pattern sits still.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.jit import parallel_kernel, prange

LOBES = 4
TAPS = 2 * LOBES
BLOCK_ROWS = 32
"""Rows that one thread makes at a time, so that what it filtered stays in the cache."""


def as_stored(frame: NDArray[Any]) -> NDArray[Any]:
    """The frame in a type that the kernels here are compiled for: uint8 stays, all others become float32."""
    return np.ascontiguousarray(frame, dtype=np.uint8 if frame.dtype == np.uint8 else np.float32)


def block_mean(frame: NDArray[Any], factor: NDArray[np.float32], binning: int) -> NDArray[np.float32]:
    """Means `(ny // binning, nx // binning)` of square blocks of a frame multiplied by its gain, both `(ny, nx)`."""
    ny, nx = frame.shape
    binned = np.empty((ny // binning, nx // binning), np.float32)
    _block_mean(frame, factor, binned, np.int64(binning))
    return binned


def add(total: NDArray[np.float32], frame: NDArray[Any]) -> None:
    """Add a frame to the total, both `(ny, nx)`."""
    _add(total, frame)


def add_moved(
    total: NDArray[np.float32], frame: NDArray[Any], factor: NDArray[np.float32], shift_xy: tuple[float, float]
) -> None:
    """Add a frame, times its gain, whose content lies `shift_xy` pixels further than that of the total.

    All arrays are `(ny, nx)`. Beyond the frame's edge its mirror image is taken: same noise, no seam.
    """
    starts, weights = zip(*(_taps(shift) for shift in shift_xy), strict=True)
    _add_moved(total, frame, factor, np.int64(starts[0]), weights[0], np.int64(starts[1]), weights[1])


def _taps(shift: float) -> tuple[int, NDArray[np.float32]]:
    """First pixel, relative to the one to be made, and the eight weights of an interpolation at `shift`."""
    whole = int(np.floor(shift))
    p = np.arange(1 - LOBES, LOBES + 1) - (shift - whole)
    weights = np.sinc(p) * np.sinc(p / LOBES)
    return whole + 1 - LOBES, (weights / weights.sum()).astype(np.float32)


@parallel_kernel
def _add(total: Any, frame: Any) -> Any:
    """`total += frame`, row by row."""
    for y in prange(total.shape[0]):
        line, more = total[y], frame[y]
        for x in range(total.shape[1]):
            line[x] += np.float32(more[x])


@parallel_kernel
def _block_mean(frame: Any, factor: Any, binned: Any, b: Any) -> Any:
    """Block means of `frame * factor`: `(ny, nx)` twice -> `(my, mx)`."""
    my, mx = binned.shape
    scale = np.float32(1.0) / np.float32(b * b)
    for row in prange(my):
        line = np.zeros(mx * b, dtype=np.float32)
        for y in range(row * b, (row + 1) * b):
            counts, gain = frame[y], factor[y]
            for x in range(mx * b):
                line[x] += np.float32(counts[x]) * gain[x]
        for x in range(mx):
            binned[row, x] = line[x * b : (x + 1) * b].sum() * scale


@parallel_kernel
def _add_moved(total: Any, frame: Any, factor: Any, x0: Any, wx: Any, y0: Any, wy: Any) -> Any:
    """`total[y, x] += sum wy[j] wx[i] (frame * factor)[y + y0 + j, x + x0 + i]`, mirrored at the edges."""
    ny, nx = total.shape
    blocks = (ny + BLOCK_ROWS - 1) // BLOCK_ROWS
    for block in prange(blocks):
        start = block * BLOCK_ROWS
        stop = min(start + BLOCK_ROWS, ny)
        filtered = np.empty((BLOCK_ROWS + TAPS - 1, nx), dtype=np.float32)
        line = np.empty(nx + TAPS - 1, dtype=np.float32)
        for row in range(stop - start + TAPS - 1):
            y = start + row + y0
            y = -y - 1 if y < 0 else y
            y = 2 * ny - 1 - y if y >= ny else y
            y = min(max(y, 0), ny - 1)
            counts, gain = frame[y], factor[y]
            first, last = max(0, -x0), min(nx + TAPS - 1, nx - x0)
            for i in range(first, last):
                line[i] = np.float32(counts[i + x0]) * gain[i + x0]
            for i in range(first):
                x = min(-(i + x0) - 1, nx - 1)
                line[i] = np.float32(counts[x]) * gain[x]
            for i in range(max(last, 0), nx + TAPS - 1):
                x = max(2 * nx - 1 - (i + x0), 0)
                line[i] = np.float32(counts[x]) * gain[x]
            out = filtered[row]
            a, b, c, d = line[0:nx], line[1 : nx + 1], line[2 : nx + 2], line[3 : nx + 3]
            e, f, g, h = line[4 : nx + 4], line[5 : nx + 5], line[6 : nx + 6], line[7 : nx + 7]
            for x in range(nx):
                out[x] = (
                    (wx[0] * a[x] + wx[1] * b[x])
                    + (wx[2] * c[x] + wx[3] * d[x])
                    + (wx[4] * e[x] + wx[5] * f[x])
                    + (wx[6] * g[x] + wx[7] * h[x])
                )
        for row in range(stop - start):
            out = total[start + row]
            a, b, c, d = filtered[row], filtered[row + 1], filtered[row + 2], filtered[row + 3]
            e, f, g, h = filtered[row + 4], filtered[row + 5], filtered[row + 6], filtered[row + 7]
            for x in range(nx):
                out[x] += (
                    (wy[0] * a[x] + wy[1] * b[x])
                    + (wy[2] * c[x] + wy[3] * d[x])
                    + (wy[4] * e[x] + wy[5] * f[x])
                    + (wy[6] * g[x] + wy[7] * h[x])
                )
