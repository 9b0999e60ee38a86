"""Particles told apart by how they differ from their average, where each was sampled.

Wedge-masked differences (Heumann, Hoenger and Mastronarde 2011, J. Struct. Biol. 175, 288): the average loses what a
particle lacks before it is taken off, so that the missing wedge itself tells nothing. The principal components of the
differences, completed for what each particle lacks, are grouped by k-means.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from streamtomo.average.combine import add_up
from streamtomo.average.extract import Pile
from streamtomo.average.search import Poses
from streamtomo.average.spectra import (
    Array,
    Complex,
    Components,
    Volume,
    back,
    components,
    resampled,
    spread,
    transform,
)

AXES = 6
"""Principal components that are looked at, at most; no more than particles over 10."""
SWEEPS = 8
"""Rounds in which axes and coordinates are completed."""
RIDGE = 0.1
"""Of what a whole particle tells, added to what each one does."""
STARTS = 20
"""Of k-means; the one of least spread counts."""


class Classes(NamedTuple):
    """Which class each particle is in."""

    number: NDArray[np.int64]
    """From 1 for the largest on, `(particles,)`."""
    variance: Array
    """Of each principal component, as a part of the whole."""
    coordinates: Array
    """`(particles, axes)`"""


def classify(pile: Pile, poses: Poses, mask: Volume, radius: float, classes: int, seed: int) -> Classes:
    """Tell particles apart by details up to a radius (cycles per box) within a mask; poses in order of particles."""
    n = min(pile.n, 2 * int(np.ceil(radius + 2)))
    factor = n / pile.n
    boxes = pile.boxes if n == pile.n else np.stack([resampled(np.asarray(box), n) for box in pile.boxes])
    tiny, there = pile._replace(boxes=boxes), poses._replace(shifts=poses.shifts * factor)
    of, inside = components(n, min(radius, n / 2 - 1)), resampled(mask, n)
    differences, weights = _differences(tiny, there, of)
    axes = max(1, min(AXES, len(poses.owner) // 10, len(poses.owner) - 1))
    coordinates = _principal(np.stack([_masked(one, of, inside) for one in differences]), axes)
    coordinates = _completed(differences, weights, coordinates, of, inside)
    spread_of = coordinates.var(axis=0)
    return Classes(_grouped(coordinates, classes, seed), spread_of / max(float(spread_of.sum()), 1e-30), coordinates)


def _differences(pile: Pile, poses: Poses, of: Components) -> tuple[Complex, NDArray[np.float32]]:
    """Each particle, turned as the average is, less what the average would be for its views; what they sampled.

    Both `(particles, m)`.
    """
    one = np.eye(3)[None]
    whole = add_up(pile, of, poses, one)
    mean = whole.total / np.maximum(whole.weight, 1e-3 * max(float(whole.weight.max()), 1e-30))
    rows = np.empty((len(poses.owner), len(of.k)), np.complex64)
    weights = np.empty(rows.shape, np.float32)
    for number in range(len(rows)):
        single = add_up(pile, of, poses.at(slice(number, number + 1)), one)
        rows[number], weights[number] = single.total - single.weight * mean, single.weight
    return rows, weights


def _masked(values: Complex, of: Components, mask: Volume) -> Complex:
    """Components `(m,)` after a mask in the box."""
    return np.asarray(transform(back(spread(values, of), of.n) * mask).ravel()[of.at], np.complex64)


def _principal(rows: Complex, axes: int) -> Array:
    """Coordinates `(n, axes)` along the axes of greatest variance of rows `(n, m)`."""
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh((centred @ centred.conj().T).real.astype(np.float64))
    return np.asarray(vectors[:, ::-1][:, :axes] * np.sqrt(np.maximum(values[::-1][:axes], 0)))


def _completed(
    differences: Complex, weights: NDArray[np.float32], coordinates: Array, of: Components, mask: Volume
) -> Array:
    """Coordinates that tell what a particle would differ by if all of it had been sampled.

    By turns the axes are fitted to the particles, and the particles to what their views see of the axes; what is known
    of a particle only badly stays near 0.
    """
    axes = coordinates.shape[1]
    for _ in range(SWEEPS):
        c = coordinates / np.maximum(np.linalg.norm(coordinates, axis=0), 1e-30)
        pairs = np.einsum("pa,pb->pab", c, c).reshape(len(c), -1)
        normal = (weights.T @ pairs).reshape(-1, axes, axes)
        normal += np.eye(axes) * RIDGE * max(float(np.trace(normal.mean(axis=0))) / axes, 1e-30)
        fitted = np.linalg.solve(normal, (differences.T @ c)[..., None])[..., 0].T
        basis = np.stack([_masked(one.astype(np.complex64), of, mask) for one in fitted])
        u, _, _ = np.linalg.svd(np.concatenate([basis.real, basis.imag], axis=1), full_matrices=False)
        basis = u.T @ basis
        basis /= np.maximum(np.linalg.norm(basis, axis=1, keepdims=True), 1e-30)
        products = np.einsum("ak,bk->kab", basis.conj(), basis).real.reshape(len(of.k), -1)
        seen = (weights.astype(np.float64) ** 2 @ products).reshape(-1, axes, axes)
        seen += RIDGE * np.eye(axes)
        told = ((weights * differences) @ basis.conj().T).real
        coordinates = np.linalg.solve(seen, told[..., None])[..., 0]
    order = np.argsort(-coordinates.var(axis=0))
    return np.asarray(coordinates[:, order], np.float64)


def _grouped(coordinates: Array, classes: int, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    best, least = np.zeros(len(coordinates), np.int64), np.inf
    for _ in range(STARTS):
        centres, labels = kmeans2(coordinates, classes, minit="++", rng=rng, missing="warn")
        spread_of = float(((coordinates - centres[labels]) ** 2).sum())
        if spread_of < least:
            best, least = labels, spread_of
    order = np.argsort(-np.bincount(best, minlength=classes), kind="stable")
    rank = np.empty(classes, np.int64)
    rank[order] = np.arange(1, classes + 1)
    return rank[best]
