"""The viewers: `status` and `dashboard` attach to running processes over ZeroMQ."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from streamtomo.errors import BusError
from streamtomo.messages import Answer, Command
from streamtomo.publish.client import Subscriber, send_command, send_command_to
from streamtomo.publish.dashboard import Known, health, render, render_all, troubles, worst_first
from streamtomo.publish.endpoints import DEFAULT_ENDPOINT, command_socket, find_endpoint, read_endpoint, told_address
from streamtomo.publish.film import Film
from streamtomo.publish.keys import ClientKeys, client_keys
from streamtomo.publish.lines import plain_line, printable
from streamtomo.publish.state import SeriesRow, SessionState
from streamtomo.publish.terminal import Dashboard, Look, Order
from streamtomo.publish.view import View

ANSWER_S = 2.0
REFUSED_SHOWN = 10
"""Refused files that `status` names, the last ones."""
COPY_S = 0.2
LINES = 40
"""Of a screen that is printed where there is no terminal."""


def status(where: str | None, *, json: bool, keys: Path | None = None) -> int:
    """Print what a run is doing; raises BusError if it does not answer."""
    state = _snapshot(where or DEFAULT_ENDPOINT, keys).state
    assert state is not None, "or it would have been raised"
    if json:
        print(msgspec.json.format(msgspec.json.encode(_without_pixels(state)), indent=1).decode())
        return 0
    for line in _lines(state):
        print(printable(line))
    return 0


def _keys(where: str | None, keys: Path | None) -> ClientKeys | None:
    """The keys for a run: those given, or those that the run on this machine itself has."""
    if keys is None and where and Path(where).is_dir() and (own := read_endpoint(Path(where)).curve_keys):
        keys = Path(own)
    return None if keys is None else client_keys(keys)


def _without_pixels(state: SessionState) -> SessionState:
    """The state without its pictures, which nobody reads as text."""
    for row in state.series.values():
        row.pictures = {}
    return state


def _lines(state: SessionState) -> list[str]:
    started, beat = state.started, state.heartbeat
    lines = [health(state, max(state.time_s, state.heartbeat_s)).words]
    lines += [f"watching {started.watched}, results in {started.out}" if started else "starting"]
    if beat is not None:
        lines.append(f"{beat.backlog} tilts in the queue; next: {beat.waiting_for}")
    return [*lines, *troubles(state), *(_line(row) for row in state.series.values()), *_refused(state)]


def _refused(state: SessionState) -> list[str]:
    lines = [f"REFUSED {one.path}: {one.reason}" for one in state.refused[-REFUSED_SHOWN:]]
    if (more := len(state.refused) - REFUSED_SHOWN) > 0:
        lines.append(f"{more} other files were refused before (--json has them)")
    if lines and state.started:
        lines.append(f"To have one looked at again: streamtomo retry --file FILE --out {state.started.out}")
    return lines


def _line(row: SeriesRow) -> str:
    tilts = f"{len(row.tilts)} of {row.planned}" if row.planned else f"{len(row.tilts)}"
    letters = "".join(tilt.letter for tilt in row.tilts.values())
    result = f"  {row.done.tomogram.path}" if row.done else f"  {row.failure}" if row.failure else ""
    return f"{row.name:20s} {tilts:>9s} tilts  {row.state:10s} {letters}{result}"


class _Watched:
    """One endpoint, followed by a thread of its own."""

    def __init__(self, name: str, endpoint: str, keys: ClientKeys | None = None) -> None:
        self.name, self.endpoint, self.keys = name, endpoint, keys
        self._answered_s = self._heard_s = 0.0
        """When the run was heard last, by this machine's steady clock; and that of what is shown."""
        self._subscriber = Subscriber(endpoint, keys)
        self._lock = threading.Lock()
        self._encoded = b""
        self._known: SessionState | None = None
        threading.Thread(target=self._follow, daemon=True).start()

    def look(self) -> Known:
        """A copy of what is known, and the time by the run's own clock."""
        with self._lock:
            if self._encoded:
                self._known, self._encoded = msgspec.json.decode(self._encoded, type=SessionState), b""
            if self._known is None:
                return Known(self.name, None, time.time())
            return Known(self.name, self._known, self._known.time_s + time.monotonic() - self._heard_s)

    def order(self, command: Command) -> Answer:
        """Send a command by the way that there is: the owner's socket file, or keys. Raises BusError."""
        known = self.look().state
        out = Path(self.name if Path(self.name).is_dir() else known.started.out if known and known.started else "")
        here = known is not None and known.started is not None and known.started.host == os.uname().nodename
        if here and command_socket(out).exists():
            return send_command(out, command)
        if self.keys is None:
            raise BusError("orders are taken from the run's own user on its machine, or with --keys")
        return send_command_to(self.endpoint, self.keys, command)

    def _follow(self) -> None:
        while True:
            self._follow_here()
            self._subscriber.close()
            self._subscriber = Subscriber(self.endpoint, self.keys)

    def _follow_here(self) -> None:
        """Until the run was started anew elsewhere; what another run says that got its port is not its own."""
        dirty, own, encoded_s, told_s, session = False, True, 0.0, 0.0, ""
        for envelope in self._subscriber.envelopes(COPY_S, ANSWER_S):
            now = time.monotonic()
            if now - told_s >= COPY_S or self._subscriber.state.session != session:
                told_s, session = now, self._subscriber.state.session
                endpoint, its_session = self._told()
                if endpoint != self.endpoint:
                    self.endpoint = endpoint
                    return
                own = its_session in ("", session)
            if not own:
                continue
            if envelope is not None or (self._subscriber.state.session and not encoded_s):
                dirty, self._answered_s = True, now
            if dirty and now - encoded_s >= COPY_S:  # a burst is copied as one
                dirty, encoded_s = False, now
                with self._lock:
                    self._heard_s = self._answered_s
                    self._encoded = msgspec.json.encode(self._subscriber.state)

    def _told(self) -> tuple[str, str]:
        """Endpoint and session by the output folder that it was named by; else those that are known."""
        with contextlib.suppress(BusError):
            if Path(self.name).is_dir():
                told = told_address(Path(self.name))
                return told.endpoint, told.session
        return self.endpoint, ""


def dashboard(where: Sequence[str], keys: Path | None = None, *, once: bool = False, plain: bool = False) -> int:
    """Show one or several runs until left; `once` prints one screen; `plain`, or without a terminal, lines of text."""
    named = list(where) or [DEFAULT_ENDPOINT]
    console = Console()
    if once:
        return _print_once([_snapshot(one, keys) for one in named], console)
    if plain or not console.is_terminal:
        return _print_lines(named, keys)
    runs = {one: _Watched(one, find_endpoint(one), _keys(one, keys)) for one in named}
    return _show(lambda: [run.look() for run in runs.values()], lambda name, order: runs[name].order(order), console)


def replay(path: Path, speed: float, *, once: bool = False, plain: bool = False) -> int:
    """Show a journal as if it happened, `speed` times faster; `once` prints its end.

    `plain`, or without a terminal, prints all its lines of text at once.
    """
    film, console = Film(path, speed), Console()
    if plain or not (once or console.is_terminal):
        all(map(_print_line, film.lines()))
        return 0
    if once:
        return _print_once([film.end()], console)
    refuse = Answer(ok=False, text="this is a recording")
    return _show(lambda: [film.look(time.monotonic())], lambda name, order: refuse, console)


def _show(look: Look, order: Order, console: Console) -> int:
    with contextlib.suppress(KeyboardInterrupt):
        Dashboard(look, order, console).run()
    return 0


def _print_once(runs: list[Known], console: Console) -> int:
    width, height = console.size if console.is_terminal else (console.width, LINES)
    if len(runs) > 1:
        console.print(render_all(runs, worst_first(runs)[0].name, width, height, View()))
    elif runs[0].state is not None:
        console.print(render(runs[0].state, width, height, runs[0].now))
    return 0 if all(run.state is not None for run in runs) else 1


def _snapshot(where: str, keys: Path | None) -> Known:
    """What a run knows now. Raises BusError where it does not answer."""
    endpoint = find_endpoint(where)
    subscriber = Subscriber(endpoint, _keys(where, keys))
    try:
        if not subscriber.snapshot(ANSWER_S):
            raise BusError(f"{endpoint}: no answer; is a run active there, of this version, and does it know your key?")
    finally:
        subscriber.close()
    return Known(where, subscriber.state, subscriber.state.time_s)


def _print_lines(named: list[str], keys: Path | None) -> int:
    """Every event as a line, until interrupted or nobody reads any more. Raises BusError."""
    readers = {one: Subscriber(find_endpoint(one), _keys(one, keys)) for one in named}
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    for one, reader in readers.items():
        head = f"{one}  " if len(named) > 1 else ""
        threading.Thread(target=_follow_lines, args=(reader, head, lines), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        while _print_line(lines.get()):
            pass
    return 0


def _print_line(line: str) -> bool:
    """Whether there is still somebody who reads."""
    try:
        print(line, flush=True)
    except BrokenPipeError:  # or Python complains again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _follow_lines(reader: Subscriber, head: str, lines: queue.SimpleQueue[str]) -> None:
    for envelope in reader.envelopes():
        if envelope is not None and (line := plain_line(envelope)):
            lines.put(head + line)
