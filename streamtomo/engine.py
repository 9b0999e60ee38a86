"""The shell round the machines: one inbox, one dispatcher, the live lane, the finishing lane, resume.

Everything that happens comes through the inbox, from the watcher, the two lanes, the bus and the clock. The dispatcher
(the thread that calls `run`) hands it to the series' machine and performs the commands that come back. Only it touches
the machines, the journal and the state.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from streamtomo import __version__, messages
from streamtomo.config import Settings
from streamtomo.errors import BusError, OutputError, SettingsError, StreamtomoError
from streamtomo.export.imod import write_text
from streamtomo.finish.recipe import FinishJob, JobTilt
from streamtomo.finishing import FinishingLane
from streamtomo.lane import Job, Lane
from streamtomo.messages import (
    Event,
    FileRefused,
    SeriesDescribed,
    SeriesJudged,
    TiltFailed,
    TiltPlaced,
    Warned,
)
from streamtomo.model import RawImage
from streamtomo.outfolder import Disk, lock_out, memory_GB, readable
from streamtomo.publish.bus import Publisher, command_socket
from streamtomo.series import Command, Finish, Process, Say, Series
from streamtomo.telling import Listener, Teller
from streamtomo.watch.folder import watch

TICK_S = 0.2
HEARTBEAT_S = 1.0


class _Listed(Struct, frozen=True):
    """The watcher has worked through everything that is there."""


class _Done(Struct, frozen=True):
    """The live lane is done with a tilt."""

    events: list[Event]


class _Idle(Struct, frozen=True):
    """What the live lane did while no tilt waited."""

    events: list[Event]


class _Finishing(Struct, frozen=True):
    """News from the finishing lane."""

    event: Event


class _Asked(Struct, frozen=True):
    """A command from outside, and where its answer goes."""

    command: messages.Command
    answer: Future[messages.Answer]


class _Stop(Struct, frozen=True):
    """Wakes the dispatcher: the run is to end."""


_Item = RawImage | SeriesDescribed | FileRefused | Warned | _Listed | _Done | _Idle | _Finishing | _Asked | _Stop


class Engine:
    """One run: a watched folder, an output folder, and everything between."""

    def __init__(
        self,
        watched: Path,
        out: Path,
        settings: Settings,
        *,
        exit_when_idle_s: float | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        """Prepare a run; nothing is opened before `run`."""
        self.watched, self.out, self.settings = watched, out, settings
        self.exit_when_idle_s = exit_when_idle_s
        self.listeners = list(listeners)
        self.endpoint: str | None = None
        self.series: dict[str, Series] = {}
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()  # the only kind that a signal handler may use
        self._teller, self._disk = Teller(out, self.listeners), Disk(out)
        self._pending: dict[str, deque[tuple[int, float]]] = {}
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._in_lane = False
        self._finishing: list[str] = []
        self._listed = False
        self._last_news = time.monotonic()
        self._stop_reason: str | None = None
        self._stop = threading.Event()
        self._fault: str | None = None

    # -- what others may call ------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Ask for a clean end, whatever waits in the inbox; safe in a signal handler and from any thread."""
        self._stop_reason = self._stop_reason or reason
        self._inbox.put(_Stop())

    def state(self) -> bytes:
        """The session's state as JSON, for late joiners and the dashboard; safe from any thread."""
        return self._teller.state()

    def ask(self, command: messages.Command) -> messages.Answer:
        """Carry out a command from outside; safe from any thread."""
        if self._stop.is_set():
            return _too_late(command)
        answer: Future[messages.Answer] = Future()
        self._inbox.put(_Asked(command, answer))
        try:
            return answer.result(timeout=5)
        except NoAnswer:
            return messages.Answer(ok=False, text="the run did not answer within 5 s")

    # -- the run -------------------------------------------------------------------------------------------------

    def run(self) -> str:
        """Work until stopped or idle; returns the reason why it ended.

        Raises OutputError, SettingsError or BusError if it cannot start, StreamtomoError if a fault of ours ends it.
        """
        with lock_out(self.watched, self.out):
            try:
                resumed = self._replay()
                publisher = self._open_bus()
                try:
                    self._teller.say(self._started(resumed))
                    self._work()
                    self._teller.say(messages.SessionEnded(reason=self._stop_reason or ""))
                finally:
                    publisher.close()
            finally:
                self._teller.close()
                (self.out / "endpoint.json").unlink(missing_ok=True)
        if self._fault is not None:
            raise StreamtomoError(f"{self._fault}; the same command takes the run up again")
        return self._stop_reason or ""

    def _work(self) -> None:
        finisher = FinishingLane(lambda event: self._inbox.put(_Finishing(event)))
        lane = threading.Thread(target=self._or_stop, args=(self._live_lane,), name="live", daemon=True)
        watcher = threading.Thread(target=self._or_stop, args=(self._watch,), name="watch", daemon=True)
        self._finisher = finisher
        self._known = [state.tilt.image for series in self.series.values() for state in series.tilts.values()]
        for thread in (finisher, lane, watcher):
            thread.start()
        try:
            for series in list(self.series.values()):
                self._perform(series.resume())
            self._dispatch()
        finally:
            self._stop.set()
            self._jobs.put(None)
            finisher.stop()
            for thread in (watcher, lane, finisher):
                thread.join(timeout=10)
            self._turn_away()

    def _dispatch(self) -> None:
        next_tick = next_heartbeat = 0.0
        while self._stop_reason is None:
            with suppress(queue.Empty):
                self._handle(self._inbox.get(timeout=TICK_S))
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK_S
                self._tick(now)
            if now >= next_heartbeat:
                next_heartbeat = now + HEARTBEAT_S
                self._heartbeat()
            self._feed_lane()

    def _handle(self, item: _Item) -> None:
        match item:
            case RawImage():
                self._sighted(item)
            case SeriesDescribed():
                self._perform(self._of(item.series).described(item, time.time()))
            case FileRefused() | Warned():
                self._teller.once(item)
            case _Listed():
                self._listed = True
            case _Done():
                self._in_lane = False
                self._lane_events(item.events)
            case _Idle():
                self._lane_events(item.events)
            case _Finishing():
                self._finishing_news(item.event)
            case _Asked():
                item.answer.set_result(self._obey(item.command))
            case _Stop():
                pass

    def _sighted(self, image: RawImage) -> None:
        series = self._of(image.series)
        commands = series.image(image, time.time(), live=self._listed)
        if commands:
            self._last_news = time.monotonic()
        self._perform(commands)

    def _lane_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, TiltPlaced | TiltFailed | SeriesJudged):
                self._last_news = time.monotonic()
                self._perform(self._of(event.series).processed(event, time.time()))
            elif isinstance(event, Warned):
                self._teller.once(event)
            else:
                self._teller.say(event)

    def _finishing_news(self, event: Event) -> None:
        self._last_news = time.monotonic()
        match event:
            case messages.FinishStep():
                self._teller.say(event)
            case messages.FinishStarted():
                self._perform(self._of(event.series).finishing(event, time.time()))
            case messages.FinishDone() | messages.FinishFailed():
                self._finishing.remove(event.series)
                series = self._of(event.series)
                if isinstance(event, messages.FinishFailed):
                    final = series.finish_attempts >= self.settings.final.attempts
                    event = msgspec.structs.replace(event, final=final)
                self._perform(series.finishing(event, time.time()))
            case _:
                pass

    def _obey(self, command: messages.Command) -> messages.Answer:
        if isinstance(command, messages.StopRun):
            self._stop_reason = "stopped by command"
            return messages.Answer(ok=True, text="stopping")
        series = self.series.get(command.series)
        if series is None:
            known = ", ".join(self.series) or "none yet"
            return messages.Answer(ok=False, text=f"no series {command.series}; known: {known}")
        commands = series.close(time.time(), "operator", "closed by the operator")
        self._perform(commands)
        return messages.Answer(ok=bool(commands), text="closed" if commands else f"{command.series} is {series.state}")

    # -- performing commands -------------------------------------------------------------------------------------

    def _perform(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Say():
                    self._teller.say(command.event)
                case Process():
                    self._pending.setdefault(command.series, deque()).append((command.index, time.time()))
                case Finish():
                    self._finish(command.series)

    def _finish(self, name: str) -> None:
        series = self._of(name)
        tilts = tuple(
            JobTilt(
                tilt=state.tilt,
                placement=state.placed.placement if state.placed else None,
                verdict=state.placed.verdict if state.placed else None,
                failure=None if state.placed else self._why_missing(name, state.tilt.index),
            )
            for state in series.tilts.values()
        )
        self._finishing.append(name)
        self._finisher.submit(
            FinishJob(
                series=name,
                folder=str(self.out / name),
                settings=self.settings,
                axis_deg=series.axis_deg or 0.0,
                pixel_size_A=series.pixel_size_A,
                tilts=tilts,
            )
        )

    def _why_missing(self, name: str, index: int) -> str:
        return self._teller.failure_of(name, index) or "was not processed yet when the series was closed"

    def _feed_lane(self) -> None:
        """Give the live lane the oldest waiting tilt of the series with the least work waiting."""
        waiting = {name: tilts for name, tilts in self._pending.items() if tilts}
        if self._in_lane or not waiting:
            return
        name = min(waiting, key=lambda one: len(waiting[one]))
        index, settled_s = waiting[name].popleft()
        series = self._of(name)
        if series.axis_deg is None:
            text = f"{name}: no tilt-axis angle in the metadata, 0° assumed; set acquisition.tilt_axis_deg"
            self._teller.once(Warned(code="axis.unknown", text=text, series=name))
        placed = tuple(
            (state.tilt, state.placed) for state in series.tilts.values() if state.placed and state.tilt.index != index
        )
        self._in_lane = True
        self._jobs.put(
            Job(
                tilt=series.tilts[index].tilt,
                attempts=series.tilts[index].attempts,
                settled_s=settled_s,
                axis_deg=series.axis_deg or 0.0,
                pixel_size_A=series.pixel_size_A,
                folder=str(self.out / name),
                placed=placed,
            )
        )

    def _of(self, name: str) -> Series:
        if name not in self.series:
            self.series[name] = Series(name, self.settings)
        return self.series[name]

    # -- telling -------------------------------------------------------------------------------------------------

    def _started(self, resumed: bool) -> messages.SessionStarted:
        return messages.SessionStarted(
            watched=str(self.watched),
            out=str(self.out),
            host=socket.gethostname(),
            pid=os.getpid(),
            program=__version__,
            resumed=resumed,
        )

    def _heartbeat(self) -> None:
        open_series = [series for series in self.series.values() if series.state == "collecting"]
        now = time.time()
        waiting = [series.waiting_for(now) for series in open_series] or ["the first image of a new series"]
        free_GB, shortage = self._disk.look()
        if shortage is not None:
            self._teller.say(Warned(code="disk.low", text=shortage))
        self._teller.say(
            messages.Heartbeat(
                backlog=self._backlog(),
                finishing=tuple(self._finishing),
                waiting_for="; ".join(waiting[:3]),
                free_GB=free_GB,
                memory_GB=memory_GB(),
            )
        )

    # -- time ----------------------------------------------------------------------------------------------------

    def _backlog(self) -> int:
        return sum(map(len, self._pending.values())) + self._in_lane

    def _tick(self, now: float) -> None:
        if not self._listed:
            return  # silence means nothing before the folder was seen once
        for series in list(self.series.values()):
            self._perform(series.tick(time.time()))
        limit = self.exit_when_idle_s
        if limit is None or self._backlog() or self._finishing or now - self._last_news < limit:
            return
        begun = [series for series in self.series.values() if series.tilts]  # the others are known from metadata only
        still_open = [series for series in begun if series.state == "collecting" and not series.busy]
        for series in still_open:
            self._perform(series.close(time.time(), "silence", f"nothing new for {limit:g} s (--exit-when-idle)"))
        if not still_open and not any(series.busy for series in begun):
            self._stop_reason = f"nothing new for {limit:g} s"

    # -- threads -------------------------------------------------------------------------------------------------

    def _or_stop(self, work: Callable[[], None]) -> None:
        """Work in a thread; without its threads a run would only seem to be alive."""
        try:
            work()
        except Exception as error:
            name = threading.current_thread().name
            self._fault = f"internal error in the thread {name!r}: {type(error).__name__}: {error}"
            self.stop(self._fault)

    def _turn_away(self) -> None:
        """Answer commands that nobody will carry out any more."""
        with suppress(queue.Empty):
            while True:
                item = self._inbox.get_nowait()
                if isinstance(item, _Asked):
                    item.answer.set_result(_too_late(item.command))

    def _watch(self) -> None:
        for sighting in watch(self.watched, self.settings, self._stop, known=self._known):
            self._inbox.put(_Listed() if sighting is None else _in_utf8(sighting))

    def _live_lane(self) -> None:
        from streamtomo.warmup import warm_live

        warm_live(self.settings)
        lane = Lane(self.settings)
        while not self._stop.is_set():
            try:
                job = self._jobs.get(timeout=TICK_S / 4)
            except queue.Empty:
                events = lane.refine_when_idle(lambda: not self._jobs.empty())
                if events:
                    self._inbox.put(_Idle(events))
                continue
            if job is None:
                return
            self._inbox.put(_Done(lane.process(job)))

    # -- start and resume ----------------------------------------------------------------------------------------

    def _replay(self) -> bool:
        """Take up where the journal ends; True if there was one."""
        resumed = False
        for envelope in self._teller.open():
            resumed = True
            event = envelope.event
            if isinstance(event, messages.SessionStarted) and Path(event.watched) != self.watched:
                raise SettingsError(f"{self.out}: holds results of {event.watched}; choose another --out")
            name = getattr(event, "series", None)
            if name is not None and not isinstance(event, FileRefused | Warned):
                self._of(name).apply(event, envelope.time_s)
        return resumed

    def _open_bus(self) -> Publisher:
        settings = self.settings.publish
        publisher = Publisher(
            bind=settings.bind,
            port=settings.port,
            curve_keys=Path(settings.curve_keys) if settings.curve_keys else None,
            snapshot=self.state,
            command=self.ask,
            command_socket=command_socket(self.out),
        )
        self.endpoint = publisher.endpoint
        try:
            write_text(self.out / "endpoint.json", msgspec.json.encode({"endpoint": self.endpoint}).decode() + "\n")
        except OutputError:
            publisher.close()
            raise
        self._teller.publish_on(publisher)
        return publisher


def _too_late(command: messages.Command) -> messages.Answer:
    return messages.Answer(ok=isinstance(command, messages.StopRun), text="the run is ending")


def _in_utf8(sighting: messages.Sighting) -> messages.Sighting:
    """A sighting that can be written down: bytes in names that are no UTF-8 are shown as `\\xe9`, images refused."""
    fields = msgspec.structs.asdict(sighting)
    odd = {name: readable(text) for name, text in fields.items() if isinstance(text, str) and readable(text) != text}
    if odd and isinstance(sighting, RawImage):
        return FileRefused(path=readable(sighting.path), reason="its name, or its folder's, is not UTF-8; rename it")
    return msgspec.structs.replace(sighting, **odd) if odd else sighting


__all__ = ["BusError", "Engine"]
