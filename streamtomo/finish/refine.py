"""The final alignment: by gold beads where there are enough, else by patches or by both, from the live placements.

Lengths are pixels of the images given (binned) inside, and raw pixels in what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from streamtomo import jit
from streamtomo.align import bead_fit, beads, bundle, remeasure, tracks
from streamtomo.align.basis import Freedoms
from streamtomo.align.bundle import Poses, Tracks
from streamtomo.align.correlate import Band
from streamtomo.align.freedoms import Validated, solve_freely, supported, validated
from streamtomo.align.linked_patches import Start, link_patches
from streamtomo.align.patch_tracks import PatchTracks
from streamtomo.align.shade import unshaded
from streamtomo.finish import mixed
from streamtomo.finish.aligned import Refined, Solved, aligned, unaligned
from streamtomo.finish.evidence import agreements
from streamtomo.finish.tracked import PlacedView, RefineView, Tracked, in_order, start_poses, tracked

Array = NDArray[np.float64]
Image = NDArray[np.float32]
Method = Literal["auto", "beads", "patches", "mixed", "coarse"]

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
"""Error of a patch's position that the noise does not explain; beads that leave more than this open in the field are
helped by patches."""
LEAST_LINKED, LEAST_LINKED_PX = 8, 128
"""Fewer views than this are not linked, nor smaller ones."""
LEAST_GAIN = 20.0
"""Logarithm of the likelihood that a view must gain by its being one of a slab's."""
COMPARED_PX, AGREEING = 256, 0.9
"""Linked patches are given up where the views, binned to that size, agree less than this share of what they do
otherwise."""
TURNED_DEG = 1.5
"""Patches are followed again about the axis that they tell, where it is further from the first one than this."""


class Followed(NamedTuple):
    """Positions of beads or patches, or why there are none to rest an alignment on."""

    tracks: Tracks | None
    """Those that there are, even where they are too few."""
    note: str
    enough: bool
    solution: Validated | None = None
    beads: int = 0
    """So many of the points, the first, are beads."""
    apart_px: float = 0.0
    """How far another alignment is from this one, RMS, where nothing tells which of them is right."""
    bead_radius_px: float | None = None
    """Of these, as found in the images."""


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
    found, solution = track(
        views, axis_deg=axis_deg, binning=binning, pixel_size_A=pixel_size_A, bead_nm=bead_nm, method=method
    )
    return solve(views, found, axis_deg=axis_deg, solution=solution)


def track(
    views: Sequence[RefineView],
    *,
    axis_deg: float,
    binning: int,
    pixel_size_A: float | None,
    bead_nm: float | None,
    method: Method,
) -> tuple[Tracked, Validated | None]:
    """Follow beads where there are enough, else patches or both; with the solution that they were judged by."""
    ordered = in_order(views)
    images = [view.image for view in ordered]
    ny, nx = images[0].shape
    field = (float(nx), float(ny))
    start = start_poses(ordered, axis_deg, binning, field)
    gold, patched = Followed(None, "", enough=False), Followed(None, "", enough=False)
    if method in ("auto", "beads", "mixed"):
        radius_px = bead_nm * 5 / (pixel_size_A * binning) if bead_nm and pixel_size_A else None
        gold = _by_beads(images, start, radius_px)
    if method in ("patches", "mixed") or (method == "auto" and not (gold.enough and _is_spread(gold, start))):
        patched = _by_patches(images, start)
    name, chosen = _chosen(method, gold, patched, start)
    if chosen.tracks is None:
        return Tracked(method="coarse", note=chosen.note, binning=binning, field=field), None
    found = tracked(
        name,
        chosen.note,
        chosen.tracks,
        binning=binning,
        field=field,
        beads=chosen.beads,
        apart_px=chosen.apart_px,
    )
    return replace(found, bead_radius_px=chosen.bead_radius_px), chosen.solution


def _chosen(method: Method, gold: Followed, patched: Followed, start: Poses) -> tuple[str, Followed]:
    """What the alignment rests on, and what it is called."""
    if gold.tracks is not None and patched.tracks is not None and patched.enough and method in ("auto", "mixed"):
        both = mixed.together(gold.tracks, patched.tracks, start, PATCH_ERROR_PX)
        if both is not None:
            told = gold._replace(tracks=both.tracks, note=f"{gold.note}; {both.note}", enough=True)
            return "mixed", told._replace(solution=both.found, beads=both.beads)
    if gold.enough:
        return "beads", gold
    notes = "; ".join(one.note for one in (gold, patched) if one.note)
    if patched.enough:
        return "patches", patched._replace(note=notes)
    return "coarse", Followed(None, notes, enough=False)


def _is_spread(gold: Followed, start: Poses) -> bool:
    """Whether beads, of a specimen as stiff as patches take it for, tell all of the field as well as patches would."""
    assert gold.tracks is not None
    stiff = bundle.solve(gold.tracks, start, supported(gold.tracks, len(start.mag)))
    return bundle.expected(gold.tracks, start, stiff).rms <= PATCH_ERROR_PX


def solve(
    views: Sequence[PlacedView], found: Tracked, *, axis_deg: float, solution: Validated | None = None
) -> Refined:
    """The alignment that the tracks support; `solution` is theirs where it is known already."""
    ordered = in_order(views)
    start = start_poses(ordered, axis_deg, found.binning, found.field)
    if found.method == "coarse":
        return unaligned(ordered, start, found)
    measured = found.tracks()
    if solution is None:
        solution = _solution(found.method, measured, start)
    expected = bundle.expected(measured, start, solution.solution, together=found.method != "beads")
    return aligned(ordered, start, Solved(solution.solution, expected, solution.left_out_px), found)


def _solution(method: str, measured: Tracks, start: Poses) -> Validated:
    if method == "beads":
        return solve_freely(measured, start)
    # Neighbouring views of a patch err together: a left-out error cannot tell more freedoms from this.
    floor_px = mixed.BEAD_ERROR_PX if method == "mixed" else PATCH_ERROR_PX
    return validated(measured, start, Freedoms(), floor_px=floor_px)


# -- beads ---------------------------------------------------------------------------------------------------------


def _by_beads(images: Sequence[Image], start: Poses, radius_px: float | None) -> Followed:
    low = np.argsort(np.abs(start.tilt_deg), kind="stable")[:LOW_TILT_VIEWS]
    shape = beads.find_shape([images[i] for i in low], radius_px)
    candidates = jit.each(lambda image: beads.find_candidates(image, shape), images)
    ny, nx = images[0].shape
    gate = max(GATE_SHARE * max(nx, ny), GATE_RADII * shape.radius_px)
    search = tracks.Search((nx, ny), shape.radius_px, gate, DEPTH_SHARE * max(nx, ny))
    found = tracks.find_tracks(candidates, start, search)
    if found is None:
        return Followed(None, "no beads found", enough=False)
    solution = found.solution
    size = len(bead_fit.sphere_profile(shape.radius_px))
    for _ in range(MEASUREMENTS):
        profile = remeasure.profile_at(images, solution, shape, size)
        for clear in remeasure.CLEAR_RADII:
            measured = remeasure.measure(images, solution, shape, profile, clear)
            lacking = _lacking(measured, len(images))
            if not lacking:
                break
        if not len(measured.view):
            return Followed(None, lacking, enough=False)
        solution = bundle.solve(measured, start)
    if lacking:
        return Followed(measured, lacking, enough=False, bead_radius_px=shape.radius_px)
    judged = _solution("beads", measured, start)
    limit = max(WORST_RESIDUAL_PX, WORST_RESIDUAL_RADII * shape.radius_px)
    residual, count = judged.solution.rms(measured), len(judged.solution.points)
    if residual > limit:
        return Followed(None, f"{count} tracks fit to {residual:.1f} px only: no gold", enough=False)
    return Followed(measured, f"{count} beads", True, judged, count, bead_radius_px=shape.radius_px)


def _lacking(positions: Tracks, n: int) -> str:
    """What is missing for an alignment by beads, in words; nothing if they are enough."""
    count = int(positions.point.max(initial=-1)) + 1
    if count < LEAST_BEADS:
        return f"{count} beads, {LEAST_BEADS} are needed"
    bare = int((np.bincount(positions.view, minlength=n) < 2).sum())
    return f"{count} beads, but {bare} of {n} views show fewer than 2" if bare > BARE_SHARE * n else ""


# -- patches ---------------------------------------------------------------------------------------------------------


def _by_patches(images: Sequence[Image], start: Poses) -> Followed:
    """Patches linked over all views, where these bear that out; else patches followed from view to view."""
    factor = max(1, round(max(images[0].shape) / PATCH_SIDE_PX))
    shrunk = [_shrunk(unshaded(image), factor) for image in images]
    small, offset = [image for image, _ in shrunk], shrunk[0][1]
    followed = _by_following(small, start, factor, offset)
    if len(images) < LEAST_LINKED or min(small[0].shape) < LEAST_LINKED_PX:
        return followed
    places = [start]
    if followed.solution is not None:
        poses = followed.solution.solution.poses
        places.append(bundle.in_frame_of(poses, start.shift)[0])
    starts = [Start(one.shift / factor + offset, float(one.axis_deg.mean())) for one in places]
    found = link_patches(small, start.tilt_deg, starts)
    tracks = found.tracks._replace(xy=factor * (found.tracks.xy - offset))
    solution = _solution("patches", tracks, start)
    doubt = _doubt(images, found.field.gain, [solution.solution.poses, *places])
    if doubt:
        note = "; ".join(one for one in (followed.note, doubt) if one)
        return followed._replace(note=note, apart_px=_apart(places[-1], start))
    note = f"{len(solution.solution.points)} patches, each linked over all views at once"
    return Followed(tracks, note, enough=True, solution=solution)


def _apart(one: Poses, other: Poses) -> float:
    """RMS distance of the specimen's places in two alignments, which have it in the same frame."""
    return float(np.sqrt(((one.shift - other.shift) ** 2).sum(1).mean()))


def _doubt(images: Sequence[Image], gain: float, placements: Sequence[Poses]) -> str:
    """Why the first placements, those of linked patches, are not to be trusted, in words; empty if they are.

    What views and reprojections of all others have in common is no finer a judge: placements whose errors go on
    smoothly from view to view agree a little better than the true ones.
    """
    if gain < LEAST_GAIN * len(images):
        return "the views have too little in common to be linked"
    factor = max(1, round(max(images[0].shape) / COMPARED_PX))
    small, (offset, *_) = zip(*(_shrunk(image, factor) for image in images), strict=True)
    scaled = [poses._replace(shift=poses.shift / factor + offset) for poses in placements]
    linked, *others = (float(agreements(small, poses).mean()) for poses in scaled)
    if linked < AGREEING * max(others):
        return f"linked patches agree worse with the other views ({linked:.2f}, not {max(others):.2f})"
    return ""


def _by_following(images: Sequence[Image], start: Poses, factor: int, offset: Array) -> Followed:
    """Patches followed from the lowest tilt on; once more if the axis was wrong by much."""
    for last in (False, True):
        measured = _followed(images, start, factor, offset)
        if len(np.unique(measured.view)) < len(images) // 2:
            return Followed(None, "patches could not be followed", enough=False)
        found = _solution("patches", measured, start)
        poses = found.solution.poses
        if last or abs(float((poses.axis_deg - start.axis_deg).mean())) < TURNED_DEG:
            break
        start = start._replace(axis_deg=poses.axis_deg, shift=bundle.in_frame_of(poses, start.shift)[0].shift)
    return Followed(measured, f"{len(found.solution.points)} patches", enough=True, solution=found)


def _followed(images: Sequence[Image], start: Poses, factor: int, offset: Array) -> Tracks:
    """Positions of patches in pixels of `start`, found in images `factor` times smaller."""
    patches = PatchTracks(float(start.axis_deg[0]), PATCH_BAND)
    for i in np.argsort(np.abs(start.tilt_deg), kind="stable").tolist():
        tilt_deg, shift = float(start.tilt_deg[i]), start.shift[i] / factor + offset
        found = patches.place(i, tilt_deg, images[i], shift)
        patches.accept(i, tilt_deg, images[i], shift if found is None else found)
    measured = patches.tracks(PATCH_VIEWS)
    return measured._replace(xy=factor * (measured.xy - offset))


def _shrunk(image: Image, factor: int) -> tuple[Image, Array]:
    """Block means of an image, and where its centre lies in them, relative to theirs."""
    ny, nx = (n // factor for n in image.shape)
    blocks = image[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor)
    offset = [(n - m * factor) / (2 * factor) for n, m in zip(image.shape[::-1], (nx, ny), strict=True)]
    return np.ascontiguousarray(blocks.mean(axis=(1, 3), dtype=np.float32)), np.array(offset)
