"""Outliers: hits are found in any type of pixel, and nothing that belongs to the specimen is touched."""

import numpy as np
import pytest
from scipy import ndimage

from streamtomo.correct import fill, prepare
from streamtomo.correct.noise import fit_model, local_variance, measure
from streamtomo.correct.prepare import LINE
from streamtomo.correct.ring import places_of

SIGMA = 8.0


def repair(image, sigma=SIGMA):
    """The repaired image, and how many pixels were replaced."""
    repaired = prepare.repair(image, sigma)
    return repaired.image, len(repaired.places)


def noisy(shape=(256, 320), mean=60.0, seed=1):
    return np.random.default_rng(seed).poisson(mean, shape)


@pytest.mark.parametrize("pixel_type", [np.int8, np.uint8, np.int16, np.uint16, np.float32])
def test_single_hits_are_found_in_every_type(pixel_type):
    image = noisy(mean=20.0).astype(pixel_type)
    hits = np.random.default_rng(2).choice(image.size, 100, replace=False)
    image.flat[hits] = 100
    before = image.copy()
    repaired, replaced = repair(image, SIGMA)
    assert repaired.dtype == pixel_type
    assert np.array_equal(image, before)
    assert (repaired.flat[hits] < 45).mean() >= 0.99
    assert 99 <= replaced <= 130


@pytest.mark.parametrize("electrons", [0.3, 1.0, 3.0, 30.0])
def test_counting_noise_is_left_alone(electrons):
    image = noisy((1024, 1024), electrons).astype(np.int16)
    assert repair(image, SIGMA)[1] <= 3


def rare_count(electrons, sigma):
    """The count whose Poisson tail is as rare as so many standard deviations: at 1 electron 8 are 17 and not 9."""
    excess = np.arange(1, 400)
    deviance = 2 * ((electrons + excess) * np.log1p(excess / electrons) - excess)
    return np.ceil(electrons + excess[np.argmax(deviance >= sigma**2)])


@pytest.mark.parametrize("electrons", [0.05, 0.3, 1.0, 3.0, 30.0])
def test_hits_above_eight_sigma_of_the_tail_are_found(electrons):
    image = noisy((512, 512), electrons).astype(np.int16)
    hits = np.random.default_rng(3).choice(image.size, 200, replace=False)
    level = rare_count(electrons, 8.0)
    image.flat[hits] = level
    assert (repair(image, SIGMA)[0].flat[hits] < level).mean() >= 0.99


def test_dead_pixels_are_found_where_the_light_allows():
    image = noisy(mean=400.0).astype(np.uint16)
    image[100, 100] = image[40, 200] = 0
    repaired, replaced = repair(image, SIGMA)
    assert replaced == 2
    assert repaired[100, 100] > 300
    assert repaired[40, 200] > 300


@pytest.mark.parametrize("y", [0, 1, 2, 30, 253, 254, 255])
@pytest.mark.parametrize("x", [0, 1, 2, 30, 317, 318, 319])
def test_edges_and_corners_are_searched_and_filled_from_this_side(y, x):
    image = noisy().astype(np.int16)
    image[:, :160] += 400  # what wraps round would be filled from the other half's level
    image[y, x] += 2000
    level = 460 if x < 160 else 60
    repaired, replaced = repair(image, SIGMA)
    assert replaced >= 1
    assert abs(int(repaired[y, x]) - level) < 60


def test_a_bloom_is_replaced_whole():
    image = noisy().astype(np.int16)
    clean = image.copy()
    bloom = np.array([[60, 200, 50], [180, 3000, 400], [70, 300, 90]])
    image[99:102, 149:152] += bloom.astype(np.int16)
    repaired, replaced = repair(image, SIGMA)
    assert 9 <= replaced <= 14
    assert np.abs(repaired[99:102, 149:152] - 60.0).max() < 20
    changed = np.argwhere(repaired != clean)
    assert np.abs(changed - [100, 150]).max() <= 4


def test_hits_two_pixels_apart_do_not_hide_each_other():
    image = noisy().astype(np.int16)
    for y, x in ((50, 50), (50, 52), (50, 54), (52, 55)):
        image[y, x] = 900
    repaired, _ = repair(image, SIGMA)
    assert repaired[48:56, 48:56].max() < 120


def discs(shape, radius, n, seed=5):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    cover = np.zeros(shape, dtype=np.float32)
    for cy, cx in rng.uniform(12, np.array(shape) - 12, (n, 2)):
        distance2 = (yy - cy) ** 2 + (xx - cx) ** 2
        cover = np.maximum(cover, np.sqrt(np.clip(radius**2 - distance2, 0, None)) / radius)
    return cover


@pytest.mark.parametrize(("radius", "contrast"), [(3.0, -0.8), (5.0, -0.9), (8.0, -0.9), (5.0, 20.0), (8.0, 20.0)])
def test_beads_are_not_defects(radius, contrast):
    cover = discs((512, 512), radius, 60)
    image = np.random.default_rng(6).poisson(40 * (1 + contrast * cover)).astype(np.int16)
    repaired, _ = repair(image, SIGMA)
    on_beads = cover > 0
    assert (repaired != image)[on_beads].sum() <= max(1, on_beads.sum() // 10_000)


def test_sharp_lines_edges_and_needles_are_not_defects():
    image = noisy((256, 256), 30.0).astype(np.float32)
    yy, xx = np.mgrid[:256, :256]
    image[np.abs(yy - 0.3 * xx - 60) < 1.0] += 300  # a thin membrane
    image[np.abs(yy - 200) < np.clip((xx - 40) / 30, 0, None)] += 5000  # a pointed needle
    image[:40] += 1000  # an ice edge
    repaired, replaced = repair(image, SIGMA)
    assert replaced <= 2
    assert (repaired != image).sum() == replaced


def test_an_image_without_noise_keeps_its_structure_and_loses_its_hit():
    image = np.zeros((128, 128), dtype=np.float32)
    image[40:60, 40:60] = 1.0
    assert repair(image, SIGMA)[1] == 0
    counts = np.zeros((128, 128), dtype=np.int16)
    counts[64, 64] = 500
    assert repair(counts, SIGMA)[1] == 1


def test_a_tiny_image_is_returned_as_it_is():
    image = noisy((20, 20)).astype(np.int16)
    repaired, replaced = repair(image, SIGMA)
    assert replaced == 0
    assert np.array_equal(repaired, image)


def test_the_noise_is_told_per_block_where_it_does_not_follow_the_mean():
    rng = np.random.default_rng(7)
    scale = np.where(np.arange(320) < 160, 5.0, 20.0)
    image = (rng.normal(0, 1, (256, 320)) * scale + 1000).astype(np.float32)
    statistics = measure(image)
    model = fit_model(statistics.mean, statistics.variance, False)
    noise = np.sqrt(local_variance(statistics, model))
    assert model.gain == 0
    assert noise.shape == (16, 20)
    assert np.allclose(noise[:, :9], 5.0, rtol=0.25)
    assert np.allclose(noise[:, 11:], 20.0, rtol=0.25)


@pytest.mark.parametrize(("gain", "pedestal"), [(1.0, 0.0), (4.0, 0.0), (0.37, 200.0), (8.0, -50.0)])
def test_the_noise_model_finds_gain_and_pedestal(gain, pedestal):
    ramp = np.linspace(5, 60, 512)[None, :] * np.ones((512, 1))
    image = (np.random.default_rng(8).poisson(ramp) * gain + pedestal).astype(np.float32)
    statistics = measure(image)
    model = fit_model(statistics.mean, statistics.variance, False)
    means = np.array([10.0, 30.0, 50.0]) * gain + pedestal
    assert np.allclose(model.variance(means), [10 * gain**2, 30 * gain**2, 50 * gain**2], rtol=0.1)
    assert model.skew == pytest.approx(gain, rel=0.1)


@pytest.mark.parametrize("electrons", [0.5, 3.0, 30.0])
def test_dead_and_hot_lines_are_found_and_nothing_else(electrons):
    rng = np.random.default_rng(9)
    image = rng.poisson(electrons, (512, 384)).astype(np.int16)
    image[:, 0] = image[:, 100] = image[:, 200:202] = image[300] = 0
    image[256:, 250] = 0
    image[:, 330] = rng.poisson(electrons + 1.5 * np.sqrt(electrons), 512)
    repaired = prepare.repair(image, SIGMA)
    kinds = np.zeros(image.shape, np.uint8)
    kinds.flat[repaired.places] = repaired.kinds
    expected = np.zeros(image.shape, bool)
    expected[:, [0, 100, 200, 201, 330]] = expected[300] = expected[256:, 250] = True
    assert ((kinds == LINE) != expected).sum() <= 64  # a half column may begin a few strips off
    assert (kinds[~expected] > 0).sum() <= 64
    filled = repaired.image[:, 100].astype(float)
    assert filled.mean() == pytest.approx(electrons, abs=0.3 * np.sqrt(electrons) + 0.02)
    assert filled.std() == pytest.approx(np.sqrt(electrons), rel=0.25)


def test_a_straight_edge_and_a_slanted_line_are_no_defect_of_the_camera():
    image = noisy((512, 512), 30.0).astype(np.float32)
    image[:, 200:] += 60
    yy, xx = np.mgrid[:512, :512]
    image[np.abs(xx - 350 - 0.05 * yy) < 1.0] += 60
    assert repair(image)[1] <= 2


def test_a_rerun_is_identical_and_neighbouring_tilts_get_other_noise():
    first, second = (noisy(seed=seed).astype(np.int16) for seed in (1, 2))
    first[50:200, 60] = second[50:200, 60] = 0
    assert np.array_equal(repair(first)[0], repair(first)[0])
    filled = [repair(image)[0][50:200, 60].astype(float) for image in (first, second)]
    assert abs(np.corrcoef(filled)[0, 1]) < 0.3


@pytest.mark.parametrize("smear", [0.0, 0.6])
def test_what_is_filled_in_has_the_noise_of_its_surroundings(smear):
    rng = np.random.default_rng(4)
    image = ndimage.gaussian_filter(rng.normal(0, 10, (256, 256)), smear).astype(np.float32) + 100
    statistics = measure(image)
    model = fit_model(statistics.mean, statistics.variance, False)
    mask = np.zeros(image.shape, np.uint8)
    mask[4::4, 4::4] = 1
    repaired = image.copy()
    fill.fill(repaired, mask, places_of(mask), statistics, model)
    before, after = (
        [np.mean((one[4:-4:4, 4:-4:4] - 100) * (one[4:-4:4, 4 + dx : 252 + dx : 4] - 100)) for dx in (0, 1)]
        for one in (image.astype(float), repaired.astype(float))
    )
    assert after[0] == pytest.approx(before[0], rel=0.12)
    assert after[1] == pytest.approx(before[1], abs=0.12 * before[0])


def test_where_nothing_is_left_to_look_at_pixels_are_left_at_once():
    """A camera of which half is dead must not stop the work: nobody looks around where there is nothing."""
    image = np.random.default_rng(6).poisson(20, (700, 700)).astype(np.float32)
    mask = np.zeros(image.shape, np.uint8)
    mask[:, :350] = 1
    statistics = measure(image)
    bare = fill._bare(mask, int(mask.sum()))
    assert bare[:, :4].all()
    assert not bare[:, 4:].any()
    image[:, :350] = 7
    expected, variance = fill.expectation(image, mask, places_of(mask), fit_model(*statistics[:2], True))
    expected, variance = expected.reshape(700, 350), variance.reshape(700, 350)
    assert (expected[:, :256] == 7).all()
    assert (variance[:, :256] == 0).all()
    assert abs(expected[:, 348:].mean() - 20) < 3


def test_expected_values_are_nearer_to_the_truth_than_a_median():
    yy, xx = np.mgrid[:256, :256]
    truth = 30 + 10 * np.sin(xx / 9.0) * np.sin(yy / 7.0)
    image = np.random.default_rng(5).poisson(truth).astype(np.int16)
    statistics = measure(image)
    model = fit_model(statistics.mean, statistics.variance, True)
    mask = np.zeros(image.shape, np.uint8)
    mask[4::8, 4::8] = 1
    places = places_of(mask)
    expected, _ = fill.expectation(image, mask, places, model)
    median = ndimage.median_filter(image.astype(float), 5).flat[places]
    ours, theirs = (np.sqrt(np.mean((one - truth.flat[places]) ** 2)) for one in (expected, median))
    assert ours < 0.8 * theirs
