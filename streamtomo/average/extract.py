"""Particles cut out of tomograms, and their components as everything else takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.average.spectra import SOFT_PX, Array, Complex, Components, Volume, Wedge, ball, levelled, transform

Ints = NDArray[np.int64]

LEAST_INSIDE = 0.75
"""A particle is left out where less of its box than this lies in the tomogram."""
SAMPLED = 0.5
"""Components that were sampled at least so far tell the noise."""


class Pile(NamedTuple):
    """Boxes of particles."""

    boxes: NDArray[np.float32]
    """`(particles, n, n, n)`, levelled within their balls; may be a memory-mapped file."""
    kind: Ints
    """Which wedge each has, `(particles,)`."""
    wedges: Sequence[Wedge]

    @property
    def n(self) -> int:
        """Side of a box."""
        return int(self.boxes.shape[1])


Recut = Callable[[Array], tuple[Pile, Array]]
"""Cuts all particles anew about points that many pixels (x, y, z) from where they were cut before; also gives what is
left over of each, less than a pixel."""


class Data(NamedTuple):
    """Components of a pile."""

    of: Components
    values: Complex
    """`(particles, m)`, nothing where the views sampled nothing."""
    kind: Ints
    weights: NDArray[np.float32]
    """`(kinds, m)`: what a particle has of the structure's components."""
    inverse_noise: NDArray[np.float32]
    """`(m,)`, of the power by shell."""


def inside(shape_zyx: Sequence[int], xyz: Array, n: int) -> NDArray[np.bool_]:
    """Whose boxes about indices `(p, 3)` lie well enough in a tomogram."""
    share = np.ones(len(xyz))
    for axis in range(3):
        size, first = shape_zyx[2 - axis], np.rint(xyz[:, axis]) - n // 2
        share *= np.clip(np.minimum(first + n, size) - np.maximum(first, 0), 0, n) / n
    return np.asarray(share >= LEAST_INSIDE)


def cut(tomogram: NDArray[Any], xyz: Array, n: int) -> Volume:
    """The box about the voxel nearest to an index x, y, z of a tomogram `(nz, ny, nx)`; beyond its faces their mean."""
    first = np.rint(xyz[::-1]).astype(int) - n // 2
    low = np.maximum(first, 0)
    high = np.minimum(first + n, tomogram.shape)
    part = np.asarray(tomogram[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], np.float32)
    box = np.full((n, n, n), part.mean() if part.size else 0.0, np.float32)
    box[tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))] = part
    return box


def normalised(box: Volume, ball_mask: Volume, background: NDArray[np.bool_]) -> Volume:
    """A box in units of its background's standard deviation, levelled and faded out towards its faces."""
    sd = float(box[background].std(dtype=np.float64))
    return levelled(box, ball_mask) / np.float32(sd if sd > 0 else 1.0)


def box_masks(n: int, radius_px: float) -> tuple[Volume, NDArray[np.bool_]]:
    """The ball that boxes are faded to, and the voxels that are background."""
    whole = ball(n, n / 2 - 1 - SOFT_PX)
    background = (whole > 0.5) & (ball(n, radius_px, 1.0) < 0.5)
    return whole, background if background.any() else whole > 0.5


def components_of(pile: Pile, of: Components) -> Data:
    """The components of a pile, and what is known of them."""
    share, weights = np.empty((2, len(pile.wedges), len(of.k)), np.float32)
    for number, one in enumerate(pile.wedges):
        share[number], factor = one.at(of.k)
        weights[number] = share[number] * factor
    values = np.empty((len(pile.boxes), len(of.k)), np.complex64)
    for row, box in enumerate(pile.boxes):
        values[row] = transform(box).ravel()[of.at] * share[pile.kind[row]]
    return Data(of, values, pile.kind, weights, _inverse_noise(values, share[pile.kind], of))


def _inverse_noise(values: Complex, share: NDArray[np.float32], of: Components) -> NDArray[np.float32]:
    """One over the mean power by shell of what was sampled."""
    known = share > SAMPLED
    power = np.where(known, np.abs(values) ** 2, 0).sum(axis=0, dtype=np.float64)
    shells = np.bincount(of.shell, power) / np.maximum(np.bincount(of.shell, known.sum(axis=0)), 1)
    shells[shells <= 0] = shells.max(initial=1e-30)
    return np.asarray(1 / shells[of.shell], np.float32)
