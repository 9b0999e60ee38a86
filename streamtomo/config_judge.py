"""Settings of the judge, and the limits that follow from them.

A limit that is not set is the preset's. `standard` is meant for daily use; `cautious` speaks later and only of what is
plain; `off` never speaks against a tilt that can be aligned.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from streamtomo.setting import Table, facts

PRESETS: dict[str, tuple[float, float]] = {
    "dim_fraction": (0.75, 0.6),
    "dark_fraction": (0.5, 0.35),
    "dead_fraction": (0.15, 0.08),
    "blocked_doubtful": (0.12, 0.2),
    "blocked_bad": (0.22, 0.4),
    "changed_doubtful": (0.07, 0.15),
    "changed_bad": (0.25, 0.4),
    "shift_doubtful": (0.1, 0.2),
    "shift_bad": (0.45, 0.5),
    "min_score": (6.0, 5.0),
    "peak_doubtful": (0.6, 0.5),
    "peak_bad": (0.45, 0.35),
    "agree_doubtful": (0.5, 0.4),
    "agree_bad": (0.35, 0.25),
    "sharp_doubtful": (0.6, 0.45),
    "sharp_bad": (0.25, 0.15),
    "rings_doubtful": (0.4, 0.6),
    "rings_bad": (0.5, 0.8),
    "contrast_doubtful": (2.2, 3.0),
    "contrast_bad": (3.0, 4.5),
    "ghost_doubtful": (0.07, 0.1),
    "ghost_bad": (0.12, 0.2),
    "defocus_doubtful_um": (1.0, 2.0),
    "defocus_bad_um": (3.0, 5.0),
    "drift_doubtful_nm": (5.0, 10.0),
    "drift_bad_nm": (20.0, 40.0),
    "beads_doubtful": (0.5, 0.3),
    "beads_bad": (0.25, 0.15),
    "depth_doubtful": (2.5, 3.0),
    "depth_bad": (3.5, 4.5),
    "noise_doubtful": (1.35, 1.8),
    "repaired_bad": (0.02, 0.05),
    "angle_off_deg": (0.5, 1.0),
    "in_a_row": (3, 4),
    "recover": (5, 8),
    "enough_share": (0.85, 0.7),
}
"""Limits of the presets `standard` and `cautious`."""


def _limit(name: str, unit: str, **bounds: Any) -> Meta:
    standard, cautious = PRESETS[name]
    return facts(unit, absent=f"{standard:g}; preset cautious: {cautious:g}", example=standard, **bounds)


class Judge(Table, frozen=True):
    """Verdicts on tilts and series."""

    preset: Annotated[
        Literal["standard", "cautious", "off"],
        "Limits that are not set below: for daily use; later and only of what is plain; or no word against any tilt "
        "that can be aligned.",
    ] = "standard"
    action: Annotated[
        Literal["off", "advice", "act"],
        "What a rejected series leads to: nothing but the verdict; a warning with the advice to end it; or also a "
        "flag file OUT/judge/SERIES.reject, and the command.",
    ] = "off"
    command: Annotated[
        tuple[str, ...],
        "Program and arguments that `act` starts for a rejected series, without a shell; {series}, {reason} and "
        "{flag} are put in their places.",
    ] = ()
    command_limit_s: Annotated[float, "The command is ended after this time.", facts("s", gt=0, le=600)] = 10.0
    contrast: Annotated[
        Literal["auto", "bright field", "dark field"],
        "In dark field there is no law of absorption; auto tells it from the images.",
    ] = "auto"
    reach_deg: Annotated[
        float, "Tilts are expected up to this angle where nothing else tells the plan.", facts("degrees", ge=5, le=90)
    ] = 60.0
    dim_fraction: (
        Annotated[
            float,
            "Intensity below this fraction of what the other tilts predict makes a tilt doubtful ...",
            _limit("dim_fraction", "fraction", gt=0, le=1),
        ]
        | None
    ) = None
    dark_fraction: (
        Annotated[float, "... below this fraction bad ...", _limit("dark_fraction", "fraction", gt=0, le=1)] | None
    ) = None
    dead_fraction: (
        Annotated[
            float,
            "... and below this fraction there is no beam: two such tilts one after the other reject a series.",
            _limit("dead_fraction", "fraction", ge=0, le=1),
        ]
        | None
    ) = None
    blocked_doubtful: (
        Annotated[
            float,
            "A shadow over more of the field than this makes a tilt doubtful ...",
            _limit("blocked_doubtful", "fraction of the field", gt=0, le=1),
        ]
        | None
    ) = None
    blocked_bad: (
        Annotated[
            float,
            "... and over more than this bad.",
            _limit("blocked_bad", "fraction of the field", gt=0, le=1),
        ]
        | None
    ) = None
    changed_doubtful: (
        Annotated[
            float,
            "Another level than in a tilt at a like angle over so much more of the field than is usual makes a tilt "
            "doubtful ...",
            _limit("changed_doubtful", "fraction of the field", gt=0, le=1),
        ]
        | None
    ) = None
    changed_bad: (
        Annotated[
            float,
            "... and over so much more bad.",
            _limit("changed_bad", "fraction of the field", gt=0, le=1),
        ]
        | None
    ) = None
    shift_doubtful: (
        Annotated[
            float,
            "A shift against the prediction beyond this makes a tilt doubtful ...",
            _limit("shift_doubtful", "fraction of the field", gt=0, le=1),
        ]
        | None
    ) = None
    shift_bad: (
        Annotated[
            float,
            "... and a distance from the field at zero tilt beyond this bad.",
            _limit("shift_bad", "fraction of the field", gt=0, le=1),
        ]
        | None
    ) = None
    min_score: (
        Annotated[
            float,
            "A correlation peak lower than this makes a tilt doubtful where nothing else tells what was recognised.",
            _limit("min_score", "sigma of the background", ge=0, le=1000),
        ]
        | None
    ) = None
    peak_doubtful: (
        Annotated[
            float,
            "A correlation peak below this fraction of that of tilts at like angles makes a tilt doubtful that does "
            "not agree with its neighbour ...",
            _limit("peak_doubtful", "fraction", ge=0, le=1),
        ]
        | None
    ) = None
    peak_bad: (
        Annotated[float, "... and below this fraction bad.", _limit("peak_bad", "fraction", ge=0, le=1)] | None
    ) = None
    agree_doubtful: (
        Annotated[
            float,
            "Correlation with the neighbour below this fraction of that of tilts at like angles makes a tilt doubtful "
            "...",
            _limit("agree_doubtful", "fraction", ge=0, le=1),
        ]
        | None
    ) = None
    agree_bad: (
        Annotated[
            float,
            "... and below this fraction bad: nothing was recognised.",
            _limit("agree_bad", "fraction", ge=0, le=1),
        ]
        | None
    ) = None
    sharp_doubtful: (
        Annotated[
            float,
            "Detail below this fraction of that of tilts at like angles makes a tilt doubtful ...",
            _limit("sharp_doubtful", "fraction", ge=0, le=1),
        ]
        | None
    ) = None
    sharp_bad: (
        Annotated[float, "... and below this fraction bad.", _limit("sharp_bad", "fraction", ge=0, le=1)] | None
    ) = None
    rings_doubtful: (
        Annotated[
            float,
            "A power spectrum of another shape by more than this (another defocus) makes a tilt doubtful ...",
            _limit("rings_doubtful", "scatter of the logarithm", gt=0, le=10),
        ]
        | None
    ) = None
    rings_bad: (
        Annotated[
            float,
            "... and by more than this bad.",
            _limit("rings_bad", "scatter of the logarithm", gt=0, le=10),
        ]
        | None
    ) = None
    contrast_doubtful: (
        Annotated[
            float,
            "So many times the detail of tilts at like angles makes a tilt doubtful: another defocus, or another "
            "specimen ...",
            _limit("contrast_doubtful", "times", gt=1, le=1000),
        ]
        | None
    ) = None
    contrast_bad: (
        Annotated[float, "... and so many times as much bad.", _limit("contrast_bad", "times", gt=1, le=1000)] | None
    ) = None
    ghost_doubtful: (
        Annotated[
            float,
            "A side peak of the autocorrelation that is higher by this than is usual makes a tilt doubtful: everything "
            "is seen twice ...",
            _limit("ghost_doubtful", "fraction", gt=0, le=1),
        ]
        | None
    ) = None
    ghost_bad: Annotated[float, "... and higher by this bad.", _limit("ghost_bad", "fraction", gt=0, le=1)] | None = (
        None
    )
    defocus_doubtful_um: (
        Annotated[
            float,
            "A defocus further than this from that of the other tilts makes a tilt doubtful ...",
            _limit("defocus_doubtful_um", "µm", gt=0, le=100),
        ]
        | None
    ) = None
    defocus_bad_um: (
        Annotated[float, "... and further than this bad.", _limit("defocus_bad_um", "µm", gt=0, le=100)] | None
    ) = None
    drift_doubtful_nm: (
        Annotated[
            float,
            "A specimen that moves further than this while a movie is exposed makes a tilt doubtful, if it is more "
            "than usual ...",
            _limit("drift_doubtful_nm", "nm", gt=0, le=10000),
        ]
        | None
    ) = None
    drift_bad_nm: (
        Annotated[float, "... and further than this bad.", _limit("drift_bad_nm", "nm", gt=0, le=10000)] | None
    ) = None
    beads_doubtful: (
        Annotated[
            float,
            "Fewer than this fraction of the beads that should be seen again makes a tilt doubtful ...",
            _limit("beads_doubtful", "fraction", gt=0, le=1),
        ]
        | None
    ) = None
    beads_bad: (
        Annotated[
            float,
            "... and fewer than this fraction bad: they are others, or elsewhere.",
            _limit("beads_bad", "fraction", gt=0, le=1),
        ]
        | None
    ) = None
    depth_doubtful: (
        Annotated[
            float,
            "A specimen thicker along the beam than this makes a tilt doubtful ...",
            _limit("depth_doubtful", "mean free paths", gt=0, le=20),
        ]
        | None
    ) = None
    depth_bad: (
        Annotated[float, "... and thicker than this bad.", _limit("depth_bad", "mean free paths", gt=0, le=20)] | None
    ) = None
    noise_doubtful: (
        Annotated[
            float,
            "Noise above this many times what the others have at that intensity (or below its inverse) makes a tilt "
            "doubtful: the camera.",
            _limit("noise_doubtful", "times", gt=1, le=100),
        ]
        | None
    ) = None
    repaired_bad: (
        Annotated[
            float,
            "More outliers than this are a failing camera, if the other tilts have fewer.",
            _limit("repaired_bad", "fraction of the pixels", gt=0, le=1),
        ]
        | None
    ) = None
    angle_off_deg: (
        Annotated[
            float,
            "A tilt this far from its planned angle is doubtful.",
            _limit("angle_off_deg", "degrees", gt=0, le=90),
        ]
        | None
    ) = None
    in_a_row: (
        Annotated[
            int,
            "So many bad tilts, all of the last ones or of the last ones on one branch but for one, reject a series.",
            _limit("in_a_row", "tilts", ge=2, le=100),
        ]
        | None
    ) = None
    recover: (
        Annotated[
            int,
            "So many good tilts one after the other take back a verdict on the series.",
            _limit("recover", "tilts", ge=1, le=100),
        ]
        | None
    ) = None
    enough_share: (
        Annotated[
            float,
            "A series with so many usable tilts is not rejected any more.",
            _limit("enough_share", "fraction of the plan", gt=0, le=1),
        ]
        | None
    ) = None


class Limits(Struct, frozen=True, kw_only=True):
    """Every limit as it holds; the names are those of the settings."""

    dim_fraction: float
    dark_fraction: float
    dead_fraction: float
    blocked_doubtful: float
    blocked_bad: float
    changed_doubtful: float
    changed_bad: float
    shift_doubtful: float
    shift_bad: float
    min_score: float
    peak_doubtful: float
    peak_bad: float
    agree_doubtful: float
    agree_bad: float
    sharp_doubtful: float
    sharp_bad: float
    rings_doubtful: float
    rings_bad: float
    contrast_doubtful: float
    contrast_bad: float
    ghost_doubtful: float
    ghost_bad: float
    defocus_doubtful_um: float
    defocus_bad_um: float
    drift_doubtful_nm: float
    drift_bad_nm: float
    beads_doubtful: float
    beads_bad: float
    depth_doubtful: float
    depth_bad: float
    noise_doubtful: float
    repaired_bad: float
    angle_off_deg: float
    in_a_row: int
    recover: int
    enough_share: float


def limits(settings: Judge) -> Limits:
    """What is set, and for the rest the preset's."""
    column = 1 if settings.preset == "cautious" else 0
    values: dict[str, Any] = {name: preset[column] for name, preset in PRESETS.items()}
    chosen = {name: value for name in PRESETS if (value := getattr(settings, name)) is not None}
    return msgspec.convert({**values, **chosen}, Limits, strict=False)
