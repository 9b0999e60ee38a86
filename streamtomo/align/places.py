"""Views and where the specimen lies in them: which is near which, in which order they are taken, in which frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from streamtomo.align import bundle
from streamtomo.align.bundle import Poses

Shift = tuple[float, float]


def own_order(angle_deg: Mapping[int, float]) -> list[int]:
    """Views by tilt angle, the lowest first; only where angles are repeated it matters which came first."""
    return sorted(angle_deg, key=lambda index: (abs(angle_deg[index]), angle_deg[index], index))


def nearness(tilt_deg: float, to_deg: float, index: int) -> tuple[float, float, int]:
    """Sorts views by how near they are in angle; of equally near ones the lower tilt first, of equal tilts the newest.

    So it does not matter when they came, unless tilts are repeated.
    """
    return abs(tilt_deg - to_deg), abs(tilt_deg), -index


def in_frame(
    shifts: Mapping[int, Shift], of: Mapping[int, Shift], angle_deg: Mapping[int, float], axis_deg: float
) -> dict[int, Shift]:
    """The shifts with the specimen's origin where other ones `of` the same views (and more) have it."""
    views = list(shifts)
    n = len(views)
    tilts, at = np.array([angle_deg[view] for view in views]), np.array([shifts[view] for view in views])
    poses = Poses(tilts, np.full(n, axis_deg), np.ones(n), at.reshape(n, 2))
    moved, _ = bundle.in_frame_of(poses, np.array([of[view] for view in views]).reshape(n, 2), flat=1.0)
    return {view: (float(x), float(y)) for view, (x, y) in zip(views, moved.shift, strict=True)}
