"""Is a tilt of the same specimen as those before? Three answers: ring by ring, by the correlation's peak, by the beads.

A single one is fooled now and then. Ring by ring two fields agree by chance where few features are seen; the peak is
the highest of all places that were searched; and beads are seen where there are many of them. So each is held against
what tilts at like angles have, and what one of them fails in, another may speak for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from streamtomo.config_judge import Limits
from streamtomo.judge.limit import below, graded, note
from streamtomo.judge.record import Seen, fails, like
from streamtomo.model import Measure, Placement, Verdict, VerdictState

RECOGNITION = ("agreement", "correlation", "beads")
"""Measures that say that nothing, or something else, was recognised; such a tilt does not tell what is usual."""
LEAST_AGREEMENT = 0.1
"""Where tilts at like angles agree no better than this, agreement tells nothing: it is known to half of that."""
RECOGNISED = 0.05
"""So much agreement is none by chance."""
TOO_AMBIGUOUS = 0.9
"""A second correlation peak this high makes a low one a guess."""
ENOUGH = 4
"""Tilts to compare with that there must be."""
FEW_BEADS = 3
"""Fewer beads than this say nothing."""
BEYOND_CHANCE = 2.0
"""Beads tell nothing unless so many more of them are expected than are seen by chance."""
NEVER = -1.0
"""No fraction is below this."""


def is_recognised(placement: Placement, verdict: Verdict) -> bool:
    """Whether a neighbour was recognised in a tilt: by the aligner, or by agreement where it was placed.

    A tilt that is bad for no other reason than that no neighbour agrees with it may be as good as any.
    """
    if verdict.state == "bad":
        return not {one.name for one in verdict.measures if one.state == "bad"}.issubset(RECOGNITION)
    return placement.credible or (placement.agreement or 0.0) >= RECOGNISED


class _Usual(NamedTuple):
    """What tilts at like angles have that were recognised themselves."""

    agreement: float
    peak: float
    """Height of the correlation peak, sigma."""
    allowed: float
    """Share of that agreement which is enough where the last tilt that was recognised is further away than usual."""


class _Beads(NamedTuple):
    """Beads that are seen again, and how many should be."""

    seen: int
    expected: float
    """By what tilts at like angles show of theirs."""
    by_chance: float

    def limit(self, share: float) -> float:
        """So large a share of those that are expected beyond chance."""
        return self.by_chance + share * (self.expected - self.by_chance)


def recognition(
    new: Seen, placement: Placement, before: Sequence[Seen], limits: Limits
) -> Iterator[tuple[Measure, str]]:
    """Whether the neighbour was recognised in a placed tilt; `before` are the tilts accepted before it.

    A tilt is bad if nothing speaks for it. Where too few tilts tell what is usual the correlation's peak alone decides.
    """
    yield note("ambiguity", placement.ambiguity, "fraction")
    beads, usual = _beads_again(new, placement, before), _usual(new, before)
    if placement.agreement is None or usual is None:
        yield _peak(placement, limits)
        state = None
    else:
        peak = graded(
            "correlation",
            placement.score,
            (limits.peak_doubtful * usual.peak, limits.peak_bad * usual.peak),
            f"correlation peak {placement.score:.1f} sigma, usual at like angles {usual.peak:.1f}",
            unit="sigma",
            expected=usual.peak,
            falling=True,
        )
        expected = usual.allowed * usual.agreement
        agreement = _agreement(placement.agreement, expected, _agreement_limits(peak[0], beads, limits))
        state = agreement[0].state if agreement[0].limit is not None else None
        agrees = state == "good" and placement.agreement >= limits.agree_doubtful * usual.agreement
        yield agreement
        yield note("correlation", placement.score, "sigma", usual.peak) if agrees else peak
        if placement.kinship is not None:
            yield note("kinship", placement.kinship / max(expected, LEAST_AGREEMENT), "fraction")
    if beads is not None:
        yield _beads(beads, limits, state)


def _usual(new: Seen, before: Sequence[Seen]) -> _Usual | None:
    """None where too few tilts tell."""
    known = [one for one in before if one.placement is not None and not fails(one, *RECOGNITION)]
    near = like(new, [one for one in known if one.placement is not None and one.placement.agreement is not None])
    placements = [one.placement for one in near if one.placement is not None]
    if len(placements) < ENOUGH:
        return None
    here, usually = _gap(new, known), float(np.median([_gap(one, known) for one in near]))
    allowed = min(1.0, usually / here) if here > 0 else 1.0  # over a larger step of the angle neighbours differ more
    agreement, peak = np.median([(one.agreement or 0.0, one.score) for one in placements], axis=0)
    return _Usual(float(agreement), float(peak), allowed)


def _gap(one: Seen, known: Sequence[Seen]) -> float:
    """Angle from a tilt to the nearest of those that came before it and were recognised; 0 if there were none."""
    earlier = takewhile(lambda other: other.index != one.index, known)
    return min((abs(one.angle_deg - other.angle_deg) for other in earlier), default=0.0)


def _agreement(agreement: float, usual: float, both: tuple[float, float]) -> tuple[Measure, str]:
    """Agreement with the neighbour over the usual one, against its limits: doubtful below the first, bad below the
    second one.
    """
    if usual <= LEAST_AGREEMENT:
        return note("agreement", agreement / LEAST_AGREEMENT, "fraction", expected=1.0)
    words = f"agrees with its neighbour by {agreement:.2f}, usual at like angles {usual:.2f}"
    return graded("agreement", agreement / usual, both, words, unit="fraction", expected=1.0, falling=True)


def _agreement_limits(peak: Measure, beads: _Beads | None, limits: Limits) -> tuple[float, float]:
    """What agreement must be: the less, the more else speaks for a tilt."""
    missed = beads is not None and beads.seen < beads.limit(limits.beads_doubtful)
    if peak.state != "good" or missed:
        return limits.agree_doubtful, limits.agree_bad
    return limits.agree_bad, limits.agree_bad if beads is None else NEVER


def _peak(placement: Placement, limits: Limits) -> tuple[Measure, str]:
    """Low alone is doubtful; low and ambiguous together: nothing was recognised. Where a neighbour agrees it is."""
    if (placement.agreement or 0.0) >= RECOGNISED:
        return note("correlation", placement.score, "sigma")
    state: VerdictState = "bad" if placement.ambiguity > TOO_AMBIGUOUS else "doubtful"
    words = f"correlation peak {placement.score:.1f} sigma"
    return below("correlation", placement.score, limits.min_score, state, words, unit="sigma")


def _beads_again(new: Seen, placement: Placement, before: Sequence[Seen]) -> _Beads | None:
    """Beads seen again, and how many should be; None where too few tell."""
    near = like(new, [one for one in before if _beads_beyond_chance(one) and not fails(one, *RECOGNITION)])
    if len(near) < ENOUGH or placement.beads_seen is None or not _beads_beyond_chance(new):
        return None
    usual = float(np.median([_share_of_beads(one) for one in near]))
    by_chance = placement.beads_by_chance or 0.0
    expected = by_chance + usual * ((placement.beads_expected or 0) - by_chance)
    return _Beads(placement.beads_seen, expected, by_chance) if expected > by_chance else None


def _beads(beads: _Beads, limits: Limits, agreement: VerdictState | None) -> tuple[Measure, str]:
    """Beads against their limit; where all else agrees they lie a little aside, and where nothing does they decide."""
    if agreement == "good":
        return note("beads", beads.seen, "beads", beads.expected)
    words = f"{beads.seen} beads are seen where {beads.expected:.0f} should be"
    bad = beads.limit(limits.beads_bad) if agreement is not None else NEVER
    both = beads.limit(limits.beads_doubtful), bad
    return graded("beads", beads.seen, both, words, unit="beads", expected=beads.expected, falling=True)


def _beads_beyond_chance(one: Seen) -> bool:
    """Whether enough of a neighbour's beads lie in the field, and chance does not show most of them anyway."""
    placement = one.placement
    if placement is None or (placement.beads_expected or 0) < FEW_BEADS:
        return False
    return (placement.beads_expected or 0) - (placement.beads_by_chance or 0.0) >= BEYOND_CHANCE


def _share_of_beads(one: Seen) -> float:
    """Share of the beads that are seen, of those that are not seen by chance."""
    assert one.placement is not None
    by_chance = one.placement.beads_by_chance or 0.0
    expected = (one.placement.beads_expected or 0) - by_chance
    return max(0.0, ((one.placement.beads_seen or 0) - by_chance) / expected)
