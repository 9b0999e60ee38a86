"""Particles told apart by how they differ from their average, where each was sampled.

Wedge-masked differences (Heumann, Hoenger and Mastronarde 2011, J. Struct. Biol. 175, 288): the average loses what a
particle lacks before it is taken off, so that the missing wedge itself tells nothing. The principal components of the
differences are grouped by k-means.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.cluster.vq import kmeans2

from streamtomo.average.combine import add_up
from streamtomo.average.extract import Pile
from streamtomo.average.search import Poses
from streamtomo.average.spectra import Array, Components, Volume, components, resampled, spread

AXES = 6
"""Principal components that are looked at, at most; no more than particles over 10."""
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
    inside = resampled(mask, n)
    differences = _differences(tiny, there, components(n, min(radius, n / 2 - 1)), inside, inside > 0.1)
    axes = max(1, min(AXES, len(poses.owner) // 10, len(poses.owner) - 1))
    coordinates, variance = _principal(differences, axes)
    return Classes(_grouped(coordinates, classes, seed), variance, coordinates)


def _differences(
    pile: Pile, poses: Poses, of: Components, mask: Volume, inside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """`(particles, voxels)`: each particle, turned as the average is, less what the average would be for its views."""
    one = np.eye(3)[None]
    whole = add_up(pile, of, poses, one)
    mean = whole.total / np.maximum(whole.weight, 1e-3 * max(float(whole.weight.max()), 1e-30))
    rows = np.empty((len(poses.owner), int(inside.sum())), np.float32)
    for number in range(len(rows)):
        single = add_up(pile, of, poses.at(slice(number, number + 1)), one)
        values = (single.total - single.weight * mean).astype(np.complex64)
        box = fft.fftshift(fft.irfftn(spread(values, of), (of.n,) * 3))
        rows[number] = (np.asarray(box, np.float32) * mask)[inside]
    return rows


def _principal(rows: NDArray[np.float32], axes: int) -> tuple[Array, Array]:
    """Coordinates `(n, axes)` along the axes of greatest variance, and their parts of it."""
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    return vectors[:, :axes] * np.sqrt(values[:axes]), values[:axes] / max(float(values.sum()), 1e-30)


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
