"""Settings of the final alignment and the tomogram, and of what restores it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from streamtomo.setting import Table, facts

PRESETS: dict[str, tuple[Any, Any, Any]] = {
    "final.longest_px": (750, 1500, 1500),
    "ctf.correct": ("off", "off", "flip"),
    "erase.gold": (False, False, True),
    "denoise.iterations": (0, 0, 12),
    "dual.combine": ("off", "off", "auto"),
}
"""What the presets `quick`, `standard` and `full` say where nothing is set."""


def _preset(path: str, unit: str = "", **bounds: Any) -> Meta:
    quick, standard, full = (str(value).lower() for value in PRESETS[path])
    other = f"; preset quick: {quick}" if quick != standard else ""
    other += f"; preset full: {full}" if full != standard else ""
    return facts(unit, absent=f"{standard}{other}", example=PRESETS[path][2], **bounds)


class Final(Table, frozen=True):
    """Final alignment and tomogram."""

    preset: Annotated[
        Literal["quick", "standard", "full"],
        "What settings here and below mean that are not set: quick has small tomograms; full corrects the lens, erases "
        "gold, diffuses the tomogram and combines two axes.",
    ] = "standard"
    longest_px: (
        Annotated[
            int,
            "The aligned stack and the tomogram are binned until their longer side has no more pixels than this ...",
            _preset("final.longest_px", "pixels", ge=64, le=100000),
        ]
        | None
    ) = None
    binning: (
        Annotated[
            int,
            "... or by this.",
            facts("raw pixels", ge=1, le=32, absent="the smallest that final.longest_px allows", example=4),
        ]
        | None
    ) = None
    align: Annotated[
        Literal["auto", "beads", "patches", "mixed", "coarse"],
        "What the final alignment follows: gold beads, patches of the image, both, or nothing beyond the live "
        "placements; auto takes beads where there are enough all over the field, else both, else patches.",
    ] = "auto"
    position: Annotated[
        Literal["auto", "off"],
        "Whether the tomogram is turned flat and centred on the specimen; off: it lies as the stage did, and only its "
        "depth is found.",
    ] = "auto"
    dose_weighting: Annotated[
        bool,
        "Aligned views are filtered by the dose that the specimen had got, where the metadata tell it (Grant and "
        "Grigorieff 2015).",
    ] = True
    stack_GB: Annotated[
        float,
        "The sorted stack beside the results has full size up to this; a larger one is binned as for the alignment, "
        "and all files that belong to it are in its pixels.",
        facts("GB", ge=0, le=10000),
    ] = 0.5
    method: Annotated[
        Literal["wbp", "sirt"],
        "How the tomogram is made: weighted back-projection, or simultaneous iterations towards the volume whose "
        "projections the views are, smoothed beyond the cutoff as for wbp.",
    ] = "wbp"
    log: Annotated[
        bool,
        "The tomogram is made from the logarithm of the counts, which adds up along a ray; for images of thick or "
        "heavy specimens that start at 0 for no electrons.",
    ] = False
    sirt_iterations: Annotated[
        int,
        "Iterations of sirt at most; it ends before when one lowers the residual by less than 1 %.",
        facts("iterations", ge=1, le=1000),
    ] = 20
    sirt_relaxation: Annotated[
        float,
        "Each step of sirt is multiplied by this; beyond 1 it goes faster, and takes up more noise.",
        facts(gt=0, lt=2),
    ] = 1.0
    sirt_sign: Annotated[
        Literal["any", "dark", "bright"],
        "Whether the specimen is known to be only darker or only brighter than what is around it, as a needle in "
        "vacuum is: voxels of sirt then never get beyond the background.",
    ] = "any"
    sirt_mask: (
        Annotated[
            str,
            "MRC file of the tomogram's size: voxels of sirt stay at the background where it is 0.",
            facts(min_length=1, absent="none", example="mask.mrc"),
        ]
        | None
    ) = None
    sirt_like: Annotated[
        int,
        "The filter of wbp makes the tomogram look like so many iterations of sirt; 0 for none.",
        facts("iterations", ge=0, le=1000),
    ] = 0
    radial_cutoff: Annotated[
        float, "The ramp filter rises to this frequency ...", facts("cycles per pixel", gt=0, le=0.5)
    ] = 0.35
    radial_falloff: Annotated[
        float, "... and falls off beyond it like a Gaussian of this width.", facts("cycles per pixel", gt=0, le=0.5)
    ] = 0.05
    roll_off: Annotated[
        Literal["gaussian", "hamming"],
        "How it falls off; hamming goes down to 0.08 at 0.5 cycles per pixel whatever the width.",
    ] = "gaussian"
    even_coverage: Annotated[
        bool, "Voxels that some views do not reach are weighted up to what all of them would give."
    ] = False
    halves: Annotated[
        bool, "Also tomograms of the even and of the odd views, as denoising and resolution need them."
    ] = False
    volume_type: Annotated[
        Literal["int16", "float32"], "Type of the tomogram's voxels; int16 is scaled, and the scale is in the summary."
    ] = "int16"
    attempts: Annotated[int, "A series whose finishing fails is tried again so often.", facts("times", ge=1, le=20)] = 2


class Ctf(Table, frozen=True):
    """The lens: what is known of it, what is sought, and what is done about it."""

    correct: (
        Annotated[
            Literal["off", "flip", "wiener"],
            "What is done about the lens in the aligned views: nothing, phases flipped, or amplitudes restored as far "
            "as the noise allows; strip by strip, each at its own focus.",
            _preset("ctf.correct"),
        ]
        | None
    ) = None
    lowest_um: Annotated[float, "Underfocus is sought from here ...", facts("µm", gt=0, le=50)] = 0.5
    highest_um: Annotated[float, "... to here.", facts("µm", gt=0, le=50)] = 10.0
    astigmatism: Annotated[bool, "Astigmatism, the same in all views, is sought, too."] = True
    phase_plate: Annotated[bool, "A phase shift, the same in all views, is sought, too."] = False
    hand: Annotated[
        Literal["auto", "normal", "inverted"],
        "Which side of a tilted specimen is less underfocused: normal is the side that the tilt axis and the signs of "
        "the angles say is higher; auto takes what the views show, and warns of a contradiction.",
    ] = "auto"


class Erase(Table, frozen=True):
    """Gold in the aligned views."""

    gold: (
        Annotated[
            bool,
            "Beads are replaced by texture of their surroundings, those that served no alignment as well.",
            _preset("erase.gold"),
        ]
        | None
    ) = None
    edge_nm: (
        Annotated[
            float,
            "Radius of the discs that are replaced.",
            facts("nm", gt=0, le=500, absent="as far as beads and their fringes are seen", example=8.0),
        ]
        | None
    ) = None


class Dual(Table, frozen=True):
    """Two series of one area about two tilt axes."""

    combine: (
        Annotated[
            Literal["off", "auto"],
            "Whether two series whose names differ by the suffixes below are combined when both are finished; on "
            "request by `streamtomo combine`.",
            _preset("dual.combine"),
        ]
        | None
    ) = None
    suffixes: Annotated[str, "How the names of the first and of the second series end.", Meta(pattern=r"^\S+ \S+$")] = (
        "a b"
    )
    turn_deg: (
        Annotated[
            float,
            "Turn about the beam that brings the second series onto the first, counter-clockwise, right to 10°.",
            facts("degrees", ge=-360, le=360, absent="it is found", example=90.0),
        ]
        | None
    ) = None


class Denoise(Table, frozen=True):
    """Edge-enhancing diffusion of the tomogram."""

    iterations: (
        Annotated[
            int,
            "Iterations of 0.1 units of time; 0 for no diffusion, 20 are usual.",
            _preset("denoise.iterations", "iterations", ge=0, le=1000),
        ]
        | None
    ) = None
    k: (
        Annotated[
            float,
            "Gradients above this are edges and stay.",
            facts("density per voxel", gt=0, absent="from the tomogram's noise", example=300.0),
        ]
        | None
    ) = None
    sigma: Annotated[float, "Blur of the tomogram that gradients are taken from.", facts("voxels", gt=0, le=1)] = 1.0


class Export(Table, frozen=True):
    """Files beside those that are always written."""

    ome_zarr: Annotated[
        bool,
        "Also the tomogram as an OME-Zarr pyramid, NAME_rec.ome.zarr, for napari and the web; needs the package zarr.",
    ] = False
    movie: Annotated[bool, "Also a movie through the sections of the tomogram, NAME_rec.gif."] = False


class Cluster(Table, frozen=True):
    """A Dask cluster that finishes series, for a facility with several microscopes; needs the package distributed."""

    scheduler: (
        Annotated[
            str,
            "Its address. Workers see the folders of raw data and results under the same paths, and have the same "
            "version of streamtomo.",
            facts("address", absent="series are finished on this machine", example="tcp://cluster-box:8786"),
        ]
        | None
    ) = None
    takes: Annotated[
        Literal["series", "blocks"],
        "What a worker is given: whole series, or blocks of slices of the tomogram, the other steps being done here.",
    ] = "series"
