"""What an average leaves: volumes, agreement of the halves, particles for PEET and RELION-5, a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import __version__
from streamtomo.average.classify import Classes
from streamtomo.average.refine import Averaged, Plan
from streamtomo.average.spectra import Array, Volume
from streamtomo.averaging_input import Series
from streamtomo.config import Settings
from streamtomo.export import mrc, particles, star
from streamtomo.export.imod import json_text, write_bytes, write_text
from streamtomo.export.relion import FOLDER
from streamtomo.publish.pictures import to_grey, write_png
from streamtomo.publish.plots import Curve, curves
from streamtomo.publish.report import Page, Picture, page

PICTURE_SIDE_PX = 240
"""Sections are shown at least so large."""
FREQUENCY = "cycles per Å"


class Result(NamedTuple):
    """All that is told."""

    series: Sequence[Series]
    owner: NDArray[np.int64]
    """Series of each particle."""
    xyz: Array
    """Final positions, indices of the tomogram."""
    averaged: Averaged
    classes: Classes | None
    by_class: Sequence[Volume]
    left_out: int
    plan: Plan
    settings: Settings
    seconds: float
    limited: bool
    """Whether the halves agree on no more than the first reference held."""

    @property
    def voxel_A(self) -> float:
        """Of the average."""
        return self.series[0].voxel_A

    @property
    def box_A(self) -> float:
        """Side of the boxes."""
        return float(self.averaged.both.shape[0] * self.voxel_A)

    @property
    def resolution_A(self) -> float:
        """By gold standard."""
        return self.averaged.curve.resolution(self.box_A)

    @property
    def warnings(self) -> list[str]:
        """What a person must know."""
        if not self.limited:
            return []
        return [
            "the halves agree on no more than the first reference held, and that may be noise turned onto itself: look "
            "at the average; give more particles, a --reference, or another diameter"
        ]


def write(out: Path, result: Result) -> list[str]:
    """All files, each whole or not at all; what is to be said. Raises OutputError."""
    found = result.averaged
    _write_volume(out / "average.mrc", found.both, result, f"average of {len(result.xyz)} particles")
    for number, half in enumerate(found.halves, start=1):
        _write_volume(out / f"half{number}.mrc", half, result, f"average of half {number}")
    for number, volume in enumerate(result.by_class, start=1):
        _write_volume(out / f"class{number}.mrc", volume, result, f"average of class {number}")
    _write_fsc(out / "fsc.txt", result)
    _write_particles(out, result)
    write_png(out / "average.png", _sections([found.both, *result.by_class]))
    write_text(out / "average.json", json_text(_summary(result)))
    write_text(out / "average_report.html", page(_page(out, result)))
    told = f"{result.resolution_A:.1f} Å by gold standard, {len(result.xyz)} particles, {result.seconds:.0f} s"
    return [*(f"warning: {text}" for text in result.warnings), f"{told}; {out / 'average.mrc'}"]


def _write_volume(path: Path, volume: Volume, result: Result, what: str) -> None:
    label = f"streamtomo {__version__}: {what}"
    with mrc.new_blocks(path, volume.shape, "float32", pixel_size_A=result.voxel_A, kind="volume", label=label) as file:
        file.write(0, np.ascontiguousarray(volume))


def _write_fsc(path: Path, result: Result) -> None:
    curve = result.averaged.curve
    lines = [f"# 1/A          A  corrected     masked      plain   (0.143: {result.resolution_A:.2f} A)\n"]
    for shell in range(1, len(curve.corrected)):
        values = (curve.corrected[shell], curve.masked[shell], curve.plain[shell])
        lines.append(f"{shell / result.box_A:9.6f} {result.box_A / shell:9.2f}" + "".join(f"{v:11.4f}" for v in values))
        lines[-1] += "\n"
    write_text(path, "".join(lines))


# -- particles -------------------------------------------------------------------------------------------------------


def _aligned(result: Result) -> dict[str, particles.Aligned]:
    """What was found, by series."""
    poses, found = result.averaged.poses, {}
    classes = result.classes.number if result.classes else np.ones(len(result.xyz), np.int64)
    for number, one in enumerate(result.series):
        rows = result.owner == number
        if rows.any():
            found[one.name] = particles.Aligned(
                result.xyz[rows], poses.turns[rows], poses.scores[rows], result.averaged.half[rows], classes[rows]
            )
    return found


def _write_particles(out: Path, result: Result) -> None:
    """`NAME.mod` and `NAME_MOTL.csv` for PEET, `particles.star` and what belongs to it for RELION-5."""
    found, volumes = _aligned(result), {one.name: one.volume for one in result.series}
    for name, one in found.items():
        write_bytes(out / f"{name}.mod", particles.model_bytes(one.xyz, volumes[name], result.plan.diameter / 2))
        write_text(out / f"{name}_MOTL.csv", particles.motive_list(one))
    optics = result.series[0].work.settings.acquisition
    labels = {
        "rlnVoltage": optics.voltage_kV,
        "rlnSphericalAberration": optics.cs_mm,
        "rlnAmplitudeContrast": optics.amplitude_contrast,
    }
    pixel = result.voxel_A / result.series[0].volume.binning
    write_text(out / "particles.star", particles.particles_star(found, volumes, labels, pixel))
    paths = [one.folder / FOLDER / "tomograms.star" for one in result.series]
    if all(path.exists() for path in paths):
        write_text(out / "tomograms.star", particles.joined_star(paths))
        table: dict[str, Sequence[star.Value]] = {
            "rlnTomoParticlesFile": [os.path.abspath(out / "particles.star")],
            "rlnTomoTomogramsFile": [os.path.abspath(out / "tomograms.star")],
        }
        write_text(out / "optimisation_set.star", star.render({"": table}))


# -- for people ------------------------------------------------------------------------------------------------------


def _sections(volumes: Sequence[Volume]) -> NDArray[np.uint8]:
    """The middle xy, xz and yz sections of each volume, a row of three each, the first on top."""
    rows = []
    for volume in volumes:
        n = volume.shape[0]
        planes = [volume[n // 2], volume[:, n // 2], volume[:, :, n // 2]]
        grey = [to_grey(np.ascontiguousarray(plane)) for plane in planes]
        scale = max(1, -(-PICTURE_SIDE_PX // n))
        rows.append(np.hstack([np.kron(one, np.ones((scale, scale), np.uint8)) for one in grey]))
    return np.vstack(rows[::-1])


def _summary(result: Result) -> dict[str, Any]:
    found = result.averaged
    counts = np.bincount(result.owner, minlength=len(result.series))
    summary: dict[str, Any] = {
        "program": f"streamtomo {__version__}",
        "resolution_A": round(result.resolution_A, 2),
        "resolution_half_A": round(found.curve.resolution(result.box_A, 0.5), 2),
        "warnings": result.warnings,
        "particles": {one.name: int(number) for one, number in zip(result.series, counts, strict=True)},
        "left_out": result.left_out,
        "box_px": found.both.shape[0],
        "voxel_A": result.voxel_A,
        "rounds": [
            {"resolution_A": round(result.box_A / one.resolution, 2), "score": round(one.score, 4)}
            for one in found.history
        ],
        "seconds": round(result.seconds, 1),
        "settings": result.settings.average,
    }
    if result.classes:
        summary["classes"] = np.bincount(result.classes.number)[1:].tolist()
        summary["class_axes"] = [round(float(value), 4) for value in result.classes.variance]
    return summary


def _page(out: Path, result: Result) -> Page:
    found, curve = result.averaged, result.averaged.curve
    k = [shell / result.box_A for shell in range(1, len(curve.corrected))]
    agreement = [
        Curve("corrected", k, curve.corrected[1:].tolist()),
        Curve("masked", k, curve.masked[1:].tolist()),
        Curve("whole boxes", k, curve.plain[1:].tolist()),
        Curve("0.143", [k[0], k[-1]], [0.143, 0.143], line=True),
    ]
    rounds = [float(number) for number in range(1, len(found.history) + 1)]
    resolutions = [result.box_A / one.resolution for one in found.history]
    drawn = {
        "Agreement of the halves": curves(agreement, FREQUENCY, "correlation"),
        "Round by round": curves([Curve("resolution", rounds, resolutions)], "round", "resolution, Å"),
    }
    summary = _summary(result)
    return Page(
        name=out.absolute().name,
        subtitle=f"averaged by streamtomo {__version__}",
        warnings=result.warnings,
        facts={
            "resolution": f"{result.resolution_A:.1f} Å (0.143), {summary['resolution_half_A']:.1f} Å (0.5)",
            "particles": f"{len(result.xyz)} of {len(result.series)} series; {result.left_out} too near to a face",
            "symmetry": result.settings.average.symmetry,
            "box": f"{summary['box_px']} voxels of {result.voxel_A:.2f} Å",
            "classes": ", ".join(str(count) for count in summary.get("classes", [])) or "1",
            "time": f"{result.seconds:.0f} s",
        },
        pictures=[
            Picture("middle sections: xy, xz, yz; all particles, then classes", (out / "average.png").read_bytes())
        ],
        plots=[Picture(caption, png) for caption, png in drawn.items() if png is not None],
        tables={
            "Particles": [
                ("series", "particles"),
                *((name, str(count)) for name, count in summary["particles"].items()),
            ]
        },
    )
