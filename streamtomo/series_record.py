"""What is known of one series: the events that happened to it, applied one by one.

A restart that applies the journal's events knows what was known before.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

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
)
from streamtomo.model import Place, Placement, Tilt
from streamtomo.plan import planned_angles

LONGEST_PAUSE_S = 300.0
"""Between attempts to finish a series while the output folder cannot be written."""


class TiltState(Struct):
    """What became of one tilt."""

    tilt: Tilt
    status: Literal["waiting", "placed", "failed"] = "waiting"
    placed: TiltPlaced | None = None
    moved: Place | None = None
    """Where it lies by a tilt axis that was measured after it was placed."""
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
        return self.wanted or (self.placed.verdict.state != "bad" and not self.placed.unplaced)

    @property
    def placement(self) -> Placement | None:
        """The newest one; None if it was never placed."""
        placement = self.placed.placement if self.placed is not None else None
        if placement is None or self.moved is None:
            return placement
        return replace(placement, shift_x=self.moved.shift_x, shift_y=self.moved.shift_y)

    @property
    def is_reference(self) -> bool:
        """Whether tilts that come are compared with it."""
        return self.placed is not None and self.placed.in_volume and self.excluded is None

    @property
    def is_unplaced(self) -> bool:
        """Whether it went through the live lane, and no neighbour was recognised in it."""
        here = self.status == "placed" and self.excluded is None and self.tilt.image.gone is None
        return here and self.placed is not None and self.placed.unplaced

    @property
    def stamp(self) -> float | None:
        """When it was taken, or else written; None if nobody knows."""
        image = self.tilt.image
        return image.acquired_s if image.acquired_s is not None else image.written_s


class SeriesRecord:
    """One tilt series as it is known; `apply` changes it by one event."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.tilts: dict[int, TiltState] = {}
        self.state: SeriesState = "collecting"
        self.plan = planned_angles(settings.acquisition.planned_angles)
        """Tilt angles that the settings plan."""
        self.planned: int | None = settings.acquisition.planned_tilts or len(self.plan) or None
        self.planned_by = ""
        """The file that tells how many tilts there will be."""
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
        self.repeats_angles = False
        """Whether its plan has angles more than once: then none of its tilts is taken for another one's retake."""
        self.held_open = False
        """Whether the operator waits for more tilts than were planned."""

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
        stamps = sorted(state.stamp for state in self.tilts.values() if state.stamp is not None)
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
                self.planned_by = event.source if event.planned_tilts else self.planned_by
                self._learn(event.planned_tilts, event.pixel_size_A, event.tilt_axis_deg)
            case TiltReceived():
                self._receive(event, time)
            case TiltUpdated():
                self.tilts[event.tilt.index].tilt = event.tilt
                if self.state == "collecting":
                    self._last_activity = max(time, self._last_activity or time)
            case TiltPlaced():
                state = self.tilts[event.index]
                state.status, state.placed, state.moved, state.retry_at = "placed", event, None, None
                self._placed.pop(event.index, None)
                self._placed[event.index] = None
            case TiltFailed():
                self._fail(event, time)
            case TiltRetried():
                state = self.tilts[event.index]
                state.status, state.attempts, state.retry_at = "waiting", 0, None
            case TiltExcluded():
                self.tilts[event.index].excluded, self.tilts[event.index].wanted = event.reason, False
            case TiltRestored():
                self.repeats_angles |= event.reason is not None
                self.tilts[event.index].excluded, self.tilts[event.index].wanted = None, event.reason is None
            case SeriesJudged():
                self.judged = event
            case AxisMeasured():
                self.measured_axis_deg = event.axis_deg
                for place in event.places:
                    self.tilts[place.index].moved = place
            case FinishAsked():
                self.settings = config_file.changed(self.settings, event.overrides)
            case _:
                self._apply_phase(event, time)

    def _apply_phase(self, event: Event, time: float) -> None:
        match event:
            case SeriesCompleted():
                self.state, self.finish_attempts, self._finish_asked = "complete", 0, False
                self.held_open = False
            case SeriesTooFew():
                self.state = "too few"
            case SeriesReopened():
                self.state, self.finish_attempts = "collecting", 0
                self._blocked, self._finish_at = 0, None
                if event.by_operator:
                    self.held_open, self._last_activity = True, time
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
