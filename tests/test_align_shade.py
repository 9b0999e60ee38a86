"""Shadows are filled, and nothing else is touched."""

import numpy as np
import pytest
from simulated import simulated

from streamtomo.align.shade import unshaded

RNG = np.random.default_rng(3)


def field(shape=(200, 256)):
    return RNG.normal(100, 10, shape).astype(np.float32)


def test_a_grid_bar_is_filled_with_the_level_of_the_rest():
    image = field()
    image[:, 190:] *= 0.02
    filled = unshaded(image)
    assert filled[:, 190:].mean() == pytest.approx(100, rel=0.03)
    assert (filled[:, :150] == image[:, :150]).all()


def test_an_even_image_is_the_same_array():
    image = field()
    assert unshaded(image) is image


@pytest.mark.parametrize("i", [0, 15, 30])
def test_a_specimen_with_gold_is_the_same_array(i):
    image = simulated().views[i].image
    assert unshaded(image) is image


def test_bright_objects_on_dark_ground_are_no_shadow_of_the_rest():
    image = RNG.normal(2, 3, (200, 256)).astype(np.float32)
    image[60:120, 80:160] += 500
    assert unshaded(image) is image
    assert unshaded(np.zeros((64, 64), np.float32)).max() == 0
