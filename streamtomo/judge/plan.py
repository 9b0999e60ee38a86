"""What is still to come: the angles of a series that have not been taken."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

SAME_DEG = 0.6
"""A planned angle counts as taken within this."""
RECENT = 4
"""So many of the last tilts tell whether both branches grow together."""
USUAL_STEP_DEG = 3.0


class Plan(NamedTuple):
    """What is known of the whole series."""

    tilts: int | None = None
    """How many there will be."""
    like: tuple[float, ...] = ()
    """Angles of the series before, in degrees: probably those of this one."""
    reach_deg: float = 60.0
    """Tilts are expected up to this angle where nothing else tells."""


def branch(angle_deg: float, start_deg: float) -> int:
    """The branch of a tilt: 1 on the positive side of the first one, -1 on the negative, 0 at it."""
    return 0 if abs(angle_deg - start_deg) < SAME_DEG else 1 if angle_deg > start_deg else -1


def remaining(taken_deg: Sequence[float], plan: Plan) -> list[float]:
    """The angles still to come, in the likely order; `taken_deg` in order of acquisition."""
    if not taken_deg:
        return []
    planned = plan.like or _grid(taken_deg, plan)
    left = [angle for angle in planned if all(abs(angle - one) > SAME_DEG for one in taken_deg)]
    return _in_order(left, taken_deg)


def planned_tilts(taken_deg: Sequence[float], plan: Plan) -> int:
    """How many tilts the whole series has."""
    return plan.tilts or len(taken_deg) + len(remaining(taken_deg, plan))


def step(taken_deg: Sequence[float]) -> float:
    """The usual distance between neighbouring angles."""
    ordered = sorted(taken_deg)
    steps = [b - a for a, b in pairwise(ordered) if b - a > SAME_DEG]
    return median(steps) if steps else USUAL_STEP_DEG


def _grid(taken_deg: Sequence[float], plan: Plan) -> list[float]:
    """Angles in equal steps: as many as are planned, evenly about 0, or all within reach."""
    by, start = step(taken_deg), taken_deg[0]
    reach = max(plan.reach_deg if plan.tilts is None else by * (plan.tilts - 1) / 2, *(abs(one) for one in taken_deg))
    down, up = int((reach + start) / by + 1e-6), int((reach - start) / by + 1e-6)
    return [start + by * k for k in range(-down, up + 1)]


def _in_order(left: list[float], taken_deg: Sequence[float]) -> list[float]:
    """Outwards on both branches, if both grew lately; else on along the present one, and then the other."""
    start, last = taken_deg[0], taken_deg[-1]
    sides = {branch(angle, start) for angle in taken_deg[-RECENT:]} - {0}
    side = branch(last, start) or 1
    if len(sides) == 2:
        return sorted(left, key=lambda angle: (round(abs(angle - start), 1), branch(angle, start) == side))
    ahead = sorted((angle for angle in left if side * (angle - last) > 0), key=lambda angle: side * angle)
    return ahead + sorted((angle for angle in left if angle not in ahead), key=lambda angle: abs(angle - start))
