"""What may change in a bundle adjustment: the views' parameters as linear functions of freedoms with priors.

One value for all views, a smooth curve (linear between evenly spaced knots), or a value for each view: the matrix that
takes the freedoms to the parameters says which, and the solver needs to know nothing else.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from streamtomo.align.bundle_kernels import VIEW_PARAMETERS

Array = NDArray[np.float64]
Freedom = Literal["fixed", "one", "smooth", "each"]

SHIFT_PRIOR_PX = 100.0
"""Weak: shifts are to follow the measurements."""
AXIS_PRIOR_DEG = (10.0, 1.0)
TILT_PRIOR_DEG = (0.0, 1.0)
MAG_PRIOR = (0.0, 0.01)
SHAPE_PRIOR = (0.0, 0.005)
"""Standard deviations of what all views share (0: fixed, as no measurement tells), and of a view's own deviation."""
SMOOTH_VIEWS = 8
"""Views from one knot of a smooth curve to the next."""


class Freedoms(NamedTuple):
    """What may change besides the shifts."""

    axis: Freedom = "one"
    tilt: Freedom = "fixed"
    mag: Freedom = "fixed"
    shape: Freedom = "fixed"


class Basis(NamedTuple):
    """Change of the views' parameters = `matrix @ q`; `matrix` `(7 views, freedoms)`, `prior_sd` `(freedoms,)`.

    A view's parameters: shift x, shift y (raw pixels), axis angle, tilt angle (rad), logarithm of the magnification,
    stretch across the axis, skew; the last two are free together, as a lens or the specimen may distort either way.
    """

    matrix: sparse.csr_array
    prior_sd: Array


def basis_of(freedoms: Freedoms, n: int) -> Basis:
    """Columns for the shifts of `n` views, then for axis, tilt, magnification, stretch and skew."""
    shifts = np.zeros((n, VIEW_PARAMETERS, 2 * n))
    shifts[np.arange(n), 0, 2 * np.arange(n)] = 1
    shifts[np.arange(n), 1, 2 * np.arange(n) + 1] = 1
    columns, sds = [shifts], [np.full(2 * n, SHIFT_PRIOR_PX)]
    angles = [np.radians(prior) for prior in (AXIS_PRIOR_DEG, TILT_PRIOR_DEG)]
    priors = np.array([*angles, MAG_PRIOR, SHAPE_PRIOR, SHAPE_PRIOR])
    for parameter, (kind, prior) in enumerate(zip((*freedoms, freedoms.shape), priors, strict=True), start=2):
        shape, sd = _curve(kind, n, float(prior[0]), float(prior[1]))
        column = np.zeros((n, VIEW_PARAMETERS, shape.shape[1]))
        column[:, parameter] = shape
        columns.append(column)
        sds.append(sd)
    matrix = np.concatenate(columns, axis=2).reshape(VIEW_PARAMETERS * n, -1)
    return Basis(sparse.csr_array(matrix), np.concatenate(sds))


def _curve(kind: Freedom, n: int, common_sd: float, own_sd: float) -> tuple[Array, Array]:
    """Columns `(n, k)` of one parameter over the views, and the priors of their coefficients."""
    columns, sds = [np.zeros((n, 0))], [np.zeros(0)]
    if kind != "fixed" and common_sd > 0:
        columns.append(np.ones((n, 1)))
        sds.append(np.array([common_sd]))
    if kind in ("smooth", "each"):
        shape = _hats(n) if kind == "smooth" else np.eye(n)
        columns.append(shape)
        sds.append(np.full(shape.shape[1], own_sd))
    return np.concatenate(columns, axis=1), np.concatenate(sds)


def _hats(n: int) -> Array:
    """Linear interpolation over the views between evenly spaced knots, `(n, knots)`."""
    knots = np.linspace(0, n - 1, max(2, round((n - 1) / SMOOTH_VIEWS) + 1))
    return np.stack([np.interp(np.arange(n), knots, unit) for unit in np.eye(len(knots))], axis=1)
