"""What can happen to a tilt."""

from __future__ import annotations

from msgspec import field

from streamtomo.happening import Happening
from streamtomo.model import Correction, Look, Placement, Tilt, Verdict


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
    unplaced: bool = False
    """No neighbour was recognised in it, so that its placement is a guess: it is in no volume and no reference for
    others, and is tried again when tilts nearer in angle came."""
    look: Look | None = None
    """What the image looks like; None in old journals."""
    stage_ms: dict[str, float] = field(default_factory=dict)
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
    """A tilt that failed, or an unplaced one, goes through the live lane again."""

    series: str
    index: int
    reason: str | None = None
    """Why; None: the operator wants it."""


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
