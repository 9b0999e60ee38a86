"""Everything that can happen, one tagged record each.

The same record is a line of the journal, a message on the wire, the dashboard's input and what a restart replays.
Readers tolerate fields they do not know; `VERSION` says which meaning the fields have. Events marked *wire only* are
not kept in the journal.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from streamtomo.model import Alignment, Correction, Placement, RawImage, Tilt, Tomogram, Verdict

VERSION = 1


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
    stage_ms: dict[str, float] = {}
    """Milliseconds per stage: wait, read, correct, align, judge, reconstruct, total (from settled to shown)."""


class TiltFailed(Happening, frozen=True, kw_only=True, tag="tilt.failed"):
    """A tilt could not be read or processed."""

    series: str
    index: int
    reason: str
    attempts: int = 1
    final: bool = False
    """True when it will not be tried again by itself."""


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


SeriesState = Literal["collecting", "complete", "finishing", "finished", "failed"]


class SeriesJudged(Happening, frozen=True, kw_only=True, tag="series.judged"):
    """The verdict on a whole series changed."""

    series: str
    state: Literal["good", "watch", "reject"]
    reasons: tuple[str, ...] = ()


class SeriesCompleted(Happening, frozen=True, kw_only=True, tag="series.completed"):
    """No more tilts are expected."""

    series: str
    witness: Literal["count", "silence", "operator"]
    text: str
    """The witness in words, for people."""
    tilts: int


class SeriesReopened(Happening, frozen=True, kw_only=True, tag="series.reopened"):
    """A tilt came after the series had been closed; it will be finished again."""

    series: str
    reason: str


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
    | SeriesOpened
    | SeriesDescribed
    | TiltReceived
    | TiltUpdated
    | TiltPlaced
    | TiltFailed
    | FileRefused
    | Warned
    | SeriesJudged
    | SeriesCompleted
    | SeriesReopened
    | FinishStarted
    | FinishStep
    | FinishDone
    | FinishFailed
    | Heartbeat
    | Picture
)

WIRE_ONLY = (Heartbeat, Picture)

Sighting = RawImage | SeriesDescribed | FileRefused | Warned
"""What the folder watcher yields."""


class Envelope(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """An event with its place in the stream."""

    version: int
    session: str
    """Identifies one start of the program."""
    seq: int
    """Counts all envelopes of the session from 1, without gaps."""
    time_s: float
    """When it happened, seconds since 1970 (UTC)."""
    event: Event


class CloseSeries(Struct, frozen=True, kw_only=True, tag="close", tag_field="command", forbid_unknown_fields=True):
    """The operator says that a series is complete."""

    series: str


class StopRun(Struct, frozen=True, kw_only=True, tag="stop", tag_field="command", forbid_unknown_fields=True):
    """The operator ends the run."""


Command = CloseSeries | StopRun


class Answer(Struct, frozen=True, kw_only=True):
    """The reply to a command."""

    ok: bool
    text: str
