"""What an image looks like, and whether two show the same: against known images."""

import numpy as np
import pytest
from scipy import ndimage
from simulated import simulated

from streamtomo import geometry
from streamtomo.judge.agreement import agreement, noise_at_zero
from streamtomo.judge.beads import seen_again
from streamtomo.judge.change import changed
from streamtomo.judge.ghost import ghost
from streamtomo.judge.look import look_at
from streamtomo.judge.spectrum import detail, sharpness
from streamtomo.livebeads import LiveBeads


def grains(seed=1, shape=(256, 320), beam=400.0, blur=0.0, seed_of_noise=None):
    """A specimen of small dark grains under a beam of so many electrons a pixel."""
    rng = np.random.default_rng(seed)
    matter = ndimage.gaussian_filter(rng.poisson(0.02, shape).astype(float), 1.5 + blur)
    level = beam * np.exp(-3 * matter)
    noise = np.random.default_rng(seed + 99 if seed_of_noise is None else seed_of_noise)
    return noise.poisson(level).astype(np.float32)


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
    assert sharpness(sharp, others).kept == pytest.approx(1.0, abs=0.1)
    assert sharpness(blurred, others).kept < 0.4
    dead = grains()
    dead[:, 100] = 0
    assert sharpness(detail(dead), others).kept == pytest.approx(1.0, abs=0.15)


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


def test_another_specimen_agrees_by_chance_only_however_little_of_both_is_seen():
    pairs = [(grains(seed, (256, 256)), grains(seed + 1, (256, 256))) for seed in range(10, 30, 2)]
    for along in (0.0, 100.0, 140.0):
        found = [agreement(here, there, geometry.translation(along, 40.0)) for here, there in pairs]
        assert float(np.median(found)) == 0.0
        assert max(found) < 0.1


def test_noise_at_shift_0_is_that_of_the_windows_that_lie_on_each_other():
    window = np.outer(np.hanning(64), np.hanning(64)).astype(np.float32)
    rng = np.random.default_rng(3)
    surfaces = []
    for _ in range(300):
        a, b = (np.fft.fft2(window * rng.normal(size=(64, 64))) for _ in range(2))
        surfaces.append(np.fft.ifft2(a * b.conj()).real)
    at_zero = np.sqrt(np.mean([surface[0, 0] ** 2 for surface in surfaces]))
    everywhere = np.sqrt(np.mean(np.square(surfaces)))
    assert noise_at_zero(window) == pytest.approx(at_zero / everywhere, rel=0.1)
    assert noise_at_zero(np.ones((8, 8), np.float32)) == pytest.approx(1.0)


def test_beads_are_counted_where_they_should_be_whatever_their_height():
    before = np.array([[10.0, 20.0], [-30.0, 5.0], [0.0, -40.0], [200.0, 0.0]])
    over = geometry.translation(4.0, -2.0)
    now = before[:3] + np.array([[4.5, -2.5], [4.0, 4.0], [4.0, -1.0]])
    assert seen_again(before, now, over, 90.0, (8.0, 2.0), (200, 200))[:2] == (3, 3)  # the axis lies along x
    assert seen_again(before, now, over, 0.0, (8.0, 2.0), (200, 200))[:2] == (3, 2)
    assert seen_again(before, np.zeros((0, 2)), over, 0.0, (8.0, 2.0), (200, 200)) == (3, 0, 0.0)


def test_where_there_are_many_beads_some_are_seen_by_chance():
    rng = np.random.default_rng(4)
    before, now = (rng.uniform(-90, 90, (n, 2)) for n in (2000, 150))
    found = seen_again(before, now, geometry.IDENTITY, 30.0, (8.0, 2.0), (200, 200))
    assert found.seen == pytest.approx(found.by_chance, rel=0.25)
    assert found.seen < 0.3 * found.expected


def doubled(image, x, y, share=0.5, seed=9):
    """An image of which the specimen jumped while it was exposed."""
    both = (1 - share) * image + share * ndimage.shift(image, (y, x), order=1, mode="reflect")
    return np.random.default_rng(seed).poisson(both).astype(np.float32)


@pytest.mark.parametrize(("x", "y"), [(12.0, 0.0), (-7.0, 30.0), (40.0, 25.0)])
def test_what_is_seen_twice_has_a_side_peak(x, y):
    smooth = 400 * np.exp(-3 * ndimage.gaussian_filter(np.random.default_rng(1).poisson(0.02, (256, 320)) * 1.0, 1.5))
    once = [ghost(np.random.default_rng(seed).poisson(smooth).astype(np.float32)) for seed in range(3)]
    assert max(once) < 0.07
    assert ghost(doubled(smooth, x, y)) > 0.25
    assert ghost(doubled(smooth, x, y, share=0.25)) > 0.15


def test_gold_and_a_straight_edge_are_no_second_image():
    image = grains()
    image[60:68, 100:108] = image[190:198, 170:178] = 10.0
    assert ghost(image) < 0.07
    image[:, :130] *= 0.7
    assert ghost(image) < 0.07


def test_what_came_over_the_field_is_measured_and_a_longer_path_is_not():
    before, now = grains(1, seed_of_noise=5), 0.8 * grains(1, seed_of_noise=6)
    assert changed(now, before, geometry.IDENTITY) < 0.02
    torn = now.copy()
    torn[:, 240:] *= 1.4
    assert changed(torn, before, geometry.IDENTITY) == pytest.approx(0.25, abs=0.03)
    moved = np.roll(now, (16, -24), (0, 1))
    assert changed(moved, before, geometry.translation(-24.0, 16.0)) < 0.03
    assert changed(now, before, geometry.translation(310.0, 0.0)) is None


def test_beads_of_a_view_are_found_in_the_next_one():
    sample = simulated(size=256, tilts=(0.0, 6.0), beads=12, binning=1)
    beads = LiveBeads(None)
    for index, view in enumerate(sample.views):
        beads.look(index, view.image)
    first, second = sample.true
    over = geometry.tilt_stretch(20.0, first.tilt_deg, second.tilt_deg)
    over[:, 2] = np.array(second.shift_xy) - over[:, :2] @ first.shift_xy
    expected, seen, _ = beads.again(1, 0, over, 20.0, geometry.parallax(first.tilt_deg, second.tilt_deg))
    assert expected >= 6
    assert seen >= 0.8 * expected
    over[:, 2] += 40.0
    assert beads.again(1, 0, over, 20.0, 0.1).seen <= 0.3 * expected
