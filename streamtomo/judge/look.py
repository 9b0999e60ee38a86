"""What one image looks like: levels, noise, saturation, and which part of the field the beam does not reach."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from streamtomo.judge.ghost import ghost
from streamtomo.judge.spectrum import detail
from streamtomo.model import Look

Image = NDArray[np.float32]
Array = NDArray[np.float64]

CELLS = 32
"""The field is divided into so many cells along each side."""
DARK = 0.5
"""A cell is dark below this fraction of the bright ones' level."""
BRIGHT_SHARE = 0.8
"""The bright cells' level is this quantile of all."""
EVERY = 3
"""Every third row and column is enough for statistics of single pixels."""
EVERY_RAW = 32
"""Every thirty-second raw row tells how many pixels are saturated."""
LEAST_BLOCKED = 0.01
"""A share of the field below this is no shadow: a bead, a corner."""


def look_at(raw: NDArray[np.generic], image: Image, repaired: int, defocus_um: float | None = None) -> Look:
    """The look of a tilt from its raw pixels and its live image `(ny, nx)`, in which so many raw ones were repaired."""
    levels = cells(image)
    bright = float(np.quantile(levels, BRIGHT_SHARE))
    dark = levels < DARK * bright
    edge, inside, side = _shadows(dark)
    few = image[::EVERY, ::EVERY]
    return Look(
        median=float(np.median(few)),
        lit=float(np.median(levels[~dark])) if not dark.all() else bright,
        noise=_noise(image),
        skew=_skew(levels),
        saturated=_saturated(raw),
        repaired=repaired / raw.size,
        blocked=edge,
        blocked_side=side,
        blob=inside,
        spectrum=detail(image),
        ghost=round(ghost(image), 4),
        defocus_um=defocus_um,
    )


def cells(image: Image) -> Array:
    """Means of the cells of a grid over an image `(ny, nx)`, at most CELLS x CELLS; the remainder is left out."""
    ny, nx = image.shape
    by, bx = max(1, ny // CELLS), max(1, nx // CELLS)
    rows, columns = ny // by, nx // bx
    blocks = image[: rows * by, : columns * bx].reshape(rows, by, columns, bx)
    means: Array = blocks.mean(axis=(1, 3), dtype=np.float64)
    return means


def _shadows(dark: NDArray[np.bool_]) -> tuple[float, float, str]:
    """Share of the field in shadows at its edge, share in blobs inside, and the side where the edge's ones lie."""
    if not dark.any():
        return 0.0, 0.0, ""
    labels, _ = ndimage.label(dark)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    at_edge = np.isin(labels, border[border > 0])
    inside = dark & ~at_edge
    edge, blob = float(at_edge.mean()), float(inside.mean())
    side = _side(at_edge) if edge >= LEAST_BLOCKED else ""
    return (edge if side else 0.0), (blob if blob >= LEAST_BLOCKED else 0.0), side


def _side(shadow: NDArray[np.bool_]) -> str:
    y, x = np.nonzero(shadow)
    across, along = x.mean() / (shadow.shape[1] - 1) - 0.5, y.mean() / (shadow.shape[0] - 1) - 0.5
    if abs(across) >= abs(along):
        return "right" if across > 0 else "left"
    return "top" if along > 0 else "bottom"


def _noise(image: Image) -> float:
    """From the median of the differences between neighbours, some of them, which outliers don't move."""
    few = image[::EVERY]
    return float(1.4826 * np.median(np.abs(few[:, 1::EVERY] - few[:, :-1:EVERY])) / np.sqrt(2))


def _skew(levels: Array) -> float:
    sd = float(levels.std())
    return float((((levels - levels.mean()) / sd) ** 3).mean()) if sd > 0 else 0.0


def _saturated(raw: NDArray[np.generic]) -> float:
    """Share of pixels that have the image's highest value; a single hottest pixel is none."""
    few = raw[::EVERY_RAW]
    top = few.max()
    at_end = int(np.count_nonzero(few == top))
    return at_end / few.size if at_end > 1 and top != few.min() else 0.0
