"""A long session: whether memory, open files and threads of a run stay flat, and whether it keeps up.

    soak --minutes 20      one series after the other, a tilt of 1024 x 1024 each second
    soak --compressed      three hours of acquisition, small images, by a clock that runs many times as fast
    soak --burst           nine series of 41 tilts in turn within a memory budget too small for them; they finish one
                           after the other while a tenth is collected

The images are simulated once and written again and again, as SerialEM's growing stacks. What is finished is moved
away, as an operator would do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np

from streamtomo.messages import Envelope, FinishDone, FinishFailed, SeriesCompleted, TiltPlaced
from streamtomo.simulate.mdoc_text import Shot
from streamtomo.simulate.schemes import SCHEMES, tilt_angles
from streamtomo.simulate.series import Plan, Series
from streamtomo.simulate.writers import Writer, open_writer

TILTS = 41
LARGE = ("_rec.mrc", "_ali.mrc", ".st")
PROGRAM = """
import sys
from streamtomo import cli, steady
steady.run_faster(float(sys.argv.pop(1)))
sys.exit(cli.main())
"""
"""The program with a clock that runs as fast as the microscope's."""
DECODER = msgspec.json.Decoder(Envelope)


@dataclass(frozen=True)
class Session:
    """What is written, and how fast."""

    size: int
    interval_s: float
    """Between tilts, by the clock on the wall ..."""
    cadence_s: float
    """... and by the microscope's."""
    groups: tuple[int, ...]
    """Series taken in turn, group after group."""
    memory_GB: float
    sample_s: float


class Microscope(threading.Thread):
    """Writes the session; knows when each tilt was on disk."""

    def __init__(self, session: Session, scope: Path) -> None:
        super().__init__(daemon=True)
        self._session, self._scope = session, scope
        angles = SCHEMES["dose-symmetric"](tilt_angles(0.0, 3.0, TILTS, None), 0.0, 1)
        self._plan = Plan(tuple(angles), (session.size, session.size), pixel_size_A=10.8 * 1024 / session.size)
        series = Series(self._plan)
        self._angles = [float(angle) for angle in series.read_deg]
        self._images = [series.expose(n).image for n in range(TILTS)]
        self.written: dict[tuple[str, int], float] = {}
        self.done = False

    def run(self) -> None:
        """Write tilt after tilt, each when it is due."""
        start, when = time.monotonic(), datetime.now()
        for count, (name, index, writer) in enumerate(self._schedule()):
            time.sleep(max(0.0, start + count * self._session.interval_s - time.monotonic()))
            stamp = when + timedelta(seconds=count * self._session.cadence_s)
            writer.write(self._images[index], Shot(angle_deg=self._angles[index], when=stamp))
            self.written[name, index] = time.time()
            if index == TILTS - 1:
                writer.close()
        self.done = True

    def _schedule(self) -> Iterator[tuple[str, int, Writer]]:
        number = 0
        for group in self._session.groups:
            names = [f"TS_{number + n + 1:03d}" for n in range(group)]
            number += group
            writers = {name: self._open(name) for name in names}
            yield from ((name, index, writers[name]) for index in range(TILTS) for name in names)

    def _open(self, name: str) -> Writer:
        plan = self._plan
        return open_writer(
            "serialem-stack",
            self._scope,
            name,
            shape_yx=plan.shape_yx,
            dtype=plan.dtype,
            pixel_size_A=plan.pixel_size_A,
            axis_deg=plan.axis_deg,
        )


@dataclass
class Follower:
    """Reads the journal as it grows."""

    out: Path
    scope: Path
    placed: dict[tuple[str, int], float] = field(default_factory=dict)
    completed: dict[str, float] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    offset: int = 0

    def look(self) -> None:
        """Take in what is new."""
        path = self.out / "journal.jsonl"
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self.offset)
            whole = file.read().rpartition(b"\n")[0]
        self.offset += len(whole) + bool(whole)
        for line in whole.splitlines():
            self._take_in(DECODER.decode(line))

    def _take_in(self, envelope: Envelope) -> None:
        match envelope.event:
            case TiltPlaced(series=name, index=index):
                self.placed[name, index] = envelope.time_s
            case SeriesCompleted(series=name):
                self.completed[name] = envelope.time_s
            case FinishDone(series=name):
                self.finished[name] = envelope.time_s
                self._move_away(name)
            case FinishFailed(series=name, reason=reason):
                self.failed.append(f"{name}: {reason}")
            case _:
                pass

    def _move_away(self, name: str) -> None:
        for suffix in LARGE:
            (self.out / name / f"{name}{suffix}").unlink(missing_ok=True)


@dataclass(frozen=True)
class Sample:
    """The run's process at one time."""

    seconds: float
    memory_MB: float
    files: int
    threads: int
    behind: int
    """Tilts written and not placed."""
    writing: bool
    """Whether the microscope is still at work."""


def sample(pid: int, seconds: float, behind: int, *, writing: bool) -> Sample:
    """Look into /proc."""
    proc = Path("/proc") / str(pid)
    lines = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line)
    memory, threads = int(lines["VmRSS"].split()[0]) / 1000, int(lines["Threads"])
    return Sample(seconds, memory, len(list((proc / "fd").iterdir())), threads, behind, writing)


def peak_MB(pid: int) -> float:
    """Highest resident memory so far."""
    text = (Path("/proc") / str(pid) / "status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) / 1000


def soak(session: Session, folder: Path) -> bool:
    """Run the session; print samples and verdicts; whether all tilts were placed and all series finished."""
    scope, out = folder / "scope", folder / "out"
    scope.mkdir()
    print("simulating the images", flush=True)
    scopist = Microscope(session, scope)
    settings = {"live.memory_GB": session.memory_GB, "acquisition.planned_tilts": TILTS, "final.binning": 2}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    rate = session.cadence_s / session.interval_s
    command = [sys.executable, "-c", PROGRAM, str(rate), "run", str(scope), "--out", str(out), "--plain", *words]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        samples, follower, peak = watch_run(run, scopist, Follower(out, scope), session)
        subprocess.run([sys.executable, "-m", "streamtomo", "stop", "--out", str(out)], check=False)
        run.wait(timeout=60)
    finally:
        run.kill()
        run.wait()
    report(samples, follower, scopist, session, peak)
    total = sum(session.groups)
    return len(follower.finished) == total and len(follower.placed) == total * TILTS and not follower.failed


def watch_run(
    run: subprocess.Popen[bytes], scopist: Microscope, follower: Follower, session: Session
) -> tuple[list[Sample], Follower, float]:
    """Sample until everything is finished."""
    samples: list[Sample] = []
    start, peak = time.monotonic(), 0.0
    time.sleep(4.0)
    scopist.start()
    print(f"{'s':>7s} {'memory MB':>10s} {'files':>6s} {'threads':>8s} {'behind':>7s} {'placed':>7s} {'finished':>9s}")
    while run.poll() is None and not (scopist.done and len(follower.finished) == sum(session.groups)):
        time.sleep(session.sample_s)
        follower.look()
        behind = len(scopist.written) - len(follower.placed)
        samples.append(sample(run.pid, time.monotonic() - start, behind, writing=not scopist.done))
        peak = peak_MB(run.pid)
        one = samples[-1]
        print(
            f"{one.seconds:7.0f} {one.memory_MB:10.0f} {one.files:6d} {one.threads:8d} {one.behind:7d} "
            f"{len(follower.placed):7d} {len(follower.finished):9d}",
            flush=True,
        )
    return samples, follower, peak


def report(samples: list[Sample], follower: Follower, scopist: Microscope, session: Session, peak: float) -> None:
    """Slopes over the last two thirds of the acquisition, delays, and what failed."""
    during = [one for one in samples if one.writing]
    later = during[len(during) // 3 :]
    hours = np.array([one.seconds for one in later]) / 3600
    for name in ("memory_MB", "files", "threads"):
        values = np.array([getattr(one, name) for one in later], float)
        if len(later) > 2:
            slope = np.polyfit(hours, values, 1)[0]
            print(f"{name:10s} {values.min():8.0f} to {values.max():.0f}, slope {slope:+.1f} an hour")
    print(f"peak memory {peak:.0f} MB, budget for live volumes {1000 * session.memory_GB:.0f} MB")
    delays = {key: follower.placed[key] - then for key, then in scopist.written.items() if key in follower.placed}
    print_delays("all series", list(delays.values()))
    last = max(name for name, _ in scopist.written)
    print_delays(f"last series, {last}", [delay for (name, _), delay in delays.items() if name == last])
    waits = [follower.finished[name] - follower.completed[name] for name in follower.finished]
    print(f"{len(waits)} series finished {min(waits, default=0):.1f} to {max(waits, default=0):.1f} s after their end")
    for line in follower.failed:
        print(f"FAILED {line}")


def print_delays(name: str, delays: list[float]) -> None:
    """From written to placed."""
    if delays:
        middle, most = np.median(delays), max(delays)
        print(f"{name}: {len(delays)} tilts placed, {middle:.2f} s after they were written, at most {most:.2f} s")


def main() -> int:
    """Choose a session and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--burst", action="store_true")
    parser.add_argument("--compressed", action="store_true")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the usual session (%(default)s)")
    parser.add_argument("--hours", type=float, default=3.0, help="of the compressed session (%(default)s)")
    parser.add_argument("--speed", type=float, default=20.0, help="of the compressed session's clock (%(default)s)")
    parser.add_argument("--cadence", type=float, help="s between tilts (1; 3 when compressed)")
    parser.add_argument("--size", type=int, help="pixels along a side (1024; 256 when compressed)")
    parser.add_argument("--memory", type=float, help="live.memory_GB (1)")
    args = parser.parse_args()
    speed = args.speed if args.compressed else 1.0
    cadence = args.cadence or (3.0 if args.compressed else 1.0)
    size = args.size or (256 if args.compressed else 1024)
    hours = args.hours if args.compressed else args.minutes / 60
    groups = (9, 1) if args.burst else (1,) * max(2, round(3600 * hours / cadence / TILTS))
    session = Session(size, cadence / speed, cadence, groups, args.memory or 1.0, 5.0 if args.burst else 10.0)
    with tempfile.TemporaryDirectory() as name:
        return 0 if soak(session, Path(name)) else 1


if __name__ == "__main__":
    sys.exit(main())
