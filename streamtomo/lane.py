"""The live lane: one tilt at a time from file to volume.

A shell: it knows the order of the stages, and none of their maths. What it keeps of a series (binned images, aligner,
volume) is a cache of what the journal says: after a restart, or for a late tilt of a series that was let go, it is made
again from the files.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align.live import LiveAligner
from streamtomo.config import Settings
from streamtomo.correct.prepare import live_binning, prepare
from streamtomo.errors import BadImage, InputError, StreamtomoError
from streamtomo.exposure import ExposureReader
from streamtomo.judge.policy import Accepted, combine, judge_intensity, judge_placement, judge_series
from streamtomo.messages import Event, Picture, SeriesJudged, TiltFailed, TiltPlaced, Warned
from streamtomo.model import Correction, Placement, RawImage, Tilt, Verdict
from streamtomo.publish.pictures import thumbnail
from streamtomo.reconstruct.live import LiveVolume
from streamtomo.series import MAX_ATTEMPTS

VOLUME_BYTES_PER_VOXEL = 8
"""Two buffers of float32."""
DEPTH_OF_FIELD = 0.3
"""Depth of the live volume as a fraction of the field's longer side, where no thickness is given."""


class Job(Struct, frozen=True, kw_only=True):
    """A tilt to be placed, and what is known of its series."""

    tilt: Tilt
    attempts: int
    """How often it was tried before."""
    settled_s: float
    """When the watcher found it settled (`time.time`)."""
    axis_deg: float
    pixel_size_A: float | None
    folder: str | None = None
    """Where the series' results go, sums of movies among them; None: they are not kept."""
    placed: tuple[tuple[Tilt, TiltPlaced], ...]
    """Tilts of the series that went through the lane before, bad ones included."""


class StageClock:
    """Milliseconds per stage of one tilt."""

    def __init__(self, settled_s: float) -> None:
        self.ms: dict[str, float] = {"wait": 1000 * max(0.0, time.time() - settled_s)}
        self._start = time.perf_counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time one stage."""
        start = time.perf_counter()
        yield
        self.ms[stage] = round(1000 * (time.perf_counter() - start), 2)

    def total(self) -> dict[str, float]:
        """All stages, with `total` from settled to now."""
        spent = 1000 * (time.perf_counter() - self._start)
        return {**self.ms, "wait": round(self.ms["wait"], 2), "total": round(self.ms["wait"] + spent, 2)}


class LiveSeries:
    """One series in the live lane: its aligner, its volume, and what was accepted so far."""

    def __init__(self, job: Job, settings: Settings) -> None:
        raw = next((tilt for tilt, placed in job.placed if placed.in_volume), job.tilt).image
        self.axis_deg = job.axis_deg
        self.binning = live_binning(raw.nx, raw.ny, settings.live.size_px)
        self.field_px = (raw.nx, raw.ny)
        self.pixel_size_A = job.pixel_size_A
        self.settings = settings
        self.aligner = LiveAligner(settings.align, job.axis_deg, self.binning)
        self.images: dict[int, NDArray[np.float32]] = {}
        self.views: dict[int, tuple[float, Placement]] = {}
        self.accepted: dict[int, Accepted] = {}
        self.verdicts: dict[int, Verdict] = {}
        self.judged: SeriesJudged | None = None
        self.touched_s = time.monotonic()
        self._volume: LiveVolume | None = None

    @property
    def nbytes(self) -> int:
        """Memory held by the volume and the kept images."""
        return (self._volume.nbytes if self._volume else 0) + sum(image.nbytes for image in self.images.values())

    @property
    def nbytes_with_volume(self) -> int:
        """Memory held once the volume is there."""
        return self.nbytes if self._volume else self.nbytes + VOLUME_BYTES_PER_VOXEL * math.prod(self.volume_shape())

    def volume_shape(self) -> tuple[int, int, int]:
        """`(nz, ny, nx)` of the live volume, in binned pixels."""
        ny, nx = geometry.aligned_shape(self.field_px[::-1], self.axis_deg, self.binning)
        depth = DEPTH_OF_FIELD * max(ny, nx)
        thickness_nm = self.settings.specimen.thickness_nm
        if thickness_nm and self.pixel_size_A:
            depth = thickness_nm * 10 / (self.pixel_size_A * self.binning)
        return max(8, round(depth / 2) * 2), ny, nx

    def volume(self) -> LiveVolume:
        """The live volume; made from the kept images if it had been let go."""
        if self._volume is None:
            volume = LiveVolume(self.volume_shape())
            for index in self.views:
                self._add(volume, index)
            self._volume = volume
        return self._volume

    def let_go(self) -> None:
        """Free the volume's memory."""
        self._volume = None

    def accept(self, tilt: Tilt, image: NDArray[np.float32], placement: Placement, correction: Correction) -> None:
        """Take a placed tilt into the aligner's references (not yet into the volume)."""
        angle = tilt.image.angle_deg
        self.images[tilt.index] = image
        self.views[tilt.index] = (angle, placement)
        self.accepted[tilt.index] = Accepted(angle_deg=angle, correction=correction, placement=placement)
        self.aligner.accept(tilt.index, angle, image, placement)

    def add(self, index: int) -> None:
        """Add an accepted tilt to the volume, if there is a volume (else it will be in it when it is made)."""
        if self._volume is None:
            self.volume()
        else:
            self._add(self._volume, index)

    def _add(self, volume: LiveVolume, index: int) -> None:
        angle, placement = self.views[index]
        transform = geometry.raw_to_aligned(self.axis_deg, (placement.shift_x, placement.shift_y))
        volume.add(self.images[index], angle, geometry.rescale(transform, self.binning))


class Lane:
    """All series in the live lane, within a memory budget."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._series: dict[str, LiveSeries] = {}
        self._dirty: set[str] = set()
        self._reader = ExposureReader(settings)
        self._taken_s: deque[float] = deque(maxlen=12)
        """When the last tilts were taken, of whatever series."""
        self._warned: set[tuple[str, str]] = set()

    def process(self, job: Job) -> list[Event]:
        """Take one tilt through all stages; a failure is an event, too."""
        try:
            return self._process(job)
        except StreamtomoError as error:
            return [self._failed(job, str(error))]
        except Exception as error:  # a fault of ours must not stop the lane
            return [self._failed(job, f"internal error: {type(error).__name__}: {error}")]

    def refine_when_idle(self, interrupted: Callable[[], bool]) -> list[Event]:
        """Rebuild the volume that changed last, unless `interrupted`; the pictures of the result."""
        if not self._dirty:
            return []
        name = max(self._dirty, key=lambda one: self._series[one].touched_s)
        try:
            if not self._series[name].volume().rebuild(interrupted):
                return []
            self._dirty.discard(name)
            return self._pictures(name)
        except Exception as error:  # as in `process`; its next tilt makes it anew
            self.forget(name)
            text = f"{name}: the live volume could not be rebuilt ({type(error).__name__}: {error})"
            return [Warned(code="volume.failed", text=text, series=name)]

    def forget(self, name: str) -> None:
        """Let go of everything kept of a series."""
        self._series.pop(name, None)
        self._dirty.discard(name)

    def _process(self, job: Job) -> list[Event]:
        clock = StageClock(job.settled_s)
        live = self._live(job)
        tilt, angle = job.tilt, job.tilt.image.angle_deg
        with clock("read"):
            raw, warnings = self._read(tilt, live.field_px, job.folder)
        with clock("correct"):
            image, correction = self._prepare(tilt, raw, live.binning)
        with clock("align"):
            placement, verdict = self._place(live, tilt, image, correction)
        accepted = placement is not None and verdict.state != "bad"
        with clock("reconstruct"):
            if placement is not None and accepted:
                live.accept(tilt, image, placement, correction)
                live.add(tilt.index)
                self._dirty.add(tilt.image.series)
        with clock("show"):
            pictures = self._pictures(tilt.image.series) if accepted else []
        placed = TiltPlaced(
            series=tilt.image.series,
            index=tilt.index,
            angle_deg=angle,
            correction=correction,
            placement=placement,
            verdict=verdict,
            in_volume=accepted,
            stage_ms=clock.total(),
        )
        return [placed, *warnings, *self._judge_series(live, placed), *pictures]

    def _place(
        self, live: LiveSeries, tilt: Tilt, image: NDArray[np.float32], correction: Correction
    ) -> tuple[Placement | None, Verdict]:
        angle = tilt.image.angle_deg
        intensity = judge_intensity(angle, correction, list(live.accepted.values()), self.settings.judge)
        if intensity.state == "bad":
            return None, intensity
        placement = live.aligner.place(tilt.index, angle, image)
        return placement, combine(intensity, judge_placement(placement, live.field_px, self.settings.judge))

    def _judge_series(self, live: LiveSeries, placed: TiltPlaced) -> Sequence[Event]:
        live.verdicts[placed.index] = placed.verdict
        judged = _judgement(placed.series, live)
        if judged == live.judged or (live.judged is None and judged.state == "good"):
            return []
        live.judged = judged
        return [judged]

    def _live(self, job: Job) -> LiveSeries:
        name = job.tilt.image.series
        live = self._series.get(name)
        if live is not None and (live.axis_deg != job.axis_deg or not live.views):
            live = None  # better metadata came: start again from the files; or there was nothing yet
        if live is None:
            live = self._restored(job)
        live.touched_s = time.monotonic()
        self._make_room(live)
        return live

    def _restored(self, job: Job) -> LiveSeries:
        """A series as the records say it was, made from the files; tilts whose files are gone are left out."""
        live = LiveSeries(job, self.settings)
        for tilt, placed in job.placed:
            live.verdicts[tilt.index] = placed.verdict
            if placed.placement is None or not placed.in_volume:
                continue
            try:
                image, _ = self._prepare(tilt, self._read(tilt, live.field_px, job.folder)[0], live.binning)
            except StreamtomoError:
                continue
            live.aligner.place(tilt.index, tilt.image.angle_deg, image)  # what it measures counts, not the result
            live.accept(tilt, image, placed.placement, placed.correction)
        if live.verdicts:
            live.judged = _judgement(job.tilt.image.series, live)
        self._series[job.tilt.image.series] = live
        return live

    def _make_room(self, keep: LiveSeries) -> None:
        """Let volumes go, then whole series, the least recently touched first, until the budget holds."""
        budget = self.settings.live.memory_GB * 1e9
        others = [name for name, series in self._series.items() if series is not keep]
        others.sort(key=lambda name: self._series[name].touched_s)
        for let_go in (self._let_volume_go, self.forget):
            for name in others:
                held = sum(series.nbytes for series in self._series.values() if series is not keep)
                if held + keep.nbytes_with_volume <= budget:
                    return
                let_go(name)

    def _let_volume_go(self, name: str) -> None:
        self._series[name].let_go()
        self._dirty.discard(name)

    def _read(
        self, tilt: Tilt, field_px: tuple[int, int], folder: str | None
    ) -> tuple[NDArray[np.generic], list[Warned]]:
        """Pixels of a tilt, and new warnings; raises InputError if it has none, or other ones than its series."""
        image = tilt.image
        try:
            raw, done = self._reader.read(image, Path(folder) if folder else None, interval_s=self._interval(image))
        except OSError as error:
            raise InputError(f"{image.path}: cannot be read ({error.strerror})") from error
        if raw.shape[::-1] != field_px:
            size, usual = (f"{nx} x {ny}" for nx, ny in (raw.shape[::-1], field_px))
            raise BadImage(f"{image.path}: is {size} pixels, its series has {usual}")
        new = [(code, text) for code, text in done.warnings if (image.series, code) not in self._warned]
        self._warned |= {(image.series, code) for code, _ in new}
        return raw, [Warned(code=code, text=text, series=image.series) for code, text in new]

    def _interval(self, image: RawImage) -> float | None:
        """Usual time between two tilts of the microscope, whatever their series; None while it is not known."""
        if (taken := image.acquired_s or image.written_s) is not None:
            self._taken_s.append(taken)
        steps = np.diff(np.unique(self._taken_s))
        return float(np.median(steps)) if len(steps) > 1 else None

    def _prepare(self, tilt: Tilt, raw: NDArray[np.generic], binning: int) -> tuple[NDArray[np.float32], Correction]:
        image, correction = prepare(raw, binning, self.settings.correct.outlier_sigma)
        if not (math.isfinite(correction.mean) and math.isfinite(correction.sd)):
            raise BadImage(f"{tilt.image.path}: has pixels that are no finite numbers")
        return image, correction

    def _pictures(self, name: str) -> list[Event]:
        live = self._series[name]
        xy, xz = live.volume().central_slices()
        pictures: list[Event] = []
        for plane, section, size in (("xy", xy, (96, 96)), ("xz", xz, (96, 32))):
            pixels = thumbnail(section, *size)
            height, width = pixels.shape
            pictures.append(
                Picture(
                    series=name,
                    plane=plane,  # type: ignore[arg-type]
                    tilts=len(live.views),
                    width=width,
                    height=height,
                    pixels=pixels.tobytes(),
                )
            )
        return pictures

    def _failed(self, job: Job, reason: str) -> TiltFailed:
        attempts = job.attempts + 1
        return TiltFailed(
            series=job.tilt.image.series,
            index=job.tilt.index,
            reason=reason,
            attempts=attempts,
            final=attempts >= MAX_ATTEMPTS,
        )


def _judgement(name: str, live: LiveSeries) -> SeriesJudged:
    """The verdict on a series as its tilts are now."""
    state, reasons = judge_series([live.verdicts[index] for index in sorted(live.verdicts)])
    return SeriesJudged(series=name, state=state, reasons=tuple(reasons))
