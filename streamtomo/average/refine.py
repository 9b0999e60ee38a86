"""Round after round: each half's particles are turned onto that half's own average, and averaged again.

The halves share nothing from the beginning but a reference without detail, so that where they agree is structure, not
noise (gold standard: Scheres and Chen 2012, Nature Methods 9, 853). What they agree on is what the next round looks at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.average.combine import Sum, add_up
from streamtomo.average.extract import Data, Pile, Recut, components_of
from streamtomo.average.fsc import Curve, agreement, crossing, trust, trust_of_both
from streamtomo.average.search import Grid, Poses, climb, joined, shift_grid, try_all
from streamtomo.average.spectra import (
    SOFT_PX,
    Array,
    Components,
    Volume,
    ball,
    components,
    levelled,
    resampled,
    transform,
)
from streamtomo.average.turns import distinct, even_turns, nearby

DETAIL = 3.5
"""The coarse search looks at details down to the diameter over this."""
STEP = 0.75
"""Steps of the coarse search, in those that move the rim by one such detail."""
CANDIDATES = 5
"""Coarse poses of each particle that are followed up."""
FINALISTS = 2
"""Of these, those that are followed at full detail."""
GLOBAL_ROUNDS = 3
"""Rounds in which all rotations are tried; later ones only look about."""
LOOKS = 2
"""Further starts near the present pose in later rounds."""
RECENTRED_PX = 1.5
"""Particles further off than this are cut out again."""
TOGETHER_PX = 0.1
"""Halves that lie less apart than this are left as they are."""
ALMOST = 0.97
"""The second half stays as it is where it fits the first so well, in parts of its best fit in any turn."""
GAIN = 1.01
"""The rounds end when the resolution has not become better by this factor twice."""

Say = Callable[[str], None]


class Plan(NamedTuple):
    """How particles are averaged; lengths in pixels of a box."""

    diameter: float
    group: Array
    """Symmetry, `(g, 3, 3)`."""
    rounds: int
    reach: float
    """How far a particle's middle may be from where it was picked."""
    seed: int = 0

    def radius(self, n: int) -> float:
        """Of the components that the coarse search looks at, cycles per box of side `n`."""
        return float(min(DETAIL * n / self.diameter, n / 2 - 2))

    def step_deg(self) -> float:
        """Of the coarse search."""
        return float(np.degrees(2 * STEP / DETAIL)) / 2

    def mask(self, n: int) -> Volume:
        """Where the reference is looked at."""
        return ball(n, min(self.diameter / 2, n / 2 - 2 * SOFT_PX))

    def grid(self, n: int, coarser: float = 1.0) -> Grid:
        """What the coarse search tries with boxes of side `n` whose pixels the plan is in."""
        step = self.step_deg() * coarser
        turns = distinct(even_turns(step), self.group)
        return Grid(turns, step, shift_grid(self.reach, min(self.reach, n / self.radius(n) / 3.5 * coarser)))

    def scaled(self, factor: float) -> Plan:
        """In pixels that are smaller by a factor."""
        return self._replace(diameter=self.diameter * factor, reach=self.reach * factor)


class Round(NamedTuple):
    """What a round came to."""

    resolution: float
    """Cycles per box."""
    score: float
    everywhere: bool
    """Whether all rotations were tried."""


class Averaged(NamedTuple):
    """Particles averaged."""

    poses: Poses
    """One for each particle, in their order; shifts from where they were picked."""
    half: NDArray[np.int64]
    """0 or 1 for each particle."""
    halves: tuple[Volume, Volume]
    """Averages of either half, as they are."""
    both: Volume
    """Average of all, each shell by how sure it is."""
    curve: Curve
    history: list[Round]
    pile: Pile
    left_over: Array
    """Shifts of the poses in the boxes of `pile`, which may have been cut anew."""


def halves_of(count: int, seed: int) -> NDArray[np.int64]:
    """0 or 1 at random for each of so many particles, as many of either."""
    half = np.arange(count) % 2
    np.random.default_rng(seed).shuffle(half)
    return half


def small(pile: Pile, radius: float) -> tuple[Pile, Data, int]:
    """A pile sampled just finely enough for components up to a radius, and these."""
    n = min(pile.n, 2 * int(np.ceil(radius + 3)))
    boxes = pile.boxes if n == pile.n else np.stack([resampled(np.asarray(box), n) for box in pile.boxes])
    coarse = pile._replace(boxes=boxes)
    of = components(n, n / 2 - 1)
    return coarse, components_of(coarse, of), of.upto(radius)


def refine(
    pile: Pile, plan: Plan, reference: Volume, half: NDArray[np.int64], say: Say, recut: Recut | None = None
) -> Averaged:
    """Average the particles of a pile, beginning with a reference `(n, n, n)` of which only the coarse is used."""
    of = components(pile.n, pile.n / 2 - 1)
    data = components_of(pile, of)
    mask, rng = plan.mask(pile.n), np.random.default_rng(plan.seed)
    coarse = resampled(resampled(reference, 2 * int(plan.radius(pile.n)) + 2), pile.n)
    references = [levelled(coarse, mask)] * 2
    count, poses, moved = of.upto(plan.radius(pile.n)), None, np.zeros((len(half), 3))
    history: list[Round] = []
    while True:
        everywhere = len(history) < GLOBAL_ROUNDS
        found = []
        for number in (0, 1):
            rows = np.flatnonzero(half == number)
            part = _rows(data, rows)
            if everywhere or poses is None:
                best = _anywhere(_rows(pile, rows), part, plan, references[number], count)
            else:
                best = _about(part, plan, references[number], count, poses.of(rows), rng)
            found.append(best._replace(owner=rows[best.owner]))
        sums = [add_up(pile, of, poses, plan.group) for poses in found]
        found[1], sums[1] = _as_first(pile, plan, of, sums, found[1], everywhere=everywhere)
        poses = joined(found).best()
        volumes = [one.volume() for one in sums]
        curve = agreement(volumes[0], volumes[1], mask, plan.seed)
        history.append(Round(crossing(curve.corrected), float(poses.scores.mean()), everywhere))
        say(f"round {len(history)}: {pile.n / history[-1].resolution:.2f} pixels, score {history[-1].score:.3f}")
        if _is_over(history, plan.rounds):
            break
        references = [levelled(one.volume(trust(curve.corrected)), mask) for one in sums]
        count = max(of.upto(crossing(curve.corrected) + 2), of.upto(plan.radius(pile.n)))
        if recut is not None and np.abs(poses.shifts).max() > RECENTRED_PX:
            moved = moved + poses.shifts
            pile, left = recut(moved)
            moved = moved - left
            poses, data = poses._replace(shifts=left), components_of(pile, of)
    both = sums[0].plus(sums[1]).volume(trust_of_both(curve.corrected))
    whole = poses._replace(shifts=poses.shifts + moved)
    return Averaged(whole, half, (volumes[0], volumes[1]), both, curve, history, pile, poses.shifts)


def _rows(one: Any, rows: NDArray[np.int64]) -> Any:
    """Some particles of a pile, or of its data."""
    if isinstance(one, Pile):
        return one._replace(boxes=one.boxes[rows], kind=one.kind[rows])
    return one._replace(values=one.values[rows], kind=one.kind[rows])


def _anywhere(pile: Pile, data: Data, plan: Plan, reference: Volume, count: int) -> Poses:
    """The best pose of each particle among all: the coarse ones that score highest are followed up."""
    radius = plan.radius(pile.n)
    tiny, few, enough = small(pile, radius)
    factor = tiny.n / pile.n
    there = plan.scaled(factor)
    rough = resampled(reference, tiny.n)
    coarse = try_all(few, enough, rough, there.grid(tiny.n), CANDIDATES)
    step = tiny.n / radius / 3
    coarse = climb(few, enough, rough, coarse, step).best(FINALISTS)
    return climb(data, count, reference, coarse._replace(shifts=coarse.shifts / factor), step / factor).best()


def _about(data: Data, plan: Plan, reference: Volume, count: int, poses: Poses, rng: np.random.Generator) -> Poses:
    """The best pose near the present one."""
    starts = [poses]
    for _ in range(LOOKS):
        starts.append(poses._replace(turns=nearby(poses.turns, plan.step_deg() / 2, rng)))
    return climb(data, count, reference, joined(starts), plan.reach / 2).best()


def _as_first(
    pile: Pile, plan: Plan, of: Components, sums: list[Sum], poses: Poses, *, everywhere: bool
) -> tuple[Poses, Sum]:
    """The second half turned onto the first, by coarse components: they may have drifted apart as a whole.

    A frame for all particles at once can add nothing to what the halves agree on beyond it.
    """
    mask = plan.mask(pile.n)
    first, second = (levelled(one.volume(), mask) for one in sums)
    values = transform(second).ravel()[of.at][None]
    flat = np.ones((1, len(of.k)), np.float32)
    kind = np.zeros(1, np.int64)
    data = Data(of, values, kind, flat, flat[0])
    count = of.upto(plan.radius(pile.n))
    starts = [Poses(kind, np.eye(3)[None], np.zeros((1, 3)), np.zeros(1))]
    if everywhere:  # a half may have gone another way altogether
        starts.append(try_all(data, count, first, plan.grid(pile.n), 3))
    found = climb(data, count, first, joined(starts), pile.n / 8, steps=20)
    found = found.at(slice(0, 1)) if found.scores[0] > ALMOST * found.scores.max() else found.best()
    turn, shift = found.turns[0], found.shifts[0]
    if np.linalg.norm(turn - np.eye(3)) * plan.diameter / 2 + np.linalg.norm(shift) < TOGETHER_PX:
        return poses, sums[1]
    shifts = poses.shifts + np.einsum("pij,j->pi", poses.turns, shift)
    turned = poses._replace(turns=poses.turns @ turn, shifts=shifts)
    return turned, add_up(pile, of, turned, plan.group)


def _is_over(history: list[Round], rounds: int) -> bool:
    """Whether another round would add nothing."""
    if len(history) >= rounds:
        return True
    if len(history) < GLOBAL_ROUNDS + 2:
        return False
    best = max(one.resolution for one in history[:-2])
    return max(one.resolution for one in history[-2:]) < GAIN * best
