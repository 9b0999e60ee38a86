"""Beads and patches in one solution, on made positions; and views straightened by a local motion."""

import json

import numpy as np
import pytest
from test_align_bundle import series
from test_align_expected import FIELD, field_error

from streamtomo import geometry
from streamtomo.align import bundle, local_motion
from streamtomo.finish import mixed, motion
from streamtomo.finish.aligned import Motion
from streamtomo.model import AlignedView, Alignment
from streamtomo.shrink import shrink


def beads_and_patches(count=2, seed=300):
    """A few beads measured well, many patches that drift, of the same true views."""
    tracks, truth, points, start, _ = series(seed, m=40, noise=0.0)
    rng = np.random.default_rng(seed)
    exact = bundle.predict(truth, points, tracks.view, tracks.point)
    gold = tracks.point < count
    drift = np.cumsum(rng.normal(0, 0.4, (31, 40, 2)), axis=0)[tracks.view, tracks.point]
    xy = exact + np.where(gold[:, None], rng.normal(0, 0.05, exact.shape), drift)
    parts = [bundle.make_tracks(tracks.view[of], tracks.point[of], xy[of]) for of in (gold, ~gold)]
    return parts[0], parts[1]._replace(point=parts[1].point - count), truth, start._replace(field=FIELD)


@pytest.mark.parametrize("count", [1, 2])
def test_a_bead_or_two_take_out_what_patches_leave(count):
    gold, patches, truth, start = beads_and_patches(count)
    alone = bundle.solve(patches, start, floor_px=0.5)
    both = mixed.together(gold, patches, start, 0.5)
    assert both.beads == count
    assert field_error(both.found.solution, truth) < 0.6 * field_error(alone, truth)
    assert "together" in both.note


def test_what_moves_otherwise_than_the_patches_is_no_bead():
    gold, patches, _, start = beads_and_patches(2)
    wandering = np.random.default_rng(1).normal(0, 15, gold.xy.shape)
    strange = gold._replace(xy=gold.xy + np.where(gold.point[:, None] == 0, wandering, 0.0))
    assert mixed.together(strange, patches, start, 0.5).beads == 1
    assert mixed.together(gold._replace(xy=gold.xy + wandering), patches, start, 0.5) is None


def moved(tilt_deg=30.0):
    """One view of a grid of dots that moved, the motion, and where the dots would be in a still specimen."""
    reach, numbers = 100.0, np.zeros((4, 3))
    numbers[1], numbers[2] = (2.0, 0.0, 3.0), (0.0, -3.0, 0.0)
    dots = np.stack(np.meshgrid([-60.0, 0.0, 60.0], [-60.0, 0.0, 60.0], [0.0]), axis=-1).reshape(-1, 3)
    there = dots + local_motion.shapes(dots[:, :2], reach, 4) @ numbers
    y, x = np.mgrid[:201, :201] - 100.0
    image = np.zeros((201, 201), np.float32)
    for across, along in geometry.project(there, tilt_deg):
        image += np.exp(-((x - across) ** 2 + (y - along) ** 2) / 8).astype(np.float32)
    return image, Motion(reach_px=reach, middle_px=(0.0, 0.0), coefficients=(tuple(numbers.ravel()),)), dots


@pytest.mark.parametrize("binning", [1, 2])
def test_views_are_straightened(binning):
    image, found, dots = moved()
    shape = (200 // binning, 200 // binning)
    bend = motion.bend(found, 0, 30.0, shape, binning)
    straight = shrink(image, geometry.IDENTITY, shape, binning, bend)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for across, along in geometry.project(dots, 30.0) / binning + geometry.centre(shape[0]):
        near = np.where((x - across) ** 2 + (y - along) ** 2 < (10 / binning) ** 2, straight, 0)
        seen = np.array([(near * x).sum(), (near * y).sum()]) / near.sum()
        assert seen == pytest.approx([across, along], abs=0.15)


def test_the_file_tells_all_that_is_needed(tmp_path):
    _, found, _ = moved()
    row = AlignedView(index=0, tilt_deg=30.0, xf=(1.0, 0.0, 0.0, 1.0, 0.0, 0.0))
    path = tmp_path / f"a{motion.SUFFIX}"
    motion.write(path, "a", found, Alignment(method="beads", axis_deg=0.0, views=(row,)))
    told = json.loads(path.read_text())
    assert told["shapes"] == list(local_motion.NAMES[:4])
    assert told["rows"][0]["motion_px"][1] == [2.0, 0.0, 3.0]
    assert (told["reach_px"], told["middle_px"]) == (100.0, [0.0, 0.0])
