"""Where a tilt lies, how sure that is, and how sharp it is: what can be said once it is placed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from streamtomo.config_judge import Judge, Limits
from streamtomo.judge.light import is_dark_field
from streamtomo.judge.limit import above, below, graded, note, verdict_of
from streamtomo.judge.recognition import recognition
from streamtomo.judge.record import Seen, apart, fails, like
from streamtomo.judge.spectrum import Compared, sharpness
from streamtomo.model import Measure, Placement, Verdict, VerdictState

WANDERED = 0.35
"""A distance of this part of the bad one makes a tilt doubtful."""
ENOUGH = 4
"""Tilts to compare with that there must be."""
ENOUGH_FOCUS = 2
"""... whose defocus is known."""
UNUSUAL_DRIFT = 3.0
"""Drift of so many times the usual one is more than usual."""
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
        found += recognition(new, new.placement, before, limits)
        found += [
            *_changed(new, before, limits, settings),
            *_sharpness(new, before, limits),
            *_twice(new, before, limits),
        ]
    return verdict_of(found, settings)


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


def _sharpness(new: Seen, before: Sequence[Seen], limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Detail against tilts at like angles; noise grows as the light falls, so theirs is scaled to this one's light."""
    if new.look is None or new.light <= 0:
        return
    found = _against(new, before)
    if found is None:
        return
    unmoved = [one for one in before if not fails(one, "rings", "contrast")]
    steady = _against(new, unmoved) or found  # a defocus that drifts must not take others along
    shape, contrast = max(found.shape, steady.shape), max(found.contrast, steady.contrast)
    words = f"{found.kept:.2f} of the detail of tilts at like angles"
    both = limits.sharp_doubtful, limits.sharp_bad
    yield graded("sharpness", found.kept, both, words, unit="fraction", expected=1.0, falling=True)
    words = f"power spectrum of another shape ({shape:.2f})"
    unit = "scatter of the logarithm"
    yield graded("rings", shape, (limits.rings_doubtful, limits.rings_bad), words, unit=unit, expected=0.0)
    words = f"{contrast:.1f} times the contrast of tilts at like angles: another defocus, or another specimen"
    both = limits.contrast_doubtful, limits.contrast_bad
    yield graded("contrast", contrast, both, words, unit="times", expected=1.0)


def _twice(new: Seen, before: Sequence[Seen], limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Whether everything is seen twice, against what is periodic in tilts at like angles."""
    once = [one for one in before if not fails(one, "ghost")]
    seen = [one.look.ghost for one in like(new, once) if one.look is not None and one.look.ghost is not None]
    if new.look is None or new.look.ghost is None or len(seen) < ENOUGH:
        return
    usual = float(np.median(seen))
    words = f"everything is seen twice, the second time by {new.look.ghost:.2f} of the first"
    both = usual + limits.ghost_doubtful, usual + limits.ghost_bad
    yield graded("ghost", new.look.ghost, both, words, unit="fraction", expected=usual)


def _changed(new: Seen, before: Sequence[Seen], limits: Limits, settings: Judge) -> Iterator[tuple[Measure, str]]:
    """Share of the field that is not as it was, against what changes from angle to angle by itself."""
    known = [one for one in before if one.placement is not None and not fails(one, "changed")]
    seen = [one.placement.changed for one in like(new, known) if one.placement is not None]
    shares = [share for share in seen if share is not None]
    here = new.placement.changed if new.placement is not None else None
    if here is None or len(shares) < ENOUGH or is_dark_field([*before, new], settings, None):
        return
    usual = float(np.median(shares))
    words = f"{here:.0%} of the field is not as it was, {usual:.0%} is usual at like angles"
    both = usual + limits.changed_doubtful, usual + limits.changed_bad
    yield graded("changed", here, both, words, unit="fraction of the field", expected=usual)


def _against(new: Seen, before: Sequence[Seen]) -> Compared | None:
    """Detail against tilts at like angles."""
    looks = [(one.light, one.look) for one in like(new, before) if one.look is not None and one.light > 0]
    assert new.look is not None
    return sharpness(new.look.spectrum, [_scaled(look.spectrum, new.light / light) for light, look in looks])


def _scaled(spectrum: Sequence[float], factor: float) -> tuple[float, ...]:
    return tuple(value * factor for value in spectrum)


def _defocus(new: Seen, before: Sequence[Seen], limits: Limits) -> Iterator[tuple[Measure, str]]:
    """Against the usual one of the tilts that were not out of focus themselves."""
    here = new.look.defocus_um if new.look is not None else None
    known = [one.look.defocus_um for one in before if one.look is not None and not fails(one, "defocus")]
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
