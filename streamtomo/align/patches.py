"""Patches of the specimen followed from view to view, where there is no gold.

Each patch is followed from the lowest tilt outwards on both sides: the sum of its last few views, each stretched to the
new tilt about the patch's own centre, is correlated with the new view where the model expects it. A patch has one depth
of its own, so the drift that comes of correlating whole views does not come in. Positions are pixels about the image's
centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import bundle
from streamtomo.align.bundle import Poses, Tracks
from streamtomo.align.correlate import Band, correlate, masked, taper
from streamtomo.align.tracks import without_short
from streamtomo.resample import warp

Image = NDArray[np.float32]
Array = NDArray[np.float64]

SIZE_SHARE = 0.17
"""Side of a patch as a share of the field's shorter side."""
LEAST_SIZE_PX = 48
SPACING = 0.75
"""Distance between patches in patch sides."""
COVERED = 0.8
"""A patch is followed while so much of its side is in the view."""
MEMORY = 4
"""Views whose sum is the reference."""
REACH_PX = 10.0
LEAST_SCORE = 4.0
MOST_LOST = 2
"""A patch that is not found in more views in a row is given up."""
LEAST_VIEWS = 6
LOW_BAND = 1.5
"""Lower edge of the band, in cycles per patch."""


class _Patch(NamedTuple):
    """What is needed to see a patch of one view at another tilt."""

    view: int
    xy: Array


def follow(images: Sequence[Image], start: Poses, band: Band) -> Tracks:
    """Tracks of patches on a grid through views `(ny, nx)` in ascending tilt; `band` in cycles per pixel."""
    view, point, xy = [], [], []
    low = int(np.argmin(np.abs(start.tilt_deg)))
    size = _size(images[0].shape)
    levels = [float(image.mean(dtype=np.float64)) for image in images]
    for number, centre in enumerate(_grid(images[0].shape, size)):
        follower = _Follower(images, levels, start, size, Band(max(band.low, LOW_BAND / size), band.high))
        for patch in follower.all(low, centre):
            view.append(patch.view)
            point.append(number)
            xy.append(patch.xy)
    tracks = bundle.make_tracks(np.array(view), np.array(point), np.array(xy))
    return without_short(tracks, LEAST_VIEWS)


def _size(shape_yx: tuple[int, ...]) -> int:
    return max(LEAST_SIZE_PX, int(SIZE_SHARE * min(shape_yx)) // 16 * 16)


def _grid(shape_yx: tuple[int, ...], size: int) -> Array:
    """Centres `(n, 2)` of patches that lie wholly in the view."""
    sides = []
    for n in shape_yx[::-1]:
        half = max(0.0, (n - 1.1 * size) / 2)
        sides.append(np.linspace(-half, half, max(1, int(2 * half / (SPACING * size)) + 1)))
    return np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)


class _Follower:
    """Follows one patch through the views."""

    def __init__(self, images: Sequence[Image], levels: Sequence[float], poses: Poses, size: int, band: Band) -> None:
        self.images, self.poses, self.size, self.band = images, poses, size, band
        self.window = taper(size, size)
        self.levels = levels

    def all(self, low: int, centre: Array) -> list[_Patch]:
        """The patch in the view `low`, and in all others where it is found."""
        first = _Patch(low, centre)
        up = self._branch(first, range(low + 1, len(self.images)))
        down = self._branch(first, range(low - 1, -1, -1))
        return [first, *up, *down]

    def _branch(self, first: _Patch, views: range) -> list[_Patch]:
        known, lost = [first], 0
        for i in views:
            expected = self._expected(known, i)
            if not self._inside(i, expected):
                break
            patch = self._find(known[-MEMORY:], i, expected)
            lost = 0 if patch else lost + 1
            if lost > MOST_LOST:
                break
            if patch:
                known.append(patch)
        return known[1:]

    def _expected(self, known: Sequence[_Patch], i: int) -> Array:
        """Where the patch should be: its height comes from the views known so far."""
        views = np.array([patch.view for patch in known])
        aligned = np.array([self._aligned(patch) for patch in known])
        terms = geometry.tilt_terms(self.poses.tilt_deg)
        rows = np.stack([terms.cos[views], terms.sin[views]], axis=1)
        prior = np.diag([0.0, (1.0 / self.size) ** 2])  # height within a patch's side, positions to a pixel
        x, z = np.linalg.solve(rows.T @ rows + prior, rows.T @ aligned[:, 0])
        point = np.array([[x, aligned[-1, 1], z]])
        expected: Array = bundle.predict(self.poses, point, np.array([i]), np.zeros(1, np.int64))[0]
        return expected

    def _aligned(self, patch: _Patch) -> Array:
        poses, i = self.poses, patch.view
        inverse = geometry.raw_to_aligned(float(poses.axis_deg[i]), poses.shift[i], float(poses.mag[i]))
        aligned: Array = geometry.apply(inverse, patch.xy[None])[0]
        return aligned

    def _inside(self, i: int, xy: Array) -> bool:
        room = np.array(self.images[i].shape[::-1]) / 2 - np.abs(xy)
        return bool((room > (COVERED - 0.5) * self.size).all())

    def _find(self, known: Sequence[_Patch], i: int, expected: Array) -> _Patch | None:
        reference = np.zeros((self.size, self.size), np.float32)
        for patch in known:
            reference += self._seen(patch, float(self.poses.tilt_deg[i]))
        here = self._seen(_Patch(i, expected), float(self.poses.tilt_deg[i]))
        reach = min(REACH_PX, self.size / 4)
        peak = correlate(reference, here, self.band, (reach, reach))
        if peak.score < LEAST_SCORE or np.hypot(peak.dx, peak.dy) > 0.95 * reach:
            return None
        return _Patch(i, expected + np.array([peak.dx, peak.dy]))

    def _seen(self, patch: _Patch, tilt_deg: float) -> Image:
        """The patch `(size, size)` as it would look at another tilt, tapered, of unit power."""
        axis, own = float(self.poses.axis_deg[patch.view]), float(self.poses.tilt_deg[patch.view])
        transform = geometry.tilt_stretch(axis, own, tilt_deg)
        transform[:, 2] = -transform[:, :2] @ patch.xy
        warped = warp(self.images[patch.view], transform, (self.size, self.size), fill=self.levels[patch.view])
        return masked(warped, self.window)
