"""The engine's shell: resume, commands at the end, odd names, the output folder's lock, the terminal."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from runs import QuickFinisher, QuickLane, done, placed, run, run_until_idle, settings, told

from streamtomo import console, messages, outfolder
from streamtomo.config import Publish, Settings
from streamtomo.engine import Engine
from streamtomo.errors import BusError, OutputError, SettingsError, StreamtomoError
from streamtomo.messages import (
    AlarmRaised,
    CloseSeries,
    FileRefused,
    FinishDone,
    FinishFailed,
    FinishStarted,
    SeriesDescribed,
    SessionStarted,
    StopRun,
    TiltFailed,
    TiltPlaced,
    TiltReceived,
)
from streamtomo.publish import journal
from streamtomo.publish.client import Subscriber, send_command


def test_a_run_answers_stops_and_tells_that_it_is_ending(tmp_path):
    (tmp_path / "scope").mkdir()
    engine = Engine(tmp_path / "scope", tmp_path / "out", settings())
    thread = run(engine)
    answer = engine.ask(CloseSeries(series="nobody"))
    assert (answer.ok, "nobody" in answer.text) == (False, True)
    assert engine.ask(StopRun()).ok
    thread.join(20)
    assert not thread.is_alive()
    assert engine.ask(CloseSeries(series="nobody")).text == "the run is ending"
    kinds = [type(one.event).__name__ for one in journal.read(tmp_path / "out" / "journal.jsonl")]
    assert (kinds[0], kinds[-1]) == ("SessionStarted", "SessionEnded")
    assert not (tmp_path / "out" / "endpoint.json").exists()


def test_a_stop_is_heard_whatever_waits(tmp_path):
    (tmp_path / "scope").mkdir()
    engine = Engine(tmp_path / "scope", tmp_path / "out", settings())
    thread = run(engine)
    engine.stop("Ctrl-C")
    thread.join(20)
    ended = list(journal.read(tmp_path / "out" / "journal.jsonl"))[-1].event
    assert ended == messages.SessionEnded(reason="Ctrl-C")


def test_results_of_another_folder_are_not_mixed_in(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    thread = run(engine := Engine(tmp_path / "one", tmp_path / "out", settings()))
    engine.stop("done")
    thread.join(20)
    with pytest.raises(SettingsError, match="holds results of"):
        Engine(tmp_path / "two", tmp_path / "out", settings()).run()


def test_the_folder_is_locked_and_named_when_it_cannot_be(tmp_path):
    (tmp_path / "scope").mkdir()
    with outfolder.lock_out((tmp_path / "scope",), tmp_path / "out"), pytest.raises(OutputError, match="another run"):
        outfolder.lock_out((tmp_path / "scope",), tmp_path / "out")
    outfolder.lock_out((tmp_path / "scope",), tmp_path / "out").close()
    with pytest.raises(SettingsError, match="is no folder"):
        outfolder.lock_out((tmp_path / "nowhere",), tmp_path / "out")
    with pytest.raises(SettingsError, match="lies in the watched folder"):
        outfolder.lock_out((tmp_path / "scope",), tmp_path / "scope" / "out")


def test_a_series_is_placed_closed_and_finished_and_a_second_run_has_nothing_to_do(quick, scope, tmp_path):
    out = tmp_path / "out"
    engine = run_until_idle(scope, out)
    assert engine.series["TS"].state == "finished"
    assert [one.index for one in told(out, TiltPlaced)] == list(range(6))
    again = run_until_idle(scope, out)
    assert again.series["TS"].state == "finished"
    assert [one.resumed for one in told(out, SessionStarted)] == [False, True]
    assert len(told(out, TiltReceived)) == len(told(out, TiltPlaced)) == 6
    assert len(told(out, FinishDone)) == 1


def test_killed_after_any_line_of_its_journal_it_goes_on_without_loss_or_doubles(quick, scope, tmp_path):
    run_until_idle(scope, tmp_path / "calm")
    whole = (tmp_path / "calm" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for lines in (1, 9, 15):
        out = tmp_path / f"killed_{lines}"
        out.mkdir()
        (out / "journal.jsonl").write_bytes(b"".join(whole[:lines]) + whole[lines][:20])
        assert run_until_idle(scope, out).series["TS"].state == "finished"
        assert sorted(one.index for one in told(out, TiltPlaced)) == list(range(6))
        assert sorted(one.tilt.index for one in told(out, TiltReceived)) == list(range(6))
        assert len(told(out, FinishDone)) == 1


def test_commands_close_a_series_once(quick, scope, tmp_path):
    engine = Engine(scope, tmp_path / "out", settings())
    all_placed = threading.Event()
    engine.listeners.append(lambda one: all_placed.set() if getattr(one.event, "index", None) == 5 else None)
    thread = run(engine)
    assert all_placed.wait(20)
    assert send_command(tmp_path / "out", CloseSeries(series="TS")).text == "closed"
    again = send_command(tmp_path / "out", CloseSeries(series="TS"))
    assert (again.ok, again.text.startswith("TS is ")) == (False, True)
    unknown = send_command(tmp_path / "out", CloseSeries(series="../TS"))
    assert (unknown.ok, unknown.text) == (False, "no series ../TS; known: TS")
    assert send_command(tmp_path / "out", StopRun()).text == "stopping"
    thread.join(20)
    assert told(tmp_path / "out", messages.SeriesCompleted)[0].witness == "operator"


def test_two_runs_on_one_machine_do_not_meet(quick, scope, tmp_path):
    engines = [Engine(scope, tmp_path / name, settings()) for name in ("one", "two")]
    threads = [run(engine) for engine in engines]
    assert engines[0].endpoint != engines[1].endpoint
    for engine in engines:
        subscriber = Subscriber(engine.endpoint)
        assert subscriber.snapshot(10)
        subscriber.close()
        assert subscriber.state.started.out == str(engine.out)
    assert send_command(tmp_path / "one", StopRun()).ok
    threads[0].join(20)
    assert threads[1].is_alive()
    engines[1].stop("done")
    threads[1].join(20)


def test_a_tilt_that_fails_is_tried_again_and_its_reason_goes_to_the_finishing(quick, scope, tmp_path, monkeypatch):
    class Stumbling(QuickLane):
        def process(self, job):
            if job.tilt.index != 2:
                return [placed(job)]
            return [TiltFailed(series="TS", index=2, reason="torn film", attempts=4, final=True)]

    jobs = []
    monkeypatch.setattr("streamtomo.lanes.Lane", Stumbling)
    monkeypatch.setattr(QuickFinisher, "submit", lambda self, job: (jobs.append(job), self.tell(job, done(job.series))))
    run_until_idle(scope, tmp_path / "out")
    assert [one.failure for one in jobs[0].tilts] == [None, None, "torn film", None, None, None]


def test_a_finishing_that_fails_is_tried_again_until_it_is_final(quick, scope, tmp_path, monkeypatch):
    def fail(self, job):
        self.tell(job, FinishStarted(series=job.series, tilts=6))
        self.tell(job, FinishFailed(series=job.series, reason="killed", final=False))

    monkeypatch.setattr(QuickFinisher, "submit", fail)
    engine = run_until_idle(scope, tmp_path / "out")
    assert engine.series["TS"].state == "failed"
    assert [one.final for one in told(tmp_path / "out", FinishFailed)] == [False, True]


def test_a_finishing_without_room_goes_on_when_there_is_some(quick, scope, tmp_path, monkeypatch):
    def blocked_twice(self, job):
        self.tell(job, FinishStarted(series=job.series, tilts=6))
        self.count = getattr(self, "count", 0) + 1
        room = self.count > 2
        self.tell(
            job, done(job.series) if room else FinishFailed(series=job.series, reason="full", final=False, blocked=True)
        )

    monkeypatch.setattr(QuickFinisher, "submit", blocked_twice)
    monkeypatch.setattr("streamtomo.series_record.LONGEST_PAUSE_S", 0.5)
    engine = run_until_idle(scope, tmp_path / "out")
    assert engine.series["TS"].state == "finished"
    assert [one.final for one in told(tmp_path / "out", FinishFailed)] == [False, False]


def test_while_the_journal_cannot_be_written_the_lane_waits_and_the_intake_goes_on(quick, scope, tmp_path, monkeypatch):
    seen = []
    append = journal.Journal.append

    def full(self, *envelopes):
        if (
            any(isinstance(one.event, TiltReceived) and one.event.tilt.index == 2 for one in envelopes)
            and len(seen) < 3
        ):
            seen.append([index for index, state in engine.series["TS"].tilts.items() if state.placed])
            raise OutputError("no space left")
        append(self, *envelopes)

    monkeypatch.setattr(journal.Journal, "append", full)
    monkeypatch.setattr("streamtomo.engine.HEARTBEAT_S", 0.05)
    heard = []
    engine = Engine(
        scope, tmp_path / "out", settings(), exit_when_idle_s=0.8, listeners=[lambda e: heard.append(e.event)]
    )
    engine.run()
    assert len(seen) == 3
    assert all(placed == seen[0] for placed in seen), "nothing is placed meanwhile"
    assert "journal.unwritable" in [event.code for event in heard if isinstance(event, AlarmRaised)]
    assert engine.series["TS"].state == "finished"
    assert [one.index for one in told(tmp_path / "out", TiltPlaced)] == list(range(6))


def test_a_thread_that_fails_ends_the_run_aloud(quick, scope, tmp_path, monkeypatch):
    monkeypatch.setattr("streamtomo.lanes.Lane", lambda *_: 1 / 0)
    with pytest.raises(
        StreamtomoError, match=r"thread 'live': ZeroDivisionError: .*; the same command takes the run up"
    ):
        Engine(scope, tmp_path / "out", settings()).run()
    (ended,) = told(tmp_path / "out", messages.SessionEnded)
    assert "ZeroDivisionError" in ended.reason


def test_a_name_that_is_no_utf8_is_refused_and_the_run_goes_on(quick, scope, tmp_path):
    name = os.fsencode(scope / "TS_2_000_0.0.mrc").replace(b"TS_2", b"T\xe9_2")
    try:
        with open(name, "wb") as file:
            file.write((scope / "TS_000_0.0.mrc").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    engine = run_until_idle(scope, tmp_path / "out")
    assert engine.series["TS"].state == "finished"
    (refused,) = told(tmp_path / "out", FileRefused)
    assert refused.path.endswith("T\\xe9_2_000_0.0.mrc")
    assert "is not UTF-8; rename it" in refused.reason


def test_a_series_known_from_metadata_only_keeps_no_run_alive(quick, tmp_path, monkeypatch):
    def watch(folder, settings, stop, **_):
        yield SeriesDescribed(series="TS", source="m", planned_tilts=41)
        while not stop.wait(0.05):
            yield None

    monkeypatch.setattr("streamtomo.folders.watch", watch)
    (tmp_path / "scope").mkdir()
    engine = run_until_idle(tmp_path / "scope", tmp_path / "out")
    assert engine.series["TS"].planned == 41


def test_a_disk_out_of_reach_is_no_reason_to_end(tmp_path, monkeypatch):
    def unreachable(_):
        raise OSError("stale file handle")

    monkeypatch.setattr("streamtomo.outfolder.shutil.disk_usage", unreachable)
    assert outfolder.free_GB(tmp_path) is None


def test_a_run_that_cannot_start_leaves_the_folder_free(tmp_path):
    scope, out = tmp_path / "scope", tmp_path / "out"
    scope.mkdir()
    with pytest.raises(BusError, match="is not loopback"):
        Engine(scope, out, Settings(publish=Publish(bind="0.0.0.0"))).run()
    (out / "journal.jsonl").write_text("a shopping list\n")
    with pytest.raises(StreamtomoError, match="line 1: is damaged"):
        Engine(scope, out, settings()).run()
    (out / "journal.jsonl").unlink()
    engine = Engine(scope, out, settings())
    engine.stop("before it began")
    assert engine.run() == "before it began"
    assert not (out / "endpoint.json").exists()


# -- the terminal ----------------------------------------------------------------------------------------------------


def test_the_last_words_name_what_failed_and_why(quick, scope, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    code = console.run_here((scope,), tmp_path / "out", settings(min_tilts=9), exit_when_idle_s=0.8, plain=True)
    text = capsys.readouterr().out
    assert code == 0, "a cancelled series is no error"
    assert "TS: 6 tilts, too few: 6 usable tilts, 9 are needed" in text
    assert (tmp_path / "out" / "streamtomo.log").read_text() in text


def test_a_terminal_that_is_gone_does_not_disturb_the_run(quick, scope, tmp_path):
    """As in `streamtomo run ... | head -1`."""
    code = (
        "import sys, streamtomo.lanes, streamtomo.warmup; sys.path.insert(0, sys.argv[1]); import runs as t\n"
        "streamtomo.warmup.warm_live = lambda settings: None\n"
        "streamtomo.lanes.Lane, streamtomo.lanes.FinishingLane = t.QuickLane, t.QuickFinisher\n"
        "from pathlib import Path; from streamtomo.console import run_here\n"
        "sys.exit(run_here((Path(sys.argv[2]),), Path(sys.argv[3]), t.settings(), exit_when_idle_s=0.8, plain=True))\n"
    )
    here, out = os.path.dirname(__file__), tmp_path / "out"
    read, write = os.pipe()
    os.close(read)
    arguments = [sys.executable, "-c", code, here, str(scope), str(out)]
    run = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(write)
    assert (run.returncode, run.stderr) == (0, "")
    assert "ended: nothing new" in (out / "streamtomo.log").read_text()
