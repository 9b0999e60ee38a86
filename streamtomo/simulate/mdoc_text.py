"""The text of mdoc files as SerialEM and Tomography 5 write it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from streamtomo.simulate.mrc import MODES

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MAGNIFICATION = 33000


@dataclass(frozen=True)
class Shot:
    """What the microscope notes of one exposure beside its pixels."""

    angle_deg: float
    """As the stage reads it."""
    when: datetime
    dose_e_A2: float | None = None
    prior_dose_e_A2: float | None = None
    defocus_um: float = -4.0
    exposure_s: float = 1.0
    stage_um: tuple[float, float] = (-94.3, 308.1)
    frame_path: str | None = None
    """Windows path of the file with the frames."""
    frames: int = 1
    """How many that file holds."""


@dataclass(frozen=True)
class Titles:
    """What the head of an mdoc is made of."""

    image_file: str
    shape_yx: tuple[int, int]
    dtype: np.dtype[np.generic]
    pixel_size_A: float | None
    axis_deg: float | None
    started: datetime
    voltage_kV: float = 300.0

    def labels(self) -> list[str]:
        """The two titles that SerialEM also puts into the header of the image file."""
        when = date_time(self.started)
        axis = "" if self.axis_deg is None else f"Tilt axis angle = {self.axis_deg:.1f}, "
        return [
            f"{'SerialEM: Simulated microscope':<58}{when}".ljust(79),
            f"    {axis}binning = 1  spot = 8  camera = 0",
        ]


def date_time(when: datetime, *, long_year: bool = False) -> str:
    """`15-Jan-26  10:10:10`, English in every locale; Tomography 5 has a long year and one blank."""
    year = f"{when.year:04d}" if long_year else f"{when.year % 100:02d}"
    blanks = " " if long_year else "  "
    return f"{when.day:02d}-{MONTHS[when.month - 1]}-{year}{blanks}{when:%H:%M:%S}"


def serialem_head(titles: Titles) -> list[str]:
    """Lines before the first section."""
    ny, nx = titles.shape_yx
    first, second = titles.labels()
    return [
        *_known("PixelSpacing = {:g}", titles.pixel_size_A),
        f"Voltage = {titles.voltage_kV:.0f}",
        "Version = SerialEM Version 4.1.0 64-bit, simulated",
        f"ImageFile = {titles.image_file}",
        f"ImageSize = {nx} {ny}",
        f"DataMode = {MODES[titles.dtype.name]}",
        "",
        f"[T = {first}]",
        "",
        f"[T = {second}]",
    ]


def serialem_section(z: int, shot: Shot, titles: Titles, image: NDArray[np.generic]) -> list[str]:
    """Lines of one section; the blank line stands before it."""
    lines = [
        "",
        f"[ZValue = {z}]",
        f"MinMaxMean = {min_max_mean(image)}",
        f"TiltAngle = {shot.angle_deg:.6g}",
        f"StagePosition = {shot.stage_um[0]:g} {shot.stage_um[1]:g}",
        "StageZ = -2.56436",
        f"Magnification = {MAGNIFICATION}",
        "Intensity = 0.115275",
        *_known("ExposureDose = {:g}", shot.dose_e_A2),
        *_known("PixelSpacing = {:g}", titles.pixel_size_A),
        "SpotSize = 8",
        f"Defocus = {shot.defocus_um:.6g}",
        "ImageShift = 0 0",
        *_known("RotationAngle = {:g}", rotation_angle(titles.axis_deg)),
        f"ExposureTime = {shot.exposure_s:g}",
        "Binning = 1",
        "CameraIndex = 0",
        "DividedBy2 = 0",
        "OperatingMode = 1",
        "MagIndex = 26",
        f"TargetDefocus = {shot.defocus_um:.3g}",
        *_known("PriorRecordDose = {:g}", shot.prior_dose_e_A2),
    ]
    if shot.frame_path:
        lines += [f"SubFramePath = {shot.frame_path}", f"NumSubFrames = {shot.frames}"]
        lines += _known(f"FrameDosesAndNumber = {{:g}} {shot.frames}", frame_dose(shot))
    return [*lines, f"DateTime = {date_time(shot.when)}", "FilterSlitAndLoss = 20 0"]


def tomo5_head(titles: Titles) -> list[str]:
    """Lines before the first section of Tomography 5's mdoc, whose axis has its own sense."""
    ny, nx = titles.shape_yx
    return [
        "DataMode = 6",
        f"ImageSize = {nx} {ny}",
        f"ImageFile = {titles.image_file}",
        *_known("PixelSpacing = {:.2f}", titles.pixel_size_A),
        f"Voltage = {titles.voltage_kV:.2f}",
        "",
        f"[T = Tomography: SIMULATED {date_time(titles.started, long_year=True)}]",
        "",
        *_known("[T = TiltAxisAngle = {:.2f} Binning = 1 SpotSize = 5]", tomo5_axis(titles.axis_deg)),
    ]


def tomo5_section(z: int, shot: Shot, titles: Titles, image: NDArray[np.generic]) -> list[str]:
    """Lines of one section; the blank line stands before it."""
    return [
        "",
        f"[ZValue = {z}]",
        f"TiltAngle = {shot.angle_deg:.2f}",
        f"StagePosition = {shot.stage_um[0]:.2f} {shot.stage_um[1]:.2f}",
        "StageZ = -6.70",
        f"Magnification = {MAGNIFICATION}",
        "Intensity = 0.00",
        *_known("ExposureDose = {:.2f}", shot.dose_e_A2),
        *_known("PixelSpacing = {:.2f}", titles.pixel_size_A),
        "SpotSize = 5",
        f"Defocus = {shot.defocus_um:.2f}",
        "ImageShift = 1.54 0.35",
        *_known("RotationAngle = {:.2f}", rotation_angle(titles.axis_deg)),
        f"ExposureTime = {shot.exposure_s:.2f}",
        "Binning = 1",
        "MagIndex = 28",
        f"MinMaxMean = {min_max_mean(image)}",
        f"TargetDefocus = {shot.defocus_um:.2f}",
        *_known("PriorRecordDose = {:.2f}", shot.prior_dose_e_A2),
        f"SubFramePath = {shot.frame_path}",
        f"NumSubFrames = {shot.frames}",
        *_known(f"FrameDosesAndNumber = {{:.2f}} {shot.frames}", frame_dose(shot)),
        f"DateTime = {date_time(shot.when, long_year=True)}",
        "FilterSlitAndLoss = 10.00 0.00",
        "ChannelName =",
        "CameraLength = NaN",
    ]


def _known(line: str, value: float | None) -> list[str]:
    """The line filled in, or none where the value is not known."""
    return [] if value is None else [line.format(value)]


def frame_dose(shot: Shot) -> float | None:
    """Dose of one frame."""
    return None if shot.dose_e_A2 is None else shot.dose_e_A2 / shot.frames


def min_max_mean(image: NDArray[np.generic]) -> str:
    """As mdocs have it: of the sum, if it is a movie."""
    image = image.sum(axis=0) if image.ndim == 3 else image
    least, largest, mean = image.min(), image.max(), image.mean(dtype=np.float64)
    return f"{least:g} {largest:g} {mean:.6g}"


def rotation_angle(axis_deg: float | None) -> float | None:
    """The axis measured from X, as the sections' RotationAngle is."""
    return None if axis_deg is None else wrapped(axis_deg + 90)


def tomo5_axis(axis_deg: float | None) -> float | None:
    """The axis in the sense of Tomography 5's title line."""
    return None if axis_deg is None else wrapped(-180 - axis_deg)


def wrapped(angle_deg: float) -> float:
    """Within (-180, 180]."""
    return round(180 - (180 - angle_deg) % 360, 6)
