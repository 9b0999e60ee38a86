"""What diffusion would make of a finished tomogram: a section by several K and numbers of iterations, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamtomo.errors import InputError, SettingsError
from streamtomo.export import mrc
from streamtomo.publish.pictures import to_grey, write_png
from streamtomo.restore.denoise import default_k, preview

FIELD_PX = 512
"""Side of the middle part of the section that is shown."""
FACTORS = (0.5, 1.0, 2.0)
"""K that are tried, relative to the default one."""
GAP_PX = 4
SUFFIX = "_nad_preview.png"


def show(folder: Path, series: str, ks: Sequence[float], iterations: Sequence[int], section: int | None) -> int:
    """Write `NAME_nad_preview.png`: a row for each K, the section as it is first; says what is where.

    Returns the exit status. Raises InputError where there is no tomogram, SettingsError for values that cannot be.
    """
    path = folder / f"{series}_rec.mrc"
    if not path.exists():
        raise InputError(f"{path}: there is no such file; finish {series} first")
    if not all(k > 0 for k in ks) or not all(0 < n <= 1000 for n in iterations):
        raise SettingsError("preview: K must be above 0, iterations from 1 to 1000")
    with mrc.mapped(path) as volume:
        nz, ny, nx = volume.shape
        z = nz // 2 if section is None else section
        if not 0 <= z < nz:
            raise SettingsError(f"preview: section {z} is none of {path.name}'s; they are 0 to {nz - 1}")
        usual = default_k(volume)
        ks = tuple(ks) or tuple(float(f"{factor * usual:.3g}") for factor in FACTORS)
        field = volume[:, _middle(ny), _middle(nx)]
        made = preview(field, ks, iterations, z)
        before = np.asarray(field[z], np.float32)
    rows = [[before, *(made[k, count] for count in iterations)] for k in ks]
    target = folder / f"{series}{SUFFIX}"
    write_png(target, _montage([[to_grey(picture) for picture in row] for row in rows]))
    print(f"{target}: section {z}; the default K is {usual:.4g}")
    for number, k in enumerate(ks, start=1):
        print(
            f"row {number} from above: K {k:g}; as it is, " + ", ".join(f"{count} iterations" for count in iterations)
        )
    return 0


def _middle(n: int) -> slice:
    side = min(n, FIELD_PX)
    return slice((n - side) // 2, (n - side) // 2 + side)


def _montage(rows: Sequence[Sequence[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Pictures side by side, each in its own contrast, the first row above; pictures have y up."""
    ny, nx = rows[0][0].shape
    whole = np.zeros((len(rows) * (ny + GAP_PX), len(rows[0]) * (nx + GAP_PX)), np.uint8)
    for r, row in enumerate(reversed(rows)):
        for c, picture in enumerate(row):
            y, x = r * (ny + GAP_PX), c * (nx + GAP_PX)
            whole[y : y + ny, x : x + nx] = picture
    return whole[:-GAP_PX, :-GAP_PX]
