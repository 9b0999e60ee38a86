"""Everything that can happen, one tagged record each.

The same record is a line of the journal, a message on the wire, the dashboard's input and what a restart replays.
Readers tolerate fields they do not know; `VERSION` says which meaning the fields have. Events marked *wire only* are
not kept in the journal.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from streamtomo.model import Alignment, Correction, Look, Placement, RawImage, Tilt, Tomogram, Verdict

VERSION = 1


class _Order(Struct, frozen=True, kw_only=True, tag_field="command", forbid_unknown_fields=True):
    """Base of the commands: closed to unknown fields."""


class CloseSeries(_Order, frozen=True, kw_only=True, tag="close"):
    """A series is complete."""

    series: str


class RetrySeries(_Order, frozen=True, kw_only=True, tag="retry"):
    """What failed in a series is tried again: its tilts, its finishing, and refused files of its name."""

    series: str


class RetryFile(_Order, frozen=True, kw_only=True, tag="retry-file"):
    """A refused file is looked at again."""

    path: str


class ExcludeTilts(_Order, frozen=True, kw_only=True, tag="exclude"):
    """Tilts are left out of a series; a finished one is finished again."""

    series: str
    tilts: tuple[int, ...]
    reason: str = ""


class RestoreTilts(_Order, frozen=True, kw_only=True, tag="restore"):
    """Tilts that were excluded, or judged bad, count again; a finished series is finished again."""

    series: str
    tilts: tuple[int, ...]


class WatchFolder(_Order, frozen=True, kw_only=True, tag="watch"):
    """A further folder is watched, or one that is watched already gets other settings for its next series."""

    path: str
    overrides: tuple[str, ...] = ()


class RejectSeries(_Order, frozen=True, kw_only=True, tag="reject"):
    """A series is given up: it is not finished, or what is being made of it ends."""

    series: str
    reason: str = ""


class ReopenSeries(_Order, frozen=True, kw_only=True, tag="reopen"):
    """A series that is complete, finished or rejected waits for more tilts."""

    series: str


class FinishSeries(_Order, frozen=True, kw_only=True, tag="finish"):
    """A series is finished, again where it was, with other settings; they stay with it."""

    series: str
    overrides: tuple[str, ...] = ()
    """Settings that change, each as `table.key=value`."""


class PauseFinishing(_Order, frozen=True, kw_only=True, tag="pause"):
    """No series is finished for now, the one at work stands still: the machine is needed for something else."""


class ResumeFinishing(_Order, frozen=True, kw_only=True, tag="resume"):
    """Series are finished again."""


class StopRun(_Order, frozen=True, kw_only=True, tag="stop"):
    """The run ends."""


SeriesOrder = CloseSeries | RetrySeries | ExcludeTilts | RestoreTilts | RejectSeries | ReopenSeries | FinishSeries
Command = SeriesOrder | RetryFile | WatchFolder | PauseFinishing | ResumeFinishing | StopRun


class Happening(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of all events."""


class SessionStarted(Happening, frozen=True, kw_only=True, tag="session.started"):
    """A run begins, or begins again with the same output folder."""

    watched: str
    out: str
    host: str
    pid: int
    program: str
    """Version of streamtomo."""
    resumed: bool = False


class SessionEnded(Happening, frozen=True, kw_only=True, tag="session.ended"):
    """The run ended in order."""

    reason: str


class FolderAdded(Happening, frozen=True, kw_only=True, tag="folder.added"):
    """A further folder is watched from now on, or this one with other settings: they hold for series opened later."""

    path: str
    overrides: tuple[str, ...] = ()
    """Settings that differ from the run's own, each as `table.key=value`."""


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that is known of a folder before anything in it is processed."""

    about: str
    """What it is about, in a word, such as `clock`."""
    text: str
    level: Literal["ok", "warning", "failed"] = "ok"
    """`failed`: a run could not work."""


class FolderTested(Happening, frozen=True, kw_only=True, tag="folder.tested"):
    """What a watched folder is like, at the first listing of a run."""

    path: str
    findings: tuple[Finding, ...]


class FileRetried(Happening, frozen=True, kw_only=True, tag="file.retried"):
    """The operator wants a refused file to be looked at again; if it is refused again, that is said again."""

    path: str


class SeriesOpened(Happening, frozen=True, kw_only=True, tag="series.opened"):
    """A new series was seen."""

    series: str
    source: str
    """The file or folder it comes from."""
    nx: int
    ny: int
    pixel_size_A: float | None = None
    tilt_axis_deg: float | None = None
    planned_tilts: int | None = None


class SeriesDescribed(Happening, frozen=True, kw_only=True, tag="series.described"):
    """Metadata said something about the series as a whole."""

    series: str
    source: str
    planned_tilts: int | None = None
    """How many tilts there will be; None if the metadata does not tell."""
    pixel_size_A: float | None = None
    tilt_axis_deg: float | None = None


class TiltReceived(Happening, frozen=True, kw_only=True, tag="tilt.received"):
    """A settled image became the next tilt of its series."""

    series: str
    tilt: Tilt
    live: bool = True
    """False for files that were there before the watch began: their silence counts from the file's own time."""


class TiltUpdated(Happening, frozen=True, kw_only=True, tag="tilt.updated"):
    """Metadata that came late (an mdoc at the end) replaces what was known of a tilt."""

    series: str
    tilt: Tilt


class TiltPlaced(Happening, frozen=True, kw_only=True, tag="tilt.placed"):
    """A tilt went through the live lane: corrected, aligned, judged and (unless bad) added to the volume."""

    series: str
    index: int
    angle_deg: float
    correction: Correction
    placement: Placement | None
    """None if the tilt was too bad to be aligned."""
    verdict: Verdict
    in_volume: bool
    look: Look | None = None
    """What the image looks like; None in old journals."""
    stage_ms: dict[str, float] = {}
    """Milliseconds per stage: wait, read, correct, align, judge, reconstruct, total (from settled to shown)."""


class TiltScored(Happening, frozen=True, kw_only=True, tag="tilt.scored"):
    """In idle time: how well a tilt agrees with the live volume of all other tilts."""

    series: str
    index: int
    leave_one_out: float
    """Correlation of the view with the projection of the volume made without it, -1 to 1."""
    views: int
    """Views in the volume then."""


class TiltFailed(Happening, frozen=True, kw_only=True, tag="tilt.failed"):
    """A tilt could not be read or processed."""

    series: str
    index: int
    reason: str
    attempts: int = 1
    final: bool = False
    """True when it will not be tried again by itself."""


class TiltRetried(Happening, frozen=True, kw_only=True, tag="tilt.retried"):
    """The operator sends a failed tilt through the live lane again."""

    series: str
    index: int


class TiltExcluded(Happening, frozen=True, kw_only=True, tag="tilt.excluded"):
    """A tilt is in no further product of its series; nothing of it is deleted."""

    series: str
    index: int
    reason: str


class TiltRestored(Happening, frozen=True, kw_only=True, tag="tilt.restored"):
    """A tilt that was excluded counts again."""

    series: str
    index: int
    reason: str | None = None
    """Why; None: somebody wants it, whatever its verdict is."""


class FileRefused(Happening, frozen=True, kw_only=True, tag="file.refused"):
    """A file in the watched folder cannot be used; said once per file."""

    path: str
    reason: str


class Warned(Happening, frozen=True, kw_only=True, tag="warning"):
    """Something that a person should know."""

    code: str
    """Short name of the kind of warning, such as `axis.disagrees`."""
    text: str
    series: str | None = None


class AlarmRaised(Happening, frozen=True, kw_only=True, tag="alarm.raised"):
    """Something that a person must look at now; it stands until it is cleared."""

    code: str
    """Short name of the kind of alarm, such as `tilt.late`; with `about` its key."""
    text: str
    about: str = ""
    """The series or folder that it is about; empty for the whole run."""


class AlarmCleared(Happening, frozen=True, kw_only=True, tag="alarm.cleared"):
    """What an alarm was about is over."""

    code: str
    about: str = ""


SeriesState = Literal["collecting", "complete", "finishing", "finished", "failed", "too few", "rejected"]
Witness = Literal["count", "mdoc", "siblings", "silence", "operator"]
"""Who says that a series is complete: the settings' count or angles, the mdoc's sections, the angles of the series
before it, a long silence, the operator."""


SeriesVerdict = Literal["good", "watch", "reject"]


class SeriesJudged(Happening, frozen=True, kw_only=True, tag="series.judged"):
    """The verdict on a whole series changed."""

    series: str
    state: SeriesVerdict
    reasons: tuple[str, ...] = ()
    index: int | None = None
    """The tilt after which it was spoken."""
    first_fault: int | None = None
    """The first tilt at fault, where one can be named."""
    usable: str = ""
    """What can still be used of the series, in words."""
    forecast: str = ""
    """What will go wrong, and at which angle, in words; empty if nothing is foreseen."""
    confidence: float | None = None
    """How sure a verdict other than good is, 0 to 1."""


class AxisMeasured(Happening, frozen=True, kw_only=True, tag="axis.measured"):
    """The tilt axis of a series was measured, and is not the nominal one; it is used from now on.

    An axis and its opposite cannot be told apart: of the two the one nearer to the nominal axis is told.
    """

    series: str
    axis_deg: float
    nominal_deg: float
    tilts: int
    """Views that it was measured from."""


class SeriesCompleted(Happening, frozen=True, kw_only=True, tag="series.completed"):
    """No more tilts are expected."""

    series: str
    witness: Witness
    text: str
    """The witness in words, for people."""
    tilts: int


class SeriesTooFew(Happening, frozen=True, kw_only=True, tag="series.too_few"):
    """A complete series with too few usable tilts to be finished, such as one that was cancelled; no error."""

    series: str
    usable: int
    needed: int


class SeriesReopened(Happening, frozen=True, kw_only=True, tag="series.reopened"):
    """A tilt came after the series had been closed, or the operator waits for more; it will be finished again."""

    series: str
    reason: str
    by_operator: bool = False
    """Then the planned number of tilts closes it no more: only silence and the operator do."""


class SeriesDropped(Happening, frozen=True, kw_only=True, tag="series.dropped"):
    """The operator gives a series up: nothing more is made of it, nothing of it is deleted."""

    series: str
    reason: str


class FinishAsked(Happening, frozen=True, kw_only=True, tag="finish.asked"):
    """The operator has a series finished again, with these settings changed from now on."""

    series: str
    overrides: tuple[str, ...] = ()
    """Each as `table.key=value`."""


class FinishingPaused(Happening, frozen=True, kw_only=True, tag="finishing.paused"):
    """No series is finished until that is resumed; live processing goes on."""


class FinishingResumed(Happening, frozen=True, kw_only=True, tag="finishing.resumed"):
    """Series are finished again."""


class FinishStarted(Happening, frozen=True, kw_only=True, tag="finish.started"):
    """The finishing lane took the series."""

    series: str
    tilts: int


class FinishStep(Happening, frozen=True, kw_only=True, tag="finish.step"):
    """The finishing lane moved on."""

    series: str
    step: str
    fraction: float
    """Of the whole recipe, 0 to 1."""
    part: float = 0.0
    """Of this step, 0 to 1: it is told again while it goes on."""
    skipped: bool = False
    """Its results of an earlier time are good."""


class FinishDone(Happening, frozen=True, kw_only=True, tag="finish.done"):
    """The series has its tomogram."""

    series: str
    seconds: float
    alignment: Alignment
    tomogram: Tomogram
    files: tuple[str, ...]


class FinishFailed(Happening, frozen=True, kw_only=True, tag="finish.failed"):
    """The finishing lane gave the series up."""

    series: str
    reason: str
    final: bool
    blocked: bool = False
    """Whether the output folder could not be written: it is tried again until it can, and does not count."""


class TomogramReady(Happening, frozen=True, kw_only=True, tag="tomogram.ready"):
    """*Wire only.* What other programs wait for: the tomogram of a series is on disk. Follows `finish.done`."""

    series: str
    path: str
    pixel_size_A: float | None = None
    """Of the tomogram's voxels."""
    residual_px: float | None = None
    tilts: int
    """Views that it is made of."""


class SeriesRejected(Happening, frozen=True, kw_only=True, tag="series.rejected"):
    """*Wire only.* What other programs wait for: a series is not worth more beam time. Follows what says so."""

    series: str
    by: Literal["judge", "operator"]
    """The judge's word is advice: the series goes on if it goes on."""
    reasons: tuple[str, ...] = ()


class OrderGiven(Happening, frozen=True, kw_only=True, tag="order.given"):
    """Somebody asked the run to do something, and this was the answer."""

    by: str
    """The name of the key, or the user on this machine."""
    order: dict[str, Any]
    """The command as JSON; open, unlike the command itself, so that readers need not know them all."""
    ok: bool
    text: str


class Heartbeat(Happening, frozen=True, kw_only=True, tag="heartbeat"):
    """*Wire only.* The run is alive, and this is how it is doing."""

    backlog: int
    """Tilts received and not yet in the volume."""
    finishing: tuple[str, ...] = ()
    """Series in or waiting for the finishing lane."""
    waiting_for: str = ""
    """What happens next, in words."""
    free_GB: float | None = None
    memory_GB: float | None = None
    turned_away: int = 0
    """Messages from outside that were malformed, oversized, repeated or too many, since the start."""
    ending: str = ""
    """Why the run is about to end; then no further heartbeat comes."""


class Picture(Happening, frozen=True, kw_only=True, tag="picture"):
    """*Wire only.* A small grey picture of the live volume, top row first."""

    series: str
    plane: Literal["xy", "xz"]
    tilts: int
    """Views in the volume that it shows."""
    width: int
    height: int
    pixels: bytes
    """`width * height` grey values."""


Event = (
    SessionStarted
    | SessionEnded
    | FolderAdded
    | FolderTested
    | SeriesOpened
    | SeriesDescribed
    | TiltReceived
    | TiltUpdated
    | TiltPlaced
    | TiltScored
    | TiltFailed
    | TiltRetried
    | TiltExcluded
    | TiltRestored
    | FileRefused
    | FileRetried
    | Warned
    | AlarmRaised
    | AlarmCleared
    | SeriesJudged
    | AxisMeasured
    | SeriesCompleted
    | SeriesTooFew
    | SeriesReopened
    | SeriesDropped
    | FinishAsked
    | FinishingPaused
    | FinishingResumed
    | FinishStarted
    | FinishStep
    | FinishDone
    | FinishFailed
    | TomogramReady
    | SeriesRejected
    | OrderGiven
    | Heartbeat
    | Picture
)

WIRE_ONLY = (Heartbeat, Picture, TomogramReady, SeriesRejected)

Sighting = RawImage | SeriesDescribed | FileRefused | Warned
"""What the folder watcher yields."""


class Envelope(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """An event with its place in the stream."""

    version: int
    session: str
    """Identifies one start of the program."""
    seq: int
    """Counts all envelopes of the session from 1, without gaps."""
    topic_seq: int = 0
    """Counts those of the same topic from 1, for who subscribes to a few; 0 in journals older than the count."""
    time_s: float
    """When it happened, seconds since 1970 (UTC)."""
    event: Event


def topic(event: Event) -> str:
    """`kind/series/`, or `kind/` for events of no series: it ends in a slash, so that TS_1 never matches TS_10."""
    kind = event.__struct_config__.tag
    series = getattr(event, "series", None)
    return f"{kind}/{series}/" if series else f"{kind}/"


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command on its way: it works once, and only in the session that it is meant for."""

    session: str
    """The run's session, as the snapshot and `endpoint.json` tell it."""
    id: str
    """Chosen by the sender, another one for each request."""
    command: Command


class Answer(Struct, frozen=True, kw_only=True):
    """The reply to a command."""

    ok: bool
    text: str
    id: str = ""
    """Of the request that it answers."""
