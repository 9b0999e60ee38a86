"""Finished series as the averages take them: the tomogram, what its views sampled, boxes cut from it or made anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from streamtomo import geometry
from streamtomo.average.extract import box_masks, cut, normalised
from streamtomo.average.spectra import Wedge, wedge
from streamtomo.average.turns import Array
from streamtomo.errors import InputError
from streamtomo.export import mrc
from streamtomo.export.particles import Picked, Volume, read_picks
from streamtomo.finish.command import job_of_run
from streamtomo.finish.position import Position
from streamtomo.finish.state_file import read_state
from streamtomo.finish.steps_align import Solved
from streamtomo.finish.steps_volume import Reconstructed, Stacked
from streamtomo.finish.tomogram import logarithm
from streamtomo.finish.work import Cleaned, Work
from streamtomo.reconstruct import wbp
from streamtomo.reconstruct.backproject import Scratch
from streamtomo.reconstruct.filters import Filtering
from streamtomo.reconstruct.rays import Box
from streamtomo.restore.dose import critical_dose

Image = NDArray[np.float32]
Cut = Callable[[Array], Image]
"""The box `(n, n, n)` about the voxel nearest to an index x, y, z."""


class Series(NamedTuple):
    """A finished series."""

    name: str
    folder: Path
    work: Work
    tomogram: NDArray[Any]
    """`(nz, ny, nx)`, a memory-mapped file."""
    volume: Volume
    tilts_deg: Array
    pitch_deg: float
    height: float
    """Of the tomogram's middle above the tilt axis, voxels."""
    doses_e_A2: tuple[float, ...] | None

    @property
    def voxel_A(self) -> float:
        """Of the tomogram."""
        return self.volume.voxel_A

    def wedge(self, n: int) -> Wedge:
        """What boxes of side `n` hold of the specimen.

        Views weighted by dose have lost their signal twice, by radiation and by the filter.
        """
        left = None
        if self.doses_e_A2 is not None:
            k = np.arange(n) / (n * self.voxel_A)
            critical = critical_dose(k, self.work.settings.acquisition.voltage_kV)
            left = np.exp(-np.array(self.doses_e_A2)[:, None] / critical).astype(np.float32)
        return wedge(self.tilts_deg, self.pitch_deg, left)


def read_series(folder: Path) -> Series:
    """A finished series from its folder. Raises InputError."""
    folder = folder.absolute()
    name = folder.name
    job = job_of_run(folder.parent, name, ())
    work = Work(job, lambda event: None)
    work.state = read_state(folder, name)
    missing = [step for step in ("solve", "position", "stack", "reconstruct") if step not in work.state]
    if missing:
        raise InputError(
            f"{folder}: is not finished (no {missing[0]}); do: streamtomo finish {name} --out {folder.parent}"
        )
    at, stacked = work.product("position", Position), work.product("stack", Stacked)
    made, path = work.product("reconstruct", Reconstructed).tomogram, work.path("_rec.mrc")
    along = stacked.binning / work.product("clean", Cleaned).stack_binning
    if made.pixel_size_A is None:
        raise InputError(f"{folder}: the pixel size is not known; finish it with --set acquisition.pixel_size_A=...")
    if not path.exists():
        raise InputError(f"{path}: is gone; do: streamtomo finish {name} --out {folder.parent} --from reconstruct")
    tomogram, _ = mrc.volume_of(path)
    return Series(
        name=name,
        folder=folder,
        work=work,
        tomogram=tomogram,
        volume=Volume((made.nx, made.ny, made.nz), made.pixel_size_A, along),
        tilts_deg=np.array([view.tilt_deg + at.offset_deg for view in work.product("solve", Solved).alignment.views]),
        pitch_deg=0.0 if job.settings.final.method == "sirt" else at.pitch_deg,
        height=at.height_px / stacked.binning,
        doses_e_A2=stacked.doses_e_A2,
    )


def series_in(folders: Sequence[Path]) -> list[Path]:
    """Folders of series, those of sessions replaced by their finished series, in the order of their names."""
    found = []
    for folder in folders:
        within = sorted(one for one in folder.glob("*/") if "reconstruct" in read_state(one, one.name))
        found += within or [folder]
    return found


def read_all(folders: Sequence[Path]) -> list[Series]:
    """All series, or those finished of a session's folder, with the same voxels. Raises InputError."""
    series = [read_series(folder) for folder in series_in(folders)]
    names = [one.name for one in series]
    if len(set(names)) < len(names):
        raise InputError(f"{', '.join(names)}: two series have the same name; their particles could not be told apart")
    if max(one.voxel_A for one in series) > 1.005 * min(one.voxel_A for one in series):
        sizes = ", ".join(f"{one.name} {one.voxel_A:.3f} Å" for one in series)
        raise InputError(f"the voxels differ ({sizes}); finish them with the same final.binning")
    return series


def read_particles(files: Sequence[Path], series: Sequence[Series]) -> dict[str, Picked]:
    """The particles of each series, from one file for all or one for each. Raises InputError."""
    volumes = {one.name: one.volume for one in series}
    if len(files) == 1 and len(series) > 1:
        picked = read_picks(files[0], volumes)
    elif len(files) == len(series):
        picked = {}
        for path, one in zip(files, series, strict=True):
            picked.update(read_picks(path, {one.name: one.volume}, only=one.name))
    else:
        raise InputError(f"{len(files)} files of particles for {len(series)} series: give one for each, or one for all")
    if not sum(len(one.xyz) for one in picked.values()):
        raise InputError(f"{files[0]}: holds no particles of {', '.join(volumes)}")
    return picked


def from_tomogram(series: Series, n: int, radius_px: float) -> Cut:
    """Boxes cut from the tomogram."""
    whole, background = box_masks(n, radius_px)
    return lambda xyz: normalised(cut(series.tomogram, xyz, n), whole, background)


def from_views(series: Series, n: int, radius_px: float) -> Cut:
    """Boxes back-projected from the aligned views as the last step that changed them left them."""
    work, final = series.work, series.work.settings.final
    path = work.path("_ali.mrc")
    if not path.exists():
        raise InputError(
            f"{path}: is gone; do: streamtomo finish {series.name} --out {series.folder.parent} --from stack"
        )
    stack = work.aligned_stack("reconstruct")
    images = logarithm(stack) if final.log else stack
    levels = np.array([wbp.level(view) for view in images], np.float32)
    if not final.log:
        levels[:, 1] = work.product("stack", Stacked).sds
    filtering = Filtering(final.radial_cutoff, final.radial_falloff, final.roll_off, 0)
    views = wbp.weighted(images, series.tilts_deg, series.pitch_deg, levels=levels)
    views, scratch = wbp.filtered_ahead(views, series.volume.size_xyz[2], filtering), Scratch()
    middle = np.array([geometry.centre(size) for size in series.volume.size_xyz])
    whole, background = box_masks(n, radius_px)

    def made(xyz: Array) -> Image:
        # the particle is to lie in voxel n // 2, half a voxel beyond the box's middle
        x, y, z = (float(value) for value in np.rint(xyz) - middle - 0.5)
        out = np.empty((n, n, n), np.float32)
        wbp.make_slab(views, Box(n, n, n, (x, y, z + series.height)), 0, out, filtering=filtering, scratch=scratch)
        return normalised(np.ascontiguousarray(out.transpose(1, 0, 2)), whole, background)

    return made


def fitted(path: Path, n: int, voxel_A: float, *, bright: bool) -> Image:
    """A volume of a file, sampled anew about its middle voxel into a box `(n, n, n)` of these voxels; dark.

    Raises InputError.
    """
    content, voxel = mrc.volume_of(path)
    if content.ndim != 3 or min(content.shape) < 8:
        raise InputError(f"{path}: is no volume")
    volume = np.asarray(content, np.float32)
    volume = volume - np.float32(np.median(volume))
    ratio = voxel_A / voxel if voxel else 1.0
    if ratio > 1.02:
        volume = ndimage.gaussian_filter(volume, 0.4 * ratio)
    offset = np.array([size // 2 for size in volume.shape]) - ratio * (n // 2)
    out = ndimage.affine_transform(volume, np.full(3, ratio), offset, (n, n, n), order=3, mode="constant")
    return np.asarray(-out if bright else out, np.float32)
