"""The conventions as fixed numbers, and the axioms of transforms."""

import numpy as np
import pytest

from streamtomo import geometry as g

RNG = np.random.default_rng(7)


def random_transform():
    return g.aligned_to_raw(RNG.uniform(-180, 180), RNG.normal(0, 30, 2), RNG.uniform(0.8, 1.2))


def test_a_point_above_the_axis_moves_to_positive_x_at_positive_tilt():
    assert g.project([[0.0, 0.0, 10.0]], 30.0) == pytest.approx(np.array([[5.0, 0.0]]))


def test_a_point_off_the_axis_is_foreshortened():
    assert g.project([[10.0, 7.0, 0.0]], 60.0) == pytest.approx(np.array([[5.0, 7.0]]))


def test_a_horizontal_axis_turns_y_to_minus_x():
    """Axis angle 90° counter-clockwise from Y points along -X."""
    assert g.apply(g.aligned_to_raw(90.0), [[0.0, 1.0]]) == pytest.approx(np.array([[-1.0, 0.0]]))


def test_the_xf_row_undoes_rotation_and_shift():
    """`A = R(-phi)`, `d = -A shift`: the row IMOD writes for an axis of 90° and a shift of (3, 4)."""
    assert g.raw_to_aligned(90.0, (3.0, 4.0)) == pytest.approx(np.array([[0.0, 1.0, -4.0], [-1.0, 0.0, 3.0]]))


def test_rotation_about_x():
    assert g.rotation_x(90.0) @ [0.0, 1.0, 0.0] == pytest.approx([0.0, 0.0, 1.0])


def test_axis_from_an_mdoc():
    assert g.axis_from_rotation_angle(175.3) == pytest.approx(85.3)
    assert g.axis_from_rotation_angle(-100.0) == pytest.approx(170.0)


def test_half_a_turn_of_the_axis_inverts_the_specimen():
    """phi + 180° with X, Y, Z inverted gives the same image: only the nominal axis knows the hand."""
    points = RNG.normal(0, 20, (5, 3))
    here = g.apply(g.aligned_to_raw(33.0), g.project(points, 40.0))
    there = g.apply(g.aligned_to_raw(213.0), g.project(-points, 40.0))
    assert here == pytest.approx(there)


@pytest.mark.parametrize("_", range(5))
def test_transforms_form_a_group(_):
    a, b, c = random_transform(), random_transform(), random_transform()
    assert g.compose(a, g.IDENTITY) == pytest.approx(a)
    assert g.compose(g.IDENTITY, a) == pytest.approx(a)
    assert g.compose(a, g.invert(a)) == pytest.approx(g.IDENTITY, abs=1e-12)
    assert g.compose(g.compose(a, b), c) == pytest.approx(g.compose(a, g.compose(b, c)))
    points = RNG.normal(0, 100, (4, 2))
    assert g.apply(g.compose(a, b), points) == pytest.approx(g.apply(b, g.apply(a, points)))


def test_many_transforms_at_once():
    many = np.array([random_transform() for _ in range(3)])
    assert g.compose(many, g.invert(many)) == pytest.approx(np.array([g.IDENTITY] * 3), abs=1e-12)


def test_stretch_makes_a_flat_specimen_look_as_at_another_tilt():
    flat = np.column_stack([RNG.normal(0, 30, (6, 2)), np.zeros(6)])
    to_raw = g.aligned_to_raw(-12.0)
    low, high = (g.apply(to_raw, g.project(flat, t)) for t in (20.0, 50.0))
    assert g.apply(g.tilt_stretch(-12.0, 20.0, 50.0), low) == pytest.approx(high)


def test_binning_scales_only_the_shift():
    transform = g.raw_to_aligned(30.0, (8.0, 4.0))
    binned = g.rescale(transform, 4)
    assert binned[:, :2] == pytest.approx(transform[:, :2])
    assert binned[:, 2] * 4 == pytest.approx(transform[:, 2])


def test_aligned_images_swap_sides_about_a_horizontal_axis():
    assert g.aligned_shape((4092, 5760), 85.3, 4) == (1440, 1022)
    assert g.aligned_shape((4092, 5760), -12.0, 4) == (1022, 1440)


@pytest.mark.parametrize(("angle", "wrapped"), [(0, 0), (180, 180), (-180, 180), (270, -90), (-190, 170), (720, 0)])
def test_angles_wrap(angle, wrapped):
    assert g.wrap_angle(angle) == pytest.approx(wrapped)
