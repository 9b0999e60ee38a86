"""A run in this terminal: engine, dashboard or plain lines, log file, signals, and the words at the end."""

from __future__ import annotations

import getpass
import os
import queue
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import msgspec

from streamtomo.config import Settings
from streamtomo.engine import Engine
from streamtomo.messages import Envelope, FinishDone
from streamtomo.publish.dashboard import Known
from streamtomo.publish.lines import plain_line, printable, verbose_line
from streamtomo.publish.metrics import served
from streamtomo.publish.notify import notified
from streamtomo.publish.state import SessionState
from streamtomo.publish.terminal import Window
from streamtomo.reconstruct import device

LOGS_KEPT = 5


class Log:
    """Lines to `OUT/streamtomo.log`, and to the terminal where no dashboard runs; a long log is put aside."""

    def __init__(self, path: Path, *, echo: bool, verbose: bool = False, most_bytes: float = 1e7) -> None:
        self.path, self._echo, self._most_bytes = path, echo, most_bytes
        self._line = verbose_line if verbose else plain_line

    def __call__(self, envelope: Envelope) -> None:
        """Listener of the engine; a log that cannot be written never disturbs the run (the journal warns)."""
        if (line := self._line(envelope)) is None:
            return
        if self._echo:
            _show(line)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                full = file.tell() > self._most_bytes
            if full:
                self._put_aside()
        except OSError:
            return

    def _put_aside(self) -> None:
        """streamtomo.log becomes streamtomo.log.1, that becomes streamtomo.log.2, and so on."""
        for number in range(LOGS_KEPT - 1, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            if older.exists():
                older.replace(self.path.with_name(f"{self.path.name}.{number + 1}"))
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))


def run_here(
    watched: Sequence[Path],
    out: Path,
    settings: Settings,
    *,
    exit_when_idle_s: float | None = None,
    plain: bool = False,
    verbose: bool = False,
    on_engine: Callable[[Engine], None] = lambda engine: None,
) -> int:
    """Run until stopped or idle, shown in this terminal; exit status 0, or 1 if a series could not be finished."""
    device.use(settings.run.device)
    first, *more = [path.absolute() for path in watched]
    out = out.absolute()
    show = sys.stdout.isatty() and not plain
    engine = Engine(first, out, settings, more=more, exit_when_idle_s=exit_when_idle_s)
    most_bytes = 1e6 * settings.publish.log_MB
    engine.listeners.append(Log(out / "streamtomo.log", echo=not show, verbose=verbose, most_bytes=most_bytes))
    on_engine(engine)
    _stop_on_signals(engine)
    with (
        served(settings.publish.metrics_port, engine.state),
        notified(settings.notify, f"{socket.gethostname()} {out.name}", engine.warn) as hear,
    ):
        if hear is not None:
            engine.listeners.append(hear)
        if not show:
            return _farewell(engine, engine.run())
        with Window(_Seen(engine).look, lambda _name, order: engine.ask(order, getpass.getuser())):
            reason = engine.run()
    return _farewell(engine, reason)


class _Seen:
    """What the dashboard of this run knows: the state when it began, and every event since.

    So that looking costs the run next to nothing, however long the session is.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine, self._state = engine, SessionState()
        self._news: queue.SimpleQueue[Envelope] = queue.SimpleQueue()
        engine.listeners.append(self._news.put)

    def look(self) -> list[Known]:
        """The state now."""
        if not self._state.session and not self._news.empty():  # what the journal had is in it by now
            self._state = _decoded(self._engine)
        while not self._news.empty():
            self._state.apply(self._news.get())
        return [Known("", self._state, time.time())]


def _stop_on_signals(engine: Engine) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        engine.stop("Ctrl-C" if number == signal.SIGINT else "SIGTERM")

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def _show(line: str) -> None:
    """Print; a terminal that is gone or cannot show such letters never disturbs the run."""
    try:
        print(line, flush=True)
    except UnicodeEncodeError:
        print(line.encode("ascii", "replace").decode(), flush=True)
    except BrokenPipeError:  # nobody reads any more; or Python complains again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:
        return


def _farewell(engine: Engine, reason: str) -> int:
    rows = _decoded(engine).series
    _show(f"streamtomo ended: {reason}")
    failed = 0
    for series in engine.series.values():
        failed += series.state == "failed"
        why = f": {rows[series.name].failure}" if series.state in ("failed", "too few") else ""
        _show(printable(f"  {series.name}: {len(series.tilts)} tilts, {series.state}{why}"))
        if series.finished is not None and series.state == "finished":
            _show_products(series.finished)
    _show(f"  log      {engine.out / 'streamtomo.log'}")
    _show(f"  journal  {engine.out / 'journal.jsonl'}")
    unfinished = [
        series.name
        for series in engine.series.values()
        if series.tilts and series.state in ("collecting", "complete", "finishing")
    ]
    if unfinished:
        _show(f"  not finished: {', '.join(unfinished)}; the same command takes them up again")
    return 1 if failed else 0


def _decoded(engine: Engine) -> SessionState:
    return msgspec.json.decode(engine.state(), type=SessionState)


def _show_products(done: FinishDone) -> None:
    alignment, tomogram = done.alignment, done.tomogram
    residual = "" if alignment.residual_px is None else f", residual {alignment.residual_px:.2f} px"
    residual += "" if alignment.error_px is None else f", expected error {alignment.error_px:.3f} px"
    _show(f"    aligned by {alignment.method}, {len(alignment.views)} views{residual}, in {done.seconds:.0f} s")
    _show(f"    tomogram  {tomogram.path}  ({tomogram.nx} x {tomogram.ny} x {tomogram.nz})")
    for path in done.files:
        if path.endswith(".png"):
            _show(f"    picture   {path}")
