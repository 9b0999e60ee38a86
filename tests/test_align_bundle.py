"""The bundle adjustment on made tracks with known truth: noise, outliers, gaps, freedoms, gauge, expected errors."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from streamtomo import geometry
from streamtomo.align import bundle
from streamtomo.align.basis import Freedoms
from streamtomo.align.bundle import Poses
from streamtomo.align.freedoms import solve_freely


def series(
    seed, n=31, m=16, noise=0.1, missing=0.0, outliers=0.0, axis=12.0, tilt_error=0.0, mag_error=0.0, shape=(0.0, 0.0)
):
    """Tracks, true poses and points, the start (nominal angles, coarse shifts), and which positions are outliers."""
    rng = np.random.default_rng(seed)
    nominal = np.linspace(-60, 60, n)
    points = rng.uniform(-1, 1, (m, 3)) * (400, 400, 60)
    points -= points.mean(0)
    smooth = np.linspace(-1, 1, n) ** 2
    shift = rng.normal(0, 20, (n, 2))
    mag, distorted = 1 + mag_error * (smooth - smooth.mean()), np.outer(smooth, shape)
    truth = Poses(nominal + tilt_error * smooth, np.full(n, axis), mag, shift, distorted)
    view, point = (a.ravel() for a in np.meshgrid(np.arange(n), np.arange(m), indexing="ij"))
    xy = bundle.predict(truth, points, view, point) + rng.normal(0, noise, (n * m, 2))
    wrong = rng.random(n * m) < outliers
    xy[wrong] += rng.uniform(-30, 30, (wrong.sum(), 2))
    kept = rng.random(n * m) >= missing
    start = Poses(nominal, np.full(n, axis - 1.5), np.ones(n), shift + rng.normal(0, 3, (n, 2)))
    return bundle.make_tracks(view[kept], point[kept], xy[kept]), truth, points, start, wrong[kept]


def distances(solution, truth, points, seed=0):
    """RMS distance a view between true and solved positions of probes that both solutions follow, `(views,)`.

    The origin of the specimen is fitted: it is not measurable.
    """
    n = len(truth.mag)
    views = np.arange(n)
    units = np.vstack([np.zeros(3), np.eye(3)])
    seen = [bundle.predict(truth, unit[None], views, np.zeros(n, int)) for unit in units]
    design = np.stack([(s - seen[0]).ravel() for s in seen[1:]], axis=1)
    off = (solution.poses.shift - seen[0]).ravel()
    off = off - design @ np.linalg.lstsq(design, off, rcond=None)[0]
    return np.sqrt((off.reshape(n, 2) ** 2).sum(1))


def test_prediction_follows_the_geometry():
    tilts, axis, mag, shift = np.array([-40.0, 25.0]), np.array([85.0, 84.0]), np.array([1.01, 0.99]), np.ones((2, 2))
    points = np.array([[10.0, -20.0, 30.0], [1.0, 2.0, 3.0]])
    poses = Poses(tilts, axis, mag, shift, np.array([[0.01, -0.02], [0.0, 0.0]]))
    seen = bundle.predict(poses, points, np.array([0, 1]), np.array([0, 1]))
    assert poses.aligned_to_raw(1) == pytest.approx(geometry.aligned_to_raw(axis[1], shift[1], mag[1]))
    for k in range(2):
        raw = poses.aligned_to_raw(k)
        expected = geometry.apply(raw, geometry.project(points[k], tilts[k]))
        assert seen[k] == pytest.approx(expected[0])


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5])
def test_finds_the_truth(noise):
    tracks, truth, points, start, _ = series(1, noise=noise)
    solution = bundle.solve(tracks, start)
    assert np.abs(solution.poses.axis_deg - 12).max() < 1e-3 + 0.1 * noise
    assert distances(solution, truth, points).max() < 1e-4 + 1.2 * noise
    assert np.abs(solution.points - points).max() < 1e-3 + 2 * noise
    assert solution.points.mean(0) == pytest.approx(0, abs=0.01)


def test_agrees_with_a_general_solver():
    """Without robust weights being at work (no noise beyond Tukey's flat part), scipy finds no lower cost."""
    tracks, _, _, start, _ = series(2, n=7, m=5, noise=0.2)
    solution = bundle.solve(tracks, start)
    free = (solution.weights / solution.scale[tracks.view] ** 2)[:, None] ** 0.5

    def cost(unknowns):
        poses = start._replace(axis_deg=np.full(7, unknowns[0]), shift=unknowns[1:15].reshape(7, 2))
        return (free * bundle.residuals_of(tracks, poses, unknowns[15:].reshape(5, 3))).ravel()

    ours = np.concatenate([[solution.poses.axis_deg[0]], solution.poses.shift.ravel(), solution.points.ravel()])
    best = least_squares(cost, ours)
    assert (cost(ours) ** 2).sum() == pytest.approx(2 * best.cost, rel=1e-4)


@pytest.mark.parametrize(("outliers", "missing"), [(0.2, 0.0), (0.0, 0.4), (0.2, 0.4)])
def test_survives_outliers_and_gaps(outliers, missing):
    tracks, truth, points, start, wrong = series(3, outliers=outliers, missing=missing)
    solution = bundle.solve(tracks, start)
    far = wrong & (np.hypot(*solution.residuals.T) > 1)
    assert (solution.weights[far] < 0.05).all()
    assert (solution.weights[~wrong] > 0.3).mean() > 0.97
    assert distances(solution, truth, points).max() < 0.15


def test_views_without_positions_keep_their_start_but_for_the_origin():
    tracks, truth, points, start, _ = series(4)
    kept = ~np.isin(tracks.view, (7, 8, 30))
    tracks = bundle.make_tracks(tracks.view[kept], tracks.point[kept], tracks.xy[kept])
    solution = bundle.solve(tracks, start)
    assert np.isfinite(solution.poses.shift).all()
    seen = ~np.isin(np.arange(31), (7, 8, 30))
    assert distances(solution, truth, points)[seen].max() < 4  # the three wrong views take part in the origin's fit
    assert np.abs(solution.poses.shift - start.shift)[~seen].max() < 12


def test_the_axis_never_jumps_to_the_other_hand():
    tracks, _, _, start, _ = series(5, axis=12)
    solution = bundle.solve(tracks, start._replace(axis_deg=np.full(31, 20.0)))
    assert solution.poses.axis_deg == pytest.approx(12, abs=0.05)
    other = bundle.solve(tracks, start._replace(axis_deg=np.full(31, 195.0)))
    assert other.poses.axis_deg == pytest.approx(192, abs=0.05)


def test_freedoms_are_added_where_the_left_out_error_falls():
    tracks, truth, _, start, _ = series(6, noise=0.1, tilt_error=2.0, mag_error=0.01)
    found = solve_freely(tracks, start)
    assert found.solution.freedoms.tilt != "fixed"
    assert found.solution.freedoms.mag != "fixed"
    assert found.left_out_px < 0.25
    assert np.abs(found.solution.poses.tilt_deg - truth.tilt_deg).std() < 0.15


def test_stretch_and_skew_are_found_where_views_have_them():
    tracks, truth, points, start, _ = series(7, noise=0.1, shape=(0.004, -0.003))
    stiff = bundle.solve(tracks, start)
    free = solve_freely(tracks, start).solution
    assert free.freedoms.shape != "fixed"
    assert free.rms(tracks) < 0.16 < 0.25 < stiff.rms(tracks)
    assert np.sqrt((distances(free, truth, points) ** 2).mean()) < 0.08


def test_no_freedom_is_added_to_pure_noise():
    tracks, _, _, start, _ = series(7, noise=0.3)
    assert solve_freely(tracks, start).solution.freedoms == Freedoms()


def test_moving_the_origin_changes_no_prediction():
    tracks, truth, points, _, _ = series(8)
    poses, moved = bundle.move_origin(truth, points, np.array([5.0, -3.0, 20.0]))
    assert bundle.residuals_of(tracks, poses, moved) == pytest.approx(bundle.residuals_of(tracks, truth, points))


def test_errors_of_single_views_are_found_though_no_curve_is():
    """A stage that errs anew at every tilt: a smooth curve would gain nothing."""
    tracks, truth, _, start, _ = series(8, noise=0.1)
    error = np.random.default_rng(8).normal(0, 0.3, len(start.mag))
    found = solve_freely(tracks, start._replace(tilt_deg=start.tilt_deg + error))
    assert found.solution.freedoms.tilt == "each"
    assert np.abs(found.solution.poses.tilt_deg - truth.tilt_deg).std() < 0.1
