"""The live volume: what it shows is what a batch of the same placements gives, and it gets better view by view."""

from itertools import chain, repeat

import numpy as np
import pytest
from simulated import TILTS, simulated

from streamtomo import geometry
from streamtomo.correct.binning import bin_image
from streamtomo.reconstruct.backproject import backproject
from streamtomo.reconstruct.live import LiveVolume
from streamtomo.reconstruct.rays import single_axis
from streamtomo.reconstruct.slabs import central_slabs
from streamtomo.reconstruct.weights import angular_weights

SHAPE = (48, 96, 96)
BINNING = 4


@pytest.fixture(scope="module")
def series():
    """Images `(96, 96)`, angles, true transforms to the aligned views, in the order of acquisition by angle."""
    made = simulated(beads=10, dose=20.0)
    images = [bin_image(view.image, BINNING) for view in made.views]
    moves = [geometry.raw_to_aligned(20.0, true.shift_xy) for true in made.true]
    return images, list(TILTS), [geometry.rescale(move, BINNING) for move in moves]


def exact():
    """An empty volume of float32 voxels."""
    volume = LiveVolume(SHAPE)
    volume.recall([], [], np.zeros((SHAPE[1], SHAPE[0], SHAPE[2]), np.float32))
    return volume


def filled(series, order, moves=None, volume=None):
    images, tilts, true = series
    volume = volume or LiveVolume(SHAPE)
    for n in order:
        volume.add(images[n], tilts[n], (moves or true)[n])
    return volume


@pytest.mark.parametrize(("kind", "tolerance"), [(np.float32, 1e-5), (np.int16, 0.01)])
def test_after_a_rebuild_it_is_the_batch_result_in_any_order(series, kind, tolerance):
    """int16 voxels are rounded: by a hundredth of what they vary by, at the most."""
    _, tilts, _ = series
    order = np.random.default_rng(3).permutation(len(tilts))
    volume = filled(series, order, volume=exact() if kind == np.float32 else None)
    assert volume.voxels().dtype == kind
    shown_first = volume.snapshot()
    assert volume.rebuild(lambda: False)
    views = np.stack([filled(series, [n]).filtered(0) for n in range(len(tilts))])
    batch = np.empty((SHAPE[1], SHAPE[0], SHAPE[2]), np.float32)
    gains = angular_weights(tilts).astype(np.float32)
    backproject(views, single_axis(tilts), gains, batch, exact=True)
    differs = volume.snapshot().transpose(1, 0, 2) - batch
    assert differs.std() < tolerance * batch.std()
    assert np.abs(differs).max() < 10 * tolerance * batch.std()
    assert np.abs(shown_first - volume.snapshot()).max() > 0.01, "before, each view had the sector of its time"


def test_views_that_are_placed_anew_are_shown_where_they_are(series):
    images, tilts, moves = series
    rng = np.random.default_rng(4)
    wrong = [geometry.compose(move, geometry.translation(*rng.normal(0, 4, 2))) for move in moves]
    order = list(rng.permutation(len(tilts)))
    volume = filled(series, order, wrong)
    volume.rebuild(lambda: False)
    before = volume.snapshot()
    for number, n in enumerate(order):
        volume.place(number, images[n], tilts[n], moves[n])
    assert (volume.snapshot() == before).all(), "nothing is shown half made"
    answers = chain([False, False], repeat(True))
    assert not volume.rebuild(lambda: next(answers))
    assert (volume.snapshot() == before).all()
    volume.rebuild(lambda: False)
    right = filled(series, range(len(tilts)))
    right.rebuild(lambda: False)
    assert np.abs(volume.snapshot() - right.snapshot()).max() < 1.5 / volume.counts
    assert np.abs(before - right.snapshot()).max() > 0.01


def test_a_volume_recalled_is_the_volume(series):
    volume = filled(series, range(10))
    again = LiveVolume(SHAPE)
    views = [volume.filtered(n) for n in range(10)]
    again.recall(views, list(series[1][:10]), volume.voxels().copy(), volume.counts)
    for one in (volume, again):
        one.add(series[0][10], series[1][10], series[2][10])
        one.rebuild(lambda: False)
    assert (again.snapshot() == volume.snapshot()).all()


def test_int16_voxels_show_what_float32_ones_do_view_by_view(series):
    rounded, whole = (filled(series, range(20), volume=volume) for volume in (LiveVolume(SHAPE), exact()))
    assert (rounded.voxels().dtype, whole.voxels().dtype) == (np.int16, np.float32)
    assert rounded.nbytes < whole.nbytes
    for shown, expected in zip(rounded.central_slabs(), whole.central_slabs(), strict=True):
        assert np.abs(shown - expected).max() < 0.03 * expected.std()
    for volume in (rounded, whole):
        volume.rebuild(lambda: False)
    seen = [volume.leave_one_out(7, series[0][7], series[2][7], lambda: False) for volume in (rounded, whole)]
    assert seen[0] == pytest.approx(seen[1], abs=2e-3)


def test_a_view_too_strong_for_int16_makes_the_voxels_float32_and_changes_none_of_them(series):
    images, tilts, _ = series
    volume = filled(series, range(3))
    before = volume.snapshot()
    gold = images[3].copy()
    gold[44, 52] -= 3000 * gold.std()
    volume.add(gold, tilts[3], geometry.IDENTITY)
    assert volume.voxels().dtype == np.float32
    shown, again = volume.snapshot(), LiveVolume(SHAPE)
    again.recall([volume.filtered(n) for n in range(4)], list(tilts[:4]))
    assert again.voxels().dtype == np.float32
    assert volume.rebuild(lambda: False)
    assert (again.snapshot() == volume.snapshot()).all()
    others = filled(series, range(3), volume=exact()).snapshot()
    assert np.abs(before - others).max() < 0.05 * others.std()
    with_gold = filled(series, range(3), volume=exact())
    with_gold.add(gold, tilts[3], geometry.IDENTITY)
    assert np.abs(shown - with_gold.snapshot()).max() < 0.05 * others.std()


def test_voxels_that_are_full_do_not_begin_again_at_the_other_end(series):
    volume = LiveVolume(SHAPE)
    volume.recall([], [], np.full((SHAPE[1], SHAPE[0], SHAPE[2]), 32760, np.int16))
    volume.add(series[0][15], series[1][15], series[2][15])
    assert volume.voxels().max() == 32767
    assert volume.voxels().min() > 0


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_the_slabs_shown_are_means_of_the_middle(kind):
    voxels = np.random.default_rng(5).normal(0, 900, (30, 49, 40)).astype(kind)
    xy, xz, yz = central_slabs(voxels, 0.5)
    assert xy == pytest.approx(0.5 * voxels[:, 23:26].mean(axis=1), abs=0.01)
    assert xz == pytest.approx(0.5 * voxels[14:17].mean(axis=0), abs=0.01)
    assert yz == pytest.approx(0.5 * voxels[:, :, 19:22].mean(axis=2).T, abs=0.01)


def correlation(volume, truth):
    inner = (slice(6, -6), slice(10, -10), slice(10, -10))
    return float(np.corrcoef(volume.snapshot()[inner].ravel(), truth[inner].ravel())[0, 1])


def test_it_gets_better_with_every_few_views(series):
    """Against the volume of all views with the true geometry."""
    everything = filled(series, range(len(series[1])))
    everything.rebuild(lambda: False)
    order = sorted(range(len(series[1])), key=lambda n: abs(series[1][n]))
    scores = []
    for count in (3, 8, 16, 31):
        volume = filled(series, order[:count])
        volume.rebuild(lambda: False)
        scores.append(correlation(volume, everything.snapshot()))
    assert scores == sorted(scores)
    assert scores[0] < 0.9 < 0.999 < scores[-1]


def test_a_view_that_shows_something_else_agrees_least(series):
    images, tilts, moves = series
    lost = 12
    shown = [images[n] if n != lost else np.ascontiguousarray(images[n][::-1, ::-1]) for n in range(len(tilts))]
    moved = [
        move if n != 20 else geometry.compose(move, geometry.translation(5.0, 3.0)) for n, move in enumerate(moves)
    ]
    volume = filled((shown, tilts, moved), range(len(tilts)))
    volume.rebuild(lambda: False)
    before = volume.snapshot()
    scores = np.array([volume.leave_one_out(n, shown[n], moved[n], lambda: False) for n in range(len(tilts))])
    good = np.delete(scores, [lost, 20])
    assert scores[lost] < 0.3
    assert max(scores[lost], scores[20]) < good.min()
    assert np.median(good) > 0.6
    assert (volume.snapshot() == before).all()


def test_an_empty_volume_can_be_rebuilt():
    assert LiveVolume((8, 16, 16)).rebuild(lambda: False)
