"""Light that goes with time is told from light that the path takes."""

import math

import numpy as np
import pytest
from judged import BIDIRECTIONAL, DOSE_SYMMETRIC, ONE_WAY, bright_field, tilt

from streamtomo.judge.fading import lost_light

SCHEMES = [DOSE_SYMMETRIC, BIDIRECTIONAL, ONE_WAY]


def losses(angles, level, noise=0.01, seed=1):
    """What is told after each tilt of a series whose light is `level(number, angle)`."""
    rng = np.random.default_rng(seed)
    tilts = [tilt(n, t, level(n, t) * math.exp(rng.normal(0, noise))) for n, t in enumerate(angles)]
    told = [lost_light(tilts[: n + 1]) for n in range(len(tilts))]
    return [loss and loss.so_far for loss in told]


@pytest.mark.parametrize("angles", SCHEMES)
@pytest.mark.parametrize(("thickness", "pretilt"), [(0.3, 0.0), (1.0, 0.0), (0.6, 11.0), (0.6, -11.0)])
def test_a_longer_path_is_no_loss(angles, thickness, pretilt):
    told = losses(angles, lambda _, t: bright_field(t - pretilt, thickness))
    assert max(loss or 0.0 for loss in told) < 0.15


@pytest.mark.parametrize("angles", SCHEMES)
def test_a_beam_that_weakens_is_seen_within_a_few_tilts(angles):
    onset = 12
    told = losses(angles, lambda n, t: bright_field(t, 0.6) * 0.9 ** max(0, n - onset + 1))
    assert max(loss or 0.0 for loss in told[:onset]) < 0.1
    seen = next(n for n, loss in enumerate(told) if (loss or 0.0) > 0.25)
    assert seen - onset + 1 <= 5
    true = 1 - 0.9 ** (20 - onset + 1)
    assert 0.7 * true < told[20] < 1.05 * true


def test_a_loss_that_goes_on_has_a_rate_and_a_step_has_none():
    rng = np.random.default_rng(0)

    def rate_of(level):
        tilts = [
            tilt(n, t, bright_field(t) * level(n) * math.exp(rng.normal(0, 0.005))) for n, t in enumerate(ONE_WAY[:25])
        ]
        return lost_light(tilts).per_tilt

    assert rate_of(lambda n: 0.92 ** max(0, n - 9)) == pytest.approx(0.08, abs=0.015)
    assert rate_of(lambda n: 0.6 if n > 9 else 1) == 0


def test_one_dark_tilt_or_a_step_is_no_trend():
    dark = losses(DOSE_SYMMETRIC, lambda n, t: bright_field(t) * (0.6 if n == 15 else 1))
    step = losses(DOSE_SYMMETRIC, lambda n, t: bright_field(t) * (0.9 if n >= 15 else 1))
    assert max(loss or 0.0 for loss in dark) < 0.2
    assert max(loss or 0.0 for loss in step) < 0.2


def test_few_tilts_or_none_with_light_tell_nothing():
    assert losses(DOSE_SYMMETRIC[:7], lambda *_: 100.0)[-1] is None
    assert lost_light([tilt(n, t, -1.0) for n, t in enumerate(DOSE_SYMMETRIC)]) is None
