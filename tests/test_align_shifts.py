"""The linear bundle adjustment against the general one, and against the truth."""

import numpy as np
import pytest

from streamtomo.align import bundle
from streamtomo.align.basis import Freedoms
from streamtomo.align.bundle import Poses
from streamtomo.align.shifts import solve_shifts

FLOOR_PX = 0.3


def measured(axis_deg, outliers=0.0, seed=3, n=31, n_points=60, span=(4, 9)):
    """Tracks of points each seen in some neighbouring views, and the true shifts."""
    rng = np.random.default_rng(seed)
    tilts = np.linspace(-60, 60, n)
    shifts = rng.normal(0, 8, (n, 2))
    poses = Poses(tilts, np.full(n, axis_deg), np.ones(n), shifts)
    points = rng.uniform((-300, -300, -60), (300, 300, 60), (n_points, 3))
    count = rng.integers(*span, n_points)
    first = rng.integers(0, n - count + 1)
    rows = [(v, p) for p in range(n_points) for v in range(first[p], first[p] + count[p])]
    view, point = np.array(rows).T
    xy = bundle.predict(poses, points, view, point) + rng.normal(0, 0.4, (len(rows), 2))
    wild = rng.random(len(rows)) < outliers
    xy[wild] += rng.normal(0, 15, (int(wild.sum()), 2))
    start = Poses(tilts, np.full(n, axis_deg), np.ones(n), shifts + rng.normal(0, 2, (n, 2)))
    return bundle.make_tracks(view, point, xy), start, shifts


@pytest.mark.parametrize("axis_deg", [0.0, -12.0, 95.0])
@pytest.mark.parametrize("outliers", [0.0, 0.15])
def test_it_finds_what_the_general_solver_finds(axis_deg, outliers):
    tracks, start, _ = measured(axis_deg, outliers)
    general = bundle.solve(tracks, start, Freedoms(axis="fixed"), floor_px=FLOOR_PX)
    linear = solve_shifts(tracks, start.tilt_deg, axis_deg, start.shift, FLOOR_PX)
    frame, _ = bundle.in_frame_of(general.poses, start.shift)
    same, _ = bundle.in_frame_of(start._replace(shift=linear.shift), start.shift)
    np.testing.assert_allclose(same.shift, frame.shift, atol=0.02)
    np.testing.assert_allclose(linear.weights, general.weights, atol=0.05)


def test_the_error_is_what_the_noise_allows_in_spite_of_outliers():
    tracks, start, truth = measured(30.0, outliers=0.15, span=(20, 32))
    found = solve_shifts(tracks, start.tilt_deg, 30.0, start.shift, FLOOR_PX)
    off, _ = bundle.in_frame_of(start._replace(shift=found.shift), truth)
    error = np.sqrt(((off.shift - truth) ** 2).sum(1).mean())
    assert error < 0.15, "0.4 px a coordinate, some fifty points a view, of short ones drift cannot be told"


def test_a_view_that_nothing_was_measured_in_keeps_its_start():
    tracks, start, _ = measured(10.0)
    kept = tracks.view != 4
    fewer = bundle.make_tracks(tracks.view[kept], tracks.point[kept], tracks.xy[kept])
    found = solve_shifts(fewer, start.tilt_deg, 10.0, start.shift, FLOOR_PX)
    np.testing.assert_allclose(found.shift[4], start.shift[4])


def test_no_tracks_change_nothing():
    none = bundle.make_tracks(np.zeros(0), np.zeros(0), np.zeros((0, 2)))
    start = np.ones((3, 2))
    np.testing.assert_array_equal(solve_shifts(none, np.zeros(3), 0.0, start, FLOOR_PX).shift, start)
