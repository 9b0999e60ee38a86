"""What is measured of a new tilt beside its place: the focus of its rings, and whether it shows what others show.

A shell: it cuts and bins, and knows which images there are; the measures are the judge's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align.live import STEEPEST_DEG, LiveAligner
from streamtomo.config import Acquisition
from streamtomo.judge import defocus
from streamtomo.judge.agreement import agreement
from streamtomo.judge.beads import SeenAgain
from streamtomo.judge.blocks import block_sums
from streamtomo.judge.change import binning_for, changed
from streamtomo.lens import Microscope
from streamtomo.livebeads import LiveBeads
from streamtomo.model import Placement, Tilt

Image = NDArray[np.float32]

COMPARED = 3
"""Tilts nearest in angle with which a new one is compared, one after the other ..."""
CLEAR_AGREEMENT = 0.25
"""... until one agrees so well."""


def defocus_of(
    raw: NDArray[np.generic], tilt_deg: float, axis_deg: float, pixel_A: float | None, scope: Acquisition
) -> float | None:
    """Underfocus of a raw image on the tilt axis, µm; None where its pixels are too coarse, or nothing is seen."""
    if not pixel_A:
        return None
    binning = defocus.binning_for(pixel_A)
    at = defocus.places((raw.shape[0], raw.shape[1]), pixel_A, axis_deg, tilt_deg)
    tiles = [defocus.tile_of(raw, place, binning) for place in at]
    microscope = Microscope(scope.voltage_kV, scope.cs_mm, scope.amplitude_contrast)
    return defocus.quick_defocus(tiles, pixel_A * binning, microscope)


class Recogniser:
    """Compares the tilts of one series; lengths are live pixels."""

    def __init__(
        self,
        aligner: LiveAligner,
        images: Mapping[int, Image],
        views: Mapping[int, tuple[float, Placement]],
        bead_radius_px: float | None,
    ) -> None:
        """`images` and `views` (angle and placement) are those of the accepted tilts, by index, as they become more."""
        self._aligner, self._images, self._views = aligner, images, views
        self._beads = LiveBeads(bead_radius_px)

    def recognised(
        self,
        tilt: Tilt,
        image: Image,
        placement: Placement,
        strangers: Collection[int],
        altered: Collection[int] = (),
    ) -> Placement:
        """The placement, with how well the image agrees there with one of the tilts nearest in angle.

        `strangers` are accepted tilts that were not recognised themselves, those `altered` show a field that is not
        what it was: they speak for no other one.
        """
        if placement.neighbour is None:
            return placement
        angle, here = tilt.image.angle_deg, (placement.shift_x, placement.shift_y)
        known = [index for index in self._views if index not in strangers] or list(self._views)
        best, found = -1.0, placement.neighbour
        for other in sorted(known, key=lambda index: abs(self._views[index][0] - angle))[:COMPARED]:
            agrees = agreement(image, self._images[other], self._laid_over(other, angle, here))
            best, found = max((best, found), (agrees, other))
            if best >= CLEAR_AGREEMENT:
                break
        beads = self._beads_again(tilt, image, found, here)
        return msgspec.structs.replace(
            placement,
            agreement=round(best, 4),
            agreed_with=found,
            kinship=self._kinship(tilt, image, here, strangers) if best < CLEAR_AGREEMENT else None,
            beads_expected=beads.expected,
            beads_seen=beads.seen,
            beads_by_chance=round(beads.by_chance, 2),
            changed=self._changed(tilt, image, here, {*strangers, *altered}),
        )

    def _kinship(self, tilt: Tilt, image: Image, here: tuple[float, float], strangers: Collection[int]) -> float | None:
        """How well an image agrees with the nearest of the strangers."""
        angle = tilt.image.angle_deg
        others = [index for index in self._views if index in strangers]
        nearest = min(others, key=lambda index: abs(self._views[index][0] - angle), default=None)
        if nearest is None:
            return None
        return round(agreement(image, self._images[nearest], self._laid_over(nearest, angle, here)), 4)

    def _changed(self, tilt: Tilt, image: Image, here: tuple[float, float], altered: Collection[int]) -> float | None:
        """Share of the field whose level differs from that of the nearest tilt that shows it as it was."""
        angle = tilt.image.angle_deg
        known = [index for index in self._views if index not in altered]
        other = min(known, key=lambda index: abs(self._views[index][0] - angle), default=None)
        if other is None:
            return None
        binning = binning_for(image)
        over = geometry.rescale(self._laid_over(other, angle, here), binning)
        share = changed(block_sums(image, binning), block_sums(self._images[other], binning), over)
        return round(share, 4) if share is not None else None

    def _beads_again(self, tilt: Tilt, image: Image, other: int, here: tuple[float, float]) -> SeenAgain:
        """Beads of an accepted tilt that lie in the field of a new one, and how many of those are seen."""
        if not self._beads.knows(other):
            self._beads.look(other, self._images[other])
        self._beads.look(tilt.index, image)
        over = self._laid_over(other, tilt.image.angle_deg, here)
        parallax = geometry.parallax(_stretchable(self._views[other][0]), _stretchable(tilt.image.angle_deg))
        return self._beads.again(tilt.index, other, over, self._aligner.axis_deg, parallax)

    def _laid_over(self, other: int, angle_deg: float, here: tuple[float, float]) -> geometry.Array:
        """The transform of an accepted tilt's live image to another angle, with the specimen at `here` (raw pixels)."""
        angles = _stretchable(self._views[other][0]), _stretchable(angle_deg)
        over, binning = geometry.tilt_stretch(self._aligner.axis_deg, *angles), self._aligner.binning
        over[:, 2] = np.array(here) / binning
        over[:, 2] -= over[:, :2] @ np.array(self._aligner.shift_of(other)) / binning
        return over


def _stretchable(angle_deg: float) -> float:
    return float(np.clip(angle_deg, -STEEPEST_DEG, STEEPEST_DEG))
