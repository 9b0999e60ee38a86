"""The exposure filter."""

import numpy as np
import pytest

from streamtomo.restore.dose import critical_dose, filtered


def test_critical_doses_are_the_published_ones():
    assert critical_dose(np.array([0.1]), 300.0)[0] == pytest.approx(0.24499 * 0.1**-1.6649 + 2.8141)
    assert critical_dose(np.array([0.1]), 200.0)[0] == pytest.approx(0.8 * critical_dose(np.array([0.1]), 300.0)[0])
    assert np.isinf(critical_dose(np.array([0.0]), 300.0)[0])


@pytest.mark.parametrize(("cycles_px", "along"), [(0.05, 1), (0.2, 0), (0.4, 1)])
def test_each_frequency_keeps_what_is_left_of_it(cycles_px, along):
    pixel_A, dose = 4.0, 60.0
    wave = np.cos(2 * np.pi * cycles_px * np.arange(240))
    image = (100 + np.broadcast_to(wave if along else wave[:, None], (240, 240))).astype(np.float32)
    left = filtered(image, dose, pixel_A, 300.0)[60:180, 60:180] - 100
    expected = np.exp(-dose / (2 * critical_dose(np.array([cycles_px / pixel_A]), 300.0)[0]))
    assert left.std() / wave.std() == pytest.approx(expected, abs=0.02)


def test_without_dose_nothing_changes_and_the_mean_never_does():
    before = np.random.default_rng(1).normal(50, 5, (3, 61, 90)).astype(np.float32)
    stack = np.stack([filtered(view, dose, 5.0, 300.0) for view, dose in zip(before, (0.0, 10.0, 100.0), strict=True)])
    assert stack[0] == pytest.approx(before[0], abs=1e-3)
    assert before[0].std() > stack[1].std() > stack[2].std()
    assert stack.mean(axis=(1, 2)) == pytest.approx(before.mean(axis=(1, 2)), abs=0.3)
