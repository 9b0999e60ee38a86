"""Sums of a view across a fan of directions."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtomo.jit import parallel_kernel, prange


@parallel_kernel
def lines(image: Any, turns: Any, origin: Any, across: Any, out: Any) -> None:
    """Weighted sums across each direction, `out` float32 `(directions, length)`; image float32 `(ny, nx)`, mean 0.

    `turns` float64 `(directions, 2)`: cosine and sine of the direction; `origin` `(2,)` in array indices; `across`
    float32 `(width,)` weights. Linear interpolation; nothing lies beyond the edges.
    """
    ny, nx = image.shape
    length, width = out.shape[1], across.size
    for k in prange(turns.shape[0]):
        c, s = turns[k, 0], turns[k, 1]
        for j in range(length):
            y, total = j - (length - 1) / 2, np.float32(0.0)
            for i in range(width):
                x = i - (width - 1) / 2
                u, v = origin[0] + c * x - s * y, origin[1] + s * x + c * y
                if u < 0 or v < 0 or u >= nx - 1 or v >= ny - 1:
                    continue
                a, b = int(u), int(v)
                f, g = np.float32(u - a), np.float32(v - b)
                low = image[b, a] + f * (image[b, a + 1] - image[b, a])
                high = image[b + 1, a] + f * (image[b + 1, a + 1] - image[b + 1, a])
                total += across[i] * (low + g * (high - low))
            out[k, j] = total
