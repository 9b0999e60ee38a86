"""IMOD's text files: angles and transforms, in ascending tilt angle, one row for every section of the sorted stack."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from streamtomo.durable import sync_folder
from streamtomo.errors import OutputError
from streamtomo.geometry import Array

ANGLE_ERROR = np.radians(0.005)
"""Rounding of an angle in a text file."""


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all; raises OutputError."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all; raises OutputError."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); free space or mend the permissions"
        ) from error


def json_text(content: object) -> str:
    """JSON with a line for each value."""
    return msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n"


def write_angles(path: Path, angles_deg: Iterable[float]) -> None:
    """`.rawtlt`, `.tlt`, `.xtilt`: one angle (degrees) a line."""
    write_text(path, "".join(f"{angle:7.2f}\n" for angle in angles_deg))


def write_transforms(path: Path, transforms: Sequence[Array]) -> None:
    """`.xf`, `.prexg`: one `(2, 3)` transform a line as `a11 a12 a21 a22 dx dy`."""
    write_text(path, "".join(_transform_line(transform) for transform in transforms))


def _transform_line(transform: Array) -> str:
    (a11, a12, dx), (a21, a22, dy) = transform
    return "".join(f"{value:12.7f}" for value in (a11, a12, a21, a22)) + f"{dx:12.3f}{dy:12.3f}\n"


def read_angles(path: Path) -> Array:
    """Angles `(n,)` in degrees. Raises OSError, or ValueError for a file that is none."""
    return _numbers(path).ravel()


def read_transforms(path: Path) -> Array:
    """Transforms `(n, 2, 3)`. Raises OSError, or ValueError for a file that is none."""
    rows = _numbers(path)
    if rows.shape[1] < 6:
        raise ValueError(f"{path}: is no file of transforms")
    return np.concatenate([rows[:, :4].reshape(-1, 2, 2), rows[:, 4:6, None]], axis=2)


def _numbers(path: Path) -> Array:
    try:
        return np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None


REQUIRED = (".rawtlt", ".tlt", ".prexg", ".xf")
ROWS = (*REQUIRED, ".xtilt", ".prexf", ".tltxf")


def check_rows(folder: Path, name: str, views: int) -> list[str]:
    """Which of a series' text files does not have one row per view; empty if all do."""
    faults = []
    for suffix in ROWS:
        path = folder / f"{name}{suffix}"
        rows = len(path.read_text().splitlines()) if path.exists() else 0
        if rows != views and (rows or suffix in REQUIRED):
            faults.append(f"{path.name}: {rows} rows for {views} views")
    return faults
