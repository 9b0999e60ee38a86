"""Verdicts: from measures and limits to good, doubtful, bad, with the reason in words.

A bad tilt is left out of the volume, so only plain facts make one: no light, or another field. Everything else makes a
tilt doubtful: it is used, and someone is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from streamtomo.config import Judge
from streamtomo.judge.measures import Accepted, distance, expected_mean, jump
from streamtomo.model import Correction, Measure, Placement, Verdict, VerdictState

__all__ = ["Accepted", "combine", "judge_intensity", "judge_placement", "judge_series"]

ORDER: tuple[VerdictState, ...] = ("good", "doubtful", "bad")
SCATTER_LIMIT = 4.0
"""A mean within this many times the scatter of the others is never held against a tilt."""
TOO_AMBIGUOUS = 0.9
"""A second correlation peak this high makes the placement a guess."""
IN_A_ROW = 3
"""Bad tilts in a row that put a series in question."""
GOOD_SHARE = 2 / 3
"""A series of which more than this share is good is not rejected."""
SIGN_SHARE = 0.25
SIGN_TILTS = 4
"""A sign of trouble counts when it shows in this share of the tilts, and in this many at least."""
SIGNS = {"intensity": "light", "jump": "stage", "distance": "stage", "correlation": "detail", "ambiguity": "detail"}
"""Measures that have the same cause are one sign."""

SeriesVerdict = Literal["good", "watch", "reject"]


def judge_intensity(angle_deg: float, correction: Correction, accepted: Sequence[Accepted], settings: Judge) -> Verdict:
    """Judge the mean of a tilt by what the accepted ones predict; a blank image is bad."""
    if correction.sd <= 0:
        return Verdict(state="bad", reasons=("the image is blank: all pixels are equal",))
    expected = expected_mean(angle_deg, accepted)
    if expected is None:
        return Verdict(state="good")
    ratio = max(0.0, correction.mean / expected.mean)
    allowed = math.exp(-expected.slack - SCATTER_LIMIT * expected.scatter)
    dim, dark = min(settings.dim_fraction * math.exp(-expected.slack), allowed), settings.dark_fraction
    dark = min(dark * math.exp(-expected.slack), allowed)
    bright = max(1 / settings.dark_fraction, math.exp(SCATTER_LIMIT * expected.scatter))
    state: VerdictState = "bad" if ratio < dark else "doubtful" if ratio < dim or ratio > bright else "good"
    limit = dark if state == "bad" else bright if ratio > bright else dim
    measure = Measure(name="intensity", value=ratio, expected=1.0, limit=limit, unit="fraction")
    reason = f"mean {ratio:.2f} of what the other tilts predict, limit {limit:.2f}"
    return Verdict(state=state, reasons=() if state == "good" else (reason,), measures=(measure,))


def judge_placement(placement: Placement, field_px: tuple[int, int], settings: Judge) -> Verdict:
    """Judge where a tilt lies and how sure that is; the first tilt of a series is good."""
    if placement.neighbour is None:
        return Verdict(state="good")
    return combine(
        _beyond("distance", distance(placement, field_px), settings.shift_bad, "bad", "{} of the field from the first"),
        _beyond("jump", jump(placement, field_px), settings.shift_doubtful, "doubtful", "jump of {} of the field"),
        _certainty(placement, settings),
    )


def combine(*verdicts: Verdict) -> Verdict:
    """The worst state, all reasons, all measures."""
    return Verdict(
        state=max((verdict.state for verdict in verdicts), key=ORDER.index, default="good"),
        reasons=tuple(reason for verdict in verdicts for reason in verdict.reasons),
        measures=tuple(measure for verdict in verdicts for measure in verdict.measures),
    )


def judge_series(verdicts: Sequence[Verdict]) -> tuple[SeriesVerdict, tuple[str, ...]]:
    """Judge a series by its tilts, in the order in which they came.

    Rejected are series with three bad tilts in a row or two independent signs of trouble, and only while no more than
    two thirds of their tilts are good; less than that is a reason to watch.
    """
    signs = _signs(verdicts)
    run = _longest_run(verdicts)
    reasons = [f"{run} bad tilts in a row"] if run >= IN_A_ROW else []
    reasons += [f"{name}: {count} of {len(verdicts)} tilts" for name, count in signs.items()]
    good = sum(verdict.state == "good" for verdict in verdicts)
    if (run >= IN_A_ROW or len(signs) >= 2) and good <= GOOD_SHARE * len(verdicts):
        return "reject", (*reasons, f"only {good} of {len(verdicts)} tilts are good")
    bad = sum(verdict.state == "bad" for verdict in verdicts)
    if bad and not reasons:
        reasons = [f"{bad} of {len(verdicts)} tilts are bad"]
    return ("watch" if reasons else "good"), tuple(reasons)


def _beyond(name: str, value: float, limit: float, state: VerdictState, words: str) -> Verdict:
    """A verdict on one measure with an upper limit."""
    measure = Measure(name=name, value=value, limit=limit, unit="fraction of the field")
    if value <= limit:
        return Verdict(state="good", measures=(measure,))
    return Verdict(state=state, reasons=(f"{words.format(f'{value:.2f}')}, limit {limit:.2f}",), measures=(measure,))


def _certainty(placement: Placement, settings: Judge) -> Verdict:
    """Low and ambiguous together: nothing was recognised. One of them alone is doubtful."""
    low, ambiguous = placement.score < settings.min_score, placement.ambiguity > TOO_AMBIGUOUS
    reasons = []
    if low:
        reasons.append(f"correlation peak {placement.score:.1f} sigma, limit {settings.min_score:.1f}")
    if ambiguous:
        reasons.append(f"second correlation peak {placement.ambiguity:.2f} of the first, limit {TOO_AMBIGUOUS:.2f}")
    states: tuple[VerdictState, ...] = ("good", "doubtful", "bad")
    measures = (
        Measure(name="correlation", value=placement.score, limit=settings.min_score, unit="sigma"),
        Measure(name="ambiguity", value=placement.ambiguity, limit=TOO_AMBIGUOUS, unit="fraction"),
    )
    return Verdict(state=states[low + ambiguous], reasons=tuple(reasons), measures=measures)


def _fails(measure: Measure) -> bool:
    if measure.limit is None:
        return False
    low_is_bad = measure.name == "correlation" or (measure.name == "intensity" and measure.limit < 1)
    return measure.value < measure.limit if low_is_bad else measure.value > measure.limit


def _signs(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Independent signs of trouble that show in many tilts, with the number of tilts."""
    counts: dict[str, int] = {}
    for verdict in verdicts:
        for sign in {SIGNS[one.name] for one in verdict.measures if one.name in SIGNS and _fails(one)}:
            counts[sign] = counts.get(sign, 0) + 1
    enough = max(SIGN_TILTS, SIGN_SHARE * len(verdicts))
    return {sign: count for sign, count in counts.items() if count >= enough}


def _longest_run(verdicts: Sequence[Verdict]) -> int:
    longest = run = 0
    for verdict in verdicts:
        run = run + 1 if verdict.state == "bad" else 0
        longest = max(longest, run)
    return longest
