"""Camera maps in a run: when they come into force, what they tell, what a restart makes of them."""

from dataclasses import replace

import numpy as np
import pytest
from test_correct_camera_map import SIGMA, SIZE, electrons, images, level
from test_lane import process

from streamtomo.camera import Cameras, map_on_disk, picture, set_up
from streamtomo.config import Correct, Settings
from streamtomo.correct.prepare import repair
from streamtomo.lane import Lane
from streamtomo.messages import AlarmCleared, AlarmRaised, TiltPlaced, Warned
from streamtomo.model import RawImage, Tilt

IMAGE = RawImage(series="A", path="/scope/a.mrc", nx=SIZE, ny=SIZE, angle_deg=0.0)
SETTINGS = Correct()


def learn(camera, shown, series="A", start=0, step_px=5.0):
    """Give a camera images of a specimen that moves; what it tells."""
    events = []
    for i, image in enumerate(shown[start:], start):
        camera.learn(series, i, (step_px * i, step_px * i), image, repair(image, SIGMA))
        events += camera.news()
        camera.keep()
    return events


def hot_column(strength=0.5):
    _, series = electrons()
    column = tuple((60, y) for y in range(SIZE))
    return replace(series.camera, hot=column, hot_electrons=(strength * np.sqrt(level()),) * SIZE)


def wrong_reference():
    _, series = electrons()
    residual = np.random.default_rng(1).normal(1, 0.05, (SIZE, SIZE)).astype(np.float32)
    return replace(series.camera, residual=residual)


def test_a_map_comes_into_force_after_twelve_tilts_and_is_drawn(tmp_path):
    camera = Cameras(tmp_path).of(IMAGE, 10.8, SETTINGS)
    shown = images(hot_column())
    learn(camera, shown[:11])
    assert camera.map() is None
    learn(camera, shown, start=11)
    assert camera.map().tilts == 24
    assert set(camera.map().places % SIZE) == {60}
    assert (tmp_path / f"camera_{set_up(IMAGE, 10.8)}.png").exists()
    assert list(map_on_disk(tmp_path, IMAGE, 10.8).places) == list(camera.map().places)


def test_a_restart_goes_on_where_the_run_stood_and_knows_the_older_maps(tmp_path):
    shown = images(wrong_reference())
    through = Cameras(None).of(IMAGE, 10.8, SETTINGS)
    learn(through, shown)
    before = Cameras(tmp_path)
    learn(before.of(IMAGE, 10.8, SETTINGS), shown[:17])
    before.save()
    after = Cameras(tmp_path).of(IMAGE, 10.8, SETTINGS)
    assert after.map().tilts == 12
    learn(after, shown)  # what it knows is not learned twice
    assert after.map().tilts == 24
    assert np.array_equal(after.map().pattern, through.map().pattern)
    assert after.map(12).tilts == 12
    assert after.map(0) is None


def test_what_is_damaged_is_learned_anew(tmp_path):
    cameras = Cameras(tmp_path)
    learn(cameras.of(IMAGE, 10.8, SETTINGS), images(hot_column())[:13])
    cameras.save()
    for path in tmp_path.rglob("sums.*"):
        path.write_bytes(path.read_bytes()[:-100])
    again = Cameras(tmp_path).of(IMAGE, 10.8, SETTINGS)
    assert again.map().tilts == 12
    assert again.lacks("A", 0)


def test_a_specimen_that_stands_still_or_moves_along_an_axis_and_a_copy_teach_nothing():
    camera = Cameras(None).of(IMAGE, 10.8, SETTINGS)
    shown = images(hot_column())
    learn(camera, shown, step_px=0.1)
    assert camera.map() is None
    for i, image in enumerate(shown):
        camera.learn("along", i, (0.0, 5.0 * i), image, repair(image, SIGMA))
    assert camera.map() is None
    for series in "BCDE":
        learn(camera, shown[:1], series)
    assert camera.map() is None


def test_a_wrong_gain_reference_raises_an_alarm_once_and_a_right_one_none(tmp_path):
    _, series = electrons()
    assert learn(Cameras(None).of(IMAGE, 10.8, SETTINGS), images(series.camera)) == []
    (alarm,) = learn(Cameras(tmp_path).of(IMAGE, 10.8, SETTINGS), images(wrong_reference()))
    assert isinstance(alarm, AlarmRaised)
    assert alarm.code == "camera.gain"
    assert "5.0 %" in alarm.text or "4.9 %" in alarm.text or "5.1 %" in alarm.text
    again = Cameras(tmp_path).of(IMAGE, 10.8, SETTINGS)
    assert [type(event) for event in again.news()] == [AlarmRaised]
    assert again.news() == []


def test_the_alarm_is_over_when_the_limit_is_wider(tmp_path):
    camera = Cameras(tmp_path).of(IMAGE, 10.8, SETTINGS)
    learn(camera, images(wrong_reference())[:12])
    camera._settings = Correct(gain_percent=20.0)
    assert [type(event) for event in camera.news()] == [AlarmCleared]


def test_a_reference_that_is_mended_or_spoilt_is_noticed_and_the_map_learned_anew(tmp_path):
    _, series = electrons()
    good, wrong = images(series.camera), images(wrong_reference())
    camera = Cameras(tmp_path).of(IMAGE, 10.8, SETTINGS)
    assert [type(event) for event in learn(camera, wrong)] == [AlarmRaised]
    assert [type(event) for event in learn(camera, good[:12], "B")] == [Warned, AlarmCleared]
    assert camera.map().pattern is None
    assert camera.map().tilts < 36
    learn(camera, good, "B", start=12)
    other = images(wrong_reference(), seed=7)
    assert [type(event) for event in learn(camera, other, "C")] == [Warned, AlarmRaised]
    assert [type(event) for event in Cameras(tmp_path).of(IMAGE, 10.8, SETTINGS).news()] == [AlarmRaised]


def test_set_ups_are_told_apart_and_the_map_can_be_switched_off(tmp_path):
    cameras = Cameras(tmp_path)
    one = cameras.of(IMAGE, 10.8, SETTINGS)
    assert cameras.of(IMAGE, 5.4, SETTINGS) is not one
    assert cameras.of(IMAGE, 10.8, SETTINGS) is one
    off = Cameras(None).of(IMAGE, 10.8, Correct(camera_map=False))
    learn(off, images(hot_column()))
    assert off.map() is None


def test_a_single_pixel_is_seen_in_the_picture_of_a_large_map():
    deviations = np.random.default_rng(1).normal(0, 0.1, (2100, 3000)).astype(np.float32)
    deviations[1000, 1500] = 2.0
    grey = picture(deviations)
    assert grey.shape == (700, 1000)
    assert grey[333, 500] == 255
    assert (grey == 255).sum() <= 3
    assert abs(float(np.median(grey)) - 128) < 60


@pytest.fixture
def tilts(tmp_path):
    """A series through a camera with a hot column, a file each."""
    import mrcfile

    _, series = electrons()
    found = []
    for i, image in enumerate(images(hot_column(), drift_px=25.0)):
        path = tmp_path / f"{i}.mrc"
        mrcfile.write(path, image)
        angle = float(series.plan.angles_deg[i])
        found.append(Tilt(index=i, image=RawImage(series="A", path=str(path), nx=SIZE, ny=SIZE, angle_deg=angle)))
    return sorted(found, key=lambda tilt: abs(tilt.image.angle_deg))


def test_the_lane_learns_records_the_map_and_takes_the_same_one_after_a_restart(tilts, tmp_path):
    out = tmp_path / "out"
    lane = Lane(Settings(), out)
    placed = [event for event in process(lane, tilts) if isinstance(event, TiltPlaced)]
    used = [event.correction.camera for event in placed]
    assert used[:12] == [0] * 12
    assert used[-1] >= 12
    lane.close()
    by_index = {tilt.index: tilt for tilt in tilts}
    known = [(by_index[event.index], event) for event in placed[:-1]]
    again = Lane(Settings(), out)
    (last,) = (event for event in process(again, tilts[-1:], known) if isinstance(event, TiltPlaced))
    assert last.correction == placed[-1].correction
    assert last.placement == placed[-1].placement
