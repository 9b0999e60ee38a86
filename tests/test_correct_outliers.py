"""Outliers: hits are found in any type of pixel, and nothing that belongs to the specimen is touched."""

import numpy as np
import pytest

from streamtomo.correct import outliers
from streamtomo.correct.outliers import repair

SIGMA = 8.0


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


@pytest.mark.parametrize("electrons", [1.0, 3.0, 30.0])
def test_hits_above_ten_sigma_are_found(electrons):
    image = noisy((512, 512), electrons).astype(np.int16)
    hits = np.random.default_rng(3).choice(image.size, 200, replace=False)
    level = np.ceil(electrons + 10.5 * np.sqrt(electrons))
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


def test_noise_map_follows_the_noise():
    rng = np.random.default_rng(7)
    scale = np.where(np.arange(320) < 160, 5.0, 20.0)
    image = (rng.normal(0, 1, (256, 320)) * scale + 1000).astype(np.float32)
    noise, limit = outliers.noise_map(image, SIGMA)
    assert noise.shape == (16, 20)
    assert np.allclose(noise[:, :9], 5.0, rtol=0.25)
    assert np.allclose(noise[:, 11:], 20.0, rtol=0.25)
    assert np.allclose(limit, SIGMA * noise, rtol=1e-5)
