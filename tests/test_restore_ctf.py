"""Focus found in simulated series whose lens has a code of its own, and views corrected with it."""

import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from _restoration_truth import make

from streamtomo.lens import Microscope, phase
from streamtomo.restore.ctf import Focus, ViewFocus, local_defocus
from streamtomo.restore.focus import Search, chain, estimate_focus
from streamtomo.restore.rings import layout, without_gold
from streamtomo.restore.transfer import corrected
from streamtomo.simulate.optics import Optics
from streamtomo.simulate.series import Plan
from streamtomo.simulate.specimen import Recipe

TILTS = (-54.0, -40.0, -26.0, -12.0, 2.0, 16.0, 30.0, 44.0, 58.0)
PIXEL_A = 5.4
MICROSCOPE = Microscope()


@lru_cache
def series(hand=1, astigmatism=0.0, plate=0.0, beads=3, axis=0.0):
    recipe = Recipe(beads=beads, atoms_per_um3=1e7, scatterers_per_um3=1e5)
    optics = Optics(
        underfocus_um=3.0,
        gradient=hand,
        focus_error_um=0.15,
        astigmatism_um=astigmatism,
        astigmatism_deg=30.0,
        phase_shift_deg=plate,
    )
    plan = Plan(TILTS, (448, 448), PIXEL_A, axis_deg=axis, recipe=recipe, optics=optics, seed=4, hot=0, xrays=0)
    return make(plan)


def true_defocus(truth):
    return np.array([truth.series.optics(i).underfocus_um for i in truth.order])


def found_focus(truth, **search):
    return estimate_focus(truth.stack, truth.tilts_deg, PIXEL_A, MICROSCOPE, Search(**search))


def errors(truth, focus):
    return np.array([view.defocus_um for view in focus.views]) - true_defocus(truth)


def test_focus_and_hand_of_views_of_low_dose():
    truth = series(1)
    focus = found_focus(truth)
    assert np.abs(errors(truth, focus)).max() < 0.1
    assert focus.hand == 1
    assert focus.hand_odds > 10
    assert all(view.confidence > 0.8 and view.resolution_A and view.resolution_A < 25 for view in focus.views)
    assert focus.snr[0] > 0.1


def test_astigmatism_is_found_and_none_where_none_is():
    truth = series(-1, astigmatism=0.25)
    focus = found_focus(truth, astigmatism=True)
    assert focus.hand == -1
    assert focus.astigmatism_um == pytest.approx(0.25, abs=0.05)
    assert abs((focus.astigmatism_deg - 30 + 90) % 180 - 90) < 7
    assert np.abs(errors(truth, focus)).max() < 0.1
    assert found_focus(series(1), astigmatism=True).astigmatism_um < 0.06


def test_faint_rings_of_coarse_pixels_leave_no_bias():
    """Three rings in all, most of what is coarser than them being proteins."""
    recipe = Recipe(thickness_nm=100, beads=4, atoms_per_um3=3e6)
    optics = Optics(underfocus_um=3.5, gradient=-1, focus_error_um=0.1)
    tilts = tuple(np.arange(-60.0, 61.0, 15.0))
    truth = make(Plan(tilts, (512, 512), 8.0, axis_deg=0.0, recipe=recipe, optics=optics, seed=4, hot=0, xrays=0))
    error = errors(truth, estimate_focus(truth.stack, truth.tilts_deg, 8.0, MICROSCOPE))
    assert abs(error.mean()) < 0.06
    assert np.abs(error).max() < 0.2


def test_a_phase_plate_is_found():
    truth = series(1, plate=70.0)
    focus = found_focus(truth, phase_shift=True)
    assert focus.phase_shift_deg == pytest.approx(70, abs=12)
    assert np.abs(errors(truth, focus)).max() < 0.15


def test_a_view_that_shows_nothing_takes_the_focus_of_its_neighbours_and_says_so():
    truth = series(1)
    stack = truth.stack.copy()
    stack[5] = np.random.default_rng(0).normal(100, 10, stack[5].shape)
    stack[7] = 0
    focus = estimate_focus(stack, truth.tilts_deg, PIXEL_A, MICROSCOPE)
    beside = [focus.views[i].defocus_um for i in (4, 6)]
    assert min(beside) - 0.15 < focus.views[5].defocus_um < max(beside) + 0.15
    assert focus.views[5].confidence < min(focus.views[4].confidence, 0.75)
    assert focus.views[5].resolution_A is None
    assert np.isfinite(focus.views[7].defocus_um)


def test_pure_noise_is_not_believed():
    stack = np.random.default_rng(1).normal(100, 10, (9, 256, 256)).astype(np.float32)
    focus = estimate_focus(
        stack, np.linspace(-40, 40, 9), PIXEL_A, MICROSCOPE, Search(astigmatism=True, phase_shift=True)
    )
    assert max(view.confidence for view in focus.views) < 0.5
    assert focus.astigmatism_um == 0
    assert focus.hand_odds < 3


def test_too_coarse_pixels_are_told():
    with pytest.raises(ValueError, match="show no rings"):
        layout((256, 256), 30.0)


def test_gold_is_taken_out_before_spectra_are_made():
    view = np.random.default_rng(0).normal(100, 10, (200, 230)).astype(np.float32)
    y, x = np.ogrid[:200, :230]
    gold = np.hypot(x - 90, y - 80) < 9
    cleaned = without_gold(np.where(gold, 20, view).astype(np.float32), PIXEL_A)
    assert cleaned[gold].min() > 90
    assert np.array_equal(without_gold(view, PIXEL_A), view)


def test_phases_are_those_of_the_simulated_lens():
    optics = Optics(underfocus_um=2.5, astigmatism_um=0.0, phase_shift_deg=40.0, b_factor_A2=0.0)
    ours = phase(np.fft.fftfreq(64, 2.0)[1:], 2.5, MICROSCOPE, 40.0) - np.arcsin(0.07)
    assert np.allclose(np.exp(1j * ours), optics.transfer((1, 64), 2.0)[0, 1:], atol=1e-3)


def likeness(a, b, low=1 / 26.0, high=1 / 14.0):
    """Correlation of two stacks in a band of frequencies, 1/Å."""
    ny, nx = a.shape[1:]
    k = np.hypot(np.fft.fftfreq(ny, PIXEL_A)[:, None], np.fft.rfftfreq(nx, PIXEL_A))
    band = (k > low) & (k < high)
    fa, fb = (np.fft.rfft2(stack)[:, band] for stack in (a, b))
    return (fa * fb.conj()).real.sum() / np.sqrt((np.abs(fa) ** 2).sum() * (np.abs(fb) ** 2).sum())


@pytest.mark.parametrize("how", ["flip", "wiener"])
def test_corrected_views_are_like_the_matter_beyond_the_first_zero(how):
    truth = series(-1, astigmatism=0.25)
    focus = found_focus(truth, astigmatism=True)
    after = corrected(truth.stack, truth.tilts_deg, PIXEL_A, focus, MICROSCOPE, how)
    assert abs(likeness(truth.stack, truth.matter)) < 0.1
    best = likeness(corrected(truth.stack, truth.tilts_deg, PIXEL_A, exact(truth), MICROSCOPE, how), truth.matter)
    assert best > 0.2
    assert likeness(after, truth.matter) > 0.9 * best
    # The focus of the middle is not that of the edges: without the gradient steep views lose detail there.
    flat = corrected(truth.stack, [0.0] * len(TILTS), PIXEL_A, exact(truth), MICROSCOPE, how)
    assert likeness(flat, truth.matter) < best


def exact(truth):
    optics = truth.series.plan.optics
    views = tuple(ViewFocus(defocus_um=d, sd_um=0, confidence=1, resolution_A=8) for d in true_defocus(truth))
    return Focus(views=views, astigmatism_um=optics.astigmatism_um, astigmatism_deg=30.0, hand=-1, snr=(0.3, 200.0))


def flat_focus(count, defocus_um=3.0):
    return Focus(views=(ViewFocus(defocus_um=defocus_um, sd_um=0, confidence=1, resolution_A=8),) * count)


@pytest.mark.parametrize(
    ("shape", "tilt", "pixel_A"), [((64, 90), 0.0, 5.4), ((90, 511), 62.0, 3.0), ((33, 700), -50.0, 2.0)]
)
def test_flipping_twice_is_nothing_done(shape, tilt, pixel_A):
    stack = np.random.default_rng(0).normal(100, 10, (1, *shape)).astype(np.float32)
    once = corrected(stack, [tilt], pixel_A, flat_focus(1), MICROSCOPE)
    twice = corrected(once, [tilt], pixel_A, flat_focus(1), MICROSCOPE)
    assert once.mean() == pytest.approx(stack.mean(), abs=0.5)
    assert once.std() == pytest.approx(stack.std(), rel=0.15)
    inside = (0, slice(10, -10), slice(10, -10))
    assert np.corrcoef(twice[inside].ravel(), stack[inside].ravel())[0, 1] > 0.7
    assert abs(np.corrcoef(once[inside].ravel(), stack[inside].ravel())[0, 1]) < 0.6


def test_a_blank_view_stays_blank():
    stack = np.full((1, 50, 60), 7.0, np.float32)
    for how in ("flip", "wiener"):
        assert np.allclose(corrected(stack, [30.0], 4.0, flat_focus(1), MICROSCOPE, how), 7.0)


def test_counts_that_do_not_match_are_told():
    with pytest.raises(ValueError, match="1 views, 1 tilt angles, 2 foci"):
        corrected(np.zeros((1, 8, 8), np.float32), [0.0], 4.0, flat_focus(2), MICROSCOPE)


def test_local_defocus_has_imods_sense():
    assert local_defocus(3.0, [-1000, 0, 1000], 45.0, 10.0) == pytest.approx([2.0, 3.0, 4.0])


def test_the_chain_is_a_bridge_over_what_is_unknown():
    odds = np.zeros((5, 200))
    odds[0, 50] = odds[4, 60] = 100.0
    chances, _ = chain(odds)
    assert chances.sum(axis=1) == pytest.approx(np.ones(5))
    assert chances[0].argmax() == 50
    assert chances[2, 45:66].sum() > 0.5
