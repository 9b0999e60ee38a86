"""Beads measured again where a model says they are, against their own average profile.

Positions in which another bead lies within the fitted neighbourhood are left out: the fit would follow both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import bundle
from streamtomo.align.bead_fit import Fits, average_profile, fit_beads
from streamtomo.align.beads import BeadShape
from streamtomo.align.bundle import Solution, Tracks
from streamtomo.align.tracks import without_short

Array = NDArray[np.float64]
Image = NDArray[np.float32]

CAPTURE_RADII, CAPTURE_PX = 0.4, 1.5
"""A fit that ends further from the prediction than this share of the radius (and this) found something else."""
CLEAR_RADII = (3.0, 2.0)
"""Beads nearer to each other than this disturb each other's fit; where too few are so clear, the second must do."""
FAMILIAR = (0.5, 2.0)
"""Amplitudes of a view's beads relative to their middle."""
FLOOR_PX = 0.02
"""Error of a fitted position that no noise explains."""


def profile_at(images: Sequence[Image], solution: Solution, shape: BeadShape, size: int) -> Array:
    """Average profile `(size,)` of the beads where the model puts them, clear of each other; zero if there are none."""
    spots = [_spots(image, solution, i, shape.radius_px, CLEAR_RADII[0]) for i, image in enumerate(images)]
    nothing = np.zeros(0)
    fits = [Fits(xy, nothing, nothing, np.zeros(0, bool)) for xy, _ in spots]
    return average_profile(list(images), fits, [np.ones(len(xy), bool) for xy, _ in spots], size)


def measure(
    images: Sequence[Image], solution: Solution, shape: BeadShape, profile: Array, clear_radii: float = CLEAR_RADII[0]
) -> Tracks:
    """Fit every bead in every view `(ny, nx)` where it should be seen; points found in too few views are dropped."""
    view, point, xy, error = [], [], [], []
    for i, image in enumerate(images):
        spots, numbers = _spots(image, solution, i, shape.radius_px, clear_radii)
        fits = fit_beads(image, spots, profile, shape.sign)
        good = np.flatnonzero(_credible(fits, spots, shape.radius_px))
        view += [i] * len(good)
        point += list(numbers[good])
        xy += list(fits.xy[good] - _middle(image))
        error += list(fits.error[good])
    errors = np.array(error)
    variance = errors**2 + FLOOR_PX**2
    weight = np.median(variance) / variance if len(variance) else variance
    tracks = bundle.make_tracks(np.array(view), np.array(point), np.array(xy), weight)
    return without_short(tracks)


def _middle(image: Image) -> Array:
    ny, nx = image.shape
    return np.array([geometry.centre(nx), geometry.centre(ny)])


def _spots(
    image: Image, solution: Solution, view: int, radius_px: float, clear_radii: float
) -> tuple[Array, NDArray[np.int64]]:
    """Array indices `(n, 2)` of the beads that are in one view and clear of each other, and their numbers."""
    everyone = np.arange(len(solution.points))
    predicted = bundle.predict(solution.poses, solution.points, np.full(len(everyone), view), everyone)
    distance = np.hypot(*(predicted[None] - predicted[:, None]).transpose(2, 0, 1))
    np.fill_diagonal(distance, np.inf)
    inside = (np.abs(predicted) < np.array(image.shape[::-1]) / 2 - radius_px).all(1)
    numbers = np.flatnonzero(inside & (distance.min(1, initial=np.inf) > clear_radii * radius_px))
    return predicted[numbers] + _middle(image), numbers


def _credible(fits: Fits, spots: Array, radius_px: float) -> NDArray[np.bool_]:
    moved = np.hypot(*(fits.xy - spots).T) if len(spots) else np.zeros(0)
    usual = float(np.median(fits.amplitude[fits.converged])) if fits.converged.any() else 1.0
    low, high = FAMILIAR[0] * usual, FAMILIAR[1] * usual
    close: NDArray[np.bool_] = moved < max(CAPTURE_PX, CAPTURE_RADII * radius_px)
    return close & fits.converged & (fits.amplitude > low) & (fits.amplitude < high) & np.isfinite(fits.error)
