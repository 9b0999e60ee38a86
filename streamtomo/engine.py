"""The shell round the machines: one inbox, one dispatcher, the live lane, the finishing lane, resume.

Everything that happens comes through the inbox, from the watcher, the two lanes, the bus and the clock. The dispatcher
(the thread that calls `run`) hands it to the series' machine and performs the commands that come back. Only it touches
the machines, the journal and the state.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from streamtomo import __version__, messages
from streamtomo.acting import Actor
from streamtomo.alarms import Alarms, Facts
from streamtomo.camera import SAVED_EVERY
from streamtomo.config import Settings
from streamtomo.desk import Desk
from streamtomo.errors import BusError, SettingsError, StreamtomoError
from streamtomo.finish.recipe import FinishJob
from streamtomo.folders import Folder, Folders, Found
from streamtomo.inbox import Asked, Done, Finishing, Idle, Inbox, Item, Sighted, Stop
from streamtomo.lanes import FinishQueue, LiveQueue, join, placed_job
from streamtomo.messages import (
    Event,
    FileRefused,
    FolderAdded,
    SeriesCompleted,
    SeriesDescribed,
    TiltPlaced,
    Warned,
)
from streamtomo.model import RawImage
from streamtomo.outfolder import free_GB, leave_away, lock_out, memory_GB, share, with_room
from streamtomo.reconstruct import device
from streamtomo.roster import Roster
from streamtomo.series import Command, Finish, Process, Say
from streamtomo.steady import now_s
from streamtomo.telling import Listener, Pictures, Teller

TICK_S = 0.2
HEARTBEAT_S = 1.0


class Engine:
    """One run: watched folders, an output folder, and everything between."""

    def __init__(
        self,
        watched: Path,
        out: Path,
        settings: Settings,
        *,
        more: Sequence[Path] = (),
        exit_when_idle_s: float | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        """Prepare a run of one folder, and of `more`; nothing is opened before `run`."""
        self.watched, self.more, self.out, self.settings = watched, tuple(more), out, settings
        self.exit_when_idle_s = exit_when_idle_s
        self.listeners = list(listeners)
        self.endpoint: str | None = None
        self._inbox = Inbox()
        self._teller, self._alarms = Teller(out, self.listeners), Alarms(settings)
        self._pictures = Pictures()
        self._stop = threading.Event()
        self._folders = Folders(lambda *found: self._inbox.put(Sighted(*found)), self._stop, self._or_stop)
        self.series = Roster(self._folders)
        self._live = LiveQueue(
            settings, out, lambda events: self._inbox.put(Done(events)), lambda events: self._inbox.put(Idle(events))
        )
        self._actor = Actor(settings.judge, out, lambda events: self._inbox.put(Idle(events)))
        self._finishing = FinishQueue(lambda job, event: self._inbox.put(Finishing(job, event)))
        self._desk = Desk(
            out,
            settings,
            self.series,
            self._folders,
            self._live,
            self._finishing,
            self._teller,
            perform=self._perform,
            stop=self.stop,
        )
        self._last_news = time.monotonic()
        self._stop_reason: str | None = None
        self._fault: str | None = None
        self._lately: deque[tuple[str, int]] = deque(maxlen=2 * SAVED_EVERY)
        """Tilts that an earlier run placed last, oldest first."""
        self._turned_away: Callable[[], int] = lambda: 0

    # -- what others may call ------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Ask for a clean end, whatever waits in the inbox; safe in a signal handler and from any thread."""
        self._stop_reason = self._stop_reason or reason
        self._inbox.put(Stop())

    def state(self) -> bytes:
        """The session's state as JSON, for late joiners and the dashboard; safe from any thread."""
        return self._teller.state()

    def ask(self, command: messages.Command, by: str = "this program") -> messages.Answer:
        """Carry out a command from outside, given by somebody; safe from any thread."""
        return self._inbox.ask(command, by)

    # -- the run -------------------------------------------------------------------------------------------------

    def warn(self, warning: Warned) -> None:
        """Tell of a trouble beside the run, from any thread."""
        self._inbox.put(Idle([warning]))

    def run(self) -> str:
        """Work until stopped or idle; returns the reason why it ended.

        Raises OutputError, SettingsError or BusError if it cannot start, StreamtomoError if a fault of ours ends it.
        """
        leave_away(self.settings.run.umask)
        with lock_out((self.watched, *self.more), self.out):
            try:
                share(self.out, self.settings.run.group)
                self._folders.add(self.watched, self.settings)
                resumed = self._replay()
                publisher = self._teller.open_bus(self.settings.publish, self.ask)
                self.endpoint, self._turned_away = publisher.endpoint, publisher.gate.turned_away.total
                try:
                    self._teller.say(self._started(resumed))
                    for path in self.more:
                        self._desk.add_folder(str(path))
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
        unfinished = [name for name, series in self.series.items() if not series.has_ended]
        before = [job for name, index in self._lately if (job := placed_job(self.series[name], index, self.out))]
        work = lambda: self._live.work(unfinished, before)  # noqa: E731
        lane = threading.Thread(target=self._or_stop, args=(work,), name="live", daemon=True)
        self._finishing.lane.start()
        lane.start()
        self._folders.start([state.tilt.image for series in self.series.values() for state in series.tilts.values()])
        try:
            for series in list(self.series.values()):
                self._perform(series.resume())
            self._dispatch()
        finally:
            self._stop.set()
            self._live.stop()
            self._finishing.lane.stop()
            for thread in (*self._folders.threads, lane, self._finishing.lane):
                join(thread)
            self._inbox.close()

    def _dispatch(self) -> None:
        next_tick = next_heartbeat = 0.0
        while self._stop_reason is None:
            self._handle(self._inbox.get(TICK_S))
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK_S
                self._tick(now)
            if now >= next_heartbeat:
                next_heartbeat = now + HEARTBEAT_S
                self._heartbeat()
            if not self._on_hold:
                self._feed()
        self._heartbeat()

    def _handle(self, item: Item | None) -> None:
        match item:
            case Sighted():
                self._sighted(item.folder, item.sighting)
            case Done():
                self._live.at_work = False
                self._lane_events(item.events)
            case Idle():
                self._lane_events(item.events)
            case Finishing():
                self._finishing_news(item.job, item.event)
            case Asked():
                item.answer.set_result(self._desk.obey(item.command, item.by))
            case Stop() | None:
                pass

    def _sighted(self, folder: Folder, sighting: Found) -> None:
        match sighting:
            case RawImage():
                self._image(folder, sighting)
            case SeriesDescribed():
                self._perform(self.series.of(sighting.series, sighting.source).described(sighting, now_s()))
            case FileRefused() | Warned():
                self._teller.once(sighting)
            case messages.FolderTested():
                self._teller.say(with_room(sighting, self.out))
            case None:
                pass

    def _image(self, folder: Folder, image: RawImage) -> None:
        series, now = self.series.of(image.series, image.path), now_s()
        before = len(series.tilts)
        commands = series.image(image, now, live=folder.listed)
        if commands:
            self._last_news = time.monotonic()
        if len(series.tilts) > before and folder.listed:
            self._alarms.arrived(str(folder.path), now)
        self._perform(commands)

    def _lane_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, TiltPlaced | messages.TiltFailed | messages.SeriesJudged | messages.AxisMeasured):
                self._last_news = time.monotonic()
                self._perform(self.series.of(event.series).processed(event, now_s()))
            elif isinstance(event, Warned):
                self._teller.once(event)
            elif isinstance(event, messages.Picture):
                self._show(self._pictures.offer(event, time.monotonic()))
            else:
                self._teller.say(event)

    def _show(self, pictures: Sequence[messages.Picture]) -> None:
        for picture in pictures:
            self._teller.say(picture)

    def _finishing_news(self, job: FinishJob, event: Event) -> None:
        if not self._finishing.is_at_work(job):
            return
        self._last_news = time.monotonic()
        series = self.series.of(job.series)
        match event:
            case messages.FinishStep():
                self._teller.say(event)
            case Warned():
                self._teller.once(event)
            case messages.FinishStarted():
                self._perform(series.finishing(event, now_s()))
            case messages.FinishDone() | messages.FinishFailed():
                self._finishing.leave(job.series)
                if isinstance(event, messages.FinishFailed):
                    final = not event.blocked and series.finish_attempts >= series.settings.final.attempts
                    event = msgspec.structs.replace(event, final=final)
                self._perform(series.finishing(event, now_s()))
            case _:
                pass

    # -- performing commands -------------------------------------------------------------------------------------

    def _perform(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Say():
                    self._say(command.event)
                case Process():
                    tilt = self.series.of(command.series).tilts[command.index].tilt
                    self._live.add(tilt, live=self._folders.listed)
                case Finish():
                    self._finishing.add(command.series)

    def _say(self, event: Event) -> None:
        self._teller.say(event)
        match event:
            case messages.SeriesReopened() | SeriesCompleted() | messages.SeriesDropped():
                self._finishing.leave(event.series)
                if isinstance(event, SeriesCompleted):
                    self.series.completed(event.series)
                if isinstance(event, messages.SeriesDropped):
                    self._live.drop(event.series)
            case messages.SeriesJudged():
                for news in self._actor.judged(event):
                    self._teller.say(news)
            case messages.FinishDone() | messages.FinishFailed() | messages.SeriesTooFew():
                if self.series.of(event.series).has_ended:
                    self._live.let_go(event.series)
            case _:
                pass

    @property
    def _on_hold(self) -> bool:
        """Whether nothing is begun that would have to be written down: the disk is full."""
        return self._teller.unwritable or self._alarms.stands("disk.full")

    def _feed(self) -> None:
        """Give both lanes something to do."""
        begun = self._live.feed(self.series)
        if begun is not None and begun.axis_deg is None:
            text = f"{begun.name}: no tilt-axis angle in the metadata, 0° assumed; set acquisition.tilt_axis_deg"
            self._teller.once(Warned(code="axis.unknown", text=text, series=begun.name))
        self._finishing.feed(self.series, self.out, self._teller.why_missing)

    # -- telling -------------------------------------------------------------------------------------------------

    def _started(self, resumed: bool) -> messages.SessionStarted:
        return messages.SessionStarted(
            watched=str(self.watched),
            out=str(self.out),
            host=socket.gethostname(),
            pid=os.getpid(),
            program=__version__,
            device=device.in_words(),
            resumed=resumed,
        )

    def _heartbeat(self) -> None:
        open_series = [series for series in self.series.values() if series.state == "collecting"]
        now, free = time.time(), free_GB(self.out)
        waiting = [series.waiting_for(now) for series in open_series] or ["the first image of a new series"]
        for news in self._alarms.look(self._facts(free), now):
            self._teller.say(news)
        self._teller.say(
            messages.Heartbeat(
                backlog=self._live.backlog,
                finishing=tuple(self._finishing.names),
                waiting_for="; ".join(waiting[:3]),
                free_GB=free,
                memory_GB=memory_GB(),
                turned_away=self._turned_away(),
                ending=self._stop_reason or "",
            )
        )

    def _facts(self, free: float | None) -> Facts:
        collecting = self.series.collecting_from()
        return Facts(
            backlog=self._live.live_backlog,
            free_GB=free,
            folders=[folder.facts(collecting=folder in collecting) for folder in self._folders if not folder.within],
        )

    # -- time ----------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        self._show(self._pictures.due(now))
        for series in self.series.observed():
            self._perform(series.tick(now_s()))
        limit = self.exit_when_idle_s
        if (
            limit is None
            or not self._folders.listed
            or self._live.backlog
            or self._finishing.names
            or now - self._last_news < limit
        ):
            return
        begun = self.series.begun()
        still_open = [series for series in begun if series.state == "collecting" and not series.busy]
        for series in still_open:
            self._perform(series.close(now_s(), "silence", f"nothing new for {limit:g} s (--exit-when-idle)"))
        if not still_open and not any(series.busy or series.state == "complete" for series in begun):
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

    # -- start and resume ----------------------------------------------------------------------------------------

    def _replay(self) -> bool:
        """Take up where the journal ends; True if there was one."""
        resumed = False
        for envelope in self._teller.open():
            resumed = True
            event = envelope.event
            if isinstance(event, messages.SessionStarted) and Path(event.watched) != self.watched:
                raise SettingsError(f"{self.out}: holds results of {event.watched}; choose another --out")
            if isinstance(event, FolderAdded):
                self._folders.take_up(event, self.settings, self.out)
            if isinstance(event, messages.FinishingPaused | messages.FinishingResumed):
                self._finishing.pause(pause=isinstance(event, messages.FinishingPaused))
            name = getattr(event, "series", None)
            if name is not None and not isinstance(event, FileRefused | Warned):
                self.series.of(name, getattr(event, "source", "")).apply(event, envelope.time_s)
            if isinstance(event, SeriesCompleted):
                self.series.completed(event.series)
            if isinstance(event, TiltPlaced):
                self._lately.append((event.series, event.index))
        return resumed


__all__ = ["BusError", "Engine"]
