"""Gold found in a volume, and gone from views and volume without a trace above their noise."""

import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from _restoration_truth import make, volume_of

from streamtomo.geometry import project
from streamtomo.restore.beads3d import find_beads_3d
from streamtomo.restore.erase import erase_gold, fill_discs, found_edge, stray_beads
from streamtomo.simulate.series import Plan
from streamtomo.simulate.specimen import Recipe

RADIUS = 4.63


@lru_cache
def series(beads=8):
    recipe = Recipe(thickness_nm=80.0, beads=beads, vesicles_per_um2=0.0)
    tilts = tuple(float(t) for t in range(-60, 61, 6))
    return make(Plan(tilts, (256, 256), axis_deg=0.0, recipe=recipe, seed=3, hot=0, xrays=0))


@lru_cache
def volume(beads=8):
    truth = series(beads)
    return volume_of(truth.stack, truth.tilts_deg, 110)


def within(beads, margin=0.0, shape=(256, 256)):
    return beads[(np.abs(beads[:, 0]) < shape[1] / 2 - margin) & (np.abs(beads[:, 1]) < shape[0] / 2 - margin)]


def balls(shape, centres, radius, value):
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    out = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
    for cx, cy, cz in centres + (np.array(shape)[::-1] - 1) / 2:
        out[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < radius**2] += value
    return out


def test_beads_of_a_simulated_volume_are_found_and_nothing_else():
    true, found = within(series().beads_px, 2), find_beads_3d(volume(), RADIUS)
    assert (cKDTree(found.xyz).query(true)[0] < 1.0).all()
    assert (cKDTree(series().beads_px).query(found.xyz)[0] < 2.0).all()


@pytest.mark.parametrize(
    ("radius", "sign", "dtype"), [(2.0, -1.0, np.float32), (3.5, 1.0, np.int16), (8.0, -1.0, np.int16)]
)
def test_any_size_either_polarity_any_type_in_slabs(radius, sign, dtype, monkeypatch):
    monkeypatch.setattr("streamtomo.restore.beads3d.SLAB_VOXELS", 20_000)
    spots = np.array([[-30, 20, 10], [30, -20, -12], [25, 30, 18], [-35, -35, -20], [0, 0, 0.5]])
    voxels = 100 * balls((80, 120, 110), spots, radius, 6 * sign)
    found = find_beads_3d(voxels.astype(dtype), radius, sign=sign)
    assert len(found.xyz) == len(spots)
    assert cKDTree(found.xyz).query(spots)[0].max() < 0.35 * radius


def test_known_beads_tell_what_a_bead_is():
    spots = np.array([[-30, 20, 10], [30, -20, -12], [25, 30, 18.0]])
    weak = np.array([[-35, -35, -20.0], [0, 0, 0.0]])
    voxels = np.minimum(balls((80, 120, 110), spots, 4, -8.0), balls((80, 120, 110), weak, 4, -2.0))
    found = find_beads_3d(voxels, 4.0, known_xyz=spots[:2])
    assert cKDTree(spots).query(found.xyz)[0].max() < 1.5
    assert len(found.xyz) == 3


@pytest.mark.parametrize("seed", range(4))
def test_noise_holds_no_beads(seed):
    assert not len(find_beads_3d(np.random.default_rng(seed).normal(size=(40, 90, 90)), 4.0).xyz)
    assert not len(find_beads_3d(np.zeros((20, 30, 30), np.int16), 4.0).xyz)


def test_the_volume_keeps_no_trace():
    truth = series()
    erased = erase_gold(truth.stack, truth.tilts_deg, truth.beads_px, RADIUS)
    after, before = volume_of(erased.stack, truth.tilts_deg, 110), volume()
    assert RADIUS + 1 < erased.radius_px < 3 * RADIUS
    noise = after[40:70].std()
    cubes = []
    for x, y, z in within(truth.beads_px, 16) + (np.array(after.shape)[::-1] - 1) / 2:
        at = tuple(slice(round(c) - 8, round(c) + 9) for c in (z, y, x))
        assert before[at].min() < -8 * noise
        assert after[at].std() == pytest.approx(noise, rel=0.25)
        cubes.append(after[at])
    radius = np.linalg.norm(np.indices((17, 17, 17)) - 8, axis=0).astype(int)
    profile = [np.mean(cubes, axis=0)[radius == r].mean() for r in range(8)]
    assert np.abs(profile).max() < 0.3 * noise


def test_grain_has_the_spectrum_of_the_view():
    rng = np.random.default_rng(2)
    spectrum = np.fft.rfft2(rng.normal(size=(256, 256))) / (
        0.02 + np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256))
    )
    view = (50 + 0.1 * np.arange(256) + np.fft.irfft2(spectrum)).astype(np.float32)
    spots = np.array([(x, y) for x in range(30, 240, 45) for y in range(30, 240, 45)], float)
    filled = view.copy()
    fill_discs(filled, spots, 9.0, 5.0, rng)
    steps = [
        np.diff(image[round(y) - 4 : round(y) + 5, round(x) - 4 : round(x) + 5]).std()
        for image in (view, filled)
        for x, y in spots
    ]
    assert np.mean(steps[len(spots) :]) == pytest.approx(np.mean(steps[: len(spots)]), rel=0.1)
    moved = [np.abs(filled - view)[round(y), round(x)] for x, y in spots]
    assert np.mean(moved) < 3 * (view - filled.mean()).std()


def test_a_seed_decides_and_the_input_is_kept():
    truth = series()
    kept = truth.stack.copy()
    first, same, other = (
        erase_gold(truth.stack, truth.tilts_deg, truth.beads_px, RADIUS, seed=s).stack for s in (1, 1, 2)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert np.array_equal(truth.stack, kept)


def test_beads_at_edges_in_crowds_and_outside_are_borne():
    view = np.random.default_rng(0).normal(100, 5, (64, 80)).astype(np.float32)
    crowd = np.array([(x, y) for x in range(0, 81, 8) for y in range(0, 65, 8)], float)
    for spots in (np.array([[0, 0], [79.4, 63], [40, -3]]), crowd, np.array([[np.nan, np.nan]]), np.empty((0, 2))):
        out = view.copy()
        fill_discs(out, spots, 7.0, 3.0, np.random.default_rng(1))
        assert np.isfinite(out).all()
        assert np.abs(out - 100).max() < 60


def test_a_view_without_content_is_no_trouble():
    stack = np.full((3, 64, 64), 7.0, np.float32)
    erased = erase_gold(stack, [-10.0, 0.0, 10.0], np.array([[0.0, 0, 0], [500, 0, 0]]), 4.0)
    assert np.allclose(erased.stack, 7)
    assert np.isnan(erased.xy[:, 1]).all()


def test_the_edge_follows_the_fringes():
    y, x = np.ogrid[:128, :128]
    views = np.random.default_rng(0).normal(0, 1, (9, 128, 128)).astype(np.float32)
    distance = np.hypot(x - 64, y - 64)
    narrow, wide = views - 20 * (distance < 5), views - 20 * (distance < 5) + 6 * ((distance > 8) & (distance < 10))
    seen = [np.array([[64.0, 64.0]])] * 9
    assert found_edge(narrow, seen, 5.0) == pytest.approx(6, abs=1.0)
    assert found_edge(wide, seen, 5.0) == pytest.approx(10.5, abs=1.0)


def test_gold_from_beside_the_volume_goes_as_well():
    truth = series()
    inside = within(truth.beads_px, 2)
    beside = truth.beads_px[(np.abs(truth.beads_px[:, :2]) >= 126).any(axis=1)]
    erased = erase_gold(truth.stack, truth.tilts_deg, inside, RADIUS).stack
    seen = 0
    for before, after, tilt in zip(truth.stack, erased, truth.tilts_deg, strict=True):
        for x, y in within(np.pad(project(beside, tilt), ((0, 0), (0, 1))), 6)[:, :2] + 127.5:
            at = np.s_[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
            if before[at].mean() < 0.6 * np.median(before):  # where the drifting field reaches
                assert after[at].mean() > 0.8 * np.median(before)
                seen += 1
    assert seen > 5


def test_no_stray_beads_in_noise():
    view = np.random.default_rng(0).normal(100, 10, (200, 200)).astype(np.float32)
    spots = np.array([[40.0, 40], [100, 150], [160, 60]])
    y, x = np.ogrid[:200, :200]
    for cx, cy in spots:
        view[np.hypot(x - cx, y - cy) < 4] = 30
    assert len(stray_beads(view, spots, 4.0, -1.0)) == 0
    assert stray_beads(view, np.append(spots[:2], [[70.0, 70]], axis=0), 4.0, -1.0) == pytest.approx(
        np.array([[160, 60]]), abs=2
    )


def test_where_known_beads_are_lost_in_the_noise_noise_is_no_gold():
    view = np.random.default_rng(0).normal(100, 10, (400, 400)).astype(np.float32)
    known = np.array([[40.0, 40], [100, 150], [160, 60], [300, 200]])
    assert len(stray_beads(view, known, 4.0, -1.0)) == 0
