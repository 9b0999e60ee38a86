"""The sector of angles that each view stands for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SAME_ANGLE_DEG = 0.05
WIDEST_SECTOR = 3.0
"""No view stands for more than this many typical sectors, however wide the gap beside it."""


def angular_weights(tilts_deg: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """The sector in radians that each view stands for, `(n,)`, in the order given.

    Half-way to its neighbours on both sides; views of one angle share a sector; the first and last have sectors as wide
    as the gap to their only neighbour; gaps in the series widen a sector up to `WIDEST_SECTOR` typical ones. With the
    ramp in cycles per pixel the sum of all views is then the density per voxel, whatever the scheme.
    """
    tilts = np.asarray(tilts_deg, np.float64)
    angles, group = _distinct(tilts)
    if len(angles) == 1:
        return np.full(len(tilts), np.pi / len(tilts))
    gaps = np.diff(angles)
    gaps = np.minimum(gaps, WIDEST_SECTOR * np.median(gaps))
    sectors = np.empty(len(angles))
    sectors[1:-1] = (gaps[:-1] + gaps[1:]) / 2
    sectors[0], sectors[-1] = gaps[0], gaps[-1]
    return np.radians(sectors[group] / np.bincount(group)[group])


def _distinct(tilts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distinct angles, ascending, and for each view which of them it has."""
    order = np.argsort(tilts, kind="stable")
    fresh = np.diff(tilts[order], prepend=-np.inf) > SAME_ANGLE_DEG
    group = np.empty(len(tilts), np.int64)
    group[order] = np.cumsum(fresh) - 1
    return tilts[order][fresh], group
