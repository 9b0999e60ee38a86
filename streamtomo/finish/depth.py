"""How deep the tomogram must be: found from the contrast of a quick, small reconstruction, plane by plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamtomo.reconstruct.wbp import reconstruct

SMALL_SIDE_PX = 192
"""Longer side of the small reconstruction."""
LEAST_RISE = 1.5
"""The specimen's planes must have so many times the variance of the emptiest ones, or its depth is not found."""
EDGE_LEVEL = 0.2
"""A plane belongs to the specimen while its variance is this far up between the emptiest and the fullest planes."""
MARGIN = 1.25
"""The tomogram is so many times deeper than the specimen."""


def default_depth(shape_yx: tuple[int, ...]) -> int:
    """Sections where nothing better is known: 0.3 of the longer side, even."""
    return max(2, round(0.3 * max(shape_yx) / 2) * 2)


def find_depth(stack: NDArray[np.float32], tilts_deg: Sequence[float]) -> int | None:
    """Sections, centred on the tilt axis, that hold the specimen with a margin; even. None where it cannot be told.

    `stack` is `(n, ny, nx)`, aligned. The contrast of a plane is the variance of its middle after smoothing: noise is
    alike in all planes, the specimen's density is not.
    """
    factor = max(1, max(stack.shape[1:]) // SMALL_SIDE_PX)
    small = _shrunk(stack, factor)
    variance = _plane_variance(small, tilts_deg)
    inside = _filled_planes(variance)
    if inside is None:
        return None
    middle = (len(variance) - 1) / 2
    half = max(abs(inside[0] - middle), abs(inside[1] - middle)) + 0.5
    deepest = max(stack.shape[1:])
    return int(min(deepest, max(16, round(MARGIN * 2 * half * factor)))) // 2 * 2


def _filled_planes(variance: NDArray[np.float64]) -> tuple[int, int] | None:
    """First and last plane of the specimen; None where no planes stand out.

    Only planes between the emptiest ones on both sides of the fullest count: far from the specimen, where views no
    longer overlap, the variance rises again. Gold fills a few planes far more than the rest, hence the median.
    """
    top = int(variance.argmax())
    low, high = int(variance[: top + 1].argmin()), top + int(variance[top:].argmin())
    empty = max(variance[low], variance[high])
    between = np.arange(low, high + 1)
    raised = between[variance[between] > LEAST_RISE * empty]
    if not len(raised):
        return None
    full = float(np.median(variance[raised]))
    inside = raised[variance[raised] > empty + EDGE_LEVEL * (full - empty)]
    return int(inside[0]), int(inside[-1])


def _shrunk(stack: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    n, ny, nx = stack.shape
    cut = stack[:, : ny // factor * factor, : nx // factor * factor]
    blocks = cut.reshape(n, ny // factor, factor, nx // factor, factor)
    return np.ascontiguousarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def _plane_variance(small: NDArray[np.float32], tilts_deg: Sequence[float]) -> NDArray[np.float64]:
    """Variance of each z plane of a cube over the small stack, in its middle and after smoothing over 3 planes."""
    nz = max(small.shape[1:]) // 2 * 2
    slabs = [slab for _, slab in reconstruct(small, tilts_deg, nz, cutoff=0.25, falloff=0.1)]
    volume = np.concatenate(slabs)  # (ny, nz, nx)
    ny, _, nx = volume.shape
    middle = volume[ny // 8 : ny - ny // 8, :, nx // 5 : nx - nx // 5]
    smooth = (middle[:, :-2] + middle[:, 1:-1] + middle[:, 2:]) / 3
    variance = smooth.var(axis=(0, 2), dtype=np.float64)
    return np.pad(variance, 1, mode="edge")
