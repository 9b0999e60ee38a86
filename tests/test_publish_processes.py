"""A run and its readers in processes of their own, with keys: killed, started anew, stuck, and very talkative."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import zmq
from test_publish_bus import certificates, free_port

from streamtomo.cli import main
from streamtomo.errors import BusError
from streamtomo.messages import StopRun
from streamtomo.publish import viewer
from streamtomo.publish.client import Subscriber, send_command_to
from streamtomo.publish.keys import ClientKeys, Pair, client_keys

pytestmark = pytest.mark.skipif(not zmq.has("curve"), reason="libzmq without CURVE")

RUN = """
import sys, time
from pathlib import Path
from streamtomo.messages import Answer, Heartbeat, SessionStarted, SeriesOpened, Warned
from streamtomo.config import Publish
from streamtomo.telling import Teller

out, keys, port, name, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
teller = Teller(out, [])
list(teller.open())
bus = teller.open_bus(
    Publish(bind="127.0.0.1", port=port, curve_keys=str(keys)),
    lambda command, by: Answer(ok=True, text=f"{type(command).__name__} from {by}"),
)
teller.say(SessionStarted(watched="/scope", out=str(out), host="h", pid=1, program="0"))
teller.say(SeriesOpened(series=name, source="s", nx=1, ny=1))
print(bus.endpoint, flush=True)
for line in sys.stdin:  # whenever the test says so
    for n in range(count):
        teller.say(Heartbeat(backlog=n))
    if count == 1:
        teller.say(Warned(code="beat", text=str(time.time())))
"""


class Run:
    """A process that tells; each `beat` is so many heartbeats."""

    def __init__(self, out, keys, port, name, count=1):
        arguments = [sys.executable, "-c", RUN, str(out), str(keys), str(port), name, str(count)]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = self.process.stdout.readline().strip()
        assert self.endpoint

    def beat(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def started(tmp_path):
    """Starts runs, all in one folder with one set of keys, and ends them."""
    runs, keys = [], certificates(tmp_path)
    (tmp_path / "out").mkdir()

    def start(port, name, count=1):
        runs.append(Run(tmp_path / "out", keys, port, name, count))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()


def test_only_keys_open_the_door_of_another_process(started, tmp_path, monkeypatch):
    monkeypatch.setattr(viewer, "ANSWER_S", 0.4)
    endpoint = started(free_port(), "TS_01").endpoint
    handed = tmp_path / "keys" / "for"
    assert viewer.status(endpoint, json=False, keys=handed / "bob") == 0
    alice = client_keys(handed / "alice")
    assert send_command_to(endpoint, alice, StopRun()).text == "StopRun from alice"
    stranger = ClientKeys(Pair(*zmq.curve_keypair()), alice.server)
    with pytest.raises(BusError, match="does it know your key"):
        send_command_to(endpoint, stranger, StopRun(), timeout=0.4)
    with pytest.raises(BusError, match="does it know your key"):
        viewer.status(endpoint, json=False)


def test_a_reader_is_whole_again_after_a_run_was_killed_and_started_anew(started, tmp_path):
    port = free_port()
    run = started(port, "TS_01")
    reader = Subscriber(run.endpoint, client_keys(tmp_path / "keys"))
    stream = reader.envelopes(0.1, 2.0)
    until(stream, run, lambda: "TS_01" in reader.state.series and reader.state.heartbeat is not None)
    first = reader.state.session
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait()
    again = started(port, "TS_02")
    until(stream, again, lambda: reader.state.session not in ("", first))
    assert set(reader.state.series) == {"TS_01", "TS_02"}, "what the journal had, too"
    assert reader.state.missed == 0
    reader.close()


def until(stream, run, condition, turns=300):
    for _ in range(turns):
        if condition():
            return
        run.beat()
        next(stream)
    raise AssertionError("never came")


def test_ten_thousand_messages_reach_a_healthy_reader_beside_a_stuck_one(started, tmp_path):
    run = started(free_port(), "TS_01", count=10_000)
    keys = client_keys(tmp_path / "keys")
    stuck = Subscriber(run.endpoint, keys)  # never reads
    reader = Subscriber(run.endpoint, keys)
    stream = reader.envelopes(0.1, 2.0)
    run.beat()
    while next(stream) is None:  # its subscription is known from the first envelope on
        run.beat()
    while next(stream) is not None:
        pass
    before, seen = reader.state.seq, 0
    run.beat()
    while reader.state.seq < before + 10_000:
        seen += next(stream) is not None
    assert (seen, reader.state.missed, reader.filled) == (10_000, 0, 0)
    stuck.close()
    reader.close()


def test_one_screen_is_printed_without_a_terminal(started, tmp_path):
    run = started(free_port(), "TS_01")
    command = [sys.executable, "-m", "streamtomo", "dashboard", run.endpoint, "--keys", str(tmp_path / "keys")]
    shown = subprocess.run([*command, "--once"], capture_output=True, text=True, timeout=30)
    assert (shown.returncode, "TS_01" in shown.stdout, "\x1b" in shown.stdout) == (0, True, False)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[publish]\ncurve_keys = "{tmp_path / "keys"}"\n')
    assert main(["status", run.endpoint, "--config", str(settings)]) == 0
    assert main(["dashboard", run.endpoint, "--once", "--config", str(settings)]) == 0


def test_every_event_is_a_line_where_there_is_no_terminal(started, tmp_path):
    run = started(free_port(), "TS_01")
    command = [sys.executable, "-m", "streamtomo", "dashboard", run.endpoint, "--keys", str(tmp_path / "keys")]
    shown = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    first = []
    reading = threading.Thread(target=lambda: first.append(shown.stdout.readline()))
    reading.start()
    while reading.is_alive():  # until its subscription is known
        run.beat()
        reading.join(0.1)
    assert "WARNING beat: " in first[0]
    shown.kill()
    shown.communicate()


def test_what_is_no_endpoint_is_named(capsys):
    assert main(["dashboard", "/nowhere", "--plain"]) == 1
    assert "/nowhere: is no endpoint" in capsys.readouterr().err
