"""The live lane: one tilt at a time from file to volume.

A shell: it knows the order of the stages, and none of their maths. What it keeps of a series (binned images, aligner,
volume) is a cache of what the journal says. It goes to disk when memory is short, while there is nothing to do, and at
the end, and comes back when a tilt of the series does; where that is not possible it is made again from the files.
Either way it is what it would be in a run without end: all of it follows from the tilts placed, in their order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo.align.axis import axis_warning
from streamtomo.camera import Cameras
from streamtomo.config import Settings
from streamtomo.correct.prepare import Repaired, binned, repair
from streamtomo.errors import BadImage, StreamtomoError
from streamtomo.idlework import improve, pictures
from streamtomo.judge.plan import Plan
from streamtomo.judge.policy import Judgement
from streamtomo.judge.record import seen
from streamtomo.judge.session import Session
from streamtomo.livecache import LiveCache
from streamtomo.livereader import LiveReader
from streamtomo.liveseries import AcceptedTilt, LiveSeries, at_angle
from streamtomo.messages import AxisMeasured, Event, SeriesJudged, TiltFailed, TiltPlaced, Warned, can_be_read
from streamtomo.model import Correction, Placement, Tilt
from streamtomo.series import MAX_ATTEMPTS

SAVED_EVERY = 8
"""Tilts after which a series is written to disk even while there is no idle moment."""
LARGEST_LEVEL = 1e18
"""Mean and spread of an image beyond this are no counts, and their squares no numbers of 32 bits."""


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
    """Tilts that went through the lane before, in the order in which they did; bad ones too, but not excluded ones."""
    settings: Settings = Settings()
    """Those of its series."""
    planned: int | None = None
    """Tilts that its series will have."""
    like: tuple[float, ...] = ()
    """Tilt angles of the series before."""

    def accepted(self) -> list[AcceptedTilt]:
        """Those that are in the volume."""
        return [
            AcceptedTilt(at_angle(tilt, placed.angle_deg), placed.placement, placed.correction)
            for tilt, placed in self.placed
            if placed.in_volume and placed.placement is not None
        ]


class Over(Struct, frozen=True):
    """No more tilts of a series are expected."""

    series: str


class _Unlearned(Struct, frozen=True):
    """A tilt that was shown, and that the camera's map has not learned from yet."""

    live: LiveSeries
    tilt: Tilt
    at: Placement | None
    raw: NDArray[np.generic]
    repaired: Repaired


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


class Lane:
    """All series in the live lane, within a memory budget."""

    def __init__(self, settings: Settings, out: Path | None = None) -> None:
        """What does not fit in memory goes to `out`; without it, it is let go."""
        self.settings = settings
        self._series: dict[str, LiveSeries] = {}
        self._dirty: set[str] = set()
        self._session = Session(settings.judge)
        self._cache = LiveCache(out) if out else None
        self._reader = LiveReader()
        self._cameras = Cameras(out)
        self._unlearned: _Unlearned | None = None

    def process(self, job: Job) -> list[Event]:
        """Take one tilt through all stages; a failure is an event, too."""
        try:
            events = [*self.learn(), *self._process(job)]
            if not all(map(can_be_read, events)):
                raise ValueError("something measured is no number")
            return events
        except StreamtomoError as error:
            return [self._failed(job, str(error))]
        except Exception as error:  # a fault of ours must not stop the lane, nor stay in what is kept
            self.forget(job.tilt.image.series)
            return [self._failed(job, f"internal error: {type(error).__name__}: {error}")]

    def learn(self) -> list[Event]:
        """Let the camera's map learn from the last tilt, once it is shown; the camera's news."""
        last, self._unlearned = self._unlearned, None
        if last is None:
            return []
        try:
            return self._learn(last.live, last.tilt, last.at, last.raw, last.repaired)
        except Exception as error:  # as in `process`; the tilt itself is safe
            text = f"{last.tilt.image.path}: the camera map learned nothing from it ({type(error).__name__}: {error})"
            return [Warned(code="camera.failed", text=text, series=last.tilt.image.series)]

    def refine_when_idle(self, interrupted: Callable[[], bool]) -> list[Event]:
        """Make the series better that changed last, unless `interrupted`; what came of it. Else write to disk.

        One thing at a time: it is called again and again while no tilt waits.
        """
        unsaved = [name for name, live in self._series.items() if live.unsaved]
        if not self._dirty and not unsaved:
            return []
        name = max(self._dirty or unsaved, key=lambda one: self._series[one].touched_s)
        try:
            if not self._dirty:
                self._save(name, with_volume=False)
                return []
            live = self._series[name]
            events = improve(name, live, interrupted)
            if not live.left:
                self._dirty.discard(name)
            return [event for event in events if can_be_read(event)]
        except Exception as error:  # as in `process`; its next tilt makes it anew
            self.forget(name)
            text = f"{name}: the live volume could not be rebuilt or kept ({type(error).__name__}: {error})"
            return [Warned(code="volume.failed", text=text, series=name)]

    def forget(self, name: str) -> None:
        """Let go of everything that memory holds of a series."""
        self._series.pop(name, None)
        self._dirty.discard(name)

    def finished(self, name: str) -> None:
        """No more tilts are expected: let go of the series, on disk as well."""
        self.forget(name)
        self._cameras.save()
        if self._cache:
            self._cache.forget(name)

    def take_up(self, job: Job) -> LiveSeries:
        """A series with all the tilts that its job knows to be placed, taken up again where it was let go."""
        return self._live(job)

    def due(self, every_s: float) -> tuple[str, LiveSeries] | None:
        """A series with more views than the file of its volume, which is older than that."""
        late = time.monotonic() - every_s
        grown = (one for one in self._series.items() if len(one[1].views) > one[1].filed_views)
        return next((one for one in grown if one[1].filed_s < late), None)

    def start(self, unfinished: Collection[str], before: Sequence[Job] = ()) -> None:
        """Remove what an earlier run left on disk of other series than these.

        `before` are its last tilts, in the order in which it placed them, each with its own record: what the camera
        maps had learned of them and had not written down, they learn again, in that order.
        """
        if self._cache:
            self._cache.sweep(unfinished)
        for job in before:
            for one in job.accepted():
                self._learn_again(_empty(job), one, job.folder)
        self._cameras.keep()

    def _learn_again(self, live: LiveSeries, one: AcceptedTilt, folder: str | None) -> None:
        camera = self._cameras.of(one.tilt.image, live.pixel_size_A, live.settings.correct)
        if not camera.lacks(one.tilt.image.series, one.tilt.index):
            return
        try:
            raw = self._reader.read(one.tilt.image, live, folder).pixels
            repaired = self._prepare(one.tilt, raw, live, one.correction.camera)[2]
        except StreamtomoError:
            return
        self._learn(live, one.tilt, one.placement, raw, repaired)

    def close(self) -> None:
        """Write everything to disk, the series touched last first: a restart takes it up from there."""
        for name in sorted(self._series, key=lambda one: -self._series[one].touched_s):
            self._save(name, with_volume=True)
        self._cameras.save()

    def _process(self, job: Job) -> list[Event]:
        clock = StageClock(job.settled_s)
        with clock("keep"):
            self._cameras.keep()  # the tilt before is in the journal by now: what was learned of it may count
        live = self._live(job)
        tilt, angle = job.tilt, job.tilt.image.angle_deg
        with clock("read"):
            raw, drift_px, warnings = self._reader.read(tilt.image, live, job.folder)
        with clock("correct"):
            image, correction, repaired = self._prepare(tilt, raw, live)
            correction = msgspec.structs.replace(correction, drift_px=drift_px)
        with clock("align"):
            look, placement, verdict = live.place(tilt, raw, image, correction)
        unplaced = live.is_unplaced(placement, verdict)
        accepted = placement is not None and verdict.state != "bad" and not unplaced
        with clock("reconstruct"):
            if placement is not None and accepted:
                live.accept(AcceptedTilt(tilt, placement, correction), image)
                live.volume()
                self._dirty.add(tilt.image.series)
                if live.unsaved >= SAVED_EVERY:
                    self._save(tilt.image.series, with_volume=False)
        with clock("show"):
            shown = pictures(tilt.image.series, live) if accepted else []
        self._unlearned = _Unlearned(live, tilt, placement if accepted else None, raw, repaired)
        placed = TiltPlaced(
            series=tilt.image.series,
            index=tilt.index,
            angle_deg=angle,
            correction=correction,
            placement=placement,
            verdict=verdict,
            in_volume=accepted,
            unplaced=unplaced,
            look=look,
            stage_ms=clock.total(),
        )
        news = (*warnings, *self._axis_news(live, placed), *self._judge_series(live, tilt, placed))
        return [placed, *news, *shown]

    def _axis_news(self, live: LiveSeries, placed: TiltPlaced) -> Sequence[Event]:
        axis_deg = live.axis_news()
        if axis_deg is None:
            return []
        measured = AxisMeasured(
            series=placed.series,
            axis_deg=round(axis_deg, 2),
            nominal_deg=live.axis_deg,
            tilts=len(live.views),
            places=live.places(),
        )
        words = axis_warning(measured.axis_deg, live.axis_deg)
        warned = [Warned(code="axis.wrong", text=f"{placed.series}: {words}", series=placed.series)] if words else []
        return [measured, *warned]

    def _judge_series(self, live: LiveSeries, tilt: Tilt, placed: TiltPlaced) -> Sequence[Event]:
        one, told = seen(tilt, placed), live.told
        common = self._session.add(placed.series, one)
        events: list[Event] = [Warned(code="beam.dims", text=common)] if common else []
        judged = live.judge.add(one)
        if (judged.state, judged.kinds) == (told.state, told.kinds):
            return events
        live.told = judged
        return [*events, series_judged(placed.series, placed.index, judged)]

    def _live(self, job: Job) -> LiveSeries:
        name = job.tilt.image.series
        live = self._series.get(name)
        if live is not None and (live.axis_deg != job.axis_deg or not live.views):
            self.forget(name)  # better metadata came: start again from the files; or there was nothing yet
            live = None
        elif live is not None and live.knows_more_than([tilt.index for tilt, _ in job.placed], job.tilt.index):
            self.forget(name)  # a tilt was left out since: as if it had never been
            live = None
        fresh = live is None
        live = live or _empty(job)
        live.judge.plan = Plan(job.planned, job.like, job.settings.judge.reach_deg)
        self._make_room(name, live.nbytes_with(len(job.placed) + 1))
        if fresh:
            self._restore(live, job)
            self._series[name] = live
        live.touched_s = time.monotonic()
        return live

    def _restore(self, live: LiveSeries, job: Job) -> None:
        """Make a series what the records say it was, from disk and then the files; tilts that are gone are left out."""
        accepted = job.accepted()
        if self._cache and accepted:
            snapshot = self._cache.load(job.tilt.image.series, live.about(), [one.key() for one in accepted])
            if snapshot is not None:
                live.recall(snapshot, accepted)
        for tilt, placement, correction in accepted[len(live.views) :]:
            try:
                raw = self._reader.read(tilt.image, live, job.folder).pixels
                image = self._prepare(tilt, raw, live, correction.camera)[0]
            except StreamtomoError:
                continue
            live.aligner.place(tilt.index, tilt.image.angle_deg, image)  # what it measures counts, not the result
            live.accept(AcceptedTilt(tilt, placement, correction), image)
        live.unscored.clear()
        for tilt, record in job.placed:
            live.told = live.judge.add(seen(tilt, record))

    def _make_room(self, keep: str, needed: int) -> None:
        """Send series to disk, the least recently touched first, until one that needs so much fits the budget."""
        budget = self.settings.live.memory_GB * 1e9
        others = sorted((name for name in self._series if name != keep), key=lambda one: self._series[one].touched_s)
        for name in others:
            if needed + sum(live.nbytes for other, live in self._series.items() if other != keep) <= budget:
                return
            self._save(name, with_volume=True)
            self.forget(name)

    def _save(self, name: str, *, with_volume: bool) -> None:
        live = self._series[name]
        if self._cache and live.views:
            self._cache.save(name, live.snapshot(with_volume=with_volume))
        live.unsaved = 0

    def _prepare(
        self, tilt: Tilt, raw: NDArray[np.generic], live: LiveSeries, camera: int | None = None
    ) -> tuple[NDArray[np.float32], Correction, Repaired]:
        """The live image of a tilt, corrected with the newest camera map, or the one after so many tilts."""
        settings = live.settings.correct
        bad = BadImage(f"{tilt.image.path}: has pixels that are no finite numbers, or beyond {LARGEST_LEVEL:g}")
        if raw.dtype.kind == "f" and math.isnan(raw.sum(dtype=np.float64)):
            raise bad
        defects = self._cameras.of(tilt.image, live.pixel_size_A, settings).map(camera)
        repaired = repair(raw, settings.outlier_sigma, defects)
        image, correction = binned(repaired, live.binning, defects)
        if not (abs(correction.mean) < LARGEST_LEVEL and correction.sd < LARGEST_LEVEL):
            raise bad
        return image, correction, repaired

    def _learn(
        self, live: LiveSeries, tilt: Tilt, at: Placement | None, raw: NDArray[np.generic], repaired: Repaired
    ) -> list[Event]:
        """Let the camera's map learn from a tilt that is placed; the camera's news."""
        camera = self._cameras.of(tilt.image, live.pixel_size_A, live.settings.correct)
        if at is not None:
            camera.learn(tilt.image.series, tilt.index, (at.shift_x, at.shift_y), raw, repaired)
        return camera.news()

    def _failed(self, job: Job, reason: str) -> TiltFailed:
        attempts = job.attempts + 1
        return TiltFailed(
            series=job.tilt.image.series,
            index=job.tilt.index,
            reason=reason,
            attempts=attempts,
            final=attempts >= MAX_ATTEMPTS,
        )


def _empty(job: Job) -> LiveSeries:
    first = next((tilt for tilt, _, _ in job.accepted()), job.tilt)
    return LiveSeries(first.image, job.axis_deg, job.pixel_size_A, job.settings)


def series_judged(name: str, index: int, judged: Judgement) -> SeriesJudged:
    """The message of a judgement that was made after the tilt `index`."""
    return SeriesJudged(
        series=name,
        state=judged.state,
        reasons=judged.reasons,
        index=index,
        first_fault=judged.first_fault,
        usable=judged.usable,
        forecast=judged.forecast,
        confidence=judged.confidence,
    )
