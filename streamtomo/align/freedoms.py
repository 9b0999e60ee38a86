"""Which freedoms a solution may have: they are added one at a time, only while a left-out error falls.

The left-out error is the weighted RMS distance between positions that took no part in a solution and what it predicts
for them (k-fold cross-validation over single positions, all folds with the robust weights of the full solution). Motion
of the specimen's parts must, besides, be foretold where no point is: whole points are left out for that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.align.basis import Freedoms
from streamtomo.align.bundle import (
    FLOOR_PX,
    Poses,
    Solution,
    Tracks,
    fitted_points,
    promise,
    residuals_of,
    solve,
    solve_without,
)

FOLDS = 5
LEAST_GAIN = 0.005
"""Share by which the left-out error must fall for a freedom to stay."""
LEAST_PROMISE = 2.0
"""Freedoms that would take less from the cost, per freedom, are not tried: noise alone gives 1."""
BENT_GAIN = 0.03
"""What stretch and skew, a beam tilt and local motion must gain beyond other freedoms: many programs cannot be told of
them."""
LEAST_BENT_POINTS = 8
"""With fewer points parts of the specimen are not told from each other."""
RIGID: dict[str, tuple[str, ...]] = {
    "fixed": ("smooth", "each"),
    "one": ("smooth", "each"),
    "smooth": ("each",),
}
"""Errors may be smooth over the views, or each view's own: then a smooth curve gains nothing, and is no way to go."""
BENDING: dict[str, tuple[str, ...]] = {"fixed": ("quadratic",), "quadratic": ("cubic",)}
NEXT: dict[str, dict[str, tuple[str, ...]]] = {
    "axis": RIGID,
    "tilt": RIGID,
    "mag": RIGID,
    "shape": RIGID,
    "beam": {"fixed": ("one",)},
    "image": BENDING,
    "depth": BENDING,
}
UNUSUAL, BENDS = slice(3, 7), slice(5, 7)
"""Fields of `Freedoms`: stretch and skew, beam tilt, local motion; local motion."""


class Validated(NamedTuple):
    """A solution and its left-out error in raw pixels."""

    solution: Solution
    left_out_px: float


def solve_freely(tracks: Tracks, start: Poses, first: Freedoms | None = None) -> Validated:
    """Solve with the freedoms that the measurements support, beginning with `first` (default: one axis angle)."""
    best = validated(tracks, start, first or supported(tracks, len(start.mag)))
    while True:
        steps = _steps(best.solution.freedoms, bending=_tells_bending(tracks, start))
        steps = [freedoms for freedoms in steps if promise(tracks, best.solution, freedoms) > LEAST_PROMISE]
        trials = [validated(tracks, start, freedoms, best.solution) for freedoms in steps]
        trials = [trial for trial in trials if _foretells(trial, best, tracks, start)]
        if not trials:
            return best
        found = min(trials, key=lambda trial: _cost(trial, best))
        if _cost(found, best) > (1 - LEAST_GAIN) * best.left_out_px:
            return best
        best = found


def _cost(trial: Validated, best: Validated) -> float:
    """The left-out error, a little more where what is new is understood by few programs."""
    bent = trial.solution.freedoms[UNUSUAL] != best.solution.freedoms[UNUSUAL]
    return trial.left_out_px * (1 + BENT_GAIN * bent)


def _foretells(trial: Validated, best: Validated, tracks: Tracks, start: Poses) -> bool:
    """Whether motion of the specimen's parts that is new in a trial holds for points that took no part in it."""
    if trial.solution.freedoms[BENDS] == best.solution.freedoms[BENDS]:
        return True
    judged = best.solution.weights
    now, before = (points_left_out(tracks, start, one.solution, judged) for one in (trial, best))
    return now < (1 - BENT_GAIN) * before


def _tells_bending(tracks: Tracks, start: Poses) -> bool:
    """Whether motions of the specimen's parts can be told from these tracks."""
    return any(start.field) and int(tracks.point.max(initial=-1)) + 1 >= LEAST_BENT_POINTS


def supported(tracks: Tracks, n_views: int) -> Freedoms:
    """The least freedoms: one axis angle where there are positions enough to tell, else none."""
    unknowns = 2 * n_views + 3 * (int(tracks.point.max(initial=-1)) + 1)
    return Freedoms() if 2 * len(tracks.view) > 1.2 * unknowns else Freedoms(axis="fixed")


def validated(
    tracks: Tracks,
    start: Poses,
    freedoms: Freedoms,
    previous: Solution | None = None,
    floor_px: float = FLOOR_PX,
) -> Validated:
    """Solve, and measure the left-out error; `previous` gives the first weights.

    Trials that are to be compared are judged with the weights of `previous`, so that none can gain by rejecting more.
    """
    solution = solve(tracks, start, freedoms, previous, floor_px)
    judge = previous or solution
    return Validated(solution, left_out_error(tracks, start, solution, judge.weights))


def left_out_error(tracks: Tracks, start: Poses, solution: Solution, judged: NDArray[np.float64]) -> float:
    """Weighted RMS distance of positions left out, in turn, from the solution of the others."""
    fold = _folds(tracks)
    squares, total = 0.0, 0.0
    for k in range(FOLDS):
        out = fold == k
        distance = (residuals_of(tracks, *solve_without(tracks, start, solution, out))[out] ** 2).sum(1)
        weight = (judged * tracks.weight)[out]
        squares += float(weight @ distance)
        total += float(weight.sum())
    return float(np.sqrt(squares / max(total, 1e-12)))


def points_left_out(tracks: Tracks, start: Poses, solution: Solution, judged: NDArray[np.float64]) -> float:
    """Weighted RMS distance of the positions of whole points left out, in turn; they are free to lie where they fit."""
    squares, total = 0.0, 0.0
    for k in range(FOLDS):
        out = tracks.point % FOLDS == k
        poses, _ = solve_without(tracks, start, solution, out)
        weight = np.where(out, judged * tracks.weight, 0.0)
        points = fitted_points(tracks, poses, solution.state.points, weight)
        distance = (residuals_of(tracks, poses, points) ** 2).sum(1)
        squares += float(weight @ distance)
        total += float(weight.sum())
    return float(np.sqrt(squares / max(total, 1e-12)))


def _folds(tracks: Tracks) -> NDArray[np.int64]:
    """Fold of each position: neighbouring views of one point fall into different ones, in a fixed scattered order."""
    return (tracks.view + 2 * tracks.point + tracks.view // FOLDS) % FOLDS


def _steps(freedoms: Freedoms, *, bending: bool) -> list[Freedoms]:
    """All sets in which one parameter has more freedom; `bending`: parts of the specimen may move, too."""
    return [
        Freedoms(**{**freedoms._asdict(), name: more})
        for name, kind in freedoms._asdict().items()
        for more in NEXT[name].get(kind, ())
        if bending or NEXT[name] is not BENDING
    ]
