"""Where the beam was blocked: grid bars, the rim of a lamella, the edge of the hole. They must not align the specimen.

The edge of a shadow is stronger than anything in the specimen, and a correlation would follow it. Dark regions are
found in block means and filled with the level of the rest, with a soft edge.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]

BLOCKS = 64
"""Blocks along the longer side."""
DARK = 0.5
"""A block darker than this share of the middle one is shaded."""
EVEN = 0.1
"""Only where most blocks vary less than this can shade be told (annular dark field has no level to speak of)."""
MOST = 0.7
"""With more than this share shaded it is the specimen that is bright."""
WIDEST_BEAD = 5
"""Blocks that a shadow is wide at least, both ways: gold is smaller."""
MARGIN = 2
"""Blocks around a shaded one that are filled, too."""
MAD_TO_SD = 1.4826


def unshaded(image: Image) -> Image:
    """The image `(ny, nx)` with shaded regions filled; the same array where there are none."""
    size = max(2, max(image.shape) // BLOCKS)
    ny, nx = (n // size for n in image.shape)
    means = image[: ny * size, : nx * size].reshape(ny, size, nx, size).mean(axis=(1, 3), dtype=np.float64)
    level = float(np.median(means))
    shaded = _wide(means < DARK * level)
    share = float(shaded.mean())
    if level <= 0 or not 0 < share < MOST:
        return image
    bright = means[~shaded]
    if MAD_TO_SD * float(np.median(np.abs(bright - np.median(bright)))) > EVEN * level:
        return image
    wide = ndimage.binary_dilation(shaded, iterations=MARGIN)
    soft = ndimage.uniform_filter(wide.astype(np.float32), 3, mode="nearest")
    y, x = ((np.arange(n) + 0.5) / size - 0.5 for n in image.shape)
    cover = ndimage.map_coordinates(soft, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest")
    filled: Image = image + cover * (np.float32(np.median(bright)) - image)
    return filled


def _wide(dark: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Dark blocks `(my, mx)` less the small groups; what touches the edge goes on beyond it."""
    padded = np.pad(dark, WIDEST_BEAD, mode="edge")
    opened = ndimage.binary_opening(padded, np.ones((WIDEST_BEAD, WIDEST_BEAD)))
    wide: NDArray[np.bool_] = opened[WIDEST_BEAD:-WIDEST_BEAD, WIDEST_BEAD:-WIDEST_BEAD]
    return wide
