"""The final alignment against the truth of simulated series."""

import msgspec
import numpy as np
import pytest
from simulated import alignment_error, simulated

from streamtomo import geometry
from streamtomo.finish.refine import refine


def refined(series, *arguments, **options):
    return with_beads(series, *arguments, **options).alignment


def with_beads(series, method="auto", axis=None, bead_nm=None, views=None):
    plan = series.series.plan
    return refine(
        views or series.views,
        axis_deg=plan.axis_deg if axis is None else axis,
        binning=series.binning,
        pixel_size_A=plan.pixel_size_A,
        bead_nm=bead_nm,
        method=method,
    )


def test_beads_take_the_errors_of_the_live_placements_out():
    series = simulated()
    live, final = refined(series, "coarse"), refined(series)
    assert final.method == "beads"
    assert alignment_error(live, series.true) > 1.0
    assert alignment_error(final, series.true) < 0.06
    assert final.residual_px < 0.15
    assert 0.5 < alignment_error(final, series.true) / final.error_px < 2.0
    assert all(view.residual_px is not None for view in final.views)
    assert "beads" in final.note


@pytest.mark.parametrize("binning", [2, 3])
def test_lengths_are_raw_pixels_at_any_binning(binning):
    series = simulated(binning=binning, size=385, axis=-75.0)
    final = refined(series)
    assert final.method == "beads"
    assert alignment_error(final, series.true) < 0.12


def test_a_wrong_nominal_axis_is_mended():
    series = simulated()
    final = refined(series, axis=series.series.plan.axis_deg + 3.0)
    assert final.axis_deg == pytest.approx(series.series.plan.axis_deg, abs=0.05)
    assert alignment_error(final, series.true) < 0.06


def test_a_bead_size_wrong_by_a_third_does_no_harm():
    series = simulated()
    final = refined(series, bead_nm=13.0)
    assert final.method == "beads"
    assert alignment_error(final, series.true) < 0.08


def test_without_gold_patches_are_followed():
    series = simulated(beads=0, size=512, error_px=3.0)
    live, final = refined(series, "coarse"), refined(series)
    assert final.method == "patches"
    assert alignment_error(final, series.true) < 0.2 * alignment_error(live, series.true)
    assert "patches, each linked" in final.note


def test_few_views_are_followed_instead_of_linked():
    series = simulated(beads=0, size=512, error_px=3.0)
    final = refined(series, views=series.views[12:19], method="patches")
    assert final.method == "patches"
    assert "linked" not in final.note


def test_gold_on_one_surface_does_not_lift_the_specimen():
    """The origin stays where the live placements had it: in the middle of the slab, not among the beads."""
    series = simulated(surface="top", error_px=1.0)
    final = refined(series)
    assert final.method == "beads"
    true, tilts = np.array([view.shift_xy for view in series.true]), [view.tilt_deg for view in final.views]
    rows = np.array([view.xf for view in final.views])
    shifts = -np.linalg.solve(rows[:, :4].reshape(-1, 2, 2), rows[:, 4:, None])[..., 0]
    across = (shifts - true) @ geometry.rotation(series.series.plan.axis_deg)[:, 0]
    terms = geometry.tilt_terms(tilts)
    height = np.linalg.lstsq(np.stack([terms.cos, terms.sin], axis=1), across, rcond=None)[0][1]
    assert abs(height) < 5.0


def test_a_view_far_off_is_brought_back_and_an_empty_one_goes_with_its_neighbours():
    series = simulated()
    views = list(series.views)
    x, y = views[20].shift_xy
    views[20] = msgspec.structs.replace(views[20], shift_xy=(x + 70, y - 50))
    views[10] = msgspec.structs.replace(views[10], image=np.full((384, 384), 100, np.float32))
    final = refined(series, views=views)
    assert final.method == "beads"
    kept = msgspec.structs.replace(final, views=tuple(view for view in final.views if view.index != 10))
    assert alignment_error(kept, series.true) < 0.06
    assert next(view for view in final.views if view.index == 10).residual_px is None
    assert final.error_px > 0.2  # nobody knows how well that one lies
    assert "without any point" in final.verdict
    assert alignment_error(final, series.true) < 1.0


def test_nothing_to_hold_on_to_keeps_the_live_placements():
    rng = np.random.default_rng(1)
    views = [
        msgspec.structs.replace(view, image=rng.normal(100, 5, (384, 384)).astype(np.float32))
        for view in simulated().views
    ]
    final = refined(simulated(), views=views)
    assert final.method == "coarse"
    assert final.note
    assert final.views == refined(simulated(), "coarse", views=views).views


def test_two_views_are_no_reason_to_fail():
    series = simulated()
    assert len(refined(series, views=series.views[:2]).views) == 2


def test_views_come_out_in_ascending_tilt():
    series = simulated()
    final = refined(series, views=series.views[::-1])
    assert [view.index for view in final.views] == list(range(len(series.views)))


def test_the_beads_come_with_it():
    series = simulated()
    alignment, found, _ = with_beads(series)
    assert len(found.view) == alignment.points
    assert len(found.points) == found.point.max() + 1
    for row in (0, 15, 30):
        true = series.true[row].raw(series.beads_px)
        here = found.xy[found.view == row]
        assert np.hypot(*(here[:, None] - true).transpose(2, 0, 1)).min(1).max() < 0.5
    assert with_beads(series, "coarse").beads is None


def test_an_alignment_that_another_one_contradicts_is_not_called_good(monkeypatch):
    series = simulated(beads=0, size=512, error_px=3.0)
    monkeypatch.setattr("streamtomo.finish.refine.LEAST_GAIN", float("inf"))
    found = refined(series)
    assert found.method == "patches"
    assert "too little in common" in found.note
    assert alignment_error(found, series.true) < 2 * found.error_px
    assert not found.verdict.startswith(("very good", "good"))
