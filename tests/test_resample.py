"""Images under transforms: against scipy, and by blobs at known places."""

import numpy as np
import pytest
from scipy import ndimage

from streamtomo import geometry
from streamtomo.resample import covered, warp

RNG = np.random.default_rng(3)


def blob(shape, x, y, width=3.0):
    """A Gaussian at `(x, y)` from the centre."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    dx, dy = columns - geometry.centre(shape[1]) - x, rows - geometry.centre(shape[0]) - y
    return np.exp(-(dx**2 + dy**2) / (2 * width**2)).astype(np.float32)


def centroid(image):
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    total = image.sum()
    return (
        (image * columns).sum() / total - geometry.centre(image.shape[1]),
        (image * rows).sum() / total - geometry.centre(image.shape[0]),
    )


def test_identity_changes_nothing():
    image = RNG.normal(size=(20, 31)).astype(np.float32)
    assert warp(image, geometry.IDENTITY) == pytest.approx(image, abs=1e-6)


@pytest.mark.parametrize("out_shape", [(64, 64), (65, 80), (90, 61)])
@pytest.mark.parametrize("axis", [0.0, -12.0, 85.3, 180.0])
def test_a_blob_lands_where_the_transform_says(axis, out_shape):
    transform = geometry.raw_to_aligned(axis, (4.3, -7.6), 1.02)
    moved = warp(blob((70, 60), 6.2, 3.1), transform, out_shape, fill=0.0)
    assert centroid(moved) == pytest.approx(tuple(geometry.apply(transform, [[6.2, 3.1]])[0]), abs=0.01)


def test_smooth_images_agree_with_a_spline():
    image = ndimage.gaussian_filter(RNG.normal(size=(60, 60)), 3).astype(np.float32)
    transform = geometry.translation(3.37, -2.61)
    expected = ndimage.shift(image, (-2.61, 3.37), order=5)
    inner = (slice(10, -10), slice(10, -10))
    assert warp(image, transform)[inner] == pytest.approx(expected[inner], abs=0.02 * float(image.std()))


def test_what_the_image_does_not_reach_is_filled():
    image = np.full((10, 10), 5.0, np.float32)
    transform = geometry.translation(4.0, 0.0)
    moved = warp(image, transform, fill=-1.0)
    mask = covered((10, 10), transform, (10, 10))
    assert (moved[mask] == 5.0).all()
    assert (moved[~mask] == -1.0).all()
    assert mask.sum() == 60
    assert warp(image, transform)[0, 0] == 5.0, "by default with the image's mean"
