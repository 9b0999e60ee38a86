"""Live alignment on small specimens of known geometry, in all orders of acquisition."""

import numpy as np
import pytest

from streamtomo import geometry
from streamtomo.align.live import LiveAligner
from streamtomo.config import Align
from streamtomo.model import Placement

SIZE = 256
UP = np.arange(0.0, 61.0, 4.0)
DOSE_SYMMETRIC = sorted([*UP, *-UP[1:]], key=lambda t: (abs(t), -t))
BIDIRECTIONAL = [*UP, *-UP[1:]]
ONE_WAY = [*-UP[:0:-1], *UP]
SETTINGS = Align(band_high=0.2)


def specimen(depth=0.0, n=1500, seed=1):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (n, 3)) * [1.2 * SIZE, 1.2 * SIZE, depth / 2]
    return points, rng.uniform(0.2, 1.0, n)


def view(sample, t, axis, shift, seed=0, shape=(SIZE, SIZE), noise=0.05):
    """Dark Gaussian blobs, projected by the conventions, with a little noise."""
    points, weights = sample
    ny, nx = shape
    places = geometry.apply(geometry.aligned_to_raw(axis, shift), geometry.project(points, t))
    image = np.zeros(shape)
    for (x, y), weight in zip(places + np.array([geometry.centre(nx), geometry.centre(ny)]), weights, strict=True):
        x0, y0 = max(0, int(x) - 8), max(0, int(y) - 8)
        x1, y1 = min(nx, int(x) + 9), min(ny, int(y) + 9)
        if x1 > x0 and y1 > y0:
            yy, xx = np.mgrid[y0:y1, x0:x1]
            image[y0:y1, x0:x1] += weight * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * 2.5**2))
    return (100 - 10 * image + noise * 10 * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def walk(n, step=3.0, seed=2):
    """A drift that starts at zero."""
    steps = np.random.default_rng(seed).normal(0, step / np.sqrt(2), (n, 2))
    steps[0] = 0
    return np.cumsum(steps, axis=0)


def place_all(sample, angles, axis, shifts, binning=1, **options):
    aligner = LiveAligner(SETTINGS, axis, binning)
    placements = []
    for index, (t, shift) in enumerate(zip(angles, shifts, strict=True)):
        image = view(sample, t, axis, shift / binning, seed=index, **options)
        placement = aligner.place(index, t, image)
        aligner.accept(index, t, image, placement)
        placements.append(placement)
    return placements


def found(placements):
    return np.array([[placement.shift_x, placement.shift_y] for placement in placements])


@pytest.mark.parametrize(
    "angles", [DOSE_SYMMETRIC, BIDIRECTIONAL, ONE_WAY], ids=["dose-symmetric", "both ways", "one way"]
)
@pytest.mark.parametrize("axis", [85.3, -12.0])
def test_a_flat_specimen_is_followed_through_any_order(angles, axis):
    shifts = walk(len(angles))
    placements = place_all(specimen(), angles, axis, shifts)
    assert np.abs(found(placements) - shifts).max() < 0.5
    assert placements[0] == Placement(shift_x=0, shift_y=0, score=0, ambiguity=0)
    assert min(placement.score for placement in placements[1:]) > 8
    assert max(placement.ambiguity for placement in placements[1:]) < 0.75


def test_a_thick_specimen_is_followed_up_to_a_rigid_motion():
    axis, angles = 30.0, DOSE_SYMMETRIC
    shifts = walk(len(angles))
    wrong = (found(place_all(specimen(depth=50.0), angles, axis, shifts)) - shifts) @ geometry.rotation(axis)
    terms = geometry.tilt_terms(angles)
    rigid = np.stack([terms.cos, terms.sin], axis=1)
    across = wrong[:, 0] - rigid @ np.linalg.lstsq(rigid, wrong[:, 0], rcond=None)[0]
    assert np.sqrt((across**2).mean()) < 0.8
    assert np.abs(wrong[:, 1] - wrong[:, 1].mean()).max() < 0.5


def test_shifts_are_in_raw_pixels():
    shifts = np.array([[0.0, 0.0], [12.0, -20.0]])
    placements = place_all(specimen(), (0.0, 3.0), 10.0, shifts, binning=4)
    assert np.allclose(found(placements), shifts, atol=0.5)
    assert placements[1].neighbour == 0
    assert (placements[1].step_x, placements[1].step_y) == (placements[1].shift_x, placements[1].shift_y)


@pytest.mark.parametrize("shape", [(200, 256), (231, 187)])
def test_fields_need_not_be_square(shape):
    shifts = np.array([[0.0, 0.0], [9.0, -14.5]])
    assert np.allclose(found(place_all(specimen(), (0.0, 5.0), -80.0, shifts, shape=shape)), shifts, atol=0.2)


def test_a_jump_of_a_third_of_the_field_is_found():
    shifts = np.array([[0.0, 0.0], [0.3 * SIZE, -0.15 * SIZE], [0.3 * SIZE, -0.15 * SIZE]])
    assert np.allclose(found(place_all(specimen(), (0.0, 3.0, -3.0), 85.0, shifts)), shifts, atol=0.5)


def test_repeated_angles_are_placed():
    shifts = walk(6)
    assert np.abs(found(place_all(specimen(), (10.0,) * 6, 85.0, shifts)) - shifts).max() < 0.3


def test_bright_on_dark_is_the_same():
    sample, axis = specimen(), 45.0
    placements = []
    for sign in (1, -1):
        aligner = LiveAligner(SETTINGS, axis, 1)
        first, second = (sign * view(sample, t, axis, shift) for t, shift in ((0.0, (0, 0)), (6.0, (4, 5))))
        aligner.accept(0, 0.0, first, aligner.place(0, 0.0, first))
        placements.append(aligner.place(1, 6.0, second))
    assert found(placements)[0] == pytest.approx(found(placements)[1], abs=1e-3)
    assert placements[0].score == pytest.approx(placements[1].score, rel=1e-3)


def test_a_bad_neighbour_does_not_break_the_chain():
    sample, axis = specimen(), 85.0
    aligner = LiveAligner(SETTINGS, axis, 1)
    here = Placement(shift_x=0, shift_y=0, score=0, ambiguity=0)
    aligner.accept(0, 0.0, view(sample, 0.0, axis, (0, 0)), here)
    aligner.accept(1, 3.0, np.random.default_rng(9).normal(100, 5, (SIZE, SIZE)).astype(np.float32), here)
    placement = aligner.place(2, 4.0, view(sample, 4.0, axis, (7, -3)))
    assert placement.neighbour == 0
    assert found([placement])[0] == pytest.approx((7, -3), abs=0.3)


def test_a_forgotten_tilt_is_no_reference_and_placing_again_ignores_itself():
    sample, axis = specimen(), 85.0
    aligner = LiveAligner(SETTINGS, axis, 1)
    for index, t in enumerate((0.0, 3.0, 6.0)):
        image = view(sample, t, axis, (index, 0))
        aligner.accept(index, t, image, aligner.place(index, t, image))
    again = view(sample, 3.0, axis, (1, 0))
    assert aligner.place(1, 3.0, again).neighbour in (0, 2)
    aligner.forget(2)
    assert aligner.place(3, 6.0, view(sample, 6.0, axis, (0, 0))).neighbour == 1
    for index in (0, 1, 2):
        aligner.forget(index)
    assert aligner.place(4, 6.0, again).neighbour is None


def test_a_blank_image_is_placed_without_a_score():
    sample, axis = specimen(), 85.0
    aligner = LiveAligner(SETTINGS, axis, 1)
    image = view(sample, 0.0, axis, (0, 0))
    aligner.accept(0, 0.0, image, aligner.place(0, 0.0, image))
    placement = aligner.place(1, 3.0, np.full((SIZE, SIZE), 7.0, dtype=np.float32))
    assert placement.score == 0
    assert placement.ambiguity == 1
