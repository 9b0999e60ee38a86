"""Keys, cells and the window on a real pseudo-terminal: what is pressed, what is sent, and how little of it."""

import fcntl
import io
import os
import pty
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import threading
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as fuzzing
from hypothesis import strategies as any_of
from rich.console import Console
from rich.text import Text
from test_publish_dashboard import BAD, FAILED, LOW, NOW, RUNNING, opened, placed, received, state

from streamtomo import messages
from streamtomo.messages import Answer, ExcludeTilts, PauseFinishing, RejectSeries, RestoreTilts, ResumeFinishing
from streamtomo.publish import terminal
from streamtomo.publish.curves import braille, limits
from streamtomo.publish.dashboard import Known, render
from streamtomo.publish.screen import Screen
from streamtomo.publish.terminal import Dashboard, Keys, Window, parse
from streamtomo.publish.view import HELP, View, chosen, chosen_tilt, press, question


def pressed(keys, session, view=None):
    """The view and the orders after some keys."""
    view, orders = view or View(), []
    for key in keys:
        done = press(view, key, session)
        view = done.view
        orders += [done.order] if done.order else []
    return view, orders


THREE = state(opened("A"), received(0, "A"), opened("B"), received(0, "B"), received(1, "B"), opened("C"))

# -- keys ------------------------------------------------------------------------------------------------------------


def test_series_are_chosen_and_followed_again():
    assert chosen(View(), THREE).name == "C", "the one that something happened to last"
    view, _ = pressed(["down"], THREE)
    assert (view.series, chosen_tilt(view, THREE.series["B"])) == ("B", 1)
    assert pressed(["down"] * 9, THREE)[0].series == "A"
    assert pressed(["pgdn", "up"], THREE)[0].series == "B"
    assert pressed(["down", "f"], THREE)[0] == View()


def test_an_order_is_sent_only_after_yes():
    view, orders = pressed(["down", "left", "x"], THREE)
    assert (orders, question(view.asked)) == ([], "leave tilt 0 of B out?")
    assert pressed("n", THREE, view) == (View(series="B", tilt=0), [])
    expected = ExcludeTilts(series="B", tilts=(0,), reason="left out on the dashboard")
    assert pressed("y", THREE, view)[1] == [expected]
    assert pressed(["down", "r", "y"], THREE)[1] == [RestoreTilts(series="B", tilts=(1,))]
    assert isinstance(pressed(["d", "y"], THREE)[1][0], RejectSeries)
    assert pressed(["p", "y"], THREE)[1] == [PauseFinishing()]
    paused = state(messages.FinishingPaused())
    assert pressed(["p", "y"], paused)[1] == [ResumeFinishing()]


def test_every_order_has_its_question():
    kinds = [pressed(key, THREE)[0].asked for key in "xrcodtp" if pressed(key, THREE)[0].asked]
    assert len({question(order) for order in kinds}) == len(kinds)


@fuzzing(max_examples=60, deadline=None)
@given(
    any_of.lists(any_of.sampled_from([*"xrcodtpfa?hjkly", "up", "down", "left", "right", "pgup", "pgdn", "esc", "é"]))
)
def test_no_key_ever_fails(keys):
    for session in (state(), THREE):
        view, _ = pressed(keys, session)
        console = Console(width=80, height=24, file=io.StringIO())
        console.print(render(session, 80, 24, NOW, view))


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (b"x", ["x"]),
        (b"\x1b[A\x1b[Bq", ["up", "down", "q"]),
        (b"\x1bOC\x1b[5~\x1b[6~\t", ["right", "pgup", "pgdn", "tab"]),
        (b"\x1b", ["esc"]),
        (b"\x1b[1;5Ay", ["y"]),
        ("é?".encode(), ["é", "?"]),
        (b"\xff\x00", []),
    ],
)
def test_what_a_terminal_sends_is_understood(typed, keys):
    assert parse(typed) == keys


@given(any_of.binary(max_size=40))
def test_rubbish_from_the_keyboard_is_passed_over(typed):
    assert all(isinstance(key, str) and key for key in parse(typed))


# -- curves ----------------------------------------------------------------------------------------------------------


def test_a_curve_has_its_points_where_they_belong():
    corners = [(0.0, 0.0), (1.0, 1.0)]
    assert braille(corners, 2, 1, (0, 1), (0, 1)) == ["⡀⠈"]
    assert braille([(5.0, -9.0)], 2, 2, (0, 1), (0, 1)) == ["⠀⠀", "⠀⢀"], "beyond the ranges: at the edge"
    assert braille([], 3, 1, (0, 0), (0, 0)) == ["⠀⠀⠀"]


@given(any_of.lists(any_of.floats(-1e6, 1e6), min_size=1))
def test_a_range_holds_its_values(values):
    low, high = limits(values, 0.5)
    assert low <= min(values) <= max(values) <= high
    assert low < high


# -- cells -----------------------------------------------------------------------------------------------------------


class Glass:
    """As much of a terminal as the screen needs: it shows what was written, and remembers all that it showed."""

    def __init__(self, width, height):
        self.past = []
        self.cells = [[" "] * width for _ in range(height)]
        self.row = self.column = 0

    def write(self, text):
        for code, letter in _tokens(text):
            if letter == "H":
                self.row, self.column = (int(n) - 1 for n in (code or "1;1").split(";"))
            elif letter == "J":
                self.cells = [[" "] * len(line) for line in self.cells]
            elif not letter:
                self.cells[self.row][self.column] = code
                self.column += 1
        self.past.append("\n".join(self.text))

    def flush(self):
        pass

    def showed(self, words):
        """The first moment at which the words were to be seen, None if never."""
        return next((n for n, text in enumerate(self.past) if words in text), None)

    @property
    def text(self):
        return ["".join(line) for line in self.cells]


def _tokens(text):
    """Pairs of (parameters, final letter), or (character, "")."""
    for code, letter, character in re.findall(r"\x1b\[([0-9;?]*)([A-Za-z])|([^\x1b])", text):
        yield (code, letter) if letter else (character, "")


def glass(width=60, height=12, rate=4000.0, **options):
    shown = Glass(width, height)
    console = Console(
        width=width, height=height, file=io.StringIO(), force_terminal=True, color_system="256", **options
    )
    return shown, Screen(console, shown.write, rate), console


def plain(frame, console):
    lines = console.render_lines(frame, console.options.update(width=console.width, height=console.height))
    rows = ["".join(segment.text for segment in line)[: console.width] for line in lines][: console.height]
    return [row.ljust(console.width) for row in rows] + [" " * console.width] * (console.height - len(rows))


@fuzzing(max_examples=30, deadline=None)
@given(any_of.lists(any_of.lists(any_of.text("ab 1▀─", max_size=70), max_size=14), min_size=1, max_size=5))
def test_after_any_frames_the_terminal_shows_the_last_one(frames):
    shown, screen, console = glass(rate=200.0)
    now = 0.0
    for lines in frames:
        frame = Text("\n".join(line.rstrip() for line in lines), no_wrap=True, overflow="crop")
        now += 0.3
        screen.draw(frame, now)
    while screen.behind:
        now += 1.0
        screen.draw(frame, now)
    assert shown.text == plain(frame, console)


def test_only_changes_are_sent_and_nothing_when_nothing_changed():
    shown, screen, _ = glass()
    screen.draw(Text("one two three"), 0.0)
    sent = screen.sent
    screen.draw(Text("one two three"), 1.0)
    assert screen.sent == sent
    screen.draw(Text("one 2wo three"), 2.0)
    assert 0 < screen.sent - sent < 20
    assert shown.text[0].startswith("one 2wo three")


def test_text_comes_before_pictures_and_no_more_than_the_line_carries():
    _, screen, _ = glass(100, 30, rate=1000.0)
    frames = [state(*RUNNING), state(*RUNNING, received(2), placed(2, BAD))]
    screen.draw(render(frames[0], 100, 30, NOW - 90), 0.0)
    start = screen.sent
    for turn in range(20):
        screen.draw(render(frames[turn % 2], 100, 30, NOW - 90 + turn), 1.0 + turn / 4)
    assert screen.sent - start < 1000 * 6 + 500


def test_without_colours_none_are_sent():
    shown, screen, console = glass(100, 30, no_color=True)
    sent = []
    screen._write = lambda text: (sent.append(text), shown.write(text))
    frame = render(state(*RUNNING, LOW), 100, 30, NOW - 90)
    screen.draw(frame, 0.0)
    codes = {part for code in re.findall(r"\x1b\[([0-9;]*)m", "".join(sent)) for part in code.split(";")}
    assert codes <= {"", "0", "1", "2", "7"}, "bold, dim and reverse only"
    assert "▀" not in "".join(sent)
    assert shown.text == plain(frame, console)


def test_another_size_draws_everything_anew():
    shown, screen, console = glass()
    screen.draw(Text("one"), 0.0)
    console.size = (50, 10)
    screen.draw(Text("one"), 1.0)
    assert shown.text[0].startswith("one")


# -- the window ------------------------------------------------------------------------------------------------------


class Watcher:
    """A source of states that fails now and then, and says when it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), threading.Semaphore(0)

    def __call__(self):
        self.asked.release()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [Known("", answer, NOW)]

    def wait(self, times):
        for _ in range(times):
            assert self.asked.acquire(timeout=30)


def test_the_window_is_drawn_and_survives_a_fault_of_ours(monkeypatch):
    monkeypatch.setattr(terminal, "REFRESH_S", 0.01)
    monkeypatch.setattr(terminal, "_keyboard", lambda: None)
    shown = Glass(100, 30)
    console = Console(width=100, height=30, file=shown, force_terminal=True)
    states = Watcher(state(*RUNNING), ValueError("no number"), state(*RUNNING, LOW))
    with Window(states, lambda name, order: Answer(ok=True, text=""), console):
        while shown.showed("disk.low: make room") is None:
            states.wait(1)
    fault = shown.showed("cannot be drawn: ValueError: no number")
    assert shown.showed("TS_01") < fault < shown.showed("disk.low: make room")


@pytest.mark.parametrize("patience_s", [30.0, 0.0])
def test_that_nobody_answers_is_said_when_there_was_time_to(monkeypatch, patience_s):
    monkeypatch.setattr(terminal, "FIRST_S", patience_s)
    monkeypatch.setattr(terminal, "REFRESH_S", 0.01)
    monkeypatch.setattr(terminal, "_keyboard", lambda: None)
    shown = Glass(100, 30)
    console = Console(width=100, height=30, file=shown, force_terminal=True)
    states = Watcher(None, state(*RUNNING))
    with Window(states, lambda name, order: Answer(ok=True, text=""), console):
        while shown.showed("TS_01") is None:
            states.wait(1)
    assert (shown.showed("no answer yet") is None) == bool(patience_s)


def test_a_terminal_that_is_gone_ends_the_window_and_nothing_else(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    console = Console(width=100, height=30, file=Gone(), force_terminal=True)
    Dashboard(lambda: [Known("", state(*RUNNING), NOW)], lambda name, order: Answer(ok=True, text=""), console).run()


def test_an_answer_is_shown_when_it_comes(monkeypatch):
    monkeypatch.setattr(terminal, "REFRESH_S", 0.01)
    ours, theirs = pty.openpty()
    given, told = [], threading.Event()

    def order(name, command):
        given.append(command)
        told.set()
        return Answer(ok=False, text="not today")

    shown = Glass(100, 30)
    console = Console(width=100, height=30, file=shown, force_terminal=True)
    look = lambda: [Known("", state(*RUNNING, received(2), FAILED), NOW)]  # noqa: E731
    thread = threading.Thread(target=Dashboard(look, order, console, keyboard=theirs).run)
    thread.start()
    for key, words in ((b"x", "leave tilt 2 of TS_01 out?"), (b"y", "not done: not today")):
        os.write(ours, key)
        deadline = time.monotonic() + 20
        while shown.showed(words) is None and time.monotonic() < deadline:
            told.wait(0.01)
    os.write(ours, b"q")
    thread.join(20)
    assert not thread.is_alive()
    assert shown.showed("not done: not today") is not None
    assert given == [ExcludeTilts(series="TS_01", tilts=(2,), reason="left out on the dashboard")]
    os.close(ours)
    os.close(theirs)


def test_the_keyboard_is_given_back_as_it_was():
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with Keys(theirs) as keys:
        assert not termios.tcgetattr(theirs)[3] & termios.ECHO
        os.write(ours, b"\x1b[A")
        assert keys.read(5.0, threading.Event()) == ["up"]
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


# -- a process on a real pseudo-terminal -----------------------------------------------------------------------------


class Viewer:
    """`streamtomo dashboard` in a process of its own, on a pseudo-terminal."""

    def __init__(self, *arguments, size=(100, 30)):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(size[0]), "LINES": str(size[1])}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamtomo", "dashboard", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        self.glass, self.heard, self._rest = Glass(*size), b"", ""

    def until(self, condition, seconds=20.0):
        """Read until what is shown fulfils the condition."""
        deadline = time.monotonic() + seconds
        while not condition("\n".join(self.glass.text)):
            assert time.monotonic() < deadline, "\n".join(self.glass.text)
            if select.select([self.ours], [], [], 0.1)[0]:
                self.take()

    def take(self):
        """What it wrote meanwhile."""
        try:
            news = os.read(self.ours, 65536)
        except OSError:
            news = b""
        self.heard += news
        text = self._rest + news.decode("utf-8", "ignore")
        whole, escape, rest = text.rpartition("\x1b")
        self._rest = escape + rest if escape and not re.match(r"\[[0-9;?]*[A-Za-z]", rest) else ""
        self.glass.write(whole if self._rest else text)

    def press(self, keys):
        os.write(self.ours, keys)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


def test_on_a_real_terminal_keys_choose_ask_and_leave(tmp_path):
    lines = [msgspec.json.encode(one) for one in envelopes(*RUNNING, opened("TS_02"))]
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    viewer = Viewer("--journal", str(path), "--speed", "1000")
    try:
        viewer.until(lambda text: "TS_01" in text and "TS_02" in text and "a recording" in text)
        viewer.press(b"\x1b[B")
        viewer.until(lambda text: "1024 x 1024 · 10.8 Å · axis 85.3°" in text and "+3.0" in text)
        viewer.press(b"x")
        viewer.until(lambda text: "leave tilt 1 of TS_01 out?" in text)
        viewer.press(b"y")
        viewer.until(lambda text: "not done: this is a recording" in text)
        viewer.press(b"?")
        viewer.until(lambda text: all(words.split(";")[0] in text for words in HELP.values()))
        viewer.press(b"q?q")
        assert viewer.process.wait(20) == 0
        viewer.take()
        assert viewer.heard.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")
    finally:
        viewer.close()


def envelopes(*events):
    started = messages.SessionStarted(watched="/scope", out="/out", host="h", pid=1, program="0.1")
    for seq, event in enumerate((started, *events), start=1):
        if not isinstance(event, messages.WIRE_ONLY):
            yield messages.Envelope(version=1, session="s", seq=seq, time_s=NOW + seq / 10, event=event)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
