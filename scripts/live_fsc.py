"""How the live volume gets better while a series runs: its Fourier shell correlation with the simulated specimen.

The series goes through the live lane tilt by tilt, with idle time after each; the last line is the volume of the same
images placed where the simulator had them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mrcfile
import numpy as np
from _phantom import SHELL, phantom, shell_correlation
from _truth import FoundView, TrueView, errors, probe_grid
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.config import Settings, Specimen
from streamtomo.lane import Job, Lane
from streamtomo.liveseries import LiveSeries
from streamtomo.messages import TiltPlaced
from streamtomo.model import RawImage, Tilt
from streamtomo.reconstruct.live import LiveVolume
from streamtomo.simulate.series import Plan, Series
from streamtomo.simulate.specimen import Recipe

Volume = NDArray[np.float32]
Array = NDArray[np.float64]

TILTS = 41
LOOKS = (5, 10, 20, TILTS)
BAND = (0.02, 0.2)
"""Shells that the mean is over, cycles per pixel."""


def dose_symmetric(step: float, count: int) -> tuple[float, ...]:
    """Angles in the order of Hagen et al. (2017), groups of one."""
    angles = [0.0]
    for n in range(1, count // 2 + 1):
        angles += [n * step, -n * step] if n % 2 else [-n * step, n * step]
    return tuple(angles[:count])


def make_series(size: int, seed: int, dose: float, tilts: int = TILTS, step: float = 3.0) -> Series:
    """A slab of 100 nm at 10.8 Å a pixel."""
    recipe = Recipe(thickness_nm=100.0, beads=round(14 * (size / 1024) ** 2 + 3))
    return Series(Plan(dose_symmetric(step, tilts), (size, size), dose_e_A2=dose, recipe=recipe, seed=seed))


def as_deep(series: Series) -> Settings:
    """The settings of a session whose specimens' thickness is known, with a margin."""
    return Settings(specimen=Specimen(thickness_nm=1.2 * series.plan.recipe.thickness_nm))


def live(
    series: Series, folder: Path, looks: tuple[int, ...] = LOOKS, settings: Settings | None = None
) -> Iterator[tuple[int, LiveSeries]]:
    """The series in the live lane after so many tilts, each time with all idle work done."""
    plan, settings = series.plan, settings or as_deep(series)
    lane, placed = Lane(settings), list[tuple[Tilt, TiltPlaced]]()
    for index in range(max(looks)):
        path = folder / f"{index}.mrc"
        with mrcfile.new(path) as file:
            file.set_data(series.expose(index).image)
        angle, (ny, nx) = float(series.read_deg[index]), plan.shape_yx
        image = RawImage(series="TS", path=str(path), nx=nx, ny=ny, angle_deg=angle)
        job = Job(
            tilt=Tilt(index=index, image=image),
            attempts=0,
            settled_s=0.0,
            axis_deg=plan.axis_deg,
            pixel_size_A=plan.pixel_size_A,
            placed=tuple(placed),
            settings=settings,
        )
        placed += [(job.tilt, event) for event in lane.process(job) if isinstance(event, TiltPlaced)]
        found = lane._series["TS"]
        found.left = tuple(stage for stage in found.left if stage != "iterate")  # what is shown, not the volume
        while lane.refine_when_idle(lambda: False):
            pass
        if index + 1 in looks:
            yield index + 1, found


def agreement(series: Series, volume: Volume, views: list[FoundView], order: list[int], binning: int) -> Array:
    """Shell correlation of a volume `(nz, ny, nx)` with the specimen, over all that the whole series will have seen."""
    plan = series.plan
    true = [TrueView(v.tilt_deg, v.axis_deg, *v.shift_xy, mag=v.mag) for v in (series.views[i] for i in order)]
    thickness = plan.recipe.thickness_nm * 10 / plan.pixel_size_A
    move = errors(true, views, probe_grid(*plan.shape_yx[::-1], thickness)).motion[3:6] / binning
    truth = phantom(series.specimen, volume.shape, plan.pixel_size_A * binning / 10, move)
    return shell_correlation(-volume, truth, max(map(abs, plan.angles_deg)))


def of_live(series: Series, found: LiveSeries) -> Array:
    """Shell correlation of the live volume."""
    order = sorted(found.views)
    views = [
        FoundView(found.views[i][0], geometry.raw_to_aligned(found.aligner.axis_deg, found.aligner.shift_of(i)))
        for i in order
    ]
    return agreement(series, found.volume().snapshot(), views, order, found.binning)


def of_truth(series: Series, found: LiveSeries) -> Array:
    """Shell correlation of a volume of the same images, placed where the simulator had them."""
    volume, order, views = LiveVolume(found.volume_shape()), sorted(found.views), []
    for i in order:
        true = series.views[i]
        transform = geometry.raw_to_aligned(true.axis_deg, true.shift_xy, true.mag)
        volume.add(found.images[i], true.tilt_deg, geometry.rescale(transform, found.binning))
        views.append(FoundView(true.tilt_deg, transform))
    volume.rebuild(lambda: False)
    return agreement(series, volume.snapshot(), views, order, found.binning)


def mean(correlation: Array) -> float:
    """Over the band."""
    low, high = (round(edge / SHELL) for edge in BAND)
    return float(correlation[low:high].mean())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="pixels (512)")
    parser.add_argument("--dose", type=float, default=3.0, help="electrons per Å² and tilt (3)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    series = make_series(args.size, args.seed, args.dose)
    shells = range(1, 13, 2)
    print("tilts      mean  " + "".join(f"{(k + 0.5) * SHELL:8.2f}" for k in shells) + "  cycles/px")
    with tempfile.TemporaryDirectory() as folder:
        for tilts, found in live(series, Path(folder)):
            print(row(f"{tilts:5d}", of_live(series, found), shells))
        print(row("truth", of_truth(series, found), shells))


def row(name: str, correlation: Array, shells: range) -> str:
    """One line of the table."""
    return f"{name}    {mean(correlation):6.3f}  " + "".join(f"{correlation[k]:8.3f}" for k in shells)


if __name__ == "__main__":
    main()
