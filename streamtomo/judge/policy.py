"""The verdict on a series: a pure machine. Tilts go in, in the order in which they came; the verdict comes out.

A series is rejected on two independent signs of trouble, on a sign that stands and leads to a failure soon, on bad
tilts in a row on one branch, or at once when there is no beam any more or the target has left the field. What is
rejected stays so until a number of good tilts came one after the other; and a series with nearly all of its tilts is
never rejected, as it would save nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct

from streamtomo.config_judge import Judge, limits
from streamtomo.judge.forecast import Forecast, forecasts
from streamtomo.judge.light import judge_image
from streamtomo.judge.place import Field, judge_placement, overlap, zero_tilt
from streamtomo.judge.plan import Plan, branch, planned_tilts, remaining
from streamtomo.judge.record import Seen, fails, value_of
from streamtomo.messages import SeriesVerdict
from streamtomo.model import Verdict

SIGN_OF = {
    "intensity": "light",
    "fading": "light",
    "depth": "light",
    "blocked": "shadow",
    "blob": "shadow",
    "changed": "shadow",
    "jump": "field",
    "distance": "field",
    "agreement": "recognition",
    "correlation": "recognition",
    "sharpness": "sharpness",
    "rings": "sharpness",
    "contrast": "sharpness",
    "ghost": "sharpness",
    "defocus": "sharpness",
    "drift": "sharpness",
    "beads": "recognition",
    "noise": "camera",
    "outliers": "camera",
    "saturated": "camera",
}
"""Measures that have the same cause are one sign."""
DETAIL = ("recognition", "sharpness")
"""Signs that are not independent: what has little detail is hard to recognise."""
WINDOW, STANDS = 4, 3
"""A sign stands when it shows in so many (STANDS) of the last WINDOW tilts, of all or of one branch."""
GROWTH = 0.1
"""A target that leaves the field moves on by more than this fraction of it from one tilt to the next."""
KIN = 2
"""More tilts than this in a row that were not recognised, so many of which agree with one such tilt: another area."""
SURE = {"no beam": 0.98, "left": 0.95, "another": 0.95, "row": 0.9, "sign": 0.65, "forecast": 0.5, "bad": 0.3}
"""How much each piece of evidence is trusted by itself; together they leave the product of their doubts."""


class Judgement(Struct, frozen=True, kw_only=True):
    """The verdict on a series as it is now."""

    state: SeriesVerdict = "good"
    reasons: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    """What kind of evidence there is, in the order of the reasons: news are what changes the state or these."""
    first_fault: int | None = None
    """Index of the first tilt at fault."""
    usable: str = ""
    forecast: str = ""
    confidence: float | None = None


class _Evidence(NamedTuple):
    kind: str
    words: str
    first: int
    """Index of the first tilt of it."""
    weight: float
    decisive: bool = False


class SeriesJudge:
    """What is known of the tilts of one series, and the verdicts on them."""

    def __init__(self, settings: Judge, field: Field, plan: Plan | None = None) -> None:
        self.settings, self.limits, self.field = settings, limits(settings), field
        self.plan = plan or Plan(reach_deg=settings.reach_deg)
        self.seen: list[Seen] = []
        self.judgement = Judgement()

    @property
    def accepted(self) -> list[Seen]:
        """The tilts that others are compared with."""
        return [one for one in self.seen if one.in_volume]

    @property
    def strangers(self) -> set[int]:
        """Tilts that were accepted though they were not recognised."""
        return {one.index for one in self.accepted if is_strange(one)}

    @property
    def altered(self) -> set[int]:
        """Tilts that were accepted though the field is not what it was."""
        return {one.index for one in self.accepted if fails(one, "changed", "blocked", "blob")}

    def image(self, new: Seen) -> Verdict:
        """The verdict on a tilt before it is placed."""
        return judge_image(new, self.accepted, self.settings, self.limits)

    def placement(self, new: Seen) -> Verdict:
        """The verdict on where a tilt was placed."""
        return judge_placement(new, self.accepted, self.field, self.settings, self.limits, self.plan.like)

    def add(self, one: Seen) -> Judgement:
        """Take in a tilt with its verdict; the judgement on the series."""
        self.seen = [*(each for each in self.seen if each.index != one.index), one]
        taken = [each.angle_deg for each in self.seen]
        foreseen = forecasts(self.seen, remaining(taken, self.plan), self.limits)
        evidence = self._evidence(foreseen)
        self.judgement = Judgement(
            state=self._state(evidence),
            reasons=tuple(each.words for each in evidence),
            kinds=tuple(each.kind for each in evidence),
            first_fault=min((each.first for each in evidence), default=None),
            usable=usable(self.seen, planned_tilts(taken, self.plan), self.field),
            forecast="; ".join(f"{each.words} at about {each.angle_deg:+.0f}°" for each in foreseen),
            confidence=_confidence(evidence),
        )
        return self.judgement

    def _state(self, evidence: Sequence[_Evidence]) -> SeriesVerdict:
        """The state that follows, with hysteresis."""
        before = self.judgement.state
        if self.settings.preset == "off":
            return "good"
        if _is_enough(evidence) and not self._nearly_complete():
            return "reject"
        if before != "good" and not all(one.verdict.state == "good" for one in self._last(self.limits.recover)):
            return before
        return "watch" if evidence else "good"

    def _last(self, count: int) -> list[Seen]:
        """The last tilts; too few of them are no recovery."""
        return self.seen[-count:] if len(self.seen) >= count else []

    def _nearly_complete(self) -> bool:
        planned = planned_tilts([one.angle_deg for one in self.seen], self.plan)
        return len(self.accepted) >= self.limits.enough_share * planned

    def _evidence(self, foreseen: Sequence[Forecast]) -> list[_Evidence]:
        """All that speaks against the series now."""
        found = [*_no_beam(self.seen, self.limits.dead_fraction), *_left(self.seen)]
        found += _another_area(self.seen, self.limits.agree_doubtful)
        found += _rows(self.seen, self.limits.in_a_row)
        signs = _signs(self.seen)
        found += signs
        standing = {one.kind for one in signs}
        for each in foreseen:
            if each.sign in standing:
                words = f"{each.words} at about {each.angle_deg:+.0f}°"
                found.append(_Evidence("forecast", words, self.seen[-1].index, SURE["forecast"]))
        bad = [one for one in self.seen if one.verdict.state == "bad"]
        if bad and not found and self.seen[-1].index - bad[-1].index < self.limits.recover:
            words = f"{len(bad)} of {len(self.seen)} tilts are bad"
            found.append(_Evidence("bad", words, bad[0].index, SURE["bad"]))
        return found


def failing(one: Seen) -> set[str]:
    """The signs that show in a tilt."""
    return {SIGN_OF[each.name] for each in one.verdict.measures if each.state != "good" and each.name in SIGN_OF}


def is_strange(one: Seen) -> bool:
    """Whether a tilt was not recognised, not even by its beads."""
    beads_seen = any(each.name == "beads" and each.state == "good" for each in one.verdict.measures)
    return "recognition" in failing(one) and not beads_seen


def usable(seen: Sequence[Seen], planned: int, field: Field) -> str:
    """What can be used of a series, in words."""
    good = [one for one in seen if one.in_volume]
    words = f"{len(good)} of {planned} tilts"
    angles = sorted(one.angle_deg for one in good)
    if len(angles) > 1:
        words += f", widest gap {max(b - a for a, b in pairwise(angles)):.0f}°"
    reference = zero_tilt(good)
    if reference is None:
        return words
    least = min((one for one in good if one.placement), key=lambda one: overlap(one, reference, field), default=None)
    if least is None:
        return words
    return f"{words}, field overlap {overlap(least, reference, field):.0%} at {least.angle_deg:+.0f}°"


def _is_enough(evidence: Sequence[_Evidence]) -> bool:
    """Whether it is enough to reject: one decisive fact, or two others."""
    signs = {"detail" if one.kind in DETAIL else one.kind for one in evidence if one.kind != "bad"}
    return any(one.decisive for one in evidence) or len(signs) >= 2


def _confidence(evidence: Sequence[_Evidence]) -> float | None:
    doubt = 1.0
    for one in evidence:
        doubt *= 1 - one.weight
    return round(1 - doubt, 2) if evidence else None


def _no_beam(seen: Sequence[Seen], dead_fraction: float) -> list[_Evidence]:
    """Two tilts one after the other without a beam."""
    dark = _trailing(seen, lambda one: _is_dead(one, dead_fraction))
    if len(dark) < 2:
        return []
    return [_Evidence("no beam", f"no beam in the last {len(dark)} tilts", dark[0].index, SURE["no beam"], True)]


def _is_dead(one: Seen, dead_fraction: float) -> bool:
    ratio = value_of(one, "intensity")
    return one.correction.sd <= 0 or (ratio is not None and ratio < dead_fraction)


def _left(seen: Sequence[Seen]) -> list[_Evidence]:
    """The target moved on from one tilt to the next, and now it is out of the field or was not recognised."""
    if len(seen) < 3:
        return []
    before, last = seen[-2:]
    lost = last.verdict.state == "bad" and failing(last) & {"field", "recognition"}
    if not lost or "field" not in failing(before):
        return []
    moved = (value_of(last, "distance") or 0.0) - (value_of(before, "distance") or 0.0)
    if moved < GROWTH and not ("recognition" in failing(last) and before.in_volume):
        return []
    return [_Evidence("left", "the target has left the field", before.index, SURE["left"], True)]


def _another_area(seen: Sequence[Seen], alike: float) -> list[_Evidence]:
    """The last tilts agree with each other, and not with those before."""
    strange = _trailing(seen, is_strange)
    if len(strange) <= KIN or sum((value_of(one, "kinship") or 0.0) >= alike for one in strange) < KIN:
        return []
    words = f"the last {len(strange)} tilts agree with each other and not with those before: another area"
    return [_Evidence("another", words, strange[0].index, SURE["another"], True)]


def _rows(seen: Sequence[Seen], in_a_row: int) -> list[_Evidence]:
    """Bad tilts, one after the other or on the last one's branch; one that is not bad between them changes nothing."""
    for where, tilts in (("", seen), (" on this branch", _on_branch(seen))):
        last = tilts[-in_a_row - 1 :]
        bad = [one for one in last if one.verdict.state == "bad"]
        if len(bad) >= in_a_row and seen[-1] is bad[-1]:
            words = f"{len(bad)} of the last {len(last)} tilts{where} are bad"
            return [_Evidence("row", words, bad[0].index, SURE["row"], True)]
    return []


def _signs(seen: Sequence[Seen]) -> list[_Evidence]:
    """Signs that stand, with the first tilt that shows each without a break."""
    found = {}
    for tilts in (seen, _on_branch(seen)):
        window = tilts[-WINDOW:]
        for sign in sorted(set().union(*(failing(one) for one in window))):
            count = sum(sign in failing(one) for one in window)
            if count >= STANDS and sign not in found:
                first = next(one for one in window if sign in failing(one))
                words = f"{sign}: {count} of the last {len(window)} tilts"
                found[sign] = _Evidence(sign, words, first.index, SURE["sign"])
    return list(found.values())


def _on_branch(seen: Sequence[Seen]) -> list[Seen]:
    """The tilts on the last one's branch."""
    start, side = seen[0].angle_deg, branch(seen[-1].angle_deg, seen[0].angle_deg)
    return [one for one in seen if branch(one.angle_deg, start) == side]


def _trailing(seen: Sequence[Seen], holds: Callable[[Seen], bool]) -> list[Seen]:
    """The tilts at the end for which something holds, without a break."""
    run: list[Seen] = []
    for one in reversed(seen):
        if not holds(one):
            break
        run.insert(0, one)
    return run
