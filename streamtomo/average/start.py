"""A first reference where there is none: particles onto one of them, onto their average, and so on.

A single particle lacks a wedge, which the constrained correlation takes into account: it is compared only where both
were sampled. Several particles are tried; the one whose average fits the others best is followed.
"""

from __future__ import annotations

import numpy as np

from streamtomo.average.combine import add_up
from streamtomo.average.extract import Data, Pile
from streamtomo.average.refine import Plan, Say, _rows, small
from streamtomo.average.search import Grid, Poses, climb, try_all
from streamtomo.average.spectra import Volume, levelled, resampled

SEEDS = 5
FINALISTS = 2
ENOUGH = 100
"""Particles that the first reference is made from."""
FIRST_ROUNDS, LAST_ROUNDS = 2, 4
COARSER = 1.35
"""Steps here, in those of the refinement."""


def first_reference(pile: Pile, plan: Plan, say: Say) -> Volume:
    """A reference `(n, n, n)` without detail, made from the particles alone, its weight in the middle."""
    rng = np.random.default_rng(plan.seed)
    rows = rng.permutation(len(pile.boxes))[:ENOUGH]
    tiny, data, count = small(_rows(pile, rows), plan.radius(pile.n))
    there = plan.scaled(tiny.n / pile.n)
    grid = there.grid(tiny.n, COARSER)
    seeds = rng.permutation(len(rows))[:SEEDS]
    tried = []
    for number, seed in enumerate(seeds):
        one = Poses(np.array([seed]), np.eye(3)[None], np.zeros((1, 3)), np.ones(1))
        tried.append(_rounds(tiny, data, count, there, grid, one, FIRST_ROUNDS))
        say(f"start {number + 1} of {len(seeds)}: score {tried[-1].scores.mean():.3f}")
    tried.sort(key=lambda poses: -poses.scores.mean())
    ended = [_rounds(tiny, data, count, there, grid, poses, LAST_ROUNDS) for poses in tried[:FINALISTS]]
    best = max(ended, key=lambda poses: float(poses.scores.mean()))
    say(f"first reference: score {best.scores.mean():.3f}")
    return resampled(_centred(_average(tiny, data, there, best), there), pile.n)


def _rounds(pile: Pile, data: Data, count: int, plan: Plan, grid: Grid, poses: Poses, rounds: int) -> Poses:
    """Poses after so many rounds, all rotations tried in each."""
    step = pile.n / plan.radius(pile.n) / 3
    for _ in range(rounds):
        reference = levelled(_average(pile, data, plan, poses), plan.mask(pile.n))
        coarse = try_all(data, count, reference, grid, 2)
        poses = climb(data, count, reference, coarse, step, steps=6).best()
    return poses


def _average(pile: Pile, data: Data, plan: Plan, poses: Poses) -> Volume:
    return add_up(pile, data.of, poses, plan.group, np.maximum(poses.scores, 0)).volume()


def _centred(box: Volume, plan: Plan) -> Volume:
    """A box moved by whole voxels so that its density is about the middle."""
    n = box.shape[0]
    mask = plan.mask(n)
    weight = np.abs(levelled(box, mask)) ** 2
    at = np.arange(n) - n // 2
    total = max(float(weight.sum()), 1e-30)
    move = [-round(float((weight.sum(axis=other) * at).sum() / total)) for other in ((1, 2), (0, 2), (0, 1))]
    return np.roll(box, move, axis=(0, 1, 2))
