"""Diffusion: the heat kernel where no edge is, edges kept, noise gone, the same in slabs."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from streamtomo.restore.denoise import ITERATION, Diffusion, default_k, diffuse, diffused_slabs, preview


def noise(shape=(20, 40, 60), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def shells(shape=(40, 64, 64)):
    """Vesicles and a slab with sharp edges, 0 and 1."""
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    volume = np.zeros(shape, np.float32)
    for cz, cy, cx, r in ((20, 20, 20, 12), (18, 44, 42, 14)):
        distance = np.sqrt((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2)
        volume += np.abs(distance - r) < 2.5
    return volume


def likeness(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_far_below_k_it_is_a_gaussian():
    volume = noise()
    found = diffuse(volume, Diffusion(k=1e4, iterations=12))
    expected = gaussian_filter(volume, np.sqrt(2 * ITERATION * 12), mode="nearest")
    assert likeness(found, expected) > 0.97
    assert found.std() == pytest.approx(expected.std(), rel=0.1)


def test_the_mean_stays_and_nothing_overshoots():
    volume = 50 + 3 * noise()
    found = diffuse(volume, Diffusion(k=1.0, iterations=20))
    assert found.mean() == pytest.approx(volume.mean(), abs=0.02)
    assert volume.min() < found.min() < found.max() < volume.max()


@pytest.mark.parametrize("axis", range(3))
def test_an_edge_far_above_k_stays_whatever_its_axis(axis):
    volume = np.zeros((24, 24, 24), np.float32)
    np.moveaxis(volume, axis, 0)[12:] = 10.0
    found = np.moveaxis(diffuse(volume, Diffusion(k=0.5, iterations=20)), axis, 0)
    assert found[13:].mean() - found[:11].mean() == pytest.approx(10, abs=0.01)
    assert (found[12] - found[11]).min() > 9


def test_it_comes_nearer_to_the_truth_than_any_gaussian():
    truth = shells()
    volume = truth + 0.8 * noise(truth.shape)
    best = max(likeness(gaussian_filter(volume, s), truth) for s in (0.7, 1.0, 1.3, 1.6, 2.0))
    how = Diffusion(default_k(volume), iterations=12)
    assert likeness(diffuse(volume, how), truth) > best


def test_slabs_are_the_whole(monkeypatch):
    volume = shells((24, 90, 30)) + noise((24, 90, 30))
    how = Diffusion(default_k(volume), iterations=9)
    monkeypatch.setattr("streamtomo.restore.denoise.SLAB_VOXELS", 24 * 30 * 40)
    slabs = [(y0, slab.copy()) for y0, slab in diffused_slabs(volume, how)]
    assert len(slabs) > 3
    assert [y0 for y0, _ in slabs] == list(np.cumsum([0, *(slab.shape[1] for _, slab in slabs[:-1])]))
    joined, whole = np.concatenate([slab for _, slab in slabs], axis=1), diffuse(volume, how)
    assert joined.shape == volume.shape
    assert np.abs(joined - whole).max() < 0.02 * whole.std()


def test_k_follows_the_scale_of_the_volume():
    volume = noise((50, 50, 50))
    assert default_k(1000 * volume + 5) == pytest.approx(1000 * default_k(volume), rel=1e-3)
    assert default_k(np.zeros((8, 8, 8), np.int16)) == 1.0


def test_integers_are_taken_as_they_are():
    volume = np.rint(100 * noise()).astype(np.int16)
    assert np.array_equal(diffuse(volume, Diffusion(50.0)), diffuse(volume.astype(np.float32), Diffusion(50.0)))


def test_the_preview_shows_what_will_come():
    volume = shells((60, 20, 20)) + noise((60, 20, 20))
    pictures = preview(volume, [0.3, 3.0], [3, 6, 7])
    assert set(pictures) == {(k, n) for k in (0.3, 3.0) for n in (3, 6, 7)}
    for (k, n), picture in pictures.items():
        expected = diffuse(volume, Diffusion(k, n))[30]
        assert np.abs(picture - expected).max() < 0.05 * expected.std()


@pytest.mark.parametrize("how", [Diffusion(0.0), Diffusion(np.nan), Diffusion(1.0, sigma=2.0)])
def test_what_cannot_be_is_refused(how):
    with pytest.raises(ValueError, match="K must be"):
        diffuse(noise(), how)
