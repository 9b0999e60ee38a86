"""What people can ask of a run, one tagged record each, how it is sent, and the answer."""

from __future__ import annotations

from msgspec import Struct


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


class SaveVolume(_Order, frozen=True, kw_only=True, tag="snapshot"):
    """The live volume of a series is written to a file as it is now."""

    series: str


class PauseFinishing(_Order, frozen=True, kw_only=True, tag="pause"):
    """No series is finished for now, the one at work stands still: the machine is needed for something else."""


class ResumeFinishing(_Order, frozen=True, kw_only=True, tag="resume"):
    """Series are finished again."""


class StopRun(_Order, frozen=True, kw_only=True, tag="stop"):
    """The run ends."""


SeriesOrder = CloseSeries | RetrySeries | ExcludeTilts | RestoreTilts | RejectSeries | ReopenSeries | FinishSeries
Command = SeriesOrder | RetryFile | WatchFolder | SaveVolume | PauseFinishing | ResumeFinishing | StopRun


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
