"""How deep the tomogram must be: the planes in which two quick, small reconstructions agree.

Both halves of the views show the specimen where it is. Above and below it each view's rays run apart: there the halves
show different streaks, which agree by chance only, or are each other's opposite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamtomo.reconstruct.filters import Filtering
from streamtomo.reconstruct.wbp import reconstruct

EDGE_LEVEL = 0.1
"""A plane belongs to the specimen while the halves' covariance is this share of its largest value."""
LEAST_CORRELATION = 0.05
"""Halves that agree less than this in every plane show nothing."""
STRONGEST = 99.0
"""Percentile at which values are cut: gold must not outshine the rest."""
MARGIN = 1.25
"""The tomogram is so many times deeper than the specimen."""


def default_depth(shape_yx: tuple[int, ...]) -> int:
    """Sections where nothing better is known: 0.3 of the longer side, even."""
    return max(2, round(0.3 * max(shape_yx) / 2) * 2)


def find_depth(small: NDArray[np.float32], tilts_deg: Sequence[float]) -> float | None:
    """Half the depth, about the tilt axis, in which the specimen lies, in pixels of small views; None: none is seen.

    `small` is `(n, ny, nx)`, aligned, in ascending tilt.
    """
    if len(small) < 4:
        return None
    agreement = _agreement(small, tilts_deg)
    if agreement.max() < LEAST_CORRELATION:
        return None
    first, last = run_about_maximum(agreement > EDGE_LEVEL * agreement.max(), int(agreement.argmax()))
    middle = (len(agreement) - 1) / 2
    return max(abs(first - middle), abs(last - middle)) + 0.5


def deep_enough(half_px: float, shape_yx: tuple[int, ...]) -> int:
    """Sections, even, that hold what reaches `half_px` above and below the middle, with a margin."""
    return int(min(max(shape_yx), max(16, round(MARGIN * 2 * half_px)))) // 2 * 2


def run_about_maximum(inside: NDArray[np.bool_], top: int) -> tuple[int, int]:
    """First and last of the planes around `top` that are inside; a single one that is not does not end the run."""
    ends = []
    for step in (-1, 1):
        z = top
        while 0 <= z + step < len(inside) and (inside[z + step] or inside[z + step : z + 3 * step : step].any()):
            z += step
        ends.append(z if inside[z] else z - step)
    return ends[0], ends[1]


def _agreement(small: NDArray[np.float32], tilts_deg: Sequence[float]) -> NDArray[np.float64]:
    """Covariance of the volumes from even and odd views in each z plane, over the largest variance of a plane."""
    even, odd = _middle(small[::2], tilts_deg[::2]), _middle(small[1::2], tilts_deg[1::2])
    covariance = (even * odd).mean(axis=(0, 2), dtype=np.float64)
    variance = np.sqrt((even**2).mean(axis=(0, 2), dtype=np.float64) * (odd**2).mean(axis=(0, 2), dtype=np.float64))
    return np.asarray(covariance / (variance[int(covariance.argmax())] or 1.0), np.float64)


def _middle(small: NDArray[np.float32], tilts_deg: Sequence[float]) -> NDArray[np.float32]:
    """The middle of a cube over the small views, `(ny, nz, nx)`, each plane's mean removed, strong values cut."""
    nz = max(small.shape[1:]) // 2 * 2
    slabs = reconstruct(np.ascontiguousarray(small), tilts_deg, nz, filtering=Filtering(0.25, 0.1))
    volume = np.concatenate([slab for _, slab in slabs])
    ny, _, nx = volume.shape
    middle = volume[ny // 8 : ny - ny // 8, :, nx // 5 : nx - nx // 5]
    middle = middle - middle.mean(axis=(0, 2), keepdims=True)
    limit = np.float32(np.percentile(np.abs(middle), STRONGEST))
    return np.asarray(np.clip(middle, -limit, limit), np.float32)
