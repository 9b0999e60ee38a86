"""Targets of a session against each other."""

from judged import marked, tilt

from streamtomo.config import Judge
from streamtomo.judge.session import Session


def told(tilts, settings=None):
    """What was said after each of these (series, tilt)."""
    session = Session(settings or Judge())
    return [session.add(series, one) for series, one in tilts]


def turns(ratios, targets="ABC"):
    """Targets exposed in turn, each with these ratios of light to what was expected."""
    return [(name, marked(n, 3.0 * n, "good", intensity=ratio)) for n, ratio in enumerate(ratios) for name in targets]


def test_all_targets_dimming_together_is_the_microscope_and_is_told_once():
    said = told(turns([1.0, 1.0, 0.5, 0.5, 0.5]))
    assert said[:8] == [None] * 8
    assert said[8] == (
        "the last tilts of 3 targets all have 0.50 of the intensity expected: the microscope, not the samples"
    )
    assert said[9:] == [None] * 6


def test_it_is_over_when_one_is_bright_again():
    said = told(turns([1.0, 0.5, 1.0]))
    assert "microscope" in said[5]
    assert said[6] == "the intensity is back: the dimming of all targets is over"
    assert said[7:] == [None, None]


def test_one_dim_target_is_its_own_trouble():
    tilts = turns([1.0, 1.0, 1.0])
    tilts += [("A" if name == "A" else name, one) for name, one in turns([1.0, 1.0])]
    tilts = [(name, marked(0, 3.0, "good", intensity=0.4)) if name == "A" else (name, one) for name, one in tilts]
    assert told(tilts) == [None] * len(tilts)
    assert told(turns([1.0, 0.4, 0.4, 0.4], targets="A")) == [None] * 4


def test_two_series_that_begin_dim_after_bright_ones():
    starts = [(f"S{n}", tilt(0, 0.0, level)) for n, level in enumerate([100.0, 98.0, 103.0, 55.0, 57.0])]
    said = told(starts)
    assert said[:4] == [None] * 4
    assert said[4].startswith("the last two series began with 0.57 of the intensity that those before did")
    assert told(starts, Judge(preset="off")) == [None] * 5


def test_starts_at_other_angles_are_not_compared():
    starts = [(f"S{n}", tilt(0, t, level)) for n, (t, level) in enumerate([(0.0, 100.0)] * 3 + [(-60.0, 40.0)] * 2)]
    assert told(starts) == [None] * 5
