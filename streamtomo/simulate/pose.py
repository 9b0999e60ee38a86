"""Where a point of the specimen lands on the camera: the simulated microscope's own few lines of geometry.

They repeat the conventions of the package on purpose instead of importing them, so that a mistake made there shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamtomo.simulate.creep import Wave, crept

Array = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """How the microscope truly stood during one exposure."""

    tilt_deg: float
    axis_deg: float = 0.0
    """From the image's Y axis to the tilt axis, counter-clockwise."""
    shift_xy: tuple[float, float] = (0.0, 0.0)
    """Image shift in raw pixels."""
    mag: float = 1.0
    beam_tilt_deg: float = 0.0
    """The beam leans along the tilt axis: `Rx(b) Ry(t) Rx(-b)` instead of `Ry(t)`."""
    waves: tuple[Wave, ...] = ()
    settled: float = 0.0
    """Share of the waves' way that matter has gone."""

    def matrix(self) -> Array:
        """`(2, 3)`: raw position from the image's centre, less the shift, of a specimen point X, Y, Z."""
        t, a, b = radians(self.tilt_deg), radians(self.axis_deg), radians(self.beam_tilt_deg)
        tilt = np.array([[cos(t), 0.0, sin(t)], [0.0, 1.0, 0.0], [-sin(t), 0.0, cos(t)]])
        lean = np.array([[1.0, 0.0, 0.0], [0.0, cos(b), -sin(b)], [0.0, sin(b), cos(b)]])
        tilt = (lean @ tilt @ lean.T)[:2]
        turn = np.array([[cos(a), -sin(a)], [sin(a), cos(a)]])
        matrix: Array = self.mag * turn @ tilt
        return matrix

    def raw(self, points: ArrayLike) -> Array:
        """Raw pixels from the image's centre, `(n, 2)` as x, y, of points `(n, 3)` in pixels from the specimen's."""
        there = crept(np.asarray(points, np.float64), self.waves, self.settled)
        seen: Array = there @ self.matrix().T + self.shift_xy
        return seen


def slab_turn(pitch_deg: float, pretilt_deg: float) -> Array:
    """`(3, 3)` from a slab lying flat to the slab in the holder: pitched about X, then pre-tilted about the axis Y.

    A pre-tilt of q adds to the tilt angle: the slab lies flat to the beam at a tilt of -q.
    """
    p, q = radians(pitch_deg), radians(pretilt_deg)
    pitch = np.array([[1.0, 0.0, 0.0], [0.0, cos(p), -sin(p)], [0.0, sin(p), cos(p)]])
    pretilt = np.array([[cos(q), 0.0, sin(q)], [0.0, 1.0, 0.0], [-sin(q), 0.0, cos(q)]])
    turn: Array = pretilt @ pitch
    return turn


def holder_turn(turn_deg: float) -> Array:
    """`(3, 3)`: the holder with all that is in it turned about Z, counter-clockwise from X to Y."""
    a = radians(turn_deg)
    turn: Array = np.array([[cos(a), -sin(a), 0.0], [sin(a), cos(a), 0.0], [0.0, 0.0, 1.0]])
    return turn


def _normal(tilt_deg: float, pitch_deg: float, pretilt_deg: float, turn_deg: float) -> Array:
    """Of a slab's middle plane, in the tilted view: across the tilt axis, along it, along the beam."""
    t = radians(tilt_deg)
    to_beam = np.array([[cos(t), 0.0, sin(t)], [0.0, 1.0, 0.0], [-sin(t), 0.0, cos(t)]])
    normal: Array = (to_beam @ holder_turn(turn_deg) @ slab_turn(pitch_deg, pretilt_deg))[:, 2]
    return normal


def slope(tilt_deg: float, pitch_deg: float, pretilt_deg: float, turn_deg: float = 0.0) -> tuple[float, float]:
    """Rise of a slab's middle plane towards z, per length across the tilt axis and along it, in the tilted view."""
    x, y, z = _normal(tilt_deg, pitch_deg, pretilt_deg, turn_deg)
    return float(-x / z), float(-y / z)


def path_factor(tilt_deg: float, pitch_deg: float, pretilt_deg: float, turn_deg: float = 0.0) -> float:
    """Path of the beam through the slab relative to its thickness."""
    return 1.0 / abs(float(_normal(tilt_deg, pitch_deg, pretilt_deg, turn_deg)[2]))


def centred_grid(shape_yx: tuple[int, int]) -> tuple[float, float]:
    """Array index, as x, y, of an image's centre."""
    return (shape_yx[1] - 1) / 2, (shape_yx[0] - 1) / 2
