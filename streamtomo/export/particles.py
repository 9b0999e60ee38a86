"""Particles as PEET (IMOD model and motive list), RELION-5 (particles star) and tables of text have them.

Positions are indices of the tomogram's voxels, x, y, z, the middle of the first voxel at 0. A rotation `(3, 3)` takes
the reference's x, y, z to the tomogram's.

* PEET: `R = Rz(psi) Rx(theta) Rz(phi)`, turns counter-clockwise: phi first, about z, theta about x, psi about z. The
  model counts x and y from the corner of the first voxel, and z from the middle of the first section.
* RELION: `R = Rz(-psi) Ry(-tilt) Rz(-rot)`; positions in Å from the tomogram's middle, as our `tomograms.star` has it.
"""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from streamtomo import geometry
from streamtomo.errors import InputError
from streamtomo.export import star
from streamtomo.export.fiducials import HEAD_FLAGS, read_model

Array = NDArray[np.float64]

SCATTERED = 512
"""Flag of an object whose points belong to no line."""
MOTL_COLUMNS = (
    "CCC", "reserved", "reserved", "pIndex", "wedgeIDX", "NA", "NA", "NA", "NA", "NA", "xOffset", "yOffset", "zOffset",
    "NA", "NA", "reserved", "phi", "psi", "theta", "reserved",
)  # fmt: skip
CENTRED = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")
PLAIN = tuple(f"rlnCoordinate{axis}" for axis in "XYZ")
ORIGINS = tuple(f"rlnOrigin{axis}Angst" for axis in "XYZ")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


class Volume(NamedTuple):
    """The tomogram that positions belong to."""

    size_xyz: tuple[int, int, int]
    voxel_A: float
    binning: float = 1.0
    """Pixels of the tilt series along a voxel."""


class Picked(NamedTuple):
    """Particles of one tomogram."""

    xyz: Array
    """`(n, 3)`"""
    turns: Array | None = None
    """`(n, 3, 3)`, where they are known."""


class Aligned(NamedTuple):
    """What was found of the particles of one tomogram."""

    xyz: Array
    turns: Array
    scores: Array
    half: NDArray[np.int64]
    """0 or 1."""
    cls: NDArray[np.int64]
    """Class, from 1."""


# -- angles ----------------------------------------------------------------------------------------------------------


def peet_angles(turns: Array) -> Array:
    """phi, psi, theta in degrees, `(n, 3)`, in the order of a motive list."""
    phi, theta, psi = Rotation.from_matrix(turns).as_euler("zxz", degrees=True).reshape(-1, 3).T
    return np.stack([phi, psi, theta], axis=1)


def from_peet_angles(angles: Array) -> Array:
    """Rotations `(n, 3, 3)` from phi, psi, theta."""
    return np.asarray(Rotation.from_euler("zxz", angles[:, [0, 2, 1]], degrees=True).as_matrix())


def relion_angles(turns: Array) -> Array:
    """rot, tilt, psi in degrees, `(n, 3)`."""
    return np.asarray(Rotation.from_matrix(turns).inv().as_euler("ZYZ", degrees=True).reshape(-1, 3))


def from_relion_angles(angles: Array) -> Array:
    """Rotations `(n, 3, 3)` from rot, tilt, psi."""
    return np.asarray(Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix())


# -- reading ---------------------------------------------------------------------------------------------------------


def read_picks(path: Path, volumes: Mapping[str, Volume], only: str | None = None) -> dict[str, Picked]:
    """The particles of a file, by series: an IMOD model, a star file or a CSV table.

    A model, and a table without a column `series`, belong to the series `only`. Raises InputError.
    """
    if path.suffix == ".star":
        return _read_star(path, volumes)
    if path.suffix == ".csv":
        return _read_table(path, volumes, only)
    xyz = read_model(path).xyz - [0.5, 0.5, 0.0]
    return {_owner(path, only): Picked(xyz, _beside(path, len(xyz)))}


def _owner(path: Path, only: str | None) -> str:
    if only is None:
        raise InputError(f"{path}: does not say which series its particles are of; give one file for each series")
    return only


def _beside(model: Path, count: int) -> Array | None:
    """The rotations in the motive list of a model, `NAME_MOTL.csv`, if there is one."""
    path = model.with_name(f"{model.stem}_MOTL.csv")
    if not path.exists():
        return None
    try:
        angles = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(16, 17, 18), ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is no motive list ({error})") from None
    if len(angles) != count:
        raise InputError(f"{path}: {len(angles)} rows for {count} points of {model.name}; they must be as many")
    return from_peet_angles(angles)


def _read_star(path: Path, volumes: Mapping[str, Volume]) -> dict[str, Picked]:
    try:
        tables = star.read(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is no star file ({error})") from None
    table = next((one for one in tables.values() if set(CENTRED) <= set(one) or set(PLAIN) <= set(one)), None)
    if table is None or "rlnTomoName" not in table:
        raise InputError(f"{path}: has no table with rlnTomoName and {CENTRED[0]} (or {PLAIN[0]})")
    centred = set(CENTRED) <= set(table)
    columns = {label: np.array(star.numbers(table[label])) for label in (*CENTRED, *PLAIN, *ORIGINS, *ANGLES)
               if label in table}  # fmt: skip
    names = np.array(table["rlnTomoName"])
    found: dict[str, Picked] = {}
    for name, volume in volumes.items():
        rows = names == name
        if not rows.any():
            continue
        xyz = np.stack([columns[label][rows] for label in (CENTRED if centred else PLAIN)], axis=1)
        if centred:
            at = xyz / volume.voxel_A
        else:
            at = (xyz - np.array(volume.size_xyz) * volume.binning / 2) / volume.binning
        if set(ORIGINS) <= set(columns):
            at -= np.stack([columns[label][rows] for label in ORIGINS], axis=1) / volume.voxel_A
        turns = None
        if set(ANGLES) <= set(columns):
            turns = from_relion_angles(np.stack([columns[label][rows] for label in ANGLES], axis=1))
        found[name] = Picked(at + _middle(volume), turns)
    return found


def _read_table(path: Path, volumes: Mapping[str, Volume], only: str | None) -> dict[str, Picked]:
    """Columns x, y, z in voxels from 0, and series where there are several; with or without a head."""
    try:
        rows = [row for row in csv.reader(path.read_text().splitlines()) if row and not row[0].startswith("#")]
        head = [word.strip().lower() for word in rows[0]] if rows else []
        named = {"x", "y", "z"} <= set(head)
        at = [head.index(axis) for axis in "xyz"] if named else [0, 1, 2]
        body = rows[1:] if named else rows
        xyz = np.array([[float(row[column]) for column in at] for row in body]).reshape(-1, 3)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{path}: is no table of x, y, z ({error})") from None
    if named and "series" in head:
        names = np.array([row[head.index("series")].strip() for row in body])
        return {name: Picked(xyz[names == name]) for name in volumes if (names == name).any()}
    return {_owner(path, only): Picked(xyz)}


# -- writing ---------------------------------------------------------------------------------------------------------


def _middle(volume: Volume) -> Array:
    return np.array([geometry.centre(size) for size in volume.size_xyz])


def model_bytes(xyz: Array, volume: Volume, radius_px: float) -> bytes:
    """A binary IMOD model with all particles as scattered points of one contour, seen as spheres."""
    nx, ny, nz = volume.size_xyz
    head = b"IMODV1.2" + b"streamtomo: particles".ljust(128, b"\0")
    head += struct.pack(">4iI4i", nx, ny, nz, 1, HEAD_FLAGS, 1, 0, 0, 255) + struct.pack(">6f", 0, 0, 0, 1, 1, 1)
    head += struct.pack(">5if2i3f", 0, 0, 0, 3, 128, volume.voxel_A / 10, -9, 0, 0, 0, 0)
    one = b"OBJT" + b"particles".ljust(64, b"\0") + bytes(64)
    one += struct.pack(">iIii3fi", 1, SCATTERED, 0, 1, 0.0, 1.0, 0.0, max(1, round(radius_px)))
    one += struct.pack("8B", 0, 3, 1, 1, 0, 0, 0, 0) + struct.pack(">2i", 0, 0)
    points = (np.asarray(xyz) + np.array([0.5, 0.5, 0.0])).astype(">f4")
    contour = b"CONT" + struct.pack(">iIii", len(points), 0, 0, 0) + points.tobytes()
    transform: list[float] = [1.0] * 3 + [0.0] * 6 + [volume.voxel_A] * 3 + [0.0] * 6
    return bytes(head + one + contour) + b"MINX" + struct.pack(">i18f", 72, *transform) + b"IEOF"


def motive_list(found: Aligned) -> str:
    """A PEET motive list: 20 columns, a row a point of the model; offsets are 0, the model has the final positions."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(MOTL_COLUMNS)
    for number, (score, angles, cls) in enumerate(
        zip(found.scores, peet_angles(found.turns), found.cls, strict=True), start=1
    ):
        cells = [f"{score:.6f}", 0, 0, number, 1, *[0] * 11, *(f"{angle:.4f}" for angle in angles), int(cls)]
        lines.writerow(cells)
    return text.getvalue()


def particles_star(
    found: Mapping[str, Aligned], volumes: Mapping[str, Volume], optics: Mapping[str, float], pixel_A: float
) -> str:
    """RELION-5's particles, those of all series: `optics` has voltage, aberration and contrast by their labels."""
    head: dict[str, Sequence[star.Value]] = {
        "rlnOpticsGroup": [1],
        "rlnOpticsGroupName": ["optics1"],
        **{label: [float(value)] for label, value in optics.items()},
        "rlnTomoTiltSeriesPixelSize": [float(pixel_A)],
    }
    rows: dict[str, list[star.Value]] = {}
    for name, one in found.items():
        volume = volumes[name]
        middle = (one.xyz - _middle(volume)) * volume.voxel_A
        count = len(one.xyz)
        columns: dict[str, list[star.Value]] = {
            "rlnTomoName": [name] * count,
            "rlnTomoParticleName": [f"{name}/{number}" for number in range(1, count + 1)],
            "rlnTomoParticleId": list(range(1, count + 1)),
            "rlnOpticsGroup": [1] * count,
            **{label: middle[:, axis].tolist() for axis, label in enumerate(CENTRED)},
            **{label: relion_angles(one.turns)[:, axis].tolist() for axis, label in enumerate(ANGLES)},
            **{label: [0.0] * count for label in ORIGINS},
            "rlnRandomSubset": (one.half + 1).tolist(),
            "rlnClassNumber": one.cls.tolist(),
            "rlnMaxValueProbDistribution": one.scores.tolist(),
        }
        for label, values in columns.items():
            rows.setdefault(label, []).extend(values)
    return star.render({"optics": head, "particles": rows})


def joined_star(paths: Sequence[Path]) -> str:
    """One star file with the rows of several of the same kind, such as `tomograms.star`."""
    joined: dict[str, dict[str, list[star.Value]]] = {}
    for path in paths:
        for name, table in star.read(path).items():
            block = joined.setdefault(name, {label: [] for label in table})
            for label in block:
                block[label].extend(table.get(label, [""] * len(next(iter(table.values())))))
    return star.render(joined)
