"""The two lanes as the dispatcher sees them: what waits for each, what is at work, and how the next one is chosen."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from streamtomo import unplaced
from streamtomo.config import Settings
from streamtomo.finish.recipe import FinishJob, JobTilt
from streamtomo.finishing import FinishingLane
from streamtomo.lane import Job, Lane, Over
from streamtomo.livefile import LiveFiles, path_of, take, unsaved
from streamtomo.liveseries import LiveSeries
from streamtomo.messages import Answer, Event
from streamtomo.model import Tilt
from streamtomo.series import Series
from streamtomo.series_record import TiltState

LOOK_S = 0.05
"""How long the live lane waits for a tilt before it does something useful."""
EVEN = 4
"""A series with so many more tilts waiting than another one is behind: the other one's are at the microscope now."""


READY_SHARE, READY_TILTS = 0.5, 16
"""A series may end soon from this share of its tilts on, of so many where nobody knows how many there will be: a
process is made ready for it."""


class Save(Struct, frozen=True):
    """The live volume of a series is to be written to a file; the writer is reserved for it."""

    job: Job


class _Waiting(Struct, frozen=True):
    """A tilt that waits for the live lane."""

    index: int
    exposed_s: float
    """When it was exposed, as far as that is known: else when its file was written."""
    settled_s: float
    live: bool
    """Whether it came while the run watched."""


class LiveQueue:
    """Tilts that wait for the live lane, and the thread that takes one after the other."""

    def __init__(
        self, settings: Settings, out: Path, done: Callable[[list[Event]], None], idle: Callable[[list[Event]], None]
    ) -> None:
        """`done` and `idle` are called from the lane's thread: with what became of a tilt, and of idle time."""
        self._settings, self._out, self._done, self._idle = settings, out, done, idle
        self._pending: dict[str, deque[_Waiting]] = {}
        self._jobs: queue.Queue[Job | Over | Save | None] = queue.Queue()
        self._files = LiveFiles(idle)
        self._stopping = threading.Event()
        self.at_work = False
        """Whether a tilt is in the lane; whoever hears of its end says so."""

    @property
    def backlog(self) -> int:
        """Tilts that wait or are at work."""
        return sum(map(len, self._pending.values())) + self.at_work

    @property
    def live_backlog(self) -> int:
        """Tilts that wait and came while the run watched."""
        return sum(tilt.live for tilts in self._pending.values() for tilt in tilts)

    def add(self, tilt: Tilt, *, live: bool) -> None:
        """A tilt is to be processed."""
        image = tilt.image
        exposed_s = image.acquired_s or image.written_s or 0.0
        self._pending.setdefault(image.series, deque()).append(_Waiting(tilt.index, exposed_s, time.time(), live))

    def feed(self, series_of: Mapping[str, Series]) -> Series | None:
        """Give the lane the tilt that was exposed first, but of a series that is far behind; its series.

        So series that are collected in turn are processed in turn after any pause, too: what is learned of the camera
        from one tilt counts for the next, in the same order.
        """
        waiting = {name: tilts for name, tilts in self._pending.items() if tilts}
        if self.at_work or not waiting:
            return None
        least = min(map(len, waiting.values()))
        near = [name for name, tilts in waiting.items() if len(tilts) < least + EVEN]
        name = min(near, key=lambda one: (waiting[one][0].exposed_s, one))
        self.at_work = True
        self._jobs.put(_live_job(series_of[name], waiting[name].popleft(), self._out))
        return series_of[name]

    def drop(self, series: str) -> None:
        """What waits of a series is not processed for now, and no more of it is expected."""
        self._pending.pop(series, None)
        self.let_go(series)

    def let_go(self, series: str) -> None:
        """No more tilts of a series are expected."""
        self._jobs.put(Over(series=series))

    def save(self, series: Series) -> Answer:
        """Write the live volume of a series to a file, as it is when the lane comes to it."""
        placed = tuple(series.placed())
        if series.has_ended:
            return Answer(ok=False, text=f"{series.name} is {series.state}: its live volume is no more")
        if not any(one.in_volume for _, one in placed):
            return Answer(ok=False, text=f"no tilt of {series.name} is in its volume yet")
        if not self._files.reserve():
            return Answer(ok=False, text="another live volume is being written; ask again in a moment")
        last = _Waiting(placed[-1][0].index, 0.0, 0.0, live=False)
        self._jobs.put(Save(replace(_live_job(series, last, self._out), placed=placed)))
        return Answer(ok=True, text=f"writing {path_of(self._out, series.name)}")

    def stop(self) -> None:
        """End the lane after the tilt at work, whatever waits."""
        self._stopping.set()
        self._jobs.put(None)

    def work(self, unfinished: Collection[str], before: Sequence[Job]) -> None:
        """The lane's thread; `unfinished` are the series of an earlier run that go on, `before` its last tilts."""
        from streamtomo.warmup import warm_live

        warm_live(self._settings)
        lane = Lane(self._settings, self._out)
        lane.start(unfinished, before)
        while not self._stopping.is_set():
            try:
                self._do(lane, self._jobs.get(timeout=LOOK_S))
            except queue.Empty:
                if events := lane.refine_when_idle(lambda: not self._jobs.empty()):
                    self._idle(events)
                self._save_grown(lane)
        lane.close()
        self._files.close()

    def _save_grown(self, lane: Lane) -> None:
        every_min = self._settings.live.save_every_min
        if every_min is not None and (due := lane.due(60 * every_min)) and self._files.reserve():
            name, live = due
            self._write(name, lambda: live)

    def _write(self, name: str, taken_up: Callable[[], LiveSeries]) -> None:
        try:
            self._files.write(take(name, taken_up(), self._out))
        except Exception as error:  # as where a tilt fails: it must not stop the lane
            self._files.give_up()
            self._idle([unsaved(name, error)])

    def _do(self, lane: Lane, job: Job | Over | Save | None) -> None:
        match job:
            case Job():
                self._done(lane.process(job))
                if news := lane.learn():
                    self._idle(news)
            case Over():
                lane.finished(job.series)
            case Save():
                self._write(job.job.tilt.image.series, lambda: lane.take_up(job.job))
            case None:
                pass


def placed_job(series: Series, index: int, out: Path) -> Job | None:
    """A tilt that went through the live lane as it did then; None where it counts no more."""
    job = _live_job(series, _Waiting(index, 0.0, 0.0, live=False), out)
    own = tuple((tilt, placed) for tilt, placed in series.placed() if tilt.index == index)
    return replace(job, placed=own) if own else None


def _live_job(series: Series, waiting: _Waiting, out: Path) -> Job:
    state = series.tilts[waiting.index]
    return Job(
        tilt=state.tilt,
        settings=series.settings,
        attempts=state.attempts,
        settled_s=waiting.settled_s,
        axis_deg=series.axis_deg or 0.0,
        pixel_size_A=series.pixel_size_A,
        folder=str(out / series.name),
        planned=series.planned,
        like=series.like,
        placed=tuple((tilt, placed) for tilt, placed in series.placed() if tilt.index != waiting.index),
    )


class FinishQueue:
    """Series that wait to be finished, and the one that is; what is out of date leaves it at once."""

    def __init__(self, tell: Callable[[FinishJob, Event], None]) -> None:
        """`tell` is called from the lane's thread with what happens to which job."""
        self.lane = FinishingLane(tell)
        self.names: list[str] = []
        """The series, the one at work first."""
        self._job: FinishJob | None = None
        self.paused = False

    def pause(self, *, pause: bool) -> None:
        """Begin nothing new and let the process at work stand still, or go on."""
        self.paused = pause
        self.lane.hold(still=pause)

    def add(self, series: str) -> None:
        """A series is to be finished."""
        self.names.append(series)

    def leave(self, series: str) -> None:
        """What is being made of a series, or was to be, is done or out of date."""
        if series in self.names:
            self.names.remove(series)
        if self._job is not None and self._job.series == series:
            self.lane.cancel(self._job)
            self._job = None

    def is_at_work(self, job: FinishJob) -> bool:
        """Whether what is told of this job counts; else its series goes on, or is finished anew."""
        return job is self._job

    def feed(self, series_of: Mapping[str, Series], out: Path, why_missing: Callable[[str, int], str]) -> None:
        """Give the lane the series that waits for longest; `why_missing` tells of tilts that were never placed."""
        if self._job is not None or self.paused:
            return
        if self.names:
            self._job = _finish_job(series_of[self.names[0]], out, why_missing)
            self.lane.submit(self._job)
        elif soon := next((one for one in series_of.values() if _may_end_soon(one)), None):
            self.lane.prepare(soon.settings)


def _may_end_soon(series: Series) -> bool:
    return series.state == "collecting" and len(series.tilts) >= READY_SHARE * (series.planned or READY_TILTS)


def _finish_job(series: Series, out: Path, why_missing: Callable[[str, int], str]) -> FinishJob:
    tilts = tuple(
        JobTilt(
            tilt=state.tilt,
            placement=state.placement,
            verdict=state.placed.verdict if state.placed and not state.wanted else None,
            failure=_failure(state) or (None if state.placed else why_missing(series.name, state.tilt.index)),
        )
        for state in series.tilts.values()
    )
    return FinishJob(
        series=series.name,
        folder=str(out / series.name),
        settings=series.settings,
        axis_deg=series.measured_axis_deg or series.axis_deg or 0.0,
        pixel_size_A=series.pixel_size_A,
        tilts=tilts,
        camera=max((placed.correction.camera for _, placed in series.placed() if placed.correction), default=None),
    )


def _failure(state: TiltState) -> str | None:
    """Why a tilt is left out of its series, whatever its verdict is."""
    lost = state.placed is not None and state.placed.unplaced and not state.wanted
    return state.excluded or (f"unplaced: {unplaced.WORDS}" if lost else None)


def join(thread: threading.Thread) -> None:
    """Wait for a thread that was told to end, but not for ever: the process ends anyway."""
    thread.join(timeout=10)
