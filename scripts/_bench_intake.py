"""What the intake costs: from the last byte to `tilt.received`, listing a full folder, the journal, a restart."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from _bench_table import times_ms

from streamtomo import messages
from streamtomo.config import Settings, Watch
from streamtomo.engine import Engine
from streamtomo.lane import Job, Lane
from streamtomo.messages import Envelope, SeriesOpened, SessionStarted, TiltPlaced, TiltReceived
from streamtomo.model import Correction, Measure, Placement, RawImage, Tilt, Verdict
from streamtomo.publish.journal import Journal
from streamtomo.simulate.mdoc_text import Shot
from streamtomo.simulate.mrc import Header
from streamtomo.simulate.writers import open_writer
from streamtomo.watch.folder import FolderWatch, list_files

SIZE = 1024
FILES = 10_000
TILTS = 41
INTERVAL_S = 1.2
Row = Callable[[str, tuple[float, float]], None]


def bench(folder: Path, row: Row, runs: int) -> None:
    """All tables of this module."""
    bench_latency(folder, row, runs)
    bench_listing(folder, row, runs)
    bench_journal(folder, row, runs)


# -- latency -----------------------------------------------------------------------------------------------------------


def bench_latency(folder: Path, row: Row, runs: int) -> None:
    """Each way of writing, with events and with polling."""
    settings = Settings()
    print(f"\nlast byte written to tilt.received in the journal, ms (settle {settings.watch.settle_s} s)")
    ways = (("plain", "tif", "single TIFF"), ("plain", "mrc", "single MRC"), ("serialem-stack", "mrc", "growing stack"))
    for pattern, container, name in ways:
        for use_events in (True, False):
            way = "events" if use_events else f"listing every {settings.watch.relist_s:g} s"
            scope = folder / f"{pattern}-{container}-{use_events}"
            scope.mkdir()
            row(f"{name}, {way}", latency_ms(scope, pattern, container, use_events=use_events, tilts=runs + 2))


def _settings(events: Literal["auto", "off"]) -> Settings:
    return Settings(watch=Watch(events=events))


def latency_ms(scope: Path, pattern: str, container: str, *, use_events: bool, tilts: int) -> tuple[float, float]:
    """Minimum and median over tilts, the first two not counted."""
    written: list[float] = []

    def write() -> None:
        shape = (SIZE, SIZE)
        writer = open_writer(
            pattern, scope, "TS_01", shape_yx=shape, dtype="int16", pixel_size_A=2.0, axis_deg=85.0, container=container
        )
        for n in range(tilts):
            time.sleep(INTERVAL_S + 0.037 * n)  # at any phase of the listing
            writer.write(np.full(shape, n, np.int16), Shot(angle_deg=3.0 * n, when=datetime.now()))
            written.append(time.monotonic())
        writer.close()

    thread = threading.Thread(target=write)
    watcher = FolderWatch(scope, _settings("auto" if use_events else "off"))
    journal = Journal(scope.with_suffix(".jsonl"))
    thread.start()
    received = []
    for image in images(watcher):
        journal.append(envelope(TiltReceived(series=image.series, tilt=Tilt(index=len(received), image=image))))
        received.append(time.monotonic())
        if len(received) == tilts:
            break
    thread.join()
    watcher.close()
    journal.close()
    spent = [1000 * (then - first) for first, then in zip(written, received, strict=True)][2:]
    return min(spent), statistics.median(spent)


def images(watcher: FolderWatch) -> Iterator[RawImage]:
    """New images, as they are found."""
    stop, told = threading.Event(), set()
    while True:
        for sighting in watcher.step(time.time()):
            if isinstance(sighting, RawImage) and (key := (sighting.path, sighting.section)) not in told:
                told.add(key)
                yield sighting
        watcher.wait(stop, time.time)


# -- listing -----------------------------------------------------------------------------------------------------------


def bench_listing(folder: Path, row: Row, runs: int) -> None:
    """A folder with many files, none of them new."""
    scope = folder / "many"
    scope.mkdir()
    old = time.time() - 86400
    known = []
    whole = Header((1, 1), np.dtype(np.int16), 2.0, [], 1).pack() + bytes(2)
    for n in range(FILES):
        path = scope / f"TS_{n // TILTS:04d}_{n % TILTS:03d}_{3.0 * (n % TILTS):.1f}.mrc"
        path.write_bytes(whole)
        known.append(image_of(path, n))
    watcher = FolderWatch(scope, _settings("off"), known=known)
    for seconds in (0.0, 60.0):  # the first pass lists them, the second one reads them
        watcher.step(old + seconds)
    now = (old + 120.0 + 20.0 * n for n in range(10**6))
    print(f"\nlisting a folder with {FILES} files, ms                              minimum    median")
    row("names, sizes and times", times_ms(lambda: list(list_files(str(scope))), runs))
    row("one pass of the watcher, nothing new", times_ms(lambda: watcher.step(next(now)), runs))
    row("the same, all at rest", times_ms(lambda: watcher.step(1000.0 + next(now)), runs))
    watcher.close()


# -- journal -----------------------------------------------------------------------------------------------------------


def bench_journal(folder: Path, row: Row, runs: int) -> None:
    """Appending one event, and replaying a long session."""
    out = folder / "out"
    out.mkdir()
    book = Journal(folder / "sync.jsonl")
    event = envelope(placed(0))
    print("\njournal, ms                                                        minimum    median")
    row("one event written and synced", times_ms(lambda: book.append(event), 20 * runs))
    book.close()
    path = out / "journal.jsonl"
    path.write_bytes(b"".join(messages_of_a_session(folder)))
    spent = []
    for _ in range(max(2, runs // 2)):
        engine = Engine(folder, out, Settings())
        engine._folders.add(folder, Settings())
        start = time.perf_counter()
        engine._replay()
        spent.append(1000 * (time.perf_counter() - start))
        assert sum(len(series.tilts) for series in engine.series.values()) == FILES
    size = f"{FILES} tilts, {path.stat().st_size / 1e6:.0f} MB"
    row(f"replay of {size}", (min(spent), statistics.median(spent)))


def messages_of_a_session(folder: Path) -> Iterator[bytes]:
    """Lines of a journal."""
    from msgspec import json

    session = SessionStarted(watched=str(folder), out="", host="h", pid=1, program="0")
    yield json.encode(envelope(session)) + b"\n"
    for n in range(FILES):
        image = image_of(folder / f"TS_{n // TILTS:04d}_{n % TILTS:03d}.mrc", n)
        index = n % TILTS
        events = [TiltReceived(series=image.series, tilt=Tilt(index=index, image=image)), placed(n)]
        if index == 0:
            events.insert(0, SeriesOpened(series=image.series, source=image.path, nx=SIZE, ny=SIZE))
        for event in events:
            yield json.encode(envelope(event)) + b"\n"


def image_of(path: Path, n: int) -> RawImage:
    """The image in one of many files."""
    return RawImage(
        series=f"TS_{n // TILTS:04d}", path=str(path), nx=SIZE, ny=SIZE, angle_deg=3.0 * (n % TILTS), written_s=1e9 + n
    )


def placed(n: int) -> TiltPlaced:
    """What the lane says of one tilt."""
    names = ("mean", "transmission", "peak", "ambiguity", "jump", "distance")
    return TiltPlaced(
        series=f"TS_{n // TILTS:04d}",
        index=n % TILTS,
        angle_deg=3.0 * (n % TILTS),
        correction=Correction(repaired=23, binning=2, mean=103.123456789, sd=12.3456789),
        placement=Placement(shift_x=1.23456789, shift_y=-9.87654321, score=23.4567, ambiguity=0.345678, neighbour=1),
        verdict=Verdict(
            state="good",
            measures=tuple(Measure(name=name, value=1.23456, expected=1.2, limit=0.5, unit="px") for name in names),
        ),
        in_volume=True,
        stage_ms={"wait": 1.23, "read": 1.23, "correct": 1.2, "align": 23.45, "reconstruct": 12.34, "total": 45.67},
    )


def envelope(event: messages.Event) -> Envelope:
    """An event as it is written down."""
    return Envelope(version=messages.VERSION, session="bench", seq=1, time_s=time.time(), event=event)


# -- restart -----------------------------------------------------------------------------------------------------------


def bench_restart(folder: Path, paths: list[Path], row: Row, nx: int, ny: int) -> None:
    """The first tilt after a restart in the middle of a series: everything before it is taken up first."""
    placed: list[tuple[Tilt, TiltPlaced]] = []

    def job(n: int) -> Job:
        image = RawImage(series="TS", path=str(paths[n % 2]), nx=nx, ny=ny, angle_deg=3.0 * (n - TILTS // 2))
        tilt = Tilt(index=n, image=image)
        return Job(tilt=tilt, attempts=0, settled_s=time.time(), axis_deg=85.3, pixel_size_A=2.0, placed=tuple(placed))

    def work(lane: Lane, n: int) -> TiltPlaced:
        return next(event for event in lane.process(job(n)) if isinstance(event, TiltPlaced))

    lane = Lane(Settings(), folder)
    for n in range(TILTS - 1):
        placed.append((job(n).tilt, work(lane, n)))
    while any(live.unsaved for live in lane._series.values()):
        lane.refine_when_idle(lambda: False)

    def restart(out: Path | None) -> Callable[[], TiltPlaced]:
        return lambda: work(Lane(Settings(), out), TILTS - 1)

    print(f"\nfirst tilt after a restart with {TILTS - 1} tilts of {nx} x {ny} before it, ms    minimum    median")
    row("from the microscope's files", times_ms(restart(None), 2))
    row("from OUT/.live, after a crash", times_ms(restart(folder), 3))
    lane.close()
    row("from OUT/.live, after an orderly end", times_ms(restart(folder), 3))
