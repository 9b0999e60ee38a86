"""Error of an alignment against a simulator's truth, in raw pixels.

A probe point P of the specimen lies in view `v` at `mag R(axis) project(P, tilt) + shift`, all known from the truth.
The alignment under test maps that raw position to an aligned one, which should be `project(P', tilt)` at its own tilt
angle, where P' is P moved by one rigid motion and one scale for all views: where they are is nobody's error.
That motion is fitted by least squares; what remains is the error. Where parts of the specimen move against each other
it is not said either which of its states the tomogram shows: then each point may be moved by itself, in all views.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from streamtomo import geometry

Array = NDArray[np.float64]

SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "v": lambda u, v: v,
    "u2 - 1/3": lambda u, v: u * u - 1 / 3,
    "u v": lambda u, v: u * v,
    "v2 - 1/3": lambda u, v: v * v - 1 / 3,
    "u3 - 3u/5": lambda u, v: u**3 - 0.6 * u,
    "(u2 - 1/3) v": lambda u, v: (u * u - 1 / 3) * v,
    "u (v2 - 1/3)": lambda u, v: u * (v * v - 1 / 3),
    "v3 - 3v/5": lambda u, v: v**3 - 0.6 * v,
}
"""The shapes of a local motion by the names that a series' file has for them."""


@dataclass(frozen=True)
class TrueView:
    """Where the simulated microscope put the specimen in one image, raw pixels and degrees."""

    tilt_deg: float
    axis_deg: float
    shift_x: float
    shift_y: float
    mag: float = 1.0
    xtilt_deg: float = 0.0
    beam_deg: float = 0.0
    moved: Callable[[Array], Array] | None = None
    """Where points of the specimen are in this view, if it is not rigid."""

    def raw(self, points: Array) -> Array:
        """Raw positions `(n, 2)` from the image's centre of specimen points `(n, 3)`."""
        points = self.moved(points) if self.moved else points
        transform = geometry.aligned_to_raw(self.axis_deg, (self.shift_x, self.shift_y), self.mag)
        if self.beam_deg:
            tilt_deg, xtilt_deg, transform = geometry.without_beam_tilt(transform, self.tilt_deg, self.beam_deg)
            return geometry.apply(transform, geometry.project(points, tilt_deg, xtilt_deg))
        return geometry.apply(transform, geometry.project(points, self.tilt_deg, self.xtilt_deg))


@dataclass(frozen=True)
class FoundView:
    """What an alignment says of one image."""

    tilt_deg: float
    transform: Array
    """Raw to aligned, `(2, 3)`, tilt axis vertical."""
    xtilt_deg: float = 0.0
    moved: Callable[[Array], Array] | None = None
    """Where it says that points of the specimen are in this view."""


@dataclass(frozen=True)
class Errors:
    """Distances between predicted and true positions, raw pixels."""

    vectors: Array
    """`(views, points, 2)`: across the axis, along it."""
    motion: Array
    """The fitted rotation vector (degrees), translation (pixels) and scale, `(7,)`."""

    @property
    def rms_per_view(self) -> Array:
        """Root of the mean squared distance, `(views,)`."""
        return np.asarray(np.sqrt((self.vectors**2).sum(-1).mean(-1)))

    @property
    def rms(self) -> float:
        """Over all views and points."""
        return float(np.sqrt((self.vectors**2).sum(-1).mean()))

    @property
    def max(self) -> float:
        """Largest distance of all."""
        return float(np.sqrt((self.vectors**2).sum(-1)).max())

    @property
    def rms_across_along(self) -> tuple[float, float]:
        """The same across the tilt axis and along it."""
        across, along = np.sqrt((self.vectors**2).mean((0, 1)))
        return float(across), float(along)


def probe_grid(nx: int, ny: int, thickness_px: float) -> Array:
    """Points `(75, 3)` in the slab: 5 x 5 over the middle 80 % of the field, 3 in depth."""
    x, y = np.linspace(-0.4, 0.4, 5) * nx, np.linspace(-0.4, 0.4, 5) * ny
    z = np.linspace(-0.4, 0.4, 3) * thickness_px
    return np.stack(np.meshgrid(x, y, z, indexing="ij"), axis=-1).reshape(-1, 3)


def errors(true: Sequence[TrueView], found: Sequence[FoundView], points: Array) -> Errors:
    """Compare views one by one (same order, same length)."""
    seen = np.array([geometry.apply(one.transform, view.raw(points)) for view, one in zip(true, found, strict=True)])
    rows = np.array([geometry.project(np.eye(3), one.tilt_deg, one.xtilt_deg).T for one in found])  # (views, 2, 3)
    size = float(np.abs(points).max())

    def moved(motion: Array) -> Array:
        turned = Rotation.from_rotvec(motion[:3]).apply(points)
        return np.asarray((1 + motion[6]) * turned + motion[3:6] * size)

    def residual(motion: Array) -> Array:
        there = moved(motion)
        parts = np.stack([there if one.moved is None else one.moved(there) for one in found])
        return np.asarray((np.einsum("vij,vpj->vpi", rows, parts) - seen).ravel())

    motion = least_squares(residual, np.zeros(7)).x
    described = np.array([*np.degrees(motion[:3]), *(motion[3:6] * size), 1 + motion[6]])
    left = residual(motion).reshape(len(found), len(points), 2)
    if any(view.moved for view in true):
        design = rows.reshape(-1, 3)
        by_point = left.transpose(0, 2, 1).reshape(len(design), -1)
        by_point = by_point - design @ np.linalg.lstsq(design, by_point, rcond=None)[0]
        left = by_point.reshape(len(found), 2, -1).transpose(0, 2, 1)
    return Errors(left, described)


def read_found(folder: Path, axis_deg: float, *, final: bool) -> tuple[list[int], list[FoundView]]:
    """Acquisition order and found views of a finished series: `.prexg` at nominal angles, or `.xf` at solved ones."""
    name = folder.name
    views = json.loads((folder / f"{name}_views.json").read_text())["views"]
    angles = np.loadtxt(folder / f"{name}{'.tlt' if final else '.rawtlt'}", ndmin=1)
    rows = np.loadtxt(folder / f"{name}{'.xf' if final else '.prexg'}", ndmin=2)
    transforms = [np.column_stack([row[:4].reshape(2, 2), row[4:]]) for row in rows]
    if not final:
        turn = geometry.raw_to_aligned(axis_deg)
        transforms = [geometry.compose(one, turn) for one in transforms]
    xtilts = np.loadtxt(folder / f"{name}.xtilt", ndmin=1) if final else np.zeros(len(rows))
    motions = _motions(folder / f"{name}_local.json", len(rows)) if final else [None] * len(rows)
    parts = zip(angles, transforms, xtilts, motions, strict=True)
    found = [FoundView(float(angle), one, float(xtilt), moved) for angle, one, xtilt, moved in parts]
    return [int(view["acquired"]) for view in views], found


def _motions(path: Path, count: int) -> list[Callable[[Array], Array] | None]:
    """The local motion that a series' file tells, row by row."""
    if not path.exists():
        return [None] * count
    told = json.loads(path.read_text())

    def motion(numbers: Array) -> Callable[[Array], Array]:
        def moved(points: Array) -> Array:
            u, v = (points[:, :2] - told["middle_px"]).T / told["reach_px"]
            shapes = [SHAPES[name](u, v) for name in told["shapes"]]
            return points + np.stack(shapes, axis=1) @ numbers

        return moved

    return [motion(np.array(row["motion_px"])) for row in told["rows"]]
