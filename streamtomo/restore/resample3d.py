"""A volume sampled anew under an affine transform, by cubic convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtomo.jit import kernel, parallel_kernel, prange


@kernel
def _cubic(f: Any) -> Any:
    """The four weights of cubic convolution (Keys 1981, a = -1/2) at a fraction beyond the second sample."""
    w0 = 0.5 * f * (f * (2.0 - f) - 1.0)
    w1 = 0.5 * (f * f * (3.0 * f - 5.0) + 2.0)
    w2 = 0.5 * f * (f * (4.0 - 3.0 * f) + 1.0)
    return np.float32(w0), np.float32(w1), np.float32(w2), np.float32(0.5 * f * f * (f - 1.0))


@kernel
def _sample(volume: Any, u: Any, v: Any, w: Any) -> Any:
    """The value at x, y, z = `u v w`; beyond the faces these repeat."""
    nz, ny, nx = volume.shape
    i, j, k = int(np.floor(u)), int(np.floor(v)), int(np.floor(w))
    wx, wy, wz = _cubic(u - i), _cubic(v - j), _cubic(w - k)
    total = np.float32(0)
    i0, i1, i2, i3 = max(i - 1, 0), max(i, 0), min(i + 1, nx - 1), min(i + 2, nx - 1)
    for c in range(4):
        z = min(max(k - 1 + c, 0), nz - 1)
        plane = np.float32(0)
        for r in range(4):
            row = volume[z, min(max(j - 1 + r, 0), ny - 1)]
            plane += wy[r] * (wx[0] * row[i0] + wx[1] * row[i1] + wx[2] * row[i2] + wx[3] * row[i3])
        total += wz[c] * plane
    return total


@parallel_kernel
def resample(volume: Any, to_volume: Any, out: Any, inside: Any) -> None:
    """`out[z, y, x] = volume(to_volume @ (x, y, z, 1))` by cubic convolution, and whether it lies within `volume`.

    `to_volume` float64 `(3, 4)`: indices x, y, z of `out` to those of `volume`. Outside 0.
    """
    nz, ny, nx = volume.shape
    m = to_volume
    for z in prange(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                u = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
                v = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
                w = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
                within = u >= 0 and u <= nx - 1 and v >= 0 and v <= ny - 1 and w >= 0 and w <= nz - 1
                inside[z, y, x] = within
                out[z, y, x] = _sample(volume, u, v, w) if within else np.float32(0)
