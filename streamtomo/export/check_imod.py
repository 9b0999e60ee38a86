"""Looks at the IMOD folder of a finished series: whether its files belong together, as etomo and its programs need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from streamtomo import geometry
from streamtomo.export import fiducials, imod, imod_coms, mrc

ROUNDED_PX, ROUNDED = 0.02, 1e-5
"""What roundings of the text files make of shifts, and of turns."""
SEEN_PX = 0.1
"""Beads reprojected through the alignment must be seen no further from where the model and its residuals say."""
UNIT = 2e-4
"""Pixel sizes that differ by a larger part are different ones; some are rounded to a millionth of a µm."""
MADE_THERE = ("_preali.mrc", "_full_rec.mrc")
"""Files that a command file reads, and another one makes when it is run."""
READ = ("InputFile", "TransformFile", "TiltFile", "TILTFILE", "XTILTFILE", "InputProjections", "PrealignTransformFile",
        "InputFile1", "InputFile2")  # fmt: skip
"""Entries that name a file which must be there."""


def faults(folder: Path, name: str, views: int) -> Iterator[str]:
    """What is wrong, in words. Raises OSError or ValueError for what cannot be read."""
    yield from _transforms(folder, name)
    if (folder / f"{name}.fid").exists():
        yield from _beads(folder, name, views)
    yield from _table(folder, name, views)
    if (folder / f"{name}.edf").exists():
        yield from _commands(folder, name)


def _transforms(folder: Path, name: str) -> Iterator[str]:
    """`.xf` is `.prexg` then `.tltxf`, and `.prexg` the sum of `.prexf`."""
    xf, prexg, tltxf, prexf = (
        imod.read_transforms(folder / f"{name}{suffix}") for suffix in (".xf", ".prexg", ".tltxf", ".prexf")
    )
    if not np.isfinite(np.concatenate([xf, prexg, tltxf, prexf])).all():
        yield f"{name}: transforms hold values that are not finite"
        return
    off = np.abs(geometry.compose(prexg, tltxf) - xf)
    if off[:, :, 2].max() > ROUNDED_PX or off[:, :, :2].max() > ROUNDED:
        yield f"{name}.xf: is not the product of {name}.prexg and {name}.tltxf (shifts {off[:, :, 2].max():.2f} px off)"
    steps = np.cumsum(prexf[1:, :, 2], axis=0)
    if (off := np.abs(prexg[1:, :, 2] - prexg[0, :, 2] - steps).max(initial=0.0)) > ROUNDED_PX * len(prexg):
        yield f"{name}.prexg: is off the sum of {name}.prexf by {off:.2f} px"


def _beads(folder: Path, name: str, views: int) -> Iterator[str]:
    """The model fits the stack; beads are seen through `.tlt`, `.xtilt` and `.tltxf` where model and residuals say."""
    model, found = fiducials.read_model(folder / f"{name}.fid"), fiducials.read_residuals(folder / f"{name}.resid")
    beads = np.array([line.split()[1:4] for line in (folder / f"{name}fid.xyz").read_text().splitlines()], float)
    numbers = model.contour[-1] + 1, len(model.xyz)
    if numbers != (len(beads), len(found.view)):
        there = f"{name}fid.xyz has {len(beads)}, {name}.resid {len(found.view)}"
        yield f"{name}.fid: {numbers[0]} beads, {numbers[1]} points; {there}"
        return
    first, last = model.xyz[:, 2].min(), model.xyz[:, 2].max()
    if first < 0 or last > views - 1:
        yield f"{name}.fid: has points in sections {first:.0f} to {last:.0f} of {views}"
        return
    corner = np.array(model.size_xy) / 2
    tilts, xtilts = (imod.read_angles(folder / f"{name}{suffix}") for suffix in (".tlt", ".xtilt"))
    back = geometry.invert(imod.read_transforms(folder / f"{name}.tltxf"))
    predicted, off = found.xy + found.residual - corner, 0.0
    for view in np.unique(found.view):
        seen = geometry.apply(back[view], geometry.project(beads - (*corner, 0.0), tilts[view], xtilts[view]))
        apart = np.linalg.norm(predicted[found.view == view][:, None] - seen, axis=2)
        off = max(off, float(apart.min(axis=1).max()))
    if off > SEEN_PX + imod.ANGLE_ERROR * corner.max() + _moving_px(folder / f"{name}_local.json"):
        yield f"{name}.fid: beads of {name}fid.xyz are seen {off:.2f} px from where {name}.resid says"


def _moving_px(path: Path) -> float:
    """How far parts of the specimen move, which IMOD's files do not tell; raw pixels."""
    if not path.exists():
        return 0.0
    rows = json.loads(path.read_bytes())["rows"]
    return float(np.linalg.norm([row["motion_px"] for row in rows], axis=2).sum(axis=1).max())


def _table(folder: Path, name: str, views: int) -> Iterator[str]:
    """`NAME_views.json`: a row for each view, and every image of the series once."""
    table = json.loads((folder / f"{name}_views.json").read_bytes())
    rows, left_out = table["views"], table["left_out"]
    if [row["row"] for row in rows] != list(range(views)):
        yield f"{name}_views.json: {len(rows)} rows for {views} views"
    acquired = [one["acquired"] for one in (*rows, *left_out)]
    if len(set(acquired)) != len(acquired):
        yield f"{name}_views.json: holds an image twice"
    yield from (f"{name}_views.json: image {one['acquired']} is left out for no reason" for one in left_out
                if not one["reason"])  # fmt: skip


def _commands(folder: Path, name: str) -> Iterator[str]:
    """Command files and `.edf` name what there is, in its sizes and units."""
    coms = {path.name: imod_coms.entries(path) for path in sorted(folder.glob("*.com"))}
    for file, said in coms.items():
        named = {said[key] for key in READ if key in said}
        for other in sorted(named - {f"{name}{suffix}" for suffix in (*MADE_THERE, ".st")}):
            if not (folder / other).exists():
                yield f"{file}: reads {other}, which is not there"
    edf, tilt = properties(folder / f"{name}.edf"), coms["tilt.com"]
    ali, rec = mrc.shape_of(folder / f"{name}_ali.mrc"), mrc.shape_of(folder / f"{name}_rec.mrc")
    binning = int(tilt["IMAGEBINNED"])
    told = {
        f"{name}.edf has the series": (edf["Setup.DatasetName"], name),
        f"{name}.edf has the binning": (int(edf["Setup.FinalStackBinningA"]), binning),
        "newst.com has the binning": (int(coms["newst.com"]["BinByFactor"]), binning),
        "newst.com has the size": (coms["newst.com"]["SizeToOutputInXandY"], f"{ali[2]},{ali[1]}"),
        "tilt.com has the thickness": (int(tilt["THICKNESS"]), rec[0] * binning),
        "align.com has the axis": (float(coms["align.com"]["RotationAngle"]), float(edf["Setup.ImageRotationA"])),
    }
    yield from (f"{what} {said}, and it is {true}" for what, (said, true) in told.items() if said != true)
    pixel_A = 10 * float(edf["Setup.PixelSize"])
    for file, factor in ((f"{name}.st", 1), (f"{name}_ali.mrc", binning), (f"{name}_rec.mrc", binning)):
        path = folder / file
        if path.exists() and abs(mrc.voxel_of(path) / (factor * pixel_A) - 1) > UNIT:
            yield f"{file}: pixels of {mrc.voxel_of(path):.4f} Å; {name}.edf says {factor * pixel_A:.4f}"


def properties(path: Path) -> dict[str, str]:
    """The entries of an `.edf` file by their keys."""
    lines = (line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)
