"""Motion of the specimen's parts against each other while a series is taken: the beam bends ice, and it creeps.

A point `(X, Y, Z)` of the specimen is, in one view, at `(X, Y, Z) + sum over k of shape_k(X / reach, Y / reach) * c_k`
with three numbers `c_k` (x, y, z: in the image, and in depth) for each shape, raw pixels. The shapes are products of
Legendre's polynomials of the second and third degree, and for z the tilt of the specimen along the axis; what is left
out are the motions that other parameters of a view stand for. A view's numbers change smoothly in the order of
acquisition, and are 0 in the view taken first: the specimen is told as it was then.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bending = Literal["fixed", "quadratic", "cubic"]

SHAPES: dict[Bending, int] = {"fixed": 0, "quadratic": 4, "cubic": 8}
"""How many of the shapes a motion has."""
NAMES = ("v", "u2 - 1/3", "u v", "v2 - 1/3", "u3 - 3u/5", "(u2 - 1/3) v", "u (v2 - 1/3)", "v3 - 3v/5")
"""The shapes, with u = X / reach and v = Y / reach."""
IN_DEPTH_ONLY = 1
"""The first shapes move points in z only: in x and y they are a turn or a distortion of the whole view."""


def shapes(xy: Array, reach_px: float, count: int) -> Array:
    """The first `count` shapes at places X, Y `(n, 2)` of the specimen, `(n, count)`."""
    if not count:
        return np.zeros((len(xy), 0))
    u, v = xy[:, 0] / reach_px, xy[:, 1] / reach_px
    u2, v2 = u * u - 1 / 3, v * v - 1 / 3
    every = (v, u2, u * v, v2, u**3 - 0.6 * u, u2 * v, u * v2, v**3 - 0.6 * v)
    return np.ascontiguousarray(np.stack(every[:count], axis=1))


def allowed(image: Bending, depth: Bending) -> NDArray[np.bool_]:
    """Which of the numbers may differ from 0, `(3 k,)`, for motions of these degrees in the image and in depth."""
    count = max(SHAPES[image], SHAPES[depth])
    free = np.zeros((count, 3), bool)
    free[IN_DEPTH_ONLY : SHAPES[image], :2] = True
    free[: SHAPES[depth], 2] = True
    return free.ravel()


def in_time(when: Array, knots: int) -> Array:
    """Smooth curves, 0 at first, linear between evenly spaced knots in the order `when` `(n,)`: `(n, knots)`."""
    rank = np.argsort(np.argsort(when, kind="stable"), kind="stable")
    at = np.linspace(0, len(when) - 1, knots + 1)
    return np.stack([np.interp(rank, at, unit) for unit in np.eye(knots + 1)[1:]], axis=1)
