"""Gold beads on simulated images with known truth: size, polarity, candidates, fits."""

import numpy as np
import pytest
from simulated import simulated

from streamtomo import geometry
from streamtomo.align import bead_fit, beads

SIZE = 160


def spheres(places, radius, contrast=-0.5, level=100.0, noise=1.0, shape=(SIZE, SIZE)):
    """Projected spheres at `(x, y)` from the centre of an image."""
    fine = 4
    yy, xx = ((np.mgrid[: fine * n] + 0.5) / fine - 0.5 - geometry.centre(n) for n in shape)
    image = np.zeros((fine * shape[0], fine * shape[1]))
    for x, y in places:
        square = (xx[None, :] - x) ** 2 + (yy[:, None] - y) ** 2
        image += np.sqrt(np.clip(1 - square / radius**2, 0, None))
    image = image.reshape(shape[0], fine, shape[1], fine).mean(axis=(1, 3))
    noise_image = np.random.default_rng(1).normal(0, noise, shape)
    return (level * (1 + contrast * image) + noise_image).astype(np.float32)


PLACES = np.array([(-40.3, 21.7), (12.25, -33.6), (48.8, 50.1), (-20.0, -51.5), (1.3, 9.9), (55.2, -8.4)])


@pytest.mark.parametrize("radius", [2.0, 3.5, 6.0])
@pytest.mark.parametrize("contrast", [-0.5, 0.4])
def test_size_and_polarity_are_found(radius, contrast):
    shape = beads.find_shape([spheres(PLACES, radius, contrast)], None)
    assert shape.sign == np.sign(contrast)
    assert shape.radius_px == pytest.approx(radius, rel=0.35)


def test_a_given_size_is_kept():
    assert beads.find_shape([spheres(PLACES, 4.0)], 3.0).radius_px == 3.0


@pytest.mark.parametrize("radius", [4.0, 6.0, 12.0], ids=["every pixel", "every second", "every fourth"])
def test_candidates_lie_on_the_beads_the_strongest_first(radius):
    image = spheres(PLACES, radius)
    found = beads.find_candidates(image, beads.BeadShape(radius, -1.0))
    nearest = np.hypot(*(found.xy[: len(PLACES), None] - PLACES).transpose(2, 0, 1)).min(1)
    assert nearest.max() < 0.3
    assert (np.diff(found.strength) <= 0).all()


def test_noise_alone_has_few_candidates():
    noise = np.random.default_rng(3).normal(100, 10, (256, 256)).astype(np.float32)
    assert len(beads.find_candidates(noise, beads.BeadShape(3.0, -1.0)).xy) <= 3


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_fit_finds_the_centre_and_its_own_error(sign):
    image = spheres(PLACES, 4.0, contrast=0.5 * sign, noise=4.0)
    starts = PLACES + geometry.centre(SIZE) + np.array([0.6, -0.4])
    fits = bead_fit.fit_beads(image, starts, bead_fit.sphere_profile(4.0), sign)
    error = fits.xy - geometry.centre(SIZE) - PLACES
    assert fits.converged.all()
    assert np.abs(error).max() < 5 * fits.error.max()
    assert fits.error.max() < 0.1
    assert fits.amplitude == pytest.approx(50, rel=0.1)


def test_fits_do_not_leave_the_image():
    fits = bead_fit.fit_beads(spheres(PLACES, 4.0), np.array([[1.0, 1.0]]), bead_fit.sphere_profile(4.0), -1.0)
    assert not fits.converged.any()


def test_the_average_profile_is_the_spheres():
    image = spheres(PLACES, 5.0, noise=0.5)
    fits = bead_fit.fit_beads(image, PLACES + geometry.centre(SIZE), bead_fit.sphere_profile(5.0), -1.0)
    true = bead_fit.sphere_profile(5.0)
    profile = bead_fit.average_profile([image], [fits], [fits.converged], len(true))
    assert np.abs(profile - true).max() < 0.12
    assert bead_fit.profile_radius(profile) == pytest.approx(5.0, rel=0.06)


def test_beads_of_a_simulated_microscope_are_the_strongest_candidates():
    series = simulated()
    images = [view.image for view in series.views]
    shape = beads.find_shape(images[14:17], None)
    true_radius = series.series.plan.recipe.bead_nm * 5 / series.series.plan.pixel_size_A
    assert shape.sign == -1
    assert shape.radius_px == pytest.approx(true_radius, rel=0.3)
    for i in (0, 15, 30):
        true = series.true[i].raw(series.beads_px)
        apart = np.hypot(*(true[:, None] - true).transpose(2, 0, 1)) + 1e3 * np.eye(len(true))
        inside = true[(np.abs(true) < 384 / 2 - 12).all(1) & (apart.min(1) > 15)]
        found = beads.find_candidates(images[i], shape).xy
        distance = np.hypot(*(found[:, None] - inside).transpose(2, 0, 1))
        assert distance.min(0).max() < 1.0
        assert distance.argmin(0).max() < len(inside) + 3
