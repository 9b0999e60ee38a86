"""Tracks of beads by geometry: a 3-D model that grows from the lowest tilt outwards.

In each further view the beads known so far are predicted, the view's own shift is found by a vote of all pairs of
prediction and candidate, candidates are assigned within a gate that follows how well each prediction is known, and the
model is solved again. Gaps are allowed: what is not found in one view is looked for in the next. Positions are pixels
about the image's centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import bundle
from streamtomo.align.basis import Freedoms
from streamtomo.align.beads import Candidates
from streamtomo.align.bundle import Poses, Solution, Tracks

Array = NDArray[np.float64]
Index = NDArray[np.int64]

MOST_POINTS = 80
FAMILIAR_SHARE = 0.5
"""A candidate weaker than this share of a bead's usual strength, or a bead's of its, is another thing."""
POSITION_PX = 0.3
"""Expected error of a candidate's position."""
GATE_SD = 4.0
REASSIGNED_GATE_PX = 3.0
LEAST_VIEWS = 4
"""Views in which a bead must be found; also after this many more views one found only once is given up."""


class Search(NamedTuple):
    """Lengths that bound the search, pixels."""

    radius: float
    """Radius of a bead."""
    shift: float
    """How far the coarse alignment may be off from one view to the next."""
    depth: float
    """Standard deviation of the beads' height about the middle of the specimen."""


class _Growing:
    """The model while it grows: assigned candidates, poses corrected so far, points."""

    def __init__(self, candidates: Sequence[Candidates], start: Poses, search: Search) -> None:
        self.candidates = candidates
        self.start = start
        self.search = search
        self.poses = start._replace(shift=start.shift.copy())
        self.done: list[int] = []
        self.view: list[int] = []
        self.point: list[int] = []
        self.xy: list[Array] = []
        self.strength: list[float] = []
        self.points = np.zeros((0, 3))
        self.born: list[int] = []

    def add(self, i: int) -> None:
        """Take one more view into the model."""
        found = self.candidates[i]
        nearest = min(self.done, key=lambda other: abs(other - i), default=i)
        self.poses.shift[i] = self.start.shift[i] + self.poses.shift[nearest] - self.start.shift[nearest]
        alive = self._alive()
        taken = np.zeros(len(found.xy), bool)
        if len(alive) and len(found.xy):
            gates = np.maximum(GATE_SD * self._uncertainty(i, alive), 2.0)
            offset = vote(self._predicted(i, alive), found.xy, self.search.shift + gates, 2.0 + 0.5 * gates)
            self.poses.shift[i] += offset
            matches = assign(self._predicted(i, alive), found, gates, self._usual_strength(alive))
            for j, k in matches:
                self._record(i, int(alive[j]), k)
                taken[k] = True
        self.done.append(i)
        self._solve()
        self._seed(i, np.flatnonzero(~taken))

    def tracks(self) -> Tracks:
        """The assigned candidates."""
        return bundle.make_tracks(np.array(self.view), np.array(self.point), np.array(self.xy))

    def _record(self, i: int, j: int, k: int) -> None:
        self.view.append(i)
        self.point.append(j)
        self.xy.append(self.candidates[i].xy[k])
        self.strength.append(float(self.candidates[i].strength[k]))

    def _alive(self) -> Index:
        """Points that are found often enough for their age."""
        counts = np.bincount(np.array(self.point, int), minlength=len(self.points))
        age = len(self.done) - np.array(self.born, int)
        return np.flatnonzero((counts >= LEAST_VIEWS) | (age <= LEAST_VIEWS) | (2 * counts >= age))

    def _predicted(self, i: int, points: Index) -> Array:
        return bundle.predict(self.poses, self.points, np.full(len(points), i), points)

    def _usual_strength(self, points: Index) -> Array:
        strength, point = np.array(self.strength), np.array(self.point)
        return np.array([np.median(strength[point == j]) for j in points])

    def _uncertainty(self, i: int, points: Index) -> Array:
        """Standard deviation of predictions across the tilt axis, from the tilts each point was seen at, `(n,)`."""
        tilts = geometry.tilt_terms(self.start.tilt_deg)
        view, point = np.array(self.view), np.array(self.point)
        here = np.array([tilts.cos[i], tilts.sin[i]])
        deviation = np.empty(len(points))
        for n, j in enumerate(points):
            rows = np.stack([tilts.cos, tilts.sin], axis=1)[view[point == j]]
            information = rows.T @ rows / POSITION_PX**2 + np.diag([0.0, 1 / self.search.depth**2])
            deviation[n] = np.sqrt(here @ np.linalg.inv(information) @ here)
        return deviation

    def _solve(self) -> None:
        """Shifts and points again; the views not done yet take no part."""
        if len(self.done) < 2 or not self.view:
            return
        used, compact = np.unique(self.point, return_inverse=True)
        tracks = self.tracks()._replace(point=compact.astype(np.int64))
        solution = bundle.solve(tracks, self.start, Freedoms(axis="fixed"), floor_px=POSITION_PX)
        done = np.array(self.done)
        self.poses.shift[done] = solution.poses.shift[done]
        self.points[used] = solution.points

    def _seed(self, i: int, free: Index) -> None:
        """Candidates that belong to no point begin new ones, the strongest first, flat in the middle."""
        room = MOST_POINTS - len(self._alive())
        near = self._predicted(i, np.arange(len(self.points)))
        cos = geometry.tilt_terms(self.start.tilt_deg[i]).cos
        inverse = geometry.raw_to_aligned(float(self.start.axis_deg[i]), self.poses.shift[i])
        for k in free[: max(0, room)]:
            xy = self.candidates[i].xy[k]
            if len(near) and np.hypot(*(near - xy).T).min() < 2 * self.search.radius:
                continue
            x, y = geometry.apply(inverse, xy.reshape(1, 2))[0]
            self.points = np.vstack([self.points, [x / cos, y, 0.0]])
            self.born.append(len(self.done))
            self._record(i, len(self.points) - 1, int(k))


def grow(candidates: Sequence[Candidates], start: Poses, search: Search) -> tuple[Tracks, Solution] | None:
    """Track beads through views in ascending tilt; None where no bead is found in enough views."""
    growing = _Growing(candidates, start, search)
    for i in np.argsort(np.abs(start.tilt_deg), kind="stable"):
        growing.add(int(i))
    tracks = _without_short(growing.tracks())
    if not len(tracks.view):
        return None
    solution = bundle.solve(tracks, start, Freedoms(axis="fixed"), floor_px=POSITION_PX)
    for _ in range(2):
        tracks = _without_short(reassign(candidates, solution, REASSIGNED_GATE_PX))
        if not len(tracks.view):
            return None
        solution = bundle.solve(tracks, start, floor_px=POSITION_PX)
    return tracks, solution


def reassign(candidates: Sequence[Candidates], solution: Solution, gate_px: float) -> Tracks:
    """Tracks made anew: in every view the candidate next to each prediction."""
    view, point, xy = [], [], []
    everyone = np.arange(len(solution.points))
    for i, found in enumerate(candidates):
        predicted = bundle.predict(solution.poses, solution.points, np.full(len(everyone), i), everyone)
        for j, k in assign(predicted, found, np.full(len(everyone), gate_px)):
            view.append(i)
            point.append(j)
            xy.append(found.xy[k])
    return bundle.make_tracks(np.array(view), np.array(point), np.array(xy))


def vote(predicted: Array, found: Array, reach: Array, radius: Array) -> Array:
    """The shift `(2,)` that brings most predictions onto candidates: the densest spot among all pair differences.

    `reach` and `radius` `(n,)`: how far a prediction may be off in all, and within what it supports a shift.
    """
    difference = found[None] - predicted[:, None]
    close = np.hypot(difference[..., 0], difference[..., 1]) <= reach[:, None]
    offsets, owner = difference[close], np.nonzero(close)[0]
    if not len(offsets):
        return np.zeros(2)
    apart = np.hypot(*(offsets[:, None] - offsets[None]).transpose(2, 0, 1)) / radius[owner][None]
    support = np.clip(1 - apart**2, 0, None)
    most = int(np.argmax(support.sum(1) - 1e-3 * np.hypot(*offsets.T)))
    weights = support[most]
    mean: Array = weights @ offsets / weights.sum()
    return mean


def assign(predicted: Array, found: Candidates, gates: Array, usual: Array | None = None) -> list[tuple[int, int]]:
    """Pairs (prediction, candidate) that are each other's nearest, within the gate, and of like strength."""
    if not len(predicted) or not len(found.xy):
        return []
    distance = np.hypot(*(found.xy[None] - predicted[:, None]).transpose(2, 0, 1))
    if usual is not None:
        ratio = found.strength[None] / usual[:, None]
        distance = np.where((ratio < FAMILIAR_SHARE) | (ratio > 1 / FAMILIAR_SHARE), np.inf, distance)
    best = distance.argmin(1)
    back = distance.argmin(0)
    return [(j, int(k)) for j, k in enumerate(best) if back[k] == j and distance[j, k] <= gates[j]]


def _without_short(tracks: Tracks, least: int = LEAST_VIEWS) -> Tracks:
    """Only points found in enough views, numbered without gaps."""
    counts = np.bincount(tracks.point, minlength=1) if len(tracks.point) else np.zeros(1, int)
    kept = (counts >= least)[tracks.point] if len(tracks.point) else np.zeros(0, bool)
    return select(tracks, kept)


def select(tracks: Tracks, kept: NDArray[np.bool_]) -> Tracks:
    """Some of the positions, points numbered without gaps."""
    point = np.unique(tracks.point[kept], return_inverse=True)[1] if kept.any() else np.zeros(0, np.int64)
    return Tracks(tracks.view[kept], np.asarray(point, np.int64), tracks.xy[kept], tracks.weight[kept])
