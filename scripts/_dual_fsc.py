"""Two tilt axes as a user has them: two series simulated, finished and combined; compared with the specimen itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from _phantom import phantom
from _restoration_truth import Image, shells
from _truth import TrueView, errors, probe_grid, read_found
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from streamtomo import geometry
from streamtomo.cli import main as streamtomo
from streamtomo.export import mrc
from streamtomo.finish import dual
from streamtomo.finish.position import Position
from streamtomo.finish.state_file import read_state
from streamtomo.finish.steps_volume import lie_of
from streamtomo.finish.work import Work
from streamtomo.simulate import command
from streamtomo.simulate.series import Plan, Series
from streamtomo.simulate.specimen import Specimen

Table = Callable[[float, dict[str, Sequence[float]]], None]
Picture = Callable[[Path, str, Sequence[Image]], None]
NAMES = ("TS_01a", "TS_01b")


def axes(folder: Path, size: int, step: float, table: Table, picture: Picture) -> None:
    """A second series of the specimen, turned by 88 degrees and moved; gold and none."""
    for beads in (16, 0):
        with TemporaryDirectory(dir=folder) as place:
            _one(Path(place), folder, size, step, beads, table, picture)


def _one(place: Path, folder: Path, size: int, step: float, beads: int, table: Table, picture: Picture) -> None:
    options = f"{place / 'scope'} --dual 88 --interval 0 --size {size} --step {step} --max-tilt 60 --beads {beads}"
    sys.argv = ["streamtomo", "simulate"]  # its options are known to a command line that has the word
    words = ["simulate", *options.split(), "--thickness", "90", "--seed", "3"]
    streamtomo(words)
    for name in NAMES:
        settings = ["--set", f"erase.gold={'true' if beads else 'false'}", "--set", "acquisition.tilt_axis_deg=85.3"]
        stack = str(place / "scope" / f"{name}.mrc")
        streamtomo(["finish", "--stack", stack, "--out", str(place / "out"), *settings])
    start = time.perf_counter()
    streamtomo(["combine", *NAMES, "--out", str(place / "out")])
    print(f"  combined in {time.perf_counter() - start:.1f} s")
    parsed = command_plans(words)
    volumes, truths = {}, {}
    for name, label in zip(NAMES, ("first", "second"), strict=True):
        volumes[label] = _volume(place / "out", name, "_rec.mrc")
        truths[label] = _truth(place / "out", name, parsed[name], volumes[label].shape)
    volumes["both"], truths["both"] = _volume(place / "out", NAMES[0], "_dual_rec.mrc"), truths["first"]
    table(10.8, {name: shells(volume, truths[name]) for name, volume in volumes.items()})
    kind = "gold" if beads else "patches"
    nz = len(volumes["first"])
    power = [np.log(_power(volumes[name])) for name in ("first", "both")]
    for at, name in ((nz // 4, "high"), (nz // 8, "low")):
        picture(folder, f"axes-power-{name}-{kind}", [p[at] for p in power])
    shown = (volumes["first"], volumes["both"], truths["first"])
    picture(folder, f"axes-xz-{kind}", [gaussian_filter(v[:, size // 2], 1) for v in shown])
    picture(folder, f"axes-yz-{kind}", [gaussian_filter(v[:, :, size // 2], 1) for v in shown])


def command_plans(words: list[str]) -> dict[str, Plan]:
    """The plans of a command line of `simulate`."""
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.plans(parser.parse_args(words[1:]))


def _volume(out: Path, name: str, suffix: str) -> Image:
    return np.stack(list(mrc.sections(out / name / f"{name}{suffix}"))).astype(np.float32)


def _truth(out: Path, name: str, plan: Plan, shape: tuple[int, ...]) -> Image:
    """The specimen without gold as the tomogram shows it: dark, and where the series' own alignment put it."""
    series, work = Series(plan), Work(dual.read_job(out, name), lambda _: None)
    work.state = read_state(work.folder, name)
    order, found = read_found(out / name, plan.axis_deg, final=True)
    views = [series.views[i] for i in order]
    true = [TrueView(view.tilt_deg, view.axis_deg, *view.shift_xy, view.mag) for view in views]
    motion = errors(true, found, probe_grid(*plan.shape_yx, plan.recipe.thickness_nm * 10 / plan.pixel_size_A)).motion
    at, lie = work.product("position", Position), lie_of(work)
    to_flat = (geometry.rotation_y(at.offset_deg) @ geometry.rotation_x(lie.pitch_deg)).T
    matrix = motion[6] * to_flat @ Rotation.from_rotvec(motion[:3], degrees=True).as_matrix()
    shift = to_flat @ motion[3:6] - (0.0, 0.0, lie.height)
    pixel = plan.pixel_size_A / 10
    return -phantom(_moved(series.specimen, matrix, shift * pixel), shape, pixel, np.zeros(3))


def _moved(specimen: Specimen, matrix: np.ndarray, shift_nm: np.ndarray) -> Specimen:
    moved = lambda points: (points @ matrix.T + shift_nm).astype(points.dtype)  # noqa: E731
    return replace(
        specimen,
        beads_nm=np.zeros((0, 3)),
        vesicles_nm=moved(specimen.vesicles_nm),
        points=tuple(replace(kind, positions=moved(kind.positions)) for kind in specimen.points),
    )


def _power(volume: Image) -> Image:
    """Smoothed, frequency 0 along y and x in the middle."""
    power = np.abs(np.fft.fftn(volume - volume.mean())) ** 2
    return np.asarray(gaussian_filter(np.fft.fftshift(power, axes=(1, 2)), 1), np.float32)
