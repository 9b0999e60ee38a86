"""Gain references: how they are laid on, and what the frames say about them."""

import numpy as np
import pytest

from streamtomo.correct.gain import ORIENTATIONS, FixedPattern, Orientation, make_gain, orient
from streamtomo.simulate.series import Motion, Plan, Series

NONE = np.zeros((256, 256), bool)


def test_a_quarter_turn_is_counter_clockwise_as_displayed():
    image = np.zeros((3, 5))
    image[0, 4] = 1  # bottom right
    assert orient(image, Orientation(1))[4, 2] == 1  # top right
    assert orient(image, Orientation(0, "x"))[0, 0] == 1
    assert orient(image, Orientation(0, "y"))[2, 4] == 1
    assert orient(image, Orientation(1, "y"))[0, 2] == 1  # turned first


def test_the_eight_orientations_are_all_different():
    image = np.arange(9).reshape(3, 3)
    assert len({orient(image, one).tobytes() for one in ORIENTATIONS}) == len(ORIENTATIONS) == 8


def test_serialem_flips_before_it_turns():
    """RotationAndFlip n of SerialEM and IMOD, as the module's table translates it."""
    image = np.arange(12).reshape(3, 4)
    for n in range(4):
        theirs = orient(image[:, ::-1], Orientation(n))
        assert np.array_equal(theirs, orient(image, Orientation(-n % 4, "x")))
        assert np.array_equal(theirs, orient(image, Orientation((2 - n) % 4, "y")))


def test_zeros_and_nonsense_are_dead_and_the_rest_has_mean_1():
    reference = np.random.default_rng(0).uniform(20, 30, (20, 30)).astype(np.float32)
    reference[3, 4], reference[5, 6], reference[7, 8], reference[9, 10] = 0, np.nan, -2, 5000
    gain = make_gain(reference, (20, 30), Orientation(), divide=False)
    assert {tuple(one) for one in np.argwhere(gain.dead)} == {(3, 4), (5, 6), (7, 8), (9, 10)}
    assert gain.factor[~gain.dead].mean() == pytest.approx(1, abs=1e-4)
    inverse = make_gain(reference, (20, 30), Orientation(), divide=True)
    product = (gain.factor * inverse.factor)[~gain.dead]
    assert product.std() < 1e-4 * product.mean()


def test_references_of_super_resolution_fit():
    reference = np.random.default_rng(0).uniform(0.9, 1.1, (20, 30)).astype(np.float32)
    twice = np.repeat(np.repeat(reference, 2, axis=0), 2, axis=1)
    usual = make_gain(reference, (20, 30), Orientation(), divide=False).factor
    assert np.allclose(make_gain(twice, (20, 30), Orientation(), divide=False).factor, usual)
    assert np.allclose(make_gain(reference, (40, 60), Orientation(), divide=False).factor[::2, ::2], usual)


def test_another_shape_is_refused_and_a_turned_one_named():
    reference = np.ones((20, 30), np.float32)
    with pytest.raises(ValueError, match="turned by 90"):
        make_gain(reference, (30, 20), Orientation(), divide=False)
    with pytest.raises(ValueError, match="30 x 20 pixels, the frames have 25 x 25"):
        make_gain(reference, (25, 25), Orientation(), divide=False)
    assert make_gain(reference, (30, 20), Orientation(1), divide=False).factor.shape == (30, 20)
    with pytest.raises(ValueError, match="above 0"):
        make_gain(0 * reference, (20, 30), Orientation(), divide=False)


# -- what the frames say ---------------------------------------------------------------------------------------------


def exposures(electrons, spread, seed, count=4):
    """Counts of some tilts by a camera with a fixed pattern, and the reference that takes it out."""
    angles = (0.0, 3.0, -3.0, 6.0)[:count]
    plan = Plan(angles, (256, 256), dose_e_A2=electrons / 116.6, seed=seed, motion=Motion(drift_px=1.0), xrays=0, hot=0)
    series, rng = Series(plan), np.random.default_rng(seed)
    reference = np.clip(rng.normal(1, spread, (256, 256)), 0.5, 2).astype(np.float32)
    return [rng.poisson(series.electrons(i) / reference) for i in range(len(angles))], reference


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("electrons", [0.3, 2.0, 20.0])
def test_the_right_gain_is_never_doubted(seed, electrons):
    counts, reference = exposures(electrons, 0.05, seed)
    pattern = FixedPattern()
    for one in counts:
        pattern.add(one, NONE)
        report = pattern.compare(reference, one.shape, Orientation(), divide=False)
        assert not report.rotated
        assert not report.inverse
        other = np.random.default_rng(99).normal(1, 0.05, one.shape)  # of another camera: nothing can be said
        assert not pattern.compare(other, one.shape, Orientation(), divide=False).rotated


@pytest.mark.parametrize("right", [one for one in ORIENTATIONS if one != Orientation()], ids=str)
def test_a_turned_gain_is_found_out(right):
    counts, reference = exposures(10.0, 0.04, 1, count=2)
    stored = next(one for one in (orient(reference, o) for o in ORIENTATIONS)
                  if np.array_equal(orient(one, right), reference))  # fmt: skip
    pattern = FixedPattern()
    for one in counts:
        pattern.add(one, NONE)
    report = pattern.compare(stored, counts[0].shape, Orientation(), divide=False)
    assert report.rotated
    assert report.best == right


def test_dividing_where_one_should_multiply_is_found_out():
    counts, reference = exposures(10.0, 0.04, 2, count=2)
    pattern = FixedPattern()
    for one in counts:
        pattern.add(one, NONE)
    assert pattern.compare(reference, counts[0].shape, Orientation(), divide=True).inverse


def test_a_pattern_without_gain_shows_and_a_specimen_is_no_pattern():
    counts, reference = exposures(100.0, 0.05, 3)
    bare, corrected = FixedPattern(), FixedPattern()
    seen = [bare.add(one, NONE) for one in counts]
    assert seen[-1] == pytest.approx(0.05, rel=0.25)
    rng = np.random.default_rng(0)
    assert not any(corrected.add(rng.poisson(one * reference), NONE) for one in counts)
