"""Numbers for Prometheus, and the log that is put aside."""

import re
import socket
import urllib.request

import msgspec
import pytest
from test_publish_dashboard import BAD, RUNNING, placed, received, state

from streamtomo import console, messages
from streamtomo.console import Log
from streamtomo.errors import BusError
from streamtomo.messages import AlarmRaised, Envelope, Heartbeat, Warned
from streamtomo.publish.lines import verbose_line
from streamtomo.publish.metrics import served, text
from streamtomo.publish.state import SessionState

LINE = re.compile(r'(# (HELP|TYPE) streamtomo_\w+ .+|streamtomo_\w+(\{\w+="[^"\n]*"\})? [0-9.e+-]+)')


def told():
    beat = Heartbeat(backlog=3, free_GB=12.5, memory_GB=0.5, turned_away=7)
    return state(*RUNNING, received(2), placed(2, BAD), AlarmRaised(code="tilt.late", text="late"), beat)


@pytest.mark.parametrize("session", [SessionState(), told()], ids=["empty", "running"])
def test_every_line_is_of_the_format(session):
    lines = text(session).splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


def test_the_numbers_are_those_of_the_state():
    lines = text(told()).splitlines()
    for line in (
        'streamtomo_series{state="collecting"} 1',
        'streamtomo_tilts{verdict="good"} 2',
        'streamtomo_tilts{verdict="bad"} 1',
        'streamtomo_alarms{code="tilt.late"} 1',
        "streamtomo_backlog_tilts 3",
        "streamtomo_turned_away_total 7",
        "streamtomo_free_bytes 12500000000",
        "streamtomo_tilt_seconds 0.045",
    ):
        assert line in lines


def test_they_are_served_on_loopback_until_the_end():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served(port, lambda: msgspec.json.encode(told())):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert answer.read().decode() == text(told())
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        with pytest.raises(BusError, match="metrics_port"), served(port, lambda: b""):
            pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    with served(None, lambda: b""):
        pass


# -- the log ---------------------------------------------------------------------------------------------------------


def envelope(event):
    return Envelope(version=1, session="s", seq=1, time_s=0.0, event=event)


def test_a_long_log_is_put_aside_and_the_last_ones_are_kept(tmp_path):
    log = Log(tmp_path / "streamtomo.log", echo=False, most_bytes=200)
    for n in range(60):
        log(envelope(Warned(code="x", text=f"number {n:03d}")))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[-console.LOGS_KEPT :] == [f"streamtomo.log.{n}" for n in range(1, console.LOGS_KEPT + 1)]
    assert all(path.stat().st_size < 300 for path in tmp_path.iterdir())
    kept = "".join((tmp_path / name).read_text() for name in reversed(names))
    numbers = [int(n) for n in re.findall(r"number (\d+)", kept)]
    assert numbers == list(range(numbers[0], 60)), "none is lost between two files"


def test_a_verbose_log_has_every_event_but_the_pictures():
    line = verbose_line(envelope(Heartbeat(backlog=3)))
    assert "heartbeat {'backlog': 3" in line
    assert "WARNING x: y" in verbose_line(envelope(Warned(code="x", text="y")))
    picture = messages.Picture(series="TS", plane="xy", tilts=1, width=1, height=1, pixels=b"\0")
    assert verbose_line(envelope(picture)) is None
    assert verbose_line(envelope(received(1))).isprintable()
