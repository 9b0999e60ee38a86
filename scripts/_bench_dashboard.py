"""The dashboard on a real pseudo-terminal: how soon it is there, and what it sends over the line."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import select
import statistics
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from _bench_session import Session, placed

from streamtomo import messages
from streamtomo.messages import Heartbeat, Picture, TiltReceived
from streamtomo.model import RawImage, Tilt

Row = Callable[[str, tuple[float, float]], None]


def bench(folder: Path, row: Row, runs: int) -> None:
    """Print the rows."""
    bench_start(folder, row, runs)
    for size in ((80, 24), (120, 40), (200, 60)):
        bench_dashboard(folder, row, size)


def bench_dashboard(folder: Path, row: Row, size: tuple[int, int]) -> None:
    """Bytes a second on a real pseudo-terminal, at rest and while a tilt with new pictures comes each second."""
    session = Session(folder, "shown")
    session.say(messages.SessionStarted(watched="/scope", out="/out", host="h", pid=1, program="0"))
    session.say(messages.SeriesOpened(series="TS_01", source="s", nx=5760, ny=4092, pixel_size_A=2.1, planned_tilts=41))
    tilt(session, 0)
    with on_terminal(session.endpoint, size) as heard:
        heard.rate(lambda: session.say(Heartbeat(backlog=0)), 8)  # the first screen
        rest = heard.rate(lambda: session.say(Heartbeat(backlog=0)), 10)
        numbers = iter(range(1, 41))

        def a_tilt() -> None:
            tilt(session, next(numbers))
            session.say(Heartbeat(backlog=0, waiting_for="TS_01: the next tilt"))

        busy = heard.rate(a_tilt, 20)
    row(f"dashboard {size[0]} x {size[1]}: bytes/s at rest, with a tilt a second", (rest, busy))
    session.publisher.close()


def bench_start(folder: Path, row: Row, runs: int) -> None:
    """From the command to the first screen with a series on it; beside it, an interpreter that does nothing."""
    session = Session(folder, "started")
    session.say(messages.SessionStarted(watched="/scope", out="/out", host="h", pid=1, program="0"))
    session.say(messages.SeriesOpened(series="TS_01", source="s", nx=5760, ny=4092, pixel_size_A=2.1, planned_tilts=41))
    tilt(session, 0)
    shown, bare = [], []
    for _ in range(runs):
        start = time.perf_counter()
        with on_terminal(session.endpoint, (120, 40)) as heard:
            heard.until(b"TS_01")
            shown.append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", ""], check=True)
        bare.append(1000 * (time.perf_counter() - start))
    row("dashboard 120 x 40: ms to its first screen", (min(shown), statistics.median(shown)))
    row("  an interpreter that does nothing", (min(bare), statistics.median(bare)))
    session.publisher.close()


def tilt(session: Session, index: int) -> None:
    """One tilt, with noise for pictures: the hardest to send."""
    angle = 3.0 * (index // 2) * (-1) ** index
    image = RawImage(series="TS_01", path=f"/scope/{index}.mrc", nx=5760, ny=4092, angle_deg=angle)
    session.say(TiltReceived(series="TS_01", tilt=Tilt(index=index, image=image)))
    session.say(placed("TS_01", index, angle))
    rng = random.Random(index)
    for plane, height in (("xy", 96), ("xz", 32)):
        pixels = bytes(min(255, max(0, int(rng.gauss(128, 40)))) for _ in range(96 * height))
        session.say(Picture(series="TS_01", plane=plane, tilts=index, width=96, height=height, pixels=pixels))


class Heard:
    """What comes through a terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal

    def rate(self, work: Callable[[], None], seconds: int) -> float:
        """Bytes a second while something is done each second."""
        return sum(self._second(work) for _ in range(seconds)) / seconds

    def until(self, text: bytes) -> None:
        """Read on until this was sent."""
        sent = b""
        while text not in sent:
            sent += os.read(self._terminal, 65536)

    def _second(self, work: Callable[[], None]) -> int:
        work()
        count, end = 0, time.monotonic() + 1.0
        while (left := end - time.monotonic()) > 0:
            if select.select([self._terminal], [], [], left)[0]:
                count += len(os.read(self._terminal, 65536))
        return count


@contextmanager
def on_terminal(endpoint: str, size: tuple[int, int]) -> Iterator[Heard]:
    """A dashboard on a pseudo-terminal, and what it sends."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    shown = subprocess.Popen(
        [sys.executable, "-m", "streamtomo", "dashboard", endpoint],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)

    try:
        yield Heard(ours)
    finally:
        shown.kill()
        shown.wait()
        os.close(ours)
