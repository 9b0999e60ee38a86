"""The life of one series: a pure machine. What happens goes in with its time, what is to be done comes out.

Its methods answer with commands and never change the state by themselves: every change is an event (`Say`), applied
at once through `apply`. So a restart that applies the journal's events stands where the crash left it.

    collecting ──(a witness)──> complete ──> finishing ──> finished
        ^                        |  |            |             |
        └────── a late tilt ─────┴──│────────────┴─────────────┘
                                    └──> too few

The operator may give a series up (`rejected`) or open it again, whatever its state. A complete series is finished as
soon as no tilt of it waits for the live lane. A finishing that fails is `complete` again, until it is `failed` for
good.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import Literal

from msgspec import Struct

from streamtomo import config_file
from streamtomo.config import Settings
from streamtomo.messages import (
    AxisMeasured,
    Event,
    FinishAsked,
    FinishDone,
    FinishFailed,
    FinishStarted,
    SeriesCompleted,
    SeriesDescribed,
    SeriesDropped,
    SeriesJudged,
    SeriesOpened,
    SeriesReopened,
    SeriesState,
    SeriesTooFew,
    TiltExcluded,
    TiltFailed,
    TiltPlaced,
    TiltReceived,
    TiltRestored,
    TiltRetried,
    TiltUpdated,
    Witness,
)
from streamtomo.model import RawImage, Tilt
from streamtomo.plan import planned_angles

MAX_ATTEMPTS = 4
"""How often a tilt that fails is tried before it is given up."""
RETAKE_DEG = 0.1
"""Two exposures one after the other whose angles differ by less are one target taken twice ..."""
MOST_RETAKES, MOST_RETAKES_SHARE = 3, 0.25
"""... unless there are more of them, and more than this share of all tilts: then the plan repeats its angles."""
RETAKEN = "taken again as tilt"
ANGLE_TOLERANCE_DEG = 0.6
"""A planned angle counts as taken within this, or just under half a step: stages do not go where they are sent."""
SIBLING_INTERVALS = 2.5
"""A series with all the angles of the one before it is complete after a silence of so many of its intervals."""
LONGEST_PAUSE_S = 300.0
"""Between attempts to finish a series while the output folder cannot be written."""


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
    excluded: str | None = None
    """Why it is left out, whatever it is like."""
    wanted: bool = False
    """The operator wants it, whatever its verdict is."""

    @property
    def usable(self) -> bool:
        """Whether the final alignment takes it: placed, and neither excluded nor judged bad."""
        if self.placed is None or self.placed.placement is None or self.excluded is not None:
            return False
        return self.wanted or self.placed.verdict.state != "bad"


class Series:
    """One tilt series, from its first image to its tomogram."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.tilts: dict[int, TiltState] = {}
        self.state: SeriesState = "collecting"
        self.plan = planned_angles(settings.acquisition.planned_angles)
        """Tilt angles that the settings plan."""
        self.planned: int | None = settings.acquisition.planned_tilts or len(self.plan) or None
        self.like: tuple[float, ...] = ()
        """Tilt angles of the last complete series from the same folder: probably the plan of this one, too."""
        self.opened: SeriesOpened | None = None
        self.axis_deg: float | None = settings.acquisition.tilt_axis_deg
        self.measured_axis_deg: float | None = None
        self.pixel_size_A: float | None = settings.acquisition.pixel_size_A
        self.judged: SeriesJudged | None = None
        self.finish_attempts = 0
        self.finished: FinishDone | None = None
        self._blocked = 0
        self._finish_at: float | None = None
        self._index_of: dict[str, int] = {}
        self._placed: dict[int, None] = {}
        self._last_activity: float | None = None
        self._finish_asked = False
        self._repeats_angles = False
        self._held_open = False
        """Whether the operator waits for more tilts than were planned."""

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
        if self.state not in ("collecting", "rejected"):
            events.append(SeriesReopened(series=self.name, reason=f"a tilt at {image.angle_deg:.1f}° came late"))
        tilt = Tilt(index=len(self.tilts), image=image)
        events.append(TiltReceived(series=self.name, tilt=tilt, live=live))
        commands = self._say(events, now)
        commands += self._say(self._retakes(tilt.index), now)
        return commands if self.state == "rejected" else [*commands, Process(self.name, tilt.index)]

    def described(self, event: SeriesDescribed, now: float) -> list[Command]:
        """Metadata told something about the series."""
        news = (
            (event.planned_tilts is not None and event.planned_tilts != self.planned)
            or (event.pixel_size_A is not None and event.pixel_size_A != self.pixel_size_A)
            or (event.tilt_axis_deg is not None and event.tilt_axis_deg != self.axis_deg)
        )
        return self._say([event], now) if news else []

    def processed(self, event: TiltPlaced | TiltFailed | SeriesJudged | AxisMeasured, now: float) -> list[Command]:
        """The live lane is done with a tilt."""
        if isinstance(event, TiltPlaced | TiltFailed) and self.tilts[event.index].tilt.image.gone is not None:
            return self.tick(now)  # whatever was read may be another exposure
        return [*self._say([event], now), *self.tick(now)]

    def finishing(self, event: FinishStarted | FinishDone | FinishFailed, now: float) -> list[Command]:
        """The finishing lane has news."""
        if self.state in ("collecting", "rejected"):  # meanwhile: whatever was finished is out of date
            return []
        if isinstance(event, FinishFailed):
            self._finish_asked = False
        return [*self._say([event], now), *self._finish_if_due(now)]

    def close(self, now: float, witness: Literal["operator", "silence"], text: str) -> list[Command]:
        """Somebody says that no more tilts will come; it is finished when those that are here are placed."""
        if self.state != "collecting" or not self.tilts:
            return []
        return [*self._complete(witness, text, now), *self._finish_if_due(now)]

    def retry(self, now: float) -> list[Command]:
        """What failed is tried again: tilts, and the finishing."""
        if self.state == "rejected":
            return []
        failed = [index for index, state in self.tilts.items() if state.status == "failed"]
        commands = self._say([TiltRetried(series=self.name, index=index) for index in failed], now)
        commands += [Process(self.name, index) for index in failed]
        if self.state == "failed" or (failed and self.state != "collecting"):
            commands += self._again("tried again by the operator", now)
        return commands

    def exclude(self, indices: Iterable[int], reason: str, now: float) -> list[Command]:
        """These tilts are left out from now on; those that are already, or that there are not, change nothing."""
        found = [i for i in indices if i in self.tilts and self.tilts[i].excluded is None]
        commands = self._say([TiltExcluded(series=self.name, index=i, reason=reason) for i in found], now)
        return commands + self._changed(found, now)

    def restore(self, indices: Iterable[int], now: float) -> list[Command]:
        """These tilts count again, also where they were judged bad."""
        found = [i for i in indices if i in self.tilts and not self.tilts[i].usable]
        commands = self._say([TiltRestored(series=self.name, index=i) for i in found], now)
        return commands + self._changed(found, now)

    def reject(self, reason: str, now: float) -> list[Command]:
        """Nothing more is made of it; tilts that come are noted, and wait until it is opened again."""
        if self.state == "rejected":
            return []
        return self._say([SeriesDropped(series=self.name, reason=reason)], now)

    def reopen(self, now: float) -> list[Command]:
        """More tilts are expected: it is closed by silence or the operator, whatever the plan says."""
        if self.state == "collecting":
            return []
        event = SeriesReopened(series=self.name, reason="by the operator, for more tilts", by_operator=True)
        return [*self._say([event], now), *self._waiting()]

    def finish_again(self, overrides: tuple[str, ...], now: float) -> list[Command]:
        """It is finished with changed settings, at once if its tilts are placed. Raises SettingsError."""
        if not self.tilts:
            return []
        config_file.changed(self.settings, overrides)
        commands = self._say([FinishAsked(series=self.name, overrides=overrides)], now) if overrides else []
        waiting = self._waiting() if self.state == "rejected" else []
        return [*commands, *self._again("finished by the operator's order", now), *waiting]

    def tick(self, now: float) -> list[Command]:
        """Time has passed: try failed tilts again, see whether the series is complete, and finish it."""
        commands: list[Command] = []
        if self.state == "rejected":
            return commands
        for state in self.tilts.values():
            if state.retry_at is not None and state.retry_at <= now:
                state.status, state.retry_at = "waiting", None
                commands.append(Process(self.name, state.tilt.index))
        if self.state == "collecting" and self.tilts and not self.busy:
            commands += self._completion(now)
        return commands + self._finish_if_due(now)

    def resume(self) -> list[Command]:
        """What is still to be done after a restart."""
        self._finish_at = None
        if self.state == "finishing":  # by a process that is no more
            self.state = "complete"
        return [] if self.state == "rejected" else self._waiting()

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to be done, unless a late tilt comes."""
        return self.state in ("finished", "failed", "too few", "rejected")

    @property
    def busy(self) -> bool:
        """Whether a tilt waits for the live lane, now or after a failure."""
        if self.state == "rejected":
            return False
        return any(state.status == "waiting" or state.retry_at is not None for state in self.tilts.values())

    def placed(self) -> list[tuple[Tilt, TiltPlaced]]:
        """Tilts that went through the live lane, in the order in which they did: on it the placements depend."""
        states = (self.tilts[index] for index in self._placed)
        return [(state.tilt, state.placed) for state in states if state.placed and state.excluded is None]

    def usable(self) -> list[TiltState]:
        """Tilts that the final alignment takes: placed, and not judged bad."""
        return [state for state in self.tilts.values() if state.usable]

    def kept(self) -> list[TiltState]:
        """Tilts that are not excluded."""
        return [state for state in self.tilts.values() if state.excluded is None]

    def interval_s(self) -> float | None:
        """Median time between tilts of this series; None before the third tilt."""
        stamps = sorted(stamp for stamp in map(self._stamp, self.tilts.values()) if stamp is not None)
        steps = [b - a for a, b in pairwise(stamps) if b > a]
        return median(steps) if len(steps) >= 2 else None

    def silence_limit_s(self) -> float:
        """Silence after which the series counts as complete."""
        watch = self.settings.watch
        return max(watch.silence_min_s, watch.silence_factor * (self.interval_s() or 0.0))

    def silent_s(self, now: float) -> float:
        """Seconds since the last tilt came."""
        return max(0.0, now - (self._last_activity or now))

    def waiting_for(self, now: float) -> str:
        """What the series needs next, in words."""
        if self.busy:
            return f"{self.name}: {sum(s.status == 'waiting' for s in self.tilts.values())} tilts in the live lane"
        left = self.silence_limit_s() - self.silent_s(now)
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
                self._placed[event.index] = None
            case TiltFailed():
                self._fail(event, time)
            case TiltRetried():
                state = self.tilts[event.index]
                state.status, state.attempts, state.retry_at = "waiting", 0, None
            case TiltExcluded():
                self.tilts[event.index].excluded, self.tilts[event.index].wanted = event.reason, False
            case TiltRestored():
                self._repeats_angles |= event.reason is not None
                self.tilts[event.index].excluded, self.tilts[event.index].wanted = None, event.reason is None
            case SeriesJudged():
                self.judged = event
            case AxisMeasured():
                self.measured_axis_deg = event.axis_deg
            case FinishAsked():
                self.settings = config_file.changed(self.settings, event.overrides)
            case _:
                self._apply_phase(event, time)

    def _apply_phase(self, event: Event, time: float) -> None:
        match event:
            case SeriesCompleted():
                self.state, self.finish_attempts, self._finish_asked = "complete", 0, False
                self._held_open = False
            case SeriesTooFew():
                self.state = "too few"
            case SeriesReopened():
                self.state, self.finish_attempts = "collecting", 0
                self._blocked, self._finish_at = 0, None
                if event.by_operator:
                    self._held_open, self._last_activity = True, time
            case SeriesDropped():
                self.state = "rejected"
            case FinishStarted():
                self.state = "finishing"
                self.finish_attempts += 1
            case FinishDone():
                self.state, self.finished = "finished", event
            case FinishFailed(blocked=True):
                self.state, self.finish_attempts = "complete", self.finish_attempts - 1
                self._blocked += 1
                self._finish_at = time + min(LONGEST_PAUSE_S, 2.0**self._blocked)
            case FinishFailed():
                self.state = "failed" if event.final else "complete"
            case _:
                pass

    def _learn(self, planned: int | None, pixel_size_A: float | None, axis_deg: float | None) -> None:
        acquisition = self.settings.acquisition
        self.planned = acquisition.planned_tilts or len(self.plan) or planned or self.planned
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

    def _waiting(self) -> list[Command]:
        return [Process(self.name, state.tilt.index) for state in self.tilts.values() if state.status == "waiting"]

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

    def _retakes(self, index: int) -> list[Event]:
        """The earlier of two exposures of one target is left out: of one angle, with no other taken between them."""
        order = sorted(self.kept(), key=lambda state: (self._stamp(state) or 0.0, state.tilt.index))
        at = next(i for i, state in enumerate(order) if state.tilt.index == index)
        repeated = [pair for pair in pairwise(order[max(0, at - 1) : at + 2]) if self._is_retake(*pair)]
        before = [i for i, state in self.tilts.items() if (state.excluded or "").startswith(RETAKEN)]
        count = len(before) + len(repeated)
        if repeated and count > max(MOST_RETAKES, MOST_RETAKES_SHARE * len(self.tilts)):
            return [TiltRestored(series=self.name, index=i, reason="every angle is repeated") for i in before]
        return [
            TiltExcluded(series=self.name, index=one.tilt.index, reason=f"{RETAKEN} {other.tilt.index}")
            for one, other in repeated
        ]

    def _is_retake(self, one: TiltState, other: TiltState) -> bool:
        """Whether these two, neighbours in time, show one target; without times of their own nobody knows."""
        stamps = self._stamp(one), self._stamp(other)
        apart = abs(one.tilt.image.angle_deg - other.tilt.image.angle_deg)
        return apart < RETAKE_DEG and not self._repeats_angles and None not in stamps and stamps[0] != stamps[1]

    def _completion(self, now: float) -> list[Command]:
        count, wanted = len(self.kept()), self.settings.acquisition.planned_tilts
        if self._has_all(self.plan) and not self._held_open:
            return self._complete("count", f"all {len(self.plan)} planned angles are here", now)
        if self.planned and count >= self.planned and (wanted or not self.plan) and not self._held_open:
            witness: Witness = "count" if wanted else "mdoc"
            return self._complete(witness, f"{count} of {self.planned} planned tilts are here", now)
        silence, interval = self.silent_s(now), self.interval_s()
        usual = f", usual interval {interval:.0f} s" if interval else ""
        if silence > self.silence_limit_s():
            return self._complete("silence", f"no new tilt for {silence:.0f} s{usual}", now)
        if self._held_open:
            return []
        if interval and silence > SIBLING_INTERVALS * interval and not self.plan and self._has_all(self.like):
            return self._complete("siblings", f"all {len(self.like)} angles of the series before{usual}", now)
        return []

    def _has_all(self, planned: tuple[float, ...]) -> bool:
        """Whether every one of these angles was taken, if there are any."""
        angles = [state.tilt.image.angle_deg for state in self.kept()]
        tolerance = min([ANGLE_TOLERANCE_DEG, *(0.45 * abs(b - a) for a, b in pairwise(sorted(planned)) if a != b)])
        missing = (angle for angle in planned if all(abs(angle - one) > tolerance for one in angles))
        return bool(planned) and next(missing, None) is None

    def _complete(self, witness: Witness, text: str, now: float) -> list[Command]:
        return self._say([SeriesCompleted(series=self.name, witness=witness, text=text, tilts=len(self.kept()))], now)

    def _changed(self, indices: Sequence[int], now: float) -> list[Command]:
        """Which tilts count was changed by hand: what was made of them is out of date."""
        if not indices or self.state in ("collecting", "rejected"):
            return []
        return self._again("the choice of tilts was changed", now)

    def _again(self, text: str, now: float) -> list[Command]:
        return [*self._complete("operator", text, now), *self._finish_if_due(now)]

    def _finish_if_due(self, now: float) -> list[Command]:
        """Finish a complete series, once, when none of its tilts waits any more."""
        waits = self._finish_at is not None and now < self._finish_at
        if self.state != "complete" or self.busy or self._finish_asked or waits:
            return []
        usable, least = len(self.usable()), self.settings.watch.min_tilts
        if usable < least:
            return self._say([SeriesTooFew(series=self.name, usable=usable, needed=least)], now)
        self._finish_asked = True
        return [Finish(self.name)]

    def _stamp(self, state: TiltState) -> float | None:
        image = state.tilt.image
        return image.acquired_s if image.acquired_s is not None else image.written_s
