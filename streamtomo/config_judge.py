"""Settings of the judge, and the limits that follow from them.

A limit that is not set is the preset's. `standard` is meant for daily use; `cautious` speaks later and only of what is
plain; `off` never speaks against a tilt that can be aligned.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

PRESETS: dict[str, tuple[float, float]] = {
    "dim_fraction": (0.75, 0.6),
    "dark_fraction": (0.5, 0.35),
    "dead_fraction": (0.15, 0.08),
    "blocked_doubtful": (0.12, 0.2),
    "blocked_bad": (0.22, 0.4),
    "shift_doubtful": (0.1, 0.2),
    "shift_bad": (0.45, 0.5),
    "min_score": (6.0, 5.0),
    "agree_doubtful": (0.5, 0.4),
    "agree_bad": (0.35, 0.25),
    "sharp_doubtful": (0.6, 0.45),
    "sharp_bad": (0.25, 0.15),
    "rings_doubtful": (0.45, 0.7),
    "rings_bad": (0.6, 1.0),
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


def _limit(name: str, unit: str, description: str, **bounds: Any) -> Meta:
    standard, cautious = PRESETS[name]
    absent = f"{standard:g}; preset cautious: {cautious:g}"
    return Meta(description=description, extra={"unit": unit, "absent": absent, "example": standard}, **bounds)


class Judge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Verdicts on tilts and series."""

    preset: Annotated[
        Literal["standard", "cautious", "off"],
        Meta(
            description=(
                "Limits that are not set below: for daily use; later and only of what is plain; or no word against any "
                "tilt that can be aligned."
            ),
            extra={"unit": ""},
        ),
    ] = "standard"
    action: Annotated[
        Literal["off", "advice", "act"],
        Meta(
            description=(
                "What a rejected series leads to: nothing but the verdict; a warning with the advice to end it; or "
                "also a flag file OUT/judge/SERIES.reject, and the command."
            ),
            extra={"unit": ""},
        ),
    ] = "off"
    command: Annotated[
        tuple[str, ...],
        Meta(
            description=(
                "Program and arguments that `act` starts for a rejected series, without a shell; {series}, {reason} "
                "and {flag} are put in their places."
            ),
            extra={"unit": ""},
        ),
    ] = ()
    command_limit_s: Annotated[
        float, Meta(gt=0, le=600, description="The command is ended after this time.", extra={"unit": "s"})
    ] = 10.0
    contrast: Annotated[
        Literal["auto", "bright field", "dark field"],
        Meta(
            description="In dark field there is no law of absorption; auto tells it from the images.",
            extra={"unit": ""},
        ),
    ] = "auto"
    reach_deg: Annotated[
        float,
        Meta(
            ge=5,
            le=90,
            description="Tilts are expected up to this angle where nothing else tells the plan.",
            extra={"unit": "degrees"},
        ),
    ] = 60.0
    dim_fraction: (
        Annotated[
            float,
            _limit(
                "dim_fraction",
                "fraction",
                "Intensity below this fraction of what the other tilts predict makes a tilt doubtful ...",
                gt=0,
                le=1,
            ),
        ]
        | None
    ) = None
    dark_fraction: (
        Annotated[float, _limit("dark_fraction", "fraction", "... below this fraction bad ...", gt=0, le=1)] | None
    ) = None
    dead_fraction: (
        Annotated[
            float,
            _limit(
                "dead_fraction",
                "fraction",
                "... and below this fraction there is no beam: two such tilts one after the other reject a series.",
                ge=0,
                le=1,
            ),
        ]
        | None
    ) = None
    blocked_doubtful: (
        Annotated[
            float,
            _limit(
                "blocked_doubtful",
                "fraction of the field",
                "A shadow over more of the field than this makes a tilt doubtful ...",
                gt=0,
                le=1,
            ),
        ]
        | None
    ) = None
    blocked_bad: (
        Annotated[float, _limit("blocked_bad", "fraction of the field", "... and over more than this bad.", gt=0, le=1)]
        | None
    ) = None
    shift_doubtful: (
        Annotated[
            float,
            _limit(
                "shift_doubtful",
                "fraction of the field",
                "A shift against the prediction beyond this makes a tilt doubtful ...",
                gt=0,
                le=1,
            ),
        ]
        | None
    ) = None
    shift_bad: (
        Annotated[
            float,
            _limit(
                "shift_bad",
                "fraction of the field",
                "... and a distance from the field at zero tilt beyond this bad.",
                gt=0,
                le=1,
            ),
        ]
        | None
    ) = None
    min_score: (
        Annotated[
            float,
            _limit(
                "min_score",
                "sigma of the background",
                "A correlation peak lower than this makes a tilt doubtful.",
                ge=0,
                le=1000,
            ),
        ]
        | None
    ) = None
    agree_doubtful: (
        Annotated[
            float,
            _limit(
                "agree_doubtful",
                "fraction",
                "Correlation with the neighbour below this fraction of that of tilts at like angles makes a tilt "
                "doubtful ...",
                ge=0,
                le=1,
            ),
        ]
        | None
    ) = None
    agree_bad: (
        Annotated[
            float,
            _limit("agree_bad", "fraction", "... and below this fraction bad: nothing was recognised.", ge=0, le=1),
        ]
        | None
    ) = None
    sharp_doubtful: (
        Annotated[
            float,
            _limit(
                "sharp_doubtful",
                "fraction",
                "Detail below this fraction of that of tilts at like angles makes a tilt doubtful ...",
                ge=0,
                le=1,
            ),
        ]
        | None
    ) = None
    sharp_bad: (
        Annotated[float, _limit("sharp_bad", "fraction", "... and below this fraction bad.", ge=0, le=1)] | None
    ) = None
    rings_doubtful: (
        Annotated[
            float,
            _limit(
                "rings_doubtful",
                "scatter of the logarithm",
                "A power spectrum of another shape by more than this (another defocus) makes a tilt doubtful ...",
                gt=0,
                le=10,
            ),
        ]
        | None
    ) = None
    rings_bad: (
        Annotated[
            float,
            _limit("rings_bad", "scatter of the logarithm", "... and by more than this bad.", gt=0, le=10),
        ]
        | None
    ) = None
    depth_doubtful: (
        Annotated[
            float,
            _limit(
                "depth_doubtful",
                "mean free paths",
                "A specimen thicker along the beam than this makes a tilt doubtful ...",
                gt=0,
                le=20,
            ),
        ]
        | None
    ) = None
    depth_bad: (
        Annotated[float, _limit("depth_bad", "mean free paths", "... and thicker than this bad.", gt=0, le=20)] | None
    ) = None
    noise_doubtful: (
        Annotated[
            float,
            _limit(
                "noise_doubtful",
                "times",
                "Noise above this many times what the others have at that intensity (or below its inverse) makes a "
                "tilt doubtful: the camera.",
                gt=1,
                le=100,
            ),
        ]
        | None
    ) = None
    repaired_bad: (
        Annotated[
            float,
            _limit(
                "repaired_bad",
                "fraction of the pixels",
                "More outliers than this are a failing camera, if the other tilts have fewer.",
                gt=0,
                le=1,
            ),
        ]
        | None
    ) = None
    angle_off_deg: (
        Annotated[
            float,
            _limit("angle_off_deg", "degrees", "A tilt this far from its planned angle is doubtful.", gt=0, le=90),
        ]
        | None
    ) = None
    in_a_row: (
        Annotated[
            int,
            _limit("in_a_row", "tilts", "So many bad tilts in a row on one branch reject a series.", ge=2, le=100),
        ]
        | None
    ) = None
    recover: (
        Annotated[
            int,
            _limit(
                "recover",
                "tilts",
                "So many good tilts one after the other take back a verdict on the series.",
                ge=1,
                le=100,
            ),
        ]
        | None
    ) = None
    enough_share: (
        Annotated[
            float,
            _limit(
                "enough_share",
                "fraction of the plan",
                "A series with so many usable tilts is not rejected any more.",
                gt=0,
                le=1,
            ),
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
    shift_doubtful: float
    shift_bad: float
    min_score: float
    agree_doubtful: float
    agree_bad: float
    sharp_doubtful: float
    sharp_bad: float
    rings_doubtful: float
    rings_bad: float
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
