"""Rotations: evenly spread ones to search through, neighbours, symmetry.

A rotation is a matrix `(3, 3)` that takes the reference's x, y, z to the tomogram's.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

PSI = 1.533751168755204288118041
"""Root of psi^4 = psi + 4: with it and the root of two the spiral fills the rotations evenly."""


def even_turns(step_deg: float) -> Array:
    """Rotations `(n, 3, 3)` spread evenly, about `step_deg` from each to the next.

    A spiral on the quaternions (Alexa 2022, Super-Fibonacci spirals, CVPR). Their number is the volume of all
    rotations, 8 pi^2, over the cube of the step.
    """
    count = max(1, round(8 * np.pi**2 / np.radians(step_deg) ** 3))
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1 - s / count)
    alpha, beta = 2 * np.pi * s / np.sqrt(2), 2 * np.pi * s / PSI
    q = np.stack([inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)], axis=1)
    return np.asarray(Rotation.from_quat(q).as_matrix())


def symmetry(name: str) -> Array:
    """The rotations `(n, 3, 3)` of the group `C1`, `C2`, ... or `D2`, `D3`, ...: about z, those of D also about x.

    The first is none at all. Raises ValueError for another name.
    """
    found = re.fullmatch(r"([CD])([1-9]\d?)", name.upper())
    if found is None:
        raise ValueError(f"{name} is no symmetry that is known: C1 to C99, D1 to D99")
    fold = int(found.group(2))
    about_z = Rotation.from_euler("z", np.arange(fold)[:, None] * 360 / fold, degrees=True)
    turns = about_z.as_matrix()
    if found.group(1) == "D":
        turns = np.concatenate([turns, turns @ np.diag([1.0, -1.0, -1.0])])
    return np.asarray(turns)


def distinct(turns: Array, group: Array) -> Array:
    """Those of rotations `(n, 3, 3)` that differ: of each set that a symmetric object cannot tell, the smallest."""
    traces = np.einsum("nij,gji->ng", turns, group)
    return np.asarray(turns[traces[:, 0] >= traces.max(axis=1) - 1e-9])


def angles_between_deg(a: Array, b: Array, group: Array | None = None) -> Array:
    """Angle of the rotation from each of `a` to its partner of `b`, `(n,)`; the smallest that a symmetry allows."""
    group = np.eye(3)[None] if group is None else group
    traces = np.einsum("nji,njk,gki->ng", a, b, group).max(axis=1)
    return np.asarray(np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1))))


def nearby(turns: Array, step_deg: float, rng: np.random.Generator) -> Array:
    """Each rotation turned on by `step_deg` about a random axis."""
    axes = rng.normal(size=(len(turns), 3))
    axes *= np.radians(step_deg) / np.linalg.norm(axes, axis=1, keepdims=True)
    return np.asarray(Rotation.from_rotvec(axes).as_matrix() @ turns)
