"""Looks at the files of a finished series as their readers would: counts, values, and whether all formats agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from streamtomo import geometry
from streamtomo.errors import StreamtomoError
from streamtomo.export import aretomo, check_imod, imod, imod_coms, mrc, omezarr, relion, star, warp
from streamtomo.geometry import Array

AGREE_PX = 0.1
"""Points reprojected through two formats must not be further apart."""
TOMOGRAMS = ("_rec.mrc", "_even_rec.mrc", "_odd_rec.mrc", "_nad.mrc", "_dual_rec.mrc", "_dual_nad.mrc")
"""Volumes of a series, all of one size."""
Project = Callable[[int, Array], Array]
"""Where points `(n, 3)` of the specimen are seen in a view, `(n, 2)`."""


def check_series(folder: Path, name: str) -> list[str]:
    """What is wrong with a series' files; empty if nothing is."""
    try:
        return list(_faults(folder, name))
    except (OSError, ValueError, KeyError, StreamtomoError) as error:
        return [f"{name}: cannot be checked: {error}"]


def _faults(folder: Path, name: str) -> Iterator[str]:
    """A sorted stack that was deleted is no fault: it can be made again."""
    views = len(imod.read_angles(folder / f"{name}.tlt"))
    lacking = imod.check_rows(folder, name, views)
    yield from lacking
    for suffix in (".st", "_ali.mrc", "_ctf_ali.mrc", "_erase_ali.mrc"):
        path = folder / f"{name}{suffix}"
        if path.exists():
            yield from mrc.check_mrc(path, (views, *mrc.shape_of(path)[1:]))
    shape = mrc.shape_of(folder / f"{name}_rec.mrc")
    for suffix in TOMOGRAMS:
        path = folder / f"{name}{suffix}"
        if path.exists() or suffix == "_rec.mrc":
            yield from mrc.check_mrc(path, shape)
    pyramid = folder / f"{name}_rec{omezarr.SUFFIX}"
    if pyramid.exists():
        yield from omezarr.check(pyramid, folder / f"{name}_rec.mrc")
    yield from _order(folder, name)
    if not lacking:
        yield from check_imod.faults(folder, name, views)
    if not lacking and (folder / "tilt.com").exists():
        yield from _exports(folder, name, views)


def _order(folder: Path, name: str) -> Iterator[str]:
    for suffix in (".rawtlt", ".tlt"):
        angles = imod.read_angles(folder / f"{name}{suffix}")
        if not np.isfinite(angles).all():
            yield f"{name}{suffix}: holds values that are no angles"
        elif suffix == ".rawtlt" and (np.diff(angles) < 0).any():
            yield f"{name}{suffix}: is not in ascending order"


def _exports(folder: Path, name: str, views: int) -> Iterator[str]:
    """Points of the specimen are seen at the same places by all programs."""
    table = star.read(folder / relion.FOLDER / "tomograms.star")["global"]
    pixel = float(table["rlnTomoTiltSeriesPixelSize"][0])
    size = np.array([float(table[f"rlnTomoSize{axis}"][0]) for axis in "XYZ"])
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3)) * size
    to_raw = geometry.invert(imod.read_transforms(folder / f"{name}.xf"))
    # Magnification, stretch and skew of single views are in the .xf only: other programs know turns and shifts.
    deformed = np.abs(np.linalg.svd(to_raw[:, :, :2], compute_uv=False) - 1).max(axis=1)
    by_imod, xtilts = imod_coms.Projector(folder, name), imod.read_angles(folder / f"{name}.xtilt")
    pitch = -float(imod_coms.entries(folder / "tilt.com")["XAXISTILT"])
    turned = points @ geometry.rotation_x(pitch).T
    for file, rows, project, seen in _projectors(folder, name, pixel):
        if rows != views:
            yield f"{file}: {rows} rows for {views} views"
            continue
        where = turned if seen == "level" else points
        # ... and those that take the specimen as level no x-axis tilts of single views.
        leant = np.abs(np.radians(xtilts)) * np.abs(turned).max() if seen == "level" else 0.0
        far = (
            np.array([np.abs(project(row, where) - by_imod.project(row, points)).max() for row in range(views)])
            - deformed * np.abs(size[:2]).max()
            - leant
        )
        if far.max() > AGREE_PX + imod.ANGLE_ERROR * np.abs(size).max() / 2:
            row = int(far.argmax())
            yield f"{file}: row {row} sees the specimen {far[row]:.2f} px from where {name}.xf and tilt.com do"


def _projectors(folder: Path, name: str, pixel: float) -> Iterator[tuple[str, int, Project, str]]:
    """Each format: its file, its rows, how it projects, and whether its specimen lies flat or level with the stage."""
    series = folder / relion.FOLDER / "tilt_series" / f"{name}.star"
    ny, nx = _image_shape(folder, name)
    flat = relion.read(series, pixel, nx, ny)
    yield str(series.relative_to(folder)), len(flat), lambda row, points: flat[row].project(points), "flat"
    xml = folder / warp.FOLDER / f"{name}.xml"
    by_warp = warp.read(xml, pixel)
    yield str(xml.relative_to(folder)), len(by_warp), lambda row, points: by_warp[row].project(points), "level"
    aln = folder / f"{name}.aln"
    by_aretomo = aretomo.read(aln)
    yield aln.name, len(by_aretomo), lambda row, points: by_aretomo[row].project(points), "level"


def _image_shape(folder: Path, name: str) -> tuple[int, int]:
    """`(ny, nx)` of the sorted stack, as the `.aln` has it."""
    for line in (folder / f"{name}.aln").read_text().splitlines():
        if line.startswith("# RawSize"):
            nx, ny, _ = line.split("=")[1].split()
            return int(ny), int(nx)
    raise ValueError(f"{name}.aln has no RawSize")
