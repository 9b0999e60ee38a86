"""The engine's shell: telling through a full disk, resume, commands at the end, odd names, the output folder's lock."""

import os
import signal
import subprocess
import sys
import threading

import mrcfile
import msgspec
import numpy as np
import pytest

from streamtomo import console, messages, outfolder
from streamtomo.config import Publish, Settings, Watch
from streamtomo.engine import Engine
from streamtomo.errors import BusError, OutputError, SettingsError, StreamtomoError
from streamtomo.finish.recipe import FinishJob
from streamtomo.finishing import FinishingLane
from streamtomo.folders import Folders
from streamtomo.messages import (
    AlarmCleared,
    AlarmRaised,
    CloseSeries,
    FileRefused,
    FinishDone,
    FinishFailed,
    FinishStarted,
    FinishStep,
    Heartbeat,
    SeriesDescribed,
    SessionStarted,
    StopRun,
    TiltFailed,
    TiltPlaced,
    TiltReceived,
    Warned,
)
from streamtomo.model import Alignment, Correction, Placement, Tomogram, Verdict
from streamtomo.publish import journal
from streamtomo.publish.bus import Subscriber, send_command
from streamtomo.publish.state import SessionState
from streamtomo.telling import Teller


def settings(port=5900, min_tilts=5):
    watch = Watch(settle_s=0.05, relist_s=0.05, min_tilts=min_tilts)
    return Settings(publish=Publish(port=port), watch=watch)


def warned(code):
    return Warned(code=code, text="x")


class FullDisk:
    """A journal that fails while `full`."""

    def __init__(self):
        self.full, self.kept = True, []

    def append(self, envelope):
        if self.full:
            raise OutputError("no space left")
        self.kept.append(envelope)

    def close(self):
        pass


def test_what_cannot_be_written_is_kept_and_written_when_there_is_room(tmp_path):
    heard = []
    teller = Teller(tmp_path, [heard.append])
    list(teller.open())
    teller.close()
    teller._journal = disk = FullDisk()
    teller.say(warned("a"))
    teller.say(warned("b"))
    assert [one.event.code for one in heard] == ["a", "journal.unwritable", "b"], "said once, and everything is heard"
    disk.full = False
    teller.say(Heartbeat(backlog=0))
    assert [type(one.event) for one in disk.kept] == [Warned, AlarmRaised, Warned, AlarmCleared]
    assert [one.seq for one in heard] == [1, 2, 3, 4, 5]


def test_a_warning_is_said_once_even_after_a_restart(tmp_path):
    for _ in range(2):
        teller = Teller(tmp_path, [])
        list(teller.open())
        teller.once(warned("axis.unknown"))
        teller.once(warned("axis.unknown"))
        teller.close()
    assert [one.event.code for one in journal.read(tmp_path / "journal.jsonl")] == ["axis.unknown"]


def run(engine):
    """A run in a thread of its own, begun."""
    begun = threading.Event()
    engine.listeners.append(lambda one: begun.set() if isinstance(one.event, SessionStarted) else None)
    thread = threading.Thread(target=engine.run, daemon=True)
    thread.start()
    assert begun.wait(20)
    return thread


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


# -- whole runs with a quick lane ------------------------------------------------------------------------------------


def placed(job):
    return TiltPlaced(
        series=job.tilt.image.series,
        index=job.tilt.index,
        angle_deg=job.tilt.image.angle_deg,
        correction=Correction(repaired=0, binning=1, mean=10.0, sd=1.0),
        placement=Placement(shift_x=0.0, shift_y=0.0, score=10.0, ambiguity=0.1),
        verdict=Verdict(state="good"),
        in_volume=True,
    )


class QuickLane:
    """Places every tilt without looking at it."""

    def __init__(self, settings, out):
        self.settings = settings

    def start(self, unfinished):
        pass

    def close(self):
        pass

    def finished(self, name):
        pass

    def process(self, job):
        return [placed(job)]

    def refine_when_idle(self, interrupted):
        return []


class QuickFinisher(threading.Thread):
    """Finishes every series without doing anything."""

    def __init__(self, tell):
        super().__init__()
        self.tell = tell

    def submit(self, job):
        self.tell(job, FinishStarted(series=job.series, tilts=len(job.tilts)))
        self.tell(job, done(job.series))

    def cancel(self, job):
        pass

    def stop(self):
        pass

    def run(self):
        pass


def done(series):
    return FinishDone(
        series=series,
        seconds=1.0,
        alignment=Alignment(method="coarse", axis_deg=0.0, views=()),
        tomogram=Tomogram(path="/out/x", nx=1, ny=1, nz=1, binning=1, pixel_size_A=None, mean=0.0, sd=1.0),
        files=(),
    )


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("streamtomo.warmup.warm_live", lambda settings: None)
    monkeypatch.setattr("streamtomo.lanes.Lane", QuickLane)
    monkeypatch.setattr("streamtomo.lanes.FinishingLane", QuickFinisher)


@pytest.fixture
def scope(tmp_path):
    """A watched folder with a series of six tilts."""
    folder = tmp_path / "scope"
    folder.mkdir()
    for n in range(6):
        mrcfile.write(folder / f"TS_{n:03d}_{3.0 * n:.1f}.mrc", np.full((32, 32), n, np.int16))
    return folder


def run_until_idle(scope, out, **options):
    engine = Engine(scope, out, settings(**options), exit_when_idle_s=0.3)
    engine.run()
    return engine


def told(out, kind):
    return [one.event for one in journal.read(out / "journal.jsonl") if isinstance(one.event, kind)]


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
    assert send_command(tmp_path / "out", CloseSeries(series="TS")) == messages.Answer(ok=True, text="closed")
    again = send_command(tmp_path / "out", CloseSeries(series="TS"))
    assert (again.ok, again.text.startswith("TS is ")) == (False, True)
    unknown = send_command(tmp_path / "out", CloseSeries(series="../TS"))
    assert unknown == messages.Answer(ok=False, text="no series ../TS; known: TS")
    assert send_command(tmp_path / "out", StopRun()) == messages.Answer(ok=True, text="stopping")
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
    monkeypatch.setattr("streamtomo.series.LONGEST_PAUSE_S", 0.5)
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
        scope, tmp_path / "out", settings(), exit_when_idle_s=0.3, listeners=[lambda e: heard.append(e.event)]
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
    def watch(folder, settings, stop, known=()):
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


def test_the_state_lacks_nothing_when_the_journal_fails(tmp_path):
    """The warning about the journal comes after the event that could not be written, not in its place."""
    teller = Teller(tmp_path, [])
    teller._journal = FullDisk()
    for n in range(3):
        teller.say(TiltFailed(series="TS", index=n, reason="x"))
    state = msgspec.json.decode(teller.state(), type=SessionState)
    assert list(state.series["TS"].tilts) == [0, 1, 2]
    assert (state.seq, state.missed) == (4, 0)


def test_every_outage_of_the_journal_is_said_once(tmp_path):
    heard = []
    teller = Teller(tmp_path, [heard.append])
    teller._journal = disk = FullDisk()
    for full in (True, True, False, True, True):
        disk.full = full
        teller.say(warned("a"))
    alarms = [type(one.event) for one in heard if not isinstance(one.event, Warned)]
    assert alarms == [AlarmRaised, AlarmCleared, AlarmRaised]


# -- the terminal ----------------------------------------------------------------------------------------------------


def test_the_last_words_name_what_failed_and_why(quick, scope, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    code = console.run_here((scope,), tmp_path / "out", settings(min_tilts=9), exit_when_idle_s=0.3, plain=True)
    text = capsys.readouterr().out
    assert code == 0, "a cancelled series is no error"
    assert "TS: 6 tilts, too few: 6 usable tilts, 9 are needed" in text
    assert (tmp_path / "out" / "streamtomo.log").read_text() in text


def test_a_terminal_that_is_gone_does_not_disturb_the_run(quick, scope, tmp_path):
    """As in `streamtomo run ... | head -1`."""
    code = (
        "import sys, streamtomo.lanes, streamtomo.warmup; sys.path.insert(0, sys.argv[1]); import test_engine as t\n"
        "streamtomo.warmup.warm_live = lambda settings: None\n"
        "streamtomo.lanes.Lane, streamtomo.lanes.FinishingLane = t.QuickLane, t.QuickFinisher\n"
        "from pathlib import Path; from streamtomo.console import run_here\n"
        "sys.exit(run_here((Path(sys.argv[2]),), Path(sys.argv[3]), t.settings(), exit_when_idle_s=0.3, plain=True))\n"
    )
    here, out = os.path.dirname(__file__), tmp_path / "out"
    read, write = os.pipe()
    os.close(read)
    arguments = [sys.executable, "-c", code, here, str(scope), str(out)]
    run = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(write)
    assert (run.returncode, run.stderr) == (0, "")
    assert "ended: nothing new" in (out / "streamtomo.log").read_text()


# -- the finishing lane ----------------------------------------------------------------------------------------------


def job(folder):
    return FinishJob(series="TS", folder=str(folder), settings=Settings(), axis_deg=0.0, pixel_size_A=None, tilts=())


def finish(program, *jobs):
    """What a lane with this program tells about the jobs; each outcome is waited for."""
    heard, outcome = [], threading.Semaphore(0)

    def tell(_job, event):
        heard.append(event)
        if isinstance(event, FinishDone | FinishFailed):
            outcome.release()

    lane = FinishingLane(tell, (sys.executable, "-c", program))
    lane.start()
    for one in jobs:
        lane.submit(one)
        assert outcome.acquire(timeout=60)
    lane.stop()
    lane.join(20)
    assert not lane.is_alive()
    return heard


def printing(*events, then=""):
    lines = [msgspec.json.encode(event).decode() for event in events]
    return f"import sys\nfor line in {lines!r}: print(line)\n{then}"


def test_a_job_is_written_down_and_its_steps_and_result_are_told(tmp_path):
    step = FinishStep(series="TS", step="align", fraction=0.5)
    heard = finish(printing(step, done("TS")), job(tmp_path / "TS"))
    assert heard == [FinishStarted(series="TS", tilts=0), step, done("TS")]
    assert msgspec.json.decode((tmp_path / "TS" / "TS_job.json").read_bytes(), type=FinishJob) == job(tmp_path / "TS")


@pytest.mark.parametrize("noise", ["'hello'", '\'{"kind":"picture"}\'', "'[' * 50000", "'\\0'"])
def test_a_library_that_prints_does_no_harm(tmp_path, noise):
    heard = finish(f"print({noise})\n" + printing(done("TS")), job(tmp_path))
    assert heard[-1] == done("TS")


def test_bytes_that_are_no_text_do_no_harm(tmp_path):
    noise = "import sys; sys.stdout.buffer.write(b'\\xff\\n'); sys.stderr.buffer.write(b'\\xff\\n')\n"
    assert finish(noise + printing(done("TS")), job(tmp_path))[-1] == done("TS")


def test_a_process_that_dies_is_a_failure_with_its_last_words(tmp_path):
    failed = finish("import sys; print('no room', file=sys.stderr); sys.exit(7)", job(tmp_path))[-1]
    assert failed.reason == "the finishing process ended with status 7: no room"
    assert not failed.final
    assert "status -9: no message" in finish("import os; os.kill(os.getpid(), 9)", job(tmp_path))[-1].reason


def test_a_job_that_cannot_even_start_does_not_end_the_lane(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    heard = finish(printing(done("TS")), job(tmp_path / "file"), job(tmp_path))
    assert "cannot start" in heard[1].reason
    assert heard[-1] == done("TS")

    def full(*_):
        raise OutputError("no space left")

    with monkeypatch.context() as disk:
        disk.setattr("streamtomo.finishing.write_text", full)
        assert finish("", job(tmp_path))[-1].reason == "cannot start: no space left"


def test_a_stop_ends_the_process_at_work_without_a_word(tmp_path):
    heard, begun = [], threading.Event()

    def tell(_job, event):
        heard.append(event)
        if isinstance(event, FinishStep):
            begun.set()

    step = FinishStep(series="TS", step="align", fraction=0.5)
    program = printing(step, then="sys.stdout.flush(); import time; time.sleep(600)")
    lane = FinishingLane(tell, (sys.executable, "-c", program))
    lane.start()
    for _ in range(2):
        lane.submit(job(tmp_path))
    assert begun.wait(60)
    lane.stop()
    lane.join(20)
    assert not lane.is_alive()
    assert heard == [FinishStarted(series="TS", tilts=0), step]


def test_a_job_that_is_out_of_date_is_ended_and_the_next_one_begun(tmp_path):
    heard, steps, outcome = [], threading.Semaphore(0), threading.Semaphore(0)

    def tell(job, event):
        heard.append((job, event))
        if isinstance(event, FinishStep):
            steps.release()
        if isinstance(event, FinishDone | FinishFailed):
            outcome.release()

    step = FinishStep(series="TS", step="align", fraction=0.5)
    program = printing(step, then="sys.stdout.flush(); import time; time.sleep(600)")
    lane = FinishingLane(tell, (sys.executable, "-c", program))
    lane.start()
    old, new = job(tmp_path), job(tmp_path)
    lane.submit(old)
    assert steps.acquire(timeout=60)
    lane.cancel(old)
    assert outcome.acquire(timeout=60)
    lane.submit(new)
    assert steps.acquire(timeout=60)
    lane.stop()
    lane.join(20)
    assert heard[-1][0] is new


# -- several folders, orders, alarms ---------------------------------------------------------------------------------


def write_series(folder, name, angles):
    folder.mkdir(exist_ok=True)
    for n, angle in enumerate(angles):
        mrcfile.write(folder / f"{name}_{n:03d}_{angle:.1f}.mrc", np.full((32, 32), n, np.int16))


def wait_for(engine, condition, *, begin=lambda: None, seconds=20):
    """Until an event makes the condition true."""
    done = threading.Event()
    engine.listeners.append(lambda one: done.set() if condition(one.event) else None)
    begin()
    assert done.wait(seconds)


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
