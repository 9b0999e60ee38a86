"""All rotations and shifts of a reference against each particle, as products of matrices.

Few components tell a coarse pose, so that a reference in every rotation is a matrix, a particle in every shift is
another, and their product holds all correlations. Both are limited to what the particle's views sampled: the
constrained correlation of Foerster et al. 2005 (PNAS 102, 4729), with each component over its noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.average.extract import Data
from streamtomo.average.kernels import refine_poses, seen_from
from streamtomo.average.spectra import Array, Complex, Volume, padded
from streamtomo.jit import threads

LOOKED_AT = 120
"""Best rotations of a particle among which those that differ are chosen."""
APART = 1.4
"""Steps that two candidates differ by at least."""


class Grid(NamedTuple):
    """What is tried."""

    turns: Array
    """`(r, 3, 3)`"""
    step_deg: float
    shifts: Array
    """`(s, 3)`, pixels."""


class Poses(NamedTuple):
    """Poses of particles, one each or several."""

    owner: NDArray[np.int64]
    """Particle of each pose, `(p,)`."""
    turns: Array
    shifts: Array
    scores: Array

    def best(self, keep: int = 1) -> Poses:
        """The poses of highest score of each particle, in order of particles."""
        order = np.lexsort((-self.scores, self.owner))
        first = np.searchsorted(self.owner[order], self.owner[order])
        order = order[np.arange(len(order)) - first < keep]
        return Poses(self.owner[order], self.turns[order], self.shifts[order], self.scores[order])

    def at(self, which: slice | NDArray[np.bool_]) -> Poses:
        """Some of the poses; particles keep their numbers."""
        return Poses(self.owner[which], self.turns[which], self.shifts[which], self.scores[which])

    def of(self, rows: NDArray[np.int64]) -> Poses:
        """Those of some particles, whose numbers become 0, 1, ... in the order given."""
        number = np.full(int(max(self.owner.max(), rows.max())) + 1, -1, np.int64)
        number[rows] = np.arange(len(rows))
        kept = number[self.owner] >= 0
        return Poses(number[self.owner[kept]], self.turns[kept], self.shifts[kept], self.scores[kept])


def joined(parts: Sequence[Poses]) -> Poses:
    """All of several."""
    return Poses(
        np.concatenate([one.owner for one in parts]),
        np.concatenate([one.turns for one in parts]),
        np.concatenate([one.shifts for one in parts]),
        np.concatenate([one.scores for one in parts]),
    )


def shift_grid(reach_px: float, step_px: float) -> Array:
    """Shifts `(s, 3)` on a cubic grid within a ball."""
    count = int(reach_px / step_px)
    axis = np.arange(-count, count + 1) * step_px
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(grid[np.linalg.norm(grid, axis=1) <= reach_px + 1e-6])


def try_all(data: Data, count: int, reference: Volume, grid: Grid, keep: int) -> Poses:
    """The `keep` best poses that differ, of each particle; only the first `count` components are looked at."""
    k = np.ascontiguousarray(data.of.k[:count])
    seen = np.empty((len(grid.turns), count), np.complex64)
    seen_from(padded(reference), k, grid.turns, seen)
    sharp = np.sqrt(data.inverse_noise[:count])
    phases = np.exp(2j * np.pi / data.of.n * (grid.shifts @ k.T)).astype(np.complex64) * sharp
    found: list[Poses] = []
    for kind in np.unique(data.kind):
        models = _models(seen, data.weights[kind, :count] * sharp)
        rows = np.flatnonzero(data.kind == kind)

        def one(row: int, models: NDArray[np.float32] = models) -> Poses:
            return _best_of(row, _scores(data.values[row, :count], phases, models), grid, keep)

        with ThreadPoolExecutor(threads()) as pool:
            found += list(pool.map(one, rows))
    found.sort(key=lambda poses: int(poses.owner[0]))
    return joined(found)


def _models(seen: Complex, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(2 m, r)`: real and imaginary parts of the weighted reference in all rotations, each of length 1."""
    weighted = seen * weight
    weighted /= np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-30)
    return np.ascontiguousarray(np.concatenate([weighted.real, weighted.imag], axis=1).T)


def _scores(values: Complex, phases: Complex, models: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(s, r)`: correlation of one particle in each shift with each model."""
    moved = values * phases
    norm = np.linalg.norm(moved[0])
    moved /= norm if norm > 0 else 1.0
    return np.asarray(np.concatenate([moved.real, moved.imag], axis=1) @ models)


def _best_of(row: int, scores: NDArray[np.float32], grid: Grid, keep: int) -> Poses:
    best = scores.max(axis=0)
    top = np.argpartition(-best, min(LOOKED_AT, len(best)) - 1)[:LOOKED_AT]
    top = top[np.argsort(-best[top])]
    same = 1 + 2 * np.cos(np.radians(APART * grid.step_deg))
    traces = np.einsum("aij,bij->ab", grid.turns[top], grid.turns[top])
    chosen: list[int] = []
    for number in range(len(top)):
        if all(traces[number, other] < same for other in chosen):
            chosen.append(number)
        if len(chosen) == keep:
            break
    turns = top[chosen]
    shifts = grid.shifts[scores[:, turns].argmax(axis=0)]
    owner = np.full(len(turns), row, np.int64)
    return Poses(owner, grid.turns[turns], shifts, best[turns].astype(np.float64))


def climb(data: Data, count: int, reference: Volume, poses: Poses, reach_px: float, steps: int = 10) -> Poses:
    """Poses moved to the best ones near them, by the first `count` components."""
    turns, shifts = poses.turns.copy(), poses.shifts.copy()
    scores = np.empty(len(turns))
    refine_poses(
        data.values,
        poses.owner,
        data.weights,
        data.kind,
        data.inverse_noise,
        data.of.k,
        count,
        data.of.n,
        padded(reference),
        turns,
        shifts,
        scores,
        steps,
        float(reach_px),
    )
    return Poses(poses.owner, turns, shifts, scores)
