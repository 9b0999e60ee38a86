"""Whether a series is complete, and who says so."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from streamtomo.messages import Witness
from streamtomo.series_record import SeriesRecord

ANGLE_TOLERANCE_DEG = 0.6
"""A planned angle counts as taken within this, or just under half a step: stages do not go where they are sent."""
SIBLING_INTERVALS = 2.5
"""A series with all the angles of the one before it is complete after a silence of so many of its intervals."""


def witness(series: SeriesRecord, now: float) -> tuple[Witness, str] | None:
    """Who says that no more tilts will come, also in words; None if nobody does."""
    silence, interval = series.silent_s(now), series.interval_s()
    usual = f", usual interval {interval:.0f} s" if interval else ""
    planned = None if series.held_open else _planned(series)
    if planned:
        return planned
    if silence > series.silence_limit_s():
        return "silence", f"no new tilt for {silence:.0f} s{usual}"
    quiet = interval is not None and silence > SIBLING_INTERVALS * interval
    if quiet and not series.held_open and not series.plan and _has_all(series, series.like):
        return "siblings", f"all {len(series.like)} angles of the series before{usual}"
    return None


def _planned(series: SeriesRecord) -> tuple[Witness, str] | None:
    """Whether the settings or the mdoc say so."""
    count, wanted = len(series.kept()), series.settings.acquisition.planned_tilts
    if _has_all(series, series.plan):
        return "count", f"all {len(series.plan)} planned angles are here"
    if series.planned and count >= series.planned and (wanted or not series.plan):
        told: Witness = "mdoc" if series.planned_by.endswith((".mdoc", ".idoc")) else "stack"
        return "count" if wanted else told, f"{count} of {series.planned} planned tilts are here"
    return None


def _has_all(series: SeriesRecord, planned: Sequence[float]) -> bool:
    """Whether every one of these angles was taken, if there are any."""
    angles = [state.tilt.image.angle_deg for state in series.kept()]
    tolerance = min([ANGLE_TOLERANCE_DEG, *(0.45 * abs(b - a) for a, b in pairwise(sorted(planned)) if a != b)])
    missing = (angle for angle in planned if all(abs(angle - one) > tolerance for one in angles))
    return bool(planned) and next(missing, None) is None
