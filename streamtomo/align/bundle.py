"""Bundle adjustment of a tilt series: views and 3-D points from measured positions, against outliers and gaps.

    raw = mag * R(axis) S [X cos t + Z sin t, Y] + shift,    S = [1 + stretch, skew; skew, 1 - stretch]

A beam tilt b puts `Rx(b) Ry(t) Rx(-b)` in the place of `Ry(t)`, and parts of the specimen may move (`local_motion`).
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

from streamtomo.align import bundle_kernels as kernels
from streamtomo.align.basis import Basis, Freedoms, basis_of
from streamtomo.align.bundle_kernels import VIEW_PARAMETERS
from streamtomo.align.expected import Expected, expected_errors, places, robust_factors, root_of_inverse
from streamtomo.align.poses import Index as Index
from streamtomo.align.poses import Poses as Poses
from streamtomo.align.poses import Tracks as Tracks
from streamtomo.align.poses import fitted_points as fitted_points
from streamtomo.align.poses import in_frame_of as in_frame_of
from streamtomo.align.poses import jacobian, local_of
from streamtomo.align.poses import make_tracks as make_tracks
from streamtomo.align.poses import move_origin as move_origin
from streamtomo.align.poses import predict as predict
from streamtomo.align.poses import residuals_of as residuals_of
from streamtomo.align.poses import terms_of as terms_of
from streamtomo.align.robust import at_rest, huber, tukey, view_scales

Array = NDArray[np.float64]

POINT_PRIOR_PX = np.array([1e4, 1e4, 1e3])
"""Weak; a point seen once lies in the middle of the specimen rather than far above."""
HUBER_ROUNDS, TUKEY_ROUNDS = 5, 12
FLOOR_PX = 1e-3
LEFT_OUT_STEPS, PROMISE_STEPS = 3, 2


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
    problem = _problem(tracks, start, freedoms, floor_px)
    state = State(np.zeros(len(problem.basis.prior_sd)), np.zeros((problem.n_points, 3)))
    weights = np.ones(len(tracks.view))
    if previous is not None:
        weights = previous.weights
        state = previous.state if freedoms == previous.freedoms else state
    state, weights, scale = _reweighted(problem, state, weights, warm=previous is not None)
    return _solution(problem, state, weights, scale, freedoms)


def solve_without(tracks: Tracks, start: Poses, solution: Solution, left_out: NDArray[np.bool_]) -> tuple[Poses, Array]:
    """Poses and points of a solution redone without some positions, its weights and freedoms kept."""
    problem = _problem(tracks, start, solution.freedoms)
    weights = np.where(left_out, 0.0, solution.weights)
    state = _minimise(problem, solution.state, _precision(problem, weights, solution.scale), LEFT_OUT_STEPS, 1e-4)
    return _poses(problem, state.q), state.points


def promise(tracks: Tracks, solution: Solution, freedoms: Freedoms) -> float:
    """What more freedoms would take from the cost with the weights kept, per freedom: about 1 if they fit noise."""
    problem = _problem(tracks, solution.poses, freedoms)
    state = State(np.zeros(len(problem.basis.prior_sd)), solution.points)
    precision = _precision(problem, solution.weights, solution.scale)
    _, before = _evaluate(problem, state, precision)
    _, after = _evaluate(problem, _minimise(problem, state, precision, PROMISE_STEPS), precision)
    return (before - after) / max(len(state.q) - len(solution.state.q), 1)


# ---------------------------------------------------------------------------------------------------- minimisation


def _problem(tracks: Tracks, start: Poses, freedoms: Freedoms, floor_px: float = FLOOR_PX) -> _Problem:
    basis = basis_of(freedoms, len(start.mag), start.when)
    return _Problem(tracks, start, basis, int(tracks.point.max(initial=-1)) + 1, floor_px)


def _poses(problem: _Problem, q: Array) -> Poses:
    start = problem.start
    change = problem.basis.to_views(q)
    return start._replace(
        tilt_deg=start.tilt_deg + np.degrees(change[:, 3]),
        axis_deg=start.axis_deg + np.degrees(change[:, 2]),
        mag=start.mag * np.exp(change[:, 4]),
        shift=start.shift + change[:, :2],
        shape=start.shape + change[:, 5:7],
        beam_deg=start.beam_deg + float(np.degrees(change[0, 7])),
        local=_sum(start.local, change[:, VIEW_PARAMETERS:]),
    )


def _sum(start: Array, change: Array) -> Array:
    """Numbers of the local motion; those of higher degree than `start` has begin at 0."""
    if not start.shape[1]:
        return change
    return change + np.pad(start, ((0, 0), (0, change.shape[1] - start.shape[1])))


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
    (n, m, _), p = problem.basis.others.shape, problem.n_points
    by_view, by_point, mixed = np.zeros((n, m, m)), np.zeros((p, 3, 3)), np.zeros((m * n, 3 * p))
    grad_view, grad_point = np.zeros(m * n), np.zeros((p, 3))
    tracks, poses = problem.tracks, _poses(problem, state.q)
    kernels.normal_equations(
        tracks.view, tracks.point, precision, residual, terms_of(poses), *local_of(poses, state.points), state.points,
        by_view, by_point, mixed, grad_view, grad_point
    )  # fmt: skip
    prior, basis = 1 / problem.basis.prior_sd**2, problem.basis
    views = basis.normal(by_view)
    views[np.diag_indices_from(views)] += prior
    by_point += np.diag(1 / POINT_PRIOR_PX**2)
    grad_point += state.points / POINT_PRIOR_PX**2
    gradient = basis.from_views(grad_view.reshape(n, m)) + prior * state.q
    return _Blocks(views, by_point, basis.from_views(mixed.reshape(n, m, -1)), gradient, grad_point)


def _schur(blocks: _Blocks, damping: float) -> tuple[Array, Array, Array]:
    """Reduced matrix of the freedoms `(q, q)`, `mixed V^-1` `(q, 3 p)`, and `V^-1` `(p, 3, 3)`."""
    diagonal = np.einsum("pii->pi", blocks.points)
    inverse = np.linalg.inv(blocks.points + damping * diagonal[:, :, None] * np.eye(3))
    q = len(blocks.views)
    by_point = blocks.mixed.reshape(q, -1, 3).transpose(1, 0, 2) @ inverse
    eliminated = by_point.transpose(1, 0, 2).reshape(q, -1)
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
    poses, points = move_origin(poses, state.points, origin)
    residual = residuals_of(problem.tracks, poses, points)
    return Solution(poses, points, residual, weights, scale, freedoms, state)


def _weighted_mean(problem: _Problem, points: Array, weights: Array) -> Array:
    """Mean `(3,)` of the points, each as much as it is measured, up to three positions."""
    total = np.bincount(problem.tracks.point, weights, minlength=len(points))
    share = np.minimum(total, 3.0)
    mean: Array = share @ points / max(float(share.sum()), 1e-12)
    return mean


def expected(tracks: Tracks, start: Poses, solution: Solution, together: bool = False) -> Expected:
    """How far off the solution is expected to be.

    `together`: the positions of one point may err together from view to view, as those of patches do; the points, which
    err each for itself, then tell how much (a jackknife over the points: what leaving each one out would change). Else
    every position errs for itself.
    """
    problem = _problem(tracks, start, solution.freedoms)
    precision = _precision(problem, solution.weights, solution.scale)
    residual, _ = _evaluate(problem, solution.state, precision)
    blocks = _blocks(problem, solution.state, precision, residual)
    reduced, eliminated, _ = _schur(blocks, 0.0)
    length = np.sqrt((residual**2).sum(1) * tracks.weight) / solution.scale[tracks.view]
    unknowns = 3 * problem.n_points + len(reduced)
    alone, steeper = robust_factors(length, solution.weights, unknowns)
    if together:
        root = steeper * _jackknife(problem, solution.state, precision, residual, reduced, eliminated)
    else:
        root = np.sqrt(alone) * root_of_inverse(reduced)
    poses = _poses(problem, solution.state.q)
    told = np.bincount(tracks.view, solution.weights, minlength=len(start.mag)) > 0
    return expected_errors(poses, problem.basis.to_views(root), places(poses, solution.points), told)


def _jackknife(
    problem: _Problem, state: State, precision: Array, residual: Array, reduced: Array, eliminated: Array
) -> Array:
    """Changes of the freedoms by leaving each point out, `(q, points)`."""
    tracks, basis, n = problem.tracks, problem.basis, len(problem.start.mag)
    by_view, by_point = jacobian(_poses(problem, state.q), state.points, tracks.view, tracks.point)
    changes = np.zeros((len(reduced), problem.n_points))
    for j in range(problem.n_points):
        own = tracks.point == j
        rows = np.zeros((2 * int(own.sum()), n, by_view.shape[2]))
        rows[np.arange(len(rows)), np.repeat(tracks.view[own], 2)] = by_view[own].reshape(len(rows), -1)
        of_views = basis.from_views(rows.transpose(1, 2, 0))
        weight, of_point = np.repeat(precision[own], 2), by_point[own].reshape(len(rows), 3)
        left = of_views - eliminated[:, 3 * j : 3 * j + 3] @ of_point.T
        share = (left * weight) @ of_views.T
        changes[:, j] = np.linalg.solve(reduced - share, (left * weight) @ residual[own].ravel())
    changes *= np.sqrt(1 - 1 / max(problem.n_points, 2))
    return changes
