"""Is there light, where, and is the camera well: what an image says before it is placed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from streamtomo.config_judge import Judge, Limits
from streamtomo.judge.law import STEEPEST_TILT_DEG, Expectation, expected_light, path
from streamtomo.judge.limit import above, below, note, verdict_of
from streamtomo.judge.record import Seen
from streamtomo.model import Measure, Verdict, VerdictState

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
            reasons += _depth(new, expected_light(new.angle_deg, _trusted(before)), limits)
    if new.look is not None:
        if not dark_field:
            reasons += _shadows(new.look.blocked, new.look.blocked_side, new.look.blob, before, limits)
        reasons += _camera(new, before, limits)
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
    elif ratio < dark:
        yield below("intensity", ratio, dark, "bad", words, expected=1.0, unit="fraction")
    else:
        yield below("intensity", ratio, dim, "doubtful", words, expected=1.0, unit="fraction")


def _trusted(before: Sequence[Seen]) -> list[Seen]:
    """Tilts whose light was as expected: a beam that became weaker looks like a thick specimen."""
    return [
        one for one in before if all(each.name != "intensity" or each.state == "good" for each in one.verdict.measures)
    ]


def _depth(new: Seen, expected: Expectation | None, limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Thickness along the beam, in mean free paths."""
    if expected is None or expected.depth is None:
        return
    yield note("thickness", expected.depth, "mean free paths")
    longer = float(path(float(np.clip(new.angle_deg - expected.pretilt_deg, -STEEPEST_TILT_DEG, STEEPEST_TILT_DEG))))
    depth = (expected.depth - SURE_DEPTH * expected.depth_error) * longer
    words = f"the specimen is {expected.depth * longer:.1f} mean free paths thick along the beam"
    worst = depth > limits.depth_bad
    limit, state = (limits.depth_bad, "bad") if worst else (limits.depth_doubtful, "doubtful")
    yield above("depth", depth, limit, state, words, unit="mean free paths")  # type: ignore[arg-type]


def _shadows(
    blocked: float, side: str, blob: float, before: Sequence[Seen], limits: Limits
) -> Iterator[tuple[Measure, str]]:
    """What of the field is dark: from an edge, or in a blob that was not there before."""
    bad = blocked > limits.blocked_bad
    limit, state = (limits.blocked_bad, "bad") if bad else (limits.blocked_doubtful, "doubtful")
    words = f"{blocked:.0%} of the field lies in shadow, from the {side or 'edge'}"
    yield above("blocked", blocked, limit, state, words, unit="fraction of the field")  # type: ignore[arg-type]
    usual = _usual([one.look.blob for one in before if one.look is not None])
    if usual is not None:
        grown = f"a dark blob covers {blob:.0%} of the field, {usual:.0%} before"
        yield above("blob", blob, usual + BLOB, "doubtful", grown, expected=usual, unit="fraction of the field")


def _camera(new: Seen, before: Sequence[Seen], limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Saturation, outliers, and noise for the light that there is."""
    assert new.look is not None
    saturated = new.look.saturated
    state: VerdictState = "bad" if saturated > SATURATED[1] else "doubtful"
    limit = SATURATED[state == "bad"]
    yield above("saturated", saturated, limit, state, f"{saturated:.0%} of the pixels are saturated", unit="fraction")
    looks = [look for one in before if (look := one.look) is not None]
    usual = _usual([look.repaired for look in looks])
    if usual is not None:
        limit = max(limits.repaired_bad, 3 * usual)
        words = f"{new.look.repaired:.1%} of the pixels are outliers, {usual:.1%} before"
        yield above("outliers", new.look.repaired, limit, "bad", words, expected=usual, unit="fraction of the pixels")
    noises = [look.noise / math.sqrt(look.lit) for look in looks if look.lit > 0 and look.noise > 0]
    usual = _usual(noises)
    in_shadow = new.look.blocked + new.look.blob > NO_SHADOW
    if usual is not None and new.look.lit > 0 and not in_shadow:
        ratio = new.look.noise / math.sqrt(new.look.lit) / usual
        words = f"noise {ratio:.2f} times what the other tilts have at this intensity"
        factor = limits.noise_doubtful
        if ratio >= 1:
            yield above("noise", ratio, factor, "doubtful", words, expected=1.0, unit="times")
        else:
            yield below("noise", ratio, 1 / factor, "doubtful", words, expected=1.0, unit="times")


def _usual(values: Sequence[float]) -> float | None:
    """The median; None for too few."""
    return float(np.median(values)) if len(values) >= ENOUGH else None
