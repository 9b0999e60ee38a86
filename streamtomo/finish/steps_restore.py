"""The steps that make views and tomogram better, on request.

(erase) -> (ctf) ... (denoise)

Gold goes first: once phases are flipped its fringes reach twice as far, and more of the specimen would go with it.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import __version__, jit
from streamtomo.align.beads import find_shape
from streamtomo.config import Settings
from streamtomo.config_preset import with_preset
from streamtomo.export import mrc
from streamtomo.finish.position import Position
from streamtomo.finish.steps_align import Solved
from streamtomo.finish.steps_volume import Reconstructed, Stacked
from streamtomo.finish.tomogram import Source, write_tomogram
from streamtomo.finish.work import VIEWS, Image, Work
from streamtomo.lens import Microscope
from streamtomo.restore.beads3d import coarsest
from streamtomo.restore.ctf import Focus
from streamtomo.restore.steps import diffusion_step, gold_step, lens_step

DENOISED_SUFFIX = "_nad.mrc"
LOW_TILT_VIEWS = 1
"""Views of low tilt from which the beads' size is found: all beads are in one."""
LEAST_BEADS = 3
"""With fewer beads nobody knows what gold looks like here."""


class Lens(Struct, frozen=True, kw_only=True):
    """Product of `ctf`."""

    focus: Focus | None
    """None: it could not be found, and nothing was corrected."""
    how: str


class Goldless(Struct, frozen=True, kw_only=True):
    """Product of `erase`."""

    beads: int
    """Beads that were erased, those that served no alignment as well."""
    radius_px: float
    """Of the discs, pixels of the aligned stack."""


class Denoised(Struct, frozen=True, kw_only=True):
    """Product of `denoise`."""

    k: float
    iterations: int


def wants_ctf(settings: Settings) -> bool:
    """Whether the lens is to be corrected."""
    return with_preset(settings).ctf.correct != "off"


def wants_erase(settings: Settings) -> bool:
    """Whether gold is to be erased."""
    return bool(with_preset(settings).erase.gold)


def wants_denoise(settings: Settings) -> bool:
    """Whether the tomogram is to be diffused."""
    return bool(with_preset(settings).denoise.iterations)


# -- ctf -------------------------------------------------------------------------------------------------------------


def ctf(work: Work) -> tuple[Lens, tuple[str, ...]]:
    """Views with the lens corrected strip by strip, `NAME_ctf_ali.mrc`; as they were where no focus is found."""
    acquisition, stacked = work.settings.acquisition, work.product("stack", Stacked)
    stack = work.aligned_stack("ctf")
    if stacked.voxel_A is None:
        work.warn("ctf.skipped", f"{work.name}: the lens is not corrected: the pixel size is not known")
        return Lens(focus=None, how="not corrected"), (_write_views(work, "ctf", stack, "as they were"),)
    microscope = Microscope(acquisition.voltage_kV, acquisition.cs_mm, acquisition.amplitude_contrast)
    offset = work.product("position", Position).offset_deg
    tilts = [tilt + offset for tilt in _tilts(work)]
    found = lens_step(stack, tilts, stacked.voxel_A, work.settings.ctf, microscope, work.progress)
    for text in found.warnings:
        work.warn("ctf.doubtful", f"{work.name}: {text}")
    how = "not corrected" if found.stack is stack else f"lens corrected ({work.settings.ctf.correct})"
    return Lens(focus=found.focus, how=how), (_write_views(work, "ctf", found.stack, how),)


# -- erase -----------------------------------------------------------------------------------------------------------


def erase(work: Work) -> tuple[Goldless, tuple[str, ...]]:
    """Views without gold, `NAME_erase_ali.mrc`: the beads of the alignment, and those found in a quick tomogram."""
    stacked, solved = work.product("stack", Stacked), work.product("solve", Solved)
    stack, tilts = work.aligned_stack("erase"), _tilts(work)
    if solved.gold < LEAST_BEADS:
        work.warn("erase.skipped", f"{work.name}: no gold is erased: the alignment found none")
        return Goldless(beads=0, radius_px=0.0), (_write_views(work, "erase", stack, "as they were"),)
    low = np.argsort(np.abs(tilts), kind="stable")[:LOW_TILT_VIEWS]
    shape = find_shape([stack[i] for i in low], _known_radius(work, stacked))
    beads = solved.beads_px / stacked.binning
    coarser = coarsest(shape.radius_px)
    volume = _quick_volume(work, stack, tilts, coarser)
    erased, found = gold_step(
        stack,
        tilts,
        stacked.voxel_A,
        work.settings.erase,
        radius_px=shape.radius_px,
        solved_xyz=beads,
        volume=volume,
        volume_binning=coarser,
        sign=shape.sign,
    )
    made = Goldless(beads=len(found), radius_px=round(erased.radius_px, 2))
    return made, (_write_views(work, "erase", erased.stack, f"{len(found)} beads erased"),)


def _known_radius(work: Work, stacked: Stacked) -> float | None:
    bead_nm = work.settings.specimen.bead_nm
    return bead_nm * 5 / stacked.voxel_A if bead_nm and stacked.voxel_A else None


def _quick_volume(work: Work, stack: Image, tilts: list[float], coarser: int) -> NDArray[np.generic]:
    """A tomogram that lies as the stage did, `(nz, ny, nx)` int16, deep enough for all beads; of binned views."""
    at, stacked = work.product("position", Position), work.product("stack", Stacked)
    stack = _coarser(stack, coarser)
    highest = float(np.abs(work.product("solve", Solved).beads_px[:, 2]).max()) / stacked.binning
    depth = max(at.depth_px / stacked.binning, 2.4 * highest) + 2 * abs(at.height_px) / stacked.binning
    nz = int(min(max(stack.shape[1:]), max(2, round(depth / coarser / 2) * 2)))
    path, binning = work.path("_find.mrc"), stacked.binning * coarser
    voxel = stacked.voxel_A * coarser if stacked.voxel_A else None
    source = Source(stack=stack, tilts_deg=tilts, nz=nz, binning=binning, voxel_A=voxel)
    write_tomogram(path, source, work.settings.final, lambda part: work.progress(0.4 * part))
    volume = np.stack(list(mrc.sections(path)))
    path.unlink()
    return volume


def _coarser(stack: Image, binning: int) -> Image:
    """Means over squares of pixels, about the same centre to half a pixel."""
    n, (ny, nx) = len(stack), (size // binning for size in stack.shape[1:])
    y0, x0 = ((size - m * binning) // 2 for size, m in zip(stack.shape[1:], (ny, nx), strict=True))
    cut, out = stack[:, y0 : y0 + ny * binning, x0 : x0 + nx * binning], np.empty((n, ny, nx), np.float32)

    def one(row: int) -> None:
        cut[row].reshape(ny, binning, nx, binning).mean(axis=(1, 3), dtype=np.float32, out=out[row])

    jit.each(one, range(n))
    return out


# -- denoise ---------------------------------------------------------------------------------------------------------


def denoise(work: Work) -> tuple[Denoised, tuple[str, ...]]:
    """The tomogram after edge-enhancing diffusion, `NAME_nad.mrc`, in the values of the tomogram."""
    how = work.product("reconstruct", Reconstructed).how
    return write_diffused(work, "_rec.mrc", DENOISED_SUFFIX, how), (f"{work.name}{DENOISED_SUFFIX}",)


def write_diffused(work: Work, suffix: str, to_suffix: str, how: str) -> Denoised:
    """A tomogram of the series, made as `how` says, after diffusion in another file. Raises OutputError."""
    with mrc.mapped(work.path(suffix)) as volume:
        by, slabs = diffusion_step(volume, work.settings.denoise)
        shape, kind, voxel = volume.shape, str(volume.dtype), work.product("stack", Stacked).voxel_A
        label = f"streamtomo {__version__}: {how}, diffused: K {by.k:.4g}, {by.iterations} iterations"
        with (
            mrc.new_blocks(work.path(to_suffix), shape, kind, pixel_size_A=voxel, kind="volume", label=label) as file,
            ThreadPoolExecutor(1) as writer,
        ):
            writing: Future[None] | None = None
            for y0, block in slabs:
                if writing is not None:
                    writing.result()
                writing = writer.submit(_write_slab, file, y0, block)
                work.progress((y0 + block.shape[1]) / shape[1])
            if writing is not None:
                writing.result()
    return Denoised(k=by.k, iterations=by.iterations)


def _write_slab(file: mrc.Blocks, y0: int, slab: Image) -> None:
    """Write `(nz, rows, nx)`, rounded where the file holds whole numbers."""
    if file.dtype == np.float32:
        return file.write(y0, slab)
    rounded = np.empty(slab.shape, file.dtype)
    for section, into in zip(slab, rounded, strict=True):
        into[:] = np.rint(section)
    return file.write(y0, rounded)


# -- both ------------------------------------------------------------------------------------------------------------


def _tilts(work: Work) -> list[float]:
    return [view.tilt_deg for view in work.product("solve", Solved).alignment.views]


def _write_views(work: Work, step: str, stack: Image, how: str) -> str:
    label = f"streamtomo {__version__}: aligned stack, {how}"
    voxel = work.product("stack", Stacked).voxel_A
    path = work.path(VIEWS[step])
    with mrc.new_blocks(path, stack.shape, "float32", pixel_size_A=voxel, kind="stack", label=label) as file:
        file.write(0, stack)
    work.keep_aligned(step, stack)
    return path.name
