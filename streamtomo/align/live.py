"""Live alignment: each tilt is placed against the tilts already there, in any order of angles.

The nearest accepted tilt in angle is stretched across the tilt axis to the new angle, about the place of the specimen's
origin in it, and correlated with the new image. The correlation is then repeated with the reference moved to where it
was found, both images seen through the same window: what only one of them shows no longer pulls the peak.

A stretched view is right for one depth only. From one tilt to the next a feature at depth z moves by `parallax * z`
against the rest, so the peak of a thick specimen is a row of peaks, and the highest of them is now this depth, now
that: the alignment drifts. The repeated correlation is therefore limited to frequencies at which a specimen of
`DEPTH` gives one peak, which lies at the mean depth of what is seen. What drift is left, patches take out
(`patch_tracks`), each of which has one depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import common_lines
from streamtomo.align.correlate import Band, Peak, correlate, masked, taper
from streamtomo.align.patch_tracks import Memory, PatchTracks
from streamtomo.align.places import in_frame, nearness, own_order
from streamtomo.align.shade import unshaded
from streamtomo.config import Align
from streamtomo.geometry import wrap_angle
from streamtomo.model import Placement
from streamtomo.resample import warp

Image = NDArray[np.float32]

STEEPEST_DEG = 82.0
"""Tilts beyond this are stretched as if they were this one."""
CLEAR_SCORE = 8.0
CLEAR_AMBIGUITY = 0.75
"""A peak that is lower, or less alone, makes the aligner try the next neighbour."""
NEIGHBOURS = 3
"""Neighbours that are tried one by one."""
TOGETHER = 5
"""Tilts whose sum is tried when no single one gives a clear peak."""
USUAL_SHIFT = 0.03
"""Shifts between neighbouring tilts are mostly shorter than this fraction of the field."""
REFINEMENTS = 1
NEAR_PX = 12.0
"""Search radius of the repeated correlation, live pixels."""
DEPTH = 0.2
"""Depth of the specimen that is reckoned with, as a fraction of the field's longer side."""
SMEAR = 0.25
"""Cycles over which the features of that depth may spread at the upper edge of the band."""
LEAST_SCORE = 6.0
"""A peak lower than this is no start for following patches."""
AXIS_LOOKS = frozenset({9, 14, 17, 21, 26, 32, 40, 48, 60, 72, 90, 108, 135, 162, 200, 243})
"""Numbers of views at which the tilt axis is measured."""
WORSE = 1.05
"""What the nominal axis leaves must be so much more than what the measured one does for that to take its place."""
ROUGHLY_DEG = 2.0
"""Common lines are that good, early in a series."""
LEAST_TURN_DEG = 1.0
"""Half a degree is the error of a measured axis, early in a series."""
PATCH_BAND = Band(0.01, 0.15)
LOWEST_BAND = Band(low=0.01, high=0.02)
"""The band of the repeated correlation never shrinks below this."""


class _View(NamedTuple):
    angle_deg: float
    image: Image
    shift: geometry.Array
    """Shift of the specimen, live pixels `(x, y)`."""
    unshaded: bool
    """Whether the image is another one than was given."""


class _Found(NamedTuple):
    neighbours: list[int]
    """The tilts correlated with, the nearest first."""
    shift: geometry.Array
    peak: Peak

    @property
    def is_clear(self) -> bool:
        return self.peak.score >= CLEAR_SCORE and self.peak.ambiguity <= CLEAR_AMBIGUITY

    @property
    def is_start(self) -> bool:
        return self.peak.score >= LEAST_SCORE


class Interrupted(Exception):
    """Something more urgent came while a tilt was placed; nothing was changed."""


class LiveAligner:
    """Places the tilts of one series, one after the other."""

    def __init__(self, settings: Align, axis_deg: float, binning: int, *, measure_axis: bool = True) -> None:
        self.settings = settings
        self.interrupted: Callable[[], bool] = lambda: False
        """Asked between the parts of `place`, which raises `Interrupted` then."""
        self._nominal_deg, self._measures_axis = axis_deg, measure_axis
        self.binning = binning
        self._band = Band(settings.band_low, settings.band_high)
        self._views: dict[int, _View] = {}
        self._last: tuple[Image, Image] | None = None
        self._patches = PatchTracks(axis_deg, PATCH_BAND, self._check)

    def place(self, index: int, angle_deg: float, image: Image) -> Placement:
        """Find where the specimen lies in a binned image `(ny, nx)`; the first one defines the origin."""
        best: _Found | None = None
        image = self._unshaded(image)
        for neighbours in self._references(index, angle_deg):
            found = self._search(neighbours, angle_deg, image)
            if best is None or found.peak.score > best.peak.score:
                best = found
            self._check()
            if best.is_clear:
                break
        if best is None:
            return Placement(shift_x=0.0, shift_y=0.0, score=0.0, ambiguity=0.0)
        neighbour = best.neighbours[0]
        shift = self._refined(best, angle_deg, image)
        self._check()
        followed = self._patches.place(index, _stretchable(angle_deg), image, shift) if best.is_start else None
        shift = self.binning * (shift if followed is None else followed)
        step = shift - self.binning * self._views[neighbour].shift
        return Placement(
            shift_x=float(shift[0]),
            shift_y=float(shift[1]),
            score=best.peak.score,
            ambiguity=best.peak.ambiguity,
            credible=best.is_clear or followed is not None,
            neighbour=neighbour,
            step_x=float(step[0]),
            step_y=float(step[1]),
        )

    def _check(self) -> None:
        if self.interrupted():
            raise Interrupted

    @property
    def axis_deg(self) -> float:
        """The tilt axis by which views are placed: the nominal one, until a clearly better one was measured."""
        return self._patches.axis_deg

    def knows(self, index: int) -> bool:
        """Whether a tilt was accepted."""
        return index in self._views

    def shift_of(self, index: int) -> tuple[float, float]:
        """Where the specimen lies in an accepted tilt by all that is known now, raw pixels."""
        x, y = self.binning * self._views[index].shift
        return float(x), float(y)

    def accept(self, index: int, angle_deg: float, image: Image, placement: Placement) -> None:
        """Take a placed tilt as a reference for those to come; the image is kept."""
        shift = np.array([placement.shift_x, placement.shift_y]) / self.binning
        given, image = image, self._unshaded(image)
        self._take(index, _View(_stretchable(angle_deg), image, shift, unshaded=image is not given))
        if self._measures_axis and len(self._views) in AXIS_LOOKS:
            self._look_at_axis()

    def _look_at_axis(self) -> None:
        """Place all views anew where the axis is clearly another one; by that one patches may tell it better."""
        for measured in (self._measured_axis, self._axis_by_patches):
            axis_deg = measured()
            if axis_deg is None or abs(wrap_angle(axis_deg - self.axis_deg)) < LEAST_TURN_DEG:
                return
            self._turn(axis_deg)

    def _take(self, index: int, view: _View) -> None:
        self._views[index] = view
        self._patches.accept(index, view.angle_deg, view.image, view.shift)
        self._move(self._patches.shifts)

    def _move(self, shifts: Mapping[int, geometry.Array]) -> None:
        for index, shift in shifts.items():
            self._views[index] = self._views[index]._replace(shift=shift)

    def _measured_axis(self) -> float | None:
        """The tilt axis, where it is clearly not the one by which views are placed.

        Common lines tell it whatever the views show, but only to a degree or two; patches tell it well, but with a
        wrong axis they may not have been followed.
        """
        fine, rough = self._axis_by_patches(), self._rough_axis()
        if fine is None or rough is None:
            return rough if fine is None else fine
        return fine if abs(wrap_angle(fine - rough)) < common_lines.STEP_DEG else rough

    def _axis_by_patches(self) -> float | None:
        found, is_nominal = self._patches.measured_axis(), self.axis_deg == self._nominal_deg
        if found is None or (is_nominal and found.nominal_px < WORSE * found.left_px):
            return None
        return found.deg

    def _rough_axis(self) -> float | None:
        views = [common_lines.View(view.angle_deg, view.image, view.shift) for view in self._views.values()]
        rough = common_lines.better_axis(views, self._nominal_deg)
        return rough if rough is not None and abs(wrap_angle(rough - self.axis_deg)) >= ROUGHLY_DEG else None

    def _turn(self, axis_deg: float) -> None:
        """Go on with another tilt axis: all views are placed anew by it, in an order of their own."""
        before, self._views = self._views, {}
        self._patches = PatchTracks(axis_deg, PATCH_BAND, self._check)
        angles = {index: view.angle_deg for index, view in before.items()}
        for index in own_order(angles):
            at = self.place(index, angles[index], before[index].image)
            shift = np.array([at.shift_x, at.shift_y]) / self.binning
            found = at.credible and at.neighbour is not None
            self._take(index, before[index]._replace(shift=shift if found else before[index].shift))
        here, there = ({i: tuple(view.shift) for i, view in views.items()} for views in (self._views, before))
        moved = {index: np.array(shift) for index, shift in in_frame(here, there, angles, axis_deg).items()}
        self._patches.shifts = moved
        self._move(moved)

    @property
    def nbytes(self) -> int:
        """Memory held by images beyond those given to `accept`: those with a shadow are kept without it."""
        return sum(view.image.nbytes for view in self._views.values() if view.unshaded)

    def memory(self) -> Memory:
        """What is to be kept, beside the images, for `recall`."""
        return self._patches.memory()

    def recall(self, memory: Memory, views: dict[int, tuple[float, Image]]) -> None:
        """Stand where another one stood; `views` are angle (degrees) and image of each tilt that it accepted."""
        seen = {index: (_stretchable(angle), self._unshaded(image)) for index, (angle, image) in views.items()}
        self._patches.recall(memory, seen)
        for index, shift in self._patches.shifts.items():
            self._views[index] = _View(*seen[index], shift, unshaded=seen[index][1] is not views[index][1])

    def forget(self, index: int) -> None:
        """Drop a tilt from the references."""
        self._views.pop(index, None)
        self._patches.forget(index)

    def _unshaded(self, image: Image) -> Image:
        """The image without shadows; the answer for the image asked for last is kept."""
        if self._last is None or self._last[0] is not image:
            self._last = (image, unshaded(image))
        return self._last[1]

    def _references(self, index: int, angle_deg: float) -> list[list[int]]:
        """Sets of accepted tilts to correlate with, in the order of trying.

        First the tilts nearest in angle one by one, then several together: their sum has less noise.
        """
        others = [other for other in self._views if other != index]
        nearest = sorted(others, key=lambda other: nearness(self._views[other].angle_deg, angle_deg, other))
        together = [nearest[:TOGETHER]] if len(nearest) > 1 else []
        return [[one] for one in nearest[:NEIGHBOURS]] + together

    def _search(self, neighbours: list[int], angle_deg: float, image: Image) -> _Found:
        """Shift of the specimen in `image` by correlation with the sum of neighbours, anywhere in the search range."""
        ny, nx = image.shape
        reach = (self.settings.max_shift * nx, self.settings.max_shift * ny)
        shift = self._views[neighbours[0]].shift
        reference = masked(*self._seen_at(neighbours, angle_deg, shift))
        flat = masked(image, taper(ny, nx))
        peak = correlate(reference, flat, self._band, reach, USUAL_SHIFT * max(nx, ny))
        return _Found(neighbours, shift + np.array([peak.dx, peak.dy]), peak)

    def _refined(self, found: _Found, angle_deg: float, image: Image) -> geometry.Array:
        """The shift found, measured again where the views overlap and in the band that sees one depth."""
        shift, window = found.shift, taper(*image.shape)
        nearest = self._views[found.neighbours[0]].angle_deg
        band = self._one_peak_band(nearest, angle_deg, max(image.shape))
        for _ in range(REFINEMENTS):
            reference, visible = self._seen_at(found.neighbours, angle_deg, shift)
            both = visible * window
            near = correlate(masked(reference, both), masked(image, both), band, (NEAR_PX, NEAR_PX))
            shift = shift + np.array([near.dx, near.dy])
        return shift

    def _one_peak_band(self, from_deg: float, to_deg: float, field: int) -> Band:
        """The part of the band in which features of different depth still share one peak."""
        spread = DEPTH * field * geometry.parallax(from_deg, _stretchable(to_deg))
        high = min(self._band.high, max(LOWEST_BAND.high, SMEAR / max(spread, 1e-6)))
        return Band(min(self._band.low, LOWEST_BAND.low), high)

    def _seen_at(self, views: list[int], angle_deg: float, shift: geometry.Array) -> tuple[Image, Image]:
        """Views as they would look at another angle with the specimen at `shift`: their sum, their common window."""
        total, common = self._moved(self._views[views[0]], angle_deg, shift)
        for other in views[1:]:
            image, window = self._moved(self._views[other], angle_deg, shift)
            total, common = total + image, common * window
        return total, common

    def _moved(self, view: _View, angle_deg: float, shift: geometry.Array) -> tuple[Image, Image]:
        """One view and its window, stretched to another angle about the specimen's origin and moved to `shift`."""
        transform = geometry.tilt_stretch(self.axis_deg, view.angle_deg, _stretchable(angle_deg))
        transform[:, 2] = shift - transform[:, :2] @ view.shift
        return warp(view.image, transform), warp(taper(*view.image.shape), transform, fill=0.0)


def _stretchable(angle_deg: float) -> float:
    return float(np.clip(angle_deg, -STEEPEST_DEG, STEEPEST_DEG))
