"""IMOD's files about tracked beads: the model `.fid`, the positions `fid.xyz`, the residuals `.resid`.

All live in the pre-aligned image (`.prexg`: shifted, not turned), and count from the corner of the first pixel.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.errors import InputError
from streamtomo.export.imod import write_bytes, write_text

Array = NDArray[np.float64]
Index = NDArray[np.int64]

HEAD_FLAGS = 0x3800
OPEN_CONTOURS = 8
BEAD_CIRCLE_PX = 6
SIZE_AT = 136
"""Where the head has the size of the images."""
HEAD_BYTES, OBJECT_BYTES, CONTOUR_HEAD_BYTES, MESH_HEAD_BYTES = 240, 176, 20, 24


class Fiducials(NamedTuple):
    """Beads as the final alignment used them, raw pixels."""

    view: Index
    """Row of the sorted stack that each position was measured in, `(n,)`."""
    point: Index
    """Bead of each position, `(n,)`."""
    xy: Array
    """Measured positions about the raw image's centre, `(n, 2)`."""
    residual: Array
    """Predicted minus measured, `(n, 2)`."""
    points: Array
    """Beads in the aligned specimen, `(beads, 3)`."""


class Stack(NamedTuple):
    """The pre-aligned stack that the files belong to."""

    nx: int
    ny: int
    shifts: Array
    """What is added to raw positions, `(views, 2)`: the `.prexg`."""
    pixel_size_A: float | None


def write_fiducials(folder: Path, name: str, found: Fiducials, stack: Stack) -> None:
    """Write all three files; raises OutputError."""
    corner = _corner(found, stack)
    write_bytes(folder / f"{name}.fid", model(found, corner, stack))
    write_text(folder / f"{name}fid.xyz", _xyz(found, stack))
    lines = [f"{len(found.view)} residuals\n"]
    for (x, y), view, (dx, dy) in zip(corner, found.view, found.residual, strict=True):
        lines.append(f"{x:10.2f}{y:10.2f}{view:5d}{dx:8.2f}{dy:8.2f}\n")
    write_text(folder / f"{name}.resid", "".join(lines))


def write_seed(path: Path, found: Fiducials, stack: Stack) -> None:
    """`.seed`: each bead once, in the view in which most beads are seen. Raises OutputError."""
    view = int(np.bincount(found.view).argmax())
    rows = found.view == view
    known, contour = np.unique(found.point[rows], return_inverse=True)
    once = Fiducials(found.view[rows], contour, found.xy[rows], found.residual[rows], found.points[known])
    write_bytes(path, model(once, _corner(once, stack), stack))


def _corner(found: Fiducials, stack: Stack) -> Array:
    """Positions `(n, 2)` in the pre-aligned stack, from the corner of its first pixel."""
    return np.asarray(found.xy + stack.shifts[found.view] + np.array([stack.nx, stack.ny]) / 2)


class Residuals(NamedTuple):
    """A `.resid` file."""

    xy: Array
    """`(n, 2)` in the pre-aligned image, from the corner of its first pixel."""
    view: Index
    residual: Array
    """Predicted minus measured, `(n, 2)`."""


def read_residuals(path: Path) -> Residuals:
    """The rows of a `.resid` file. Raises OSError, or ValueError for one that is not whole."""
    head, *lines = path.read_text().splitlines()
    rows = np.array([[float(word) for word in line.split()] for line in lines]).reshape(-1, 5)
    if len(rows) != int(head.split()[0]):
        raise ValueError(f"{path}: {len(rows)} rows, and {head} in its first line")
    return Residuals(rows[:, :2], rows[:, 2].astype(np.int64), rows[:, 3:])


def _xyz(found: Fiducials, stack: Stack) -> str:
    lines = []
    for bead, (x, y, z) in enumerate(found.points, start=1):
        lines.append(f"{bead:4d} {x + stack.nx / 2:10.2f} {y + stack.ny / 2:10.2f} {z:10.2f} {1:7d} {bead:5d}")
    lines[0] += f" Pix:{stack.pixel_size_A or 1.0:12.5f} Dim:{stack.nx:6d}{stack.ny:6d}"
    return "".join(f"{line}\n" for line in lines)


def model(found: Fiducials, corner: Array, stack: Stack) -> bytes:
    """An IMOD model (binary, big-endian) with a contour a bead, a point a view."""
    beads = int(found.point.max()) + 1
    parts = [_head(stack), _object(beads)]
    for bead in range(beads):
        rows = np.flatnonzero(found.point == bead)
        rows = rows[np.argsort(found.view[rows])]
        points = np.column_stack([corner[rows], found.view[rows]]).astype(">f4")
        parts.append(b"CONT" + struct.pack(">iIii", len(rows), 0, 0, 0) + points.tobytes())
    spacing = stack.pixel_size_A or 1.0
    transform = [1.0] * 3 + [0.0] * 6 + [spacing] * 3 + [0.0] * 6
    parts.append(b"MINX" + struct.pack(">i18f", 72, *transform) + b"IEOF")
    return b"".join(parts)


class Model(NamedTuple):
    """The points of an IMOD model, contour by contour."""

    contour: Index
    """`(n,)`, numbered over all objects."""
    xyz: Array
    """As the model has them: from the corner of the first pixel, z the section from 0."""
    size_xy: tuple[int, int] = (0, 0)
    """Of the images that it was drawn on."""


def read_model(path: Path) -> Model:
    """The points of a binary IMOD model. Raises InputError for a file that is none, or has none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if content[:8] != b"IMODV1.2":
        raise InputError(f"{path}: is no binary IMOD model (IMODV1.2)")
    contours: list[Array] = []
    at = HEAD_BYTES
    while at + 4 <= len(content) and (tag := content[at : at + 4]) != b"IEOF":
        if tag == b"OBJT":
            at += 4 + OBJECT_BYTES
        elif tag == b"CONT":
            (size,) = struct.unpack_from(">i", content, at + 4)
            points = np.frombuffer(content, ">f4", 3 * max(size, 0), at + CONTOUR_HEAD_BYTES)
            contours.append(points.reshape(-1, 3).astype(np.float64))
            at += CONTOUR_HEAD_BYTES + 12 * max(size, 0)
        elif tag == b"MESH":
            vertices, indices = struct.unpack_from(">2i", content, at + 4)
            at += MESH_HEAD_BYTES + 12 * vertices + 4 * indices
        else:
            (length,) = struct.unpack_from(">i", content, at + 4)
            at += 8 + max(length, 0)
    contours = [points for points in contours if len(points)]
    if not contours:
        raise InputError(f"{path}: holds no points")
    contour = np.repeat(np.arange(len(contours)), [len(points) for points in contours])
    nx, ny = struct.unpack_from(">2i", content, SIZE_AT)
    return Model(contour, np.concatenate(contours), (nx, ny))


def _head(stack: Stack) -> bytes:
    return (
        b"IMODV1.2"
        + b"streamtomo: tracked beads".ljust(128, b"\0")
        + struct.pack(">4iI4i", stack.nx, stack.ny, len(stack.shifts), 1, HEAD_FLAGS, 1, 0, 0, 255)
        + struct.pack(">6f", 0, 0, 0, 1, 1, 1)
        + struct.pack(">5if2i3f", 0, 0, 0, 3, 128, (stack.pixel_size_A or 10.0) / 10, -9, 0, 0, 0, 0)
    )


def _object(beads: int) -> bytes:
    return (
        b"OBJT"
        + b"beads".ljust(64, b"\0")
        + bytes(64)
        + struct.pack(">iIii3fi", beads, OPEN_CONTOURS, 0, 1, 0.0, 1.0, 0.0, BEAD_CIRCLE_PX)
        + struct.pack("8B", 0, 3, 1, 1, 0, 0, 0, 0)
        + struct.pack(">2i", 0, 0)
    )
