"""From the raw image to the live image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.correct import fill, lines, noise, outliers
from streamtomo.correct.binning import bin_image
from streamtomo.correct.ring import places_of
from streamtomo.model import Correction

SMALLEST = 2 * noise.BLOCK
"""Images with a shorter side are left as they are: there is no noise to measure."""
BRIGHT, DARK, LINE, CAMERA = outliers.BRIGHT, outliers.DARK, 3, 4
"""Marks of repaired pixels: bright hits, dark pixels, rows and columns, pixels known to be the camera's defects."""

Places = NDArray[np.int64]


class Repaired(NamedTuple):
    """An image without its outliers, and where they were."""

    image: NDArray[Any]
    places: Places
    """Flat indices of the pixels replaced, ascending."""
    kinds: NDArray[np.uint8]
    """What each of them was: BRIGHT, DARK, LINE, CAMERA."""

    def count(self, kind: int) -> int:
        """Pixels of one kind."""
        return int(np.count_nonzero(self.kinds == kind))


def repair(image: NDArray[Any], sigma: float) -> Repaired:
    """Find outliers beyond `sigma` and replace them in a copy of the image `(ny, nx)`.

    Types: int8, uint8, int16, uint16, float32, C-contiguous.
    """
    repaired = image.copy()
    if min(image.shape) < SMALLEST:
        return Repaired(repaired, np.zeros(0, np.int64), np.zeros(0, np.uint8))
    statistics = noise.measure(image)
    model = noise.fit_model(statistics.mean, statistics.variance, image.dtype.kind in "iu")
    known = np.zeros(image.shape, np.uint8)
    lines.mark(known, statistics, model, LINE)
    mask = outliers.find(image, statistics, model, sigma, known)
    places = places_of(mask)
    fill.fill(repaired, mask, places, statistics, model)
    return Repaired(repaired, places, mask.ravel()[places])


def prepare(image: NDArray[Any], binning: int, sigma: float) -> tuple[NDArray[np.float32], Correction]:
    """Repair outliers beyond `sigma` and bin an image `(ny, nx)` to `(ny // binning, nx // binning)`.

    The image is C-contiguous and writable, of int8, uint8, int16, uint16 or float32; it is not changed.
    """
    repaired = repair(image, sigma)
    binned = bin_image(repaired.image, binning)
    return binned, Correction(
        repaired=len(repaired.places),
        binning=binning,
        mean=float(binned.mean(dtype=np.float64)),
        sd=float(binned.std(dtype=np.float64)),
    )


def live_binning(nx: int, ny: int, size_px: int) -> int:
    """The smallest whole number that brings the longer side to `size_px` or less."""
    return max(1, -(-max(nx, ny) // size_px))
