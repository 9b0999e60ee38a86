"""Verdicts on tilts and series, told as short stories."""

import math

import numpy as np
import pytest

from streamtomo.config import Judge
from streamtomo.judge.measures import expected_mean
from streamtomo.judge.policy import Accepted, combine, judge_intensity, judge_placement, judge_series
from streamtomo.model import Correction, Placement, Verdict

SETTINGS = Judge()
FIELD = (1000, 500)
DOSE_SYMMETRIC = sorted(np.arange(-60.0, 61.0, 3.0), key=lambda t: (abs(t), -t))
BIDIRECTIONAL = [*np.arange(0.0, 61.0, 3.0), *np.arange(-3.0, -61.0, -3.0)]
ONE_WAY = list(np.arange(-66.0, 67.0, 3.0))


def bright_field(t, thickness=0.8):
    return 100 * math.exp(-thickness / math.cos(math.radians(t)))


def dark_field(t):
    return 30 / math.cos(math.radians(t))


def tilt(t, mean):
    place = Placement(shift_x=0, shift_y=0, score=50, ambiguity=0.1)
    return Accepted(angle_deg=t, correction=correction(mean), placement=place)


def correction(mean, sd=5.0):
    return Correction(repaired=0, binning=2, mean=mean, sd=sd)


def story(angles, mean_at, settings=SETTINGS):
    """Verdicts of a series whose tilts have these means; bad ones are not accepted, as in the lane."""
    accepted, verdicts = [], []
    for t in angles:
        verdict = judge_intensity(t, correction(mean_at(t)), accepted, settings)
        verdicts.append(verdict)
        if verdict.state != "bad":
            accepted.append(tilt(t, mean_at(t)))
    return verdicts


def placed(**changes):
    given = {"shift_x": 5, "shift_y": -3, "score": 40, "ambiguity": 0.2, "neighbour": 0, "step_x": 2, "step_y": 2}
    return Placement(**{**given, **changes})


@pytest.mark.parametrize("angles", [DOSE_SYMMETRIC, BIDIRECTIONAL, ONE_WAY])
@pytest.mark.parametrize("thickness", [0.2, 0.8, 1.5])
def test_a_clean_series_is_good_throughout(angles, thickness):
    rng = np.random.default_rng(3)
    verdicts = story(angles, lambda t: bright_field(t, thickness) * math.exp(rng.normal(0, 0.02)))
    assert [verdict.state for verdict in verdicts] == ["good"] * len(angles)
    assert judge_series(verdicts) == ("good", ())


@pytest.mark.parametrize("angles", [DOSE_SYMMETRIC, BIDIRECTIONAL, ONE_WAY])
def test_a_pretilted_lamella_is_no_reason_for_bad(angles):
    verdicts = story(angles, lambda t: bright_field(t - 10, 0.6))
    assert "bad" not in {verdict.state for verdict in verdicts}


@pytest.mark.parametrize("angles", [DOSE_SYMMETRIC, ONE_WAY])
def test_dark_field_rises_with_tilt_or_wanders_and_is_not_bad(angles):
    rng = np.random.default_rng(4)
    rising = story(angles, dark_field)
    wandering = story(angles, lambda t: dark_field(t) * math.exp(rng.normal(0, 0.2)))
    assert {verdict.state for verdict in rising} == {"good"}
    assert "bad" not in {verdict.state for verdict in wandering}


@pytest.mark.parametrize("angles", [DOSE_SYMMETRIC, BIDIRECTIONAL, ONE_WAY])
def test_a_dark_tilt_is_bad_and_says_why(angles):
    dark_at = angles[20]
    verdicts = story(angles, lambda t: bright_field(t) * (0.41 if t == dark_at else 1))
    assert [t for t, verdict in zip(angles, verdicts, strict=True) if verdict.state != "good"] == [dark_at]
    assert verdicts[20].state == "bad"
    assert verdicts[20].reasons == ("mean 0.41 of what the other tilts predict, limit 0.50",)


def test_the_second_tilt_can_be_dark_and_the_first_can_be_blank():
    assert judge_intensity(3.0, correction(2.0), [tilt(0.0, 40.0)], SETTINGS).state == "bad"
    assert judge_intensity(0.0, correction(7.0, sd=0.0), [], SETTINGS).state == "bad"
    assert judge_intensity(0.0, correction(7.0), [], SETTINGS).state == "good"


def test_a_dim_tilt_is_doubtful_and_a_hole_in_the_ice_too():
    accepted = [tilt(t, bright_field(t)) for t in DOSE_SYMMETRIC[:21]]
    assert judge_intensity(33.0, correction(0.65 * bright_field(33)), accepted, SETTINGS).state == "doubtful"
    assert judge_intensity(33.0, correction(2.5 * bright_field(33)), accepted, SETTINGS).state == "doubtful"


def test_a_far_tilt_early_on_may_be_much_darker():
    assert judge_intensity(60.0, correction(bright_field(60, 1.2)), [tilt(0.0, bright_field(0, 1.2))], SETTINGS).state == "good"  # fmt: skip # noqa: E501


def test_means_around_zero_say_nothing():
    accepted = [tilt(t, 0.01 * (-1) ** i) for i, t in enumerate(DOSE_SYMMETRIC[:9])]
    assert expected_mean(15.0, accepted[1::2]) is None
    assert judge_intensity(15.0, correction(-0.02), accepted[1::2], SETTINGS).state == "good"


def test_the_law_is_found_through_an_outlier():
    accepted = [tilt(t, bright_field(t) * (0.6 if t == -12 else 1)) for t in DOSE_SYMMETRIC[:31]]
    assert expected_mean(48.0, accepted).mean == pytest.approx(bright_field(48), rel=0.03)


def test_the_first_placement_is_good():
    assert judge_placement(placed(neighbour=None, score=0.0), FIELD, SETTINGS).state == "good"


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({}, "good", None),
        ({"step_x": 120.0}, "doubtful", "jump of 0.12 of the field, limit 0.10"),
        ({"shift_y": -240.0}, "bad", "0.48 of the field from the first, limit 0.45"),
        ({"score": 5.1}, "doubtful", "correlation peak 5.1 sigma, limit 6.0"),
        ({"ambiguity": 0.95}, "doubtful", "second correlation peak 0.95 of the first, limit 0.90"),
        ({"score": 4.5, "ambiguity": 0.97}, "bad", "correlation peak 4.5 sigma, limit 6.0"),
    ],
)
def test_placements(changes, state, words):
    verdict = judge_placement(placed(**changes), FIELD, SETTINGS)
    assert verdict.state == state
    assert (verdict.reasons[0] if verdict.reasons else None) == words
    assert {measure.name for measure in verdict.measures} == {"distance", "jump", "correlation", "ambiguity"}


def test_the_worst_counts_and_all_reasons_are_kept():
    both = combine(
        Verdict(state="doubtful", reasons=("a",)), Verdict(state="bad", reasons=("b",)), Verdict(state="good")
    )
    assert both.state == "bad"
    assert both.reasons == ("a", "b")
    assert combine().state == "good"


GOOD, BAD = Verdict(state="good"), Verdict(state="bad")


def test_one_bad_tilt_is_watched():
    assert judge_series([GOOD] * 10 + [BAD] + [GOOD] * 10) == ("watch", ("1 of 21 tilts are bad",))


def test_three_bad_in_a_row_early_reject_and_late_only_watch():
    state, reasons = judge_series([GOOD] * 4 + [BAD] * 3)
    assert state == "reject"
    assert reasons == ("3 bad tilts in a row", "only 4 of 7 tilts are good")
    assert judge_series([GOOD] * 38 + [BAD] * 3)[0] == "watch"


def test_two_independent_signs_reject_and_one_does_not():
    jumpy = judge_placement(placed(step_x=150.0), FIELD, SETTINGS)
    weak = judge_placement(placed(score=5.0), FIELD, SETTINGS)
    assert judge_series([GOOD, jumpy] * 8)[0] == "watch"
    assert judge_series([jumpy, weak, GOOD] * 6)[0] == "reject"


def test_nothing_yet_is_good():
    assert judge_series([]) == ("good", ())
