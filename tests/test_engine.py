"""The engine's shell: telling through a full disk, resume, commands at the end, odd names, the output folder's lock."""

import threading

import msgspec
import pytest

from streamtomo import messages, outfolder
from streamtomo.config import Publish, Settings
from streamtomo.engine import Engine
from streamtomo.errors import OutputError, SettingsError
from streamtomo.messages import CloseSeries, Heartbeat, SessionStarted, StopRun, Warned
from streamtomo.publish import journal
from streamtomo.telling import Teller


def settings(port=5900):
    return Settings(publish=Publish(port=port))


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
    assert [one.event.code for one in disk.kept] == ["a", "journal.unwritable", "b"]
    assert [one.seq for one in heard] == [1, 2, 3, 4]


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
    thread = threading.Thread(target=engine.run)
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
    with outfolder.lock_out(tmp_path / "scope", tmp_path / "out"), pytest.raises(OutputError, match="another run"):
        outfolder.lock_out(tmp_path / "scope", tmp_path / "out")
    outfolder.lock_out(tmp_path / "scope", tmp_path / "out").close()
    with pytest.raises(SettingsError, match="is no folder"):
        outfolder.lock_out(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(SettingsError, match="lies in the watched folder"):
        outfolder.lock_out(tmp_path / "scope", tmp_path / "scope" / "out")


def test_every_shortage_of_disk_is_said_once(tmp_path, monkeypatch):
    free = iter([20.0, 4.0, 3.0, 5.5, 20.0, 4.0])
    usage = lambda _: msgspec.defstruct("Usage", [("free", float)])(free=next(free) * 1e9)  # noqa: E731
    monkeypatch.setattr("streamtomo.outfolder.shutil.disk_usage", usage)
    disk = outfolder.Disk(tmp_path)
    assert [disk.look()[1] is not None for _ in range(6)] == [False, True, False, False, False, True]
