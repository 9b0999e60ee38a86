"""How much of the final alignment is done when a series ends: from the live placements, and from nothing.

A series is simulated and finished twice up to its alignment: as `run` leaves it, placed tilt by tilt as it came, and as
a stack of which nothing is known (`finish --stack`). Printed are seconds of the processor from the repaired views on,
and the errors against the truth (`alignment-error`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from _truth import FoundView, TrueView, errors, probe_grid
from finish_bench import _job as placed_job

from streamtomo import jit
from streamtomo.align.live import LiveAligner
from streamtomo.correct.prepare import live_binning, prepare
from streamtomo.finish import recipe
from streamtomo.finish.recipe import FinishJob, Order
from streamtomo.finish.state_file import read_state
from streamtomo.finish.steps_align import Solved
from streamtomo.simulate.series import Plan, Series
from streamtomo.simulate.specimen import Recipe as Slab

CASES = {"14 beads": Slab(), "no gold": Slab(beads=0)}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024, help="pixels to a side of the images (1024)")
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the fastest counts (3)")
    args = parser.parse_args()
    jit.use_threads(1)
    print("                        CPU s     error, px   by")
    for number, (name, slab) in enumerate(CASES.items()):
        with tempfile.TemporaryDirectory() as folder:
            _compare(name, slab, Path(folder), args, number + 1)


def _compare(name: str, slab: Slab, folder: Path, args: argparse.Namespace, seed: int) -> None:
    options = argparse.Namespace(size=(args.side, args.side), depth=None, binning=None, preset="standard")
    job = placed_job(folder, options, slab, seed)
    series = Series(Plan(tuple(float(a) for a in range(-60, 61, 3)), (args.side, args.side), recipe=slab, seed=seed))
    warm, cold = _placed_live(job, series), msgspec.structs.replace(job, placed=False)
    seconds = {}
    for how, one in (("from live placements", warm), ("from nothing", cold)):
        one = msgspec.structs.replace(one, folder=str(folder / how.replace(" ", "_")))
        recipe.run(one, _silent, Order(last="clean"))
        seconds[how] = min(_align(one) for _ in range(args.repeat))
        solved = msgspec.json.decode(read_state(Path(one.folder), "TS")["solve"].product, type=Solved).alignment
        print(
            f"{name:10s}{how:22s}{seconds[how]:7.2f}{_error(solved, series, slab):11.3f}     {solved.method}",
            flush=True,
        )
    print(f"{'':10s}ratio {seconds['from live placements'] / seconds['from nothing']:.2f}")


def _silent(_event: object) -> None:
    """Nobody listens."""


def _align(job: FinishJob) -> float:
    """Processor seconds of the steps from `coarse` to `solve`."""
    start = time.process_time()
    recipe.run(job, _silent, Order(first="coarse", last="solve"))
    return time.process_time() - start


def _placed_live(job: FinishJob, series: Series) -> FinishJob:
    """The job with the placements of a live run, the tilts in dose-symmetric order."""
    nx, ny = job.tilts[0].tilt.image.nx, job.tilts[0].tilt.image.ny
    binning = live_binning(nx, ny, job.settings.live.size_px)
    aligner = LiveAligner(job.settings.align, job.axis_deg, binning)
    angles = [one.tilt.image.angle_deg for one in job.tilts]
    for index in np.argsort(np.abs(angles), kind="stable").tolist():
        image, _ = prepare(series.expose(index).image, binning, job.settings.correct.outlier_sigma)
        aligner.accept(index, angles[index], image, aligner.place(index, angles[index], image))
    tilts = []
    for one in job.tilts:
        assert one.placement is not None
        x, y = aligner.shift_of(one.tilt.index)
        tilts.append(
            msgspec.structs.replace(one, placement=msgspec.structs.replace(one.placement, shift_x=x, shift_y=y))
        )
    return msgspec.structs.replace(job, tilts=tuple(tilts))


def _error(alignment, series: Series, slab: Slab) -> float:  # type: ignore[no-untyped-def]
    views = [series.views[view.index] for view in alignment.views]
    true = [TrueView(view.tilt_deg, view.axis_deg, *view.shift_xy, mag=view.mag) for view in views]
    rows = [np.array(view.xf) for view in alignment.views]
    transforms = [np.column_stack([row[:4].reshape(2, 2), row[4:]]) for row in rows]
    found = [FoundView(view.tilt_deg, one) for view, one in zip(alignment.views, transforms, strict=True)]
    ny, nx = series.plan.shape_yx
    return errors(true, found, probe_grid(nx, ny, slab.thickness_nm * 10 / series.plan.pixel_size_A)).rms


if __name__ == "__main__":
    main()
