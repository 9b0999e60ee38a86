"""Is there light, where, and is the camera well: what an image says before it is placed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from streamtomo.config_judge import Judge, Limits
from streamtomo.judge.fading import Loss, lost_light
from streamtomo.judge.law import STEEPEST_TILT_DEG, Expectation, expected_light, path
from streamtomo.judge.limit import above, below, graded, note, verdict_of
from streamtomo.judge.record import Seen
from streamtomo.model import Look, Measure, Verdict

SCATTER_LIMIT = 4.0
"""A level within this many times the scatter of the others is never held against a tilt."""
DARK_FIELD_SKEW = 0.4
"""Median skewness of the levels beyond which bright things lie on a dark ground ..."""
ABSORBS = 0.2
"""... unless light falls with the path by so many mean free paths: then it is bright field with a hole."""
ENOUGH = 4
"""Tilts that must be there to tell what is usual."""
SATURATED = (0.01, 0.2)
"""Share of pixels at the camera's end that make a tilt doubtful, bad."""
OUTLIERS = 3.0
"""Times as many outliers as usual are no X-rays."""
BLOB = 0.04
"""A blob that covers so much more of the field than it did makes a tilt doubtful."""
NO_SHADOW = 0.02
"""With more of the field in shadow its noise is not that of the light."""
SURE_DEPTH = 2.0
"""A depth is held against a series when it is too large by so many of its standard errors less."""


def judge_image(new: Seen, before: Sequence[Seen], settings: Judge, limits: Limits) -> Verdict:
    """Judge a tilt by its image alone; `before` are the tilts accepted before. A blank image is always bad."""
    if new.correction.sd <= 0:
        return Verdict(state="bad", reasons=("the image is blank: all pixels are equal",))
    expected = expected_light(new.angle_deg, before)
    dark_field = is_dark_field([*before, new], settings, expected)
    reasons: list[tuple[Measure, str]] = []
    if expected is not None:
        reasons += _intensity(new, expected, limits, dark_field=dark_field)
        if not dark_field:
            reasons += _fading(lost_light([*before, new]), limits)
            trusted = _trusted(before)
            depth = expected if len(trusted) == len(before) else expected_light(new.angle_deg, trusted)
            reasons += _depth(new, depth, limits)
    if new.look is not None:
        if not dark_field:
            reasons += _shadows(new.look.blocked, new.look.blocked_side, new.look.blob, before, limits)
        reasons += _camera(new.look, [look for one in before if (look := one.look) is not None], limits)
    return verdict_of(reasons, settings)


def is_dark_field(tilts: Sequence[Seen], settings: Judge, expected: Expectation | None) -> bool:
    """Whether bright things lie on a dark ground, as scattered electrons show them."""
    if settings.contrast != "auto":
        return settings.contrast == "dark field"
    skews = [one.look.skew for one in tilts if one.look is not None]
    if not skews or float(np.median(skews)) < DARK_FIELD_SKEW:
        return False
    return expected is None or expected.depth is None or expected.depth - 2 * expected.depth_error < ABSORBS


def _intensity(new: Seen, expected: Expectation, limits: Limits, *, dark_field: bool) -> Iterator[tuple[Measure, str]]:
    """Light against the law; in dark field only a dead beam counts."""
    ratio = max(0.0, new.light / expected.light)
    words = f"intensity {ratio:.2f} of what the other tilts predict"
    if dark_field:
        dead = limits.dead_fraction
        yield below("intensity", ratio, dead, "bad", words, expected=1.0, unit="fraction")
        return
    allowed = math.exp(-expected.slack - SCATTER_LIMIT * expected.scatter)
    dark = min(limits.dark_fraction * math.exp(-expected.slack), allowed)
    dim = min(limits.dim_fraction * math.exp(-expected.slack), allowed)
    bright = max(1 / limits.dark_fraction, math.exp(SCATTER_LIMIT * expected.scatter))
    if ratio > 1:
        yield above("intensity", ratio, bright, "doubtful", words, expected=1.0, unit="fraction")
    else:
        yield graded("intensity", ratio, (dim, dark), words, expected=1.0, unit="fraction", falling=True)


def _fading(lost: Loss | None, limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Light lost with time, whatever the path."""
    if lost is None:
        return
    both = 1 - limits.dim_fraction, 1 - limits.dark_fraction
    words = f"{lost.so_far:.0%} of the light was lost with time, whatever the tilt"
    yield graded("fading", lost.so_far, both, words, expected=0.0, unit="fraction")
    if lost.per_tilt > 0:
        yield note("fading_rate", lost.per_tilt, "fraction a tilt")


def _trusted(before: Sequence[Seen]) -> list[Seen]:
    """Tilts whose light was as expected: a beam that became weaker looks like a thick specimen."""
    return [
        one
        for one in before
        if all(each.name not in ("intensity", "fading") or each.state == "good" for each in one.verdict.measures)
    ]


def _depth(new: Seen, expected: Expectation | None, limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Thickness along the beam, in mean free paths."""
    if expected is None or expected.depth is None:
        return
    yield note("thickness", expected.depth, "mean free paths")
    longer = float(path(float(np.clip(new.angle_deg - expected.pretilt_deg, -STEEPEST_TILT_DEG, STEEPEST_TILT_DEG))))
    depth = (expected.depth - SURE_DEPTH * expected.depth_error) * longer
    words = f"the specimen is {expected.depth * longer:.1f} mean free paths thick along the beam"
    yield graded("depth", depth, (limits.depth_doubtful, limits.depth_bad), words, unit="mean free paths")


def _shadows(
    blocked: float, side: str, blob: float, before: Sequence[Seen], limits: Limits
) -> Iterator[tuple[Measure, str]]:
    """What of the field is dark: from an edge, or in a blob that was not there before."""
    words = f"{blocked:.0%} of the field lies in shadow, from the {side or 'edge'}"
    yield graded("blocked", blocked, (limits.blocked_doubtful, limits.blocked_bad), words, unit="fraction of the field")
    usual = _usual([one.look.blob for one in before if one.look is not None])
    if usual is not None:
        grown = f"a dark blob covers {blob:.0%} of the field, {usual:.0%} before"
        both = usual + BLOB, usual + limits.blocked_bad
        yield graded("blob", blob, both, grown, expected=usual, unit="fraction of the field")


def _camera(look: Look, before: Sequence[Look], limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Saturation, outliers, and noise for the light that there is."""
    words = f"{look.saturated:.0%} of the pixels are saturated"
    yield graded("saturated", look.saturated, SATURATED, words, unit="fraction")
    usual = _usual([one.repaired for one in before])
    if usual is not None:
        limit = max(limits.repaired_bad, OUTLIERS * usual)
        words = f"{look.repaired:.1%} of the pixels are outliers, {usual:.1%} before"
        yield above("outliers", look.repaired, limit, "bad", words, expected=usual, unit="fraction of the pixels")
    usual = _usual([one.noise / math.sqrt(one.lit) for one in before if one.lit > 0 and one.noise > 0])
    if usual is not None and look.lit > 0 and look.blocked + look.blob <= NO_SHADOW:
        yield _noise(look.noise / math.sqrt(look.lit) / usual, limits.noise_doubtful)


def _noise(ratio: float, factor: float) -> tuple[Measure, str]:
    """Noise against that of the electrons, as the other tilts have it: it is to be neither more nor less."""
    words = f"noise {ratio:.2f} times what the other tilts have at this intensity"
    if ratio >= 1:
        return above("noise", ratio, factor, "doubtful", words, expected=1.0, unit="times")
    return below("noise", ratio, 1 / factor, "doubtful", words, expected=1.0, unit="times")


def _usual(values: Sequence[float]) -> float | None:
    """The median; None for too few."""
    return float(np.median(values)) if len(values) >= ENOUGH else None
