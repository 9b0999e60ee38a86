"""The judge's benchmark on two of its series: images through alignment, measures and policy, as in the live lane."""

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import _judge_cases as cases
import _judge_faults as faults
import judge_bench

from streamtomo.config import Settings


@pytest.fixture(scope="module")
def outcomes():
    """A good series and one whose beam dies, judged from their images."""
    two = [cases.good(7), faults.faulty("beam lost", 3)]
    return [judge_bench.judge(case, Settings(), told_plan=True) for case in two]


def test_a_good_series_passes_and_a_dead_beam_is_rejected_with_its_second_tilt(outcomes):
    good, faulty = outcomes
    assert good.rejected is None
    assert faulty.rejected == faulty.onset + 1
    assert faulty.reasons[0] == "no beam in the last 2 tilts"


def test_each_tilt_has_its_measures(outcomes):
    measures = {one.name for one in outcomes[0].seen[-1].verdict.measures}
    assert {"intensity", "thickness", "depth", "blocked", "blob", "saturated", "outliers", "noise"} <= measures
    assert {"jump", "shift", "distance", "overlap", "agreement", "sharpness", "rings", "dose", "interval"} <= measures


def test_the_report_counts_right_and_wrong(outcomes):
    text = judge_bench.report(outcomes)
    assert "| good (1) | 1 | 0 | 0 |" in text
    assert "False rejections: 0 of 1 good series" in text
    assert "| beam lost | 1 of 1 | 2 | 2 |" in text


def test_series_follow_from_their_seed_and_tuning_and_report_share_none():
    first, again = (next(faults.faulty("grid bar", 5).images()) for _ in range(2))
    assert (first == again).all()
    tuned, told = (judge_bench.jobs(tuning=tuning) for tuning in (True, False))
    assert not {seed for _, seed in tuned} & {seed for _, seed in told}
    assert len([job for job in told if job[0] == "good"]) == 400
    assert len(set(told)) == len(told) >= 600
    assert not {kind for kind, _ in tuned} & set(faults.UNSEEN)
    assert set(faults.UNSEEN) < {kind for kind, _ in told}
    kinds = [kind for kind, _ in told[:60]]
    assert set(kinds) == {"good", *faults.FAULTS}
    assert 35 <= kinds.count("good") <= 45


def test_a_run_goes_on_where_the_records_end(outcomes, tmp_path):
    records = tmp_path / "records.jsonl"
    records.write_bytes(b"\n".join(map(msgspec.json.encode, outcomes)) + b"\n")
    found = judge_bench.run([("good", 7), ("beam lost", 3)], Settings(), records, 1)
    assert [one.name for one in found.values()] == [one.name for one in outcomes]


@pytest.mark.parametrize("kind", faults.FAULTS)
def test_every_fault_can_be_made_and_begins_in_the_first_half(kind):
    case = faults.faulty(kind, 11)
    assert case.onset is not None
    assert 0 <= case.onset < len(case.series.plan.angles_deg) / 2 + 1
    images = case.images()
    assert np.asarray(next(images)).shape == (cases.SIZE, cases.SIZE)
