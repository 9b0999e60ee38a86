"""Whether a tilt shows what the others show: agreement, peak and beads together; and what came over the field."""

import pytest
from judged import DOSE_SYMMETRIC, SPECTRUM, judged, tilt

from streamtomo.config import Judge
from streamtomo.judge.place import Field
from streamtomo.judge.plan import Plan
from streamtomo.judge.policy import SeriesJudge

FIELD = Field(1000, 500, 10.0)


def after_eight(placed=None, looks=None):
    """The judge of a series of which eight tilts came."""
    judge = SeriesJudge(Judge(), FIELD, Plan(tilts=41))
    for n in range(8):
        judge.add(tilt(n, DOSE_SYMMETRIC[n], placed=placed, looks=looks))
    return judge


def measures(verdict):
    return {one.name: one for one in verdict.measures}


@pytest.mark.parametrize(
    ("agreement", "score", "beads", "state"),
    [
        (0.6, 9.0, 1, "good"),  # a low peak is not held against what agrees
        (0.25, 38.0, 9, "good"),
        (0.25, 38.0, 1, "bad"),
        (0.25, 38.0, 4, "doubtful"),
        (0.02, 38.0, 9, "doubtful"),  # peak and beads speak for it
        (0.02, 38.0, 1, "bad"),
        (0.02, 22.0, 9, "bad"),  # beads alone are seen by chance now and then
        (0.25, 15.0, 9, "bad"),
    ],
)
def test_peak_and_beads_speak_for_a_tilt_that_agrees_with_none_but_neither_alone(agreement, score, beads, state):
    judge = after_eight({"beads_expected": 10, "beads_seen": 9})
    placed = {"agreement": agreement, "score": score, "beads_expected": 10, "beads_seen": beads}
    assert judge.placement(tilt(8, DOSE_SYMMETRIC[8], placed=placed)).state == state


@pytest.mark.parametrize(("score", "state"), [(40.0, "good"), (30.0, "good"), (22.0, "doubtful"), (15.0, "bad")])
def test_where_agreement_tells_nothing_the_peak_does(score, state):
    judge = after_eight({"agreement": 0.04})
    new, _ = judged(judge, tilt(8, DOSE_SYMMETRIC[8], placed={"agreement": 0.0, "score": score}))
    assert new.verdict.state == state
    assert measures(new.verdict)["agreement"].limit is None
    assert measures(new.verdict)["correlation"].expected == 40.0


def test_another_area_is_bad_however_far_in_angle_the_last_one_was_that_was_recognised():
    judge = after_eight()
    found = []
    for n in range(8, 14):
        new, after = judged(judge, tilt(n, DOSE_SYMMETRIC[n], placed={"agreement": 0.03, "score": 11.0}))
        found.append((new.verdict.state, after.state))
    assert {state for state, _ in found} == {"bad"}
    assert [state for _, state in found][:3] == ["watch", "watch", "reject"]


def test_an_agreement_that_a_gap_allows_needs_a_peak():
    for score, state in ((38.0, "good"), (11.0, "bad")):
        judge = after_eight()
        far = tilt(8, DOSE_SYMMETRIC[7] + 9.0, placed={"agreement": 0.2, "score": score})
        assert judge.placement(far).state == state


def test_beads_that_would_be_seen_by_chance_speak_for_nothing():
    placed = {"beads_expected": 10, "beads_seen": 9, "beads_by_chance": 5.0}
    judge = after_eight(placed)
    for seen, state in ((8, "doubtful"), (6, "bad")):
        changed = {**placed, "agreement": 0.02, "beads_seen": seen}
        verdict = judge.placement(tilt(8, DOSE_SYMMETRIC[8], placed=changed))
        assert verdict.state == state
    assert measures(verdict)["beads"].expected == pytest.approx(9.0)
    none = {**placed, "beads_by_chance": 9.5}
    assert "beads" not in measures(judge.placement(tilt(8, DOSE_SYMMETRIC[8], placed=none)))


@pytest.mark.parametrize(("share", "state"), [(0.04, "good"), (0.12, "doubtful"), (0.4, "bad"), (None, "good")])
def test_a_field_that_is_not_as_it_was(share, state):
    judge = after_eight({"changed": 0.02})
    new, _ = judged(judge, tilt(8, DOSE_SYMMETRIC[8], placed={"changed": share}))
    assert new.verdict.state == state
    assert judge.altered == ({8} if state == "doubtful" else set())


def test_dark_field_is_exempt_from_levels():
    judge = after_eight({"changed": 0.02}, {"skew": 3.0})
    verdict = judge.placement(tilt(8, DOSE_SYMMETRIC[8], placed={"changed": 0.5}, looks={"skew": 3.0}))
    assert "changed" not in measures(verdict)


@pytest.mark.parametrize(("ghost", "state"), [(0.06, "good"), (0.15, "doubtful"), (0.3, "bad"), (None, "good")])
def test_a_second_image_of_everything(ghost, state):
    judge = after_eight(looks={"ghost": 0.05})
    verdict = judge.placement(tilt(8, DOSE_SYMMETRIC[8], looks={"ghost": ghost}))
    assert verdict.state == state
    doubled = after_eight(looks={"ghost": 0.05})
    for n in range(8, 16):
        new, _ = judged(doubled, tilt(n, DOSE_SYMMETRIC[n], looks={"ghost": ghost}))
        assert new.verdict.state == state  # those that are seen twice do not tell what is usual
    periodic = after_eight(looks={"ghost": 0.3})
    assert periodic.placement(tilt(8, DOSE_SYMMETRIC[8], looks={"ghost": ghost})).state == "good"


@pytest.mark.parametrize(("factor", "state"), [(1.5, "good"), (2.5, "doubtful"), (4.0, "bad")])
def test_more_contrast_than_others_have(factor, state):
    verdict = after_eight().placement(tilt(8, 12.0, looks={"spectrum": tuple(factor * one for one in SPECTRUM)}))
    assert verdict.state == state
    assert measures(verdict)["contrast"].value == pytest.approx(factor, rel=0.01)


def test_a_contrast_that_creeps_up_does_not_take_others_along():
    judge = after_eight()
    for n in range(8, 16):
        new, _ = judged(judge, tilt(n, DOSE_SYMMETRIC[n], looks={"spectrum": tuple(2.5 * one for one in SPECTRUM)}))
        assert measures(new.verdict)["contrast"].state == "doubtful"
