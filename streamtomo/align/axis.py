"""The direction of the tilt axis, measured from patches that were followed over many views.

With a wrong axis no points of a rigid specimen explain where the patches were seen. So every direction is tried: for
each the shifts and points that fit best, and what is left. A direction and its opposite fit equally well (the hand of
the specimen): of the two the one nearer to the nominal axis is told.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.align import bundle
from streamtomo.align.bundle import Poses, Tracks
from streamtomo.align.shifts import solve_shifts
from streamtomo.geometry import wrap_angle

Array = NDArray[np.float64]

COARSE_DEG = 5.0
FINE_DEG = (1.5, 0.5)
"""Steps of the search, each about the best direction so far; then a parabola through the last three."""
ROUNDS = (3, 0)
"""Of robust weighting: enough to tell directions apart."""
CAPPED_PX = 3.0
"""Distances count as this at most: patches that were lost say nothing."""
LEAST_RANGE_DEG = 20.0
LEAST_TRACKS = 40
CLEAR = 1.05
SIGNIFICANT = 60.0
"""What is left must be so much more `COARSE_DEG` away for the axis to be told, as a ratio and as a chi-square: patches
side by side err together, so that the chi-square is too high by some factor."""


WRONG_DEG = 2.0
"""A nominal axis is that good, or somebody should know."""


class Axis(NamedTuple):
    """A measured tilt axis."""

    deg: float
    left_px: float
    """RMS of what is left with it, distances capped."""
    nominal_px: float
    """The same with the nominal axis."""


def find_axis(tracks: Tracks, tilt_deg: Array, nominal_deg: float, start: Array, floor_px: float) -> Axis | None:
    """The axis of views with these tilt angles and shifts `start` `(views, 2)`; None where the tracks cannot tell."""
    if len(tracks.view) < LEAST_TRACKS or float(np.ptp(tilt_deg)) < LEAST_RANGE_DEG:
        return None

    def left(axis_deg: float) -> float:
        found = solve_shifts(tracks, tilt_deg, axis_deg, start, floor_px, ROUNDS)
        poses = Poses(tilt_deg, np.full(len(tilt_deg), axis_deg), np.ones(len(tilt_deg)), found.shift)
        square = (bundle.residuals_of(tracks, poses, found.points) ** 2).sum(1)
        return float(np.sqrt(np.minimum(square, CAPPED_PX**2).mean()))

    trials = {deg: left(deg) for deg in nominal_deg + np.arange(-90.0, 90.0, COARSE_DEG)}
    best = min(trials, key=trials.__getitem__)
    away = min(left(best - COARSE_DEG), left(best + COARSE_DEG)) / max(trials[best], floor_px)
    freedom = 2 * len(tracks.view) - 2 * len(tilt_deg) - 3 * (int(tracks.point.max()) + 1)
    if away < CLEAR or (away**2 - 1) * freedom < SIGNIFICANT:
        return None
    nominal_px = trials[nominal_deg]
    for step in FINE_DEG:
        trials = {deg: left(deg) for deg in best + step * np.arange(-3, 4)}
        best = min(trials, key=trials.__getitem__)
    best += _vertex(left(best - step), trials[best], left(best + step)) * step
    return Axis(nominal_deg + wrap_angle(best - nominal_deg), left(best), nominal_px)


def _vertex(before: float, at: float, after: float) -> float:
    """Where the parabola through three neighbours has its lowest point, in steps from the middle one."""
    bend = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / bend, -1, 1)) if bend > 0 else 0.0


def axis_warning(measured_deg: float, nominal_deg: float) -> str:
    """What to say of a nominal axis that was found wrong, in words; empty if it is nearly right.

    Of a line nobody can tell which end is up: both are compared modulo 180 degrees.
    """
    off, mirrored = (abs(wrap_angle(2 * (measured_deg - sign * nominal_deg))) / 2 for sign in (1, -1))
    if off <= WRONG_DEG:
        return ""
    words = f"the tilt axis is at {measured_deg:.1f}°, not at {nominal_deg:.1f}° as stated"
    if mirrored <= WRONG_DEG:
        return f"{words}: mirrored; its sign is wrong, or the images are read upside down (or flipped)"
    return f"{words}; set acquisition.tilt_axis_deg, above all if the hand of the specimen matters"
