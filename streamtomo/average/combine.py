"""Particles in their poses become one volume: each component the mean of what was sampled of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.average.extract import Pile
from streamtomo.average.kernels import add_particle
from streamtomo.average.search import Poses
from streamtomo.average.spectra import Array, Complex, Components, Volume, back, padded, spread

LEAST_SAMPLED = 0.1
"""Components that were sampled less than this part of their shell's mean are not raised to the others' height."""


class Sum(NamedTuple):
    """Particles added up, each turned back to the reference."""

    of: Components
    total: Complex
    weight: NDArray[np.float32]

    def plus(self, other: Sum) -> Sum:
        """Both together."""
        return Sum(self.of, self.total + other.total, self.weight + other.weight)

    def volume(self, by_shell: Array | None = None) -> Volume:
        """The average `(n, n, n)`, each shell multiplied by a factor where they are given."""
        shells = np.bincount(self.of.shell, self.weight) / np.maximum(np.bincount(self.of.shell), 1)
        values = self.total / np.maximum(self.weight, LEAST_SAMPLED * np.maximum(shells, 1e-30)[self.of.shell])
        if by_shell is not None:
            factors = np.zeros(int(self.of.shell.max()) + 1)
            factors[: len(by_shell)] = by_shell[: len(factors)]
            values = values * factors[self.of.shell]
        return back(spread(values.astype(np.complex64), self.of), self.of.n)


def add_up(pile: Pile, of: Components, poses: Poses, group: Array, scale: NDArray[np.floating] | None = None) -> Sum:
    """The sum of the particles that poses `(p,)` belong to, in every way that the symmetry `(g, 3, 3)` allows.

    `scale` `(p,)` says how much each counts.
    """
    total, weight = np.zeros(len(of.k), np.complex64), np.zeros(len(of.k), np.float32)
    for number, owner in enumerate(poses.owner):
        spectrum, one = padded(np.asarray(pile.boxes[owner])), pile.wedges[pile.kind[owner]]
        for turn in group:
            add_particle(
                spectrum,
                poses.turns[number] @ turn,
                poses.shifts[number],
                one.frame,
                one.gap,
                one.nearest,
                one.left,
                of.k,
                pile.n,
                1.0 if scale is None else float(scale[number]),
                total,
                weight,
            )
    return Sum(of, total, weight)
