"""Binning against a slow reference, and centres to a hundredth of a pixel."""

import numpy as np
import pytest

from streamtomo.correct.binning import bin_image
from streamtomo.correct.prepare import live_binning, prepare


def reference(image, b):
    """The weighted mean of every output pixel, one by one, in float64."""

    def matrix(n):
        m = n // b
        positions = (n - 1) / 2 + b * (np.arange(m) - (m - 1) / 2)
        rows = np.zeros((m, n))
        for o, position in enumerate(positions):
            for i in range(int(np.ceil(position - 3 * b)), int(np.floor(position + 3 * b)) + 1):
                p = (i - position) / b
                rows[o, min(max(i, 0), n - 1)] += np.sinc(p) * np.sinc(p / 3)
            rows[o] /= rows[o].sum()
        return rows

    return matrix(image.shape[0]) @ image.astype(float) @ matrix(image.shape[1]).T


@pytest.mark.parametrize("pixel_type", [np.int8, np.uint8, np.int16, np.uint16, np.float32])
def test_types(pixel_type):
    image = np.random.default_rng(0).integers(0, 120, (50, 70)).astype(pixel_type)
    assert np.allclose(bin_image(image, 2), reference(image, 2), atol=1e-3)


@pytest.mark.parametrize("binning", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("shape", [(64, 96), (61, 90), (67, 83)])
def test_sums(binning, shape):
    image = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
    binned = bin_image(image, binning)
    assert binned.shape == (shape[0] // binning, shape[1] // binning)
    assert binned.dtype == np.float32
    assert np.allclose(binned, reference(image, binning), atol=1e-5)


@pytest.mark.parametrize("binning", [2, 3, 4, 7])
@pytest.mark.parametrize("shape", [(128, 160), (127, 161), (130, 159), (131, 162)])
def test_a_blob_stays_where_it_is_about_the_centre(binning, shape):
    ny, nx = shape
    yy, xx = np.mgrid[:ny, :nx]
    y, x = 11.3, -17.6  # from the centre, in raw pixels
    distance2 = (yy - (ny - 1) / 2 - y) ** 2 + (xx - (nx - 1) / 2 - x) ** 2
    binned = bin_image(np.exp(-distance2 / (2 * 9.0**2)).astype(np.float32), binning).astype(float)
    by, bx = np.mgrid[: binned.shape[0], : binned.shape[1]]
    found_y = (binned * (by - (binned.shape[0] - 1) / 2)).sum() / binned.sum() * binning
    found_x = (binned * (bx - (binned.shape[1] - 1) / 2)).sum() / binned.sum() * binning
    assert found_y == pytest.approx(y, abs=0.02)
    assert found_x == pytest.approx(x, abs=0.02)


def test_a_flat_image_stays_flat_and_a_fine_pattern_does_not_fold_over():
    flat = np.full((60, 60), 37, dtype=np.int16)
    assert np.allclose(bin_image(flat, 4), 37.0, atol=1e-4)
    x = np.arange(240)
    stripes = np.cos(2 * np.pi * 0.4 * x)[None, :] * np.ones((240, 1))  # folds to 0.4 cycles per binned pixel
    folded = bin_image(stripes.astype(np.float32), 4)[:, 6:-6]
    assert np.abs(folded).max() < 0.03


def test_binning_by_one_only_converts():
    image = np.arange(12, dtype=np.int16).reshape(3, 4)
    assert np.array_equal(bin_image(image, 1), image.astype(np.float32))


def test_too_much_binning_is_refused():
    with pytest.raises(ValueError, match="cannot be binned by 9"):
        bin_image(np.zeros((8, 8), dtype=np.int16), 9)


@pytest.mark.parametrize(
    ("nx", "ny", "size", "binning"),
    [(5760, 4092, 768, 8), (1024, 1024, 768, 2), (700, 900, 768, 2), (512, 768, 768, 1), (20, 10, 64, 1)],
)
def test_live_binning(nx, ny, size, binning):
    assert live_binning(nx, ny, size) == binning
    assert max(nx, ny) / binning <= size


def test_prepare_says_what_it_did():
    image = np.random.default_rng(2).poisson(50, (256, 256)).astype(np.int16)
    image[100, 100] = 5000
    binned, correction = prepare(image, 2, 8.0)
    assert binned.shape == (128, 128)
    assert correction.repaired == 1
    assert correction.binning == 2
    assert correction.mean == pytest.approx(50.0, abs=0.2)
    assert correction.sd == pytest.approx(binned.std(), rel=1e-4)
