"""Patches followed from view to view: they take out the drift that placing view after view leaves.

The live alignment and, where there is no gold, the final one stand on them. Each new view is measured against the views
nearest in angle at some dozens of places; a bundle adjustment of all that was measured so far says where the view lies.
The views placed before keep their frame: the new one is put into it. Which views there are, and in which order they
came, is all that the result depends on.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import bundle, patches
from streamtomo.align.axis import Axis, find_axis
from streamtomo.align.bundle import Poses, Tracks
from streamtomo.align.correlate import Band
from streamtomo.align.patches import Finder, Frame, Sights
from streamtomo.align.places import nearness
from streamtomo.align.shifts import solve_shifts
from streamtomo.align.tracks import without_short

Image = NDArray[np.float32]
Array = NDArray[np.float64]

REFERENCES = 3
"""Views whose sum is the reference."""
LEAST_FOUND = 4
"""Fewer patches than this say nothing."""
LEAST_SHARE = 0.4
"""So many of the patches found must agree, or the view's first placement stands."""
CROWDED = 0.6
"""Of points nearer to each other than this share of the grid's spacing one is followed."""
TELLING_VIEWS = 4
"""A patch seen in fewer views fits whatever the shifts are: it would pass for the best of all."""
SEEDED_SHARE = 0.6
"""Where fewer of the grid's places have a patch, new ones begin."""
POSITION_PX = 0.3
"""Error that positions have at least."""


class _Measured(NamedTuple):
    """What was seen in a view that is not accepted yet."""

    points: NDArray[np.int64]
    xy: Array
    shifts: dict[int, Array]
    """Of all views, the new one included, by all that was measured."""


class Memory(Struct, frozen=True):
    """All that was measured in a series, but for its images; views and points in the order in which they came."""

    axis_deg: float

    shifts: dict[int, tuple[float, float]]
    """Where the specimen lies in each view."""
    sights: dict[int, list[tuple[int, float, float]]]
    """For each view the points seen in it: number, x, y."""
    points: int
    """Numbers given to points so far."""


class PatchTracks:
    """The patches of one series; lengths are pixels of the images given."""

    def __init__(self, axis_deg: float, band: Band, between: Callable[[], None] = lambda: None) -> None:
        """`between` is called between the parts of `place`, which it may leave by what it raises."""
        self.axis_deg, self._between = axis_deg, between
        self._band = band
        self.shifts: dict[int, Array] = {}
        """Where the specimen lies in each accepted view, by all that is known now."""
        self._frames: dict[int, Frame] = {}
        self._sights: dict[int, dict[int, Array]] = {}
        """For each view the points seen in it."""
        self._points = 0
        self._finder: Finder | None = None
        self._pending: dict[int, _Measured] = {}

    def place(self, index: int, tilt_deg: float, image: Image, shift: Array) -> Array | None:
        """Where the specimen lies in a view `(ny, nx)` that `shift` places roughly; None where nothing tells.

        If nothing is found about there, it is looked for where the specimen lay in the nearest view.
        """
        self._pending.pop(index, None)
        frame = patches.frame_of(image, tilt_deg, self.axis_deg)
        starts = [shift, *(self.shifts[view] for view in self._nearest(index, tilt_deg)[:1])]
        placed = (self._placed(index, frame, start) for start in starts)
        return next((found for found in placed if found is not None), None)

    def _placed(self, index: int, frame: Frame, shift: Array) -> Array | None:
        """The shift by the patches found about one place; None if they are too few or do not agree."""
        points, xy = self._measured(index, frame, shift)
        self._between()
        if len(points) < LEAST_FOUND:
            return None
        weight, shifts = self._solved(index, frame, points, xy, shift)
        told = np.array([weight.get(int(point), -1.0) for point in points])
        agreeing = int((told > 0.1).sum())
        if agreeing < max(LEAST_FOUND, LEAST_SHARE * int((told >= 0).sum())):
            return None
        kept = (told > 0.1) | (told < 0)
        self._pending[index] = _Measured(points[kept], xy[kept], shifts)
        return shifts[index]

    def accept(self, index: int, tilt_deg: float, image: Image, shift: Array) -> None:
        """Take a placed view in: what was measured in it counts from now on, and bare places get new patches."""
        self._finder = self._finder or Finder(patches.size_for(image.shape), self._band)
        measured = self._pending.pop(index, None)
        self._frames[index] = patches.frame_of(image, tilt_deg, self.axis_deg)
        self._sights[index] = {}
        if measured is not None and np.allclose(measured.shifts[index], shift, atol=1e-6):
            self._sights[index] = dict(zip(measured.points.tolist(), measured.xy, strict=True))
            self.shifts.update(measured.shifts)
        self.shifts[index] = shift
        self._pending.clear()
        self._seed(index)

    def forget(self, index: int) -> None:
        """Drop a view."""
        for of_views in (self._frames, self.shifts, self._sights):
            of_views.pop(index, None)
        self._pending.clear()

    def measured_axis(self) -> Axis | None:
        """The tilt axis, by all that was measured; None where that does not tell."""
        tracks, views = self.tracks(TELLING_VIEWS), list(self._frames)
        number = np.zeros(max(views, default=0) + 1, np.int64)
        number[views] = np.arange(len(views))
        start = self._poses(list(views), 0.0, np.zeros(2))
        tracks = tracks._replace(view=number[tracks.view])
        return find_axis(tracks, start.tilt_deg, self.axis_deg, start.shift, POSITION_PX)

    def memory(self) -> Memory:
        """What is to be kept for `recall`."""
        shifts = {view: (float(self.shifts[view][0]), float(self.shifts[view][1])) for view in self._frames}
        sights = {
            view: [(int(point), float(xy[0]), float(xy[1])) for point, xy in self._sights[view].items()]
            for view in self._frames
        }
        return Memory(self.axis_deg, shifts, sights, self._points)

    def recall(self, memory: Memory, views: dict[int, tuple[float, Image]]) -> None:
        """Stand where another one stood; `views` are tilt angle and image of each view of the memory."""
        self._points, self.axis_deg = memory.points, memory.axis_deg
        for view, shift in memory.shifts.items():
            tilt_deg, image = views[view]
            self._finder = self._finder or Finder(patches.size_for(image.shape), self._band)
            self._frames[view] = patches.frame_of(image, tilt_deg, self.axis_deg)
            self._sights[view] = {point: np.array([x, y]) for point, x, y in memory.sights[view]}
            self.shifts[view] = np.array(shift)

    def tracks(self, least_views: int) -> Tracks:
        """All positions of patches seen in enough views, relative to each image's centre."""
        rows = [(view, point, xy) for view, sights in self._sights.items() for point, xy in sights.items()]
        tracks = bundle.make_tracks(
            np.array([view for view, _, _ in rows]),
            np.array([point for _, point, _ in rows]),
            np.array([xy for _, _, xy in rows]),
        )
        return without_short(tracks, least_views)

    # -- measuring -------------------------------------------------------------------------------------------------

    def _measured(self, index: int, frame: Frame, shift: Array) -> tuple[NDArray[np.int64], Array]:
        """Points found in a new view, and where."""
        near = self._nearest(index, frame.tilt_deg)
        if self._finder is None or not near:
            return np.zeros(0, np.int64), np.zeros((0, 2))
        known = np.array(sorted({point for view in near for point in self._sights[view]}), np.int64)
        expected = self._expected(near, known.tolist(), frame.tilt_deg, shift)
        rows = self._apart(known, expected, np.flatnonzero(self._finder.covers(frame, expected)))
        known, expected = known[rows], expected[rows]
        xy, clear = self._finder.find(self._references(near, known.tolist()), frame, expected)
        return known[clear], xy[clear]

    def _apart(self, known: NDArray[np.int64], expected: Array, rows: NDArray[np.int64]) -> list[int]:
        """Those of the rows whose points do not lie on top of each other: of such the one seen in most views stays."""
        seen = Counter(itertools.chain.from_iterable(self._sights.values()))
        left = np.array(sorted(rows.tolist(), key=lambda one: (-seen[int(known[one])], known[one])), np.int64)
        kept: list[int] = []
        while len(left):
            kept.append(int(left[0]))
            far = np.hypot(*(expected[left] - expected[left[0]]).T) >= CROWDED * patches.SPACING * self._size
            left = left[far]
        return sorted(kept)

    def _references(self, near: list[int], known: list[int]) -> list[Sights]:
        """What the nearest views show of the points: of each so many sights as count."""
        left = dict.fromkeys(known, REFERENCES)
        found = []
        for view in near:
            sights = self._sights[view]
            rows = [row for row, point in enumerate(known) if point in sights and left[point]]
            for row in rows:
                left[known[row]] -= 1
            xy = np.array([sights[known[row]] for row in rows]).reshape(-1, 2)
            found.append(Sights(self._frames[view], np.array(rows, np.int64), xy))
        return found

    def _nearest(self, index: int, tilt_deg: float) -> list[int]:
        """Other views, the nearest in angle first; twice as many as are needed, as not every patch is in each."""
        others = [view for view in self._frames if view != index]
        return sorted(others, key=lambda v: nearness(self._frames[v].tilt_deg, tilt_deg, v))[: 2 * REFERENCES]

    def _expected(self, near: list[int], known: list[int], tilt_deg: float, shift: Array) -> Array:
        """Where the points should be seen `(n, 2)`: from the views near; their height is within a patch's side."""
        number = {point: n for n, point in enumerate(known)}
        rows = [(i, number[point], xy) for i, v in enumerate(near) for point, xy in self._sights[v].items()]
        view, point = (np.array([row[k] for row in rows], np.int64) for k in (0, 1))
        poses = self._poses([*near, None], tilt_deg, shift)
        terms = geometry.tilt_terms(poses.tilt_deg[view])
        away = np.array([xy for _, _, xy in rows]).reshape(-1, 2) - poses.shift[view]
        aligned = away @ geometry.rotation(self.axis_deg)
        design = np.stack([terms.cos, terms.sin], axis=1)
        normal = np.tile(np.diag([0.0, (1.0 / self._size) ** 2]), (len(known), 1, 1))
        right, points = np.zeros((len(known), 2, 1)), np.zeros((len(known), 3))
        np.add.at(normal, point, design[:, :, None] * design[:, None, :])
        np.add.at(right[:, :, 0], point, design * aligned[:, :1])
        points[:, [0, 2]] = np.linalg.solve(normal, right)[:, :, 0]
        points[point[::-1], 1] = aligned[::-1, 1]  # the nearest view's
        return bundle.predict(poses, points, np.full(len(known), len(near)), np.arange(len(known)))

    @property
    def _size(self) -> int:
        assert self._finder is not None
        return self._finder.size

    def _seed(self, index: int) -> None:
        """New patches at the grid's places that have none, where there are many of these."""
        assert self._finder is not None
        there = np.array(list(self._sights[index].values())).reshape(-1, 2)
        image = self._frames[index].image
        places = patches.with_contrast(image, patches.grid(image.shape, self._size), self._size)
        if len(there):
            nearest = np.hypot(*(places[:, None] - there).transpose(2, 0, 1)).min(1)
            bare = places[nearest > 0.7 * patches.SPACING * self._size]
        else:
            bare = places
        if len(bare) > (1 - SEEDED_SHARE) * len(places):
            for place in bare:
                self._sights[index][self._points] = place
                self._points += 1

    # -- solving ---------------------------------------------------------------------------------------------------

    def _poses(self, views: list[int | None], tilt_deg: float, shift: Array) -> Poses:
        """Views as placed; None stands for the new one."""
        tilts = [tilt_deg if v is None else self._frames[v].tilt_deg for v in views]
        shifts = [shift if v is None else self.shifts[v] for v in views]
        n = len(views)
        return Poses(np.array(tilts), np.full(n, self.axis_deg), np.ones(n), np.array(shifts).reshape(n, 2))

    def _solved(
        self, index: int, frame: Frame, points: NDArray[np.int64], xy: Array, shift: Array
    ) -> tuple[dict[int, float], dict[int, Array]]:
        """Bundle adjustment with a new view: weights of the points that tell in it, shifts of all in their frame."""
        views = [view for view in self._frames if view != index]
        rows = [(i, point, place) for i, v in enumerate(views) for point, place in self._sights[v].items()]
        rows += [(len(views), int(point), place) for point, place in zip(points, xy, strict=True)]
        seen = Counter(point for _, point, _ in rows)
        least = min(TELLING_VIEWS, len(views) + 1)
        rows = [row for row in rows if seen[row[1]] >= least]
        number = {point: n for n, point in enumerate(sorted({point for _, point, _ in rows}))}
        tracks = bundle.make_tracks(
            np.array([i for i, _, _ in rows]),
            np.array([number[point] for _, point, _ in rows]),
            np.array([place for _, _, place in rows]),
        )
        start = self._poses([*views, None], frame.tilt_deg, shift)
        solution = solve_shifts(tracks, start.tilt_deg, self.axis_deg, start.shift, POSITION_PX)
        others = np.arange(len(start.mag)) < len(views)
        poses, _ = bundle.in_frame_of(start._replace(shift=solution.shift), start.shift, others, flat=1.0)
        weights = {row[1]: float(w) for row, w in zip(rows, solution.weights, strict=True) if row[0] == len(views)}
        return weights, dict(zip([*views, index], poses.shift, strict=True))
