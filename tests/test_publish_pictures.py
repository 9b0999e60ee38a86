"""Pictures for people: contrast, thumbnails, which row is at the top, and what is no number."""

import errno
import os

import imagecodecs
import numpy as np
import pytest

from streamtomo.errors import OutputError
from streamtomo.publish.pictures import SMALL_CONTRAST, thumbnail, to_grey, write_png


def ramp(ny=10, nx=10):
    return np.arange(ny * nx, dtype=np.float32).reshape(ny, nx)


# -- contrast --------------------------------------------------------------------------------------------------------


def test_the_darkest_becomes_black_and_the_brightest_white():
    grey = to_grey(ramp(), (0, 100))
    assert grey.dtype == np.uint8
    assert (grey[0, 0], grey[-1, -1]) == (0, 255)
    assert (np.diff(grey.ravel().astype(int)) >= 0).all()


def test_a_hot_pixel_does_not_take_the_contrast():
    image = ramp(50, 50)
    calm = to_grey(image)
    image[7, 7] = 1e9
    image[8, 8] = -1e9
    hot = to_grey(image)
    assert (hot[7, 7], hot[8, 8]) == (255, 0)
    assert np.abs(hot.astype(int) - calm).max(where=np.abs(image) < 1e8, initial=0) <= 2


def test_offset_and_scale_do_not_matter():
    assert (to_grey(ramp()) == to_grey(ramp() * 0.25 - 1000)).all()


@pytest.mark.parametrize("value", [0.0, 7.5, -3e30])
def test_an_image_without_contrast_is_black(value):
    assert (to_grey(np.full((4, 5), value, np.float32)) == 0).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_black_and_changes_nothing_else(odd):
    image = ramp(40, 40)
    image[3, 4] = odd
    grey, calm = to_grey(image), to_grey(ramp(40, 40))
    assert grey[3, 4] == 0
    others = np.ones(image.shape, bool)
    others[3, 4] = False
    assert np.abs(grey.astype(int) - calm).max(where=others, initial=0) <= 1


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_an_image_that_is_no_number_at_all_is_black(odd):
    image = np.full((6, 8), odd, np.float32)
    assert (to_grey(image) == 0).all()
    assert (thumbnail(image, 3, 3) == 0).all()
    image[0] = 5.0
    assert (to_grey(image) == 0).all(), "nor does one value make a contrast"


def test_numbers_near_the_end_of_their_range_make_no_trouble():
    image = np.full((8, 8), 3e38, np.float32)
    image[4:] = -3e38
    assert set(to_grey(image).ravel()) == {0, 255}
    assert thumbnail(image, 2, 2).shape == (2, 2)


# -- thumbnails ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((768, 768), (96, 96)),
        ((546, 768), (68, 96)),
        ((768, 546), (96, 68)),
        ((40, 30), (40, 30)),
        ((97, 97), (96, 96)),
        ((1000, 3), (96, 1)),
        ((3, 1000), (1, 96)),
        ((1, 1), (1, 1)),
    ],
)
def test_a_thumbnail_keeps_the_proportions_and_never_grows(shape, size):
    assert thumbnail(np.zeros(shape, np.float32), 96, 96).shape == size


def test_every_size_can_be_made():
    for ny in range(1, 40):
        for nx in (1, 7, 31):
            height, width = thumbnail(ramp(ny, nx), 9, 6).shape
            assert 1 <= height <= 6
            assert 1 <= width <= 9


def test_a_thumbnail_shows_means_of_areas():
    image = np.kron([[1.0, 2.0], [3.0, 4.0]], np.ones((8, 8))).astype(np.float32)
    noise = np.tile([[1.0, -1.0], [-1.0, 1.0]], (8, 8)).astype(np.float32)
    assert (thumbnail(image + noise, 2, 2) == thumbnail(image, 2, 2)).all()


def test_the_top_of_a_thumbnail_is_the_last_row_of_the_array():
    small = thumbnail(ramp(96, 96), 96, 96)
    assert small[0, 0] > small[-1, 0]
    assert small[0, -1] > small[0, 0] or small[0, 0] == 255
    assert small.flags.c_contiguous


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_png_has_its_top_row_first(tmp_path):
    grey = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)
    write_png(tmp_path / "x.png", grey)
    assert imagecodecs.png_decode((tmp_path / "x.png").read_bytes()).tolist() == [[150, 200, 250], [0, 50, 100]]
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_thumbnail_and_png_agree_on_what_is_up(tmp_path):
    image = ramp(20, 20)
    write_png(tmp_path / "x.png", to_grey(image, SMALL_CONTRAST))
    assert (imagecodecs.png_decode((tmp_path / "x.png").read_bytes()) == thumbnail(image, 20, 20)).all()


def test_a_png_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    write_png(tmp_path / "x.png", np.zeros((4, 4), np.uint8))
    before = (tmp_path / "x.png").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"x\.png: cannot be written \(No space left on device\)"):
        write_png(tmp_path / "x.png", np.ones((4, 4), np.uint8))
    assert (tmp_path / "x.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_a_png_where_nothing_can_be_written_is_named(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        write_png(tmp_path / "nowhere" / "x.png", np.zeros((4, 4), np.uint8))
