"""The files that come with a camera: its gain reference, and SerialEM's list of its defects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from streamtomo.simulate.camera import Camera
from streamtomo.simulate.mrc import Header, Statistics
from streamtomo.simulate.specimen import Map

GAIN_FILES = ("mrc", "tif", "gain")
"""Kinds of gain reference; the last is Falcon's, a TIFF."""
PER_LINE = 20


def write_references(
    folder: Path, camera: Camera, *, kind: str = "mrc", rotate: int = 0, flip: str = "none", divide: bool = False
) -> None:
    """`gain.mrc`, `gain.tif` or `gain.gain`, and `defects.txt`.

    The reference is stored so that it fits the frames when it is turned counter-clockwise by `rotate` quarters and then
    mirrored ("x": left and right, "y": top and bottom); with `divide` it is what counts are divided by.
    """
    reference = camera.gain_reference()
    if divide:
        reference = np.divide(1, reference, out=np.zeros_like(reference), where=reference > 0)
    mirrored = {"none": reference, "x": reference[:, ::-1], "y": reference[::-1]}[flip]
    stored = np.ascontiguousarray(np.rot90(mirrored, rotate))  # rows run upward: this turns clockwise
    path = folder / f"gain.{kind}"
    if kind == "mrc":
        path.write_bytes(_mrc(stored))
    else:
        tifffile.imwrite(path, stored[::-1], photometric="minisblack", metadata=None)
    (folder / "defects.txt").write_text(defect_list(camera), encoding="ascii")


def _mrc(image: Map) -> bytes:
    statistics = Statistics()
    statistics.add(image)
    return Header(image.shape, image.dtype, None, [], 1, statistics=statistics).pack() + image.tobytes()


def defect_list(camera: Camera) -> str:
    """The text of SerialEM's list: columns from the left, rows from the top, both from 0."""
    ny, nx = camera.shape_yx
    lines = [f"CameraSizeX {nx}", f"CameraSizeY {ny}", "RotationAndFlip 0", "WasScaled 0", "K2Type 0"]
    lines.append("UsableArea 0 0 0 0")
    pixels = [n for x, y in (*camera.dead, *camera.hot) for n in (x, ny - 1 - y)]
    rows = sorted(ny - 1 - y for y in camera.dead_rows)
    for keyword, numbers in (("BadPixels", pixels), ("BadColumns", sorted(camera.dead_columns)), ("BadRows", rows)):
        runs = [numbers[i : i + PER_LINE] for i in range(0, len(numbers), PER_LINE)]
        lines += [" ".join([keyword, *map(str, run)]) for run in runs]
    return "".join(line + "\n" for line in lines)
