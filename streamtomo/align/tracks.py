"""Tracks of beads by geometry: points of the specimen are looked for, not the same spot in the next view.

A candidate of one view and an assumed height are a point of the specimen, and the coarse alignment says where all other
views should show it. By chance that many candidates do not lie there: the points with more support than chance explains
are beads, whatever else is on the views. The model of these beads is then solved, each view's shift is found anew by a
vote where too little fits, and the beads are assigned again within gates that narrow. Positions are pixels about the
image's centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import bundle, track_kernels
from streamtomo.align.basis import Freedoms
from streamtomo.align.beads import Candidates
from streamtomo.align.bundle import Poses, Solution, Tracks

Array = NDArray[np.float64]
Index = NDArray[np.int64]

SEED_VIEWS = 7
"""Views, evenly spread, whose candidates begin points."""
SEEDS_PER_VIEW = 80
MOST_POINTS = 100
POSITION_PX = 0.3
"""Expected error of a candidate's position."""
CHANCE = 1e-3
"""Points expected to be found where there are none."""
LEAST_VIEWS = 5
"""Views in which a bead must be found."""
FAMILY_SHARE = 0.5
FAMILY_STRONGEST = 8
"""Beads are at least this share as strong as the middle one of so many of the strongest."""
GATES = (1.0, 0.5, 0.25)
"""Gates of the rounds of assignment, in units of the first."""
LEAST_GATE_PX = 2.0
VOTE_SHARE = 0.4
"""Where less than this share of the beads that should be seen is found, a view's shift is voted on."""
VOTE_GATE_PX = 4.0


class Search(NamedTuple):
    """Lengths that bound the search, pixels."""

    field: tuple[int, int]
    """Width and height of the views."""
    radius: float
    """Radius of a bead."""
    gate: float
    """How far the coarse alignment may be off."""
    depth: float
    """Largest height of a bead above or below the middle of the specimen."""


class Found(NamedTuple):
    """Tracked beads and their model."""

    tracks: Tracks
    solution: Solution


def find_tracks(candidates: Sequence[Candidates], start: Poses, search: Search) -> Found | None:
    """Beads in the candidates of all views; None where there are none."""
    points = _strong_points(candidates, start, search)
    tracks = _first_tracks(candidates, start, points, search)
    if not len(tracks.view):
        return None
    solution = bundle.solve(tracks, start, Freedoms(axis="fixed"), floor_px=POSITION_PX)
    for round_, share in enumerate(GATES):
        start = start._replace(shift=_voted(candidates, solution, search))
        gate = max(LEAST_GATE_PX, share * search.gate)
        moved = solution._replace(poses=solution.poses._replace(shift=start.shift))
        tracks = without_short(reassign(candidates, moved, gate))
        if not len(tracks.view):
            return None
        freedoms = Freedoms(axis="fixed") if round_ == 0 else None
        solution = bundle.solve(tracks, start, freedoms, floor_px=POSITION_PX)
    return Found(tracks, solution)


# ------------------------------------------------------------------------------------------------------ first points


def _strong_points(candidates: Sequence[Candidates], start: Poses, search: Search) -> Array:
    """Specimen points `(n, 3)` that more candidates support than chance explains, the best supported first."""
    seeds, strength = _seeds(candidates, start)
    steps = 2 * int(np.ceil(search.depth / (0.6 * search.gate))) + 1
    heights = np.linspace(-search.depth, search.depth, steps)
    support, count, expected = _support(candidates, start, search, seeds, strength, heights)
    best = support.argmax(1)
    rows = np.arange(len(seeds))
    count, expected = count[rows, best], np.maximum(expected[rows, best], 1e-6)
    evidence = count * np.log(np.maximum(count, 1e-9) / expected) - count + expected
    strong = (count >= LEAST_VIEWS) & (count > expected) & (evidence > np.log(max(1, support.size) / CHANCE))
    points = _on_ray(seeds, heights[best])
    order = np.argsort(-support[rows, best], kind="stable")
    found: Array = points[order[strong[order]]]
    return found


class _Seeds(NamedTuple):
    """Rays: position in the aligned view `(n, 2)`, cosine and sine of the tilt `(n,)`."""

    aligned: Array
    cos: Array
    sin: Array

    def __len__(self) -> int:
        return len(self.cos)


def _seeds(candidates: Sequence[Candidates], start: Poses) -> tuple[_Seeds, Array]:
    """The strongest candidates of some views as rays through the specimen, and their strengths."""
    n = len(candidates)
    chosen = np.unique(np.linspace(0, n - 1, min(n, SEED_VIEWS)).round().astype(int))
    terms = geometry.tilt_terms(start.tilt_deg)
    aligned, strength, view = [np.zeros((0, 2))], [np.zeros(0)], [np.zeros(0, int)]
    for i in chosen:
        inverse = geometry.invert(start.aligned_to_raw(i))
        aligned.append(geometry.apply(inverse, candidates[i].xy[:SEEDS_PER_VIEW]))
        strength.append(candidates[i].strength[:SEEDS_PER_VIEW])
        view.append(np.full(len(aligned[-1]), i))
    where = np.concatenate(view)
    return _Seeds(np.concatenate(aligned), terms.cos[where], terms.sin[where]), np.concatenate(strength)


def _on_ray(seeds: _Seeds, heights: Array) -> Array:
    """The points `(n, 3)` at given heights on the seeds' rays."""
    x = (seeds.aligned[:, 0] - heights * seeds.sin) / seeds.cos
    return np.column_stack([x, seeds.aligned[:, 1], heights])


def _support(
    candidates: Sequence[Candidates], start: Poses, search: Search, seeds: _Seeds, strength: Array, heights: Array
) -> tuple[Array, Array, Array]:
    """Support, number of supporting views, and that number by chance, each `(seeds, heights)`."""
    first, xy = _listed(candidates)
    strengths = np.concatenate([found.strength for found in candidates])
    support, count, expected = (np.zeros((len(seeds), len(heights))) for _ in range(3))
    track_kernels.support(
        np.column_stack([seeds.aligned, seeds.cos, seeds.sin, strength]), heights, bundle.terms_of(start), start.shift,
        first, xy, strengths, np.array([search.field[0], search.field[1], search.gate], np.float64),
        support, count, expected,
    )  # fmt: skip
    return support, count, expected


def _first_tracks(candidates: Sequence[Candidates], start: Poses, points: Array, search: Search) -> Tracks:
    """Tracks of the points, best supported first; each candidate belongs to one, weak families are left out."""
    free = [np.ones(len(found.xy), bool) for found in candidates]
    tracked: list[tuple[list[tuple[int, int]], float]] = []
    for seen in _nearest(candidates, start, points, search.gate).tolist():
        if len(tracked) >= MOST_POINTS:
            break
        near = [(i, k) for i, k in enumerate(seen) if k >= 0]
        own = [(i, k) for i, k in near if free[i][k]]
        if len(own) < LEAST_VIEWS or 2 * len(own) < len(near):
            continue
        for i, k in own:
            free[i][k] = False
        tracked.append((own, float(np.median([candidates[i].strength[k] for i, k in own]))))
    kept = _family([strength for _, strength in tracked])
    rows = [(i, j, k) for j, n in enumerate(kept) for i, k in tracked[n][0]]
    view, point_of = np.array([row[0] for row in rows], int), np.array([row[1] for row in rows], int)
    return bundle.make_tracks(view, point_of, np.array([candidates[i].xy[k] for i, _, k in rows]))


def _nearest(candidates: Sequence[Candidates], start: Poses, points: Array, gate: float) -> Index:
    """Which candidate of each view is nearest to each point's prediction, `(points, views)`; -1: none in the gate."""
    found = np.empty((len(points), len(candidates)), np.int64)
    point, view = (index.ravel() for index in np.indices(found.shape))
    predicted = bundle.predict(start, points, view, point).reshape(*found.shape, 2)
    track_kernels.nearest(predicted, *_listed(candidates), np.float64(gate), found)
    return found


def _listed(candidates: Sequence[Candidates]) -> tuple[Index, Array]:
    """Candidates of all views one after the other, `(n, 2)`, and where those of each view begin and end."""
    first = np.cumsum([0, *(len(found.xy) for found in candidates)]).astype(np.int64)
    return first, np.concatenate([found.xy for found in candidates])


def _family(strengths: Sequence[float]) -> list[int]:
    """Tracks as strong as beads are: gold is stronger than what else is compact."""
    strongest = sorted(strengths, reverse=True)[:FAMILY_STRONGEST]
    limit = FAMILY_SHARE * float(np.median(strongest)) if strongest else 0.0
    return [n for n, strength in enumerate(strengths) if strength >= limit]


# ------------------------------------------------------------------------------------------------ assignment by model


def reassign(candidates: Sequence[Candidates], solution: Solution, gate_px: float) -> Tracks:
    """Tracks made anew: in every view the candidate next to each prediction."""
    view, point, xy = [], [], []
    everyone = np.arange(len(solution.points))
    for i, found in enumerate(candidates):
        predicted = bundle.predict(solution.poses, solution.points, np.full(len(everyone), i), everyone)
        for j, k in assign(predicted, found.xy, gate_px):
            view.append(i)
            point.append(j)
            xy.append(found.xy[k])
    return bundle.make_tracks(np.array(view), np.array(point), np.array(xy))


def assign(predicted: Array, found: Array, gate_px: float) -> list[tuple[int, int]]:
    """Pairs (prediction, candidate) that are each other's nearest, within the gate."""
    if not len(predicted) or not len(found):
        return []
    distance = np.hypot(*(found[None] - predicted[:, None]).transpose(2, 0, 1))
    best, back = distance.argmin(1), distance.argmin(0)
    return [(j, int(k)) for j, k in enumerate(best) if back[k] == j and distance[j, k] <= gate_px]


def _voted(candidates: Sequence[Candidates], solution: Solution, search: Search) -> Array:
    """Shifts `(views, 2)` of the solution, moved by a vote where too few beads are found."""
    shift = solution.poses.shift.copy()
    everyone = np.arange(len(solution.points))
    half = np.array(search.field) / 2 - 2 * search.radius
    order = np.argsort(np.abs(solution.poses.tilt_deg), kind="stable")
    settled: list[int] = []
    for i in order:
        predicted = bundle.predict(solution.poses, solution.points, np.full(len(everyone), i), everyone)
        seen = predicted[(np.abs(predicted) < half).all(1)]
        found = candidates[i].xy
        if len(assign(seen, found, VOTE_GATE_PX)) >= VOTE_SHARE * max(len(seen), 1):
            settled.append(int(i))
            continue
        offset = vote(predicted, found, float(max(search.field)) / 2, VOTE_GATE_PX)
        moved = predicted + offset
        seen = moved[(np.abs(moved) < half).all(1)]
        if len(assign(seen, found, VOTE_GATE_PX)) >= max(3.0, VOTE_SHARE * len(seen)):
            shift[i] += offset
    return shift


def vote(predicted: Array, found: Array, reach_px: float, radius_px: float) -> Array:
    """The shift `(2,)` that brings most predictions onto candidates: the densest spot among all pair differences."""
    difference = (found[None] - predicted[:, None]).reshape(-1, 2)
    offsets = difference[np.hypot(*difference.T) <= reach_px]
    if not len(offsets):
        return np.zeros(2)
    nearness = np.array([track_kernels.density(offsets, offset, radius_px) for offset in offsets])
    most = offsets[int(np.argmax(nearness - 1e-6 * np.hypot(*offsets.T)))]
    close = np.hypot(*(offsets - most).T) <= radius_px
    mean: Array = offsets[close].mean(0)
    return mean


def without_short(tracks: Tracks, least: int = LEAST_VIEWS) -> Tracks:
    """Only points found in enough views, numbered without gaps."""
    if not len(tracks.point):
        return tracks
    return select(tracks, (np.bincount(tracks.point) >= least)[tracks.point])


def select(tracks: Tracks, kept: NDArray[np.bool_]) -> Tracks:
    """Some of the positions, points numbered without gaps."""
    point = np.unique(tracks.point[kept], return_inverse=True)[1] if kept.any() else np.zeros(0, np.int64)
    return Tracks(tracks.view[kept], np.asarray(point, np.int64), tracks.xy[kept], tracks.weight[kept])
