"""The dashboard on a terminal: its other screen, keys, and the loop that draws."""

from __future__ import annotations

import os
import queue
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from msgspec.structs import replace
from rich.console import Console, RenderableType
from rich.text import Text

from streamtomo.messages import Answer, Command
from streamtomo.publish.dashboard import Known, render, render_all, worst_first
from streamtomo.publish.screen import ENTER, LEAVE, Screen
from streamtomo.publish.state import SessionState
from streamtomo.publish.view import View, press

REFRESH_S = 0.25
FIRST_LOOK_S, FIRST_S = 0.01, 0.3
"""So often, and so long, an answer is looked for before it is said that there is none."""
LONGEST_LEAVE_S = 2.0
ESCAPE_S = 0.05
"""An escape that nothing follows for so long was the key itself."""
SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1bOC": "right",
    b"\x1bOD": "left",
    b"\x1b[5~": "pgup",
    b"\x1b[6~": "pgdn",
    b"\t": "tab",
}

Look = Callable[[], Sequence[Known]]
Order = Callable[[str, Command], Answer]
"""Sends a command to the run of this name, and waits for the answer."""


class Keys:
    """The keys that are pressed, one by one and unseen, while it is entered; none where there is no keyboard."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd if fd is not None and os.isatty(fd) and _in_foreground(fd) else None
        self._saved: list[Any] = []

    def __enter__(self) -> Keys:
        """Take the keyboard; Ctrl-C still interrupts."""
        if self._fd is not None:
            self._saved = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd, termios.TCSANOW)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give the keyboard back."""
        if self._fd is not None and self._saved:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._saved)

    def read(self, timeout_s: float, stop: threading.Event) -> list[str]:
        """Keys pressed by now; waits for the first one at most so long."""
        if self._fd is None:
            stop.wait(timeout_s)
            return []
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return []
        if not _in_foreground(self._fd):  # reading would stop the whole process
            stop.wait(timeout_s)
            return []
        typed = self._typed()
        if typed == b"\x1b" and select.select([self._fd], [], [], ESCAPE_S)[0]:
            typed += self._typed()
        return parse(typed)

    def _typed(self) -> bytes:
        try:
            typed = os.read(self._fd, 64) if self._fd is not None else b""
        except OSError:
            typed = b""
        if not typed:  # the keyboard is gone
            self._fd = None
        return typed


def _in_foreground(fd: int) -> bool:
    """Whether the terminal takes orders from this process; one sent to the background may not touch it."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # no controlling terminal, so nobody who could stop it
        return True


def parse(typed: bytes) -> list[str]:
    """Names of the keys in what a terminal sends; sequences that mean nothing here are passed over."""
    keys = []
    while typed:
        known = next((one for one in SEQUENCES if typed.startswith(one)), None)
        if known is not None:
            keys.append(SEQUENCES[known])
            typed = typed[len(known) :]
        elif typed[:1] == b"\x1b":
            end = next((n for n, byte in enumerate(typed[2:], 2) if 0x40 <= byte < 0x7F), 0)
            keys += ["esc"] if end == 0 else []
            typed = typed[end + 1 :]
        else:
            text = typed.decode("utf-8", "ignore")[:1]
            keys += [text] if text and text.isprintable() else []
            typed = typed[max(1, len(text.encode())) :]
    return keys


class Dashboard:
    """Draws what `look` knows, and sends the orders that keys give, until left or stopped."""

    def __init__(
        self,
        look: Look,
        order: Order,
        console: Console | None = None,
        *,
        keyboard: int | None = None,
        leaving: str = "",
    ) -> None:
        """`keyboard` is the descriptor to read keys from; None: the standard input.

        `leaving` is what `q` says where it does not leave.
        """
        self._leaving = leaving
        self._look, self._order = look, order
        self._console = console or Console()
        self._keyboard = keyboard if keyboard is not None else _keyboard()
        self._stop = threading.Event()
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._view = View()
        self._marked, self._known, self._patient_until = "", 0, 0.0
        self.screen = Screen(self._console, self._send)

    def run(self) -> None:
        """Take the screen and the keyboard until stopped or left."""
        with Keys(self._keyboard) as keys:
            try:
                self._send(ENTER)
                self._patient_until = time.monotonic() + FIRST_S
                self._loop(keys)
                self._send(LEAVE)
            except OSError:  # the terminal is gone
                return
            except KeyboardInterrupt:
                self._send(LEAVE)
                raise

    def stop(self) -> None:
        """End it, from any thread."""
        self._stop.set()

    def _loop(self, keys: Keys) -> None:
        drawn: object = None
        while not self._stop.is_set():
            pressed = keys.read(REFRESH_S if drawn else FIRST_LOOK_S, self._stop)
            try:
                drawn = self._turn(pressed, drawn)
            except OSError:
                raise
            except Exception as error:  # a fault of ours must not take the window away
                words = Text(f"cannot be drawn: {type(error).__name__}: {error}")
                self.screen.draw(words, time.monotonic(), at_once=True)
                drawn = "fault"

    def _turn(self, pressed: Sequence[str], drawn: object) -> object:
        """One look: take in keys and answers, draw if anything differs from what was drawn; what is drawn now."""
        runs = self._look()
        if drawn is None and time.monotonic() < self._patient_until and not _answered(runs):
            return None
        if not any(run.name == self._marked for run in runs):
            self._marked = worst_first(runs)[0].name
        for key in pressed:
            self._press(key, runs)
        while not self._answers.empty():
            self._view = replace(self._view, words=self._answers.get())
        marks: object = [(run.name, run.state and (run.state.session, run.state.seq), int(run.now)) for run in runs]
        frame = (marks, self._view, self._marked, self._console.size)
        if frame != drawn or self.screen.behind:
            known = sum(run.state is not None for run in runs)
            self.screen.draw(self._frame(runs), time.monotonic(), at_once=bool(pressed) or known > self._known)
            self._known = known
        return frame

    def _frame(self, runs: Sequence[Known]) -> RenderableType:
        width, height = self._console.size
        if len(runs) > 1:
            return render_all(runs, self._marked, width, height, self._view)
        run = runs[0]
        if run.state is None:
            return Text(f"{run.name}: no answer yet; trying on", style="yellow")
        return render(run.state, width, height, run.now, self._view)

    def _press(self, key: str, runs: Sequence[Known]) -> None:
        if key == "q" and self._view.asked is None:
            self._view = replace(self._view, words=self._leaving)
            if not self._leaving:
                self.stop()
            return
        names = [run.name for run in worst_first(runs)]
        if key == "tab":
            self._marked = names[(names.index(self._marked) + 1) % len(names)]
            self._view = View(seen_s=self._view.seen_s)
            return
        state = next(run.state for run in runs if run.name == self._marked) or SessionState()
        done = press(self._view, key, state)
        self._view = done.view
        if done.order is not None:
            order, name = done.order, self._marked
            threading.Thread(target=lambda: self._answers.put(self._ask(name, order)), daemon=True).start()

    def _ask(self, name: str, order: Command) -> str:
        try:
            answer = self._order(name, order)
        except Exception as error:  # whatever it is, it is shown
            return f"not done: {error}"
        return answer.text if answer.ok else f"not done: {answer.text}"

    def _send(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


class Window:
    """A dashboard in a thread, for a run in the same process."""

    def __init__(self, look: Look, order: Order, console: Console | None = None) -> None:
        self.dashboard = Dashboard(look, order, console, leaving="Ctrl-C ends the run; the same command goes on")
        self._thread = threading.Thread(target=self.dashboard.run, name="dashboard", daemon=True)

    def __enter__(self) -> Window:
        """Take the screen."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give the screen back."""
        self.dashboard.stop()
        self._thread.join(LONGEST_LEAVE_S)  # a line that stands still must not keep the run from ending


def _answered(runs: Sequence[Known]) -> bool:
    return any(run.state is not None for run in runs)


def _keyboard() -> int | None:
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or not a file
        return None
