"""The live volume in a file: on request and at intervals, one moment, whole or not at all."""

import time

import mrcfile
import numpy as np
import pytest
from msgspec.structs import replace
from runs import QuickLane, run, settings, told
from test_lane import process
from test_lane import tilts as tilts

from streamtomo import messages
from streamtomo.config import Settings
from streamtomo.config_live import Live
from streamtomo.engine import Engine
from streamtomo.lane import Lane
from streamtomo.livefile import LiveFiles, path_of, take, written
from streamtomo.messages import TiltPlaced, VolumeSaved, Warned


@pytest.fixture
def live(tilts):
    lane = Lane(Settings())
    process(lane, tilts[:3])
    return lane._series["A"]


def test_the_file_shows_the_moment_at_which_it_was_asked_for(live, tmp_path):
    shot, before = take("A", live, tmp_path), live.volume().snapshot()
    live.volume().rebuild(lambda: False)
    event = written(shot)
    assert (event.path, event.views) == (str(path_of(tmp_path, "A")), 3)
    assert mrcfile.validate(event.path)
    with mrcfile.open(event.path) as file:
        assert file.is_volume()
        assert file.data.dtype == np.int16
        assert np.abs(file.data / np.float32(shot.counts) - before).max() < 1e-6
        assert file.voxel_size.x == pytest.approx(10.8)
        assert "live volume of 3 views" in str(file.get_labels()[-1])
    assert [path.name for path in (tmp_path / "A").iterdir()] == ["A_live.mrc"]


def test_what_cannot_be_written_is_a_warning_and_the_next_one_may_be(live, tmp_path):
    news = []
    files, nowhere = LiveFiles(news.extend), tmp_path / "full" / "disk"
    for out in (nowhere, tmp_path):
        assert files.reserve()
        assert not files.reserve(), "one at a time"
        files.write(take("A", live, out))
        files._writer.submit(lambda: None).result()
    files.close()
    assert [type(event) for event in news] == [Warned, VolumeSaved]
    assert news[0].code == "volume.unsaved"


def test_at_intervals_what_has_grown_is_due(tilts):
    lane = Lane(Settings())
    assert lane.due(0.0) is None
    process(lane, tilts[:2])
    assert lane.due(100.0) is None
    name, live = lane.due(0.0)
    assert (name, live) == ("A", lane._series["A"])
    live.filed_views = 2
    assert lane.due(0.0) is None


class LaneWithVolume(QuickLane):
    """Places every tilt without looking at it, and has a volume of each series."""

    live = None

    def take_up(self, job):
        assert len(job.placed) == 6
        return self.live

    def due(self, every_s):
        return ("TS", self.live) if self.live.filed_views < 3 else None


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("every_min", [None, 5.0])
def test_an_order_and_an_interval_write_it_and_the_journal_tells(quick, scope, tmp_path, monkeypatch, live, every_min):
    monkeypatch.setattr("streamtomo.lanes.Lane", LaneWithVolume)
    monkeypatch.setattr(LaneWithVolume, "live", live)
    out = tmp_path / "out"
    engine = Engine(scope, out, replace(settings(min_tilts=7), live=Live(save_every_min=every_min)))
    thread = run(engine)
    if every_min is None:
        placed = lambda: len(told(out, TiltPlaced)) == 6  # noqa: E731
        until(lambda: placed() and engine.ask(messages.SaveVolume(series="TS")).ok)
    until(lambda: told(out, VolumeSaved))
    assert "no series nobody" in engine.ask(messages.SaveVolume(series="nobody")).text
    engine.stop("done")
    thread.join(20)
    assert [(one.series, one.views) for one in told(out, VolumeSaved)] == [("TS", 3)]
    assert path_of(out, "TS").exists()
