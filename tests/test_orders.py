"""Several folders in one run, orders from outside, alarms, what the results belong to."""

import os
import threading

import mrcfile
import numpy as np
import pytest
from runs import run, run_until_idle, settings, told, wait_for, write_series

from streamtomo import messages, outfolder
from streamtomo.config import Settings, Watch
from streamtomo.engine import Engine
from streamtomo.errors import SettingsError
from streamtomo.folders import Folders
from streamtomo.messages import (
    AlarmCleared,
    AlarmRaised,
    CloseSeries,
    FinishDone,
    Heartbeat,
    TiltPlaced,
)
from streamtomo.publish.bus import send_command


def test_a_folder_is_added_to_a_run_with_settings_of_its_own_and_is_there_after_a_restart(quick, scope, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    write_series(other, "B", (0.0, 3.0, 6.0))
    engine = Engine(scope, out, settings())
    thread = run(engine)
    order = messages.WatchFolder(path=str(other), overrides=("acquisition.tilt_axis_deg=12.5", "watch.min_tilts=3"))
    wait_for(
        engine,
        lambda event: isinstance(event, TiltPlaced) and event.series == "B" and event.index == 2,
        begin=lambda: send_command(out, order),
    )
    assert engine.series["B"].axis_deg == 12.5
    assert engine.series["TS"].axis_deg is None
    assert not engine.ask(messages.WatchFolder(path=str(tmp_path / "nowhere"))).ok
    assert "in the watched folder" in engine.ask(messages.WatchFolder(path=str(tmp_path))).text
    engine.stop("done")
    thread.join(20)
    write_series(other, "C", (0.0, 3.0, 6.0))
    again = run_until_idle(scope, out)
    assert again.series["C"].axis_deg == 12.5
    assert {one.state for one in again.series.values()} == {"finished"}


def test_a_folder_that_holds_a_watched_one_is_refused_and_one_within_has_only_its_settings(tmp_path):
    folders = Folders(lambda folder, sighting: None, threading.Event(), lambda work: work())
    outer = folders.add(tmp_path / "data", Settings())
    inner = folders.add(tmp_path / "data" / "user2", Settings(watch=Watch(min_tilts=3)))
    assert inner.within is outer
    assert folders.of(str(tmp_path / "data" / "user2" / "TS.mrc")) is inner
    assert folders.of(str(tmp_path / "data" / "TS.mrc")) is outer
    with pytest.raises(SettingsError, match=r"holds .*data, which is watched already"):
        folders.add(tmp_path, Settings())


def test_wrong_settings_for_a_further_folder_are_refused_in_words(quick, scope, tmp_path):
    engine = Engine(scope, tmp_path / "out", settings())
    thread = run(engine)
    (tmp_path / "other").mkdir()
    answer = engine.ask(messages.WatchFolder(path=str(tmp_path / "other"), overrides=("watch.settle_s=-1",)))
    assert (answer.ok, "watch.settle_s" in answer.text) == (False, True)
    engine.stop("done")
    thread.join(20)


def test_orders_leave_tilts_out_and_bring_them_back(quick, scope, tmp_path):
    out = tmp_path / "out"
    engine = Engine(scope, out, settings())
    finished = lambda event: isinstance(event, FinishDone)  # noqa: E731
    thread = run(engine)
    wait_for(engine, lambda event: isinstance(event, TiltPlaced) and event.index == 5)
    wait_for(engine, finished, begin=lambda: send_command(out, CloseSeries(series="TS")))
    wait_for(engine, finished, begin=lambda: send_command(out, messages.ExcludeTilts(series="TS", tilts=(2,))))
    assert send_command(out, messages.ExcludeTilts(series="TS", tilts=(9,))).text.startswith("TS has no tilt 9")
    assert not send_command(out, messages.RetrySeries(series="TS")).ok
    wait_for(engine, finished, begin=lambda: send_command(out, messages.RestoreTilts(series="TS", tilts=(2,))))
    engine.stop("done")
    thread.join(20)
    assert len(told(out, FinishDone)) == 3


def test_a_tilt_that_comes_late_finishes_the_series_once_more(quick, scope, tmp_path):
    out = tmp_path / "out"
    assert run_until_idle(scope, out).series["TS"].state == "finished"
    mrcfile.write(scope / "TS_006_18.0.mrc", np.full((32, 32), 7, np.int16))
    assert run_until_idle(scope, out).series["TS"].state == "finished"
    assert [one.tilts for one in told(out, messages.SeriesCompleted)] == [6, 7]
    assert len(told(out, messages.SeriesReopened)) == 1
    assert len(told(out, FinishDone)) == 2


def test_with_a_full_disk_images_are_taken_in_and_processing_waits_for_room(quick, scope, tmp_path, monkeypatch):
    room = [0.2]
    monkeypatch.setattr("streamtomo.engine.free_GB", lambda _: room[0])
    engine = Engine(scope, tmp_path / "out", settings(), exit_when_idle_s=0.5)
    heard = []
    engine.listeners.append(lambda one: heard.append(type(one.event)))
    thread = run(engine)
    wait_for(engine, lambda event: isinstance(event, Heartbeat) and event.backlog == 6)
    assert TiltPlaced not in heard
    room[0] = 100.0
    thread.join(30)
    assert not thread.is_alive()
    assert engine.series["TS"].state == "finished"
    assert {one.code for one in told(tmp_path / "out", AlarmRaised)} == {"disk.low", "disk.full"}
    assert {one.code for one in told(tmp_path / "out", AlarmCleared)} == {"disk.low", "disk.full"}


def test_the_results_belong_to_a_group_and_keep_a_umask(tmp_path):
    old = os.umask(0o022)
    try:
        outfolder.share(tmp_path, "027", None)
        (tmp_path / "x").write_text("")
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(old)
    with pytest.raises(SettingsError, match=r"run\.group = 'nobody-has-this'"):
        outfolder.share(tmp_path, None, "nobody-has-this")
