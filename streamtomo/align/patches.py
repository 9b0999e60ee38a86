"""Patches of the specimen followed from view to view.

The sum of a few views of a patch, each stretched to the new tilt about the patch's own centre, is correlated with the
new view where the model expects it. A patch has one depth of its own, so the drift that comes of correlating whole
views, which follow now this depth and now that, does not come in. Positions are pixels about the image's centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo import geometry
from streamtomo.align import patch_kernels
from streamtomo.align.correlate import Band, band_pass, taper

Image = NDArray[np.float32]
Array = NDArray[np.float64]

SIZE_SHARE = 0.17
"""Side of a patch as a share of the field's shorter side."""
LEAST_SIZE_PX = 48
SPACING = 0.85
"""Distance between patches in patch sides."""
COVERED = 0.8
"""A patch is followed while so much of its side is in the view."""
REACH_PX = 16.0
LEAST_SCORE = 4.0
COARSE = 4
"""Pixels of noise that are averaged before a patch's contrast is measured."""
LEAST_CONTRAST = 0.15
"""A patch with less than this share of the best one's contrast is empty."""
LOW_BAND = 1.5
"""Lower edge of the band, in cycles per patch."""


class Frame(NamedTuple):
    """A view in which patches are looked at."""

    image: Image
    level: float
    """Mean of the image, which fills what lies beyond its edges."""
    tilt_deg: float
    axis_deg: float


class Sights(NamedTuple):
    """Patches seen in a view: their rows among all that are looked for, `(n,)`, and where they are, `(n, 2)`."""

    frame: Frame
    rows: NDArray[np.int64]
    xy: Array


def frame_of(image: Image, tilt_deg: float, axis_deg: float) -> Frame:
    """A frame with its level."""
    return Frame(image, float(image.mean(dtype=np.float64)), tilt_deg, axis_deg)


class Finder:
    """Finds patches of one size in one band."""

    def __init__(self, size: int, band: Band) -> None:
        self.size = size
        self.window = taper(size, size)
        self.band = Band(max(band.low, LOW_BAND / size), band.high)
        self.reach = min(REACH_PX, size / 4)

    def find(self, known: Sequence[Sights], frame: Frame, expected: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Patches near where they are expected `(n, 2)` in another view: where `(n, 2)`, and which of them are clear.

        `known`: for each of some views which of the patches it shows, and where. Their sum is what is looked for.
        """
        seen = np.zeros((2, len(expected), self.size, self.size), np.float32)
        for sights in known:
            self._add(sights, frame.tilt_deg, seen[0])
        self._add(Sights(frame, np.arange(len(expected)), expected), frame.tilt_deg, seen[1])
        reference, here = fft.rfft2(seen)
        product = np.conjugate(reference, out=reference)
        product *= here
        product *= band_pass(self.size, self.size, self.band)
        found = np.empty((len(expected), 3))
        patch_kernels.peaks(fft.irfft2(product, s=self.window.shape), self.reach, self.band.reach, found)
        clear = (found[:, 2] >= LEAST_SCORE) & (np.hypot(found[:, 0], found[:, 1]) <= 0.95 * self.reach)
        return expected + found[:, :2], clear

    def covers(self, frame: Frame, xy: Array) -> NDArray[np.bool_]:
        """Whether enough of the patches at `xy` `(n, 2)` lies in the view."""
        room = np.array(frame.image.shape[::-1]) / 2 - np.abs(xy)
        return np.asarray((room > (COVERED - 0.5) * self.size).all(axis=1))

    def _add(self, sights: Sights, tilt_deg: float, total: Image) -> None:
        """Add to `total` `(patches, size, size)` patches as they would look at another tilt, tapered, of unit power."""
        frame, rows, xy = sights
        inverse = geometry.tilt_stretch(frame.axis_deg, tilt_deg, frame.tilt_deg)[:, :2]
        places = np.ascontiguousarray(xy, dtype=np.float64)
        level, image = np.float32(frame.level), np.ascontiguousarray(frame.image)
        patch_kernels.add_patches(image, np.ascontiguousarray(inverse), places, rows, self.window, level, total)


def size_for(shape_yx: tuple[int, ...]) -> int:
    """Side of the patches for views of a shape."""
    return max(LEAST_SIZE_PX, int(SIZE_SHARE * min(shape_yx)) // 16 * 16)


def grid(shape_yx: tuple[int, ...], size: int) -> Array:
    """Centres `(n, 2)` of patches that lie wholly in the view."""
    sides = []
    for n in shape_yx[::-1]:
        half = max(0.0, (n - 1.1 * size) / 2)
        sides.append(np.linspace(-half, half, max(1, int(2 * half / (SPACING * size)) + 1)))
    return np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)


def with_contrast(image: Image, places: Array, size: int) -> Array:
    """Those of the places `(n, 2)` whose patch shows something, measured by the one that shows most."""
    ny, nx = (n // COARSE for n in image.shape)
    small = image[: ny * COARSE, : nx * COARSE].reshape(ny, COARSE, nx, COARSE).mean(axis=(1, 3), dtype=np.float32)
    half = max(1, size // (2 * COARSE))
    corners = (places + np.array(image.shape[::-1]) / 2) // COARSE
    contrast = np.zeros(len(places))
    for n, (x, y) in enumerate(corners.astype(int)):
        contrast[n] = small[max(0, y - half) : y + half, max(0, x - half) : x + half].std()
    showing: Array = places[contrast >= LEAST_CONTRAST * contrast.max(initial=0.0)]
    return showing
