"""The correlation's parts, each against what must come out."""

import numpy as np
import pytest
from scipy import ndimage

from streamtomo.align.correlate import (
    Band,
    band_pass,
    best_peak,
    correlate,
    cross_correlation,
    masked,
    taper,
    vertex,
)

BAND = Band(0.01, 0.15)


def blobs(seed=0, n=256):
    noise = np.random.default_rng(seed).normal(size=(n, n))
    return ndimage.gaussian_filter(noise, 3.0, mode="wrap").astype(np.float32)


def shifted(image, dx, dy):
    return np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(image), (dy, dx))).real.astype(np.float32)


@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (0.5, -0.25), (10.3, -7.6), (-40.0, 33.45)])
def test_the_image_lies_where_the_peak_says(dx, dy):
    reference = blobs()
    peak = correlate(reference, shifted(reference, dx, dy), BAND, (100, 100))
    assert (peak.dx, peak.dy) == pytest.approx((dx, dy), abs=0.03)
    assert peak.score > 20
    assert peak.ambiguity < 0.5


def test_noise_has_a_low_and_ambiguous_peak():
    rng = np.random.default_rng(1)
    peak = correlate(*rng.normal(size=(2, 256, 256)).astype(np.float32), BAND, (100, 100))
    assert peak.score < 6
    assert peak.ambiguity > 0.8


def test_only_the_ellipse_is_searched():
    reference = blobs()
    peak = correlate(reference, shifted(reference, 60, 0), BAND, (40, 100))
    assert (peak.dx / 40) ** 2 + (peak.dy / 100) ** 2 <= 1.05


def test_two_equal_peaks_are_ambiguous():
    surface = np.zeros((64, 64), dtype=np.float32)
    surface[20, 20] = surface[40, 45] = 1
    peak = best_peak(surface, 5.0, (30, 30))
    assert peak.ambiguity == pytest.approx(1.0, abs=0.01)


def test_a_long_shift_needs_a_higher_peak_but_a_clear_one_wins():
    surface = np.random.default_rng(3).normal(0, 1, (128, 128)).astype(np.float32)
    surface[64 + 3, 64 - 2] = 6.0
    surface[64 - 40, 64] = 6.5
    assert best_peak(surface, 5.0, (60, 60), usual_px=4.0).dy > 0
    assert best_peak(surface, 5.0, (60, 60)).dy < -30
    surface[64 - 40, 64] = 12.0
    assert best_peak(surface, 5.0, (60, 60), usual_px=4.0).dy < -30


def test_the_correlation_is_the_sum_of_products():
    rng = np.random.default_rng(2)
    reference, image = rng.normal(size=(2, 16, 20)).astype(np.float32)
    everything = Band(0.0, 0.9)
    surface = cross_correlation(reference - reference.mean(), image - image.mean(), everything)
    dy, dx = 3, -4
    direct = ((reference - reference.mean()) * np.roll(image - image.mean(), (-dy, -dx), (0, 1))).sum()
    assert surface[16 // 2 + dy, 20 // 2 + dx] == pytest.approx(direct, rel=1e-3)


def test_the_vertex_of_a_quadratic_is_exact():
    y, x = np.mgrid[-1:2, -1:2]
    for px, py in ((0.0, 0.0), (0.4, -0.3), (-0.5, 0.5)):
        surface = -2 * (x - px) ** 2 - 3 * (y - py) ** 2 + 1.1 * (x - px) * (y - py)
        assert vertex(surface) == pytest.approx((px, py), abs=1e-9)
    assert vertex(np.ones((3, 3))) == (0.0, 0.0)
    assert vertex(np.ones((2, 3))) == (0.0, 0.0)


def test_the_window_fades_and_the_masked_image_has_no_mean_and_unit_power():
    window = taper(40, 60)
    assert window.shape == (40, 60)
    assert window[20, 30] == 1
    assert window[0].max() < 0.05
    flat = masked(blobs(n=64)[:40, :60] + 1000, window)
    assert abs(flat.sum()) < 1e-2
    assert np.vdot(flat, flat) == pytest.approx(1, rel=1e-4)
    assert not masked(np.ones((40, 60), dtype=np.float32), np.zeros((40, 60), dtype=np.float32)).any()


def test_the_band_passes_what_it_should():
    band = band_pass(200, 200, BAND)
    assert band[0, 0] == 0
    assert band[0, 20] == pytest.approx(1, abs=0.01)
    assert band[0, 60] < 1e-3
