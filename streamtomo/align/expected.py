"""How far off an alignment is expected to be, over the field and view by view.

The covariance of a solution's freedoms is carried to places of the specimen. Where the specimen lies and how it is
turned and scaled as a whole is nobody's error: the best such motion over all views is taken out of each of the
covariance's directions, as it is of the errors of an alignment whose truth is known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from streamtomo import geometry
from streamtomo.align.poses import Poses, jacobian
from streamtomo.align.robust import TUKEY_LIMIT

Array = NDArray[np.float64]

SPREAD = 0.35
"""Places are at the middle and this share of the field's sides away from it: as points spread over 80 % of it are."""


class Expected(NamedTuple):
    """Standard deviations of the distance to the truth, raw pixels."""

    by_place: Array
    """`(views, 9)`, on a grid over the field, the field's centre in the middle of it."""
    told: NDArray[np.bool_]
    """Views in which something was measured, `(views,)`; the others mean nothing."""

    @property
    def centre(self) -> Array:
        """At the centre of the field, `(views,)`."""
        return self.by_place[:, 4]

    @property
    def edge(self) -> Array:
        """RMS of the field's corners, `(views,)`."""
        corners: Array = np.sqrt((self.by_place[:, [0, 2, 6, 8]] ** 2).mean(1))
        return corners

    @property
    def rms(self) -> float:
        """Over the field and all views that are told."""
        return float(np.sqrt((self.by_place[self.told] ** 2).mean())) if self.told.any() else float("nan")


def places(poses: Poses, points: Array) -> Array:
    """Points `(9, 3)` of the specimen, spread over the field of view, or over the points where it is not known."""
    sides = np.array(poses.field) if any(poses.field) else np.full(2, 2 * np.abs(points[:, :2]).max(initial=1.0))
    x, y = np.meshgrid(*(SPREAD * side * np.array([-1.0, 0.0, 1.0]) for side in sides))
    turned = np.stack([x.ravel(), y.ravel()], axis=1) @ geometry.rotation(-float(poses.axis_deg.mean())).T
    return np.column_stack([turned, np.zeros(9)])


def expected_errors(poses: Poses, root: Array, at: Array, told: NDArray[np.bool_]) -> Expected:
    """Errors at points `at` `(p, 3)`; the covariance of the views' parameters is `root @ root.T`, `(views, m, any)`."""
    n, p = len(poses.mag), len(at)
    view, point = (index.ravel() for index in np.meshgrid(np.arange(n), np.arange(p), indexing="ij"))
    by_view, by_point = jacobian(poses, at, view, point)
    by_view = by_view.reshape(n, 2 * p, -1)
    moved = (by_view @ root).reshape(n * p, 2, -1)
    modes = np.einsum("kij,kjm->kim", by_point, _motions(at)[point])
    counted = told[view]
    frame = np.linalg.qr(modes[counted].reshape(-1, modes.shape[2]))
    shares = frame.Q.T @ moved[counted].reshape(-1, moved.shape[2])
    moved = moved - modes @ np.linalg.lstsq(frame.R, shares, rcond=None)[0]
    return Expected(np.sqrt((moved**2).sum((1, 2))).reshape(n, p), told)


def _motions(at: Array) -> Array:
    """What shifts, turns and growth of the specimen do to its points `(p, 3)`: `(p, 3, 7)`."""
    x, y, z = at.T
    none = np.zeros(len(at))
    turns = np.stack([np.stack(row, axis=1) for row in ((none, z, -y), (-z, none, x), (y, -x, none))], axis=1)
    return np.concatenate([np.broadcast_to(np.eye(3), (len(at), 3, 3)), turns, at[:, :, None]], axis=2)


def root_of_inverse(normal: Array) -> Array:
    """`r` `(q, q)` with `r @ r.T` the inverse of a positive definite matrix."""
    lower = np.linalg.cholesky(normal)
    root: Array = solve_triangular(lower, np.eye(len(lower)), lower=True).T
    return root


def robust_factors(length: Array, weights: Array, unknowns: int) -> tuple[float, float]:
    """What the inverse of weighted normal equations is to be multiplied by, for Tukey's weights (Huber 1981, 7.6).

    `length`: of the residuals in standard deviations of one coordinate, as they were weighted. The first factor makes
    it the covariance if all errors are independent, whatever the standard deviations were guessed as; the second makes
    it the inverse of the estimating equations' derivative.
    """
    within = np.minimum((length / TUKEY_LIMIT) ** 2, 1.0)
    slope = float((weights - 2 * within * (1 - within)).mean())
    spread = float((weights * length) ** 2 @ np.ones(len(length))) / max(2 * len(length) - unknowns, 1)
    mean = float(weights.mean())
    if slope <= 0.1 * mean:  # nearly all are outliers: nothing is known of the errors
        return float("inf"), float("inf")
    return spread * mean / slope**2, mean / slope
