"""Where a tilt lies, how sure that is, and how sharp it is: what can be said once it is placed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from streamtomo.config_judge import Judge, Limits
from streamtomo.judge.limit import above, below, graded, note, verdict_of
from streamtomo.judge.record import Seen, apart
from streamtomo.judge.spectrum import LIKE, sharpness
from streamtomo.model import Measure, Placement, Verdict, VerdictState

TOO_AMBIGUOUS = 0.9
"""A second correlation peak this high makes a low one a guess."""
WANDERED = 0.35
"""A distance of this part of the bad one makes a tilt doubtful."""
LEAST_AGREEMENT = 0.08
"""Where tilts at like angles agree no better than this, agreement tells nothing."""
RECOGNITION = ("agreement", "correlation", "beads")
"""Measures that say that nothing, or something else, was recognised; such a tilt does not tell what is usual."""
ENOUGH = 4
"""Tilts to compare with that there must be."""
ENOUGH_FOCUS = 2
"""... whose defocus is known."""
FEW_BEADS = 3
"""Fewer beads than this say nothing."""
UNUSUAL_DRIFT = 3.0
"""Drift of so many times the usual one is more than usual."""
NEVER = -1.0
"""No fraction is below this."""
PLAN_DEG = 3.0
"""An angle further than this from all planned ones is another plan."""


class Field(NamedTuple):
    """The field of view."""

    nx: int
    ny: int
    pixel_size_A: float | None = None


def judge_placement(
    new: Seen,
    before: Sequence[Seen],
    field: Field,
    settings: Judge,
    limits: Limits,
    planned_deg: Sequence[float] = (),
) -> Verdict:
    """Judge a placed tilt; `before` are the tilts accepted before, in the order in which they came."""
    found = [*_when(new, before), *_angle(new, planned_deg, limits), *_motion(new, before, field, limits)]
    found += _defocus(new, before, limits)
    if new.placement is not None and new.placement.neighbour is not None:
        found += _position(new, new.placement, before, field, limits)
        beads = _beads_again(new, new.placement, before)
        found += _recognition(new, new.placement, before, limits, beads)
        if beads is not None:
            found.append(_beads(beads, limits, next((one for one, _ in found if one.name == "agreement"), None)))
        found += _sharpness(new, before, limits)
    return verdict_of(found, settings)


def is_recognised(placement: Placement, verdict: Verdict) -> bool:
    """Whether a neighbour was recognised in a tilt: by the aligner, or by agreement where it was placed.

    A tilt that is bad for no other reason than that no neighbour agrees with it may be as good as any.
    """
    if verdict.state == "bad":
        return not {one.name for one in verdict.measures if one.state == "bad"}.issubset(RECOGNITION)
    return placement.credible or (placement.agreement or 0.0) >= LEAST_AGREEMENT


def zero_tilt(tilts: Sequence[Seen]) -> Seen | None:
    """The placed tilt that is nearest to 0°."""
    placed = [one for one in tilts if one.placement is not None and one.in_volume]
    return min(placed, key=lambda one: abs(one.angle_deg), default=None)


def overlap(new: Seen, reference: Seen, field: Field) -> float:
    """Share of the reference's field that a tilt shows, as far as shifts tell."""
    here, there = new.shift(), reference.shift()
    if here is None or there is None:
        return 0.0
    across, along = (max(0.0, 1 - abs(a - b) / n) for a, b, n in zip(here, there, (field.nx, field.ny), strict=True))
    return across * along


def like(new: Seen, before: Sequence[Seen]) -> list[Seen]:
    """The tilts nearest in angle."""
    return sorted(before, key=lambda one: abs(one.angle_deg - new.angle_deg))[:LIKE]


def _position(
    new: Seen, placement: Placement, before: Sequence[Seen], field: Field, limits: Limits
) -> Iterator[tuple[Measure, str]]:
    here, size = (placement.shift_x, placement.shift_y), (field.nx, field.ny)
    known = [(one.index, shift) for one in before if (shift := one.shift()) is not None]
    reference = zero_tilt(before)
    if not known or reference is None:
        return
    predicted = [known[-1][1], *(shift for index, shift in known if index == placement.neighbour)]
    nearest = min(predicted, key=lambda shift: apart(here, shift, size))
    jump = apart(here, nearest, size)
    nm = np.hypot(here[0] - nearest[0], here[1] - nearest[1]) * (field.pixel_size_A or 0.0) / 10
    words = f"{jump:.2f} of the field{f' ({nm:.0f} nm)' if nm else ''} from where it was expected"
    yield above("jump", jump, limits.shift_doubtful, "doubtful", words, unit="fraction of the field")
    if field.pixel_size_A:
        yield note("shift", float(nm), "nm", expected=0.0)
    distance = apart(here, reference.shift() or (0.0, 0.0), size)
    words = f"{distance:.2f} of the field from the one at zero tilt"
    both = WANDERED * limits.shift_bad, limits.shift_bad
    yield graded("distance", distance, both, words, unit="fraction of the field")
    yield note("overlap", overlap(new, reference, field), "fraction of the field", expected=1.0)


class _BeadsAgain(NamedTuple):
    seen: int
    expected: float
    """By what tilts at like angles show of theirs."""


def _recognition(
    new: Seen, placement: Placement, before: Sequence[Seen], limits: Limits, beads: _BeadsAgain | None
) -> Iterator[tuple[Measure, str]]:
    """Whether the neighbour was recognised; where the agreement was not measured the correlation peak has to tell.

    A tilt is bad if neither the agreement nor the beads speak for it.
    """
    known = [one for one in before if one.placement is not None and not _fails(one, *RECOGNITION)]
    near = like(new, [one for one in known if one.placement is not None and one.placement.agreement is not None])
    usual = float(np.median([_agreement(one) for one in near])) if len(near) >= ENOUGH else None
    if placement.agreement is None or usual is None:
        yield from _peak(placement, limits)
        return
    yield note("correlation", placement.score, "sigma")
    yield note("ambiguity", placement.ambiguity, "fraction")
    here, usually = _gap(new, known), float(np.median([_gap(one, known) for one in near]))
    usual *= min(1.0, usually / here) if here > 0 else 1.0  # over a larger step of the angle neighbours differ more
    if usual <= LEAST_AGREEMENT:
        yield note("agreement", placement.agreement / max(usual, LEAST_AGREEMENT), "fraction", expected=1.0)
        return
    ratio = placement.agreement / usual
    words = f"agrees with its neighbour by {placement.agreement:.2f}, usual at like angles {usual:.2f}"
    seen = beads is not None and beads.seen >= limits.beads_doubtful * beads.expected
    both = limits.agree_doubtful, NEVER if seen else limits.agree_bad
    yield graded("agreement", ratio, both, words, unit="fraction", expected=1.0, falling=True)
    if placement.kinship is not None:
        yield note("kinship", placement.kinship / usual, "fraction")


def _beads_again(new: Seen, placement: Placement, before: Sequence[Seen]) -> _BeadsAgain | None:
    """Beads seen again, and how many should be; None where too few tell."""
    near = like(new, [one for one in before if _expected_beads(one) >= FEW_BEADS and not _fails(one, *RECOGNITION)])
    if len(near) < ENOUGH or placement.beads_seen is None or _expected_beads(new) < FEW_BEADS:
        return None
    usual = float(np.median([_share_of_beads(one) for one in near]))
    return _BeadsAgain(placement.beads_seen, usual * _expected_beads(new))


def _beads(beads: _BeadsAgain, limits: Limits, agreement: Measure | None) -> tuple[Measure, str]:
    """Beads against their limit; where all else agrees they lie a little aside, and where nothing does they decide."""
    seen, expected = beads
    words = f"{seen} beads are seen where {expected:.0f} should be"
    state = agreement.state if agreement is not None and agreement.limit is not None else None
    if state == "good":
        return note("beads", seen, "beads", expected)
    both = limits.beads_doubtful * expected, limits.beads_bad * expected if state is not None else NEVER
    return graded("beads", seen, both, words, unit="beads", expected=expected, falling=True)


def _expected_beads(one: Seen) -> int:
    return one.placement.beads_expected or 0 if one.placement is not None else 0


def _share_of_beads(one: Seen) -> float:
    return (one.placement.beads_seen or 0) / _expected_beads(one) if one.placement is not None else 0.0


def _agreement(one: Seen) -> float:
    return one.placement.agreement or 0.0 if one.placement is not None else 0.0


def _gap(one: Seen, known: Sequence[Seen]) -> float:
    """Angle from a tilt to the nearest of those that came before it and were recognised; 0 if there were none."""
    earlier = takewhile(lambda other: other.index != one.index, known)
    return min((abs(one.angle_deg - other.angle_deg) for other in earlier), default=0.0)


def _peak(placement: Placement, limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Low alone is doubtful; low and ambiguous together: nothing was recognised. Where a neighbour agrees it is."""
    if (placement.agreement or 0.0) >= LEAST_AGREEMENT:
        yield note("correlation", placement.score, "sigma")
    else:
        state: VerdictState = "bad" if placement.ambiguity > TOO_AMBIGUOUS else "doubtful"
        words = f"correlation peak {placement.score:.1f} sigma"
        yield below("correlation", placement.score, limits.min_score, state, words, unit="sigma")
    yield note("ambiguity", placement.ambiguity, "fraction")


def _sharpness(new: Seen, before: Sequence[Seen], limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Detail against tilts at like angles; noise grows as the light falls, so theirs is scaled to this one's light."""
    if new.look is None or new.light <= 0:
        return
    found = _against(new, before)
    if found is None:
        return
    detail, shape = found
    unmoved = [one for one in before if not _fails(one, "rings")]  # a defocus that drifts must not take others along
    shape = max(shape, (_against(new, unmoved) or found)[1])
    words = f"{detail:.2f} of the detail of tilts at like angles"
    both = limits.sharp_doubtful, limits.sharp_bad
    yield graded("sharpness", detail, both, words, unit="fraction", expected=1.0, falling=True)
    words = f"power spectrum of another shape ({shape:.2f})"
    unit = "scatter of the logarithm"
    yield graded("rings", shape, (limits.rings_doubtful, limits.rings_bad), words, unit=unit, expected=0.0)


def _against(new: Seen, before: Sequence[Seen]) -> tuple[float, float] | None:
    """Detail and difference in shape against tilts at like angles."""
    looks = [(one.light, one.look) for one in like(new, before) if one.look is not None and one.light > 0]
    assert new.look is not None
    return sharpness(new.look.spectrum, [_scaled(look.spectrum, new.light / light) for light, look in looks])


def _fails(one: Seen, *names: str) -> bool:
    return any(each.name in names and each.state != "good" for each in one.verdict.measures)


def _scaled(spectrum: Sequence[float], factor: float) -> tuple[float, ...]:
    return tuple(value * factor for value in spectrum)


def _defocus(new: Seen, before: Sequence[Seen], limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Against the usual one of the tilts that were not out of focus themselves."""
    here = new.look.defocus_um if new.look is not None else None
    known = [one.look.defocus_um for one in before if one.look is not None and not _fails(one, "defocus")]
    others = [each for each in known if each is not None]
    if here is None:
        return
    if len(others) < ENOUGH_FOCUS:
        yield note("defocus", here, "µm")
        return
    usual = float(np.median(others))
    off = abs(here - usual)
    state: VerdictState = "bad" if off > limits.defocus_bad_um else "doubtful"
    limit = limits.defocus_bad_um if state == "bad" else limits.defocus_doubtful_um
    words = f"defocus {here:.1f} µm, that of the other tilts is {usual:.1f} µm"
    if here >= usual:
        yield above("defocus", here, usual + limit, state, words, unit="µm", expected=usual)
    else:
        yield below("defocus", here, usual - limit, state, words, unit="µm", expected=usual)


def _motion(new: Seen, before: Sequence[Seen], field: Field, limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Way of the specimen through the movie."""
    way = new.correction.drift_px
    if way is None or not field.pixel_size_A:
        return
    to_nm = field.pixel_size_A / 10
    others = [one.correction.drift_px for one in before if one.correction.drift_px is not None]
    usual = to_nm * float(np.median(others)) if len(others) >= ENOUGH else None
    both = max(limits.drift_doubtful_nm, UNUSUAL_DRIFT * (usual or 0.0)), limits.drift_bad_nm
    words = f"the specimen moved by {way * to_nm:.1f} nm during the exposure"
    yield graded("drift", way * to_nm, (both[0], max(both)), words, unit="nm", expected=usual)


def _angle(new: Seen, planned_deg: Sequence[float], limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Against the nearest planned angle."""
    nearest = min(planned_deg, key=lambda angle: abs(angle - new.angle_deg), default=None)
    if nearest is None or abs(nearest - new.angle_deg) > PLAN_DEG:
        return
    off = abs(new.angle_deg - nearest)
    words = f"{off:.1f}° from the planned {nearest:.1f}°"
    yield above("angle", off, limits.angle_off_deg, "doubtful", words, unit="degrees", expected=0.0)


def _when(new: Seen, before: Sequence[Seen]) -> Iterator[tuple[Measure, str]]:
    """Dose so far, and time since the tilt before."""
    if new.prior_dose_e_A2 is not None or new.dose_e_A2 is not None:
        yield note("dose", (new.prior_dose_e_A2 or 0.0) + (new.dose_e_A2 or 0.0), "e/Å²")
    stamps = [one.acquired_s for one in before if one.acquired_s is not None]
    if stamps and new.acquired_s is not None and new.acquired_s > max(stamps):
        yield note("interval", new.acquired_s - max(stamps), "s")
