"""Anti-aliased binning with the image's centre kept where it is.

Each output pixel is a Lanczos-3 weighted mean, `w(p) = sinc(p) sinc(p / 3)`, `p` in output pixels, of the input round
it. Output pixel `o` of `m` sits at input position `(n - 1) / 2 + b (o - (m - 1) / 2)`: the centres of both images are
the same point whatever the sizes. Where the rest `n - b m` is odd, that is half-way between the pixels of a plain
block mean; the weights are computed there, and nothing moves. Beyond the edge the last pixel is repeated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.jit import parallel_kernel, prange

LOBES = 3
GROUP = 4
"""Rows that the vertical pass adds at a time."""


def bin_image(image: NDArray[np.generic], binning: int) -> NDArray[np.float32]:
    """Bin an image `(ny, nx)` of int8, uint8, int16, uint16 or float32 to `(ny // binning, nx // binning)`."""
    if binning < 1 or min(image.shape) < binning:
        raise ValueError(f"an image of {image.shape[1]} x {image.shape[0]} pixels cannot be binned by {binning}")
    if binning == 1:
        return image.astype(np.float32)
    ny, nx = image.shape
    binned = np.empty((ny // binning, nx // binning), dtype=np.float32)
    first_y, weights_y = lanczos(ny, binning)
    first_x, weights_x = lanczos(nx, binning)
    _bin(image, binned, np.int64(binning), np.int64(first_y), weights_y, np.int64(first_x), weights_x)
    return binned


def lanczos(n: int, binning: int) -> tuple[int, NDArray[np.float32]]:
    """First input pixel of output pixel 0 (may be negative) and the weights, which all output pixels share.

    Their number is a multiple of `GROUP`, filled with zeros; their sum is 1.
    """
    middle = geometry.centre(n) - binning * geometry.centre(n // binning)
    first = int(np.ceil(middle - LOBES * binning))
    p = (np.arange(first, np.floor(middle + LOBES * binning) + 1) - middle) / binning
    weights = np.sinc(p) * np.sinc(p / LOBES)
    filled = np.zeros(-(-len(p) // GROUP) * GROUP, dtype=np.float32)
    filled[: len(p)] = weights / weights.sum()
    return first, filled


@parallel_kernel
def _bin(image: Any, binned: Any, b: Any, first_y: Any, weights_y: Any, first_x: Any, weights_x: Any) -> Any:
    """Separable weighted sums with stride `b`: image `(ny, nx)` -> `(my, mx)`; rows first, then columns by phase."""
    ny, nx = image.shape
    my, mx = binned.shape
    taps = weights_x.shape[0]
    length = mx + taps // b + 1
    for row in prange(my):
        line = np.zeros(nx, dtype=np.float32)
        for k in range(0, weights_y.shape[0], 4):
            y = first_y + row * b + k
            r0, r1 = image[min(max(y, 0), ny - 1)], image[min(max(y + 1, 0), ny - 1)]
            r2, r3 = image[min(max(y + 2, 0), ny - 1)], image[min(max(y + 3, 0), ny - 1)]
            w0, w1, w2, w3 = weights_y[k], weights_y[k + 1], weights_y[k + 2], weights_y[k + 3]
            for x in range(nx):
                line[x] += (
                    w0 * np.float32(r0[x]) + w1 * np.float32(r1[x]) + w2 * np.float32(r2[x]) + w3 * np.float32(r3[x])
                )
        phases = np.empty((b, length), dtype=np.float32)
        for phase in range(b):
            split = phases[phase]
            for i in range(length):
                split[i] = line[min(max(first_x + i * b + phase, 0), nx - 1)]
        out = binned[row]
        out[:] = 0
        for k in range(taps):
            shifted = phases[k % b, k // b : k // b + mx]
            weight = weights_x[k]
            for x in range(mx):
                out[x] += weight * shifted[x]
