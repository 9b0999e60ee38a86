"""Local motion of the specimen where it was solved: its file, and how the aligned views are straightened by it.

`NAME_local.json` is a file of our own, for programs that want to do the same:

    reach_px, middle_px    unit and middle of the shapes, raw pixels
    shapes                 the shapes, as functions of u = (X - middle x) / reach and v = (Y - middle y) / reach
    rows                   for each row of the stack: tilt_deg, and motion_px: x, y, z of each shape, raw pixels

A point `(X, Y, Z)` of the specimen, as it was when the first view was taken, is in another view at
`(X, Y, Z) + sum of shape * (x, y, z)`, seen at the tilt angle; the row of the `.xf` then takes the aligned view to the
raw image and back. Aligned stacks are straightened for the plane Z = 0: what lies at another height is seen at a place
X that differs by `Z tan tilt`, where the motion is a little different.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import local_motion
from streamtomo.export import imod
from streamtomo.finish.aligned import Motion
from streamtomo.model import Alignment

Array = NDArray[np.float64]

SUFFIX = "_local.json"
NODES = 33
"""Points to a side of the grid on which the motion of a view is told."""
BEYOND = 1.2
"""Further from the middle, in units of the field, the motion is taken as it is there: no point says what it is."""


def write(path: Path, series: str, motion: Motion, alignment: Alignment) -> None:
    """The file. Raises OutputError."""
    count = len(motion.coefficients[0]) // 3
    rows = [
        {"row": row, "tilt_deg": round(view.tilt_deg, 4), "motion_px": np.reshape(numbers, (count, 3)).tolist()}
        for row, (view, numbers) in enumerate(zip(alignment.views, motion.coefficients, strict=True))
    ]
    content = {
        "series": series,
        "reach_px": motion.reach_px,
        "middle_px": motion.middle_px,
        "shapes": local_motion.NAMES[:count],
        "rows": rows,
    }
    imod.write_text(path, imod.json_text(content))


def bend(motion: Motion, row: int, tilt_deg: float, shape_yx: tuple[int, int], binning: int) -> Array:
    """Where pixels of an aligned view are seen, less where they would be in a still specimen: see `shrink`."""
    ny, nx = shape_yx
    x = np.linspace(-geometry.centre(nx), geometry.centre(nx), NODES) * binning
    y = np.linspace(-geometry.centre(ny), geometry.centre(ny), NODES) * binning
    seen, high = np.meshgrid(x, y)
    terms = geometry.tilt_terms(tilt_deg)
    at = np.stack([seen.ravel() / terms.cos, high.ravel()], axis=1) - motion.middle_px
    at = np.clip(at, -BEYOND * motion.reach_px, BEYOND * motion.reach_px)
    numbers = np.array(motion.coefficients[row]).reshape(-1, 3)
    moved = local_motion.shapes(at, motion.reach_px, len(numbers)) @ numbers
    found: Array = geometry.project(moved, tilt_deg).reshape(NODES, NODES, 2) / binning
    return found
