"""How long the finishing of simulated series takes, step by step, and how well the specimen's position is found.

Each series is simulated, written as a stack, and finished from live placements that are wrong by half a pixel. Printed
are seconds of each step (the fastest of several runs) and the position against the truth. With `--process` each run is
a finishing process of its own, as in a session: its start, the processor's time and the peak of its memory count, too.
With `--ready` it was started before, as in a session where tilts come one by one, and has loaded libraries and kernels.
With `--keep` the stack stays in a folder, and is used again.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mrcfile
import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from streamtomo import jit
from streamtomo.config import Final, Settings, Specimen
from streamtomo.config_preset import COLUMNS
from streamtomo.finish import recipe
from streamtomo.finish.position import Position
from streamtomo.finish.recipe import FinishJob, JobTilt
from streamtomo.finish.state_file import read_state
from streamtomo.messages import FinishStep
from streamtomo.model import Placement, RawImage, Tilt
from streamtomo.simulate.series import Plan, Series
from streamtomo.simulate.specimen import Recipe as Slab

CASES = {
    "level, 150 nm": Slab(),
    "4°, -8°, 120 nm": Slab(thickness_nm=120.0, pitch_deg=4.0, pretilt_deg=-8.0),
    "4°, -8°, gold on top": Slab(thickness_nm=120.0, pitch_deg=4.0, pretilt_deg=-8.0, bead_surface="top"),
    "4°, -8°, no gold": Slab(thickness_nm=120.0, pitch_deg=4.0, pretilt_deg=-8.0, beads=0),
    "-3°, 12°, 200 nm": Slab(thickness_nm=200.0, pitch_deg=-3.0, pretilt_deg=12.0),
}


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=_size, default=(1024, 1024), metavar="WxH", help="of the images (1024x1024)")
    parser.add_argument("--binning", type=int, help="of the tomogram (default: as the program chooses)")
    parser.add_argument("--keep", type=Path, help="folder for the stacks (default: they are thrown away)")
    parser.add_argument("--process", action="store_true", help="in processes of their own; tells the peak memory")
    parser.add_argument("--ready", action="store_true", help="in processes that were started before")
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the fastest counts (3)")
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    parser.add_argument("--depth", type=int, help="sections of the tomogram (default: as found)")
    parser.add_argument("--preset", choices=COLUMNS, default="standard", help="final.preset (standard)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    jit.use_threads(None)
    for number, (name, slab) in enumerate(list(CASES.items())[: args.cases]):
        with tempfile.TemporaryDirectory() as folder:
            base = args.keep / str(number) if args.keep else Path(folder)
            base.mkdir(parents=True, exist_ok=True)
            job = _job(base, args, slab, args.seed + number)
            _run(name, slab, job, args)


def _size(text: str) -> tuple[int, int]:
    nx, _, ny = text.partition("x")
    return int(nx), int(ny or nx)


def _job(folder: Path, args: argparse.Namespace, slab: Slab, seed: int) -> FinishJob:
    angles = tuple(float(angle) for angle in range(-60, 61, 3))
    series = Series(Plan(angles, (args.size[1], args.size[0]), recipe=slab, seed=seed))
    stack = folder / "TS.mrc"
    if not stack.exists():
        _write(stack, series, args.size)
    rng = np.random.default_rng(seed)
    tilts = []
    for index, view in enumerate(series.views):
        image = RawImage(
            series="TS", path=str(stack), section=index, nx=args.size[0], ny=args.size[1],
            angle_deg=float(series.read_deg[index]), dose_e_A2=3.0, prior_dose_e_A2=3.0 * index,
        )  # fmt: skip
        x, y = np.array(view.shift_xy) + rng.normal(0, 0.5, 2)
        placement = Placement(shift_x=float(x), shift_y=float(y), score=20.0, ambiguity=0.1)
        tilts.append(JobTilt(tilt=Tilt(index=index, image=image), placement=placement))
    pixel = series.plan.pixel_size_A
    depth_nm = args.depth * (args.binning or 1) * pixel / 10 if args.depth else None
    settings = Settings(specimen=Specimen(thickness_nm=depth_nm), final=Final(binning=args.binning, preset=args.preset))
    return FinishJob(
        series="TS", folder=str(folder / "out"), settings=settings,
        axis_deg=series.plan.axis_deg, pixel_size_A=pixel, tilts=tuple(tilts),
    )  # fmt: skip


def _write(stack: Path, series: Series, size: tuple[int, int]) -> None:
    part = stack.with_suffix(".part")
    with mrcfile.new_mmap(part, (len(series.views), size[1], size[0]), mrc_mode=1, overwrite=True) as file:
        for index in range(len(series.views)):
            file.data[index] = series.expose(index).image
        file.set_image_stack()
    part.rename(stack)


def _run(name: str, slab: Slab, job: FinishJob, args: argparse.Namespace) -> None:
    best: dict[str, float] = {}
    spent: dict[str, float] = {}
    least, depth, peak_GiB, cpu_s = float("inf"), 0, 0.0, float("inf")
    for _ in range(args.repeat):
        shutil.rmtree(job.folder, ignore_errors=True)
        if args.process or args.ready:
            seconds, used_s, used_GiB = _in_process(job, ready=args.ready)
            peak_GiB, cpu_s = max(peak_GiB, used_GiB), min(cpu_s, used_s)
        else:
            start = time.perf_counter()
            _keep_least(spent, _processor_time(job))
            seconds = time.perf_counter() - start
        if seconds < least:
            state = read_state(Path(job.folder), "TS")
            least, depth = seconds, msgspec.json.decode(state["reconstruct"].product)["tomogram"]["nz"]
            best = {step: one.seconds for step, one in state.items()}
    at = msgspec.json.decode(read_state(Path(job.folder), "TS")["position"].product, type=Position)
    true_px = slab.thickness_nm * 10 / (job.pixel_size_A or 1.0)
    thickness = f"{100 * (at.thickness_px / true_px - 1):+.1f} %" if at.thickness_px else "not found"
    print(f"{name}: {least:.1f} s, {depth} sections; " + ", ".join(f"{k} {v:.2f}" for k, v in best.items() if v > 0.05))
    if spent:
        print(
            f"  {sum(spent.values()):.1f} s of processor time; " + ", ".join(f"{k} {v:.2f}" for k, v in spent.items())
        )
    if peak_GiB:
        print(f"  peak memory {peak_GiB:.2f} GiB, {cpu_s:.1f} s of processor time")
    print(
        f"  pitch {at.pitch_deg - slab.pitch_deg:+.2f}°, offset {at.offset_deg - slab.pretilt_deg:+.2f}°, "
        f"thickness {thickness}; {at.note}{'; ' + at.warning if at.warning else ''}"
    )


def _processor_time(job: FinishJob) -> dict[str, float]:
    """Finishes a series; seconds of processor time of each step."""
    begun: list[tuple[str, float]] = []

    def say(event: object) -> None:
        if isinstance(event, FinishStep) and not event.part:
            begun.append((event.step, time.process_time()))

    recipe.run(job, say)
    ends = [*(at for _, at in begun[1:]), time.process_time()]
    return {step: end - at for (step, at), end in zip(begun, ends, strict=True)}


def _keep_least(least: dict[str, float], of: dict[str, float]) -> None:
    for step, seconds in of.items():
        least[step] = min(seconds, least.get(step, seconds))


def _in_process(job: FinishJob, *, ready: bool) -> tuple[float, float, float]:
    """Finishes a series as a session does; seconds, those of the processor, and the peak of the memory in GiB."""
    path = Path(job.folder).with_name("job.json")
    path.write_bytes(msgspec.json.encode(job))
    Path(job.folder).mkdir()
    command = [sys.executable, "-m", "streamtomo", "finish-job", *([] if ready else [str(path)])]
    start, before_s = time.perf_counter(), 0.0
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    if ready:
        before_s = _at_rest(process.pid)
        start = time.perf_counter()
        process.stdin.write(f"{path}\n".encode())
        process.stdin.flush()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the finishing process ended with status {os.waitstatus_to_exitcode(status)}")
    used_s = usage.ru_utime + usage.ru_stime - before_s
    return time.perf_counter() - start, used_s, usage.ru_maxrss / 2**20


def _at_rest(pid: int) -> float:
    """Waits until a process does nothing any more; the processor's time that it took."""
    before, now = -1.0, 0.0
    while now == 0.0 or now > before:
        time.sleep(1.0)
        before, (user, system) = now, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        now = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return now


if __name__ == "__main__":
    main()
