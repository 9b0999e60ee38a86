"""RELION-5's tomograms: `tomograms.star` and a star file of the tilt series, as imported and as aligned.

A point P from the tomogram's middle is seen at `Rz(ZRot) Ry(YTilt) Rx(XTilt) P + shift + n // 2`, in pixels counted
from 0: RELION's middle of an even number of pixels is half a pixel beyond ours. (Source: its projection matrices.)
Magnifications of single views it does not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamtomo import geometry
from streamtomo.errors import OutputError
from streamtomo.export import star
from streamtomo.export.imod import write_text
from streamtomo.export.views import Exports
from streamtomo.geometry import Array

FOLDER = "relion5"
HAND = -1.0


class Row(NamedTuple):
    """One view of an aligned tilt series."""

    xtilt_deg: float
    tilt_deg: float
    zrot_deg: float
    shift_px: Array
    """As RELION counts."""
    nx: int
    ny: int

    def project(self, points: Array) -> Array:
        """Where points `(n, 3)` from the tomogram's middle are seen, `(n, 2)` from the image's middle, as we count."""
        seen = geometry.apply(
            geometry.aligned_to_raw(self.zrot_deg, self.shift_px),
            geometry.project(points, self.tilt_deg, self.xtilt_deg),
        )
        return np.asarray(seen + half_pixel(self.nx, self.ny))


def half_pixel(nx: int, ny: int) -> Array:
    """From RELION's middle of an image to ours is this less: `n // 2 - (n - 1) / 2`."""
    return np.array([nx // 2 - geometry.centre(nx), ny // 2 - geometry.centre(ny)])


def write(folder: Path, exports: Exports) -> list[str]:
    """All star files below `relion5/`; their names. Raises OutputError."""
    base, name = folder / FOLDER, exports.name
    try:
        for inner in ("tilt_series", "import/tilt_series"):
            (base / inner).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{base}: cannot be made ({error.strerror})") from None
    imported, aligned = base / "import/tilt_series" / f"{name}.star", base / "tilt_series" / f"{name}.star"
    write_text(imported, star.render({name: _imported(exports)}))
    write_text(aligned, star.render({name: {**_imported(exports), **_aligned(exports)}}))
    write_text(base / "import/tilt_series.star", star.render({"global": _series(exports, imported)}))
    table = {**_series(exports, aligned), **_tomogram(exports)}
    write_text(base / "tomograms.star", star.render({"global": table}))
    files = (imported, aligned, base / "import/tilt_series.star", base / "tomograms.star")
    return [str(path.relative_to(folder)) for path in files]


def _series(exports: Exports, path: Path) -> dict[str, list[star.Value]]:
    raw = exports.pixel_A / exports.stack_binning
    return {
        "rlnTomoName": [exports.name],
        "rlnVoltage": [float(exports.voltage_kV)],
        "rlnSphericalAberration": [float(exports.cs_mm)],
        "rlnAmplitudeContrast": [float(exports.amplitude_contrast)],
        "rlnMicrographOriginalPixelSize": [float(raw)],
        "rlnTomoHand": [HAND],
        "rlnOpticsGroupName": ["optics1"],
        "rlnTomoTiltSeriesPixelSize": [float(exports.pixel_A)],
        "rlnTomoTiltSeriesStarFile": [str(path)],
    }


def _tomogram(exports: Exports) -> dict[str, list[star.Value]]:
    sizes = [round(size * exports.tomogram_binning) for size in exports.size_xyz]
    files: dict[str, list[star.Value]] = {"rlnTomoReconstructedTomogram": [exports.tomogram]}
    for number, half in enumerate(exports.halves, start=1):
        files[f"rlnTomoReconstructedTomogramHalf{number}"] = [half]
    return {
        "rlnTomoTomogramBinning": [float(exports.tomogram_binning)],
        "rlnTomoSizeX": [sizes[0]],
        "rlnTomoSizeY": [sizes[1]],
        "rlnTomoSizeZ": [sizes[2]],
        **files,
    }


def _imported(exports: Exports) -> dict[str, list[star.Value]]:
    views = exports.views
    return {
        "rlnMicrographMovieName": [view.image.path for view in views],
        "rlnTomoTiltMovieFrameCount": [view.image.frames for view in views],
        "rlnTomoNominalStageTiltAngle": [float(view.image.angle_deg) for view in views],
        "rlnTomoNominalTiltAxisAngle": [float(view.axis_deg) for view in views],
        "rlnMicrographPreExposure": [float(view.image.prior_dose_e_A2 or 0.0) for view in views],
        "rlnMicrographName": [f"{row:06d}@{exports.stack}:mrcs" for row in range(1, len(views) + 1)],
    }


def _aligned(exports: Exports) -> dict[str, list[star.Value]]:
    shifts = [exports.pixel_A * (view.shift - half_pixel(exports.nx, exports.ny)) for view in exports.views]
    return {
        "rlnTomoXTilt": [float(view.xtilt_deg) for view in exports.views],
        "rlnTomoYTilt": [float(view.tilt_deg) for view in exports.views],
        "rlnTomoZRot": [float(view.axis_deg) for view in exports.views],
        "rlnTomoXShiftAngst": [float(x) for x, _ in shifts],
        "rlnTomoYShiftAngst": [float(y) for _, y in shifts],
    }


def read(path: Path, pixel_A: float, nx: int, ny: int) -> list[Row]:
    """The views of an aligned tilt series whose images are `nx` x `ny`."""
    (table,) = star.read(path).values()
    labels = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot", "rlnTomoXShiftAngst", "rlnTomoYShiftAngst")
    columns = [star.numbers(table[label]) for label in labels]
    return [
        Row(xtilt, tilt, zrot, np.array([x, y]) / pixel_A, nx, ny)
        for xtilt, tilt, zrot, x, y in zip(*columns, strict=True)
    ]
