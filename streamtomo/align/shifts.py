"""Where the specimen lies in each view, from patches: the bundle adjustment for the live alignment.

Tilt angles and axis are held, so that the model is linear in everything that is asked for:

    R(-axis) (raw - shift) = [X cos t + Z sin t, Y]

Across the axis and along it are two problems that share nothing but the robust weights. With the points eliminated each
is one system of as many unknowns as there are views. The weighting is that of `bundle`: Huber's convex weights first,
then Tukey's until they rest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import bundle, robust
from streamtomo.align import shift_kernels as kernels
from streamtomo.align.basis import SHIFT_PRIOR_PX
from streamtomo.align.bundle import Tracks

Array = NDArray[np.float64]

ROUNDS = (bundle.HUBER_ROUNDS, bundle.TUKEY_ROUNDS)


class Shifts(NamedTuple):
    """What was found."""

    shift: Array
    """`(views, 2)`, in the pixels of the positions."""
    points: Array
    """`(points, 3)`."""
    weights: Array
    """Robust weights 0 to 1, `(n,)`."""


class _Linear(NamedTuple):
    """The problem as the kernels take it."""

    tracks: Tracks
    order: bundle.Index
    """Positions sorted by point, and where each point's begin."""
    first: bundle.Index
    terms: Array
    """Cosine and sine of the tilt, `(views, 2)`."""
    aligned: Array
    """Positions against the start, turned to the tilt axis, `(n, 2)`."""


def solve_shifts(
    tracks: Tracks, tilt_deg: Array, axis_deg: float, start: Array, floor_px: float, rounds: tuple[int, int] = ROUNDS
) -> Shifts:
    """Shifts of views and points that explain the tracks; weak priors pull towards `start` `(views, 2)`.

    `floor_px`: error that positions have at least, however well they seem to fit. `rounds` of weighting, at most: by
    Huber's weights, by Tukey's.
    """
    problem = _linear(tracks, tilt_deg, axis_deg, start)
    weights, scale = np.ones(len(tracks.view)), np.ones(len(start))
    for most, weigh in zip(rounds, (robust.huber, robust.tukey), strict=True):
        for _ in range(most):
            _, _, length = _solve(problem, weights, scale)
            scale = robust.view_scales(length, tracks.view, len(start), floor_px)
            before, weights = weights, weigh(length / scale[tracks.view])
            if robust.at_rest(before, weights):
                break
    moved, points, _ = _solve(problem, weights, scale)
    return Shifts(start + _turned(moved, axis_deg), points, weights)


def _linear(tracks: Tracks, tilt_deg: Array, axis_deg: float, start: Array) -> _Linear:
    tilt = geometry.tilt_terms(tilt_deg)
    order = np.argsort(tracks.point, kind="stable")
    count = int(tracks.point.max(initial=-1)) + 1
    first = np.searchsorted(tracks.point[order], np.arange(count + 1))
    aligned = _turned(tracks.xy - start[tracks.view], -axis_deg)
    return _Linear(tracks, order, first.astype(np.int64), np.stack([tilt.cos, tilt.sin], axis=1), aligned)


def _turned(xy: Array, by_deg: float) -> Array:
    turn = geometry.tilt_terms(by_deg)
    return np.stack([turn.cos * xy[:, 0] - turn.sin * xy[:, 1], turn.sin * xy[:, 0] + turn.cos * xy[:, 1]], axis=1)


def _solve(problem: _Linear, weights: Array, scale: Array) -> tuple[Array, Array, Array]:
    """Least squares with these weights: aligned shifts `(views, 2)`, points, lengths of the residuals `(n,)`."""
    tracks, n, p = problem.tracks, len(problem.terms), len(problem.first) - 1
    precision = weights * tracks.weight / scale[tracks.view] ** 2
    normal, right = np.zeros((2, n, n)), np.zeros((2, n))
    normal[:, np.arange(n), np.arange(n)] = 1 / SHIFT_PRIOR_PX**2
    points, length = np.zeros((p, 3)), np.empty(len(tracks.view))
    parts = (problem.order, problem.first, tracks.view, problem.terms, problem.aligned, precision)
    prior = 1 / bundle.POINT_PRIOR_PX**2
    kernels.eliminate_points(*parts, prior, normal, right)
    moved = np.ascontiguousarray(np.linalg.solve(normal, right[:, :, None])[:, :, 0].T)
    kernels.points_and_lengths(*parts, prior, moved, points, length)
    return moved, points, length * np.sqrt(tracks.weight)
