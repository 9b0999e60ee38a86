"""Back-projection: single beads at known places, a slow reference, and stream == batch."""

import itertools

import numpy as np
import pytest

from streamtomo import geometry
from streamtomo.reconstruct import backproject as kernels
from streamtomo.reconstruct.accumulate import add_view
from streamtomo.reconstruct.backproject import Scratch
from streamtomo.reconstruct.filters import Filtering, filter_rows, radial_filter, row_filter
from streamtomo.reconstruct.live import LiveVolume
from streamtomo.reconstruct.rays import single_axis
from streamtomo.reconstruct.wbp import reconstruct
from streamtomo.reconstruct.weights import angular_weights

RADIAL = Filtering(0.35, 0.05)
RNG = np.random.default_rng(5)
TILTS = [float(t) for t in range(-60, 61, 3)]


def backproject(views, tilts, volume, exact=True):
    """Views of equal weight into the volume."""
    gains = np.ones(len(views), np.float32)
    kernels.backproject(views, single_axis(tilts), gains, volume, exact=exact)


def blob(shape, x, y, width=1.5):
    """A Gaussian at `(x, y)` from the centre of an image."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    dx, dy = columns - geometry.centre(shape[1]) - x, rows - geometry.centre(shape[0]) - y
    return np.exp(-(dx**2 + dy**2) / (2 * width**2)).astype(np.float32)


def raw_view(shape, bead, tilt, axis, shift):
    """A bead at `(X, Y, Z)` as the camera sees it: the projection formula of the conventions, by hand."""
    x, y, z = bead
    t, p = np.radians(tilt), np.radians(axis)
    xt, yt = x * np.cos(t) + z * np.sin(t), y
    return blob(shape, np.cos(p) * xt - np.sin(p) * yt + shift[0], np.sin(p) * xt + np.cos(p) * yt + shift[1])


def peak_zyx(volume):
    """Centre of mass round the highest voxel, from the volume's centre, in X, Y, Z."""
    top = np.array(np.unravel_index(np.argmax(volume), volume.shape))
    low = np.maximum(top - 2, 0)
    box = volume[tuple(slice(a, b + 3) for a, b in zip(low, top, strict=True))].astype(np.float64)
    box = np.clip(box - 0.3 * box.max(), 0, None)
    where = [float((box * index).sum() / box.sum()) for index in np.indices(box.shape)]
    z, y, x = (a + b - geometry.centre(n) for a, b, n in zip(low, where, volume.shape, strict=True))
    return x, y, z


@pytest.mark.parametrize("axis", [0.0, -12.0, 85.3, 175.0])
@pytest.mark.parametrize("bead", [(12.0, 7.0, 9.0), (-14.0, 5.0, -8.0), (3.0, -16.0, 11.0)])
def test_a_bead_is_found_where_it_is(axis, bead):
    """All signs: X across, Y along the axis, Z up, for any axis, with every view shifted."""
    volume = LiveVolume((40, 64, 60))
    for tilt in TILTS:
        shift = RNG.normal(0, 3, 2)
        image = raw_view((72, 80), bead, tilt, axis, shift)
        volume.add(image, tilt, geometry.raw_to_aligned(axis, shift))
    volume.rebuild(lambda: False)
    assert peak_zyx(volume.snapshot()) == pytest.approx(bead, abs=0.2)


def slow(views, tilts, shape_yzx):
    """Direct evaluation with linear interpolation."""
    ny, nz, nx = shape_yzx
    volume = np.zeros(shape_yzx)
    x = np.arange(nx) - geometry.centre(nx)
    for view, tilt in zip(views, tilts, strict=True):
        terms = geometry.tilt_terms(tilt)
        for z in range(nz):
            at = x * terms.cos + (z - geometry.centre(nz)) * terms.sin + geometry.centre(nx)
            for y in range(ny):
                volume[y, z] += np.interp(at, np.arange(nx), view[y], left=0.0, right=0.0)
    return volume


@pytest.mark.parametrize("count", [1, 7, 8, 19])
def test_the_kernel_is_the_sum_over_views(count):
    tilts = np.linspace(-64, 57, count) if count > 1 else [33.0]
    smooth = [blob((3, 90), x, 0, 4.0) for x in RNG.uniform(-20, 20, count)]
    views = np.stack(smooth)
    volume = np.zeros((3, 25, 90), np.float32)
    backproject(views, tilts, volume)
    expected = slow(views, tilts, volume.shape)
    assert np.abs(volume - expected).max() < 0.02 * expected.max()


def test_views_added_one_by_one_are_their_back_projection():
    views = RNG.normal(size=(9, 4, 30)).astype(np.float32)
    tilts = np.linspace(-40, 40, 9)
    once, twice = np.zeros((4, 8, 30), np.float32), np.zeros((4, 8, 30), np.float32)
    backproject(views, tilts, once)
    for view, tilt in zip(views, tilts, strict=True):
        add_view(view, single_axis([tilt]), 1.0, twice, Scratch())
    assert twice == pytest.approx(once, abs=1e-4)


def test_high_frequencies_survive():
    """Better than linear interpolation: a wave of 0.3 cycles a pixel keeps most of its height."""
    x = np.arange(200) - geometry.centre(200)
    view = np.cos(2 * np.pi * 0.3 * x).astype(np.float32)[None, None]
    volume = np.zeros((1, 21, 200), np.float32)
    backproject(np.ascontiguousarray(view), [20.0], volume)
    terms = geometry.tilt_terms(20.0)
    z = np.arange(21)[:, None] - geometry.centre(21)
    expected = np.cos(2 * np.pi * 0.3 * (x * terms.cos + z * terms.sin))
    inner = (slice(None), slice(20, -20))
    kept = (volume[0][inner] * expected[inner]).mean() / (expected[inner] ** 2).mean()
    assert kept > 0.9


def test_stream_is_batch_in_any_order():
    images = [blob((48, 48), x, 4.0) + RNG.normal(0, 0.1, (48, 48)).astype(np.float32) for x in range(-6, 7)]
    tilts = [5.0 * k for k in range(-6, 7)]
    volumes = []
    for order in (range(13), reversed(range(13)), RNG.permutation(13)):
        volume = LiveVolume((16, 48, 48))
        for n in order:
            volume.add(images[n], tilts[n], geometry.IDENTITY)
        assert volume.rebuild(lambda: False)
        volumes.append(volume)
    rounding = max(1 / volume.counts for volume in volumes)
    for other in volumes[1:]:
        assert np.abs(other.snapshot() - volumes[0].snapshot()).max() < 2 * rounding


def test_an_interrupted_rebuild_changes_nothing():
    volume = LiveVolume((16, 96, 48))
    for tilt in (-20.0, 0.0, 20.0):
        volume.add(blob((96, 48), 3.0, 2.0), tilt, geometry.IDENTITY)
    before = volume.snapshot()
    answers = itertools.chain([False], itertools.repeat(True))
    assert not volume.rebuild(lambda: next(answers))
    assert (volume.snapshot() == before).all()


def test_slabs_are_the_whole():
    stack = RNG.normal(100, 5, (11, 30, 40)).astype(np.float32)
    tilts = np.linspace(-50, 50, 11)
    whole = np.concatenate([slab for _, slab in reconstruct(stack, tilts, 12, filtering=RADIAL, exact=True)])
    pieces = reconstruct(stack, tilts, 12, filtering=RADIAL, rows_per_slab=7, exact=True)
    parts = np.concatenate([slab for _, slab in pieces])
    assert whole.shape == (30, 12, 40)
    assert parts == pytest.approx(whole, abs=1e-5)


def test_density_does_not_depend_on_the_number_of_views():
    """A bead's height in the volume is the same from 2° and from 4° steps."""
    heights = []
    for step in (2.0, 4.0):
        tilts = np.arange(-60.0, 61.0, step)
        stack = np.stack([blob((9, 80), 0.0, 0.0, 3.0) for _ in tilts])
        slabs = [slab for _, slab in reconstruct(stack, tilts, 21, filtering=RADIAL)]
        heights.append(np.concatenate(slabs).max())
    assert heights[1] == pytest.approx(heights[0], rel=0.03)


def test_views_stand_for_their_sectors():
    even = angular_weights([-3.0, 0.0, 3.0, 6.0])
    assert even == pytest.approx(np.radians([3.0] * 4))
    assert angular_weights([0.0, 0.0, 2.0, 4.0]) == pytest.approx(np.radians([1.0, 1.0, 2.0, 2.0])), "repeats share"
    gap = angular_weights([-4.0, -2.0, 0.0, 20.0, 22.0, 24.0])
    assert gap[2] < np.radians(5.0), "a gap does not blow up its neighbours"
    shuffled = angular_weights([6.0, -3.0, 3.0, 0.0])
    assert shuffled == pytest.approx(even)
    assert angular_weights([7.0]) == pytest.approx([np.pi])


def test_the_filter_rises_and_falls():
    response = radial_filter(1000, RADIAL)
    assert response[100] == pytest.approx(0.1)
    assert response[350] == pytest.approx(0.35)
    assert response[400] == pytest.approx(0.35 * np.exp(-1), rel=1e-4)
    assert response[0] > 0


def test_rows_with_a_slope_do_not_ring_at_their_ends():
    rows = np.linspace(0, 100, 256, dtype=np.float32)[None]
    filtered = filter_rows(rows, row_filter(256, RADIAL))
    assert np.abs(filtered[0, 20:-20]).max() < 0.5
