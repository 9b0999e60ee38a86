"""From the full-size image to the aligned view in one interpolation."""

import numpy as np
import pytest

from streamtomo import geometry
from streamtomo.shrink import shrink


def wave(shape, k, phase=0.3):
    """A plane wave about the image's middle, `k` in cycles per pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    return np.cos(2 * np.pi * (k[0] * (x - geometry.centre(shape[1])) + k[1] * (y - geometry.centre(shape[0]))) + phase)


@pytest.mark.parametrize("binning", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(300, 260), (301, 263)])
def test_a_wave_is_moved_turned_and_kept(binning, shape):
    image = wave(shape, (0.06 / binning, 0.04 / binning)).astype(np.float32)
    transform = geometry.raw_to_aligned(84.0, (7.3, -4.6))
    out_shape = geometry.aligned_shape(shape, 84.0, binning)
    found = shrink(image, transform, out_shape, binning)
    y, x = np.mgrid[: out_shape[0], : out_shape[1]].astype(float)
    at = np.stack([x - geometry.centre(out_shape[1]), y - geometry.centre(out_shape[0])], axis=-1).reshape(-1, 2)
    u, v = geometry.apply(geometry.invert(transform), binning * at).T
    expected = np.cos(2 * np.pi / binning * (0.06 * u + 0.04 * v) + 0.3).reshape(out_shape)
    inner = slice(out_shape[0] // 3, -(out_shape[0] // 3)), slice(out_shape[1] // 3, -(out_shape[1] // 3))
    assert found[inner] == pytest.approx(expected[inner], abs=0.02)


def test_what_the_coarser_grid_cannot_hold_does_not_fold_back():
    image = wave((400, 400), (0.22, 0.0)).astype(np.float32)
    found = shrink(image, geometry.raw_to_aligned(20.0), (100, 100), 4)
    assert found[30:70, 30:70].std() < 0.05 * image.std()


def test_counts_of_any_type_are_the_same():
    counts = np.random.default_rng(1).integers(0, 200, (64, 70))
    transform = geometry.raw_to_aligned(10.0, (1.5, 0.0))
    images = [shrink(counts.astype(kind), transform, (32, 32), 2) for kind in ("uint8", "int16", "uint16", "float32")]
    for image in images[1:]:
        assert image == pytest.approx(images[0], rel=1e-5)


def test_where_the_image_does_not_reach_is_the_mean_nearby():
    image = np.full((200, 200), 100.0, np.float32)
    image[:, :100] = 50.0
    found = shrink(image, geometry.raw_to_aligned(45.0), (200, 200))
    assert found.min() > 45
    corner_low, corner_high = found[100, 2], found[100, 197]
    assert sorted([float(corner_low), float(corner_high)]) == pytest.approx([50.0, 100.0], abs=12.0)
    assert found.mean() == pytest.approx(75.0, abs=3.0)


def test_noise_keeps_its_strength_for_each_output_pixel():
    image = np.random.default_rng(1).normal(0, 8, (512, 512)).astype(np.float32)
    found = shrink(image, geometry.raw_to_aligned(33.0), (120, 120), 4)[20:100, 20:100]
    assert found.std() == pytest.approx(8 / 4, rel=0.15)
