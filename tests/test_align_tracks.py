"""Beads tracked as points of the specimen, on made candidates: clutter, gaps, wrong placements, lost views."""

import numpy as np
import pytest

from streamtomo.align import bundle, tracks
from streamtomo.align.beads import Candidates
from streamtomo.align.bundle import Poses
from streamtomo.align.tracks import Search

TILTS = np.arange(-60.0, 61.0, 4.0)
FIELD = (600, 500)
SEARCH = Search(FIELD, 4.0, 6.0, 150.0)


def candidates(seed=1, beads=10, clutter=40, missing=0.0, noise=0.1, strength=0.6, axis=30.0):
    """Candidates of all views, true poses and points."""
    rng = np.random.default_rng(seed)
    n = len(TILTS)
    points = rng.uniform(-1, 1, (beads, 3)) * (260, 220, 70)
    poses = Poses(TILTS, np.full(n, axis), np.ones(n), rng.normal(0, 15, (n, 2)))
    views = []
    for i in range(n):
        xy = bundle.predict(poses, points, np.full(beads, i), np.arange(beads)) + rng.normal(0, noise, (beads, 2))
        seen = (np.abs(xy) < np.array(FIELD) / 2).all(1) & (rng.random(beads) >= missing)
        false = rng.uniform(-0.5, 0.5, (clutter, 2)) * FIELD
        strengths = np.concatenate([rng.normal(strength, 0.02, seen.sum()), rng.uniform(0.3, 0.7, clutter)])
        order = np.argsort(-strengths)
        views.append(Candidates(np.concatenate([xy[seen], false])[order], strengths[order]))
    return views, poses, points


def drifting(poses, size=3.0):
    """The poses with the errors that live placements have: smooth across the views."""
    phase = np.linspace(0, 5, len(poses.mag))
    return poses._replace(shift=poses.shift + size * np.stack([np.sin(phase), np.cos(2 * phase)], axis=1))


def wrong(found, poses, points):
    """Share of positions that lie on no bead."""
    everyone = np.arange(len(points))
    distances = [
        np.hypot(*(bundle.predict(poses, points, np.full(len(points), i), everyone) - xy).T).min()
        for i, xy in zip(found.tracks.view, found.tracks.xy, strict=True)
    ]
    return float((np.array(distances) > 1.0).mean())


@pytest.mark.parametrize("clutter", [0, 40, 100])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_all_beads_are_found_among_clutter(clutter, missing):
    views, poses, points = candidates(clutter=clutter, missing=missing)
    found = tracks.find_tracks(views, drifting(poses), SEARCH)
    assert found is not None
    inside = len(found.solution.points)
    assert len(points) - 1 <= inside <= len(points) + 2
    assert wrong(found, poses, points) < 0.03


def test_clutter_alone_is_no_bead():
    views, poses, _ = candidates(beads=0, clutter=60)
    found = tracks.find_tracks(views, poses, SEARCH)
    assert found is None or len(found.tracks.view) < 20


def test_a_view_placed_far_off_is_found_by_the_vote():
    views, poses, points = candidates()
    start = drifting(poses)
    start.shift[7] += (140, -90)
    start.shift[22] += (-60, 130)
    found = tracks.find_tracks(views, start, SEARCH)
    assert found is not None
    assert wrong(found, poses, points) < 0.03
    counts = np.bincount(found.tracks.view, minlength=len(TILTS))
    assert counts[7] >= 4
    assert counts[22] >= 4


def test_a_branch_that_lost_the_target_comes_back():
    """From one view on everything is off by the same jump: the good branch's model finds the other views."""
    views, poses, points = candidates()
    start = drifting(poses)
    start.shift[20:] += (120, 70)
    found = tracks.find_tracks(views, start, SEARCH)
    assert found is not None
    assert (np.bincount(found.tracks.view, minlength=len(TILTS))[20:] >= 4).all()
    assert wrong(found, poses, points) < 0.03


def test_empty_views_are_no_obstacle():
    views, poses, points = candidates()
    for i in (3, 15):
        views[i] = Candidates(np.zeros((0, 2)), np.zeros(0))
    found = tracks.find_tracks(views, drifting(poses), SEARCH)
    assert found is not None
    assert wrong(found, poses, points) < 0.03


def test_the_vote_takes_the_shift_that_most_pairs_support():
    rng = np.random.default_rng(4)
    predicted = rng.uniform(-200, 200, (12, 2))
    found = np.concatenate([predicted[:8] + np.array([33, -21]), rng.uniform(-250, 250, (60, 2))])
    assert tracks.vote(predicted, found, 100.0, 3.0) == pytest.approx((33, -21), abs=1.0)
    assert tracks.vote(predicted, np.zeros((0, 2)), 100.0, 3.0) == pytest.approx((0, 0))


def test_pairs_are_mutual_and_within_the_gate():
    predicted = np.array([[0.0, 0.0], [1.5, 0.0], [50.0, 0.0]])
    found = np.array([[1.0, 0.0], [80.0, 0.0]])
    assert tracks.assign(predicted, found, 3.0) == [(1, 0)]
