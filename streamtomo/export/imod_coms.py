"""IMOD's `newst.com`, `tilt.com`, `trimvol.com`: how IMOD makes the aligned stack and the tomogram from our files.

`tilt` sees a point P of the tomogram (turned by `trimvol -rx`, from its middle) at
`Ry(tilt + OFFSET) Rx(xtilt - XAXISTILT) (P + (-SHIFT_x, 0, SHIFT_z))`; SHIFT and THICKNESS are in unbinned pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamtomo import geometry
from streamtomo.export.imod import read_angles, read_transforms, write_text
from streamtomo.geometry import Array

HEAD = "# Written by streamtomo; run with: submfg {name}\n$setenv IMOD_OUTPUT_FORMAT MRC\n"


FILES = ("newst.com", "tilt.com", "trimvol.com")


class Tilting(NamedTuple):
    """What the command files say; lengths in pixels of the sorted stack."""

    binning: int
    """Of the aligned stack."""
    size_xy: tuple[int, int]
    """Of the aligned stack, its own pixels."""
    thickness: int
    xaxis_tilt_deg: float
    offset_deg: float
    shift_z: float
    radial: tuple[float, float]
    log: bool
    sirt_like: int
    float_voxels: bool


def write(folder: Path, name: str, tilting: Tilting) -> list[str]:
    """All of them; their names. Raises OutputError.

    `tilt.com` holds one command, as splittilt needs it.
    """
    coms = {"newst.com": _newst(name, tilting), "tilt.com": _tilt(name, tilting), "trimvol.com": _trimvol(name)}
    for file, text in coms.items():
        write_text(folder / file, HEAD.format(name=file) + text)
    return list(coms)


def _newst(name: str, tilting: Tilting) -> str:
    x, y = tilting.size_xy
    return f"""$newstack -StandardInput
AntialiasFilter\t-1
InputFile\t{name}.st
OutputFile\t{name}_ali.mrc
TransformFile\t{name}.xf
TaperAtFill\t1,1
AdjustOrigin
SizeToOutputInXandY\t{x},{y}
OffsetsInXandY\t0.0,0.0
ImagesAreBinned\t1.0
BinByFactor\t{tilting.binning}
$if (-e ./savework) ./savework
"""


def _tilt(name: str, tilting: Tilting) -> str:
    like = f"FakeSIRTiterations\t{tilting.sirt_like}\n" if tilting.sirt_like else ""
    log = "LOG\t0.0\n" if tilting.log else ""
    return f"""$tilt -StandardInput
InputProjections\t{name}_ali.mrc
OutputFile\t{name}_full_rec.mrc
IMAGEBINNED\t{tilting.binning}
TILTFILE\t{name}.tlt
XTILTFILE\t{name}.xtilt
THICKNESS\t{tilting.thickness}
RADIAL\t{tilting.radial[0]:g} {tilting.radial[1]:g}
FalloffIsTrueSigma\t0
XAXISTILT\t{tilting.xaxis_tilt_deg:.3f}
OFFSET\t{tilting.offset_deg:.3f}
SHIFT\t0.0 {tilting.shift_z:.2f}
{like}{log}SCALE\t0.0 {1.0 if tilting.float_voxels else 500.0}
PERPENDICULAR
MODE\t{2 if tilting.float_voxels else 1}
AdjustOrigin
ActionIfGPUFails\t1,2
$if (-e ./savework) ./savework
"""


def _trimvol(name: str) -> str:
    return f'$trimvol -rx "{name}_full_rec.mrc" "{name}_imod_rec.mrc"\n$if (-e ./savework) ./savework\n'


def entries(path: Path) -> dict[str, str]:
    """The entries of a command file by their keyword."""
    found = {}
    for line in path.read_text().splitlines():
        words = line.split(maxsplit=1)
        if words and not line.startswith(("#", "$")):
            found[words[0]] = words[1].strip() if len(words) > 1 else ""
    return found


class Projector:
    """Where IMOD sees points of the tomogram in the sorted stack, by `.xf .tlt .xtilt tilt.com` alone."""

    def __init__(self, folder: Path, name: str) -> None:
        said = entries(folder / "tilt.com")
        self._tilts = read_angles(folder / f"{name}.tlt") + float(said["OFFSET"])
        self._xtilts = read_angles(folder / f"{name}.xtilt") - float(said["XAXISTILT"])
        x, z = (float(word) for word in said["SHIFT"].replace(",", " ").split())
        self._shift = np.array([-x, 0.0, z])
        self._to_raw = geometry.invert(read_transforms(folder / f"{name}.xf"))

    def __len__(self) -> int:
        return len(self._to_raw)

    def project(self, row: int, points: Array) -> Array:
        """Points `(n, 3)` in pixels of the sorted stack, from the tomogram's middle; `(n, 2)` from the image's."""
        seen = geometry.project(points + self._shift, float(self._tilts[row]), float(self._xtilts[row]))
        return geometry.apply(self._to_raw[row], seen)
