"""What can happen to a run as a whole: its session, folders, files, alarms and orders."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from streamtomo.happening import Happening


class SessionStarted(Happening, frozen=True, kw_only=True, tag="session.started"):
    """A run begins, or begins again with the same output folder."""

    watched: str
    out: str
    host: str
    pid: int
    program: str
    """Version of streamtomo."""
    device: str = ""
    """Where volumes are computed, and why there, in words."""
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


class FileRefused(Happening, frozen=True, kw_only=True, tag="file.refused"):
    """A file in the watched folder cannot be used; said once per file."""

    path: str
    reason: str


class FileRetried(Happening, frozen=True, kw_only=True, tag="file.retried"):
    """The operator wants a refused file to be looked at again; if it is refused again, that is said again."""

    path: str


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


class FinishingPaused(Happening, frozen=True, kw_only=True, tag="finishing.paused"):
    """No series is finished until that is resumed; live processing goes on."""


class FinishingResumed(Happening, frozen=True, kw_only=True, tag="finishing.resumed"):
    """Series are finished again."""


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
