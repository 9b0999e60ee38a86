"""Where the specimen lies, against the truth of simulated slabs."""

import re

import numpy as np
import pytest
from simulated import simulated

from streamtomo import geometry
from streamtomo.finish import slab
from streamtomo.finish.position import find_position, fit_surfaces, turn_of
from streamtomo.simulate.pose import slab_turn

PITCH, PRETILT, THICKNESS_NM = 4.0, -8.0, 120.0


def position(series, *, beads=True, seen=None, **options):
    """With the true alignment, so that only the position can be wrong."""
    plan = series.series.plan
    transforms = [geometry.raw_to_aligned(view.axis_deg, view.shift_xy, view.mag) for view in series.true]
    field = np.abs(series.beads_px[:, :2]).max(axis=1) < 0.45 * plan.shape_yx[0]
    points = series.beads_px[field]
    return find_position(
        [view.image for view in series.views],
        transforms,
        [view.tilt_deg for view in series.true],
        points_px=points,
        seen=[len(series.views)] * len(points),
        axis_deg=plan.axis_deg,
        beads=beads,
        **options,
    )


@pytest.mark.parametrize(
    ("surface", "beads", "by"), [("both", 12, "beads"), ("both", 12, "density"), ("top", 12, "beads")]
)
def test_a_tilted_slab_is_found(surface, beads, by):
    series = simulated(
        size=384, beads=beads, surface=surface, thickness=THICKNESS_NM, pitch=PITCH, pretilt=PRETILT, seed=11
    )
    found = position(series, beads=by == "beads")
    tolerance = 0.3 if by == "beads" else 0.6  # a density of 31 views of 384 pixels only
    assert found.pitch_deg == pytest.approx(PITCH, abs=tolerance)
    assert found.offset_deg == pytest.approx(PRETILT, abs=tolerance)
    thickness_px = THICKNESS_NM * 10 / series.series.plan.pixel_size_A
    if surface == "top":  # where the other one is, these few views do not tell
        assert found.depth_px > thickness_px
        return
    assert found.thickness_px == pytest.approx(thickness_px, rel=0.1)
    assert found.height_px == pytest.approx(0.0, abs=0.1 * thickness_px)
    assert thickness_px < found.depth_px < 1.5 * thickness_px
    assert by in found.note
    assert found.warning == ""


def test_taken_as_level_only_its_extent_is_found():
    series = simulated(size=384, beads=12, thickness=THICKNESS_NM, pitch=PITCH, pretilt=PRETILT, seed=11)
    found = position(series, level=True)
    assert (found.pitch_deg, found.offset_deg) == (0.0, 0.0)
    assert found.depth_px > THICKNESS_NM


def test_noise_has_no_position():
    rng = np.random.default_rng(1)
    images = [rng.normal(size=(128, 128)).astype(np.float32) for _ in range(21)]
    found = find_position(
        images, [geometry.IDENTITY] * 21, np.linspace(-60, 60, 21), points_px=np.zeros((0, 3)), seen=(), axis_deg=0.0,
        beads=True,
    )  # fmt: skip
    assert found.thickness_px is None
    assert (found.pitch_deg, found.depth_px) == (0.0, 38)
    assert "no surface" in found.note


def slab_of_beads(n, apart, rng, pitch=PITCH, pretilt=PRETILT, *, spread=0.5):
    flat = np.column_stack([rng.uniform(-300, 300, (n, 2)), rng.choice((-0.5, 0.5), n) * apart])
    return (flat + rng.normal(0, spread, flat.shape) * (0, 0, 1)) @ slab_turn(pitch, pretilt).T


@pytest.mark.parametrize("spread", [0.01, 0.5])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("apart", [0.0, 40.0, 120.0])
def test_planes_are_fitted_through_beads(seed, apart, spread):
    points = slab_of_beads(14, apart, np.random.default_rng(seed), spread=spread)
    points[3, 2] += 70 if apart else 0
    found = fit_surfaces(points)
    pitch, offset, flat = turn_of(found.slope_x, found.slope_y)
    assert pitch == pytest.approx(PITCH, abs=0.3)
    assert offset == pytest.approx(PRETILT, abs=0.3)
    assert found.apart * flat == pytest.approx(apart, abs=2.0)


def test_beads_all_through_the_specimen_are_no_surface():
    points = np.random.default_rng(1).uniform(-1, 1, (40, 3)) * (200, 200, 100)
    assert fit_surfaces(points) is None
    assert fit_surfaces(points[:3]) is None


def test_witnesses_that_disagree_are_named():
    series = simulated(size=384, beads=12, thickness=THICKNESS_NM, pitch=PITCH, pretilt=PRETILT, seed=11)
    plan = series.series.plan
    points = slab_of_beads(20, 111.0, np.random.default_rng(3), pitch=-9.0)
    found = find_position(
        [view.image for view in series.views],
        [geometry.raw_to_aligned(view.axis_deg, view.shift_xy) for view in series.true],
        [view.tilt_deg for view in series.true],
        points_px=points, seen=[31] * 20, axis_deg=plan.axis_deg, beads=True,
    )  # fmt: skip
    assert re.search(r"pitch -[89]\.\d° by the beads, [34]\.\d° by the density", found.warning)


def test_what_sticks_out_of_its_planes_is_no_slab():
    profile = np.full(100, -0.4)
    profile[30:70] = 1.0
    assert slab._holds_all(profile, 30, 69)
    assert slab._edge_planes(slab._jumps(profile)) == pytest.approx((29.5, 69.5), abs=0.6)
    profile[15:30] = 0.3
    assert not slab._holds_all(profile, 30, 69)
