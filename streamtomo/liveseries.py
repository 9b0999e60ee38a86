"""One series in the live lane: its images, aligner and volume, and how they are taken up again from disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align.correlate import Band, correlate, masked, taper
from streamtomo.align.live import LiveAligner
from streamtomo.align.places import in_frame
from streamtomo.align.settle import Settling
from streamtomo.config import Settings
from streamtomo.correct.binning import bin_image
from streamtomo.correct.prepare import live_binning
from streamtomo.elsewhere import Better, Realigned, worst
from streamtomo.judge.limit import combine
from streamtomo.judge.look import look_at
from streamtomo.judge.place import Field
from streamtomo.judge.policy import Judgement, SeriesJudge
from streamtomo.judge.recognition import is_recognised
from streamtomo.judge.record import fresh
from streamtomo.livecache import Snapshot, TiltKey, digest
from streamtomo.livelook import Recogniser, defocus_of
from streamtomo.model import Correction, Look, Place, Placement, RawImage, Tilt, Verdict
from streamtomo.reconstruct import score
from streamtomo.reconstruct.live import BUFFERS, LiveVolume, aligned
from streamtomo.reconstruct.sections import Sections, iterated_sections

Image = NDArray[np.float32]

IMAGES_PER_TILT = 2
"""Corrected, and aligned and filtered for the volume; both float32."""
IRRELEVANT_SETTINGS = frozenset({"live", "judge", "watch", "final", "publish", "run"})
"""Tables on which what is kept of a series does not depend."""
MOVED_PX = 0.25
"""Live pixels by which a view must have moved to be placed anew."""
ENOUGH_TO_SCORE = 5
"""With fewer views the volume says little about any of them."""
REACH = 0.15
"""How far away it is looked for, as a fraction of the field."""
CLEARLY_BETTER = 0.05
"""A tilt is put where its score is higher by so much."""
TRIED_AGAIN = 1.5
"""A tilt that was not found elsewhere is looked for again when there are so many times as many views."""
ALL_STAGES = ("rebuild", "score", "realign", "iterate", "settle")
"""What is done in idle time after a tilt, in this order."""
ITERATIONS = 10
SHOWN_PX = 192
"""Views are iterated binned to about this size, which is more than is shown."""
DEPTH_OF_FIELD = 0.3
"""Depth of the live volume as a fraction of the field's longer side, where no thickness is given ..."""
THICK_NM = 300.0
"""... but so deep at least, as far as the field itself reaches: few specimens are thicker, however small the field."""


class AcceptedTilt(NamedTuple):
    """A tilt that is in the volume, with the angle at which it was placed."""

    tilt: Tilt
    placement: Placement
    correction: Correction

    def key(self) -> TiltKey:
        """What tells it from any other one."""
        image = self.tilt.image
        about = digest(image.path, image.section, image.angle_deg, self.placement, self.correction)
        return TiltKey(self.tilt.index, about)


def at_angle(tilt: Tilt, angle_deg: float) -> Tilt:
    """The tilt as it was when it was placed: metadata that came later may have another angle."""
    return msgspec.structs.replace(tilt, image=msgspec.structs.replace(tilt.image, angle_deg=angle_deg))


class LiveSeries:
    """One series in the live lane: its aligner, its volume, and what was accepted so far."""

    def __init__(self, raw: RawImage, axis_deg: float, pixel_size_A: float | None, settings: Settings) -> None:
        """An empty series of images like `raw`."""
        self.axis_deg, self.pixel_size_A, self.settings = axis_deg, pixel_size_A, settings
        self.field_px = (raw.nx, raw.ny)
        self.binning = live_binning(raw.nx, raw.ny, settings.live.size_px)
        self.aligner = LiveAligner(settings.align, axis_deg, self.binning)
        self.images: dict[int, Image] = {}
        self.views: dict[int, tuple[float, Placement]] = {}
        self.judge = SeriesJudge(settings.judge, Field(raw.nx, raw.ny, pixel_size_A))
        self.told = Judgement()
        """The judgement that was told last."""
        bead_nm = settings.specimen.bead_nm
        radius_px = bead_nm * 5 / (pixel_size_A * self.binning) if bead_nm and pixel_size_A else None
        self._recogniser = Recogniser(self.aligner, self.images, self.views, radius_px)
        self.touched_s = time.monotonic()
        self.filed_s, self.filed_views = self.touched_s, 0
        """When its volume was written to a file, and the views in it."""
        self.unsaved = 0
        """Tilts accepted since it was written to disk."""
        self.unscored: list[int] = []
        """Tilts accepted that were not compared with the volume yet."""
        self.left: tuple[str, ...] = ()
        """What is left to do in idle time."""
        self._score_of: dict[int, float] = {}
        self._tried: dict[int, int] = {}
        """Tilts that were looked for elsewhere, and how many views there were then."""
        self._better: dict[int, Better] = {}
        self._settling = Settling(settings.align, axis_deg, self.binning)
        self._moved: list[int] = []
        self._told_deg = axis_deg
        self._at: dict[int, tuple[float, float]] = {}
        """Where each tilt lies in the volume, raw pixels."""
        self._keys: list[TiltKey] = []
        self._volume: LiveVolume | None = None

    @property
    def nbytes(self) -> int:
        """Memory held by the volume and the kept images."""
        images = sum(image.nbytes for image in self.images.values()) + self.aligner.nbytes + self._settling.nbytes
        return images + (self._volume.nbytes if self._volume else 0)

    def nbytes_with(self, tilts: int) -> int:
        """Memory held with the volume and so many tilts."""
        pixels = math.prod(side // self.binning for side in self.field_px)
        voxel = self._volume.voxels().itemsize if self._volume else np.dtype(np.int16).itemsize
        return BUFFERS * voxel * math.prod(self.volume_shape()) + 4 * IMAGES_PER_TILT * pixels * tilts

    def volume_shape(self) -> tuple[int, int, int]:
        """`(nz, ny, nx)` of the live volume, in binned pixels."""
        ny, nx = geometry.aligned_shape(self.field_px[::-1], self.axis_deg, self.binning)
        side, thickness_nm = max(ny, nx), self.settings.specimen.thickness_nm
        depth = DEPTH_OF_FIELD * side
        if self.pixel_size_A:
            per_nm = 10 / (self.pixel_size_A * self.binning)
            depth = thickness_nm * per_nm if thickness_nm else max(depth, min(THICK_NM * per_nm, side))
        return max(8, round(depth / 2) * 2), ny, nx

    def volume(self) -> LiveVolume:
        """The live volume with all accepted tilts; those that it lacks are added now."""
        volume = self._volume or LiveVolume(self.volume_shape())
        for index in list(self.views)[volume.views :]:
            angle, placement = self.views[index]
            at = (placement.shift_x, placement.shift_y)
            volume.add(self.images[index], angle, self._transform(at))
            self._at[index] = at
        self._volume = volume
        return volume

    def follow(self, interrupted: Callable[[], bool]) -> bool:
        """Place the volume's views where they are known to lie by now, which its next rebuild shows; False if
        interrupted.
        """
        volume = self.volume()
        for number, (index, (angle, _)) in enumerate(self.views.items()):
            at = self._known_place(index)
            if interrupted():
                return False
            if math.dist(at, self._at[index]) > MOVED_PX * self.binning:
                volume.place(number, self.images[index], angle, self._transform(at))
                self._at[index] = at
                self._moved.append(index)
        return True

    def _known_place(self, index: int) -> tuple[float, float]:
        """Where the aligner has a tilt, or a better place, if the aligner has learned nothing new since."""
        at, found = self.aligner.shift_of(index), self._better.get(index)
        if found is None:
            return at
        if math.dist(at, found.instead_of) <= MOVED_PX * self.binning:
            return found.at
        del self._better[index]
        return at

    def settle(self, interrupted: Callable[[], bool]) -> bool | None:
        """Place all tilts anew in an order of their own, so that it does not matter in which they came.

        Whether one lies elsewhere in the volume from the next `follow` on; None, and nothing changed, if interrupted.
        """
        if self._settling.axis_deg != self.aligner.axis_deg:
            self._settling = Settling(self.settings.align, self.aligner.axis_deg, self.binning)
        angles = {index: angle for index, (angle, _) in self.views.items()}
        found = self._settling.shifts({index: (angles[index], self.images[index]) for index in angles}, interrupted)
        if found is None:
            return None
        now = {index: self.aligner.shift_of(index) for index in angles}
        settled = in_frame(found, now, angles, self.aligner.axis_deg)
        self._better |= {index: Better(at, now[index]) for index, at in settled.items()}
        far = MOVED_PX * self.binning
        return any(math.dist(at, self._at.get(index, at)) > far for index, at in settled.items())

    def moved_since_rebuild(self) -> tuple[int, ...]:
        """Tilts placed anew since this was asked last."""
        moved, self._moved = tuple(dict.fromkeys(self._moved)), []
        return moved

    @property
    def can_score(self) -> bool:
        """Whether there are views enough for the volume to say something about one of them."""
        return len(self.views) >= ENOUGH_TO_SCORE

    def scores(self, interrupted: Callable[[], bool]) -> list[tuple[int, float]]:
        """Index and leave-one-out correlation of tilts not compared yet, the newest first; the volume is rebuilt."""
        found: list[tuple[int, float]] = []
        order = {index: number for number, index in enumerate(self.views)}
        while self.unscored and self.can_score:
            index = self.unscored[-1]
            if index in self._at:
                image, transform = self.images[index], self._transform(self._at[index])
                value = self.volume().leave_one_out(order[index], image, transform, interrupted)
                if value is None:
                    break
                self._score_of[index] = value
                found.append((index, value))
            self.unscored.pop()
        return found

    def doubtful(self) -> int | None:
        """The tilt that agrees worst with the volume of all others for its angle, if badly; None if there is none."""
        if not self.can_score:
            return None
        angles = {index: angle for index, (angle, _) in self.views.items()}
        again = {index for index, then in self._tried.items() if len(self.views) < TRIED_AGAIN * then}
        return worst(self._score_of, angles, again)

    def realign(self, index: int, interrupted: Callable[[], bool]) -> Realigned | None:
        """Look for a tilt where the volume of all others shows it; None, and nothing changed, if it is not found there.

        The volume must have been rebuilt. The view lies there in the volume from the next `follow` on; the aligner, and
        so the placements of tilts to come, know nothing of it: they do not depend on how much idle time there was.
        """
        at, image = self._at[index], self.images[index]
        expected = self.volume().expected(list(self.views).index(index), interrupted)
        if expected is None or interrupted():
            return None
        shape = expected.shape
        view = aligned(image, self._transform(at), shape)
        window = taper(*shape)
        reach = (REACH * shape[1], REACH * shape[0])
        if interrupted():
            return None
        peak = correlate(masked(expected, window), masked(view, window), Band(*score.BAND), reach)
        turned = geometry.rotation(self.aligner.axis_deg) @ np.array([peak.dx, peak.dy]) * self.binning
        there = (at[0] + float(turned[0]), at[1] + float(turned[1]))
        before = score.agreement(view, expected)
        if interrupted():
            return None
        self._tried[index] = len(self.views)
        after = score.agreement(aligned(image, self._transform(there), shape), expected)
        moved = math.dist(there, at)
        if after < before + CLEARLY_BETTER or moved <= MOVED_PX * self.binning:
            return None
        self._better[index] = Better(there, self.aligner.shift_of(index))
        self.unscored.append(index)
        return Realigned(there, moved, before, after)

    def shown_binning(self) -> int:
        """Live pixels to one of the views that are iterated."""
        return max(1, round(max(self.volume_shape()[1:]) / SHOWN_PX))

    def iterated(self, interrupted: Callable[[], bool]) -> Sections | None:
        """Central sections by SIRT, of views where the volume has them, at a lower resolution; None if interrupted."""
        binning, (nz, ny, nx) = self.shown_binning(), self.volume_shape()
        shape = (ny // binning, nx // binning)
        views = np.empty((len(self.views), *shape), np.float32)
        self.volume()
        for view, index in zip(views, self.views, strict=True):
            if interrupted():
                return None
            transform = geometry.rescale(self._transform(self._at[index]), binning)
            view[:] = aligned(bin_image(self.images[index], binning), transform, shape)
        tilts = [angle for angle, _ in self.views.values()]
        return iterated_sections(views, tilts, max(2, round(nz / binning)), ITERATIONS, interrupted)

    def _transform(self, at: tuple[float, float]) -> geometry.Array:
        return geometry.rescale(geometry.raw_to_aligned(self.aligner.axis_deg, at), self.binning)

    def about(self) -> str:
        """Digest of what the things kept depend on, beside the tilts."""
        settings = msgspec.structs.asdict(self.settings)
        relevant = {name: table for name, table in settings.items() if name not in IRRELEVANT_SETTINGS}
        return digest(relevant, self.axis_deg, self.binning, self.field_px)

    def snapshot(self, *, with_volume: bool) -> Snapshot:
        """All that is known, to be written to disk."""
        volume = self.volume() if self._volume else None
        return Snapshot(
            about=self.about(),
            tilts=tuple(self._keys),
            memory=self.aligner.memory(),
            images=self.images,
            views={index: volume.filtered(n) for n, index in enumerate(self.views)} if volume else {},
            voxels=volume.voxels() if volume and with_volume else None,
            counts=volume.counts if volume else 1.0,
        )

    def recall(self, snapshot: Snapshot, accepted: Sequence[AcceptedTilt]) -> None:
        """Stand where the snapshot was taken: the first of the tilts accepted are those that it knows."""
        for one in accepted[: len(snapshot.tilts)]:
            self._take_in(one, snapshot.images[one.tilt.index])
        angles = {index: angle for index, (angle, _) in self.views.items()}
        self.aligner.recall(snapshot.memory, {index: (angles[index], self.images[index]) for index in self.views})
        self._told_deg = self.aligner.axis_deg
        self._recall_volume(snapshot, angles)

    def _recall_volume(self, snapshot: Snapshot, angles: dict[int, float]) -> None:
        nz, ny, nx = self.volume_shape()
        if len(snapshot.views) < len(angles):
            return
        voxels = snapshot.voxels
        there = voxels is not None and voxels.shape == (ny, nz, nx)
        volume = LiveVolume((nz, ny, nx))
        views = [snapshot.views[index] for index in angles]
        volume.recall(views, list(angles.values()), voxels if there else None, snapshot.counts)
        self._volume = volume
        self._at = {index: (placement.shift_x, placement.shift_y) for index, (_, placement) in self.views.items()}

    def accept(self, one: AcceptedTilt, image: Image) -> None:
        """Take a placed tilt into the aligner's references (not yet into the volume)."""
        self._take_in(one, image)
        before = self.aligner.axis_deg
        self.aligner.accept(one.tilt.index, one.tilt.image.angle_deg, image, one.placement)
        if self.aligner.axis_deg != before:
            self._volume = None  # all of it lies the wrong way
        self.unsaved += 1
        self.unscored.append(one.tilt.index)
        self.left = ALL_STAGES

    def place(
        self, tilt: Tilt, raw: NDArray[np.generic], image: Image, correction: Correction
    ) -> tuple[Look, Placement | None, Verdict]:
        """Look at a corrected tilt, place it and judge it; one that is bad by its looks is not placed."""
        scope = self.settings.acquisition
        focus = defocus_of(raw, tilt.image.angle_deg, self.aligner.axis_deg, self.pixel_size_A, scope)
        look = look_at(raw, image, correction.repaired, focus)
        new = fresh(tilt, correction, look)
        verdict = self.judge.image(new)
        if verdict.state == "bad":
            return look, None, verdict
        placement = self.aligner.place(tilt.index, tilt.image.angle_deg, image)
        placement = self._recogniser.recognised(tilt, image, placement, self.judge.strangers, self.judge.altered)
        later = self.judge.placement(msgspec.structs.replace(new, placement=placement))
        return look, placement, combine(verdict, later)

    def is_unplaced(self, placement: Placement | None, verdict: Verdict) -> bool:
        """Whether no neighbour was recognised; the second tilt is taken in anyway, as nobody knows which one is odd."""
        return placement is not None and len(self.views) > 1 and not is_recognised(placement, verdict)

    def knows_more_than(self, indices: Iterable[int], unplaced: int) -> bool:
        """Whether it knows tilts that are not among these, but for one that it may have left unplaced."""
        others = {one.index for one in self.judge.seen}.difference(indices)
        return bool(others - ({unplaced} - self.views.keys()))

    def places(self) -> tuple[Place, ...]:
        """Where the aligner has all tilts."""
        at = {index: self.aligner.shift_of(index) for index in self.views}
        return tuple(Place(index, round(x, 3), round(y, 3)) for index, (x, y) in at.items())

    def axis_news(self) -> float | None:
        """The tilt axis, if it was measured anew since this was asked last."""
        told, self._told_deg = self._told_deg, self.aligner.axis_deg
        return None if told == self._told_deg else self._told_deg

    def _take_in(self, one: AcceptedTilt, image: Image) -> None:
        index, angle = one.tilt.index, one.tilt.image.angle_deg
        self.images[index] = image
        self.views[index] = (angle, one.placement)
        self._keys.append(one.key())
