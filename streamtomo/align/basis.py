"""What may change in a bundle adjustment: the views' parameters as linear functions of freedoms with priors.

One value for all views, a smooth curve (linear between evenly spaced knots), or a value for each view; motions of the
specimen's parts that change smoothly in the order of acquisition: the basis that takes the freedoms to the parameters
says which, and the solver needs to know nothing else.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.align import local_motion
from streamtomo.align.bundle_kernels import VIEW_PARAMETERS
from streamtomo.align.local_motion import Bending

Array = NDArray[np.float64]
Freedom = Literal["fixed", "one", "smooth", "each"]

SHIFT_PRIOR_PX = 100.0
"""Weak: shifts are to follow the measurements."""
AXIS_PRIOR_DEG = (10.0, 1.0)
TILT_PRIOR_DEG = (0.0, 1.0)
MAG_PRIOR = (0.0, 0.01)
SHAPE_PRIOR = (0.0, 0.005)
"""Standard deviations of what all views share (0: fixed, as no measurement tells), and of a view's own deviation."""
BEAM_PRIOR_DEG = 1.0
LOCAL_PRIOR_PX = {"quadratic": 2.0, "cubic": 0.7}
"""Of the shapes up to that degree: the finer, the less ice moves. Without it they run wild where no bead is."""
SMOOTH_VIEWS = 8
"""Views from one knot of a smooth curve to the next."""


class Freedoms(NamedTuple):
    """What may change besides the shifts."""

    axis: Freedom = "one"
    tilt: Freedom = "fixed"
    mag: Freedom = "fixed"
    shape: Freedom = "fixed"
    beam: Literal["fixed", "one"] = "fixed"
    image: Bending = "fixed"
    """Motion of the specimen's parts in the image ..."""
    depth: Bending = "fixed"
    """... and in depth."""

    @property
    def numbers(self) -> int:
        """Parameters of one view."""
        return VIEW_PARAMETERS + len(local_motion.allowed(self.image, self.depth))


class Basis(NamedTuple):
    """Freedoms `q`: the shifts of `n` views, x and y of each in turn, then what moves the other parameters.

    A view's `m` parameters: shift x, shift y (raw pixels), axis angle, tilt angle (rad), logarithm of the
    magnification, stretch across the axis, skew, beam tilt (rad), and the numbers of the local motion (pixels). Stretch
    and skew are free together, as a lens or the specimen may distort either way.
    """

    others: Array
    """How the views' parameters change with the freedoms after the shifts, `(n, m, e)`."""
    prior_sd: Array
    """`(2 n + e,)`."""

    def to_views(self, q: Array) -> Array:
        """Changes of the parameters `(n, m, ...)` by freedoms `(2 n + e, ...)`."""
        n, m, e = self.others.shape
        changed = (self.others.reshape(n * m, e) @ q[2 * n :]).reshape(n, m, *q.shape[1:])
        changed[:, :2] += q[: 2 * n].reshape(n, 2, *q.shape[1:])
        return changed

    def from_views(self, gradient: Array) -> Array:
        """The transpose: gradients to the parameters `(n, m, ...)` become such to the freedoms."""
        n, m, e = self.others.shape
        shifts = gradient[:, :2].reshape(2 * n, *gradient.shape[2:])
        others = self.others.reshape(n * m, e).T @ gradient.reshape(n * m, *gradient.shape[2:])
        return np.concatenate([shifts, others])

    def normal(self, by_view: Array) -> Array:
        """Normal equations of the freedoms from those of the views `(n, m, m)`."""
        n, m, e = self.others.shape
        both = np.zeros((2 * n + e, 2 * n + e))
        shifts = both[: 2 * n, : 2 * n].reshape(n, 2, n, 2)
        shifts[np.arange(n), :, np.arange(n), :] = by_view[:, :2, :2]
        turned = by_view @ self.others
        both[: 2 * n, 2 * n :] = turned[:, :2].reshape(2 * n, e)
        both[2 * n :, : 2 * n] = both[: 2 * n, 2 * n :].T
        both[2 * n :, 2 * n :] = self.others.reshape(n * m, e).T @ turned.reshape(n * m, e)
        return both


def basis_of(freedoms: Freedoms, n: int, when: Array | None = None) -> Basis:
    """The basis for `n` views, taken in the order `when` `(n,)`."""
    m, others, sds = freedoms.numbers, [np.zeros((n, freedoms.numbers, 0))], [np.full(2 * n, SHIFT_PRIOR_PX)]
    for parameter, (curve, sd) in enumerate(_curves(freedoms, n, when), start=2):
        column = np.zeros((n, m, curve.shape[1]))
        column[:, parameter] = curve
        others.append(column)
        sds.append(sd)
    return Basis(np.concatenate(others, axis=2), np.concatenate(sds))


def _curves(freedoms: Freedoms, n: int, when: Array | None) -> list[tuple[Array, Array]]:
    """For each parameter of the views but their shifts the columns `(n, k)`, and priors `(k,)`."""
    angles = [np.radians(prior) for prior in (AXIS_PRIOR_DEG, TILT_PRIOR_DEG)]
    beam = (float(np.radians(BEAM_PRIOR_DEG)), 0.0)
    priors = np.array([*angles, MAG_PRIOR, SHAPE_PRIOR, SHAPE_PRIOR, beam])
    kinds = (freedoms.axis, freedoms.tilt, freedoms.mag, freedoms.shape, freedoms.shape, freedoms.beam)
    found = [_curve(kind, n, float(prior[0]), float(prior[1])) for kind, prior in zip(kinds, priors, strict=True)]
    slow = local_motion.in_time(
        np.arange(n, dtype=float) if when is None else when, max(1, round((n - 1) / SMOOTH_VIEWS))
    )
    for number, free in enumerate(local_motion.allowed(freedoms.image, freedoms.depth)):
        curve = slow if free else np.zeros((n, 0))
        degree = "quadratic" if number < 3 * local_motion.SHAPES["quadratic"] else "cubic"
        found.append((curve, np.full(curve.shape[1], LOCAL_PRIOR_PX[degree])))
    return found


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
