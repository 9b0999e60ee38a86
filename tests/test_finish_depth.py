"""How deep the tomogram must be."""

import numpy as np
from simulated import simulated

from streamtomo.finish.depth import default_depth, find_depth
from streamtomo.finish.recipe import transforms
from streamtomo.finish.refine import refine
from streamtomo.resample import warp


def test_a_slab_is_held_with_a_margin():
    series = simulated(beads=12, size=512, error_px=0.0)
    alignment = refine(series.views, axis_deg=20.0, binning=1, pixel_size_A=10.8, bead_nm=None, method="auto").alignment
    stack = np.stack(
        [
            warp(view.image, transform, (512, 512))
            for view, transform in zip(series.views, transforms(alignment), strict=True)
        ]
    )
    found = find_depth(stack, [view.tilt_deg for view in alignment.views])
    assert found is not None
    slab_px = 100 / 1.08
    assert 1.0 * slab_px < found < 2.2 * slab_px


def test_noise_has_no_depth():
    stack = np.random.default_rng(1).normal(size=(21, 128, 128)).astype(np.float32)
    assert find_depth(stack, np.linspace(-60, 60, 21)) is None


def test_depths_are_even():
    assert default_depth((100, 101)) == 30
    assert default_depth((5, 5)) == 2
