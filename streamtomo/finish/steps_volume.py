"""The steps that make the tomogram.

position -> stack -> reconstruct -> trim
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import __version__, geometry, jit
from streamtomo.cluster import ClusterError, connect, each
from streamtomo.config import Final
from streamtomo.export import mrc
from streamtomo.finish import motion
from streamtomo.finish.position import Position, find_position
from streamtomo.finish.spread import described, make_block
from streamtomo.finish.steps_align import Solved, transforms
from streamtomo.finish.tomogram import Piece, Source, Spread, logarithm, write_tomogram
from streamtomo.finish.work import DUAL, VIEWS, Cleaned, Image, Work
from streamtomo.model import Tomogram
from streamtomo.publish.pictures import to_grey, write_png
from streamtomo.reconstruct.backproject import Scaled
from streamtomo.reconstruct.wbp import level
from streamtomo.restore import dose
from streamtomo.shrink import shrink

LEAST_VIEWS = 4
"""Fewer views are not parted into halves."""
LEAST_XTILT_DEG = 0.02
"""Smaller x-axis tilts of single views are none: nobody sees them, and a volume is made faster without."""
HALVES = ("_even_rec.mrc", "_odd_rec.mrc")
CONTRAST = (0.1, 99.9)
"""Percentiles of the voxels in the middle that are told as black and white."""


class Stacked(Struct, frozen=True, kw_only=True):
    """Product of `stack`."""

    binning: int
    ny: int
    nx: int
    voxel_A: float | None
    sds: tuple[float, ...]
    """Standard deviation of each view before it was weighted by its dose: the noise that it is normalised by."""
    doses_e_A2: tuple[float, ...] | None
    """Dose at half of each view's exposure, where views are weighted by it."""
    note: str


class Reconstructed(Struct, frozen=True, kw_only=True):
    """Product of `reconstruct`: volumes that lie as `trimvol -rx` turns them, in their final type."""

    tomogram: Tomogram
    how: str
    scale: float
    """Value of a voxel is density times this ..."""
    offset: float
    """... plus this."""
    halves: tuple[str, ...]
    sections: dict[str, str]
    """Pictures of the middle, by plane."""


class Trimmed(Struct, frozen=True, kw_only=True):
    """Product of `trim`: what a viewer needs to know of the finished volume."""

    black: float
    white: float
    """The contrast that shows the middle of the specimen well."""


class Lie(NamedTuple):
    """How a tomogram lies in the aligned views: a voxel at `q` from its middle is the specimen's `q + (0, 0, height)`,
    seen at these tilts after a turn by `pitch_deg` about X."""

    tilts_deg: list[float]
    nz: int
    pitch_deg: float
    height: float
    xtilts_deg: list[float] | None
    """What is added to the pitch in each view, where a beam tilt was solved."""


def final_binning(nx: int, ny: int, final: Final) -> int:
    """The binning asked for, or the smallest that brings the longer side to what is allowed."""
    assert final.longest_px is not None, "the preset says it"
    return final.binning or -(-max(nx, ny) // final.longest_px)


# -- position --------------------------------------------------------------------------------------------------------


def position(work: Work) -> tuple[Position, tuple[str, ...]]:
    """Where the specimen lies, from beads and density; what disagrees is warned of."""
    solved, cleaned = work.product("solve", Solved), work.product("clean", Cleaned)
    found = find_position(
        work.align_images(),
        [geometry.rescale(one, cleaned.align_binning) for one in transforms(solved.alignment)],
        [view.tilt_deg for view in solved.alignment.views],
        points_px=(solved.beads_px if solved.gold else np.array(solved.points).reshape(-1, 3)) / cleaned.align_binning,
        seen=solved.seen[: solved.gold] if solved.gold else solved.seen,
        axis_deg=solved.alignment.axis_deg,
        beads=solved.gold > 0,
        level=work.settings.final.position == "off",
    )
    work.images = None
    found = found.in_pixels(cleaned.align_binning)
    if work.settings.specimen.thickness_nm and work.job.pixel_size_A:
        found = found.as_deep_as(work.settings.specimen.thickness_nm * 10 / work.job.pixel_size_A)
    if found.warning:
        work.warn("position.disagrees", f"{work.name}: {found.warning}")
    return found, ()


# -- stack -----------------------------------------------------------------------------------------------------------


def stack(work: Work) -> tuple[Stacked, tuple[str, ...]]:
    """The aligned stack `NAME_ali.mrc`: from the full-size views in one interpolation, then weighted by dose."""
    solved, cleaned = work.product("solve", Solved), work.product("clean", Cleaned)
    alignment, moved = solved.alignment, solved.motion
    binning = final_binning(cleaned.nx, cleaned.ny, work.settings.final)
    shape = geometry.aligned_shape((cleaned.ny, cleaned.nx), alignment.axis_deg, binning)
    voxel = work.job.pixel_size_A * binning if work.job.pixel_size_A else None
    doses, note = _doses(work) if work.settings.final.dose_weighting else (None, "")
    voltage_kV, moves = work.settings.acquisition.voltage_kV, transforms(alignment)
    aligned, sds = np.empty((len(alignment.views), *shape), np.float32), [0.0] * len(alignment.views)

    def make(item: tuple[int, tuple[geometry.Array, NDArray[Any]]]) -> int:
        row, (move, view) = item
        bend = None if moved is None else motion.bend(moved, row, alignment.views[row].tilt_deg, shape, binning)
        made = shrink(view, move, shape, binning, bend)
        sds[row] = level(made)[1]
        aligned[row] = dose.filtered(made, doses[row], voxel, voltage_kV) if doses and voxel else made
        return row

    label = f"streamtomo {__version__}: aligned stack, binned by {binning}{', dose-weighted' if doses else ''}"
    with mrc.new_blocks(
        work.path("_ali.mrc"), aligned.shape, "float32", pixel_size_A=voxel, kind="stack", label=label
    ) as file:
        for row in jit.in_turn(make, enumerate(zip(moves, work.full_views(), strict=True))):
            file.write_section(row, aligned[row])
            work.progress(row / len(aligned))
    work.full = None
    work.keep_aligned("stack", aligned)
    made = Stacked(
        binning=binning,
        ny=shape[0],
        nx=shape[1],
        voxel_A=voxel,
        sds=tuple(sds),
        doses_e_A2=tuple(doses) if doses else None,
        note=note,
    )
    return made, (f"{work.name}_ali.mrc", picture(work, "_ali_mid.png", aligned[len(aligned) // 2]))


def _doses(work: Work) -> tuple[list[float] | None, str]:
    """Dose at half of each view's exposure, or why it is not known."""
    images = [one.tilt.image for one in work.rows]
    if work.job.pixel_size_A is None:
        return None, "not weighted by dose: the pixel size is not known"
    doses = [
        image.prior_dose_e_A2 + (image.dose_e_A2 or 0.0) / 2 for image in images if image.prior_dose_e_A2 is not None
    ]
    if len(doses) < len(images) or not any(doses):
        return None, "not weighted by dose: the metadata do not tell it"
    return doses, f"weighted by dose, up to {max(doses):.0f} e/Å²"


def picture(work: Work, suffix: str, image: NDArray[np.float32]) -> str:
    """Write a picture of the series; its name."""
    write_png(work.path(suffix), to_grey(image))
    return f"{work.name}{suffix}"


# -- reconstruct -----------------------------------------------------------------------------------------------------


def reconstruct(work: Work) -> tuple[Reconstructed, tuple[str, ...]]:
    """`NAME_rec.mrc`, where asked for those of even and odd views, too; pictures of the first."""
    final = work.settings.final
    for stale in work.folder.glob(f"{work.name}{DUAL}*"):
        stale.unlink()
    source = source_of(work)
    halves = HALVES if final.halves and len(source.stack) >= LEAST_VIEWS else ()
    share = 1 / (1 + len(halves) / 2)
    spread = _Spreading(work, source)
    made = write_tomogram(
        work.path("_rec.mrc"), source, final, lambda done: work.progress(share * done), spread.over(None)
    )
    for first, suffix in enumerate(HALVES):
        if suffix in halves:
            write_tomogram(work.path(suffix), source.half(first), final, lambda done: None, spread.over(first))
            work.progress(share * (1 + (first + 1) / 2))
        else:
            work.path(suffix).unlink(missing_ok=True)
    pictures = {plane: picture(work, f"_rec_{plane}.png", section) for plane, section in made.sections.items()}
    files = (f"{work.name}_rec.mrc", *(f"{work.name}{suffix}" for suffix in halves), *pictures.values())
    work.keep_aligned("reconstruct", None)
    product = Reconstructed(
        tomogram=made.tomogram,
        how=made.how,
        scale=made.scaled.scale,
        offset=made.scaled.offset,
        halves=halves,
        sections=pictures,
    )
    return product, files


class _Spreading:
    """Gives blocks of slices to a cluster, where there is one for that."""

    def __init__(self, work: Work, source: Source) -> None:
        self._work, self._source = work, source

    def over(self, half: int | None) -> Spread | None:
        """For the tomogram of all views, or of every other one from `half` on; None: blocks are made here."""
        cluster, run = self._work.settings.cluster, self._work.settings.run
        if cluster.scheduler is None or cluster.takes != "blocks":
            return None
        address, stack = cluster.scheduler, self._work.path(VIEWS[self._work.last_views()])
        try:
            connect(address).close()
        except ClusterError as error:
            self._work.warn("cluster.unreachable", f"{self._work.name}: the tomogram is made on this machine: {error}")
            return None
        said = described(self._source, stack, self._work.settings.final, half, run.threads)

        def spread(pieces: Sequence[Piece], scaled: Scaled) -> Iterator[NDArray[Any]]:
            scale = float(scaled.scale), float(scaled.offset)
            return each(address, make_block, ((said, y0, rows, scale) for y0, rows in pieces))

        return spread


def lie_of(work: Work) -> Lie:
    """How the tomogram of a series lies."""
    alignment, stacked = work.product("solve", Solved).alignment, work.product("stack", Stacked)
    at, binning = work.product("position", Position), stacked.binning
    nz = int(min(max(stacked.ny, stacked.nx), max(2, round(at.depth_px / binning / 2) * 2)))
    tilts, xtilts = ([getattr(view, name) for view in alignment.views] for name in ("tilt_deg", "xtilt_deg"))
    leant = xtilts if max(map(abs, xtilts)) > LEAST_XTILT_DEG else None
    return Lie([tilt + at.offset_deg for tilt in tilts], nz, at.pitch_deg, at.height_px / binning, leant)


def source_of(work: Work) -> Source:
    """What the tomogram of a series is made of."""
    stacked, lie = work.product("stack", Stacked), lie_of(work)
    aligned, log = work.aligned_stack("reconstruct"), work.settings.final.log
    return Source(
        stack=logarithm(aligned) if log else aligned,
        tilts_deg=lie.tilts_deg,
        nz=lie.nz,
        binning=stacked.binning,
        voxel_A=stacked.voxel_A,
        pitch_deg=lie.pitch_deg,
        height=lie.height,
        xtilts_deg=lie.xtilts_deg,
        sds=None if log else stacked.sds,
    )


# -- trim ------------------------------------------------------------------------------------------------------------


def trim(work: Work) -> tuple[Trimmed, tuple[str, ...]]:
    """The contrast of the finished volume, stated in its header; size, type and turn were settled as it was made."""
    path = Path(work.product("reconstruct", Reconstructed).tomogram.path)
    middle = _middle_third(path)
    black, white = (float(value) for value in np.percentile(middle, CONTRAST))
    return Trimmed(black=round(black, 4), white=round(white, 4)), ()


def _middle_third(path: Path) -> Image:
    """Some sections of the middle third of a volume, their inner four fifths."""
    nz, ny, nx = mrc.shape_of(path)
    y, x = slice(ny // 10, ny - ny // 10 or None, 2), slice(nx // 10, nx - nx // 10 or None, 2)
    wanted = range(nz // 3, max(nz // 3 + 1, nz - nz // 3), max(1, nz // 24))
    return np.stack([mrc.section(path, z)[y, x].astype(np.float32) for z in wanted])
