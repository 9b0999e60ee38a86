"""From the solution of the bundle adjustment to the alignment that all other steps and files rest on, in raw pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import bundle
from streamtomo.align.basis import Freedoms
from streamtomo.align.bundle import Poses, Solution, Tracks
from streamtomo.align.expected import Expected
from streamtomo.finish.tracked import PlacedView, Tracked
from streamtomo.model import AlignedView, Alignment, WorstPoint

Array = NDArray[np.float64]

TILT_DECIMALS = 2
"""Of the angles in `.tlt` and `.xtilt`: half a hundredth of a degree is 0.04 px at the edge of 1024; gold errs less."""
WORST = 12
"""Positions that are told as the worst."""
FEW_POINTS = 4
"""A view with fewer positions rests on what is beside it."""
GRADES = ((0.1, "very good"), (0.5, "good"), (1.5, "fair"))
"""Expected error in raw pixels, and what it is called up to that."""
OVERFITTED = 1.6
"""A left-out error above this many times the residual: there are few positions for what was solved."""
WORDS = {
    "axis": {"one": "one axis angle", "smooth": "an axis angle that changes smoothly", "each": "an axis angle a view"},
    "tilt": {"smooth": "tilt angles with a smooth error", "each": "each tilt angle"},
    "mag": {"smooth": "a magnification that changes smoothly", "each": "each magnification"},
    "shape": {"smooth": "stretch and skew that change smoothly", "each": "stretch and skew of each view"},
    "beam": {"one": "a beam tilt"},
    "image": {"quadratic": "local motion in the image", "cubic": "fine local motion in the image"},
    "depth": {"quadratic": "local motion in depth", "cubic": "fine local motion in depth"},
}


class Beads(NamedTuple):
    """Measured positions that the alignment rests on, raw pixels: see `export.fiducials`."""

    view: NDArray[np.int64]
    """Which of the views in ascending tilt, `(n,)`."""
    point: NDArray[np.int64]
    xy: Array
    residual: Array
    points: Array
    gold: int
    """So many of the points, the first, are beads; the others are patches."""


class Motion(Struct, frozen=True, kw_only=True):
    """Local motion of the specimen, see `align.local_motion`; raw pixels."""

    reach_px: float
    middle_px: tuple[float, float]
    """X and Y of the specimen that the shapes are told about."""
    coefficients: tuple[tuple[float, ...], ...]
    """For each view x, y and z of the first shape, of the second, and so on."""


class Refined(NamedTuple):
    """The alignment, and what it rests on: beads or patches."""

    alignment: Alignment
    beads: Beads | None = None
    motion: Motion | None = None


class Solved(NamedTuple):
    """A solution, and how good it is."""

    solution: Solution
    expected: Expected
    left_out_px: float


def unaligned(views: Sequence[PlacedView], start: Poses, tracked: Tracked) -> Refined:
    """The live placements as they are."""
    rows = [_row(view, start, i, tracked.binning) for i, view in enumerate(views)]
    axis_deg = float(start.axis_deg.mean())
    verdict = "not refined: the views are where the live alignment has them"
    return Refined(
        Alignment(method=tracked.method, axis_deg=axis_deg, views=tuple(rows), note=tracked.note, verdict=verdict)
    )


def aligned(views: Sequence[PlacedView], start: Poses, found: Solved, tracked: Tracked) -> Refined:
    """Poses in raw pixels, with the specimen's origin where the live placements had it."""
    solution, measured, binning = found.solution, tracked.tracks(), tracked.binning
    poses, origin = bundle.in_frame_of(solution.poses, start.shift)
    poses, unsure = _with_gaps_filled(poses, start, found.expected.told)
    rows = [_measured_row(view, poses, i, found, measured, binning) for i, view in enumerate(views)]
    lengths, weights = binning * np.hypot(*solution.residuals.T), solution.weights * measured.weight
    mean = float(weights @ lengths / weights.sum())
    residual, left_out = binning * solution.rms(measured), binning * found.left_out_px
    error = binning * float(np.hypot(_rms_with_gaps(found.expected, unsure), tracked.apart_px))
    alignment = Alignment(
        method=tracked.method,
        axis_deg=float(poses.axis_deg.mean()),
        views=tuple(rows),
        residual_px=round(residual, 4),
        mean_residual_px=round(mean, 4),
        sd_residual_px=round(float(np.sqrt(max(weights @ lengths**2 / weights.sum() - mean**2, 0.0))), 4),
        left_out_px=round(left_out, 4),
        error_px=_rounded(error),
        points=int((solution.weights > 0).sum()),
        worst=_worst(measured, lengths, solution.weights),
        beam_tilt_deg=round(solution.poses.beam_deg, 4),
        solved=in_words(solution.freedoms),
        heights_px=_heights(solution, measured, float(origin[2]), binning),
        note=tracked.note,
        verdict=_verdict(rows, error, residual, left_out),
    )
    return Refined(alignment, _beads(solution, measured, origin, binning, tracked.beads), _motion(poses, binning))


def in_words(freedoms: Freedoms) -> str:
    """What was free besides a shift of each view."""
    free = [words[kind] for name, words in WORDS.items() if (kind := getattr(freedoms, name)) in words]
    return ", ".join(["the views' shifts", *free])


def _verdict(rows: Sequence[AlignedView], error: float, residual: float, left_out: float) -> str:
    grade = next((word for limit, word in GRADES if error <= limit), "poor")
    words = [f"{grade}: expected error {error:.2g} px"]
    bare, few = sum(row.points == 0 for row in rows), sum(0 < row.points < FEW_POINTS for row in rows)
    if bare:
        words.append(f"views without any point, placed like those beside them: {bare}")
    if few:
        words.append(f"views with fewer than {FEW_POINTS} points: {few}")
    if left_out > OVERFITTED * residual:
        words.append(f"few points for what was solved: left out, they err by {left_out / residual:.1f} residuals")
    return "; ".join(words)


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _row(view: PlacedView, poses: Poses, i: int, binning: int) -> AlignedView:
    """A view's angle is told as files have it; what rounding takes from it is in the transform: nothing is lost."""
    tilt_deg, xtilt_deg, transform = poses._replace(shift=binning * poses.shift).upright(i)
    told_deg = round(tilt_deg, TILT_DECIMALS)
    (a11, a12, dx), (a21, a22, dy) = geometry.invert(geometry.at_tilt(transform, tilt_deg, told_deg)).tolist()
    xf = (a11, a12, a21, a22, dx, dy)
    return AlignedView(index=view.index, tilt_deg=told_deg, xf=xf, xtilt_deg=round(xtilt_deg, TILT_DECIMALS))


def _measured_row(view: PlacedView, poses: Poses, i: int, found: Solved, measured: Tracks, binning: int) -> AlignedView:
    """With how well the view fits and is known, where something was measured in it."""
    row, solution = _row(view, poses, i, binning), found.solution
    here = measured.view == i
    weight = np.where(here, solution.weights * measured.weight, 0.0)
    if weight.sum() <= 0:
        return row
    residual = binning * np.sqrt(weight @ (solution.residuals**2).sum(1) / weight.sum())
    return AlignedView(
        index=row.index,
        tilt_deg=row.tilt_deg,
        xf=row.xf,
        xtilt_deg=row.xtilt_deg,
        residual_px=round(float(residual), 4),
        points=int((here & (solution.weights > 0)).sum()),
        error_px=_rounded(binning * float(found.expected.centre[i])),
        edge_error_px=_rounded(binning * float(found.expected.edge[i])),
    )


def _worst(measured: Tracks, lengths: Array, weights: Array) -> tuple[WorstPoint, ...]:
    far = np.argsort(-lengths * np.sqrt(measured.weight), kind="stable")[:WORST]
    return tuple(
        WorstPoint(
            point=int(measured.point[k]),
            row=int(measured.view[k]),
            residual_px=round(float(lengths[k]), 3),
            weight=round(float(weights[k]), 3),
        )
        for k in far
    )


def _beads(solution: Solution, measured: Tracks, origin: Array, binning: int, gold: int) -> Beads:
    """The positions that count, and the beads they belong to, numbered without gaps."""
    kept = solution.weights > 0
    numbers, point = np.unique(measured.point[kept], return_inverse=True)
    return Beads(
        view=measured.view[kept],
        point=np.asarray(point, np.int64),
        xy=binning * measured.xy[kept],
        residual=binning * solution.residuals[kept],
        points=binning * (solution.points[numbers] - origin),
        gold=int((numbers < gold).sum()),
    )


def _motion(poses: Poses, binning: int) -> Motion | None:
    if not poses.local.any():
        return None
    x, y = poses.middle
    return Motion(
        reach_px=binning * max(poses.field) / 2,
        middle_px=(binning * x, binning * y),
        coefficients=tuple(tuple(row) for row in (binning * poses.local).round(5).tolist()),
    )


def _heights(solution: Solution, measured: Tracks, origin: float, binning: int) -> tuple[float, float] | None:
    """Lowest and highest of the points that count, raw pixels above the origin."""
    told = np.bincount(measured.point, solution.weights, minlength=len(solution.points)) >= 3
    if not told.any():
        return None
    z = binning * (solution.points[told, 2] - origin)
    return round(float(z.min()), 1), round(float(z.max()), 1)


def _with_gaps_filled(poses: Poses, start: Poses, told: NDArray[np.bool_]) -> tuple[Poses, float]:
    """Views in which nothing was measured are corrected like the views beside them; and how far off that may be.

    That is how far off the others would be, RMS, if each were corrected like those beside it.
    """
    correction, order = poses.shift - start.shift, np.arange(len(poses.mag))
    filled = np.stack([np.interp(order, order[told], correction[told, k]) for k in range(2)], axis=1)
    known, at = correction[told], order[told]
    if len(at) < 3:
        return poses._replace(shift=np.where(told[:, None], poses.shift, start.shift + filled)), float("inf")
    share = ((at[1:-1] - at[:-2]) / (at[2:] - at[:-2]))[:, None]
    missed = known[1:-1] - (1 - share) * known[:-2] - share * known[2:]
    unsure = float(np.sqrt((missed**2).sum(1).mean()))
    return poses._replace(shift=np.where(told[:, None], poses.shift, start.shift + filled)), unsure


def _rms_with_gaps(expected: Expected, unsure: float) -> float:
    """Expected error over all views, those without measurements included."""
    missing = 1 - float(expected.told.mean())
    if not missing:
        return expected.rms
    return float(np.sqrt((1 - missing) * expected.rms**2 + missing * unsure**2))
