"""Patches of the specimen followed from view to view.

The sum of a few views of a patch, each stretched to the new tilt about the patch's own centre, is correlated with the
new view where the model expects it. A patch has one depth of its own, so the drift that comes of correlating whole
views, which follow now this depth and now that, does not come in. Positions are pixels about the image's centre.
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


class Frame(NamedTuple):
    """A view in which patches are looked at."""

    image: Image
    level: float
    """Mean of the image, which fills what lies beyond its edges."""
    tilt_deg: float
    axis_deg: float


class Sight(NamedTuple):
    """A patch seen in a view, `xy` `(2,)`."""

    frame: Frame
    xy: Array


def frame_of(image: Image, tilt_deg: float, axis_deg: float) -> Frame:
    """A frame with its level."""
    return Frame(image, float(image.mean(dtype=np.float64)), tilt_deg, axis_deg)


class Finder:
    """Finds patches of one size in one band."""

    def __init__(self, size: int, band: Band) -> None:
        self.size = size
        self.window = taper(size, size)
        self.band = Band(max(band.low, LOW_BAND / size), band.high)
        self.reach = min(REACH_PX, size / 4)

    def find(self, known: Sequence[Sight], frame: Frame, expected: Array) -> Sight | None:
        """The patch that `known` shows, near where it is expected in another view; None if it is not clear."""
        reference = np.zeros((self.size, self.size), np.float32)
        for sight in known:
            reference += self._seen(sight, frame.tilt_deg)
        here = self._seen(Sight(frame, expected), frame.tilt_deg)
        peak = correlate(reference, here, self.band, (self.reach, self.reach))
        if peak.score < LEAST_SCORE or np.hypot(peak.dx, peak.dy) > 0.95 * self.reach:
            return None
        return Sight(frame, expected + np.array([peak.dx, peak.dy]))

    def covers(self, frame: Frame, xy: Array) -> bool:
        """Whether enough of a patch at `xy` lies in the view."""
        room = np.array(frame.image.shape[::-1]) / 2 - np.abs(xy)
        return bool((room > (COVERED - 0.5) * self.size).all())

    def _seen(self, sight: Sight, tilt_deg: float) -> Image:
        """The patch `(size, size)` as it would look at another tilt, tapered, of unit power."""
        frame = sight.frame
        transform = geometry.tilt_stretch(frame.axis_deg, frame.tilt_deg, tilt_deg)
        transform[:, 2] = -transform[:, :2] @ sight.xy
        return masked(warp(frame.image, transform, (self.size, self.size), fill=frame.level), self.window)


def size_for(shape_yx: tuple[int, ...]) -> int:
    """Side of the patches for views of a shape."""
    return max(LEAST_SIZE_PX, int(SIZE_SHARE * min(shape_yx)) // 16 * 16)


def grid(shape_yx: tuple[int, ...], size: int, spacing: float = SPACING) -> Array:
    """Centres `(n, 2)` of patches that lie wholly in the view."""
    sides = []
    for n in shape_yx[::-1]:
        half = max(0.0, (n - 1.1 * size) / 2)
        sides.append(np.linspace(-half, half, max(1, int(2 * half / (spacing * size)) + 1)))
    return np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)


# -- a whole series --------------------------------------------------------------------------------------------------


def follow(images: Sequence[Image], start: Poses, band: Band) -> Tracks:
    """Tracks of patches on a grid through views `(ny, nx)` in ascending tilt; `band` in cycles per pixel.

    Each patch is followed from the lowest tilt outwards on both sides.
    """
    frames = [frame_of(*row) for row in zip(images, start.tilt_deg.tolist(), start.axis_deg.tolist(), strict=True)]
    finder = Finder(size_for(images[0].shape), band)
    low = int(np.argmin(np.abs(start.tilt_deg)))
    view, point, xy = [], [], []
    for number, centre in enumerate(grid(images[0].shape, finder.size)):
        for i, sight in _both_branches(finder, frames, start, low, centre):
            view.append(i)
            point.append(number)
            xy.append(sight.xy)
    return without_short(bundle.make_tracks(np.array(view), np.array(point), np.array(xy)), LEAST_VIEWS)


def _both_branches(
    finder: Finder, frames: Sequence[Frame], poses: Poses, low: int, centre: Array
) -> list[tuple[int, Sight]]:
    """The patch in the view `low`, and in all others where it is found."""
    first = (low, Sight(frames[low], centre))
    up = _branch(finder, frames, poses, first, range(low + 1, len(frames)))
    down = _branch(finder, frames, poses, first, range(low - 1, -1, -1))
    return [first, *up, *down]


def _branch(
    finder: Finder, frames: Sequence[Frame], poses: Poses, first: tuple[int, Sight], views: range
) -> list[tuple[int, Sight]]:
    known, lost = [first], 0
    for i in views:
        expected = _expected(poses, known, i, finder.size)
        if not finder.covers(frames[i], expected):
            break
        sight = finder.find([one for _, one in known[-MEMORY:]], frames[i], expected)
        lost = 0 if sight else lost + 1
        if lost > MOST_LOST:
            break
        if sight:
            known.append((i, sight))
    return known[1:]


def _expected(poses: Poses, known: Sequence[tuple[int, Sight]], i: int, size: int) -> Array:
    """Where the patch should be: its height comes from the views known so far."""
    views = np.array([view for view, _ in known])
    aligned = np.array([_aligned(poses, view, sight.xy) for view, sight in known])
    terms = geometry.tilt_terms(poses.tilt_deg)
    rows = np.stack([terms.cos[views], terms.sin[views]], axis=1)
    prior = np.diag([0.0, (1.0 / size) ** 2])  # height within a patch's side, positions to a pixel
    x, z = np.linalg.solve(rows.T @ rows + prior, rows.T @ aligned[:, 0])
    point = np.array([[x, aligned[-1, 1], z]])
    expected: Array = bundle.predict(poses, point, np.array([i]), np.zeros(1, np.int64))[0]
    return expected


def _aligned(poses: Poses, i: int, xy: Array) -> Array:
    inverse = geometry.raw_to_aligned(float(poses.axis_deg[i]), poses.shift[i], float(poses.mag[i]))
    aligned: Array = geometry.apply(inverse, xy[None])[0]
    return aligned
