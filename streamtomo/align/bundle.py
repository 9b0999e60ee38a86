"""Bundle adjustment of a tilt series: views and 3-D points from measured positions, against outliers and gaps.

    raw = mag * R(axis) S [X cos t + Z sin t, Y] + shift,    S = [1 + stretch, skew; skew, 1 - stretch]

Levenberg-Marquardt on the robustly weighted squares; the points are eliminated by the Schur complement (Triggs et al.
2000), so that a step costs one dense system of the views' freedoms. The views' parameters are linear in these freedoms
(one axis angle for all, a smooth curve, one value a view), each with a prior about its start.

What no measurement fixes (the origin of the points; with free tilt angles their offset; with free magnifications
their mean) is held by the weak priors while iterating; at the end the mean of the points is put at the origin.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from streamtomo import geometry
from streamtomo.align import bundle_kernels as kernels
from streamtomo.align.basis import Basis, Freedoms, basis_of
from streamtomo.align.bundle_kernels import VIEW_PARAMETERS
from streamtomo.align.robust import at_rest, huber, tukey, view_scales

Array = NDArray[np.float64]
Index = NDArray[np.int64]

POINT_PRIOR_PX = np.array([1e4, 1e4, 1e3])
"""Weak; a point seen once lies in the middle of the specimen rather than far above."""
HUBER_ROUNDS, TUKEY_ROUNDS = 5, 12
FLOOR_PX = 1e-3
LEFT_OUT_STEPS = 3
FRAME_ROUNDS, FRAME_NEAR_PX = 10, 0.1
"""Rounds of the fit of a frame; distances below this count as this."""


UNDISTORTED: Array = np.zeros((1, 2))


class Tracks(NamedTuple):
    """Measured positions: which view, which point, where (raw pixels about the image's centre, `(n, 2)`)."""

    view: Index
    point: Index
    xy: Array
    weight: Array
    """Relative weight of each position before any robust weighting, mostly 1."""


class Poses(NamedTuple):
    """The views: tilt and axis angle (degrees), magnification, `(n,)` each; shift `(n, 2)` in raw pixels."""

    tilt_deg: Array
    axis_deg: Array
    mag: Array
    shift: Array
    shape: Array = UNDISTORTED
    """Stretch across the axis and skew, `(n, 2)` or the same for all, `(1, 2)`."""

    def aligned_to_raw(self, i: int) -> Array:
        """The transform `(2, 3)` from an aligned view to its raw image, raw pixels about the centres."""
        stretch, skew = self.shape[min(i, len(self.shape) - 1)]
        turned = geometry.aligned_to_raw(float(self.axis_deg[i]), self.shift[i], float(self.mag[i]))
        turned[:, :2] = turned[:, :2] @ [[1 + stretch, skew], [skew, 1 - stretch]]
        return turned


class State(NamedTuple):
    """What the minimisation moves: the coefficients of the freedoms `(freedoms,)`, and the points `(points, 3)`."""

    q: Array
    points: Array


class Solution(NamedTuple):
    """What the bundle adjustment found."""

    poses: Poses
    points: Array
    """`(points, 3)`, their mean at the origin."""
    residuals: Array
    """Predicted minus measured, `(n, 2)`, raw pixels."""
    weights: Array
    """Robust weights 0 to 1, `(n,)`."""
    scale: Array
    """Standard deviation of one coordinate of the residuals, a view, `(views,)`."""
    error: Array
    """Expected error (distance) of the field's centre in each view, `(views,)`, from the covariance."""
    freedoms: Freedoms
    state: State
    """Where to go on from with the same start and freedoms."""

    def rms(self, tracks: Tracks) -> float:
        """Root of the weighted mean square distance."""
        weights = self.weights * tracks.weight
        return float(np.sqrt((weights @ (self.residuals**2).sum(1)) / max(float(weights.sum()), 1e-12)))


class _Problem(NamedTuple):
    tracks: Tracks
    start: Poses
    basis: Basis
    n_points: int
    floor_px: float


def make_tracks(view: Index, point: Index, xy: Array, weight: Array | None = None) -> Tracks:
    """Tracks with the array types that the kernels are compiled for."""
    ones = np.ones(len(view)) if weight is None else weight
    return Tracks(
        np.array(view, np.int64), np.array(point, np.int64), np.array(xy, float).reshape(-1, 2), np.array(ones, float)
    )


def solve(
    tracks: Tracks,
    start: Poses,
    freedoms: Freedoms | None = None,
    previous: Solution | None = None,
    floor_px: float = FLOOR_PX,
) -> Solution:
    """Views and points that explain the tracks, from `start`, to which the priors pull.

    `previous`: a solution of (nearly) the same tracks whose weights are taken as a start instead of equal ones.
    `floor_px`: error that positions have at least, however well they seem to fit (few of them always do).
    Points are numbered from 0 without gaps; views without measurements keep their start, but for the gauge.
    """
    freedoms = freedoms or Freedoms()
    problem = _Problem(tracks, start, basis_of(freedoms, len(start.mag)), _count_points(tracks), floor_px)
    state = State(np.zeros(problem.basis.matrix.shape[1]), np.zeros((problem.n_points, 3)))
    weights = np.ones(len(tracks.view))
    if previous is not None:
        weights = previous.weights
        state = previous.state if freedoms == previous.freedoms else state
    state, weights, scale = _reweighted(problem, state, weights, warm=previous is not None)
    return _solution(problem, state, weights, scale, freedoms)


def solve_without(tracks: Tracks, start: Poses, solution: Solution, left_out: NDArray[np.bool_]) -> tuple[Poses, Array]:
    """Poses and points of a solution redone without some positions, its weights and freedoms kept."""
    problem = _Problem(tracks, start, basis_of(solution.freedoms, len(start.mag)), _count_points(tracks), FLOOR_PX)
    weights = np.where(left_out, 0.0, solution.weights)
    state = _minimise(problem, solution.state, _precision(problem, weights, solution.scale), LEFT_OUT_STEPS, 1e-4)
    return _poses(problem, state.q), state.points


def predict(poses: Poses, points: Array, view: Index, point: Index) -> Array:
    """Raw positions `(n, 2)` of given points in given views."""
    out = np.empty((len(view), 2))
    kernels.residuals(
        np.asarray(view, np.int64), np.asarray(point, np.int64), np.zeros_like(out), terms_of(poses), poses.shift,
        np.ascontiguousarray(points), out
    )  # fmt: skip
    return out


def residuals_of(tracks: Tracks, poses: Poses, points: Array) -> Array:
    """Predicted minus measured positions `(n, 2)`."""
    out = np.empty_like(tracks.xy)
    kernels.residuals(tracks.view, tracks.point, tracks.xy, terms_of(poses), poses.shift, points, out)
    return out


def move_origin(poses: Poses, points: Array, origin: Array) -> tuple[Poses, Array]:
    """The same solution with the specimen's origin moved to `origin` `(3,)`."""
    at_origin = predict(poses, origin.reshape(1, 3), np.arange(len(poses.mag)), np.zeros(len(poses.mag), np.int64))
    return poses._replace(shift=at_origin), points - origin


def in_frame_of(
    poses: Poses, shift: Array, counted: NDArray[np.bool_] | None = None, flat: float = 0.0
) -> tuple[Poses, Array]:
    """The solution moved so that its shifts are those given but for single views' errors; and the new origin `(3,)`.

    Least absolute distance over the views `counted` (None: all). The origin of a solution is the mean of its points,
    which beads on one surface put above the specimen; `shift` `(views, 2)` says where it was before. `flat`: weight of
    the mean height being 0, where few views cannot tell it (1: until some 20° are covered).
    """
    n = len(poses.mag)
    views, none = np.arange(n), np.zeros(n, np.int64)
    rows = np.stack([predict(poses, unit[None], views, none) - poses.shift for unit in np.eye(3)], axis=2)
    weight = np.ones(n) if counted is None else counted.astype(np.float64)
    share, origin = weight, np.zeros(3)
    for _ in range(FRAME_ROUNDS):
        weighted = (share[:, None, None] * rows).reshape(-1, 3)
        normal = weighted.T @ rows.reshape(-1, 3) + np.diag([0.0, 0.0, flat])
        origin = np.asarray(np.linalg.pinv(normal) @ (weighted.T @ (shift - poses.shift).ravel()), np.float64)
        share = weight / np.maximum(np.hypot(*(poses.shift + rows @ origin - shift).T), FRAME_NEAR_PX)
    return poses._replace(shift=poses.shift + rows @ origin), origin


# ---------------------------------------------------------------------------------------------------- minimisation


def _poses(problem: _Problem, q: Array) -> Poses:
    change = (problem.basis.matrix @ q).reshape(-1, VIEW_PARAMETERS)
    start = problem.start
    return Poses(
        tilt_deg=start.tilt_deg + np.degrees(change[:, 3]),
        axis_deg=start.axis_deg + np.degrees(change[:, 2]),
        mag=start.mag * np.exp(change[:, 4]),
        shift=start.shift + change[:, :2],
        shape=start.shape + change[:, 5:],
    )


def terms_of(poses: Poses) -> Array:
    """What the kernels need of the views, `(views, 7)`: cosine and sine of tilt and axis, magnification, shape."""
    tilt, axis = geometry.tilt_terms(poses.tilt_deg), geometry.tilt_terms(poses.axis_deg)
    shape = np.broadcast_to(poses.shape, poses.shift.shape)
    return np.column_stack([tilt.cos, tilt.sin, axis.cos, axis.sin, poses.mag, shape])


def _minimise(problem: _Problem, state: State, precision: Array, steps: int, tolerance: float = 1e-7) -> State:
    """Levenberg-Marquardt with weights fixed: until the cost falls by less than `tolerance`, at most `steps`."""
    damping = 1e-6
    residual, cost = _evaluate(problem, state, precision)
    for _ in range(steps):
        blocks = _blocks(problem, state, precision, residual)
        while True:
            trial = _step(blocks, state, damping)
            trial_residual, trial_cost = _evaluate(problem, trial, precision)
            if trial_cost <= cost or damping > 1e6:
                break
            damping = max(10 * damping, 1e-4)
        if trial_cost > cost:
            break
        gain = cost - trial_cost
        state, residual, cost, damping = trial, trial_residual, trial_cost, damping / 10
        if gain <= tolerance * cost:
            break
    return state


def _evaluate(problem: _Problem, state: State, precision: Array) -> tuple[Array, float]:
    """Residuals, and the cost with the priors."""
    residual = residuals_of(problem.tracks, _poses(problem, state.q), state.points)
    prior = ((state.q / problem.basis.prior_sd) ** 2).sum() + ((state.points / POINT_PRIOR_PX) ** 2).sum()
    return residual, float(precision @ (residual**2).sum(1) + prior)


class _Blocks(NamedTuple):
    """Normal equations in the freedoms: views `(q, q)`, points `(p, 3, 3)`, mixed `(q, 3 p)`, and the gradients."""

    views: Array
    points: Array
    mixed: Array
    grad_views: Array
    grad_points: Array


def _blocks(problem: _Problem, state: State, precision: Array, residual: Array) -> _Blocks:
    n, p, matrix = len(problem.start.mag), problem.n_points, problem.basis.matrix
    k = VIEW_PARAMETERS
    by_view, by_point, mixed = np.zeros((n, k, k)), np.zeros((p, 3, 3)), np.zeros((k * n, 3 * p))
    grad_view, grad_point = np.zeros(k * n), np.zeros((p, 3))
    tracks, terms = problem.tracks, terms_of(_poses(problem, state.q))
    kernels.normal_equations(
        tracks.view, tracks.point, precision, residual, terms, state.points,
        by_view, by_point, mixed, grad_view, grad_point
    )  # fmt: skip
    prior = 1 / problem.basis.prior_sd**2
    of_views = sparse.bsr_array((by_view, np.arange(n), np.arange(n + 1)), shape=(k * n, k * n))
    views = (matrix.T @ (of_views @ matrix)).toarray()
    views[np.diag_indices_from(views)] += prior
    by_point += np.diag(1 / POINT_PRIOR_PX**2)
    grad_point += state.points / POINT_PRIOR_PX**2
    return _Blocks(views, by_point, matrix.T @ mixed, matrix.T @ grad_view + prior * state.q, grad_point)


def _schur(blocks: _Blocks, damping: float) -> tuple[Array, Array, Array]:
    """Reduced matrix of the freedoms `(q, q)`, `mixed V^-1` `(q, 3 p)`, and `V^-1` `(p, 3, 3)`."""
    diagonal = np.einsum("pii->pi", blocks.points)
    inverse = np.linalg.inv(blocks.points + damping * diagonal[:, :, None] * np.eye(3))
    q = len(blocks.views)
    eliminated = np.einsum("qpi,pij->qpj", blocks.mixed.reshape(q, -1, 3), inverse).reshape(q, -1)
    reduced = blocks.views - eliminated @ blocks.mixed.T
    reduced[np.diag_indices_from(reduced)] += damping * np.diag(blocks.views)
    return reduced, eliminated, inverse


def _step(blocks: _Blocks, state: State, damping: float) -> State:
    reduced, eliminated, inverse = _schur(blocks, damping)
    dq = np.linalg.solve(reduced, eliminated @ blocks.grad_points.ravel() - blocks.grad_views)
    rest = blocks.grad_points + (blocks.mixed.T @ dq).reshape(-1, 3)
    return State(state.q + dq, state.points - np.einsum("pij,pj->pi", inverse, rest))


# ------------------------------------------------------------------------------------------------- robust weighting


def _reweighted(problem: _Problem, state: State, weights: Array, warm: bool) -> tuple[State, Array, Array]:
    """Alternate between minimising and weighting: Huber's convex weights first, then Tukey's until they rest."""
    n = len(problem.start.mag)
    scale = np.ones(n)
    if not warm:
        for _ in range(HUBER_ROUNDS):
            state = _minimise(problem, state, _precision(problem, weights, scale), steps=2)
            length, scale = _lengths(problem, state)
            weights = huber(length / scale[problem.tracks.view])
    for _ in range(TUKEY_ROUNDS):
        state = _minimise(problem, state, _precision(problem, weights, scale), steps=4)
        length, scale = _lengths(problem, state)
        before, weights = weights, tukey(length / scale[problem.tracks.view])
        if at_rest(before, weights):
            break
    state = _minimise(problem, state, _precision(problem, weights, scale), steps=4)
    return state, weights, scale


def _precision(problem: _Problem, weights: Array, scale: Array) -> Array:
    return weights * problem.tracks.weight / scale[problem.tracks.view] ** 2


def _lengths(problem: _Problem, state: State) -> tuple[Array, Array]:
    """Lengths of the residuals as if all had weight 1, `(n,)`, and the scale a view `(views,)`."""
    residual = residuals_of(problem.tracks, _poses(problem, state.q), state.points)
    length = np.sqrt((residual**2).sum(1) * problem.tracks.weight)
    return length, view_scales(length, problem.tracks.view, len(problem.start.mag), problem.floor_px)


# ----------------------------------------------------------------------------------------------------------- results


def _solution(problem: _Problem, state: State, weights: Array, scale: Array, freedoms: Freedoms) -> Solution:
    poses = _poses(problem, state.q)
    origin = _weighted_mean(problem, state.points, weights)
    error = _expected_error(problem, state, weights, scale)
    poses, points = move_origin(poses, state.points, origin)
    residual = residuals_of(problem.tracks, poses, points)
    return Solution(poses, points, residual, weights, scale, error, freedoms, state)


def _weighted_mean(problem: _Problem, points: Array, weights: Array) -> Array:
    """Mean `(3,)` of the points, each as much as it is measured, up to three positions."""
    total = np.bincount(problem.tracks.point, weights, minlength=len(points))
    share = np.minimum(total, 3.0)
    mean: Array = share @ points / max(float(share.sum()), 1e-12)
    return mean


def _expected_error(problem: _Problem, state: State, weights: Array, scale: Array) -> Array:
    """Standard deviation of each view's shift (distance) with the origin of the points held, `(views,)`."""
    poses = _poses(problem, state.q)
    precision = _precision(problem, weights, scale)
    residual, _ = _evaluate(problem, state, precision)
    reduced, _, _ = _schur(_blocks(problem, state, precision, residual), 0.0)
    n = len(poses.mag)
    views, none = np.arange(n), np.zeros(n, np.int64)
    gauge = np.zeros((len(reduced), 3))
    for k, unit in enumerate(np.eye(3)):
        moved = predict(poses, unit.reshape(1, 3), views, none) - poses.shift
        gauge[: 2 * n, k] = moved.ravel()
    gauge, _ = np.linalg.qr(gauge)
    covariance = np.linalg.inv(reduced + float(np.abs(np.diag(reduced)).max()) * gauge @ gauge.T)
    error: Array = np.sqrt(np.maximum(np.diag(covariance)[: 2 * n].reshape(n, 2).sum(1), 0.0))
    return error


def _count_points(tracks: Tracks) -> int:
    return int(tracks.point.max()) + 1 if len(tracks.point) else 0
