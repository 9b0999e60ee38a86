"""Tilts that may lie elsewhere than the aligner has them: which one is looked for, and what is found."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

UNLIKE = 0.6
"""A tilt agrees badly with the volume if its score is below this part of the median of those ..."""
LIKE_ANGLES = 6
"""... nearest to it in angle."""


class Better(NamedTuple):
    """A better place for a tilt than the aligner's."""

    at: tuple[float, float]
    """Where the specimen lies in it, raw pixels."""
    instead_of: tuple[float, float]
    """Where the aligner has it."""


class Realigned(NamedTuple):
    """A tilt that was found elsewhere by the volume of all others."""

    at: tuple[float, float]
    """Where the specimen lies in it, raw pixels."""
    moved_px: float
    before: float
    after: float


def worst(scores: Mapping[int, float], angle_deg: Mapping[int, float], but: Collection[int]) -> int | None:
    """The tilt whose score is worst against those of like angles, if bad, and not among those tried before."""
    found, share = None, UNLIKE
    for index, value in scores.items():
        others = sorted(set(scores) - {index}, key=lambda other: abs(angle_deg[other] - angle_deg[index]))
        usual = float(np.median([scores[other] for other in others[:LIKE_ANGLES]] or [0.0]))
        if usual > 0 and value < share * usual and index not in but:
            found, share = index, value / usual
    return found
