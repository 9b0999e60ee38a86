"""The recipe: a complete series becomes files that a scientist opens. It knows the order of the steps.

    collect -> clean -> align -> stack -> reconstruct -> pictures -> report

Everything lands in the folder of the series; each file appears whole or not at all. The input is on disk (the job and
the microscope's files), so the recipe can die at any instant and be started again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import __version__, geometry
from streamtomo.camera import newest_map
from streamtomo.config import Settings
from streamtomo.correct.camera_map import CameraMap
from streamtomo.correct.prepare import prepare
from streamtomo.errors import AlignmentError, InputError, OutputError, StreamtomoError
from streamtomo.export import fiducials, imod, mrc
from streamtomo.exposure import read_exposure
from streamtomo.finish.depth import deep_enough, default_depth, find_depth
from streamtomo.finish.refine import Beads, Refined, RefineView, refine
from streamtomo.finish.tomogram import Source, logarithm, write_tomogram
from streamtomo.messages import Event, FinishDone, FinishStep
from streamtomo.model import Alignment, LeftOut, Placement, Tilt, Tomogram, Verdict
from streamtomo.publish.pictures import to_grey, write_png
from streamtomo.resample import warp

LONGEST_SIDE_PX = 1500
"""The final binning is the smallest that brings the longer side of the image to this."""

LEAST_VIEWS = 4
"""Fewer views are not parted into halves."""

Say = Callable[[Event], None]


class JobTilt(Struct, frozen=True, kw_only=True):
    """A tilt as the live lane left it."""

    tilt: Tilt
    placement: Placement | None = None
    verdict: Verdict | None = None
    failure: str | None = None
    """Why it could not be read."""


class FinishJob(Struct, frozen=True, kw_only=True):
    """All that the recipe needs to know."""

    series: str
    folder: str
    """Where the results go."""
    settings: Settings
    axis_deg: float
    pixel_size_A: float | None
    tilts: tuple[JobTilt, ...]


class View(Struct, frozen=True, kw_only=True):
    """A usable view: corrected and binned."""

    tilt: Tilt
    placement: Placement
    image: NDArray[np.float32]


def final_binning(nx: int, ny: int, wanted: int | None) -> int:
    """The binning asked for, or the smallest that brings the longer side to LONGEST_SIDE_PX."""
    return wanted or -(-max(nx, ny) // LONGEST_SIDE_PX)


def run(job: FinishJob, say: Say) -> FinishDone:
    """All steps in order; returns the summary. Raises AlignmentError, InputError or OutputError."""
    start = time.monotonic()
    folder = Path(job.folder)
    _make_folder(folder)
    step = _steps(job.series, say)
    step("clean", 0.0)
    views, left_out, binning = clean(job)
    step("align", 0.25)
    alignment, beads = align(job, views, left_out, binning)
    views = _aligned_only(views, alignment)
    write_alignment(job, folder, views, alignment)
    told = write_beads(job, folder, views, beads)
    step("stack", 0.5)
    stack = aligned_stack(views, alignment, binning)
    write_stack(job, folder, stack, binning)
    step("reconstruct", 0.65)
    tomogram, sections, more = write_tomograms(job, folder, stack, alignment, binning, step)
    step("pictures", 0.95)
    pictures = write_pictures(job, folder, sections, stack)
    check(job, folder, stack.shape, tomogram)
    suffixes = (".rawtlt", ".prexg", ".xf", ".tlt", "_ali.mrc", "_rec.mrc", "_views.json", "_summary.json")
    files = tuple(str(folder / f"{job.series}{suffix}") for suffix in (*suffixes, *told, *more)) + pictures
    done = FinishDone(
        series=job.series,
        seconds=round(time.monotonic() - start, 2),
        alignment=alignment,
        tomogram=tomogram,
        files=files,
    )
    write_summary(job, folder, done)
    return done


def _steps(series: str, say: Say) -> Callable[[str, float], None]:
    def step(name: str, fraction: float) -> None:
        say(FinishStep(series=series, step=name, fraction=round(fraction, 3)))

    return step


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error


def clean(job: FinishJob) -> tuple[list[View], list[LeftOut], int]:
    """Usable views, corrected and binned, in ascending tilt angle; those left out with the reason; the binning."""
    views: list[View] = []
    left_out: list[LeftOut] = []
    usable = [one for one in job.tilts if one.placement and not _fault(one)]
    if not usable:
        raise AlignmentError(f"{job.series}: no usable tilt")
    first = usable[0].tilt.image
    binning = final_binning(first.nx, first.ny, job.settings.final.binning)
    camera = newest_map(Path(job.folder).parent, first, job.pixel_size_A) if job.settings.correct.camera_map else None
    for one in sorted(job.tilts, key=lambda item: (item.tilt.image.angle_deg, item.tilt.index)):
        reason = _fault(one) or _odd_size(one.tilt, first.nx, first.ny)
        if reason is None and one.placement is not None:
            try:
                views.append(
                    View(tilt=one.tilt, placement=one.placement, image=_prepared(job, one.tilt, binning, camera))
                )
            except InputError as error:
                reason = str(error)
        if reason is not None:
            left_out.append(LeftOut(index=one.tilt.index, reason=reason))
    return views, left_out, binning


def _fault(one: JobTilt) -> str | None:
    if one.failure:
        return one.failure
    if one.verdict is not None and one.verdict.state == "bad":
        return "; ".join(one.verdict.reasons) or "judged bad"
    return None if one.placement else "never placed"


def _odd_size(tilt: Tilt, nx: int, ny: int) -> str | None:
    image = tilt.image
    return None if (image.nx, image.ny) == (nx, ny) else f"{image.nx} x {image.ny} pixels, the series has {nx} x {ny}"


def _prepared(job: FinishJob, tilt: Tilt, binning: int, camera: CameraMap | None) -> NDArray[np.float32]:
    raw, _ = read_exposure(tilt.image, job.settings, Path(job.folder))
    return prepare(raw, binning, job.settings.correct.outlier_sigma, camera)[0]


def align(job: FinishJob, views: Sequence[View], left_out: Sequence[LeftOut], binning: int) -> Refined:
    """The final alignment, with the views left out before and those that it left out itself."""
    inputs = [
        RefineView(
            index=view.tilt.index,
            angle_deg=view.tilt.image.angle_deg,
            image=view.image,
            shift_xy=(view.placement.shift_x, view.placement.shift_y),
        )
        for view in views
    ]
    refined = refine(
        inputs,
        axis_deg=job.axis_deg,
        binning=binning,
        pixel_size_A=job.pixel_size_A,
        bead_nm=job.settings.specimen.bead_nm,
        method=job.settings.final.align,
    )
    alignment = refined.alignment
    alignment = msgspec.structs.replace(alignment, left_out=(*left_out, *alignment.left_out))
    return refined._replace(alignment=alignment)


def _aligned_only(views: Sequence[View], alignment: Alignment) -> list[View]:
    """The views of the alignment, in its order."""
    by_index = {view.tilt.index: view for view in views}
    return [by_index[aligned.index] for aligned in alignment.views]


def transforms(alignment: Alignment) -> list[geometry.Array]:
    """Raw-to-aligned transforms `(2, 3)` of the views."""
    rows = [np.array(view.xf) for view in alignment.views]
    return [np.column_stack([row[:4].reshape(2, 2), row[4:]]) for row in rows]


def write_alignment(job: FinishJob, folder: Path, views: Sequence[View], alignment: Alignment) -> None:
    """`.rawtlt .prexg .xf .tlt _views.json`, one row a view, in ascending tilt angle."""
    stem = folder / job.series
    imod.write_angles(stem.with_name(f"{job.series}.rawtlt"), [view.tilt.image.angle_deg for view in views])
    imod.write_angles(stem.with_name(f"{job.series}.tlt"), [view.tilt_deg for view in alignment.views])
    coarse = [geometry.translation(-view.placement.shift_x, -view.placement.shift_y) for view in views]
    imod.write_transforms(stem.with_name(f"{job.series}.prexg"), coarse)
    imod.write_transforms(stem.with_name(f"{job.series}.xf"), transforms(alignment))
    imod.write_text(stem.with_name(f"{job.series}_views.json"), views_table(job, views, alignment))


def write_beads(job: FinishJob, folder: Path, views: Sequence[View], beads: Beads | None) -> tuple[str, ...]:
    """`.fid fid.xyz .resid` of an alignment by beads, their suffixes; those of an earlier one are removed."""
    suffixes = (".fid", "fid.xyz", ".resid")
    if beads is None:
        for suffix in suffixes:
            (folder / f"{job.series}{suffix}").unlink(missing_ok=True)
        return ()
    image = views[0].tilt.image
    shifts = -np.array([(view.placement.shift_x, view.placement.shift_y) for view in views])
    stack = fiducials.Stack(image.nx, image.ny, shifts, job.pixel_size_A)
    fiducials.write_fiducials(folder, job.series, fiducials.Fiducials(*beads), stack)
    return suffixes


def views_table(job: FinishJob, views: Sequence[View], alignment: Alignment) -> str:
    """JSON: which image each row of the other files is, and why the views left out are left out."""
    images = {one.tilt.index: one.tilt.image for one in job.tilts}

    def origin(index: int) -> dict[str, object]:
        image = images[index]
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
            **origin(view.tilt.index),
            "tilt_deg": round(aligned.tilt_deg, 3),
            "residual_px": aligned.residual_px,
        }
        for row, (view, aligned) in enumerate(zip(views, alignment.views, strict=True))
    ]
    left_out = [{**origin(item.index), "reason": item.reason} for item in alignment.left_out]
    return _json({"series": job.series, "views": rows, "left_out": left_out})


def _json(content: object) -> str:
    return msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n"


def aligned_stack(views: Sequence[View], alignment: Alignment, binning: int) -> NDArray[np.float32]:
    """Aligned views `(n, ny, nx)`, tilt axis vertical, what no image covers filled with the view's mean."""
    raw_shape = (views[0].tilt.image.ny, views[0].tilt.image.nx)
    shape = geometry.aligned_shape(raw_shape, alignment.axis_deg, binning)
    stack = np.empty((len(views), *shape), np.float32)
    for section, view, transform in zip(stack, views, transforms(alignment), strict=True):
        section[:] = warp(view.image, geometry.rescale(transform, binning), shape)
    return stack


def _voxel_A(job: FinishJob, binning: int) -> float | None:
    return job.pixel_size_A * binning if job.pixel_size_A else None


def write_stack(job: FinishJob, folder: Path, stack: NDArray[np.float32], binning: int) -> None:
    """`NAME_ali.mrc`, float32."""
    path = folder / f"{job.series}_ali.mrc"
    label = f"streamtomo {__version__}: aligned stack, binned by {binning}"
    with mrc.new_blocks(
        path, stack.shape, "float32", pixel_size_A=_voxel_A(job, binning), kind="stack", label=label
    ) as file:
        file.write(0, stack)


def depth(job: FinishJob, stack: NDArray[np.float32], alignment: Alignment, binning: int) -> int:
    """Sections of the tomogram: as the settings say, else as deep as the specimen is, with all beads in it."""
    wanted, voxel = job.settings.specimen.thickness_nm, _voxel_A(job, binning)
    if wanted and voxel:
        return max(2, round(wanted * 10 / voxel / 2) * 2)
    found = find_depth(stack, [view.tilt_deg for view in alignment.views])
    reach = max(map(abs, alignment.heights_px)) / binning if alignment.heights_px else 0.0
    return max(found or default_depth(stack.shape[1:]), deep_enough(reach, stack.shape[1:]))


def write_tomograms(
    job: FinishJob,
    folder: Path,
    stack: NDArray[np.float32],
    alignment: Alignment,
    binning: int,
    step: Callable[[str, float], None],
) -> tuple[Tomogram, dict[str, NDArray[np.float32]], tuple[str, ...]]:
    """`NAME_rec.mrc`, where asked for those of even and odd views, too; pictures of the first, and all suffixes."""
    angles = [view.tilt_deg for view in alignment.views]
    final = job.settings.final
    nz = depth(job, stack, alignment, binning)
    source = Source(logarithm(stack) if final.log else stack, angles, nz, binning, _voxel_A(job, binning))
    halves = (
        {"_even_rec.mrc": source.half(0), "_odd_rec.mrc": source.half(1)}
        if final.halves and len(stack) >= LEAST_VIEWS
        else {}
    )
    share = 0.3 / (1 + len(halves) / 2)
    path = folder / f"{job.series}_rec.mrc"
    tomogram, sections = write_tomogram(path, source, final, lambda done: step("reconstruct", 0.65 + share * done))
    for suffix in ("_even_rec.mrc", "_odd_rec.mrc"):
        path = folder / f"{job.series}{suffix}"
        if suffix in halves:
            write_tomogram(
                path, halves[suffix], final, lambda done: step("reconstruct", 0.95 - 0.3 * share * (1 - done))
            )
        else:
            path.unlink(missing_ok=True)
    return tomogram, sections, tuple(halves)


def write_pictures(
    job: FinishJob, folder: Path, sections: dict[str, NDArray[np.float32]], stack: NDArray[np.float32]
) -> tuple[str, ...]:
    """PNG pictures of the central sections and of the view nearest to the middle of the series."""
    named = {**{f"rec_{plane}": section for plane, section in sections.items()}, "ali_mid": stack[len(stack) // 2]}
    written = []
    for name, image in named.items():
        path = folder / f"{job.series}_{name}.png"
        write_png(path, to_grey(image))
        written.append(str(path))
    return tuple(written)


def check(job: FinishJob, folder: Path, stack_shape: tuple[int, ...], tomogram: Tomogram) -> None:
    """Look at our own products as a reader would; raises StreamtomoError if one is not sound."""
    n, ny, nx = stack_shape
    faults = [
        *imod.check_rows(folder, job.series, n),
        *mrc.check_mrc(folder / f"{job.series}_ali.mrc", (n, ny, nx)),
        *mrc.check_mrc(Path(tomogram.path), (tomogram.nz, tomogram.ny, tomogram.nx)),
    ]
    if faults:
        raise StreamtomoError(f"{job.series}: the results are not sound: {'; '.join(faults)}")


def write_summary(job: FinishJob, folder: Path, done: FinishDone) -> None:
    """`NAME_summary.json`: settings, alignment, tomogram, files."""
    content = {
        "program": f"streamtomo {__version__}",
        "series": job.series,
        "seconds": done.seconds,
        "axis_deg": job.axis_deg,
        "pixel_size_A": job.pixel_size_A,
        "tilts": len(job.tilts),
        "alignment": done.alignment,
        "tomogram": done.tomogram,
        "files": done.files,
        "settings": job.settings,
    }
    imod.write_text(folder / f"{job.series}_summary.json", _json(content))
