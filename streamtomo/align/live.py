"""Live alignment: each tilt is placed against the tilts already there, in any order of angles.

The nearest accepted tilt in angle is stretched across the tilt axis to the new angle, about the place of the specimen's
origin in it, and correlated with the new image. The correlation is then repeated with the reference moved to where it
was found, both images seen through the same window: what only one of them shows no longer pulls the peak.

A stretched view is right for one depth only. From one tilt to the next a feature at depth z moves by `parallax * z`
against the rest, so the peak of a thick specimen is a row of peaks, and the highest of them is now this depth, now
that: the alignment drifts. The repeated correlation is therefore limited to frequencies at which a specimen of
`DEPTH` gives one peak, which lies at the mean depth of what is seen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align.correlate import Band, Peak, correlate, masked, taper
from streamtomo.config import Align
from streamtomo.model import Placement
from streamtomo.resample import warp

Image = NDArray[np.float32]

STEEPEST_DEG = 82.0
"""Tilts beyond this are stretched as if they were this one."""
CLEAR_SCORE = 8.0
CLEAR_AMBIGUITY = 0.75
"""A peak that is lower, or less alone, makes the aligner try the next neighbour."""
NEIGHBOURS = 3
"""Neighbours that are tried."""
NEAR_PX = 12.0
"""Search radius of the repeated correlation, live pixels."""
DEPTH = 0.2
"""Depth of the specimen that is reckoned with, as a fraction of the field's longer side."""
SMEAR = 0.25
"""Cycles over which the features of that depth may spread at the upper edge of the band."""
LOWEST_BAND = Band(low=0.01, high=0.02)
"""The band of the repeated correlation never shrinks below this."""


class _View(NamedTuple):
    angle_deg: float
    image: Image
    shift: geometry.Array
    """Shift of the specimen, live pixels `(x, y)`."""


class _Found(NamedTuple):
    neighbour: int
    shift: geometry.Array
    peak: Peak

    @property
    def is_clear(self) -> bool:
        return self.peak.score >= CLEAR_SCORE and self.peak.ambiguity <= CLEAR_AMBIGUITY


class LiveAligner:
    """Places the tilts of one series, one after the other."""

    def __init__(self, settings: Align, axis_deg: float, binning: int) -> None:
        self.settings = settings
        self.axis_deg = axis_deg
        self.binning = binning
        self._band = Band(settings.band_low, settings.band_high)
        self._views: dict[int, _View] = {}

    def place(self, index: int, angle_deg: float, image: Image) -> Placement:
        """Find where the specimen lies in a binned image `(ny, nx)`; the first one defines the origin."""
        best: _Found | None = None
        for neighbour in self._nearest(index, angle_deg):
            found = self._against(neighbour, angle_deg, image)
            if best is None or found.peak.score > best.peak.score:
                best = found
            if best.is_clear:
                break
        if best is None:
            return Placement(shift_x=0.0, shift_y=0.0, score=0.0, ambiguity=0.0)
        shift = self.binning * best.shift
        step = shift - self.binning * self._views[best.neighbour].shift
        return Placement(
            shift_x=float(shift[0]),
            shift_y=float(shift[1]),
            score=best.peak.score,
            ambiguity=best.peak.ambiguity,
            neighbour=best.neighbour,
            step_x=float(step[0]),
            step_y=float(step[1]),
        )

    def accept(self, index: int, angle_deg: float, image: Image, placement: Placement) -> None:
        """Take a placed tilt as a reference for those to come; the image is kept, not copied."""
        shift = np.array([placement.shift_x, placement.shift_y]) / self.binning
        self._views[index] = _View(_stretchable(angle_deg), image, shift)

    def forget(self, index: int) -> None:
        """Drop a tilt from the references."""
        self._views.pop(index, None)

    def _nearest(self, index: int, angle_deg: float) -> list[int]:
        """Accepted tilts nearest in angle; of equal ones the newest first."""
        others = [other for other in self._views if other != index]
        return sorted(others, key=lambda other: (abs(self._views[other].angle_deg - angle_deg), -other))[:NEIGHBOURS]

    def _against(self, neighbour: int, angle_deg: float, image: Image) -> _Found:
        """Shift of the specimen in `image` by correlation with one neighbour."""
        view = self._views[neighbour]
        ny, nx = image.shape
        reach = (self.settings.max_shift * nx, self.settings.max_shift * ny)
        window = taper(ny, nx)
        reference = self._seen_at(view, angle_deg, view.shift)
        peak = correlate(masked(*reference), masked(image, window), self._band, reach)
        shift = view.shift + np.array([peak.dx, peak.dy])
        band = self._one_peak_band(view.angle_deg, angle_deg, max(nx, ny))
        for _ in range(2):
            moved, visible = self._seen_at(view, angle_deg, shift)
            both = visible * window
            near = correlate(masked(moved, both), masked(image, both), band, (NEAR_PX, NEAR_PX))
            shift = shift + np.array([near.dx, near.dy])
        return _Found(neighbour, shift, peak)

    def _one_peak_band(self, from_deg: float, to_deg: float, field: int) -> Band:
        """The part of the band in which features of different depth still share one peak."""
        spread = DEPTH * field * geometry.parallax(from_deg, _stretchable(to_deg))
        high = min(self._band.high, max(LOWEST_BAND.high, SMEAR / max(spread, 1e-6)))
        return Band(min(self._band.low, LOWEST_BAND.low), high)

    def _seen_at(self, view: _View, angle_deg: float, shift: geometry.Array) -> tuple[Image, Image]:
        """A view as it would look at another angle with the specimen at `shift`, and its window moved with it."""
        transform = geometry.tilt_stretch(self.axis_deg, view.angle_deg, _stretchable(angle_deg))
        transform[:, 2] = shift - transform[:, :2] @ view.shift
        window = taper(*view.image.shape)
        return warp(view.image, transform), warp(window, transform, fill=0.0)


def _stretchable(angle_deg: float) -> float:
    return float(np.clip(angle_deg, -STEEPEST_DEG, STEEPEST_DEG))
