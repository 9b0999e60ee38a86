"""Screens of a recorded session with a jump, a dark view, an alarm and a restart, as they were approved.

After a wanted change run this with APPROVE=1 in the environment, and look at the difference before it is committed.
"""

import io
import os
import time
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from streamtomo import messages
from streamtomo.publish import journal, viewer
from streamtomo.publish.dashboard import Known, health, render, render_all, troubles
from streamtomo.publish.film import LONGEST_WAIT_S, Film
from streamtomo.publish.state import SessionState
from streamtomo.publish.view import View

SCREENS = Path(__file__).parent / "screens"
RECORDED = SCREENS / "session.jsonl"
SIZES = ((80, 24), (120, 40), (200, 60))


@pytest.fixture(autouse=True)
def _utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def told(until, count=1):
    """The state when something has happened so many times, with the pictures and the heartbeat that it had then."""
    state = SessionState()
    for envelope in journal.read(RECORDED):
        state.apply(envelope)
        count -= until(envelope.event)
        if count == 0:
            break
    for plane, height in (("xy", 96), ("xz", 32)):
        pixels = bytes(min(255, (x // 8 + y // 8) % 2 * 120 + x) for y in range(height) for x in range(96))
        one = messages.Picture(series="TS_01", plane=plane, tilts=9, width=96, height=height, pixels=pixels)
        state.series["TS_01"].pictures[plane] = one
    for tilt in state.series["TS_01"].placed:  # as idle time tells it
        tilt.agreement = 0.42 - 0.003 * abs(tilt.angle_deg)
    waiting = sum(tilt.letter == "." for row in state.series.values() for tilt in row.tilts.values())
    state.heartbeat = messages.Heartbeat(backlog=waiting, waiting_for="TS_01: tilt 18", free_GB=812.4, memory_GB=1.31)
    state.heartbeat_s = state.time_s
    return state


def is_a(kind):
    return lambda event: isinstance(event, kind)


def is_jump(event):
    return isinstance(event, messages.TiltPlaced) and (event.series, event.index) == ("TS_01", 9)


MOMENTS = {
    "jump": (told, is_jump, 1, View()),
    "alarm": (told, is_a(messages.AlarmRaised), 1, View(series="TS_01", tilt=12)),
    "restart": (told, is_a(messages.SessionStarted), 2, View()),
    "alarm-over": (told, is_a(messages.FinishStep), 3, View()),
    "end": (told, lambda event: False, 1, View(series="TS_02")),
    "help": (told, is_jump, 1, View(help=True)),
}


def text_of(frame, width, height):
    console = Console(width=width, height=height, file=io.StringIO(), no_color=True, record=True)
    console.print(frame)
    return "\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n"


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("moment", MOMENTS)
def test_the_screen_is_as_approved(moment, size):
    make, until, count, view = MOMENTS[moment]
    state = make(until, count)
    text = text_of(render(state, *size, state.time_s + 1.0, view), *size)
    lines = text.splitlines()
    assert (len(lines), max(map(len, lines)) <= size[0]) == (size[1], True)
    approved = SCREENS / f"{moment}-{size[0]}x{size[1]}.txt"
    if os.environ.get("APPROVE"):
        approved.write_text(text, encoding="utf-8")
    assert text == approved.read_text(encoding="utf-8")


def test_every_red_thing_says_why():
    state = told(is_a(messages.AlarmRaised))
    reasons = troubles(state)
    assert reasons[0].startswith("ALARM /data/scope: no new tilt")
    assert "1 ALARM" in health(state, state.time_s).words


@pytest.mark.parametrize(
    ("change", "words", "badness"),
    [
        ({}, "running", 0),
        ({"heartbeat_s": -3.0}, "NO SIGN OF LIFE for 3 s", 3),
        ({"finishing_paused": True}, "FINISHING PAUSED", 1),
        ({"heartbeat": messages.Heartbeat(backlog=9)}, "LAGGING 9 tilts", 1),
        ({"heartbeat": messages.Heartbeat(backlog=0, ending="SIGTERM"), "heartbeat_s": -9.0}, "ENDING: SIGTERM", 1),
        ({"ended": messages.SessionEnded(reason="Ctrl-C")}, "ENDED: Ctrl-C", 2),
    ],
)
def test_what_ails_a_run_is_shown_within_three_seconds(change, words, badness):
    state = told(is_a(messages.TiltPlaced), 5)
    now = state.time_s
    for name, value in change.items():
        if name == "heartbeat_s":
            state.heartbeat_s = state.time_s = now + value
        else:
            setattr(state, name, value)
    assert health(state, now) == (words, badness)


def test_a_run_taken_up_again_says_so_for_a_minute():
    state = told(is_a(messages.SessionStarted), 2)
    assert health(state, state.time_s + 2).words == "RESTARTED 2 s ago"
    state.heartbeat_s = state.time_s + 100
    assert health(state, state.time_s + 100).words == "running"


def test_alarms_that_are_over_stay_until_they_are_seen():
    state = told(is_a(messages.AlarmCleared))
    shown = lambda view: text_of(render(state, 120, 40, state.time_s, view), 120, 40)  # noqa: E731
    assert "was: /data/scope: no new tilt" in shown(View())
    assert "was:" not in shown(View(seen_s=state.time_s))


def test_of_several_runs_the_worst_comes_first_and_the_marked_one_is_shown():
    fine, bad = told(is_a(messages.TiltPlaced), 5), told(is_a(messages.AlarmRaised))
    fine.series = {"TS_02": fine.series["TS_02"]}
    runs = [Known("krios", fine, fine.time_s), Known("talos", bad, bad.time_s), Known("dead", None, 0.0)]
    lines = text_of(render_all(runs, "krios", 100, 40, View()), 100, 40).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["dead", "talos", "krios"]
    assert lines[0].split()[1:] == ["NO", "ANSWER"]
    assert "1 ALARM" in lines[1]
    assert any(line.startswith("TS_02") for line in lines[4:])


# -- recordings ------------------------------------------------------------------------------------------------------


def test_a_recording_is_shown_at_its_speed_and_ends_as_the_session_did():
    film = Film(RECORDED, speed=10)
    first = film.look(1000.0).state.started
    assert first is not None
    seen = len(film.look(1000.5).state.series["TS_01"].tilts)
    middle = film.look(1001.0)
    assert seen < len(middle.state.series["TS_01"].tilts) < 17
    assert health(middle.state, middle.now).words == "running"
    last = film.look(9000.0).state
    assert last.ended is not None
    assert film.end().state.series["TS_01"].state == "finished"


def test_without_a_terminal_a_recording_is_lines_of_text(capsys):
    assert viewer.replay(RECORDED, speed=10, plain=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20
    assert "FINISHED" in lines[-2]


def test_a_long_night_between_two_sessions_is_cut_short(tmp_path):
    lines = RECORDED.read_bytes().splitlines()
    late = msgspec.json.decode(lines[1])
    late["time_s"] += 40_000.0
    path = tmp_path / "journal.jsonl"
    path.write_bytes(lines[0] + b"\n" + msgspec.json.encode(late) + b"\n")
    film = Film(path, speed=1)
    film.look(0.0)
    assert film.look(LONGEST_WAIT_S + 0.1).state.seq == late["seq"]
