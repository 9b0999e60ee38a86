"""The specimen's way through a movie, against simulated truth; and sums of moved frames."""

import numpy as np
import pytest

from streamtomo.correct import drift, frames
from streamtomo.simulate.series import Motion, Plan, Series
from streamtomo.simulate.specimen import Recipe

SIZE = 384


def movie(travel_px, *, count=10, electrons=5.0, tilt=0.0, beads=14, seed=1, size=SIZE):
    """Frames of one tilt with so many electrons a pixel each, and the true positions of the specimen."""
    plan = Plan(
        (tilt,), (size, size), pixel_size_A=8.0, dose_e_A2=electrons * count / 64, frames=count, seed=seed, xrays=0,
        hot=0, dtype="uint8", recipe=Recipe(beads=beads, thickness_nm=60), motion=Motion(frame_drift_px=travel_px),
    )  # fmt: skip
    series = Series(plan)
    return series.expose(0).image, series.frame_shifts(0)


def found_in(images):
    flat = np.ones(images[0].shape, np.float32)
    return drift.find_drift([drift.spectrum(frames.block_mean(image, flat, 1)) for image in images], images[0].shape)


def rms(found, true):
    return float(np.sqrt(((found - true) ** 2).sum(axis=1).mean()))


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"travel_px": 0.0}, 0.06),
        ({"travel_px": 1.5}, 0.1),
        ({"travel_px": 10.0}, 0.15),
        ({"travel_px": 6.0, "tilt": 60.0, "seed": 2}, 0.15),
        ({"travel_px": 6.0, "count": 40, "electrons": 1.2, "seed": 3}, 0.2),
        ({"travel_px": 4.0, "beads": 0, "seed": 4}, 0.4),
    ],
    ids=["none", "little", "much", "steep", "many weak frames", "no gold"],
)
def test_the_way_is_found(options, limit):
    images, true = movie(**options)
    found = found_in(images)
    assert found is not None
    assert rms(found.path, true) < limit
    assert np.allclose(found.path.mean(axis=0), 0, atol=1e-6)


def test_weak_frames_are_taken_together():
    images, true = movie(6.0, count=48, electrons=0.06, seed=5)
    found = found_in(images)
    assert found.grouped > 2
    assert len(found.path) == 48
    assert rms(found.path, true) < 1.0


def test_where_there_is_nothing_to_see_nothing_is_found():
    rng = np.random.default_rng(0)
    assert found_in(rng.poisson(3.0, (8, 256, 256)).astype(np.uint8)) is None
    assert found_in(rng.poisson(3.0, (2, 256, 256)).astype(np.uint8)) is None


def test_a_corrected_sum_has_the_detail_that_a_plain_one_has_lost():
    images, _ = movie(5.0)
    still, _ = movie(0.0)
    flat = np.ones((SIZE, SIZE), np.float32)
    moved = np.zeros((SIZE, SIZE), np.float32)
    for image, (x, y) in zip(images, found_in(images).path, strict=True):
        frames.add_moved(moved, image, flat, (x, y))
    reference = still.sum(axis=0, dtype=np.float32)

    def agreement(one):  # with another exposure of the same specimen, at frequencies that 5 px of drift wipe out
        spectra = [np.fft.rfft2(image - image.mean()) for image in (one, reference)]
        radius = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE))
        band = (radius > 0.1) & (radius < 0.3)
        cross = (spectra[0] * np.conj(spectra[1])).real[band].sum()
        return cross / np.sqrt(np.prod([(np.abs(one[band]) ** 2).sum() for one in spectra]))

    assert agreement(moved) > 1.3 * agreement(images.sum(axis=0, dtype=np.float32)) > 0


def test_smoothing_takes_noise_out_and_leaves_the_way():
    rng = np.random.default_rng(3)
    t = np.linspace(0, 1, 24)
    way = np.stack([6 * np.exp(-3 * t), -2 * t], axis=1)
    noise = rng.normal(0, 0.3, way.shape)
    assert rms(drift.smooth(way + noise), way) < 0.6 * rms(way + noise, way)
    assert rms(drift.smooth(way), way) < 0.02
    assert np.abs(drift.smooth(noise - noise.mean(axis=0))).max() < 0.2


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.3, -2.4), (-1.5, 0.5), (-7.0, 12.0)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_frames_are_moved_where_they_belong(shift, kind):
    y, x = np.mgrid[:90, :110].astype(np.float64)

    def wave(dx, dy):
        return 100 + 80 * np.cos(2 * np.pi * (0.11 * (x - dx) + 0.07 * (y - dy)))

    gain = np.random.default_rng(1).uniform(0.8, 1.2, x.shape).astype(np.float32)
    frame = wave(*shift) / gain
    total = np.full(x.shape, 7, np.float32)
    frames.add_moved(total, (np.rint(frame) if kind is np.uint8 else frame).astype(kind), gain, shift)
    inner = (slice(17, -17), slice(17, -17))
    assert np.abs(total - 7 - wave(0, 0))[inner].max() < (1.2 if kind is np.uint8 else 0.6)
    assert total.min() > 0  # no empty seam


def test_block_means_and_sums():
    rng = np.random.default_rng(2)
    frame, gain = rng.poisson(3, (50, 70)).astype(np.uint8), rng.uniform(0.5, 2, (50, 70)).astype(np.float32)
    expected = (frame * gain)[:48, :68].reshape(12, 4, 17, 4).mean(axis=(1, 3))
    assert np.allclose(frames.block_mean(frame, gain, 4), expected, rtol=1e-5)
    total = np.ones((50, 70), np.float32)
    frames.add(total, frame)
    assert np.array_equal(total, frame + 1.0)
    assert frames.as_stored(frame) is frame
    assert frames.as_stored(frame.astype(">i2")).dtype == np.float32
