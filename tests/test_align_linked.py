"""Views linked by what a slab shows of itself in all of them: against the truth of simulated series."""

import msgspec
import numpy as np
import pytest
from simulated import alignment_error, simulated

from streamtomo.align import linked
from streamtomo.align import slab as slabs
from streamtomo.align.slab import Slab
from streamtomo.finish.refine import refine

PIXEL_NM = 1.08


def gold_free(**options):
    return simulated(beads=0, size=448, error_px=3.0, **options)


def aligned(series, views=None, axis_off=0.0):
    plan = series.series.plan
    return refine(
        views or series.views,
        axis_deg=plan.axis_deg + axis_off,
        binning=1,
        pixel_size_A=plan.pixel_size_A,
        bead_nm=None,
        method="patches",
    )


@pytest.mark.parametrize("options", [{}, {"dose": 1.0, "thickness": 140.0}, {"pretilt": 9.0, "pitch": 3.0}])
def test_without_gold_the_error_is_a_fraction_of_a_pixel_and_expected(options):
    series = gold_free(**options)
    found = aligned(series).alignment
    error = alignment_error(found, series.true)
    assert "linked" in found.note
    assert error < 0.5
    assert 0.5 < error / found.error_px < 2.0


def test_a_wrong_axis_is_mended():
    series = gold_free()
    found = aligned(series, axis_off=2.0).alignment
    assert found.axis_deg == pytest.approx(series.series.plan.axis_deg, abs=0.3)
    assert alignment_error(found, series.true) < 0.6


def test_a_blank_view_and_a_strange_one_are_left_alone_and_drag_nobody():
    series = gold_free()
    views, rng = list(series.views), np.random.default_rng(3)
    views[8] = msgspec.structs.replace(views[8], image=np.full_like(views[8].image, 100))
    views[20] = msgspec.structs.replace(views[20], image=rng.normal(100, 10, views[20].image.shape).astype(np.float32))
    found = aligned(series, views).alignment
    assert [view.index for view in found.views if view.residual_px is None] == [8, 20]
    kept = tuple(view for view in found.views if view.residual_px is not None)
    assert alignment_error(msgspec.structs.replace(found, views=kept), series.true) < 0.6


def test_the_slab_is_found_as_it_lies():
    series = gold_free(pretilt=9.0)
    images = [np.asarray(view.image, np.float32) for view in series.views]
    tilts, shifts = np.array([v.angle_deg for v in series.views]), np.array([v.shift_xy for v in series.views])
    at = slabs.frequencies(0.9 * 448, 0.1)
    found = linked.search(slabs.blurred(images, at), tilts, shifts, series.series.plan.axis_deg, Slab(80.0), at)
    assert found.slab.thickness == pytest.approx(100.0 / PIXEL_NM, rel=0.2)
    assert found.slab.tilt_deg == pytest.approx(-9.0, abs=2.0)
    assert found.slab.pitch_deg == pytest.approx(0.0, abs=2.0)


def test_views_gain_most_where_they_belong():
    series = gold_free()
    images = [np.asarray(view.image, np.float32) for view in series.views]
    tilts, true = np.array([v.angle_deg for v in series.views]), np.array([v.shift_xy for v in series.true])
    at, slab = slabs.frequencies(0.9 * 448, 0.1), Slab(100.0 / PIXEL_NM)
    soft = slabs.blurred(images, at)
    gains = [linked.link(soft, tilts, true, 20.0 + turned, slab, at).gain for turned in (0.0, -4.0, 4.0)]
    assert gains[0] == max(gains)
    assert gains[0] > linked.link(soft, tilts, true, 20.0, Slab(0.4 * slab.thickness), at).gain


def test_nothing_is_known_of_a_shift_of_the_whole():
    """The information of the shifts has no say in where the slab's plane is cut: moved together, views stay alike."""
    series = gold_free()
    images = [np.asarray(view.image, np.float32) for view in series.views]
    tilts, true = np.array([v.angle_deg for v in series.views]), np.array([v.shift_xy for v in series.true])
    at = slabs.frequencies(200.0, 0.1)
    known = linked.link(slabs.blurred(images, at), tilts, true, 20.0, Slab(90.0), at).information
    together = np.ones(len(tilts))
    for one in known:
        assert np.linalg.eigvalsh(one).min() > -1e-3 * np.linalg.eigvalsh(one).max()
        assert np.abs(one @ together).max() < 1e-3 * np.abs(one).max()
