"""The simulated microscope's EER movies, read back by tifffile and imagecodecs."""

import numpy as np
import pytest
import tifffile

from streamtomo.simulate.eer import FALCON_4, Coding, spread_events, write_eer

CODINGS = [FALCON_4, Coding(65000, 8), Coding(65002, 9, 3, 1), Coding(65002, 5, 2, 2)]


def some_frames(number=5, shape=(24, 40), rate=0.01):
    rng = np.random.default_rng(7)
    return [(rng.random(shape) < rate).astype(np.uint8) for _ in range(number)]


@pytest.mark.parametrize("coding", CODINGS)
def test_what_is_written_is_read_by_others_top_row_first(tmp_path, coding):
    frames = some_frames()
    write_eer(tmp_path / "a.eer", frames, 1.5, coding=coding)
    with tifffile.TiffFile(tmp_path / "a.eer") as file:
        assert file.is_eer
        np.testing.assert_array_equal([page.asarray()[::-1] for page in file.pages], np.array(frames, bool))
        assert file.eer_metadata["sensorPixelSize.width"] == 1.5e-10
        assert file.eer_metadata["numberOfFrames"] == len(frames)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_empty_dense_and_full_frames_survive(tmp_path, rate):
    frames = some_frames(2, rate=rate)
    frames[0][-1, -1], frames[1][0, 0] = 1, 1
    write_eer(tmp_path / "a.eer", frames, None)
    with tifffile.TiffFile(tmp_path / "a.eer") as file:
        np.testing.assert_array_equal([page.asarray()[::-1] for page in file.pages], np.array(frames, bool))
        assert "sensorPixelSize.width" not in file.eer_metadata


def test_the_places_inside_the_pixels_are_all_used(tmp_path):
    write_eer(tmp_path / "a.eer", some_frames(4, rate=0.3), None)
    with tifffile.TiffFile(tmp_path / "a.eer", superres=2) as file:
        fine = sum(page.asarray().astype(int) for page in file.pages)
    assert (fine.reshape(24, 4, 40, 4).sum(axis=(0, 2)) > 0).all()


def test_events_are_dealt_out_without_loss_and_evenly():
    counts = np.random.default_rng(3).integers(0, 6, (64, 64))
    frames = spread_events(counts, 8, np.random.default_rng(4))
    np.testing.assert_array_equal(np.sum(frames, axis=0), counts)
    assert np.max(frames) == 1
    mean, each = counts.mean() / 8, [frame.mean() for frame in frames]
    assert np.abs(each - mean).max() < 6 * np.sqrt(mean / counts.size)


def test_what_no_camera_can_write_is_refused(tmp_path):
    with pytest.raises(ValueError, match="more than one event"):
        write_eer(tmp_path / "a.eer", [np.full((4, 4), 2)], 1.0)
    with pytest.raises(ValueError, match="8 camera frames"):
        spread_events(np.full((4, 4), 9), 8, np.random.default_rng(0))
