"""The first steps of the recipe: which views there are, their images without outliers, where the specimen lies in them.

collect -> clean -> coarse
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo import __version__, geometry
from streamtomo.align.live import LiveAligner
from streamtomo.align.places import own_order
from streamtomo.correct.binning import bin_image
from streamtomo.correct.prepare import live_binning
from streamtomo.errors import AlignmentError, InputError
from streamtomo.export import imod, mrc
from streamtomo.finish.work import (
    ALIGN_SIDE_PX,
    KEEP_BYTES,
    Cleaned,
    Coarse,
    Collected,
    FinishJob,
    Image,
    JobTilt,
    Work,
    one_ahead,
)
from streamtomo.model import LeftOut

GB = 1e9
LARGEST_INT16 = 32767


# -- collect ---------------------------------------------------------------------------------------------------------


def collect(work: Work) -> tuple[Collected, tuple[str, ...]]:
    """Which tilts are used, in ascending angle, and why the others are not. Raises AlignmentError if none is."""
    ordered = sorted(work.job.tilts, key=lambda one: (one.tilt.image.angle_deg, one.tilt.index))
    reasons = {one.tilt.index: _fault(one, placed=work.job.placed) for one in ordered}
    usable = [one.tilt for one in ordered if not reasons[one.tilt.index]]
    if not usable:
        raise AlignmentError(f"{work.name}: no usable tilt")
    nx, ny = usual_size(work.job)
    for tilt in usable:
        image = tilt.image
        if (image.nx, image.ny) != (nx, ny):
            reasons[tilt.index] = f"{image.nx} x {image.ny} pixels, the series has {nx} x {ny}"
    left_out = tuple(LeftOut(index=index, reason=why) for index, why in reasons.items() if why)
    return Collected(usable=tuple(index for index, why in reasons.items() if not why), left_out=left_out), ()


def collected_from(job: FinishJob) -> object:
    """What of a job decides about its views: the tilts as they were taken in, and their verdicts.

    The files themselves may be gone by now, to an archive: what was made of them stays good.
    """
    return [[one.tilt.index, one.tilt.image, _fault(one, placed=job.placed)] for one in job.tilts]


def usual_size(job: FinishJob) -> tuple[int, int]:
    """Width and height of the first tilt that can be used: those of the series."""
    for one in job.tilts:
        if not _fault(one, placed=job.placed):
            return one.tilt.image.nx, one.tilt.image.ny
    return 1, 1


def _fault(one: JobTilt, *, placed: bool) -> str:
    if one.failure:
        return one.failure
    if one.verdict is not None and one.verdict.state == "bad":
        return "; ".join(one.verdict.reasons) or "judged bad"
    return "" if one.placement or not placed else "never placed"


# -- clean -----------------------------------------------------------------------------------------------------------


def clean(work: Work) -> tuple[Cleaned, tuple[str, ...]]:
    """Repaired views, binned for the alignment; the sorted stack `NAME.st`, full size where it is not too large."""
    nx, ny = usual_size(work.job)
    collected = work.product("collect", Collected)
    left_out = list(collected.left_out)
    tilts = [work.by_index[index] for index in collected.usable]
    align_binning = max(1, -(-max(nx, ny) // ALIGN_SIDE_PX))
    rows: list[int] = []
    images: list[Image] = []
    full: list[NDArray[Any]] | None = []
    for number, (one, pixels) in enumerate(_read(work, tilts)):
        work.progress(0.8 * number / len(tilts))
        if isinstance(pixels, InputError):
            left_out.append(LeftOut(index=one.tilt.index, reason=str(pixels)))
            continue
        rows.append(one.tilt.index)
        images.append(bin_image(pixels, align_binning))
        if full is not None and pixels.nbytes * len(tilts) <= KEEP_BYTES:
            full.append(pixels)
        else:
            full = None
    if not rows:
        raise AlignmentError(f"{work.name}: no usable tilt ({left_out[-1].reason})")
    stack_binning = 1
    if full is None or sum(view.nbytes for view in full) > work.settings.final.stack_GB * GB:
        stack_binning = align_binning
    _write_stack(work, full if stack_binning == 1 and full else images, stack_binning)
    work.images, work.full = images, full
    means = tuple(round(float(image.mean(dtype=np.float64)), 4) for image in images)
    made = Cleaned(
        rows=tuple(rows),
        left_out=tuple(left_out),
        nx=nx,
        ny=ny,
        align_binning=align_binning,
        stack_binning=stack_binning,
        means=means,
    )
    return made, (f"{work.name}.st",)


def _read(work: Work, tilts: list[JobTilt]) -> Iterator[tuple[JobTilt, NDArray[Any] | InputError]]:
    def read(one: JobTilt) -> NDArray[Any] | InputError:
        try:
            return work.repaired(one.tilt)
        except InputError as error:
            return error
        except OSError as error:
            return InputError(f"{one.tilt.image.path}: cannot be read ({error.strerror})")

    return zip(tilts, one_ahead(read, tilts), strict=True)


def _write_stack(work: Work, views: list[NDArray[Any]] | list[Image], binning: int) -> None:
    """`NAME.st`: int16 where the counts are whole numbers that fit, else float32."""
    whole = all(view.dtype.kind in "iu" and int(view.max()) <= LARGEST_INT16 for view in views)
    dtype: Any = np.int16 if whole else np.float32
    shape = (len(views), *views[0].shape)
    pixel = work.job.pixel_size_A * binning if work.job.pixel_size_A else None
    label = f"streamtomo {__version__}: views without outliers, by tilt angle, binned by {binning}"
    with mrc.new_blocks(
        work.path(".st"), shape, np.dtype(dtype).name, pixel_size_A=pixel, kind="stack", label=label
    ) as file:
        for row, view in enumerate(views):
            file.write_section(row, np.ascontiguousarray(view, dtype))


# -- coarse ----------------------------------------------------------------------------------------------------------


def coarse(work: Work) -> tuple[Coarse, tuple[str, ...]]:
    """The live placements, or, for data collected elsewhere, those that the live aligner finds now."""
    rows, cleaned = work.rows, work.product("clean", Cleaned)
    if work.job.placed:
        placements = [one.placement for one in rows]
        shifts = [(at.shift_x, at.shift_y) for at in placements if at is not None]
        axis_deg = work.job.axis_deg
    else:
        shifts, axis_deg = _placed(work, cleaned.align_binning)
    made = Coarse(shifts=tuple(shifts), axis_deg=axis_deg)
    angles = [one.tilt.image.angle_deg for one in rows]
    imod.write_angles(work.path(".rawtlt"), angles)
    shifts_only = [geometry.translation(-x, -y) for x, y in shifts]
    global_ = [geometry.rescale(one, cleaned.stack_binning) for one in shifts_only]
    imod.write_transforms(work.path(".prexg"), global_)
    imod.write_transforms(work.path(".prexf"), [geometry.IDENTITY, *_steps(global_)])
    return made, tuple(f"{work.name}{suffix}" for suffix in (".rawtlt", ".prexg", ".prexf"))


def placed_from(job: FinishJob) -> object:
    """What of a job decides about the placements."""
    if job.placed:
        return [[one.tilt.index, one.placement] for one in job.tilts], job.axis_deg
    return job.axis_deg


def _steps(transforms: list[geometry.Array]) -> list[geometry.Array]:
    """Each transform relative to the one before it."""
    return [geometry.compose(then, geometry.invert(before)) for before, then in itertools.pairwise(transforms)]


def _placed(work: Work, binning: int) -> tuple[list[tuple[float, float]], float]:
    """Shifts of the rows, raw pixels, and the axis, by the live aligner; from the lowest tilt on."""
    images, rows = work.align_images(), work.rows
    factor = live_binning(images[0].shape[1], images[0].shape[0], work.settings.live.size_px)
    aligner = LiveAligner(work.settings.align, work.job.axis_deg, binning * factor)
    angles = {row: one.tilt.image.angle_deg for row, one in enumerate(rows)}
    for number, row in enumerate(own_order(angles)):
        image = bin_image(images[row], factor)
        aligner.accept(row, angles[row], image, aligner.place(row, angles[row], image))
        work.progress(number / len(rows))
    return [aligner.shift_of(row) for row in range(len(rows))], aligner.axis_deg
