"""Every setting, typed, with unit, range and default.

`Settings` is the root; `config_file` reads and writes the files.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from streamtomo.config_judge import Judge


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the tables: closed to unknown keys."""


class Acquisition(_Table, frozen=True):
    """What the microscope does. Each value may be absent: then it is read from the data."""

    tilt_axis_deg: (
        Annotated[
            float,
            Meta(
                ge=-180,
                le=360,
                description=(
                    "Tilt-axis angle from the image's Y axis, counter-clockwise positive; wins over the metadata."
                ),
                extra={"unit": "degrees", "absent": "from mdoc or header, else 0", "example": 85.3},
            ),
        ]
        | None
    ) = None
    pixel_size_A: (
        Annotated[
            float,
            Meta(
                gt=0,
                le=1000,
                description="Size of a raw pixel; wins over the metadata.",
                extra={"unit": "Å", "absent": "from mdoc or header", "example": 2.17},
            ),
        ]
        | None
    ) = None
    voltage_kV: Annotated[
        float,
        Meta(
            ge=60,
            le=1000,
            description="Acceleration voltage: what dose weighting and other programs reckon with.",
            extra={"unit": "kV"},
        ),
    ] = 300.0
    cs_mm: Annotated[
        float,
        Meta(ge=0, le=20, description="Spherical aberration, told to other programs.", extra={"unit": "mm"}),
    ] = 2.7
    amplitude_contrast: Annotated[
        float,
        Meta(ge=0, le=1, description="Amplitude contrast, told to other programs.", extra={"unit": "fraction"}),
    ] = 0.07
    planned_tilts: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=2000,
                description="Tilts in a complete series; the series is closed when it has as many.",
                extra={
                    "unit": "tilts",
                    "absent": "as many as the mdoc tells, else closed by silence",
                    "example": 41,
                },
            ),
        ]
        | None
    ) = None
    planned_angles: (
        Annotated[
            str,
            Meta(
                min_length=1,
                description=(
                    "Tilt angles of a complete series, as from:to:step or one by one with commas; the series is closed "
                    "when all were taken."
                ),
                extra={"unit": "degrees", "absent": "those of the last complete series", "example": "-60:60:3"},
            ),
        ]
        | None
    ) = None
    flip_tiff_rows: Annotated[
        bool,
        Meta(
            description="TIFF stores the top row first; flip it, or every tomogram is a mirror image.",
            extra={"unit": ""},
        ),
    ] = True
    name_patterns: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Regular expressions for the names of image files, without folder and suffix, tried before those built "
                "in; named groups series and angle, and if you like order, date, time. See `streamtomo names`."
            ),
            extra={"unit": "", "example": (r"(?P<series>.+)_(?P<order>\d+)_(?P<angle>[-+.\d]+)",)},
        ),
    ] = ()


class Specimen(_Table, frozen=True):
    """What is in the microscope."""

    bead_nm: (
        Annotated[
            float,
            Meta(
                gt=0.5,
                le=200,
                description="Diameter of the gold beads.",
                extra={"unit": "nm", "absent": "found from the data", "example": 10.0},
            ),
        ]
        | None
    ) = None
    thickness_nm: (
        Annotated[
            float,
            Meta(
                gt=0,
                le=20000,
                description="Thickness of the reconstruction.",
                extra={"unit": "nm", "absent": "found from the data", "example": 300.0},
            ),
        ]
        | None
    ) = None


class Watch(_Table, frozen=True):
    """When a file is finished, and when a series is."""

    settle_s: Annotated[
        float,
        Meta(
            ge=0.05,
            le=600,
            description=(
                "A file is finished when its size and time have not changed for this long and it has the length "
                "its header demands."
            ),
            extra={"unit": "s"},
        ),
    ] = 0.6
    relist_s: Annotated[
        float,
        Meta(
            ge=0.05,
            le=600,
            description=(
                "The folder is listed anew at least this often, whatever events came; less often only where a listing "
                "takes more than a tenth of this."
            ),
            extra={"unit": "s"},
        ),
    ] = 1.0
    events: Annotated[
        Literal["auto", "on", "off"],
        Meta(
            description=(
                "Whether events of the file system say when to look; off: the folder is only listed. auto is off on "
                "network mounts, which send none."
            ),
            extra={"unit": ""},
        ),
    ] = "auto"
    silence_factor: Annotated[
        float,
        Meta(
            ge=2,
            le=1000,
            description=(
                "A series is complete after a silence of this many times its own median interval between tilts ..."
            ),
            extra={"unit": "intervals"},
        ),
    ] = 6.0
    silence_min_s: Annotated[
        float,
        Meta(ge=0.5, le=86400, description="... but never before this silence.", extra={"unit": "s"}),
    ] = 60.0
    min_tilts: Annotated[
        int,
        Meta(
            ge=2,
            le=1000,
            description="A series with fewer tilts is not finished: it stays listed as too short.",
            extra={"unit": "tilts"},
        ),
    ] = 5


class Correct(_Table, frozen=True):
    """X-rays, hot and dead pixels, and what is wrong with the camera."""

    outlier_sigma: Annotated[
        float,
        Meta(
            ge=4,
            le=100,
            description=(
                "A pixel is replaced when it differs from its surroundings by more than this many local standard "
                "deviations."
            ),
            extra={"unit": "sigma"},
        ),
    ] = 8.0
    camera_map: Annotated[
        bool,
        Meta(
            description=(
                "What stands out at the same place on the camera while the specimen moves is learned over all series, "
                "and taken out of every image from then on."
            ),
            extra={"unit": ""},
        ),
    ] = True
    gain_percent: Annotated[
        float,
        Meta(
            gt=0,
            le=100,
            description=(
                "An alarm is raised when the gain that is left in the images varies by more than this from pixel to "
                "pixel: the gain reference is wrong, stale or missing."
            ),
            extra={"unit": "percent"},
        ),
    ] = 2.0


class Movies(_Table, frozen=True):
    """Frames of movies: the camera's gain and defects, the specimen's drift."""

    gain: (
        Annotated[
            str,
            Meta(
                min_length=1,
                description="Gain reference: MRC, TIFF or .gain. Its zeros are defective pixels.",
                extra={"unit": "", "absent": "none", "example": "/data/gain/CountRef.mrc"},
            ),
        ]
        | None
    ) = None
    gain_rotate: Annotated[
        int,
        Meta(
            ge=0,
            le=3,
            description="The reference is turned counter-clockwise first (MotionCor2's RotGain, RELION's gain_rot) ...",
            extra={"unit": "quarter turns"},
        ),
    ] = 0
    gain_flip: Annotated[
        Literal["none", "x", "y"],
        Meta(
            description="... and then mirrored: x swaps left and right (FlipGain 2), y top and bottom (FlipGain 1).",
            extra={"unit": ""},
        ),
    ] = "none"
    gain_apply: Annotated[
        Literal["auto", "multiply", "divide"],
        Meta(
            description=(
                "What is done with the reference; auto multiplies, but divides EER movies by references other than "
                ".gain files, as RELION does."
            ),
            extra={"unit": ""},
        ),
    ] = "auto"
    gain_max_days: Annotated[
        float,
        Meta(
            gt=0,
            le=10000,
            description="A reference file that is older than the images by more than this is warned of.",
            extra={"unit": "days"},
        ),
    ] = 30.0
    defects: (
        Annotated[
            str,
            Meta(
                min_length=1,
                description=(
                    "Bad pixels: a defect list as SerialEM writes it, or a TIFF or MRC map that is not 0 where a pixel "
                    "is bad."
                ),
                extra={"unit": "", "absent": "none but the zeros of the gain", "example": "/data/gain/defects.txt"},
            ),
        ]
        | None
    ) = None
    apply_to: Annotated[
        Literal["movies", "all"],
        Meta(
            description="Whether gain and defects are for movies only, or for single images, too.", extra={"unit": ""}
        ),
    ] = "movies"
    drift: Annotated[
        Literal["auto", "on", "off"],
        Meta(
            description=(
                "Correction of the drift within movies; auto leaves it out of the live sums, not of the final ones, "
                "where the tilts come too fast for it."
            ),
            extra={"unit": ""},
        ),
    ] = "auto"
    eer_fraction: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=100000,
                description="Camera frames of an EER movie that are summed before drift is looked for.",
                extra={"unit": "frames", "absent": "0.25 e/Å² or a twelfth of the exposure", "example": 40},
            ),
        ]
        | None
    ) = None


class Align(_Table, frozen=True):
    """Live alignment by cross-correlation."""

    band_low: Annotated[
        float,
        Meta(
            ge=0,
            le=0.4,
            description="Lower edge of the band used for correlation.",
            extra={"unit": "cycles per live pixel"},
        ),
    ] = 0.01
    band_high: Annotated[
        float,
        Meta(
            ge=0.02,
            le=0.5,
            description="Upper edge of the band used for correlation.",
            extra={"unit": "cycles per live pixel"},
        ),
    ] = 0.12
    max_shift: Annotated[
        float,
        Meta(
            gt=0,
            le=0.9,
            description="Largest shift between neighbouring tilts that is looked for.",
            extra={"unit": "fraction of the field"},
        ),
    ] = 0.5


class Live(_Table, frozen=True):
    """The volume that grows while the series runs."""

    size_px: Annotated[
        int,
        Meta(
            ge=64,
            le=4096,
            description="Images are binned by the smallest whole number that brings their longer side to this size.",
            extra={"unit": "pixels"},
        ),
    ] = 768
    memory_GB: Annotated[
        float,
        Meta(
            gt=0.05,
            le=4000,
            description=(
                "Memory for the live volumes of all series; the one not touched for longest is let go first and "
                "rebuilt when needed."
            ),
            extra={"unit": "GB"},
        ),
    ] = 4.0


class Final(_Table, frozen=True):
    """Final alignment and tomogram."""

    binning: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=32,
                description="Binning of the aligned stack and the tomogram.",
                extra={
                    "unit": "raw pixels",
                    "absent": "the smallest that brings the longer side to 1500 pixels",
                    "example": 4,
                },
            ),
        ]
        | None
    ) = None
    align: Annotated[
        Literal["auto", "beads", "patches", "coarse"],
        Meta(
            description=(
                "What the final alignment follows: gold beads, patches of the image, or nothing beyond the live "
                "placements; auto takes beads where there are enough, else patches."
            ),
            extra={"unit": ""},
        ),
    ] = "auto"
    position: Annotated[
        Literal["auto", "off"],
        Meta(
            description=(
                "Whether the tomogram is turned flat and centred on the specimen; off: it lies as the stage did, and "
                "only its depth is found."
            ),
            extra={"unit": ""},
        ),
    ] = "auto"
    dose_weighting: Annotated[
        bool,
        Meta(
            description=(
                "Aligned views are filtered by the dose that the specimen had got, where the metadata tell it "
                "(Grant and Grigorieff 2015)."
            ),
            extra={"unit": ""},
        ),
    ] = True
    stack_GB: Annotated[
        float,
        Meta(
            ge=0,
            le=10000,
            description=(
                "The sorted stack beside the results has full size up to this; a larger one is binned as for the "
                "alignment, and all files that belong to it are in its pixels."
            ),
            extra={"unit": "GB"},
        ),
    ] = 0.5
    method: Annotated[
        Literal["wbp", "sirt"],
        Meta(
            description=(
                "How the tomogram is made: weighted back-projection, or simultaneous iterations towards the volume "
                "whose projections the views are, smoothed beyond the cutoff as for wbp."
            ),
            extra={"unit": ""},
        ),
    ] = "wbp"
    log: Annotated[
        bool,
        Meta(
            description=(
                "The tomogram is made from the logarithm of the counts, which adds up along a ray; for images of "
                "thick or heavy specimens that start at 0 for no electrons."
            ),
            extra={"unit": ""},
        ),
    ] = False
    sirt_iterations: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Iterations of sirt at most; it ends before when one lowers the residual by less than 1 %.",
            extra={"unit": "iterations"},
        ),
    ] = 20
    sirt_like: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="The filter of wbp makes the tomogram look like so many iterations of sirt; 0 for none.",
            extra={"unit": "iterations"},
        ),
    ] = 0
    radial_cutoff: Annotated[
        float,
        Meta(
            gt=0,
            le=0.5,
            description="The ramp filter rises to this frequency ...",
            extra={"unit": "cycles per pixel"},
        ),
    ] = 0.35
    radial_falloff: Annotated[
        float,
        Meta(
            gt=0,
            le=0.5,
            description="... and falls off beyond it like a Gaussian of this width.",
            extra={"unit": "cycles per pixel"},
        ),
    ] = 0.05
    roll_off: Annotated[
        Literal["gaussian", "hamming"],
        Meta(
            description="How it falls off; hamming goes down to 0.08 at 0.5 cycles per pixel whatever the width.",
            extra={"unit": ""},
        ),
    ] = "gaussian"
    even_coverage: Annotated[
        bool,
        Meta(
            description="Voxels that some views do not reach are weighted up to what all of them would give.",
            extra={"unit": ""},
        ),
    ] = False
    halves: Annotated[
        bool,
        Meta(
            description="Also tomograms of the even and of the odd views, as denoising and resolution need them.",
            extra={"unit": ""},
        ),
    ] = False
    volume_type: Annotated[
        Literal["int16", "float32"],
        Meta(
            description="Type of the tomogram's voxels; int16 is scaled, and the scale is in the summary.",
            extra={"unit": ""},
        ),
    ] = "int16"
    attempts: Annotated[
        int,
        Meta(
            ge=1, le=20, description="A series whose finishing fails is tried again so often.", extra={"unit": "times"}
        ),
    ] = 2


class Ctf(_Table, frozen=True):
    """The lens: what is known of it, what is sought, and what is done about it."""

    correct: Annotated[
        Literal["off", "flip", "wiener"],
        Meta(
            description=(
                "What is done about the lens in the aligned views: nothing, phases flipped, or amplitudes restored as "
                "far as the noise allows; strip by strip, each at its own focus."
            ),
            extra={"unit": ""},
        ),
    ] = "off"
    lowest_um: Annotated[
        float, Meta(gt=0, le=50, description="Underfocus is sought from here ...", extra={"unit": "µm"})
    ] = 0.5
    highest_um: Annotated[float, Meta(gt=0, le=50, description="... to here.", extra={"unit": "µm"})] = 10.0
    astigmatism: Annotated[
        bool, Meta(description="Astigmatism, the same in all views, is sought, too.", extra={"unit": ""})
    ] = True
    phase_plate: Annotated[
        bool, Meta(description="A phase shift, the same in all views, is sought, too.", extra={"unit": ""})
    ] = False
    hand: Annotated[
        Literal["auto", "normal", "inverted"],
        Meta(
            description=(
                "Which side of a tilted specimen is less underfocused: normal is the side that the tilt axis and the "
                "signs of the angles say is higher; auto takes what the views show, and warns of a contradiction."
            ),
            extra={"unit": ""},
        ),
    ] = "auto"


class Erase(_Table, frozen=True):
    """Gold in the aligned views."""

    gold: Annotated[
        bool,
        Meta(
            description="Beads are replaced by texture of their surroundings, those that served no alignment as well.",
            extra={"unit": ""},
        ),
    ] = False
    edge_nm: (
        Annotated[
            float,
            Meta(
                gt=0,
                le=500,
                description="Radius of the discs that are replaced.",
                extra={"unit": "nm", "absent": "as far as beads and their fringes are seen", "example": 8.0},
            ),
        ]
        | None
    ) = None


class Denoise(_Table, frozen=True):
    """Edge-enhancing diffusion of the tomogram."""

    iterations: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="Iterations of 0.1 units of time; 0 for no diffusion, 20 are usual.",
            extra={"unit": "iterations"},
        ),
    ] = 0
    k: (
        Annotated[
            float,
            Meta(
                gt=0,
                description="Gradients above this are edges and stay.",
                extra={"unit": "density per voxel", "absent": "from the tomogram's noise", "example": 300.0},
            ),
        ]
        | None
    ) = None
    sigma: Annotated[
        float,
        Meta(gt=0, le=1, description="Blur of the tomogram that gradients are taken from.", extra={"unit": "voxels"}),
    ] = 1.0


class Publish(_Table, frozen=True):
    """Who is told, and where."""

    bind: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address of the ZeroMQ sockets. Anything but loopback needs CURVE keys.",
            extra={"unit": ""},
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Meta(
            ge=1024,
            le=65000,
            description=(
                "Port of the event stream; the snapshot socket is on the next one. The next free pair is taken "
                "when it is in use."
            ),
            extra={"unit": ""},
        ),
    ] = 5570
    curve_keys: (
        Annotated[
            str,
            Meta(
                min_length=1,
                description=("Folder of keys, made by `streamtomo keys`: who may listen, and who may give orders."),
                extra={"unit": "", "absent": "no encryption, loopback only", "example": "/etc/streamtomo/keys"},
            ),
        ]
        | None
    ) = None
    metrics_port: (
        Annotated[
            int,
            Meta(
                ge=1024,
                le=65535,
                description="Port on loopback where Prometheus finds the numbers of the run, at /metrics.",
                extra={"unit": "", "absent": "none", "example": 9570},
            ),
        ]
        | None
    ) = None
    log_MB: Annotated[
        float,
        Meta(
            gt=0,
            le=10000,
            description="A log file (OUT/streamtomo.log) of this size is put aside; the last five are kept.",
            extra={"unit": "MB"},
        ),
    ] = 10.0


class Alarms(_Table, frozen=True):
    """When somebody must look."""

    late_factor: Annotated[
        float,
        Meta(
            ge=1.5,
            le=100,
            description="A tilt is late after this many times the usual interval between tilts of the folder.",
            extra={"unit": "intervals"},
        ),
    ] = 3.0
    backlog: Annotated[
        int,
        Meta(
            ge=1,
            le=10000,
            description="So many images that wait to be processed are an alarm.",
            extra={"unit": "images"},
        ),
    ] = 10
    disk_hours: Annotated[
        float,
        Meta(
            gt=0,
            le=1000,
            description="An alarm when the disk of the results will be full in less than this at the present rate.",
            extra={"unit": "h"},
        ),
    ] = 2.0
    reserve_GB: Annotated[
        float,
        Meta(
            ge=0,
            le=10000,
            description=(
                "With less free space for the results processing waits; images are still taken in, and it goes on when "
                "there is room."
            ),
            extra={"unit": "GB"},
        ),
    ] = 1.0


class Run(_Table, frozen=True):
    """The machine's share."""

    threads: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=256,
                description="Threads for the kernels.",
                extra={"unit": "threads", "absent": "all cores", "example": 2},
            ),
        ]
        | None
    ) = None
    finish_nice: Annotated[
        int,
        Meta(ge=0, le=19, description="Priority of the finishing process; 19 is the lowest.", extra={"unit": "nice"}),
    ] = 10
    umask: (
        Annotated[
            str,
            Meta(
                pattern="^0?[0-7]{3}$",
                description="Permissions that the results do not get, as the shell's umask has them.",
                extra={"unit": "octal", "absent": "as the shell says", "example": "007"},
            ),
        ]
        | None
    ) = None
    group: (
        Annotated[
            str,
            Meta(
                min_length=1,
                description="Group that owns the results.",
                extra={"unit": "", "absent": "the user's own", "example": "krios"},
            ),
        ]
        | None
    ) = None


class Settings(_Table, frozen=True):
    """All settings of a run."""

    acquisition: Acquisition = field(default_factory=Acquisition)
    specimen: Specimen = field(default_factory=Specimen)
    watch: Watch = field(default_factory=Watch)
    correct: Correct = field(default_factory=Correct)
    movies: Movies = field(default_factory=Movies)
    align: Align = field(default_factory=Align)
    live: Live = field(default_factory=Live)
    judge: Judge = field(default_factory=Judge)
    final: Final = field(default_factory=Final)
    ctf: Ctf = field(default_factory=Ctf)
    erase: Erase = field(default_factory=Erase)
    denoise: Denoise = field(default_factory=Denoise)
    publish: Publish = field(default_factory=Publish)
    alarms: Alarms = field(default_factory=Alarms)
    run: Run = field(default_factory=Run)
