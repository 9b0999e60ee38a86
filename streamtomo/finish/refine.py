"""The final alignment: by gold beads where there are enough, else by patches, from the live placements as a start.

Lengths are pixels of the images given (binned) inside, and raw pixels in what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import geometry, jit
from streamtomo.align import bead_fit, beads, bundle, remeasure, tracks
from streamtomo.align.basis import Freedoms
from streamtomo.align.bundle import Poses, Solution, Tracks
from streamtomo.align.correlate import Band
from streamtomo.align.freedoms import solve_freely
from streamtomo.align.patch_tracks import PatchTracks
from streamtomo.align.shade import unshaded
from streamtomo.model import AlignedView, Alignment

Array = NDArray[np.float64]
Image = NDArray[np.float32]
Method = Literal["auto", "beads", "patches", "coarse"]

LOW_TILT_VIEWS = 3
"""Views of low tilt from which the beads' size is found."""
GATE_SHARE, GATE_RADII = 0.008, 1.0
"""How far the live placements may be off: a share of the field, and at least so many bead radii."""
DEPTH_SHARE = 0.35
"""Largest height of a bead as a share of the field's longer side."""
MEASUREMENTS = 3
"""Rounds of measuring the beads and solving."""
LEAST_BEADS = 3
BARE_SHARE = 0.25
"""More views without two beads than this share, and the beads are not enough."""
WORST_RESIDUAL_PX, WORST_RESIDUAL_RADII = 0.5, 0.1
"""What fits worse than this is no gold."""
PATCH_SIDE_PX = 600
"""Patches are followed in images whose longer side is about this."""
PATCH_BAND = Band(0.01, 0.15)
PATCH_VIEWS = 6
"""Views in which a patch must be found."""
PATCH_ERROR_PX = 0.5
"""Error of a patch's position that the noise does not explain."""


class PlacedView(Struct, frozen=True, kw_only=True):
    """Where the live lane left one view."""

    index: int
    angle_deg: float
    shift_xy: tuple[float, float]
    """Where the specimen lies, raw pixels."""


class RefineView(PlacedView, frozen=True, kw_only=True):
    """One view as the live lane left it."""

    image: NDArray[np.float32]
    """Corrected and binned, `(ny, nx)`."""


class Tracked(Struct, frozen=True, kw_only=True):
    """Positions followed from view to view, in pixels of the images that they were measured in."""

    method: str
    """"beads", "patches" or "coarse": then there are none."""
    note: str
    binning: int
    view: tuple[int, ...] = ()
    """Row of each position, views in ascending tilt."""
    point: tuple[int, ...] = ()
    xy: tuple[tuple[float, float], ...] = ()
    weight: tuple[float, ...] = ()

    def tracks(self) -> Tracks:
        """As the solver takes them."""
        return Tracks(
            np.array(self.view, np.int64), np.array(self.point, np.int64), np.array(self.xy), np.array(self.weight)
        )


class Beads(NamedTuple):
    """Measured positions that the alignment rests on, raw pixels: see `export.fiducials`."""

    view: NDArray[np.int64]
    """Which of the views in ascending tilt, `(n,)`."""
    point: NDArray[np.int64]
    xy: Array
    residual: Array
    points: Array


class Refined(NamedTuple):
    """The alignment, and what it rests on: beads or patches."""

    alignment: Alignment
    beads: Beads | None = None


class _Solved(NamedTuple):
    """A solution with its measured positions, or why there is none."""

    solution: Solution | None
    tracks: Tracks | None
    note: str


def refine(
    views: Sequence[RefineView],
    *,
    axis_deg: float,
    binning: int,
    pixel_size_A: float | None,
    bead_nm: float | None,
    method: Method,
) -> Refined:
    """Align the views, in ascending tilt; what cannot be refined keeps its live placement, and the note says why."""
    tracked, solution = track(
        views, axis_deg=axis_deg, binning=binning, pixel_size_A=pixel_size_A, bead_nm=bead_nm, method=method
    )
    return solve(views, tracked, axis_deg=axis_deg, solution=solution)


def track(
    views: Sequence[RefineView],
    *,
    axis_deg: float,
    binning: int,
    pixel_size_A: float | None,
    bead_nm: float | None,
    method: Method,
) -> tuple[Tracked, Solution | None]:
    """Follow beads where there are enough, else patches; with the solution that they were judged by."""
    ordered = _ordered(views)
    images = [view.image for view in ordered]
    start = start_poses(ordered, axis_deg, binning)
    notes = []
    if method in ("auto", "beads"):
        radius_px = bead_nm * 5 / (pixel_size_A * binning) if bead_nm and pixel_size_A else None
        solved = _by_beads(images, start, radius_px)
        notes.append(solved.note)
        if solved.tracks is not None:
            return _tracked("beads", solved, binning, notes), solved.solution
    if method in ("auto", "patches"):
        solved = _by_patches(images, start)
        notes.append(solved.note)
        if solved.tracks is not None:
            return _tracked("patches", solved, binning, notes), solved.solution
    return Tracked(method="coarse", note="; ".join(notes), binning=binning), None


def solve(
    views: Sequence[PlacedView], tracked: Tracked, *, axis_deg: float, solution: Solution | None = None
) -> Refined:
    """The alignment that the tracks support; `solution` is theirs where it is known already."""
    ordered = _ordered(views)
    start = start_poses(ordered, axis_deg, tracked.binning)
    if tracked.method == "coarse":
        return _alignment(ordered, start, None, tracked)
    if solution is None:
        solution = _solution(tracked.method, tracked.tracks(), start)
    return _alignment(ordered, start, solution, tracked)


def _solution(method: str, measured: Tracks, start: Poses) -> Solution:
    if method == "beads":
        return solve_freely(measured, start).solution
    # Neighbouring views of a patch err together: a left-out error cannot tell more freedoms from this.
    return bundle.solve(measured, start, Freedoms(), floor_px=PATCH_ERROR_PX)


def start_poses(views: Sequence[PlacedView], axis_deg: float, binning: int) -> Poses:
    """The live placements of views in ascending tilt, in pixels of images binned so."""
    return Poses(
        tilt_deg=np.array([view.angle_deg for view in views]),
        axis_deg=np.full(len(views), axis_deg),
        mag=np.ones(len(views)),
        shift=np.array([view.shift_xy for view in views]) / binning,
    )


View = TypeVar("View", bound=PlacedView)


def _ordered(views: Sequence[View]) -> list[View]:
    return sorted(views, key=lambda view: (view.angle_deg, view.index))


def _tracked(method: str, solved: _Solved, binning: int, notes: Sequence[str]) -> Tracked:
    assert solved.tracks is not None
    measured = solved.tracks
    return Tracked(
        method=method,
        note="; ".join(notes),
        binning=binning,
        view=tuple(measured.view.tolist()),
        point=tuple(measured.point.tolist()),
        xy=tuple((x, y) for x, y in measured.xy.tolist()),
        weight=tuple(measured.weight.tolist()),
    )


# -- beads ---------------------------------------------------------------------------------------------------------


def _by_beads(images: Sequence[Image], start: Poses, radius_px: float | None) -> _Solved:
    low = np.argsort(np.abs(start.tilt_deg), kind="stable")[:LOW_TILT_VIEWS]
    shape = beads.find_shape([images[i] for i in low], radius_px)
    candidates = jit.each(lambda image: beads.find_candidates(image, shape), images)
    ny, nx = images[0].shape
    gate = max(GATE_SHARE * max(nx, ny), GATE_RADII * shape.radius_px)
    search = tracks.Search((nx, ny), shape.radius_px, gate, DEPTH_SHARE * max(nx, ny))
    found = tracks.find_tracks(candidates, start, search)
    if found is None:
        return _Solved(None, None, "no beads found")
    solution = found.solution
    size = len(bead_fit.sphere_profile(shape.radius_px))
    for _ in range(MEASUREMENTS):
        profile = remeasure.profile_at(images, solution, shape, size)
        for clear in remeasure.CLEAR_RADII:
            measured = remeasure.measure(images, solution, shape, profile, clear)
            lacking = _lacking(measured, len(images))
            if not lacking:
                break
        if lacking:
            return _Solved(None, None, lacking)
        solution = bundle.solve(measured, start)
    solution = _solution("beads", measured, start)
    limit = max(WORST_RESIDUAL_PX, WORST_RESIDUAL_RADII * shape.radius_px)
    residual = solution.rms(measured)
    count = len(solution.points)
    if residual > limit:
        return _Solved(None, None, f"{count} tracks fit to {residual:.1f} px only: no gold")
    return _Solved(solution, measured, f"{count} beads")


def _lacking(positions: Tracks, n: int) -> str:
    """What is missing for an alignment by beads, in words; nothing if they are enough."""
    count = int(positions.point.max(initial=-1)) + 1
    if count < LEAST_BEADS:
        return f"{count} beads, {LEAST_BEADS} are needed"
    bare = int((np.bincount(positions.view, minlength=n) < 2).sum())
    return f"{count} beads, but {bare} of {n} views show fewer than 2" if bare > BARE_SHARE * n else ""


# -- patches -------------------------------------------------------------------------------------------------------


def _by_patches(images: Sequence[Image], start: Poses) -> _Solved:
    factor = max(1, round(max(images[0].shape) / PATCH_SIDE_PX))
    followed = PatchTracks(float(start.axis_deg[0]), PATCH_BAND)
    for i in np.argsort(np.abs(start.tilt_deg), kind="stable").tolist():
        small, offset = _shrunk(unshaded(images[i]), factor)
        tilt_deg, shift = float(start.tilt_deg[i]), start.shift[i] / factor + offset
        followed.accept(i, tilt_deg, small, followed.place(i, tilt_deg, small, shift))
    measured = followed.tracks(PATCH_VIEWS)
    measured = measured._replace(xy=factor * (measured.xy - offset))
    if len(np.unique(measured.view)) < len(images) // 2:
        return _Solved(None, None, "patches could not be followed")
    solution = _solution("patches", measured, start)
    return _Solved(solution, measured, f"{len(solution.points)} patches")


def _shrunk(image: Image, factor: int) -> tuple[Image, Array]:
    """Block means of an image, and where its centre lies in them, relative to theirs."""
    ny, nx = (n // factor for n in image.shape)
    blocks = image[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor)
    offset = [(n - m * factor) / (2 * factor) for n, m in zip(image.shape[::-1], (nx, ny), strict=True)]
    return np.ascontiguousarray(blocks.mean(axis=(1, 3), dtype=np.float32)), np.array(offset)


# -- results -------------------------------------------------------------------------------------------------------


def _alignment(views: Sequence[PlacedView], start: Poses, solution: Solution | None, tracked: Tracked) -> Refined:
    """Poses in raw pixels, with the specimen's origin where the live placements had it."""
    poses, binning = start, tracked.binning
    residuals: list[float | None] = [None] * len(views)
    points, total, heights, error, found = 0, None, None, None, None
    if solution is not None:
        measured, by_beads = tracked.tracks(), tracked.method == "beads"
        poses, origin = bundle.in_frame_of(solution.poses, start.shift)
        poses = _with_gaps_filled(poses, start, measured, solution.weights)
        found = _beads(solution, measured, origin, binning)
        heights = _heights(solution, measured, float(origin[2]), binning)
        residuals = [_residual(solution, measured, i, binning) for i in range(len(views))]
        error = round(binning * float(np.sqrt((solution.error**2).mean())), 4) if by_beads else None
        points, total = int((solution.weights > 0).sum()), round(solution.rms(measured) * binning, 4)
    rows = [
        AlignedView(index=view.index, tilt_deg=float(poses.tilt_deg[i]), xf=_xf(poses, i, binning), residual_px=rest)
        for i, (view, rest) in enumerate(zip(views, residuals, strict=True))
    ]
    alignment = Alignment(
        method=tracked.method,
        axis_deg=float(poses.axis_deg.mean()),
        views=tuple(rows),
        residual_px=total,
        error_px=error,
        points=points,
        heights_px=heights,
        note=tracked.note,
    )
    return Refined(alignment, found)


def _beads(solution: Solution, measured: Tracks, origin: Array, binning: int) -> Beads:
    """The positions that count, and the beads they belong to, numbered without gaps."""
    kept = solution.weights > 0
    numbers, point = np.unique(measured.point[kept], return_inverse=True)
    return Beads(
        view=measured.view[kept],
        point=np.asarray(point, np.int64),
        xy=binning * measured.xy[kept],
        residual=binning * solution.residuals[kept],
        points=binning * (solution.points[numbers] - origin),
    )


def _xf(poses: Poses, i: int, binning: int) -> tuple[float, float, float, float, float, float]:
    row = geometry.invert(poses._replace(shift=binning * poses.shift).aligned_to_raw(i))
    (a11, a12, dx), (a21, a22, dy) = row.tolist()
    return a11, a12, a21, a22, dx, dy


def _residual(solution: Solution, measured: Tracks, view: int, binning: int) -> float | None:
    """Weighted RMS of one view in raw pixels; None where nothing was measured."""
    weight = np.where(measured.view == view, solution.weights * measured.weight, 0.0)
    if weight.sum() <= 0:
        return None
    squares = (solution.residuals**2).sum(1)
    return round(float(binning * np.sqrt(weight @ squares / weight.sum())), 4)


def _heights(solution: Solution, measured: Tracks, origin: float, binning: int) -> tuple[float, float] | None:
    """Lowest and highest of the points that count, raw pixels above the origin."""
    told = np.bincount(measured.point, solution.weights, minlength=len(solution.points)) >= 3
    if not told.any():
        return None
    z = binning * (solution.points[told, 2] - origin)
    return round(float(z.min()), 1), round(float(z.max()), 1)


def _with_gaps_filled(poses: Poses, start: Poses, measured: Tracks, weights: Array) -> Poses:
    """Views in which nothing was measured are corrected like the views beside them."""
    told = np.bincount(measured.view, weights, minlength=len(poses.mag)) > 0
    correction, order = poses.shift - start.shift, np.arange(len(poses.mag))
    filled = np.stack([np.interp(order, order[told], correction[told, k]) for k in range(2)], axis=1)
    return poses._replace(shift=np.where(told[:, None], poses.shift, start.shift + filled))
