"""AreTomo's `.aln`: one row a section of the sorted stack; `raw = R(ROT) aligned + (TX, TY)` about the images' centres.

AreTomo knows no x-axis tilt: a pitch of the specimen stays. Its magnification column is not applied by readers.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamtomo import geometry
from streamtomo.export.imod import write_text
from streamtomo.export.views import Exports
from streamtomo.geometry import Array


class Row(NamedTuple):
    """One view of an `.aln`."""

    section: int
    """From 1."""
    axis_deg: float
    shift: Array
    tilt_deg: float

    def project(self, points: Array) -> Array:
        """Where points `(n, 3)` from the specimen's middle are seen, `(n, 2)` from the image's."""
        moved = geometry.aligned_to_raw(self.axis_deg, self.shift)
        return geometry.apply(moved, geometry.project(points, self.tilt_deg))


def write(folder: Path, exports: Exports) -> list[str]:
    """`NAME.aln`; the names of the files written. Raises OutputError."""
    lines = [
        "# AreTomo Alignment / Priims bprmMn",
        f"# RawSize = {exports.nx} {exports.ny} {len(exports.views)}",
        "# NumPatches = 0",
        f"# AlphaOffset = {exports.offset_deg:8.2f}",
        f"# BetaOffset = {0.0:8.2f}",
        f"# Thickness = {round(exports.thickness_px)}",
        "# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT",
    ]
    for row, view in enumerate(exports.views, start=1):
        x, y = view.shift
        lines.append(
            f"{row:5d}{view.axis_deg:11.4f}{1.0:11.5f}{x:11.3f}{y:11.3f}"
            f"{1.0:9.2f}{1.0:9.2f}{1.0:9.2f}{0.0:9.2f}{view.tilt_deg:10.2f}"
        )
    write_text(folder / f"{exports.name}.aln", "".join(f"{line}\n" for line in lines))
    return [f"{exports.name}.aln"]


def read(path: Path) -> list[Row]:
    """The rows of the global alignment."""
    rows = []
    for line in path.read_text().splitlines():
        if line.startswith("# Local"):
            break
        words = line.split()
        if words and not line.startswith("#"):
            rows.append(
                Row(int(words[0]), float(words[1]), np.array([float(words[3]), float(words[4])]), float(words[9]))
            )
    return rows
