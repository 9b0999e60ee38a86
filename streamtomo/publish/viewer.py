"""The viewers: `status` and `dashboard` attach to running processes over ZeroMQ."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from streamtomo.errors import BusError
from streamtomo.publish.client import Subscriber
from streamtomo.publish.dashboard import REFRESH_S, render
from streamtomo.publish.endpoints import find_endpoint, read_endpoint
from streamtomo.publish.keys import ClientKeys, client_keys
from streamtomo.publish.lines import printable
from streamtomo.publish.state import SeriesRow, SessionState

ANSWER_S = 2.0


def status(where: str | None, *, json: bool, keys: Path | None = None) -> int:
    """Print what a run is doing; raises BusError if it does not answer."""
    endpoint = find_endpoint(where)
    subscriber = Subscriber(endpoint, _keys(where, keys))
    try:
        if not subscriber.snapshot(ANSWER_S):
            raise BusError(f"{endpoint}: no answer; is a run active there, and does it know your key?")
    finally:
        subscriber.close()
    state = subscriber.state
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
    lines = [f"watching {started.watched}, results in {started.out}" if started else "starting"]
    if beat is not None:
        lines.append(f"{beat.backlog} tilts in the queue; next: {beat.waiting_for}")
    return [*lines, *(_line(row) for row in state.series.values())]


def _line(row: SeriesRow) -> str:
    tilts = f"{len(row.tilts)} of {row.planned}" if row.planned else f"{len(row.tilts)}"
    letters = "".join(tilt.letter for tilt in row.tilts.values())
    result = f"  {row.done.tomogram.path}" if row.done else f"  {row.failure}" if row.failure else ""
    return f"{row.name:20s} {tilts:>9s} tilts  {row.state:10s} {letters}{result}"


class _Watched:
    """One endpoint, followed by a thread of its own."""

    def __init__(self, endpoint: str, keys: ClientKeys | None = None) -> None:
        self.endpoint = endpoint
        self._answered_s = 0.0
        """When the run was heard last, by this machine's steady clock."""
        self._subscriber = Subscriber(endpoint, keys)
        self._lock = threading.Lock()
        self._encoded = b""
        threading.Thread(target=self._follow, daemon=True).start()

    def look(self) -> tuple[SessionState, float] | None:
        """A copy of what is known, and the time by the run's own clock; None before the first answer."""
        with self._lock:
            if not self._encoded:
                return None
            state = msgspec.json.decode(self._encoded, type=SessionState)
            return state, state.time_s + time.monotonic() - self._answered_s

    def _follow(self) -> None:
        for envelope in self._subscriber.envelopes():
            if envelope is not None or (self._subscriber.state.session and not self._encoded):
                with self._lock:
                    self._answered_s = time.monotonic()
                    self._encoded = msgspec.json.encode(self._subscriber.state)


def dashboard(where: Sequence[str], keys: Path | None = None) -> int:
    """Show one or several runs until Ctrl-C."""
    named: Sequence[str | None] = where or [None]
    console = Console()
    if not console.is_terminal:
        raise BusError("the dashboard needs a terminal; use `streamtomo status` for text")
    watched = [_Watched(find_endpoint(one), _keys(one, keys)) for one in named]
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(_screen(watched, console), refresh=True)
                time.sleep(REFRESH_S * 2)
    except KeyboardInterrupt:
        return 0


def _screen(watched: list[_Watched], console: Console) -> Group:
    width, height = console.size
    each = height // len(watched)
    parts: list[RenderableType] = []
    for one in watched:
        known = one.look()
        if len(watched) > 1:
            parts.append(Rule(one.endpoint, align="left", style="dim"))
        if known is None:
            parts.append(Text(f"{one.endpoint}: no answer yet; trying on", style="yellow"))
        else:
            state, now = known
            parts.append(render(state, width, each - (len(watched) > 1), now))
    return Group(*parts)
