"""Milliseconds per stage of the live lane, the rate of the final back-projection, and the cost of the intake.

The images are noise with a grain that can be aligned: speed does not depend on what they show. Minimum and median of
several runs; on a shared machine compare runs made side by side, not figures of different days.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import _bench_alignment
import _bench_intake
import _bench_judge
import _bench_told
import mrcfile
import numpy as np
from _bench_reconstruction import bench_reconstruction
from _bench_restoration import bench_restoration
from _bench_table import row, times_ms
from scipy import ndimage

from streamtomo import geometry, jit
from streamtomo.align.live import LiveAligner
from streamtomo.config import Settings
from streamtomo.correct.binning import bin_image
from streamtomo.correct.prepare import live_binning, prepare, repair
from streamtomo.lane import Job, Lane
from streamtomo.messages import TiltPlaced
from streamtomo.model import RawImage, Tilt
from streamtomo.publish.pictures import thumbnail
from streamtomo.reconstruct.live import LiveVolume
from streamtomo.warmup import warm_live
from streamtomo.watch.images import read_image

AXIS_DEG = 85.3
FIELD_A = 11_520.0
"""What the images show is so wide, whatever the camera."""


def write_image(path: Path, nx: int, ny: int, seed: int) -> None:
    """A counting image with grain, int16."""
    rng = np.random.default_rng(seed)
    grain = ndimage.zoom(np.random.default_rng(0).normal(size=(ny // 8 + 1, nx // 8 + 1)), 8, order=1)[:ny, :nx]
    image = rng.poisson(np.clip(20 + 4 * grain, 1, None)).astype(np.int16)
    image.flat[rng.integers(0, image.size, 30)] = 2000
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(image)


def bench_tilt(folder: Path, nx: int, ny: int, runs: int) -> None:
    """All stages of one tilt."""
    settings = Settings()
    paths = [folder / f"tilt_{n}.mrc" for n in range(2)]
    for n, path in enumerate(paths):
        write_image(path, nx, ny, n)
    binning = live_binning(nx, ny, settings.live.size_px)
    raw = read_image(str(paths[0]), 0)
    image, _ = prepare(raw, binning, settings.correct.outlier_sigma)
    print(f"\n{nx} x {ny} int16, live binning {binning} ({image.shape[1]} x {image.shape[0]}), ms   minimum    median")
    row("read (file in the page cache)", times_ms(lambda: read_image(str(paths[0]), 0), runs))
    row("repair outliers", times_ms(lambda: repair(raw, settings.correct.outlier_sigma), runs))
    row("bin", times_ms(lambda: bin_image(raw, binning), runs))
    aligner = LiveAligner(settings.align, AXIS_DEG, binning)
    aligner.accept(0, 0.0, image, aligner.place(0, 0.0, image))
    row("align", times_ms(lambda: aligner.place(1, 3.0, image), runs))
    out_ny, out_nx = geometry.aligned_shape((ny, nx), AXIS_DEG, binning)
    volume = LiveVolume((round(0.15 * max(out_ny, out_nx)) * 2, out_ny, out_nx))
    transform = geometry.raw_to_aligned(AXIS_DEG)
    row("add to the live volume", times_ms(lambda: volume.add(image, 3.0, transform), runs))
    row("pictures", times_ms(lambda: [thumbnail(s, 96, 96) for s in volume.central_slabs()], runs))
    lane = Lane(Settings())
    bench_chain(lane, paths, nx, ny, runs)
    row("idle work: longest time that a new tilt waits for it", idle_ms(lane))
    _bench_intake.bench_restart(folder, paths, row, nx, ny)


def bench_judging(folder: Path, runs: int) -> None:
    """Judging a tilt at both sizes."""
    for nx, ny in ((5760, 4092), (1024, 1024)):
        paths = [folder / f"judged_{n}.mrc" for n in range(2)]
        for n, path in enumerate(paths):
            write_image(path, nx, ny, n)
        print(f"\n{nx} x {ny} int16: judging a tilt, processor ms of all threads   minimum    median")
        _bench_judge.bench([read_image(str(path), 0) for path in paths], row, 3 * runs)


def bench_long_series(folder: Path) -> None:
    """Processor time of one live alignment, early and late in a series: it should not grow with the views."""
    path = folder / "long.mrc"
    write_image(path, 1024, 1024, 5)
    image = bin_image(read_image(str(path), 0), live_binning(1024, 1024, Settings().live.size_px))
    rng, aligner = np.random.default_rng(1), LiveAligner(Settings().align, AXIS_DEG, 2, measure_axis=False)
    print(f"\n1024 x 1024, live {image.shape[1]} x {image.shape[0]}: align, processor ms of all threads")
    for n in range(60):
        noisy = image + rng.normal(0, image.std(), image.shape).astype(np.float32)
        spent = []
        for _ in range(3 if n + 1 in (20, 40, 60) else 1):
            start = time.process_time()
            placement = aligner.place(n, 0.5 * n, noisy)
            spent.append(1000 * (time.process_time() - start))
        aligner.accept(n, 0.5 * n, noisy, placement)
        if len(spent) > 1:
            row(f"view {n + 1}", (min(spent), statistics.median(spent)))


def bench_chain(lane: Lane, paths: list[Path], nx: int, ny: int, runs: int) -> None:
    """`Lane.process`, the engine's own call, for the second and later tilts of a series."""
    placed: list[tuple[Tilt, TiltPlaced]] = []
    totals, learned = [], []
    for n in range(runs + 2):
        image = RawImage(series="bench", path=str(paths[n % 2]), nx=nx, ny=ny, angle_deg=3.0 * n)
        tilt = Tilt(index=n, image=image)
        job = Job(
            tilt=tilt, attempts=0, settled_s=time.time(),
            axis_deg=AXIS_DEG, pixel_size_A=FIELD_A / nx, placed=tuple(placed),
        )  # fmt: skip
        event = next(e for e in lane.process(job) if isinstance(e, TiltPlaced))
        placed.append((tilt, event))
        totals.append(event.stage_ms["total"])
        start = time.perf_counter()
        lane.learn()
        learned.append(1000 * (time.perf_counter() - start))
    row("whole chain: settled file to shown volume", (min(totals[2:]), statistics.median(totals[2:])))
    row("learn what is the camera's, once it is shown", (min(learned[2:]), statistics.median(learned[2:])))


def idle_ms(lane: Lane) -> tuple[float, float]:
    """The longest time between two looks at whether a tilt waits, in all idle work on a series, and the median."""
    looks = [time.perf_counter()]

    def interrupted() -> bool:
        looks.append(time.perf_counter())
        return False

    while lane.refine_when_idle(interrupted):
        interrupted()
    gaps = [1000 * (b - a) for a, b in pairwise(looks)]
    return max(gaps), statistics.median(gaps)


def bench_first_tilt(folder: Path) -> None:
    """A first tilt in a new process: imports, kernels from the cache, memory."""
    import subprocess
    import sys

    path = folder / "first.mrc"
    write_image(path, 5760, 4092, 3)
    code = f"""
import time
start = time.perf_counter()
from streamtomo.config import Settings
from streamtomo.lane import Job, Lane
from streamtomo.model import RawImage, Tilt
from streamtomo.warmup import warm_live
warm_live(Settings())
warm = time.perf_counter()
image = RawImage(series="a", path={str(path)!r}, nx=5760, ny=4092, angle_deg=0.0)
tilt = Tilt(index=0, image=image)
job = Job(tilt=tilt, attempts=0, settled_s=time.time(), axis_deg=85.3, pixel_size_A=2.0, placed=())
Lane(Settings()).process(job)
print(warm - start, time.perf_counter() - warm)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    print("\na new process: start and warm-up, then the first tilt of 5760 x 4092 int16")
    row("start and warm-up, ms", (1000 * float(out[0]), 1000 * float(out[0])))
    row("first tilt, ms", (1000 * float(out[1]), 1000 * float(out[1])))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="counted runs of each figure (9)")
    parser.add_argument(
        "--only",
        choices=("lane", "judge", "alignment", "reconstruction", "intake", "told", "restoration"),
        help="one part of it",
    )
    args = parser.parse_args()
    runs = args.runs
    print(f"{os.cpu_count()} cores, {jit.use_threads(None)} threads")
    warm_live(Settings())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.only in (None, "told"):
            _bench_told.bench(folder, row, runs)
        if args.only in (None, "lane"):
            bench_tilt(folder, 5760, 4092, runs)
            bench_tilt(folder, 1024, 1024, runs)
            bench_long_series(folder)
            bench_first_tilt(folder)
        if args.only in (None, "lane", "judge"):
            bench_judging(folder, runs)
        if args.only in (None, "alignment"):
            _bench_alignment.bench(runs)
        if args.only in (None, "reconstruction"):
            bench_reconstruction(max(2, runs // 3))
        if args.only in (None, "intake"):
            _bench_intake.bench(folder, row, runs)
        if args.only in (None, "restoration"):
            bench_restoration(max(2, runs // 3))


if __name__ == "__main__":
    main()
