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

from streamtomo import geometry
from streamtomo.align.correlate import Band, correlate, masked, taper
from streamtomo.resample import warp

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


class Sight(NamedTuple):
    """A patch seen in a view, `xy` `(2,)`."""

    frame: Frame
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

    def find(self, known: Sequence[Sight], frame: Frame, expected: Array) -> Sight | None:
        """The patch that `known` shows, near where it is expected in another view; None if it is not clear."""
        reference = np.zeros((self.size, self.size), np.float32)
        for sight in known:
            reference += self._seen(sight, frame.tilt_deg)
        here = self._seen(Sight(frame, expected), frame.tilt_deg)
        peak = correlate(reference, here, self.band, (self.reach, self.reach))
        if peak.score < LEAST_SCORE or np.hypot(peak.dx, peak.dy) > 0.95 * self.reach:
            return None
        return Sight(frame, expected + np.array([peak.dx, peak.dy]))

    def covers(self, frame: Frame, xy: Array) -> bool:
        """Whether enough of a patch at `xy` lies in the view."""
        room = np.array(frame.image.shape[::-1]) / 2 - np.abs(xy)
        return bool((room > (COVERED - 0.5) * self.size).all())

    def _seen(self, sight: Sight, tilt_deg: float) -> Image:
        """The patch `(size, size)` as it would look at another tilt, tapered, of unit power."""
        frame = sight.frame
        transform = geometry.tilt_stretch(frame.axis_deg, frame.tilt_deg, tilt_deg)
        transform[:, 2] = -transform[:, :2] @ sight.xy
        return masked(warp(frame.image, transform, (self.size, self.size), fill=frame.level), self.window)


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
