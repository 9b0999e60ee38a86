"""From the raw image to the live image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.correct import fill, lines, noise, outliers
from streamtomo.correct.binning import bin_image
from streamtomo.correct.camera_map import CameraMap
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
    statistics: noise.Statistics | None = None
    """Of the image as it came; None for one too small to have any."""
    model: noise.NoiseModel | None = None

    def count(self, kind: int) -> int:
        """Pixels of one kind."""
        return int(np.count_nonzero(self.kinds == kind))


def repair(image: NDArray[Any], sigma: float, camera: CameraMap | None = None) -> Repaired:
    """Find outliers beyond `sigma`, and replace them and the camera's defects in a copy of the image `(ny, nx)`.

    Types: int8, uint8, int16, uint16, float32, C-contiguous.
    """
    repaired = image.copy()
    if min(image.shape) < SMALLEST:
        return Repaired(repaired, np.zeros(0, np.int64), np.zeros(0, np.uint8))
    statistics = noise.measure(image)
    model = noise.fit_model(statistics.mean, statistics.variance, image.dtype.kind in "iu")
    known = np.zeros(image.shape, np.uint8)
    if camera is not None:
        known.flat[camera.places] = CAMERA
    lines.mark(known, statistics, model, LINE)
    mask = outliers.find(image, statistics, model, sigma, known)
    places = places_of(mask)
    fill.fill(repaired, mask, places, statistics, model)
    return Repaired(repaired, places, mask.ravel()[places], statistics, model)


def prepare(
    image: NDArray[Any], binning: int, sigma: float, camera: CameraMap | None = None
) -> tuple[NDArray[np.float32], Correction]:
    """Repair outliers beyond `sigma` and bin an image `(ny, nx)` to `(ny // binning, nx // binning)`.

    The image is C-contiguous and writable, of int8, uint8, int16, uint16 or float32; it is not changed.
    """
    return binned(repair(image, sigma, camera), binning, camera)


def binned(repaired: Repaired, binning: int, camera: CameraMap | None = None) -> tuple[NDArray[np.float32], Correction]:
    """A repaired image, binned to `(ny // binning, nx // binning)`, without the camera's gain pattern."""
    image = bin_image(repaired.image, binning)
    if camera is not None:
        camera.flatten(image, binning)
    return image, Correction(
        repaired=len(repaired.places),
        binning=binning,
        mean=float(image.mean(dtype=np.float64)),
        sd=float(image.std(dtype=np.float64)),
        camera=0 if camera is None else camera.tilts,
    )


def live_binning(nx: int, ny: int, size_px: int) -> int:
    """The smallest whole number that brings the longer side to `size_px` or less."""
    return max(1, -(-max(nx, ny) // size_px))
