"""The life of one series: a pure machine. What happens goes in with its time, what is to be done comes out.

Its methods answer with commands and never change the state by themselves: every change is an event (`Say`), applied
at once through `apply`. So a restart that applies the journal's events stands where the crash left it.

    collecting ──(count, silence, operator)──> complete ──> finishing ──> finished
        ^                                          |            |             |
        └────────────── a late tilt ───────────────┴────────────┴─────────────┘

A finishing that fails is `complete` again, until it is `failed` for good.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Literal

from msgspec import Struct

from streamtomo.config import Settings
from streamtomo.messages import (
    Event,
    FinishDone,
    FinishFailed,
    FinishStarted,
    SeriesCompleted,
    SeriesDescribed,
    SeriesJudged,
    SeriesOpened,
    SeriesReopened,
    SeriesState,
    TiltFailed,
    TiltPlaced,
    TiltReceived,
    TiltUpdated,
)
from streamtomo.model import RawImage, Tilt

MAX_ATTEMPTS = 4
"""How often a tilt that fails is tried before it is given up."""


class Say(Struct, frozen=True):
    """Write this event to the journal and tell everybody."""

    event: Event


class Process(Struct, frozen=True):
    """Send a tilt through the live lane."""

    series: str
    index: int


class Finish(Struct, frozen=True):
    """Queue the series for the finishing lane."""

    series: str


Command = Say | Process | Finish


class TiltState(Struct):
    """What became of one tilt."""

    tilt: Tilt
    status: Literal["waiting", "placed", "failed"] = "waiting"
    placed: TiltPlaced | None = None
    attempts: int = 0
    retry_at: float | None = None
    """When a failed tilt is tried again; None: not by itself."""


class Series:
    """One tilt series, from its first image to its tomogram."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.tilts: dict[int, TiltState] = {}
        self.state: SeriesState = "collecting"
        self.planned: int | None = settings.acquisition.planned_tilts
        self.opened: SeriesOpened | None = None
        self.axis_deg: float | None = settings.acquisition.tilt_axis_deg
        self.pixel_size_A: float | None = settings.acquisition.pixel_size_A
        self.judged: SeriesJudged | None = None
        self.finish_attempts = 0
        self.finished: FinishDone | None = None
        self._index_of: dict[str, int] = {}
        self._last_activity: float | None = None

    # -- what happened -------------------------------------------------------------------------------------------

    def image(self, image: RawImage, now: float, *, live: bool = True) -> list[Command]:
        """A settled image of this series was found."""
        known = self._index_of.get(image.key)
        if known is not None:
            return self._metadata(known, image, now)
        if image.gone is not None:
            return []
        events: list[Event] = []
        if self.opened is None:
            events.append(self._opening(image))
        if self.state != "collecting":
            events.append(SeriesReopened(series=self.name, reason=f"a tilt at {image.angle_deg:.1f}° came late"))
        tilt = Tilt(index=len(self.tilts), image=image)
        events.append(TiltReceived(series=self.name, tilt=tilt, live=live))
        return [*self._say(events, now), Process(self.name, tilt.index)]

    def described(self, event: SeriesDescribed, now: float) -> list[Command]:
        """Metadata told something about the series."""
        news = (
            (event.planned_tilts is not None and event.planned_tilts != self.planned)
            or (event.pixel_size_A is not None and event.pixel_size_A != self.pixel_size_A)
            or (event.tilt_axis_deg is not None and event.tilt_axis_deg != self.axis_deg)
        )
        return self._say([event], now) if news else []

    def processed(self, event: TiltPlaced | TiltFailed | SeriesJudged, now: float) -> list[Command]:
        """The live lane is done with a tilt."""
        if isinstance(event, TiltPlaced | TiltFailed) and self.tilts[event.index].tilt.image.gone is not None:
            return self.tick(now)  # whatever was read may be another exposure
        return [*self._say([event], now), *self.tick(now)]

    def finishing(self, event: FinishStarted | FinishDone | FinishFailed, now: float) -> list[Command]:
        """The finishing lane has news."""
        if self.state == "collecting":  # re-opened meanwhile: whatever was finished is out of date
            return []
        commands = self._say([event], now)
        if isinstance(event, FinishFailed) and not event.final:
            commands.append(Finish(self.name))
        return commands

    def close(self, now: float, witness: Literal["operator", "silence"], text: str) -> list[Command]:
        """Somebody says that no more tilts will come."""
        return self._complete(witness, text, now) if self.state == "collecting" and self.tilts else []

    def tick(self, now: float) -> list[Command]:
        """Time has passed: try failed tilts again, and see whether the series is complete."""
        commands: list[Command] = []
        for state in self.tilts.values():
            if state.retry_at is not None and state.retry_at <= now:
                state.status, state.retry_at = "waiting", None
                commands.append(Process(self.name, state.tilt.index))
        if self.state == "collecting" and self.tilts and not self.busy:
            commands += self._completion(now)
        return commands

    def resume(self) -> list[Command]:
        """What is still to be done after a restart."""
        waiting: list[Command] = [
            Process(self.name, state.tilt.index) for state in self.tilts.values() if state.status == "waiting"
        ]
        due = self.state in ("complete", "finishing")
        return [*waiting, Finish(self.name)] if due else waiting

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a tilt waits for the live lane, now or after a failure."""
        return any(state.status == "waiting" or state.retry_at is not None for state in self.tilts.values())

    def usable(self) -> list[TiltState]:
        """Tilts that the final alignment takes: placed, and not judged bad."""
        return [s for s in self.tilts.values() if s.placed and s.placed.placement and s.placed.verdict.state != "bad"]

    def interval_s(self) -> float | None:
        """Median time between tilts of this series; None before the third tilt."""
        stamps = sorted(stamp for stamp in map(self._stamp, self.tilts.values()) if stamp is not None)
        steps = [b - a for a, b in pairwise(stamps) if b > a]
        return median(steps) if len(steps) >= 2 else None

    def silence_limit_s(self) -> float:
        """Silence after which the series counts as complete."""
        watch = self.settings.watch
        return max(watch.silence_min_s, watch.silence_factor * (self.interval_s() or 0.0))

    def waiting_for(self, now: float) -> str:
        """What the series needs next, in words."""
        if self.busy:
            return f"{self.name}: {sum(s.status == 'waiting' for s in self.tilts.values())} tilts in the live lane"
        left = self.silence_limit_s() - (now - (self._last_activity or now))
        count = f"tilt {len(self.tilts) + 1}" + (f" of {self.planned}" if self.planned else "")
        return f"{self.name}: {count}, or {max(0.0, left):.0f} s more of silence"

    # -- state changes -------------------------------------------------------------------------------------------

    def apply(self, event: Event, time: float) -> None:
        """Change the state by one event; also how a journal is replayed."""
        match event:
            case SeriesOpened():
                self.opened = event
                self._learn(event.planned_tilts, event.pixel_size_A, event.tilt_axis_deg)
            case SeriesDescribed():
                self._learn(event.planned_tilts, event.pixel_size_A, event.tilt_axis_deg)
            case TiltReceived():
                self._receive(event, time)
            case TiltUpdated():
                self.tilts[event.tilt.index].tilt = event.tilt
                if self.state == "collecting":
                    self._last_activity = max(time, self._last_activity or time)
            case TiltPlaced():
                state = self.tilts[event.index]
                state.status, state.placed, state.retry_at = "placed", event, None
            case TiltFailed():
                self._fail(event, time)
            case SeriesJudged():
                self.judged = event
            case _:
                self._apply_phase(event)

    def _apply_phase(self, event: Event) -> None:
        match event:
            case SeriesCompleted():
                self.state = "complete"
            case SeriesReopened():
                self.state, self.finish_attempts = "collecting", 0
            case FinishStarted():
                self.state = "finishing"
                self.finish_attempts += 1
            case FinishDone():
                self.state, self.finished = "finished", event
            case FinishFailed():
                self.state = "failed" if event.final else "complete"
            case _:
                pass

    def _learn(self, planned: int | None, pixel_size_A: float | None, axis_deg: float | None) -> None:
        acquisition = self.settings.acquisition
        self.planned = acquisition.planned_tilts or planned or self.planned
        self.pixel_size_A = acquisition.pixel_size_A or pixel_size_A or self.pixel_size_A
        stated = axis_deg if axis_deg is not None else self.axis_deg
        self.axis_deg = acquisition.tilt_axis_deg if acquisition.tilt_axis_deg is not None else stated

    def _receive(self, event: TiltReceived, time: float) -> None:
        image = event.tilt.image
        self.tilts[event.tilt.index] = TiltState(tilt=event.tilt)
        self._index_of[image.key] = event.tilt.index
        seen = time if event.live or image.written_s is None else min(time, image.written_s)
        self._last_activity = max(seen, self._last_activity or seen)
        self._learn(None, image.pixel_size_A, image.tilt_axis_deg)

    def _fail(self, event: TiltFailed, time: float) -> None:
        state = self.tilts[event.index]
        state.status, state.attempts = "failed", event.attempts
        state.retry_at = None if event.final else time + 2.0**event.attempts
        state.placed = None if event.final else state.placed  # whatever was placed cannot be read again

    # -- decisions -----------------------------------------------------------------------------------------------

    def _say(self, events: list[Event], now: float) -> list[Command]:
        for event in events:
            self.apply(event, now)
        return [Say(event) for event in events]

    def _opening(self, image: RawImage) -> SeriesOpened:
        return SeriesOpened(
            series=self.name,
            source=image.path,
            nx=image.nx,
            ny=image.ny,
            pixel_size_A=self.pixel_size_A or image.pixel_size_A,
            tilt_axis_deg=self.axis_deg if self.axis_deg is not None else image.tilt_axis_deg,
            planned_tilts=self.planned,
        )

    def _metadata(self, index: int, image: RawImage, now: float) -> list[Command]:
        """Something about a known image is new: what is known of it, where it lies, or that it is gone."""
        known = self.tilts[index].tilt.image
        if known == image:
            return []
        events: list[Event] = []
        if (known.path, known.section) != (image.path, image.section) and self.state != "collecting":
            events.append(SeriesReopened(series=self.name, reason="its images lie elsewhere now (sorted or renamed)"))
        events.append(TiltUpdated(series=self.name, tilt=Tilt(index=index, image=image)))
        if image.gone is not None and known.gone is None:
            events.append(TiltFailed(series=self.name, index=index, reason=image.gone, final=True))
        return self._say(events, now)

    def _completion(self, now: float) -> list[Command]:
        count = len(self.tilts)
        if self.planned and count >= self.planned:
            return self._complete("count", f"{count} of {self.planned} planned tilts are here", now)
        silence = now - (self._last_activity or now)
        if silence > self.silence_limit_s():
            interval = self.interval_s()
            usual = f", usual interval {interval:.0f} s" if interval else ""
            return self._complete("silence", f"no new tilt for {silence:.0f} s{usual}", now)
        return []

    def _complete(self, witness: Literal["count", "silence", "operator"], text: str, now: float) -> list[Command]:
        events: list[Event] = [SeriesCompleted(series=self.name, witness=witness, text=text, tilts=len(self.tilts))]
        usable, least = len(self.usable()), self.settings.watch.min_tilts
        if usable >= least:
            return [*self._say(events, now), Finish(self.name)]
        reason = f"{usable} usable tilts, at least {least} are needed (watch.min_tilts)"
        return self._say([*events, FinishFailed(series=self.name, reason=reason, final=True)], now)

    def _stamp(self, state: TiltState) -> float | None:
        image = state.tilt.image
        return image.acquired_s if image.acquired_s is not None else image.written_s
