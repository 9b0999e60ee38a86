"""Settings of what comes in: microscope, specimen, folder, camera."""

from __future__ import annotations

from typing import Annotated, Literal

from streamtomo.setting import Table, facts


class Acquisition(Table, frozen=True):
    """What the microscope does. Each value may be absent: then it is read from the data."""

    tilt_axis_deg: (
        Annotated[
            float,
            "Tilt-axis angle from the image's Y axis, counter-clockwise positive; wins over the metadata.",
            facts("degrees", ge=-180, le=360, absent="from mdoc or header, else 0", example=85.3),
        ]
        | None
    ) = None
    pixel_size_A: (
        Annotated[
            float,
            "Size of a raw pixel; wins over the metadata.",
            facts("Å", gt=0, le=1000, absent="from mdoc or header", example=2.17),
        ]
        | None
    ) = None
    voltage_kV: Annotated[
        float, "Acceleration voltage: what dose weighting and other programs reckon with.", facts("kV", ge=60, le=1000)
    ] = 300.0
    cs_mm: Annotated[float, "Spherical aberration, told to other programs.", facts("mm", ge=0, le=20)] = 2.7
    amplitude_contrast: Annotated[
        float, "Amplitude contrast, told to other programs.", facts("fraction", ge=0, le=1)
    ] = 0.07
    planned_tilts: (
        Annotated[
            int,
            "Tilts in a complete series; the series is closed when it has as many.",
            facts("tilts", ge=1, le=2000, absent="as many as the mdoc tells, else closed by silence", example=41),
        ]
        | None
    ) = None
    planned_angles: (
        Annotated[
            str,
            "Tilt angles of a complete series, as from:to:step or one by one with commas; the series is closed when "
            "all were taken.",
            facts("degrees", min_length=1, absent="those of the last complete series", example="-60:60:3"),
        ]
        | None
    ) = None
    flip_tiff_rows: Annotated[bool, "TIFF stores the top row first; flip it, or every tomogram is a mirror image."] = (
        True
    )
    name_patterns: Annotated[
        tuple[str, ...],
        "Regular expressions for the names of image files, without folder and suffix, tried before those built in; "
        "named groups series and angle, and if you like order, date, time. See `streamtomo names`.",
        facts(example=(r"(?P<series>.+)_(?P<order>\d+)_(?P<angle>[-+.\d]+)",)),
    ] = ()


class Specimen(Table, frozen=True):
    """What is in the microscope."""

    bead_nm: (
        Annotated[
            float,
            "Diameter of the gold beads.",
            facts("nm", gt=0.5, le=200, absent="found from the data", example=10.0),
        ]
        | None
    ) = None
    thickness_nm: (
        Annotated[
            float,
            "Thickness of the reconstruction.",
            facts("nm", gt=0, le=20000, absent="found from the data", example=300.0),
        ]
        | None
    ) = None


class Watch(Table, frozen=True):
    """When a file is finished, and when a series is."""

    settle_s: Annotated[
        float,
        "A file is finished when its size and time have not changed for this long and it has the length its header "
        "demands.",
        facts("s", ge=0.05, le=600),
    ] = 0.6
    relist_s: Annotated[
        float,
        "The folder is listed anew at least this often, whatever events came; less often only where a listing takes "
        "more than a tenth of this.",
        facts("s", ge=0.05, le=600),
    ] = 1.0
    events: Annotated[
        Literal["auto", "on", "off"],
        "Whether events of the file system say when to look; off: the folder is only listed. auto is off on network "
        "mounts, which send none.",
    ] = "auto"
    silence_factor: Annotated[
        float,
        "A series is complete after a silence of this many times its own median interval between tilts ...",
        facts("intervals", ge=2, le=1000),
    ] = 6.0
    silence_min_s: Annotated[float, "... but never before this silence.", facts("s", ge=0.5, le=86400)] = 60.0
    min_tilts: Annotated[
        int, "A series with fewer tilts is not finished: it stays listed as too short.", facts("tilts", ge=2, le=1000)
    ] = 5


class Correct(Table, frozen=True):
    """X-rays, hot and dead pixels, and what is wrong with the camera."""

    outlier_sigma: Annotated[
        float,
        "A pixel is replaced when it differs from its surroundings by more than this many local standard deviations.",
        facts("sigma", ge=4, le=100),
    ] = 8.0
    camera_map: Annotated[
        bool,
        "What stands out at the same place on the camera while the specimen moves is learned over all series, and "
        "taken out of every image from then on.",
    ] = True
    gain_percent: Annotated[
        float,
        "An alarm is raised when the gain that is left in the images varies by more than this from pixel to pixel: "
        "the gain reference is wrong, stale or missing.",
        facts("percent", gt=0, le=100),
    ] = 2.0


class Movies(Table, frozen=True):
    """Frames of movies: the camera's gain and defects, the specimen's drift."""

    gain: (
        Annotated[
            str,
            "Gain reference: MRC, TIFF or .gain. Its zeros are defective pixels.",
            facts(min_length=1, absent="none", example="/data/gain/CountRef.mrc"),
        ]
        | None
    ) = None
    gain_rotate: Annotated[
        int,
        "The reference is turned counter-clockwise first (MotionCor2's RotGain, RELION's gain_rot) ...",
        facts("quarter turns", ge=0, le=3),
    ] = 0
    gain_flip: Annotated[
        Literal["none", "x", "y"],
        "... and then mirrored: x swaps left and right (FlipGain 2), y top and bottom (FlipGain 1).",
    ] = "none"
    gain_apply: Annotated[
        Literal["auto", "multiply", "divide"],
        "What is done with the reference; auto multiplies, but divides EER movies by references other than .gain "
        "files, as RELION does.",
    ] = "auto"
    gain_max_days: Annotated[
        float,
        "A reference file that is older than the images by more than this is warned of.",
        facts("days", gt=0, le=10000),
    ] = 30.0
    defects: (
        Annotated[
            str,
            "Bad pixels: a defect list as SerialEM writes it, or a TIFF or MRC map that is not 0 where a pixel is bad.",
            facts(min_length=1, absent="none but the zeros of the gain", example="/data/gain/defects.txt"),
        ]
        | None
    ) = None
    apply_to: Annotated[
        Literal["movies", "all"], "Whether gain and defects are for movies only, or for single images, too."
    ] = "movies"
    drift: Annotated[
        Literal["auto", "on", "off"],
        "Correction of the drift within movies; auto leaves it out of the live sums, not of the final ones, where the "
        "tilts come too fast for it.",
    ] = "auto"
    eer_fraction: (
        Annotated[
            int,
            "Camera frames of an EER movie that are summed before drift is looked for.",
            facts("frames", ge=1, le=100000, absent="0.25 e/Å² or a twelfth of the exposure", example=40),
        ]
        | None
    ) = None
