"""Verdicts on an image alone: light, shadows and the camera, told as short stories."""

import math

import numpy as np
import pytest
from judged import BIDIRECTIONAL, DOSE_SYMMETRIC, ONE_WAY, bright_field, tilt

from streamtomo.config import Judge
from streamtomo.config_judge import limits
from streamtomo.judge.law import expected_light
from streamtomo.judge.light import judge_image

SETTINGS = Judge()


def verdict(new, before, settings=SETTINGS):
    return judge_image(new, before, settings, limits(settings))


def story(angles, mean_at, looks=None, settings=SETTINGS):
    """Verdicts of a series whose tilts have these means; bad ones are not accepted, as in the lane."""
    accepted, verdicts = [], []
    for n, t in enumerate(angles):
        new = tilt(n, t, mean_at(t), looks=looks)
        verdicts.append(verdict(new, accepted, settings))
        if verdicts[-1].state != "bad":
            accepted.append(new)
    return verdicts


def measure(verdict, name):
    return next(one for one in verdict.measures if one.name == name)


@pytest.mark.parametrize("angles", [DOSE_SYMMETRIC, BIDIRECTIONAL, ONE_WAY])
@pytest.mark.parametrize("thickness", [0.2, 0.8])
def test_a_clean_series_is_good_throughout(angles, thickness):
    rng = np.random.default_rng(3)
    verdicts = story(angles, lambda t: bright_field(t, thickness) * math.exp(rng.normal(0, 0.02)))
    assert [verdict.state for verdict in verdicts] == ["good"] * len(angles)


@pytest.mark.parametrize("angles", [DOSE_SYMMETRIC, BIDIRECTIONAL, ONE_WAY])
def test_a_pretilted_lamella_is_no_reason_for_bad(angles):
    verdicts = story(angles, lambda t: bright_field(t - 10, 0.6))
    assert "bad" not in {verdict.state for verdict in verdicts}


@pytest.mark.parametrize("angles", [DOSE_SYMMETRIC, BIDIRECTIONAL])
def test_the_thickness_is_told_in_mean_free_paths(angles):
    last = story(angles, lambda t: bright_field(t, 0.7))[-1]
    assert measure(last, "thickness").value == pytest.approx(0.7, abs=0.02)


def test_too_thick_a_specimen_is_doubtful_and_then_bad():
    verdicts = story(DOSE_SYMMETRIC, lambda t: 1e4 * bright_field(t, 2.4))
    states = [verdict.state for verdict in verdicts]
    assert states[DOSE_SYMMETRIC.index(36.0)] == "doubtful"
    assert states[-1] == "bad"
    assert "4.8 mean free paths thick along the beam" in " ".join(verdicts[-1].reasons)


@pytest.mark.parametrize("angles", [DOSE_SYMMETRIC, ONE_WAY])
def test_dark_field_rises_with_tilt_or_wanders_and_is_good(angles):
    rng = np.random.default_rng(4)
    rising = story(angles, lambda t: 30 / math.cos(math.radians(t)), {"skew": 5.0})
    wandering = story(angles, lambda t: 30 * math.exp(rng.normal(0, 0.4)), {"skew": 5.0})
    assert {verdict.state for verdict in rising} == {"good"}
    assert {verdict.state for verdict in wandering} == {"good"}


@pytest.mark.parametrize("angles", [DOSE_SYMMETRIC, BIDIRECTIONAL, ONE_WAY])
def test_a_dark_tilt_is_bad_and_says_why(angles):
    dark_at = angles[20]
    verdicts = story(angles, lambda t: bright_field(t) * (0.41 if t == dark_at else 1))
    assert [t for t, verdict in zip(angles, verdicts, strict=True) if verdict.state != "good"] == [dark_at]
    assert verdicts[20].state == "bad"
    assert verdicts[20].reasons == ("intensity 0.41 of what the other tilts predict, limit 0.50",)
    intensity = measure(verdicts[20], "intensity")
    assert (intensity.state, intensity.expected, intensity.limit) == ("bad", 1.0, 0.5)
    assert intensity.margin == pytest.approx(-0.09, abs=0.005)


def test_a_dead_beam_is_bad_in_dark_field_too():
    before = [tilt(n, t, 30.0, looks={"skew": 5.0}) for n, t in enumerate(DOSE_SYMMETRIC[:8])]
    assert verdict(tilt(8, 15.0, 2.0, looks={"skew": 0.0}), before).state == "bad"
    assert verdict(tilt(8, 15.0, 12.0, looks={"skew": 5.0}), before).state == "good"


def test_the_second_tilt_can_be_dark_and_the_first_can_be_blank():
    assert verdict(tilt(1, 3.0, 2.0), [tilt(0, 0.0, 40.0)]).state == "bad"
    assert verdict(tilt(0, 0.0, 7.0, sd=0.0), []).state == "bad"
    assert verdict(tilt(0, 0.0, 7.0), []).state == "good"


def test_a_dim_tilt_is_doubtful_and_a_hole_in_the_ice_too():
    accepted = [tilt(n, t, bright_field(t)) for n, t in enumerate(DOSE_SYMMETRIC[:21])]
    assert verdict(tilt(21, 33.0, 0.65 * bright_field(33)), accepted).state == "doubtful"
    assert verdict(tilt(21, 33.0, 2.5 * bright_field(33)), accepted).state == "doubtful"


def test_a_far_tilt_early_on_may_be_much_darker():
    assert verdict(tilt(1, 60.0, bright_field(60, 1.2)), [tilt(0, 0.0, bright_field(0, 1.2))]).state == "good"


def test_means_around_zero_say_nothing():
    accepted = [tilt(n, t, 0.01 * (-1) ** n) for n, t in enumerate(DOSE_SYMMETRIC[:9])]
    assert expected_light(15.0, accepted[1::2]) is None
    assert verdict(tilt(9, 15.0, -0.02), accepted[1::2]).state == "good"


def test_the_law_is_found_through_an_outlier():
    accepted = [tilt(n, t, bright_field(t) * (0.6 if t == -12 else 1)) for n, t in enumerate(DOSE_SYMMETRIC[:31])]
    assert expected_light(48.0, accepted).light == pytest.approx(bright_field(48), rel=0.03)


def test_a_shadow_says_from_which_side_it_comes():
    before = [tilt(n, t) for n, t in enumerate(DOSE_SYMMETRIC[:6])]
    some = verdict(tilt(6, 9.0, looks={"blocked": 0.2, "blocked_side": "left"}), before)
    assert (some.state, some.reasons) == ("doubtful", ("20% of the field lies in shadow, from the left, limit 0.12",))
    assert verdict(tilt(6, 9.0, looks={"blocked": 0.4, "blocked_side": "top"}), before).state == "bad"


def test_a_blob_counts_when_it_was_not_there_before():
    dirty = [tilt(n, t, looks={"blob": 0.1}) for n, t in enumerate(DOSE_SYMMETRIC[:6])]
    assert verdict(tilt(6, 9.0, looks={"blob": 0.11}), dirty).state == "good"
    assert verdict(tilt(6, 9.0, looks={"blob": 0.2}), dirty).state == "doubtful"


@pytest.mark.parametrize(
    ("looks", "state"),
    [({"noise": 16.0}, "doubtful"), ({"noise": 11.0}, "good"), ({"saturated": 0.05}, "doubtful"),
     ({"saturated": 0.5}, "bad"), ({"repaired": 0.05}, "bad"), ({"repaired": 0.001}, "good")],
)  # fmt: skip
def test_a_failing_camera(looks, state):
    before = [tilt(n, t) for n, t in enumerate(DOSE_SYMMETRIC[:6])]
    assert verdict(tilt(6, 9.0, looks=looks), before).state == state


def test_limits_that_are_set_win_over_the_preset_and_off_is_silent():
    before = [tilt(n, t) for n, t in enumerate(DOSE_SYMMETRIC[:6])]
    dim = tilt(6, 9.0, 70.0)
    assert verdict(dim, before).state == "doubtful"
    assert verdict(dim, before, Judge(preset="cautious")).state == "good"
    assert verdict(dim, before, Judge(preset="cautious", dim_fraction=0.8)).state == "doubtful"
    silent = verdict(tilt(6, 9.0, 1.0), before, Judge(preset="off"))
    assert (silent.state, silent.reasons) == ("good", ())
    assert measure(silent, "intensity").state == "bad"
