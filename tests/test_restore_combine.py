"""Two axes: beads matched whatever is missing, and a volume that is better than either in every band."""

import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from _restoration_truth import density, make, shells, square_specimen, volume_of

from streamtomo.restore.combine import Agreement, Field, combined_bands, sampled, sampling
from streamtomo.restore.match import match_beads, turn_about_z
from streamtomo.restore.patches3d import match_patches
from streamtomo.restore.resample3d import resample
from streamtomo.simulate.series import Plan
from streamtomo.simulate.specimen import Recipe, turned

SIZE, NZ, PIXEL_NM = 160, 60, 1.08
MOVED = (4.0, -6.0, 3.0)
TURN = 87.0


@lru_cache
def both():
    """Volumes about two axes, each as it lies, and the density that the first shows."""
    recipe = Recipe(thickness_nm=45.0, beads=0, vesicles_per_um2=0)
    plan = Plan(tuple(float(t) for t in range(-60, 61, 4)), (SIZE, SIZE), axis_deg=0, recipe=recipe, hot=0, xrays=0)
    specimen = square_specimen(plan)
    series = [make(plan, specimen), make(plan, turned(specimen, -TURN, np.array(MOVED) * PIXEL_NM))]
    volumes = [volume_of(one.stack, one.tilts_deg, NZ) for one in series]
    return *volumes, density(specimen, volumes[0].shape, PIXEL_NM), series[0].tilts_deg


def in_first(b):
    """The second volume as the first lies."""
    back = turn_about_z(-TURN)
    centre = (np.array(b.shape[::-1]) - 1) / 2
    out = np.empty_like(b)
    resample(b, np.column_stack([back, centre - back @ centre + MOVED]), out, np.empty(b.shape, bool))
    return out


def seen(tilts):
    return sampling(tilts, NZ), sampling(tilts, NZ, turn_about_z(-TURN))


def joined(*args):
    return np.concatenate([band for _, band in combined_bands(*args)], axis=1)


def test_both_together_are_nearer_to_the_truth_in_every_band(monkeypatch):
    monkeypatch.setattr("streamtomo.restore.combine.BLOCK_VOXELS", 1e6)
    monkeypatch.setattr("streamtomo.restore.combine.BAND_ROWS", 70)
    a, b, truth, tilts = both()
    agreement = Agreement()
    together = joined(a, in_first(b), *seen(tilts), None, agreement)
    assert together.shape == a.shape
    own, other, combined = (shells(v, truth)[:8] for v in (a, in_first(b), together))
    assert (combined[1:] > np.maximum(own, other)[1:]).all()
    assert (combined - np.maximum(own, other)).mean() > 0.04
    assert min(agreement.shells[1:4]) > 0.5
    assert max(np.abs(agreement.shells[14:])) < 0.1


def test_the_wedge_becomes_a_pyramid():
    a, b, _, tilts = both()
    together = joined(a, in_first(b), *seen(tilts))
    power = {name: np.abs(np.fft.rfftn(v)) ** 2 for name, v in (("a", a), ("both", together))}
    # Steep and along x: missing in the first alone. Steep and along y: in the second alone, which is turned.
    kz, ky, kx = np.meshgrid(np.fft.fftfreq(NZ), np.fft.fftfreq(SIZE), np.fft.rfftfreq(SIZE), indexing="ij")
    band = (np.hypot(np.hypot(kx, ky), kz) > 0.05) & (np.hypot(np.hypot(kx, ky), kz) < 0.3)
    wedge = band & (abs(kz) > 2.5 * abs(kx)) & (abs(kz) < 1.2 * abs(ky))
    pyramid = band & (abs(kz) > 3 * abs(kx)) & (abs(kz) > 3 * abs(ky))
    assert power["both"][wedge].mean() > 5 * power["a"][wedge].mean()
    assert power["both"][pyramid].mean() < 0.2 * power["both"][wedge].mean()


def test_a_volume_with_itself_is_itself_and_blocks_leave_no_seams(monkeypatch):
    a, b, _, tilts = both()
    rounded = np.rint(a / a.std() * 1000).astype(np.int16)
    same = sampling(tilts, NZ)
    assert np.abs(joined(rounded, 3 * rounded - 5, same, same) - rounded).max() < 15
    whole = joined(a, in_first(b), *seen(tilts))
    monkeypatch.setattr("streamtomo.restore.combine.BLOCK_VOXELS", 1e6)
    monkeypatch.setattr("streamtomo.restore.combine.BAND_ROWS", 70)
    parts = joined(a, in_first(b), *seen(tilts))
    assert np.abs(parts - whole)[:, 60:80].std() < 0.1 * whole.std()


def test_beyond_the_second_field_the_first_stays_as_it_is():
    a, b, _, tilts = both()
    field = Field(np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]), (30.0, SIZE))
    together = joined(a, in_first(b), *seen(tilts), field)
    assert np.array_equal(together[:, :, :50], a[:, :, :50])
    assert not np.allclose(together[:, :, 60:100], a[:, :, 60:100])
    with pytest.raises(ValueError, match="the same"):
        joined(a, b[1:], *seen(tilts))


@pytest.mark.parametrize(("turn", "reach"), [(0.0, 180.0), (90.0, 10.0)])
def test_without_gold_patches_tell_how_one_lies_in_the_other(turn, reach):
    a, b, _, _ = both()
    found = match_patches(a, b, turn, reach_deg=reach)
    probe = np.random.default_rng(0).uniform(-0.5, 0.5, (30, 3)) * (SIZE, SIZE, NZ)
    true = (probe - MOVED) @ turn_about_z(TURN).T
    assert np.abs(probe @ found.matrix.T + found.shift - true).max() < 0.6
    assert found.residual_px < 0.5
    assert len(found.pairs) >= 8


def test_other_areas_do_not_match():
    a = both()[0]
    other = np.random.default_rng(0).normal(0, a.std(), a.shape).astype(np.float32)
    with pytest.raises(ValueError, match="agree"):
        match_patches(a, other)


def test_what_a_range_of_tilts_samples():
    seen = sampling([-60.0, -30.0, 0.0, 30.0, 60.0], 1000)
    assert seen[:2] == (-75.0, 75.0)
    angles = np.radians([-80, -70, 0, 70, 80, 100, 110])
    found = sampled(0.3 * np.cos(angles), 0.3 * np.sin(angles), seen)
    assert np.allclose(found, [1e-3, 1, 1, 1, 1e-3, 1e-3, 1])
    tilted = sampling(np.arange(-40.0, 61, 2), 1000)
    assert sampled(np.array([0.2]), np.array([0.2 * np.tan(np.radians(55))]), tilted) == pytest.approx(1)
    assert sampled(np.array([0.2]), np.array([-0.2 * np.tan(np.radians(55))]), tilted) == pytest.approx(1e-3)


def beads(count=25, seed=0, field=(900, 900)):
    rng = np.random.default_rng(seed)
    z = rng.choice([-70, 70], count) + rng.normal(0, 8, count)
    return np.column_stack([rng.uniform(-0.5, 0.5, (count, 2)) * field, z])


@pytest.mark.parametrize("turn", [90.0, -85.0, 4.0])
@pytest.mark.parametrize("error", [-7.0, 0.0, 8.0])
def test_beads_are_matched_with_strays_errors_and_stretch(turn, error):
    rng = np.random.default_rng(int(abs(turn + error)))
    b = beads()
    matrix = turn_about_z(turn + error) @ np.diag([1.004, 0.997, 1.0])
    shift = np.array([37.0, -58.0, 12.0])
    a = b @ matrix.T + shift + rng.normal(0, 0.4, b.shape)
    a = np.concatenate([a[4:], beads(6, 7)])
    order = rng.permutation(len(a))
    found = match_beads(a[order], np.concatenate([b[:-3], beads(5, 9)]), turn)
    true = {(int(np.flatnonzero(order == i - 4)[0]), i) for i in range(4, 22)}
    assert len(true & {tuple(pair) for pair in found.pairs}) >= 17
    assert len(found.pairs) <= 19
    probe = beads(50, 3)
    assert np.linalg.norm(probe @ (found.matrix - matrix).T + found.shift - shift, axis=1).max() < 1.5
    assert 0.3 < found.residual_px < 1.1 < 4 * found.residual_px
    assert found.largest_px < 6


def test_beads_of_other_areas_are_no_match():
    with pytest.raises(ValueError, match="beads of the two axes agree"):
        match_beads(beads(12, 1), beads(12, 2), 90.0, tolerance_px=3.0)
    with pytest.raises(ValueError, match="too few"):
        match_beads(beads(2), beads(12), 90.0)
    with pytest.raises(ValueError, match="agree"):
        match_beads(beads(40, 1), beads(40, 2), 0.0, reach_deg=180.0)


def test_a_turn_that_nobody_knows_is_found():
    b = beads()
    a = b[3:] @ turn_about_z(-91.0).T + (30.0, -12.0, 4.0)
    found = match_beads(a, b[:-2], 0.0, reach_deg=180.0)
    assert len(found.pairs) == 20
    assert np.abs(found.matrix - turn_about_z(-91.0)).max() < 0.001


def test_resampling_by_whole_voxels_is_exact():
    volume = np.random.default_rng(0).normal(size=(9, 11, 13)).astype(np.float32)
    out, inside = np.empty_like(volume), np.empty(volume.shape, bool)
    table = np.array([[0.0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 2]])
    resample(volume, table, out, inside)
    assert np.allclose(out[2, 4, 5], volume[4, 5, 5])
    assert not inside[8].any()
    assert inside[0, :11, :9].all()
