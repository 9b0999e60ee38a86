"""Expected errors of a bundle adjustment against what its errors are; beam tilt and motion of parts as freedoms."""

import numpy as np
import pytest
from test_align_bundle import series

from streamtomo import geometry
from streamtomo.align import bundle, local_motion
from streamtomo.align.expected import places
from streamtomo.align.freedoms import solve_freely
from streamtomo.align.poses import jacobian

FIELD = (900.0, 900.0)


def field_error(solution, truth):
    """RMS over the field of true less solved positions, the best motion and growth of the specimen removed."""
    at = places(truth._replace(field=FIELD), np.zeros((1, 3)))
    n = len(truth.mag)
    view, point = (a.ravel() for a in np.meshgrid(np.arange(n), np.arange(9), indexing="ij"))
    away = bundle.predict(solution.poses, at, view, point) - bundle.predict(truth, at, view, point)
    turns = [np.cross(unit, at) for unit in np.eye(3)]
    moves = np.stack([*(np.tile(unit, (9, 1)) for unit in np.eye(3)), *turns, at], axis=2)
    design = np.einsum("kij,kjm->kim", jacobian(truth, at, view, point)[1], moves[point]).reshape(-1, 7)
    left = away.ravel() - design @ np.linalg.lstsq(design, away.ravel(), rcond=None)[0]
    return float(np.sqrt(2 * (left**2).mean()))


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("beads", "outliers"), [(6, 0.0), (14, 0.1)])
def test_expected_errors_agree_with_the_truth(beads, outliers, together):
    ratios = []
    for seed in range(8):
        tracks, truth, _, start, _ = series(200 + seed, m=beads, missing=0.2, outliers=outliers)
        start = start._replace(field=FIELD)
        solution = bundle.solve(tracks, start)
        ratios.append(field_error(solution, truth) / bundle.expected(tracks, start, solution, together).rms)
    assert 0.8 < np.mean(ratios) < 1.2
    assert np.mean([0.7 < ratio < 1.4 for ratio in ratios]) >= 0.75


def test_positions_that_err_together_from_view_to_view():
    tracks, truth, _, start, _ = series(210, m=30, noise=0.05)
    start = start._replace(field=FIELD)
    drift = np.cumsum(np.random.default_rng(0).normal(0, 0.2, (31, 30, 2)), axis=0)
    tracks = tracks._replace(xy=tracks.xy + drift[tracks.view, tracks.point])
    solution = bundle.solve(tracks, start)
    assert 0.7 < field_error(solution, truth) / bundle.expected(tracks, start, solution, True).rms < 1.4


def test_views_without_positions_are_not_told_of():
    tracks, _, _, start, _ = series(211)
    kept = tracks.view != 7
    tracks = bundle.make_tracks(tracks.view[kept], tracks.point[kept], tracks.xy[kept])
    found = bundle.expected(tracks, start, bundle.solve(tracks, start))
    assert not found.told[7]
    assert found.told.sum() == 30
    assert found.rms < 0.2
    assert (found.edge[found.told] >= 0.9 * found.centre[found.told]).mean() > 0.8


def test_derivatives_are_those_of_the_positions():
    rng = np.random.default_rng(0)
    poses = bundle.Poses(
        np.array([-40.0, 0.0, 55.0]), np.full(3, 30.0), np.full(3, 1.01), rng.normal(0, 9, (3, 2)),
        np.full((3, 2), 0.01), 2.0, rng.normal(0, 1, (3, 24)), (800.0, 700.0), (3.0, -5.0),
    )  # fmt: skip
    points = rng.uniform(-300, 300, (5, 3))
    view, point = (a.ravel() for a in np.meshgrid(np.arange(3), np.arange(5), indexing="ij"))
    by_view, _ = jacobian(poses, points, view, point)
    step, at = 1e-6, bundle.predict(poses, points, view, point)
    turn = float(np.degrees(step))
    changed = [
        poses._replace(axis_deg=poses.axis_deg + turn),
        poses._replace(tilt_deg=poses.tilt_deg + turn),
        poses._replace(mag=poses.mag * np.exp(step)),
        poses._replace(shape=poses.shape + np.array([step, 0.0])),
        poses._replace(shape=poses.shape + np.array([0.0, step])),
        poses._replace(beam_deg=poses.beam_deg + turn),
        *(poses._replace(local=poses.local + step * unit) for unit in np.eye(24)),
    ]
    for number, other in enumerate(changed, start=2):
        slope = (bundle.predict(other, points, view, point) - at) / step
        assert slope == pytest.approx(by_view[:, :, number], abs=2e-3)


WHEN = np.argsort(np.argsort(np.abs(np.arange(31) - 15.1), kind="stable"))
"""From the middle, to both sides in turn."""


def leaning(beam_deg, local=None):
    """Tracks of a series whose beam leans, or whose specimen moves."""
    tracks, truth, points, start, _ = series(212, m=20, noise=0.05)
    truth = truth._replace(beam_deg=beam_deg, field=FIELD)
    if local is not None:
        truth = truth._replace(local=local)
    noise = np.random.default_rng(1).normal(0, 0.05, tracks.xy.shape)
    xy = bundle.predict(truth, points, tracks.view, tracks.point) + noise
    return tracks._replace(xy=xy), truth, start._replace(field=FIELD, when=WHEN)


def test_a_beam_tilt_is_found():
    tracks, truth, start = leaning(0.6)
    found = solve_freely(tracks, start).solution
    assert found.freedoms.beam == "one"
    assert found.poses.beam_deg == pytest.approx(0.6, abs=0.05)
    assert field_error(found, truth) < 0.1


def test_a_view_under_a_leaning_beam_is_told_without_it():
    poses = bundle.Poses(np.array([35.0]), np.array([80.0]), np.array([1.02]), np.array([[4.0, -7.0]]), beam_deg=1.5)
    points = np.random.default_rng(2).uniform(-400, 400, (6, 3))
    tilt, xtilt, transform = poses.upright(0)
    seen = geometry.apply(transform, geometry.project(points, tilt, xtilt))
    assert seen == pytest.approx(bundle.predict(poses, points, np.zeros(6, int), np.arange(6)))
    assert 0.1 < abs(xtilt) < 1.5


def test_the_same_view_at_a_rounded_angle_shows_the_middle_plane_in_the_same_place():
    poses = bundle.Poses(np.array([58.0037]), np.array([80.0]), np.array([1.0]), np.array([[4.0, -7.0]]))
    points = np.random.default_rng(2).uniform(-400, 400, (6, 3)) * (1, 1, 0)
    transform = geometry.at_tilt(poses.aligned_to_raw(0), 58.0037, 58.0)
    seen = geometry.apply(transform, geometry.project(points, 58.0))
    assert seen == pytest.approx(bundle.predict(poses, points, np.zeros(6, int), np.arange(6)), abs=1e-9)


@pytest.mark.parametrize(("shape", "along"), [(1, 2), (2, 0)], ids=["a dome", "a sideways bend"])
def test_local_motion_is_found_where_there_is_one(shape, along):
    local = np.zeros((31, 8, 3))
    local[:, shape, along] = 4.0 * (1 - np.exp(-WHEN / 12))
    tracks, truth, start = leaning(0.0, local.reshape(31, 24))
    stiff, found = bundle.solve(tracks, start), solve_freely(tracks, start).solution
    assert (found.freedoms.depth, found.freedoms.image) != ("fixed", "fixed")
    assert moved_error(found, truth) < 0.3 * moved_error(stiff, truth)


def moved_error(solution, truth):
    """RMS over the field of true less solved positions, where every point may lie elsewhere: in all views alike."""
    at = places(truth, np.zeros((1, 3)))
    view, point = (a.ravel() for a in np.meshgrid(np.arange(31), np.arange(9), indexing="ij"))
    away = bundle.predict(solution.poses, at, view, point) - bundle.predict(truth, at, view, point)
    rows, left = jacobian(truth, at, view, point)[1], 0.0
    for k in range(9):
        design, own = rows[point == k].reshape(-1, 3), away[point == k].ravel()
        left += ((own - design @ np.linalg.lstsq(design, own, rcond=None)[0]) ** 2).sum()
    return float(np.sqrt(left / len(view)))


def test_local_motion_follows_the_order_in_which_views_were_taken():
    curves = local_motion.in_time(np.array([4, 2, 0, 1, 3]), 2)
    assert curves[2] == pytest.approx(0)
    assert curves[0, -1] == 1
    assert (np.diff(curves[[2, 3, 1, 4, 0], -1]) >= 0).all()
