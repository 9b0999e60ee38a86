"""Are the beads of one tilt seen again in another, where they should be?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamtomo import geometry

Array = geometry.Array


class SeenAgain(NamedTuple):
    """Beads of one tilt in another one."""

    expected: int
    """How many of them fall into the other tilt's field."""
    seen: int
    """How many of those are there."""
    by_chance: float
    """How many would be, if what looks like a bead in the other tilt lay anywhere."""


def seen_again(
    before: Array, now: Array, over: Array, axis_deg: float, reach: tuple[float, float], shape_yx: tuple[int, int]
) -> SeenAgain:
    """How many of the beads `before` `(n, 2)` fall into the other tilt's field, and how many of those are seen `now`.

    Positions are `(x, y)` from the centres of images of one shape; `over` `(2, 3)` carries the one tilt's to the
    other's. `reach` is how far from there a bead may be, across the tilt axis (it has a height) and along it.
    """
    carried = geometry.apply(over, before)
    inside = carried[np.all(np.abs(carried) < np.array(shape_yx[::-1]) / 2 - max(reach), axis=1)]
    apart = np.abs((now[None] - inside[:, None]) @ geometry.rotation(axis_deg))
    seen = int(np.any(np.all(apart <= reach, axis=2), axis=1).sum())
    share = min(1.0, 4 * reach[0] * reach[1] / (shape_yx[0] * shape_yx[1]))
    return SeenAgain(len(inside), seen, len(inside) * float(1 - (1 - share) ** len(now)))
