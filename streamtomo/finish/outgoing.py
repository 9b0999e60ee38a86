"""From the products of the recipe to what the exporters take."""

from __future__ import annotations

import numpy as np

from streamtomo import geometry
from streamtomo.export import aretomo, directives, etomo, imod_coms, relion, warp
from streamtomo.export.views import Exports, view_of
from streamtomo.finish.position import Position
from streamtomo.finish.steps_align import Solved, transforms
from streamtomo.finish.steps_volume import Reconstructed, Stacked
from streamtomo.finish.tracked import Tracked
from streamtomo.finish.work import Cleaned, Work

METHODS = {"beads": 0, "patches": 1, "mixed": 1}
"""batchruntomo's trackingMethod."""


def write_all(work: Work) -> list[str]:
    """All formats; the names of the files in the series' folder. Raises OutputError."""
    exports = exports_of(work)
    level = exports._replace(views=[view.level() for view in exports.views])
    files = relion.write(work.folder, exports) + warp.write(work.folder, level) + aretomo.write(work.folder, level)
    stacked, cleaned = work.product("stack", Stacked), work.product("clean", Cleaned)
    for stale in (*imod_coms.FILES, *etomo.FILES, f"{work.name}.edf"):
        (work.folder / stale).unlink(missing_ok=True)
    if stacked.binning % cleaned.stack_binning == 0:  # else IMOD cannot make it from the sorted stack
        files += imod_coms.write(work.folder, work.name, tilting_of(work))
        files += etomo.write(work.folder, etomo_of(work, exports))
    directives.write(work.path(".adoc"), directives_of(work))
    return [*files, f"{work.name}.adoc"]


def exports_of(work: Work) -> Exports:
    """The series, in pixels of the sorted stack."""
    cleaned, stacked = work.product("clean", Cleaned), work.product("stack", Stacked)
    at, made = work.product("position", Position), work.product("reconstruct", Reconstructed)
    alignment, binning = work.product("solve", Solved).alignment, cleaned.stack_binning
    pitch = -tilting_angle(work)
    views = [
        view_of(
            one.tilt.image,
            geometry.rescale(transform, binning),
            view.tilt_deg,
            offset_deg=at.offset_deg,
            pitch_deg=pitch + view.xtilt_deg,
            height_px=at.height_px / binning,
        )
        for one, view, transform in zip(work.rows, alignment.views, transforms(alignment), strict=True)
    ]
    tomogram = made.tomogram
    return Exports(
        name=work.name,
        views=views,
        nx=cleaned.nx // binning,
        ny=cleaned.ny // binning,
        pixel_size_A=work.job.pixel_size_A * binning if work.job.pixel_size_A else None,
        stack_binning=binning,
        stack=str(work.path(".st")),
        tomogram=tomogram.path,
        halves=tuple(str(work.path(suffix)) for suffix in made.halves),
        tomogram_binning=stacked.binning / binning,
        size_xyz=(tomogram.nx, tomogram.ny, tomogram.nz),
        voltage_kV=work.settings.acquisition.voltage_kV,
        cs_mm=work.settings.acquisition.cs_mm,
        amplitude_contrast=work.settings.acquisition.amplitude_contrast,
        thickness_px=(at.thickness_px or at.depth_px) / binning,
        offset_deg=at.offset_deg,
        means=cleaned.means,
    )


def tilting_angle(work: Work) -> float:
    """XAXISTILT: the turn about X that was made."""
    return -work.product("position", Position).pitch_deg


def tilting_of(work: Work) -> imod_coms.Tilting:
    """What IMOD is told."""
    cleaned, stacked, final = work.product("clean", Cleaned), work.product("stack", Stacked), work.settings.final
    at, tomogram = work.product("position", Position), work.product("reconstruct", Reconstructed).tomogram
    binning = stacked.binning // cleaned.stack_binning
    return imod_coms.Tilting(
        binning=binning,
        size_xy=(stacked.nx, stacked.ny),
        thickness=tomogram.nz * binning,
        xaxis_tilt_deg=tilting_angle(work),
        offset_deg=at.offset_deg,
        shift_z=at.height_px / cleaned.stack_binning,
        radial=(final.radial_cutoff, final.radial_falloff),
        log=final.log,
        sirt_like=final.sirt_like,
        float_voxels=final.volume_type == "float32",
    )


TURNED_DEG, GROWN = 0.01, 5e-4
"""Angles and magnifications that differ by less are the same."""
LEAST_ON_TWO_SURFACES = 8
"""Beads; fewer are not parted."""


def bead_nm(work: Work) -> float | None:
    """Diameter of the gold: as stated, or as it was found; None where there is none, or nobody looked."""
    tracked, pixel_A = work.product("track", Tracked), work.job.pixel_size_A
    if work.settings.specimen.bead_nm or not (tracked.bead_radius_px and pixel_A):
        return work.settings.specimen.bead_nm
    return 2 * tracked.bead_radius_px * tracked.binning * pixel_A / directives.NM_TO_A


def etomo_of(work: Work, exports: Exports) -> etomo.Etomo:
    """What etomo is told."""
    cleaned, stacked = work.product("clean", Cleaned), work.product("stack", Stacked)
    solved = work.product("solve", Solved)
    nominal = [one.tilt.image.angle_deg for one in work.rows]
    turned = np.array([view.tilt_deg for view in solved.alignment.views]) - nominal
    return etomo.Etomo(
        name=work.name,
        pixel_nm=exports.pixel_A / directives.NM_TO_A,
        axis_deg=solved.alignment.axis_deg,
        method=solved.alignment.method,
        bead_nm=bead_nm(work),
        binning=stacked.binning // cleaned.stack_binning,
        size_xy=(stacked.nx, stacked.ny),
        tilts_solved=bool(np.abs(turned).max() > TURNED_DEG),
        axes_solved=bool(np.ptp([view.axis_deg for view in exports.views]) > TURNED_DEG),
        mags_solved=bool(np.ptp([view.mag for view in exports.views]) > GROWN),
        surfaces=2 if solved.gold >= LEAST_ON_TWO_SURFACES else 1,
    )


def directives_of(work: Work) -> dict[str, str | float | int]:
    """What batchruntomo needs to do the same with the sorted stack."""
    cleaned, stacked, settings = work.product("clean", Cleaned), work.product("stack", Stacked), work.settings
    alignment, tilting = work.product("solve", Solved).alignment, tilting_of(work)
    pixel = (work.job.pixel_size_A or 0.0) * cleaned.stack_binning / directives.NM_TO_A
    found: dict[str, str | float | int] = {
        "setupset.copyarg.name": work.name,
        "setupset.datasetDirectory": str(work.folder),
        "setupset.copyarg.dual": 0,
        "setupset.copyarg.montage": 0,
        "setupset.copyarg.pixel": f"{pixel:.5f}",
        "setupset.copyarg.gold": f"{bead_nm(work) or 0:.4g}",
        "setupset.copyarg.rotation": f"{alignment.axis_deg:.3f}",
        "setupset.copyarg.userawtlt": 1,
        "setupset.copyarg.extract": 0,
        "setupset.copyarg.voltage": f"{settings.acquisition.voltage_kV:g}",
        "setupset.copyarg.Cs": f"{settings.acquisition.cs_mm:g}",
        "runtime.Preprocessing.any.removeXrays": 0,
        "runtime.AlignedStack.any.binByFactor": max(1, stacked.binning // cleaned.stack_binning),
        "comparam.tilt.tilt.THICKNESS": tilting.thickness,
        "comparam.tilt.tilt.RADIAL": f"{tilting.radial[0]:g} {tilting.radial[1]:g}",
        "comparam.tilt.tilt.LOG": "0.0" if tilting.log else "",
        "comparam.tilt.tilt.XAXISTILT": f"{tilting.xaxis_tilt_deg:.3f}",
        "comparam.tilt.tilt.OFFSET": f"{tilting.offset_deg:.3f}",
        "comparam.tilt.tilt.SHIFT": f"0.0 {tilting.shift_z:.2f}",
        "comparam.tilt.tilt.MODE": 2 if tilting.float_voxels else 1,
        "runtime.Reconstruction.any.useSirt": int(settings.final.method == "sirt"),
        "runtime.Postprocess.any.doTrimvol": 1,
        "runtime.Trimvol.any.reorient": 2,
    }
    if alignment.method in METHODS:
        found["runtime.Fiducials.any.trackingMethod"] = METHODS[alignment.method]
        found["runtime.Fiducials.any.seedingMethod"] = 1
    else:
        found["runtime.Fiducials.any.fiducialless"] = 1
    if tilting.sirt_like:
        found["comparam.tilt.tilt.FakeSIRTiterations"] = tilting.sirt_like
    return found
