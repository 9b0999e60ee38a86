"""Orders in which a tilt series is acquired. Angles in degrees; each function returns them in order of acquisition."""

from __future__ import annotations

from collections.abc import Callable

EPSILON = 1e-6


def tilt_angles(start_deg: float, step_deg: float, count: int, max_deg: float | None = None) -> list[float]:
    """Ascending angles on the grid `start + k step`.

    `count` of them around the start (the odd one out below it), or, where `max_deg` is given, all within ±max.
    """
    if step_deg <= 0:
        raise ValueError(f"a tilt step of {step_deg:g}° leads nowhere: it must be above 0")
    if max_deg is None:
        steps = range(-(count // 2), count - count // 2)
    else:
        reach = int((max_deg + abs(start_deg)) / step_deg) + 1
        steps = range(-reach, reach + 1)
    angles = (start_deg + k * step_deg for k in steps)
    return [round(a, 4) + 0.0 for a in angles if max_deg is None or abs(a) <= max_deg + EPSILON]


def unidirectional(angles: list[float], start_deg: float, group: int) -> list[float]:
    """From the lowest angle to the highest."""
    return sorted(angles)


def bidirectional(angles: list[float], start_deg: float, group: int) -> list[float]:
    """From the start up, then from just below the start down."""
    return [*_above(angles, start_deg, at_it=True), *_below(angles, start_deg)]


def dose_symmetric(angles: list[float], start_deg: float, group: int) -> list[float]:
    """Outward from the start on both sides in groups; each round starts on the side where the last one ended.

    With groups of one this is the order of Hagen, Wan and Briggs (2017): 0, +, -, --, ++, +++, ---.
    """
    if group < 1:
        raise ValueError(f"groups of {group} tilts are impossible: a dose-symmetric scheme needs 1 or more")
    near = [a for a in angles if abs(a - start_deg) < EPSILON]
    sides = [_above(angles, start_deg), _below(angles, start_deg)]
    order, side, visit = near, 0, 0
    while sides[0] or sides[1]:
        order, sides[side] = order + sides[side][:group], sides[side][group:]
        visit += 1
        side = 1 - side if visit % 2 or not sides[side] else side
    return order


SCHEMES: dict[str, Callable[[list[float], float, int], list[float]]] = {
    "dose-symmetric": dose_symmetric,
    "bidirectional": bidirectional,
    "unidirectional": unidirectional,
}


def _above(angles: list[float], start_deg: float, *, at_it: bool = False) -> list[float]:
    edge = start_deg - EPSILON if at_it else start_deg + EPSILON
    return sorted(a for a in angles if a > edge)


def _below(angles: list[float], start_deg: float) -> list[float]:
    return sorted((a for a in angles if a < start_deg - EPSILON), reverse=True)
