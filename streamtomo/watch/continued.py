"""A series that was interrupted and goes on in a second file: `TS_01.mrc`, then `TS_01_01.mrc`.

Names alone do not tell: `TS_01_01` may be another target, and a series that was given up begins anew. One that goes on
takes other angles than before, later, at the same place.
"""

from __future__ import annotations

import math
import re

from streamtomo.watch.mdoc import Mdoc

_SUFFIX = re.compile(r"(.+?)[_-](?:\d{1,2}|(?:restart|cont|continued)[_-]?\d*)", re.IGNORECASE)
SAME_ANGLE_DEG = 0.5
SAME_PLACE_UM = 5.0
"""The stage comes back to where it was, and wanders while it tilts."""
SAME_PIXEL = 0.01
"""Relative difference of two pixel sizes that are one."""


def begun_as(stem: str) -> str | None:
    """The name that a series had before it went on under this one, if it did."""
    match = _SUFFIX.fullmatch(stem)
    return match[1] if match else None


def continues(first: Mdoc, second: Mdoc) -> bool:
    """Whether the second of two mdocs, as far as they go, takes up the series of the first."""
    if not first.sections or not second.sections:
        return False
    return _other_angles(first, second) and _is_later(first, second) and _same_place(first, second)


def _other_angles(first: Mdoc, second: Mdoc) -> bool:
    taken = [section.angle_deg for section in first.sections if section.angle_deg is not None]
    new = [section.angle_deg for section in second.sections]
    return all(angle is not None and all(abs(angle - one) > SAME_ANGLE_DEG for one in taken) for angle in new)


def _is_later(first: Mdoc, second: Mdoc) -> bool:
    before = [section.acquired_s for section in first.sections]
    after = [section.acquired_s for section in second.sections]
    known = [time for time in (*before, *after) if time is not None]
    if len(known) < len(before) + len(after):
        return False
    return max(known[: len(before)]) <= min(known[len(before) :])  # whole seconds


def _same_place(first: Mdoc, second: Mdoc) -> bool:
    one, other = first.sections[-1].stage_um, second.sections[0].stage_um
    if one is not None and other is not None and math.dist(one, other) > SAME_PLACE_UM:
        return False
    sizes = first.pixel_size_A, second.pixel_size_A
    return None in sizes or math.isclose(sizes[0] or 0.0, sizes[1] or 0.0, rel_tol=SAME_PIXEL)
