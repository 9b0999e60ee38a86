"""Verdicts on placements and on series, told as short stories."""

import msgspec
import pytest
from judged import DOSE_SYMMETRIC, ONE_WAY, SPECTRUM, bright_field, judged, marked, tilt

from streamtomo.config import Judge
from streamtomo.judge.limit import combine
from streamtomo.judge.place import Field
from streamtomo.judge.plan import Plan, planned_tilts, remaining
from streamtomo.judge.policy import SeriesJudge
from streamtomo.model import Verdict

FIELD = Field(1000, 500, 10.0)


def new_judge(settings=None, tilts=41):
    return SeriesJudge(settings or Judge(), FIELD, Plan(tilts=tilts))


def through(tilts, judge=None):
    """The judgements after each of these tilts, whose verdicts are given."""
    judge = judge or new_judge()
    return [judge.add(one) for one in tilts]


def states(judgements):
    return "".join(one.state[0] for one in judgements)


def good(n):
    return marked(n, DOSE_SYMMETRIC[n])


# -- placements --------------------------------------------------------------------------------------------------------


def placed_verdict(**changes):
    judge = new_judge()
    for n in range(8):
        judge.add(tilt(n, DOSE_SYMMETRIC[n]))
    return judge.placement(tilt(8, DOSE_SYMMETRIC[8], placed=changes))


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({}, "good", None),
        ({"shift_x": 125.0}, "doubtful", "0.12 of the field (120 nm) from where it was expected, limit 0.10"),
        ({"shift_y": -240.0}, "bad", "0.47 of the field from the one at zero tilt, limit 0.45"),
        (
            {"agreement": 0.27, "score": 22.0},
            "doubtful",
            "agrees with its neighbour by 0.27, usual at like angles 0.60, limit 0.50",
        ),
        ({"agreement": 0.08}, "bad", "agrees with its neighbour by 0.08"),
    ],
)
def test_placements(changes, state, words):
    verdict = placed_verdict(**changes)
    assert verdict.state == state
    assert words is None or any(reason.startswith(words) for reason in verdict.reasons)
    assert {"distance", "overlap", "jump", "correlation", "ambiguity", "agreement", "sharpness"} <= {
        one.name for one in verdict.measures
    }


def test_the_first_placement_is_good():
    first = tilt(0, 0.0, placed={"neighbour": None, "score": 0.0})
    assert new_judge().placement(first).state == "good"


def test_without_agreement_the_peak_has_to_tell():
    judge = new_judge()
    judge.add(tilt(0, 0.0))
    for score, ambiguity, state in ((5.0, 0.5, "doubtful"), (4.5, 0.97, "bad"), (8.0, 0.97, "good")):
        unsure = tilt(1, 3.0, placed={"score": score, "ambiguity": ambiguity, "agreement": None})
        assert judge.placement(unsure).state == state


def test_a_low_peak_of_a_tilt_that_agrees_is_not_held_against_it():
    judge = new_judge()
    judge.add(tilt(0, 0.0))
    for n in range(1, 9):  # from the first on: what is usual is learned from them
        new, after = judged(judge, tilt(n, DOSE_SYMMETRIC[n], placed={"score": 4.9, "agreement": 0.5}))
        assert (new.verdict.state, after.state) == ("good", "good")


@pytest.mark.parametrize(
    ("spectrum", "state", "name"),
    [
        (tuple(0.97 * one for one in SPECTRUM), "good", None),
        (tuple(one / (2 + n) for n, one in enumerate(SPECTRUM)), "bad", "sharpness"),
        (tuple(0.5 * one for one in SPECTRUM), "doubtful", "sharpness"),
        ((10.0, 30.0, 25.0, 4.0, 15.0, 9.0, 1.0, 3.0, 0.5, 1.5, 0.2), "bad", "rings"),
    ],
)
def test_detail_that_is_lost_or_lies_elsewhere(spectrum, state, name):
    judge = new_judge()
    for n in range(6):
        judge.add(tilt(n, DOSE_SYMMETRIC[n]))
    verdict = judge.placement(tilt(6, DOSE_SYMMETRIC[6], looks={"spectrum": spectrum}))
    assert verdict.state == state
    assert name is None or name in {one.name for one in verdict.measures if one.state != "good"}


def test_dimmer_images_have_less_detail_over_the_noise_and_are_sharp_all_the_same():
    judge = new_judge()
    for n in range(6):
        judge.add(tilt(n, DOSE_SYMMETRIC[n]))
    dim = tilt(6, 9.0, 40.0, looks={"spectrum": tuple(0.4 * one for one in SPECTRUM)})
    sharpness = next(one for one in judge.placement(dim).measures if one.name == "sharpness")
    assert sharpness.value == pytest.approx(1.0, abs=0.01)


def test_a_defocus_far_from_that_of_the_others():
    judge = new_judge()
    for n in range(6):
        judge.add(tilt(n, DOSE_SYMMETRIC[n], looks={"defocus_um": 3.0 + 0.1 * n}))
    states = {}
    for here in (3.4, 4.6, 1.9, 7.0, None):
        verdict = judge.placement(tilt(6, 9.0, looks={"defocus_um": here}))
        measure = next((one for one in verdict.measures if one.name == "defocus"), None)
        states[here] = measure.state if measure else None
        assert measure is None or measure.expected == pytest.approx(3.25)
        assert measure is None or (measure.margin < 0) == (measure.state != "good")
    assert states == {3.4: "good", 4.6: "doubtful", 1.9: "doubtful", 7.0: "bad", None: None}


def test_a_specimen_that_moves_more_than_usual_during_the_exposure():
    def moved(n, drift_px):
        one = tilt(n, DOSE_SYMMETRIC[n])
        return msgspec.structs.replace(one, correction=msgspec.structs.replace(one.correction, drift_px=drift_px))

    calm, restless = new_judge(), new_judge()
    for n in range(6):
        calm.add(moved(n, 1.0))
        restless.add(moved(n, 4.0))
    way = [(calm, 2.0, "good"), (calm, 7.0, "doubtful"), (restless, 7.0, "good"), (calm, 30.0, "bad")]
    for judge, drift_px, state in way:  # pixels of 1 nm
        assert judge.placement(moved(6, drift_px)).state == state
    assert "moved by 30.0 nm" in calm.placement(moved(6, 30.0)).reasons[0]


@pytest.mark.parametrize(
    ("usual", "agreement", "beads", "state"),
    [
        (0.6, 0.6, (10, 1), "good"),  # all else agrees: they lie a little aside
        (0.6, 0.25, (10, 8), "good"),
        (0.6, 0.25, (10, 3), "doubtful"),
        (0.6, 0.25, (10, 1), "bad"),
        (0.6, 0.6, (2, 0), "good"),
        (0.05, 0.05, (10, 8), "good"),  # agreement tells nothing here
        (0.05, 0.05, (10, 3), "doubtful"),
        (0.05, 0.05, (10, 0), "doubtful"),
        (0.05, 0.05, (None, None), "good"),
    ],
)
def test_beads_that_should_be_seen_again(usual, agreement, beads, state):
    judge = new_judge()
    for n in range(6):
        placed = {"agreement": usual, "beads_expected": 10, "beads_seen": 9}
        judge.add(tilt(n, DOSE_SYMMETRIC[n], placed=placed))
    expected, seen = beads
    placed = {"agreement": agreement, "beads_expected": expected, "beads_seen": seen}
    verdict = judge.placement(tilt(6, 9.0, placed=placed))
    assert verdict.state == state
    words = f"{seen} beads are seen where 9 should be"
    assert any(reason.startswith(words) for reason in verdict.reasons) == (seen in (0, 1, 3) and state != "good")


def test_beads_that_are_there_speak_for_a_tilt_that_agrees_badly():
    judge = new_judge()
    for n in range(6):
        judge.add(tilt(n, DOSE_SYMMETRIC[n], placed={"beads_expected": 10, "beads_seen": 9}))
    for seen, state in ((9, "doubtful"), (1, "bad")):
        placed = {"agreement": 0.02, "beads_expected": 10, "beads_seen": seen}
        assert judge.placement(tilt(6, 9.0, placed=placed)).state == state


def test_tilts_that_were_not_recognised_do_not_tell_what_is_usual():
    judge = new_judge()
    verdicts = []
    for n in range(14):
        new, _ = judged(
            judge, tilt(n, DOSE_SYMMETRIC[n], placed={"agreement": strange(n), "score": 40.0 if n < 8 else 20.0})
        )
        verdicts.append(new.verdict.state)
    assert set(verdicts[8:]) == {"doubtful"}
    assert judge.strangers == set(range(8, 14))


def strange(n):
    """Agreement of a tilt with those before the eighth, which are further and further away in angle."""
    return 0.6 if n < 8 else 0.25 / (n // 2 - 3)


def test_the_worst_counts_and_all_reasons_are_kept():
    both = combine(
        Verdict(state="doubtful", reasons=("a",)), Verdict(state="bad", reasons=("b",)), Verdict(state="good")
    )
    assert both.state == "bad"
    assert both.reasons == ("a", "b")
    assert combine().state == "good"


# -- series ------------------------------------------------------------------------------------------------------------


def test_a_good_series_says_what_there_is():
    last = through([good(n) for n in range(9)])[-1]
    assert (last.state, last.reasons, last.confidence) == ("good", (), None)
    assert last.usable == "9 of 41 tilts, widest gap 3°, field overlap 100% at +0°"


def test_one_dark_image_is_watched_for_a_while_and_never_rejects():
    tilts = [good(n) for n in range(20)]
    tilts[9] = marked(9, DOSE_SYMMETRIC[9], "bad", "intensity", intensity=0.0)
    assert states(through(tilts)) == "g" * 9 + "w" * 5 + "g" * 6


def test_two_tilts_without_a_beam_reject_at_once():
    tilts = [good(n) for n in range(11)]
    tilts[9:] = [marked(n, DOSE_SYMMETRIC[n], "bad", "intensity", intensity=0.02) for n in (9, 10)]
    after = through(tilts)
    assert states(after) == "g" * 9 + "wr"
    assert after[-1].reasons[0] == "no beam in the last 2 tilts"
    assert after[-1].first_fault == 9
    assert after[-1].confidence > 0.9


def test_dim_tilts_are_not_without_a_beam():
    tilts = [good(n) for n in range(11)]
    tilts[9:] = [marked(n, DOSE_SYMMETRIC[n], "bad", "intensity", intensity=0.4) for n in (9, 10)]
    assert states(through(tilts))[-1] == "w"


def test_three_bad_in_a_row_on_one_branch_reject():
    tilts = [good(n) for n in range(16)]
    for n in (9, 11, 13):  # the positive branch of a dose-symmetric series
        tilts[n] = marked(n, DOSE_SYMMETRIC[n], "bad", "blocked")
    after = through(tilts)
    assert states(after)[:14] == "g" * 9 + "wwwwr"
    assert after[13].reasons[0] == "3 of the last 4 tilts on this branch are bad"


def test_one_better_tilt_between_three_bad_ones_does_not_save_a_series():
    tilts = [good(n) for n in range(9)] + [
        marked(n, DOSE_SYMMETRIC[n], "bad" if n != 10 else "good", "rings") for n in range(9, 13)
    ]
    after = through(tilts)
    assert states(after) == "g" * 9 + "wwwr"
    assert after[-1].first_fault == 9


def test_three_bad_tilts_of_a_series_that_is_nearly_complete_are_watched():
    tilts = [good(n) for n in range(38)]
    tilts += [marked(n, DOSE_SYMMETRIC[n], "bad", "blocked") for n in (38, 39, 40)]
    assert "r" not in states(through(tilts))


def test_two_independent_signs_reject_and_one_does_not():
    one = [good(n) for n in range(6)] + [marked(n, DOSE_SYMMETRIC[n], "doubtful", "noise") for n in range(6, 14)]
    assert set(states(through(one))[8:]) == {"w"}
    two = [*one[:6], *(marked(n, DOSE_SYMMETRIC[n], "doubtful", "noise", "sharpness") for n in range(6, 9))]
    after = through(two)
    assert states(after) == "g" * 8 + "r"
    assert {"camera: 3 of the last 4 tilts", "sharpness: 3 of the last 4 tilts"} == set(after[-1].reasons)


def test_two_measures_of_one_cause_are_one_sign():
    same = [good(n) for n in range(6)]
    same += [marked(n, DOSE_SYMMETRIC[n], "doubtful", "sharpness", "rings") for n in range(6, 14)]
    assert "r" not in states(through(same))


def test_a_target_that_jumps_and_comes_back_is_not_lost():
    judge = new_judge()
    shifts = [5.0] * 8 + [380.0, 385.0] + [5.0] * 8
    after = [judged(judge, tilt(n, DOSE_SYMMETRIC[n], placed={"shift_x": x}))[1] for n, x in enumerate(shifts)]
    assert "r" not in states(after)


def test_a_target_that_runs_away_is_lost_with_the_second_step():
    judge = new_judge()
    shifts = [5.0] * 8 + [300.0, 700.0]
    after = [judged(judge, tilt(n, DOSE_SYMMETRIC[n], placed={"shift_x": x}))[1] for n, x in enumerate(shifts)]
    assert states(after)[-2:] == "gr"
    assert "the target has left the field" in after[-1].reasons
    assert after[-1].first_fault == 8


def test_a_slow_drift_is_rejected_before_the_target_has_left():
    judge = new_judge()
    shifts = [5.0] * 8 + [60.0 * n for n in range(1, 9)]
    told = [judged(judge, tilt(n, DOSE_SYMMETRIC[n], placed={"shift_x": x})) for n, x in enumerate(shifts)]
    after = [judgement for _, judgement in told]
    first = states(after).index("r")
    assert shifts[first] < 450.0
    assert after[first].forecast.startswith("the target leaves the field at about ")


@pytest.mark.parametrize(("kinship", "word"), [(0.5, "r"), (0.05, "w")])
def test_tilts_that_agree_with_each_other_and_not_with_those_before_show_another_area(kinship, word):
    judge, after = new_judge(), []
    for n in range(12):
        placed = {"agreement": strange(n), "score": 40.0 if n < 8 else 20.0, "kinship": kinship if n > 8 else None}
        after.append(judged(judge, tilt(n, DOSE_SYMMETRIC[n], placed=placed))[1])
    assert states(after)[:11] == "g" * 10 + word
    assert after[10].first_fault == 8
    assert ("another area" in after[10].reasons[0]) == (word == "r")


def test_what_is_rejected_stays_so_until_many_good_tilts_came():
    tilts = [good(n) for n in range(30)]
    for n in (9, 10, 11):
        tilts[n] = marked(n, DOSE_SYMMETRIC[n], "bad", "blocked")
    after = states(through(tilts))
    assert after == "g" * 9 + "ww" + "r" * 5 + "g" * 14


def test_off_rejects_nothing():
    tilts = [good(n) for n in range(6)] + [marked(n, DOSE_SYMMETRIC[n], "bad", "intensity") for n in range(6, 12)]
    assert set(states(through(tilts, new_judge(Judge(preset="off"))))) == {"g"}


def test_a_thick_specimen_is_forecast():
    judge = new_judge()
    told = [judged(judge, tilt(n, t, 1e4 * bright_field(t, 2.0)))[1] for n, t in enumerate(DOSE_SYMMETRIC[:23])]
    assert told[-1].forecast == "the specimen is too thick for the beam at about +57°"


def test_the_same_tilt_again_takes_the_place_of_the_first():
    judge = new_judge()
    for n in range(4):
        judge.add(good(n))
    judge.add(msgspec.structs.replace(good(3), angle_deg=7.0))
    assert [one.angle_deg for one in judge.seen][-1] == 7.0
    assert len(judge.seen) == 4


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_what_is_to_come_follows_from_the_steps_so_far():
    assert remaining(DOSE_SYMMETRIC[:5], Plan())[:4] == [9.0, -9.0, 12.0, -12.0]
    assert planned_tilts(DOSE_SYMMETRIC[:5], Plan()) == 41
    assert remaining(ONE_WAY[:5], Plan(reach_deg=66))[:2] == [-51.0, -48.0]
    assert remaining([0.0, 2.0, 4.0], Plan(tilts=7)) == [6.0, -2.0, -4.0, -6.0]
    assert remaining([0.0, 3.0], Plan(like=(0.0, 3.0, -3.0, 6.0))) == [6.0, -3.0]
    assert remaining([], Plan()) == []
