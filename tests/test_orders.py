"""Several folders in one run, orders from outside, alarms, what the results belong to."""

import getpass
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import mrcfile
import msgspec
import numpy as np
import pytest
from runs import placed, run, run_until_idle, settings, told, wait_for, write_series

from streamtomo import messages, outfolder
from streamtomo.cli import main
from streamtomo.config import Acquisition, Run, Settings, Watch
from streamtomo.engine import Engine
from streamtomo.errors import SettingsError
from streamtomo.folders import Folder, Folders
from streamtomo.messages import (
    AlarmCleared,
    AlarmRaised,
    CloseSeries,
    FinishDone,
    Heartbeat,
    TiltPlaced,
)
from streamtomo.model import RawImage
from streamtomo.publish.client import send_command
from streamtomo.publish.journal import Journal
from streamtomo.series import Series


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


def test_a_journal_with_settings_of_another_version_is_refused_with_what_to_do(tmp_path):
    out, scope = tmp_path / "out", tmp_path / "scope"
    scope.mkdir()
    out.mkdir()
    event = messages.FolderAdded(path=str(tmp_path / "other"), overrides=("align.wobble=3",))
    book = Journal(out / "journal.jsonl")
    book.append(messages.Envelope(version=messages.VERSION, session="s", seq=1, time_s=0.0, event=event))
    book.close()
    with pytest.raises(SettingsError, match=r"align\.wobble is no setting.*; go on with the version that wrote it, or"):
        Engine(scope, out, settings()).run()


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


def test_a_folder_that_is_gone_is_an_alarm_until_it_is_back(quick, scope, tmp_path):
    out = tmp_path / "out"
    engine = Engine(scope, out, settings())
    thread = run(engine)
    gone = lambda event: isinstance(event, AlarmRaised) and event.code == "folder.gone"  # noqa: E731
    back = lambda event: isinstance(event, AlarmCleared) and event.code == "folder.gone"  # noqa: E731
    wait_for(engine, lambda event: isinstance(event, TiltPlaced) and event.index == 5)
    wait_for(engine, gone, begin=lambda: scope.rename(tmp_path / "away"))
    wait_for(engine, back, begin=lambda: (tmp_path / "away").rename(scope))
    engine.stop("done")
    thread.join(20)
    assert {alarm.about for alarm in told(out, AlarmRaised)} == {str(scope)}


def test_a_watcher_that_hangs_is_an_alarm_with_what_it_waits_for(tmp_path):
    folder = Folder(tmp_path, Settings())
    folder.pulse.at("reading it", "/scope/TS.mrc")
    assert folder.facts(collecting=False).stuck is None
    folder.pulse._deed = ("reading it", "/scope/TS.mrc", time.monotonic() - 61)
    assert "/scope/TS.mrc: reading it has not come back" in folder.facts(collecting=False).stuck
    folder.pulse.rest()
    assert folder.facts(collecting=False).stuck is None


def test_the_results_belong_to_a_group_and_keep_a_umask(quick, tmp_path):
    scope, out = tmp_path / "scope", tmp_path / "out"
    scope.mkdir()
    old = os.umask(0o022)
    try:
        engine = Engine(scope, out, msgspec.structs.replace(settings(), run=Run(umask="007")), exit_when_idle_s=0.2)
        engine.run()
    finally:
        os.umask(old)
    assert out.stat().st_mode & 0o777 == 0o770, "the folder itself as well: whoever shares it may go on there"
    assert {(out / name).stat().st_mode & 0o777 for name in (".lock", "journal.jsonl")} == {0o660}
    with pytest.raises(SettingsError, match=r"run\.group = 'nobody-has-this'"):
        outfolder.share(tmp_path, "nobody-has-this")


def test_a_series_that_was_rejected_is_left_alone_until_it_is_opened_again(quick, scope, tmp_path):
    out = tmp_path / "out"
    engine = Engine(scope, out, settings())
    thread = run(engine)
    wait_for(engine, lambda event: isinstance(event, TiltPlaced) and event.index == 5)
    assert send_command(out, messages.RejectSeries(series="TS", reason="ice")).text == "rejected"
    assert not send_command(out, messages.RejectSeries(series="TS")).ok
    assert not send_command(out, messages.ExcludeTilts(series="TS", tilts=(1,))).text.startswith("TS has no")
    received = lambda event: isinstance(event, messages.TiltReceived) and event.tilt.index == 6  # noqa: E731
    wait_for(engine, received, begin=lambda: mrcfile.write(scope / "TS_006_18.0.mrc", np.full((32, 32), 7, np.int16)))
    engine.stop("restart")
    thread.join(20)
    again = run_until_idle(scope, out)
    assert again.series["TS"].state == "rejected"
    assert again.series["TS"].tilts[6].status == "waiting"

    engine = Engine(scope, out, settings())
    thread = run(engine)
    placed = lambda event: isinstance(event, TiltPlaced) and event.index == 6  # noqa: E731
    wait_for(engine, placed, begin=lambda: send_command(out, messages.ReopenSeries(series="TS")))
    wait_for(engine, lambda e: isinstance(e, FinishDone), begin=lambda: engine.ask(CloseSeries(series="TS")))
    engine.stop("done")
    thread.join(20)
    assert len(told(out, FinishDone)) == 1


def test_a_series_is_finished_again_with_other_settings_that_stay_with_it(quick, scope, tmp_path):
    out = tmp_path / "out"
    engine = Engine(scope, out, settings())
    thread = run(engine)
    wait_for(engine, lambda event: isinstance(event, TiltPlaced) and event.index == 5)
    finished = lambda event: isinstance(event, FinishDone)  # noqa: E731
    wait_for(engine, finished, begin=lambda: send_command(out, CloseSeries(series="TS")))
    order = messages.FinishSeries(series="TS", overrides=("final.binning=3",))
    wait_for(engine, finished, begin=lambda: send_command(out, order))
    assert engine.series["TS"].settings.final.binning == 3
    wrong = send_command(out, messages.FinishSeries(series="TS", overrides=("final.binning=0",)))
    assert (wrong.ok, "final.binning" in wrong.text) == (False, True)
    engine.stop("done")
    thread.join(20)
    assert run_until_idle(scope, out).series["TS"].settings.final.binning == 3
    assert len(told(out, FinishDone)) == 2


def test_finishing_pauses_also_across_a_restart_and_goes_on(quick, scope, tmp_path):
    out = tmp_path / "out"
    engine = Engine(scope, out, settings())
    thread = run(engine)
    wait_for(engine, lambda event: isinstance(event, TiltPlaced) and event.index == 5)
    assert send_command(out, messages.PauseFinishing()).ok
    assert not send_command(out, messages.PauseFinishing()).ok
    assert send_command(out, CloseSeries(series="TS")).ok
    wait_for(engine, lambda event: isinstance(event, Heartbeat) and event.finishing == ("TS",))
    engine.stop("restart")
    thread.join(20)
    engine = Engine(scope, out, settings())
    thread = run(engine)
    wait_for(engine, lambda event: isinstance(event, Heartbeat) and event.finishing == ("TS",))
    assert not told(out, FinishDone)
    done = lambda event: isinstance(event, messages.TomogramReady)  # noqa: E731
    wait_for(engine, done, begin=lambda: send_command(out, messages.ResumeFinishing()))
    engine.stop("done")
    thread.join(20)


def test_every_order_is_in_the_journal_with_who_gave_it_and_the_answer(quick, scope, tmp_path):
    out = tmp_path / "out"
    engine = Engine(scope, out, settings())
    thread = run(engine)
    send_command(out, CloseSeries(series="nobody"))
    send_command(out, messages.StopRun())
    thread.join(20)
    orders = told(out, messages.OrderGiven)
    assert [(one.order["command"], one.ok) for one in orders] == [("close", False), ("stop", True)]
    assert {one.by for one in orders} == {getpass.getuser()}
    assert "no series nobody" in orders[0].text


def test_an_operator_who_waits_for_more_tilts_gets_them_whatever_the_plan_says():
    series = Series("TS", Settings(acquisition=Acquisition(planned_tilts=2)))
    for n in range(2):
        image = RawImage(series="TS", path=f"/{n}", nx=4, ny=4, angle_deg=3.0 * n)
        series.image(image, 100.0 + n)
        series.processed(placed(SimpleNamespace(tilt=series.tilts[n].tilt)), 100.0 + n)
    assert series.state == "too few"
    series.reopen(5000.0)
    series.tick(5001.0)
    assert series.state == "collecting", "neither the count nor the silence before closes it"
    series.tick(5062.0)
    assert series.state == "too few", "but a silence after it does"


@pytest.mark.parametrize(
    ("typed", "order"),
    [
        ("close TS", CloseSeries(series="TS")),
        ("reopen TS", messages.ReopenSeries(series="TS")),
        ("reject TS --reason ice", messages.RejectSeries(series="TS", reason="ice")),
        ("retry TS", messages.RetrySeries(series="TS")),
        ("again TS --set final.binning=2", messages.FinishSeries(series="TS", overrides=("final.binning=2",))),
        ("exclude TS 3 4 --reason ice", messages.ExcludeTilts(series="TS", tilts=(3, 4), reason="ice")),
        ("snapshot TS", messages.SaveVolume(series="TS")),
        ("restore TS 3", messages.RestoreTilts(series="TS", tilts=(3,))),
        ("watch /b --set final.binning=2", messages.WatchFolder(path="/b", overrides=("final.binning=2",))),
        ("pause", messages.PauseFinishing()),
        ("resume", messages.ResumeFinishing()),
        ("stop", messages.StopRun()),
    ],
)
def test_every_order_has_its_verb(typed, order, monkeypatch, capsys):
    sent = []

    def send(out, command):
        sent.append((out, command))
        return messages.Answer(ok=len(sent) == 1, text="heard")

    monkeypatch.setattr("streamtomo.publish.ordering.send_command", send)
    assert main([*typed.split(), "--out", "/out"]) == 0
    assert main([*typed.split(), "--out", "/out"]) == 1, "a refusal is an exit status"
    assert sent == [(Path("/out"), order)] * 2
    assert capsys.readouterr().out == "heard\nheard\n"


def test_orders_from_another_machine_need_keys(capsys):
    assert main(["stop", "--at", "tcp://nowhere:1"]) == 1
    assert "need --keys" in capsys.readouterr().err
