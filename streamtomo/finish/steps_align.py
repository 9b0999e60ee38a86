"""The steps of the final alignment: positions followed from view to view, and what they say about the views.

track -> solve
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from streamtomo import geometry
from streamtomo.errors import InputError
from streamtomo.export import fiducials, imod
from streamtomo.finish import motion
from streamtomo.finish.aligned import Beads, Motion
from streamtomo.finish.refine import solve, track
from streamtomo.finish.state_file import stamp
from streamtomo.finish.tracked import PlacedView, RefineView, Tracked
from streamtomo.finish.work import Cleaned, Coarse, FinishJob, Work
from streamtomo.model import Alignment

BEAD_SUFFIXES = (".fid", "fid.xyz", ".resid", ".seed")


class Solved(Struct, frozen=True, kw_only=True):
    """Product of `solve`."""

    alignment: Alignment
    """In raw pixels."""
    points: tuple[tuple[float, float, float], ...]
    """The beads or patches in the aligned specimen, raw pixels from its origin."""
    seen: tuple[int, ...]
    """In how many views each of them counts."""
    gold: int = 0
    """So many of them, the first, are beads."""
    motion: Motion | None = None
    """Of the specimen's parts, where it was solved."""

    @property
    def beads_px(self) -> geometry.Array:
        """The beads among the points, `(n, 3)`."""
        return np.array(self.points[: self.gold]).reshape(-1, 3)


# -- track -----------------------------------------------------------------------------------------------------------


def run_track(work: Work) -> tuple[Tracked, tuple[str, ...]]:
    """Beads or patches followed through the views; or the bead model that was given."""
    if work.job.fiducials:
        return _from_model(work, Path(work.job.fiducials)), ()
    coarse, cleaned = work.product("coarse", Coarse), work.product("clean", Cleaned)
    views = [
        RefineView(index=at.index, angle_deg=at.angle_deg, shift_xy=at.shift_xy, image=image)
        for at, image in zip(placed_views(work), work.align_images(), strict=True)
    ]
    tracked, work.solution = track(
        views,
        axis_deg=coarse.axis_deg,
        binning=cleaned.align_binning,
        pixel_size_A=work.job.pixel_size_A,
        bead_nm=work.settings.specimen.bead_nm,
        method=work.settings.final.align,
    )
    return tracked, ()


def tracked_from(job: FinishJob) -> object:
    """What of a job decides about the tracks."""
    model = stamp(Path(job.fiducials)) if job.fiducials else None
    return job.pixel_size_A, job.fiducials, model


def _from_model(work: Work, path: Path) -> Tracked:
    """Positions of a model drawn on the pre-aligned stack. Raises InputError for one that does not fit."""
    cleaned, shifts = work.product("clean", Cleaned), np.array(work.product("coarse", Coarse).shifts)
    model, binning = fiducials.read_model(path), cleaned.stack_binning
    view = np.rint(model.xyz[:, 2]).astype(np.int64)
    if view.min() < 0 or view.max() >= len(shifts):
        raise InputError(f"{path}: has points in section {view.max()}; the sorted stack has {len(shifts)} views")
    corner = np.array([cleaned.nx // binning, cleaned.ny // binning]) / 2
    xy = binning * (model.xyz[:, :2] - corner) + shifts[view]
    return Tracked(
        method="beads",
        note=f"{model.contour[-1] + 1} beads of {path.name}",
        binning=cleaned.align_binning,
        field=(cleaned.nx / cleaned.align_binning, cleaned.ny / cleaned.align_binning),
        beads=int(model.contour[-1]) + 1,
        view=tuple(view.tolist()),
        point=tuple(model.contour.tolist()),
        xy=tuple((x, y) for x, y in (xy / cleaned.align_binning).tolist()),
        weight=(1.0,) * len(view),
    )


def placed_views(work: Work) -> list[PlacedView]:
    """The rows of the stack where the step `coarse` left them."""
    shifts = work.product("coarse", Coarse).shifts
    return [
        PlacedView(index=one.tilt.index, angle_deg=one.tilt.image.angle_deg, shift_xy=shift)
        for one, shift in zip(work.rows, shifts, strict=True)
    ]


# -- solve -----------------------------------------------------------------------------------------------------------


def run_solve(work: Work) -> tuple[Solved, tuple[str, ...]]:
    """The final alignment, and its files: a row a view, in ascending tilt angle."""
    tracked, cleaned = work.product("track", Tracked), work.product("clean", Cleaned)
    views, axis_deg = placed_views(work), work.product("coarse", Coarse).axis_deg
    alignment, beads, moved = solve(views, tracked, axis_deg=axis_deg, solution=work.solution)
    alignment = msgspec.structs.replace(alignment, left_out=(*cleaned.left_out, *alignment.left_out))
    _write_alignment(work, alignment)
    files = [f"{work.name}{suffix}" for suffix in (".xf", ".tlt", ".xtilt", ".tltxf", "_views.json")]
    for suffix in (*BEAD_SUFFIXES, motion.SUFFIX):
        work.path(suffix).unlink(missing_ok=True)
    if moved is not None:
        motion.write(work.path(motion.SUFFIX), work.name, moved, alignment)
        files.append(f"{work.name}{motion.SUFFIX}")
    if beads is not None:
        _write_beads(work, beads)
        files += [f"{work.name}{suffix}" for suffix in BEAD_SUFFIXES]
    points = [] if beads is None else beads.points.tolist()
    seen = [] if beads is None else np.bincount(beads.point, minlength=len(points)).tolist()
    made = Solved(
        alignment=alignment,
        points=tuple(map(tuple, points)),
        seen=tuple(seen),
        gold=0 if beads is None else beads.gold,
        motion=moved,
    )
    return made, tuple(files)


def transforms(alignment: Alignment) -> list[geometry.Array]:
    """Raw-to-aligned transforms `(2, 3)` of the views."""
    rows = [np.array(view.xf) for view in alignment.views]
    return [np.column_stack([row[:4].reshape(2, 2), row[4:]]) for row in rows]


def _write_alignment(work: Work, alignment: Alignment) -> None:
    binning = work.product("clean", Cleaned).stack_binning
    aligned = [geometry.rescale(one, binning) for one in transforms(alignment)]
    global_ = [geometry.translation(-x / binning, -y / binning) for x, y in work.product("coarse", Coarse).shifts]
    imod.write_transforms(work.path(".xf"), aligned)
    imod.write_transforms(
        work.path(".tltxf"),
        [geometry.compose(geometry.invert(pre), full) for pre, full in zip(global_, aligned, strict=True)],
    )
    imod.write_angles(work.path(".tlt"), [view.tilt_deg for view in alignment.views])
    imod.write_angles(work.path(".xtilt"), [view.xtilt_deg for view in alignment.views])
    imod.write_text(work.path("_views.json"), _views_table(work, alignment))


def _write_beads(work: Work, beads: Beads) -> None:
    """`.fid fid.xyz .resid`, in pixels of the sorted stack."""
    cleaned, shifts = work.product("clean", Cleaned), np.array(work.product("coarse", Coarse).shifts)
    binning, pixel = cleaned.stack_binning, work.job.pixel_size_A
    stack = fiducials.Stack(
        cleaned.nx // binning, cleaned.ny // binning, -shifts / binning, pixel * binning if pixel else None
    )
    found = fiducials.Fiducials(
        beads.view, beads.point, beads.xy / binning, beads.residual / binning, beads.points / binning
    )
    fiducials.write_fiducials(work.folder, work.name, found, stack)
    fiducials.write_seed(work.path(".seed"), found, stack)


def _views_table(work: Work, alignment: Alignment) -> str:
    """JSON: which image each row of the other files is, and why the views left out are left out."""
    tilts = work.by_index

    def origin(index: int) -> dict[str, object]:
        image = tilts[index].tilt.image
        return {
            "acquired": index,
            "file": image.path,
            "section": image.section,
            "mdoc_section": image.mdoc_section,
            "angle_deg": image.angle_deg,
        }

    rows = [
        {
            "row": row,
            **origin(view.index),
            "tilt_deg": round(view.tilt_deg, 3),
            "residual_px": view.residual_px,
            "points": view.points,
            "error_px": view.error_px,
            "edge_error_px": view.edge_error_px,
        }
        for row, view in enumerate(alignment.views)
    ]
    left_out = [{**origin(item.index), "reason": item.reason} for item in alignment.left_out]
    return imod.json_text({"series": work.name, "views": rows, "left_out": left_out})
