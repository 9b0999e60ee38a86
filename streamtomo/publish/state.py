"""What is known of a session, as a pure function of its events: for the dashboard, `status` and late joiners."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from msgspec import Struct, field
from msgspec.structs import replace

from streamtomo.messages import (
    VERSION,
    AlarmCleared,
    AlarmRaised,
    AxisMeasured,
    Envelope,
    Event,
    FileRefused,
    FileRetried,
    FinishDone,
    FinishFailed,
    FinishingPaused,
    FinishingResumed,
    FinishStarted,
    FinishStep,
    FolderAdded,
    FolderTested,
    Heartbeat,
    OrderGiven,
    Picture,
    SeriesCompleted,
    SeriesDescribed,
    SeriesDropped,
    SeriesJudged,
    SeriesOpened,
    SeriesRejected,
    SeriesReopened,
    SeriesState,
    SeriesTooFew,
    SessionEnded,
    SessionStarted,
    TiltExcluded,
    TiltFailed,
    TiltPlaced,
    TiltRealigned,
    TiltReceived,
    TiltRestored,
    TiltRetried,
    TiltScored,
    TiltUpdated,
    TomogramReady,
    VolumeIterated,
    VolumeRebuilt,
    VolumeSaved,
    Warned,
)

IdleWork = TiltScored | TiltRealigned | VolumeRebuilt | VolumeIterated | VolumeSaved
MESSAGES_KEPT = 200
"""Warnings and refused files that a state remembers."""
ALARMS_KEPT = ORDERS_KEPT = 20


class TiltRow(Struct, kw_only=True):
    """One tilt."""

    index: int
    angle_deg: float
    received_s: float
    placed: TiltPlaced | None = None
    failure: str | None = None
    excluded: str | None = None
    """Why it is left out."""
    agreement: float | None = None
    """Correlation with the live volume of all other tilts, -1 to 1, when that was looked at last."""

    @property
    def letter(self) -> str:
        """X excluded, F failed, U unplaced, G good, D doubtful, B bad, "." not yet processed."""
        if self.excluded:
            return "X"
        if self.failure:
            return "F"
        if self.placed and self.placed.unplaced:
            return "U"
        return self.placed.verdict.state[0].upper() if self.placed else "."


class SeriesRow(Struct, kw_only=True):
    """One series."""

    name: str
    source: str = ""
    nx: int = 0
    ny: int = 0
    pixel_size_A: float | None = None
    tilt_axis_deg: float | None = None
    measured_axis: AxisMeasured | None = None
    planned: int | None = None
    state: SeriesState = "collecting"
    closed_by: str = ""
    """The witness that closed it, in words."""
    judged: SeriesJudged | None = None
    tilts: dict[int, TiltRow] = field(default_factory=dict)
    step: str = ""
    """Step of the finishing."""
    fraction: float = 0.0
    done: FinishDone | None = None
    failure: str | None = None
    touched_s: float = 0.0
    pictures: dict[str, Picture] = field(default_factory=dict)
    """Last picture of each plane."""

    @property
    def placed(self) -> list[TiltRow]:
        """Tilts that went through the live lane, in the order they were received."""
        return [tilt for tilt in self.tilts.values() if tilt.placed]

    @property
    def interval_s(self) -> float | None:
        """Median time between the last tilts received."""
        stamps = [tilt.received_s for tilt in self.tilts.values()][-12:]
        return median(b - a for a, b in pairwise(stamps)) if len(stamps) > 1 else None


class PastAlarm(Struct, frozen=True, kw_only=True):
    """An alarm that is over."""

    alarm: AlarmRaised
    over_s: float


class SessionState(Struct, kw_only=True):
    """A whole session."""

    version: int = VERSION
    """Of the protocol."""
    session: str = ""
    seq: int = 0
    """Last envelope taken in."""
    time_s: float = 0.0
    """When that happened."""
    missed: int = 0
    """Envelopes of this session that never came."""
    started: SessionStarted | None = None
    started_s: float = 0.0
    ended: SessionEnded | None = None
    heartbeat: Heartbeat | None = None
    heartbeat_s: float = 0.0
    series: dict[str, SeriesRow] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    """Watched folders, the first one first."""
    alarms: list[AlarmRaised] = field(default_factory=list)
    """Those that stand."""
    warnings: list[Warned] = field(default_factory=list)
    refused: list[FileRefused] = field(default_factory=list)
    tested: list[FolderTested] = field(default_factory=list)
    """What the watched folders were like when this run began."""
    past_alarms: list[PastAlarm] = field(default_factory=list)
    """Those that are over, the last ones: nobody may have seen them yet."""
    finishing_paused: bool = False
    orders: list[OrderGiven] = field(default_factory=list)
    """The last ones."""

    def apply(self, envelope: Envelope) -> None:
        """Take in an envelope; one that was taken in before changes nothing."""
        if envelope.session == self.session and envelope.seq <= self.seq:
            return
        if envelope.session != self.session:
            self.missed = self.seq = 0
        self.missed += envelope.seq - self.seq - 1
        self.session, self.seq, self.time_s = envelope.session, envelope.seq, envelope.time_s
        event = envelope.event
        match event:
            case SessionStarted():
                self.started, self.started_s, self.ended, self.tested = event, envelope.time_s, None, []
                for alarm in self.alarms:
                    self._clear(alarm, envelope.time_s)
                self._add_folder(event.watched)
            case FolderAdded():
                self._add_folder(event.path)
            case SessionEnded():
                self.ended = event
            case Heartbeat():
                self.heartbeat, self.heartbeat_s = event, envelope.time_s
            case AlarmRaised():
                self.alarms = [*self._alarms_but(event), event]
            case AlarmCleared():
                self._clear(event, envelope.time_s)
            case FinishingPaused() | FinishingResumed():
                self.finishing_paused = isinstance(event, FinishingPaused)
            case OrderGiven():
                self.orders = [*self.orders, event][-ORDERS_KEPT:]
            case TomogramReady() | SeriesRejected():
                pass  # told by what they follow
            case Warned():
                self.warnings = [*self.warnings, event][-MESSAGES_KEPT:]
            case FileRefused():
                self.refused = [*self._refused_but(event.path), event][-MESSAGES_KEPT:]
            case FileRetried():
                self.refused = self._refused_but(event.path)
            case FolderTested():
                self.tested = [*(one for one in self.tested if one.path != event.path), event]
            case _:
                if isinstance(event, TiltReceived):
                    self.refused = self._refused_but(event.tilt.image.path)
                row = self.series.setdefault(event.series, SeriesRow(name=event.series))
                if not isinstance(event, IdleWork):  # idle time's work says nothing of the microscope
                    row.touched_s = envelope.time_s
                _apply(row, event, envelope.time_s)

    def _refused_but(self, path: str) -> list[FileRefused]:
        return [one for one in self.refused if one.path != path]

    def _add_folder(self, path: str) -> None:
        if path not in self.folders:
            self.folders.append(path)

    def _alarms_but(self, event: AlarmRaised | AlarmCleared) -> list[AlarmRaised]:
        return [one for one in self.alarms if (one.code, one.about) != (event.code, event.about)]

    def _clear(self, event: AlarmRaised | AlarmCleared, now: float) -> None:
        left = self._alarms_but(event)
        over = [PastAlarm(alarm=one, over_s=now) for one in self.alarms if one not in left]
        self.past_alarms = [*self.past_alarms, *over][-ALARMS_KEPT:]
        self.alarms = left

    @property
    def active(self) -> SeriesRow | None:
        """The series that something happened to last."""
        return max(self.series.values(), key=lambda row: row.touched_s, default=None)


def _apply(row: SeriesRow, event: Event, time_s: float) -> None:
    match event:
        case SeriesOpened() | SeriesDescribed():
            _describe(row, event)
        case TiltReceived():
            image = event.tilt.image
            row.tilts[event.tilt.index] = TiltRow(index=event.tilt.index, angle_deg=image.angle_deg, received_s=time_s)
        case TiltUpdated():
            if event.tilt.index in row.tilts:
                row.tilts[event.tilt.index].angle_deg = event.tilt.image.angle_deg
        case TiltPlaced():
            tilt = _tilt(row, event.index, event.angle_deg, time_s)
            tilt.placed, tilt.failure = event, None
        case TiltFailed():
            _tilt(row, event.index, 0.0, time_s).failure = event.reason
        case TiltRetried():
            _tilt(row, event.index, 0.0, time_s).failure = None
        case TiltExcluded():
            _tilt(row, event.index, 0.0, time_s).excluded = event.reason
        case TiltRestored():
            _tilt(row, event.index, 0.0, time_s).excluded = None
        case TiltScored():
            _tilt(row, event.index, 0.0, time_s).agreement = event.leave_one_out
        case SeriesJudged():
            row.judged = event
        case AxisMeasured():
            row.measured_axis = event
            _move(row, event)
        case Picture():
            row.pictures[event.plane] = event
        case _:
            _apply_phase(row, event)


def _move(row: SeriesRow, event: AxisMeasured) -> None:
    for place in event.places:
        tilt = row.tilts.get(place.index)
        if tilt is not None and tilt.placed is not None and tilt.placed.placement is not None:
            at = replace(tilt.placed.placement, shift_x=place.shift_x, shift_y=place.shift_y)
            tilt.placed = replace(tilt.placed, placement=at)


def _tilt(row: SeriesRow, index: int, angle_deg: float, time_s: float) -> TiltRow:
    """The tilt's row; made where the envelope that told of the tilt was missed."""
    return row.tilts.setdefault(index, TiltRow(index=index, angle_deg=angle_deg, received_s=time_s))


def _describe(row: SeriesRow, event: SeriesOpened | SeriesDescribed) -> None:
    row.source = event.source
    row.planned = event.planned_tilts or row.planned
    row.pixel_size_A = event.pixel_size_A or row.pixel_size_A
    row.tilt_axis_deg = event.tilt_axis_deg if event.tilt_axis_deg is not None else row.tilt_axis_deg
    if isinstance(event, SeriesOpened):
        row.nx, row.ny = event.nx, event.ny


def _apply_phase(row: SeriesRow, event: Event) -> None:
    match event:
        case SeriesCompleted():
            row.state, row.closed_by, row.failure = "complete", event.text, None
        case SeriesTooFew():
            row.state = "too few"
            row.failure = f"{event.usable} usable tilts, {event.needed} are needed (watch.min_tilts)"
        case SeriesDropped():
            row.state, row.failure = "rejected", event.reason
        case SeriesReopened():
            row.state, row.closed_by, row.done, row.fraction, row.step = "collecting", "", None, 0.0, ""
            row.failure = None
        case FinishStarted():
            row.state, row.step, row.fraction, row.failure = "finishing", "starting", 0.0, None
        case FinishStep():
            row.step, row.fraction = event.step, event.fraction
        case FinishDone():
            row.state, row.done, row.fraction, row.failure = "finished", event, 1.0, None
        case FinishFailed():
            row.state, row.failure = ("failed" if event.final else "complete"), event.reason
        case _:
            pass
