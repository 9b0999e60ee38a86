"""Two tilt series of one area, turned against each other: which bead is which, and how one volume lies in the other.

The turn in the plane is known to some degrees, or not at all. For each turn that may be all differences between beads
of both volumes are looked at: true pairs share theirs. From the most crowded difference on, pairs and transform are
refined in turn. The transform is a similarity (Umeyama 1991, IEEE PAMI 13, 376), which many and well spread beads may
stretch and shear.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamtomo import geometry

Array = NDArray[np.float64]

STEP_DEG = 1.0
LEAST_PAIRS = 4
ROUNDS = 8
STIFFNESS_PX2 = (0.5 / 0.01) ** 2
"""Beads are placed to half a pixel, stretch and shear are within a per cent: the ridge of their regression."""
OUTLIER = 3.0
"""Pairs farther apart than this many times the median are left out."""
LEAST_SHARE = 0.3
"""Of the beads that either volume has where both are: with fewer pairs chance may have made them."""
ALL_ROUND_DEG = 180.0
"""A turn that may be off by so much is not known."""


class Match(NamedTuple):
    """How the second volume lies in the first: `a = matrix @ b + shift`, X, Y, Z from the centres, voxels."""

    matrix: Array
    """`(3, 3)`"""
    shift: Array
    """`(3,)`"""
    pairs: NDArray[np.int64]
    """`(n, 2)` indices of beads, or of patches, of the first and the second volume."""
    residual_px: float
    """Root of the mean squared distance of the pairs."""
    largest_px: float


def match_beads(
    a_xyz: Array, b_xyz: Array, turn_deg: float, *, tolerance_px: float = 6.0, reach_deg: float = 10.0
) -> Match:
    """Match beads `(n, 3)` and `(m, 3)` of two volumes; `turn_deg` turns the second into the first, about Z.

    `turn_deg` is right within `reach_deg`, and pairs are at most `tolerance_px` apart in the end. Raises ValueError
    where fewer than LEAST_PAIRS pairs agree.
    """
    matrix, shift = _coarse(a_xyz, b_xyz, turn_deg, reach_deg, tolerance_px)
    span = float(np.abs(b_xyz - b_xyz.mean(axis=0)).max()) if len(b_xyz) else 0.0
    radius = tolerance_px + span * np.radians(STEP_DEG)
    pairs = _pairs(a_xyz, b_xyz @ matrix.T + shift, radius)
    for _ in range(ROUNDS):
        if len(pairs) < LEAST_PAIRS:
            raise ValueError(f"only {len(pairs)} of {len(a_xyz)} and {len(b_xyz)} beads of the two axes agree")
        matrix, shift = fit(a_xyz[pairs[:, 0]], b_xyz[pairs[:, 1]])
        apart = np.linalg.norm(a_xyz[pairs[:, 0]] - b_xyz[pairs[:, 1]] @ matrix.T - shift, axis=1)
        found = Match(matrix, shift, pairs, float(np.sqrt((apart**2).mean())), float(apart.max()))
        radius = min(tolerance_px, max(1.0, OUTLIER * float(np.median(apart))))
        pairs = _pairs(a_xyz, b_xyz @ matrix.T + shift, radius)
    shared = _shared(a_xyz, b_xyz @ found.matrix.T + found.shift)
    if len(found.pairs) < LEAST_SHARE * shared:
        raise ValueError(f"only {len(found.pairs)} of some {shared} beads of the area that both axes saw agree")
    return found


def _shared(a: Array, b: Array) -> int:
    """How many beads the poorer of two volumes has where the other has some, too."""
    low, high = (np.max([a.min(0), b.min(0)], 0), np.min([a.max(0), b.max(0)], 0))
    within = [int((((xyz >= low - 1) & (xyz <= high + 1))[:, :2]).all(axis=1).sum()) for xyz in (a, b)]
    return min(within)


def _coarse(a: Array, b: Array, turn_deg: float, reach_deg: float, tolerance: float) -> tuple[Array, Array]:
    """The turn and the shift that most pairs share."""
    if min(len(a), len(b)) < LEAST_PAIRS:
        raise ValueError(f"{len(a)} and {len(b)} beads are too few to match two axes")
    blur = float(np.abs(b - b.mean(axis=0)).max() * np.radians(STEP_DEG / 2))
    best, found = 0, (np.eye(3), np.zeros(3))
    steps = np.arange(-reach_deg, min(reach_deg + STEP_DEG / 2, ALL_ROUND_DEG), STEP_DEG)
    for turn in turn_deg + steps:
        matrix = turn_about_z(float(turn))
        differences = (a[:, None] - b @ matrix.T).reshape(-1, 3)
        crowd = cKDTree(differences).query_ball_point(differences, tolerance + blur, return_length=True)
        if crowd.max() > best:
            middle = differences[crowd.argmax()]
            near = np.linalg.norm(differences - middle, axis=1) <= tolerance + blur
            best, found = int(crowd.max()), (matrix, differences[near].mean(axis=0))
    return found


def turn_about_z(angle_deg: float) -> Array:
    """`(3, 3)`, counter-clockwise from X to Y."""
    matrix = np.eye(3)
    matrix[:2, :2] = geometry.rotation(angle_deg)
    return matrix


def _pairs(a: Array, b: Array, radius: float) -> NDArray[np.int64]:
    """Indices of beads that are each other's nearest within a radius, `(n, 2)`."""
    distance, nearest = cKDTree(a).query(b)
    back = cKDTree(b).query(a)[1]
    mutual = (distance <= radius) & (back[nearest] == np.arange(len(b)))
    return np.column_stack([nearest[mutual], np.flatnonzero(mutual)]).astype(np.int64)


def fit(a: Array, b: Array) -> tuple[Array, Array]:
    """The similarity `(3, 3)`, `(3,)` that takes `b` to `a`, and such stretch and shear as the points really show."""
    from_a, from_b = a - a.mean(axis=0), b - b.mean(axis=0)
    u, sizes, vt = np.linalg.svd(from_a.T @ from_b)
    hand = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = float((sizes * hand).sum() / max(1e-12, (from_b**2).sum()))
    turn = scale * (u * hand) @ vt
    left = from_a - from_b @ turn.T
    bend = np.linalg.solve(from_b.T @ from_b + STIFFNESS_PX2 * np.eye(3), from_b.T @ left)
    matrix = np.asarray(turn + bend.T, np.float64)
    return matrix, np.asarray(a.mean(axis=0) - matrix @ b.mean(axis=0), np.float64)
