"""Error of an alignment against a simulator's truth, in raw pixels.

A probe point P of the specimen lies in view `v` at `mag R(axis) project(P, tilt) + shift`, all known from the truth.
The alignment under test maps that raw position to an aligned one, which should be `project(P', tilt)` at its own tilt
angle, where P' is P moved by one rigid motion and one scale for all views: what the world is like is nobody's error.
That motion is fitted by least squares; what remains is the error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from streamtomo import geometry

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrueView:
    """Where the simulated microscope put the specimen in one image, raw pixels and degrees."""

    tilt_deg: float
    axis_deg: float
    shift_x: float
    shift_y: float
    mag: float = 1.0
    xtilt_deg: float = 0.0

    def raw(self, points: Array) -> Array:
        """Raw positions `(n, 2)` from the image's centre of specimen points `(n, 3)`."""
        transform = geometry.aligned_to_raw(self.axis_deg, (self.shift_x, self.shift_y), self.mag)
        return geometry.apply(transform, geometry.project(points, self.tilt_deg, self.xtilt_deg))


@dataclass(frozen=True)
class FoundView:
    """What an alignment says of one image."""

    tilt_deg: float
    transform: Array
    """Raw to aligned, `(2, 3)`, tilt axis vertical."""


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
    rows = np.array([geometry.project(np.eye(3), one.tilt_deg).T for one in found])  # (views, 2, 3)
    size = float(np.abs(points).max())

    def moved(motion: Array) -> Array:
        turned = Rotation.from_rotvec(motion[:3]).apply(points)
        return np.asarray((1 + motion[6]) * turned + motion[3:6] * size)

    def residual(motion: Array) -> Array:
        return np.asarray((np.einsum("vij,pj->vpi", rows, moved(motion)) - seen).ravel())

    motion = least_squares(residual, np.zeros(7)).x
    described = np.array([*np.degrees(motion[:3]), *(motion[3:6] * size), 1 + motion[6]])
    return Errors(residual(motion).reshape(len(found), len(points), 2), described)


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
    found = [FoundView(float(angle), one) for angle, one in zip(angles, transforms, strict=True)]
    return [int(view["acquired"]) for view in views], found
