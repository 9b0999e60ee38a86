"""Kernels of the patches: cut out of views, and the peaks of their correlations."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtomo.align.peak_kernels import vertex
from streamtomo.jit import kernel, parallel_kernel, prange
from streamtomo.resample import warp_small


@kernel
def _flatten(patch: Any, window: Any) -> None:
    """Take off the weighted mean, multiply by the window `(size, size)`, scale to unit power."""
    total, weighted = 0.0, 0.0
    for y in range(window.shape[0]):
        for x in range(window.shape[1]):
            total += window[y, x]
            weighted += window[y, x] * patch[y, x]
    level, power = np.float32(weighted / total), 0.0
    for y in range(window.shape[0]):
        for x in range(window.shape[1]):
            patch[y, x] = (patch[y, x] - level) * window[y, x]
            power += patch[y, x] * patch[y, x]
    scale = np.float32(1 / np.sqrt(power)) if power > 0 else np.float32(0)
    for y in range(window.shape[0]):
        for x in range(window.shape[1]):
            patch[y, x] *= scale


@parallel_kernel
def add_patches(image: Any, inverse: Any, places: Any, rows: Any, window: Any, level: Any, out: Any) -> None:
    """Add to `out[rows[k]]` the patch of `image` about `places[k]`, as it looks through the window, of unit power.

    `image` float32 `(ny, nx)`; `inverse` float64 `(2, 2)` from patch to image; `places` `(n, 2)` pixels about the
    image's centre; `rows` int64 `(n,)`, each once; `window` float32 `(size, size)`; `out` float32 `(m, size, size)`.
    """
    size = window.shape[0]
    for k in prange(places.shape[0]):
        half = (size - 1) / 2
        index = np.empty((2, 3))
        index[:, :2] = inverse
        index[0, 2] = (image.shape[1] - 1) / 2 + places[k, 0] - (inverse[0, 0] + inverse[0, 1]) * half
        index[1, 2] = (image.shape[0] - 1) / 2 + places[k, 1] - (inverse[1, 0] + inverse[1, 1]) * half
        patch = np.empty((size, size), np.float32)
        warp_small(image, index, level, patch)
        _flatten(patch, window)
        out[rows[k]] += patch


@parallel_kernel
def peaks(surfaces: Any, reach: Any, own: Any, out: Any) -> None:
    """The highest peak within `reach` of shift zero, as `correlate.best_peak` has it: x, y, score in `out` `(n, 3)`.

    `surfaces` float32 `(n, size, size)`, shift zero at `[0, 0]`; `own`: radius of what belongs to one peak.
    """
    size = surfaces.shape[1]
    middle = size // 2
    for k in prange(surfaces.shape[0]):
        surface = surfaces[k]
        px, py, best = 0, 0, np.float32(-np.inf)
        for y in range(-int(reach), int(reach) + 1):
            for x in range(-int(reach), int(reach) + 1):
                if x * x + y * y <= reach * reach and surface[y, x] > best:
                    px, py, best = x, y, surface[y, x]
        total, square, n = 0.0, 0.0, 0
        for y in range(-middle, size - middle):
            for x in range(-middle, size - middle):
                if (x - px) ** 2 + (y - py) ** 2 > own * own:
                    total, square, n = total + surface[y, x], square + surface[y, x] ** 2, n + 1
        mean = total / n
        sd = np.sqrt(max(square / n - mean * mean, 0.0))
        around = np.empty((3, 3))
        for dy in range(3):
            for dx in range(3):
                around[dy, dx] = surface[(py + dy - 1) % size, (px + dx - 1) % size]
        fx, fy = vertex(around)
        out[k, 0], out[k, 1], out[k, 2] = px + fx, py + fy, (best - mean) / sd if sd > 0 else 0.0
