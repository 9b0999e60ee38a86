"""The kernels of back-projection and projection: accuracy, exact transposes, any affine view, integer sums."""

import numpy as np
import pytest

from streamtomo import geometry
from streamtomo.reconstruct.backproject import SD_COUNTS, Scaled, backproject, int16_counts, sum_limit
from streamtomo.reconstruct.project import project
from streamtomo.reconstruct.rays import Box, affine, single_axis, upright
from streamtomo.reconstruct.score import reprojection_without

RNG = np.random.default_rng(7)
TILTS = np.linspace(-60, 60, 41)


def ones(n):
    return np.ones(n, np.float32)


def waves(band, count=40):
    """Random waves within a band: frequencies in cycles per pixel, amplitudes, phases."""
    frequency = RNG.uniform(*band, count)
    return frequency, RNG.normal(size=count), RNG.uniform(0, 2 * np.pi, count)


def evaluate(wave, at):
    """The exact sum of the waves at any position."""
    frequency, height, phase = wave
    arguments = 2 * np.pi * frequency[:, None] * np.ravel(at)[None] + phase[:, None]
    return (height[:, None] * np.cos(arguments)).sum(axis=0).reshape(np.shape(at))


def rms_errors(band, tilt):
    """Relative errors of the kernel and of linear interpolation at every voxel, against band-limited evaluation."""
    nx, nz = 400, 241
    wave = waves(band)
    x = np.arange(nx) - geometry.centre(nx)
    view = evaluate(wave, x).astype(np.float32)
    terms = geometry.tilt_terms(tilt)
    at = x * terms.cos + (np.arange(nz)[:, None] - geometry.centre(nz)) * terms.sin
    inside = np.abs(at) < geometry.centre(nx) - 8
    exact, linear = evaluate(wave, at), np.interp(at, x, view)
    out = np.empty((1, nz, nx), np.float32)
    backproject(view[None, None], single_axis([tilt]), ones(1), out)
    signal = np.sqrt((exact[inside] ** 2).mean())
    return [float(np.sqrt(((one - exact)[inside] ** 2).mean()) / signal) for one in (out[0], linear)]


@pytest.mark.parametrize("tilt", [0.5, 30.0, 60.0])
def test_it_is_closer_to_band_limited_than_linear_interpolation(tilt):
    ours, _ = rms_errors((0.02, 0.125), tilt)
    assert ours <= 0.04
    for band in ((0.125, 0.25), (0.25, 0.4)):
        ours, linear = rms_errors(band, tilt)
        assert ours < linear


@pytest.mark.parametrize("tilts", [TILTS, np.array([45.0, 0.0, 0.01, -45.01, 80.0, 0.0]), np.array([33.0])])
def test_projection_is_the_exact_transpose(tilts):
    rays, n = single_axis(tilts, (3.3, -7.0)), len(tilts)
    voxels = RNG.normal(size=(19, 37, 100)).astype(np.float32)
    images = RNG.normal(size=(n, 19, 90)).astype(np.float32)
    back = np.empty_like(voxels)
    backproject(images, rays, ones(n), back, exact=True)
    forward = project(voxels, rays, 90)
    inner = float((forward.astype(np.float64) * images).sum())
    size = float(np.linalg.norm(back) * np.linalg.norm(voxels))
    assert abs(inner - float((back.astype(np.float64) * voxels).sum())) < 1e-7 * size
    assert abs(inner) > 1e-4 * size, "it compares something"


def leaning_views(n):
    """Projections that rotate, magnify, skew and lean along y: `(n, 2, 3)`."""
    axes = [
        geometry.project(np.eye(3), tilt, xtilt).T
        for tilt, xtilt in zip(TILTS[::4], np.linspace(2, 6, n), strict=False)
    ]
    turns = [
        geometry.rotation(angle) * mag
        for angle, mag in zip(np.linspace(-9, 9, n), np.linspace(0.97, 1.04, n), strict=True)
    ]
    return np.stack([turn @ axis for turn, axis in zip(turns, axes, strict=False)])


@pytest.mark.parametrize("views", [2, 9])
def test_projection_is_the_transpose_for_leaning_rays(views):
    rays, _ = affine(leaning_views(9)[-views:], (0, 0, 0))
    voxels = RNG.normal(size=(6, 37, 60)).astype(np.float32)
    forward = project(voxels, rays, 64)
    images = RNG.normal(size=forward.shape).astype(np.float32)
    back = np.empty_like(voxels)
    backproject(images, rays, ones(views), back, exact=True)
    inner = float((forward.astype(np.float64) * images).sum())
    assert inner == pytest.approx(float((back.astype(np.float64) * voxels).sum()), rel=1e-5, abs=1e-2)


def test_a_slab_projects_to_its_path():
    voxels = np.ones((2, 20, 400), np.float32)
    tilts = np.array([-60.0, -20.0, 0.0, 45.0])
    middle = project(voxels, single_axis(tilts), 120)[:, :, 50:70]
    assert middle.mean(axis=(1, 2)) == pytest.approx(20 * geometry.thickness_path(tilts), rel=0.01)


def blob(shape, at, width=2.0):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    dx, dy = columns - geometry.centre(shape[1]) - at[0], rows - geometry.centre(shape[0]) - at[1]
    return np.exp(-(dx**2 + dy**2) / (2 * width**2)).astype(np.float32)


def centroid_xyz(voxels):
    """Centre of the strongest blob of `(ny, nz, nx)`, from the box's centre."""
    top = np.unravel_index(np.argmax(voxels), voxels.shape)
    low = [max(0, t - 3) for t in top]
    part = voxels[tuple(slice(a, b + 4) for a, b in zip(low, top, strict=True))].astype(np.float64)
    part = np.clip(part - 0.5 * part.max(), 0, None)
    y, z, x = ((part * index).sum() / part.sum() + a for index, a in zip(np.indices(part.shape), low, strict=True))
    ny, nz, nx = voxels.shape
    return x - geometry.centre(nx), y - geometry.centre(ny), z - geometry.centre(nz)


@pytest.mark.parametrize("bead", [(11.0, 6.0, 8.0), (-9.0, -12.0, -7.0), (3.0, 14.0, -10.0)])
def test_any_affine_view_finds_a_bead_in_any_box(bead):
    """Rotated, magnified, with an x-axis tilt of its own for each view, in a box off the centre."""
    matrices = leaning_views(11)
    centre = (4.0, -3.5, 2.25)
    images = [blob((70, 80), matrix @ bead) for matrix in matrices]
    box = Box(41, 48, 50, centre)
    rays, moves = affine(matrices, centre)
    voxels = np.empty((box.ny, box.nz, box.nx), np.float32)
    backproject(upright(images, moves, rays, box), rays, ones(len(images)), voxels)
    assert centroid_xyz(voxels) == pytest.approx(np.subtract(bead, centre), abs=0.15)


def test_integer_sums_are_float_sums_to_a_hundredth():
    images = RNG.normal(size=(41, 20, 90)).astype(np.float32)
    gains = RNG.uniform(0.5, 1.5, 41).astype(np.float32)
    assert int16_counts(images, gains) > 0
    exact, quick = np.empty((20, 30, 90), np.float32), np.empty((20, 30, 90), np.float32)
    backproject(images, single_axis(TILTS), gains, exact, exact=True)
    backproject(images, single_axis(TILTS), gains, quick)
    assert 0 < np.abs(quick - exact).std() < 0.01 * exact.std()


def test_integer_sums_only_where_nothing_is_lost():
    noise = RNG.normal(size=(41, 40, 200)).astype(np.float32)
    counts = int16_counts(noise, ones(41))
    assert counts == pytest.approx(SD_COUNTS, rel=0.05)
    gold = noise.copy()
    gold[:, 10:13, 50:53] = -30.0
    assert int16_counts(gold, ones(41)) == 0.0, "strong gold"
    assert int16_counts(np.repeat(noise, 4, axis=0), ones(164)) == 0.0, "many views"
    assert int16_counts(np.zeros_like(noise), ones(41)) == 0.0, "nothing"
    assert sum_limit(41) * 41 <= 32767


def test_the_worst_case_does_not_overflow():
    """Every view at its limit at one voxel."""
    images = RNG.normal(size=(41, 4, 4000)).astype(np.float32)
    images[:, 0, 2000] = 1e6
    images *= 1 / images.std()
    out = np.empty((4, 9, 300), np.float32)
    backproject(images, single_axis(np.zeros(41)), ones(41), out)
    assert out[0, 4, 150] > 0
    assert np.isfinite(out).all()


def test_integer_voxels_are_scaled_rounded_and_turned():
    images = RNG.normal(size=(9, 12, 50)).astype(np.float32)
    rays, gain = single_axis(TILTS[::5]), RNG.uniform(0.5, 2, (10, 40)).astype(np.float32)
    plain, turned = np.empty((12, 10, 40), np.float32), np.zeros((10, 12, 40), np.int16)
    backproject(images, rays, ones(9), plain, exact=True)
    backproject(images, rays, ones(9), turned.transpose(1, 0, 2), scaled=Scaled(1e4, 50.0, gain), exact=True)
    expected = np.clip(np.rint(plain * gain * 1e4 + 50), -32768, 32767).transpose(1, 0, 2)
    assert np.abs(turned - expected).max() <= 1
    assert (np.abs(turned) == 32767).any(), "clipped, not wrapped"


def test_the_number_of_threads_does_not_matter():
    from streamtomo import jit

    images = RNG.normal(size=(17, 40, 64)).astype(np.float32)
    results = []
    for count in (1, 2):
        jit.use_threads(count)
        out = np.empty((40, 16, 64), np.float32)
        backproject(images, single_axis(TILTS[:17]), ones(17), out)
        results.append(out)
    jit.use_threads(None)
    assert (results[0] == results[1]).all()


@pytest.mark.parametrize("tilt", [-60.0, 0.0, 17.0])
def test_a_view_is_taken_out_of_a_volume_exactly(tilt):
    """The shortcut is what projecting the volume without the view gives."""
    views = RNG.normal(size=(5, 20, 70)).astype(np.float32)
    tilts = [-60.0, -20.0, 0.0, 17.0, 50.0]
    number = tilts.index(tilt)
    everything, others = np.empty((20, 26, 64), np.float32), np.empty((20, 26, 64), np.float32)
    backproject(views, single_axis(tilts), ones(5), everything, exact=True)
    weights = ones(5)
    weights[number] = 0
    backproject(views, single_axis(tilts), weights, others, exact=True)
    rays = single_axis([tilt])
    expected = project(others, rays, 70)[0]
    assert reprojection_without(everything, views[number], rays, block_rows=8) == pytest.approx(expected, abs=2e-4)
