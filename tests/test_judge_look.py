"""What an image looks like, and whether two show the same: against known images."""

import numpy as np
import pytest
from scipy import ndimage
from simulated import simulated

from streamtomo import geometry
from streamtomo.judge.agreement import agreement
from streamtomo.judge.beads import seen_again
from streamtomo.judge.look import look_at
from streamtomo.judge.spectrum import detail, sharpness
from streamtomo.livebeads import LiveBeads


def grains(seed=1, shape=(256, 320), beam=400.0, blur=0.0):
    """A specimen of small dark grains under a beam of so many electrons a pixel."""
    rng = np.random.default_rng(seed)
    matter = ndimage.gaussian_filter(rng.poisson(0.02, shape).astype(float), 1.5 + blur)
    level = beam * np.exp(-3 * matter)
    return np.random.default_rng(seed + 99).poisson(level).astype(np.float32)


def look(image, raw=None):
    return look_at(raw if raw is not None else image.astype(np.int16), image, 7)


def test_levels_noise_and_repaired_pixels():
    image = np.random.default_rng(0).poisson(400, (256, 320)).astype(np.float32)
    seen = look(image)
    assert seen.median == pytest.approx(400, rel=0.01)
    assert seen.lit == pytest.approx(400, rel=0.01)
    assert seen.noise == pytest.approx(20, rel=0.03)
    assert seen.repaired == 7 / image.size
    assert (seen.blocked, seen.blocked_side, seen.blob, seen.saturated) == (0.0, "", 0.0, 0.0)


@pytest.mark.parametrize(
    ("where", "side"),
    [
        (np.s_[:, :80], "left"),
        (np.s_[:, 240:], "right"),
        (np.s_[:64], "bottom"),
        (np.s_[192:], "top"),
    ],
)
def test_a_shadow_is_measured_and_the_rest_is_the_light(where, side):
    image = grains()
    lit = look(image).lit
    image[where] *= 0.02
    seen = look(image)
    assert seen.blocked == pytest.approx(0.25, abs=0.03)
    assert seen.blocked_side == side
    assert seen.lit == pytest.approx(lit, rel=0.02)


def test_a_blob_touches_no_edge():
    image = grains()
    image[80:160, 100:180] *= 0.1
    seen = look(image)
    assert seen.blob == pytest.approx(80 * 80 / image.size, abs=0.02)
    assert seen.blocked == 0.0


def test_saturated_pixels_are_those_at_the_end():
    raw = np.random.default_rng(0).poisson(400, (300, 300)).astype(np.int16)
    raw[:, :90] = 32767
    assert look(raw.astype(np.float32), raw).saturated == pytest.approx(0.3, abs=0.01)


def test_dark_things_and_bright_things_differ_in_skew():
    image = grains()
    image[96:128, 96:128] *= 0.3
    assert look(image).skew < -1
    assert look(1000 - image).skew > 1


def test_detail_falls_with_blur_and_dead_columns_do_not_matter():
    sharp, blurred = detail(grains()), detail(grains(blur=2.0))
    others = [detail(grains(seed)) for seed in (2, 3, 4)]
    assert sharpness(sharp, others)[0] == pytest.approx(1.0, abs=0.1)
    assert sharpness(blurred, others)[0] < 0.4
    dead = grains()
    dead[:, 100] = 0
    assert sharpness(detail(dead), others)[0] == pytest.approx(1.0, abs=0.15)


def test_sharpness_needs_others_and_detail():
    sharp, noise = detail(grains()), detail(np.random.default_rng(0).poisson(400, (256, 256)).astype(np.float32))
    assert sharpness(sharp, [sharp, sharp]) is None
    assert sharpness(noise, [noise, noise, noise]) is None
    assert detail(np.zeros((64, 64), np.float32)) == ()


def test_the_same_specimen_agrees_wherever_it_lies_and_another_does_not():
    here = grains(1, (300, 300))
    rng = np.random.default_rng(5)
    there = rng.poisson(ndimage.gaussian_filter(here, 1.0)).astype(np.float32)
    moved = np.roll(there, (9, -14), (0, 1))
    same = agreement(here, there, geometry.IDENTITY)
    assert same > 0.5
    assert agreement(moved, there, geometry.translation(-14.0, 9.0)) > 0.4
    assert agreement(grains(2, (300, 300)), there, geometry.IDENTITY) < 0.15
    assert agreement(np.zeros_like(here), there, geometry.IDENTITY) == 0.0


def test_beads_are_counted_where_they_should_be_whatever_their_height():
    before = np.array([[10.0, 20.0], [-30.0, 5.0], [0.0, -40.0], [200.0, 0.0]])
    over = geometry.translation(4.0, -2.0)
    now = before[:3] + np.array([[4.5, -2.5], [4.0, 4.0], [4.0, -1.0]])
    assert seen_again(before, now, over, 90.0, (8.0, 2.0), (200, 200)) == (3, 3)  # the axis lies along x
    assert seen_again(before, now, over, 0.0, (8.0, 2.0), (200, 200)) == (3, 2)
    assert seen_again(before, np.zeros((0, 2)), over, 0.0, (8.0, 2.0), (200, 200)) == (3, 0)


def test_beads_of_a_view_are_found_in_the_next_one():
    sample = simulated(size=256, tilts=(0.0, 6.0), beads=12, binning=1)
    beads = LiveBeads(None)
    for index, view in enumerate(sample.views):
        beads.look(index, view.image)
    first, second = sample.true
    over = geometry.tilt_stretch(20.0, first.tilt_deg, second.tilt_deg)
    over[:, 2] = np.array(second.shift_xy) - over[:, :2] @ first.shift_xy
    expected, seen = beads.again(1, 0, over, 20.0, geometry.parallax(first.tilt_deg, second.tilt_deg))
    assert expected >= 6
    assert seen >= 0.8 * expected
    over[:, 2] += 40.0
    assert beads.again(1, 0, over, 20.0, 0.1)[1] <= 0.3 * expected
