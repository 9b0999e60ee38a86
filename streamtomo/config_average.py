"""Settings of the averages of particles."""

from __future__ import annotations

from typing import Annotated, Literal

from streamtomo.setting import Table, facts


class Average(Table, frozen=True):
    """Particles averaged by `streamtomo average`."""

    diameter_nm: (
        Annotated[
            float,
            "Diameter of the ball that holds the particle.",
            facts("nm", gt=1, le=1000, absent="an average cannot be made", example=25.0),
        ]
        | None
    ) = None
    symmetry: Annotated[
        str,
        "Symmetry of the particle: C1, C2, ... about z, D2, D3, ... also about x.",
        facts(pattern=r"^[CcDd][1-9][0-9]?$"),
    ] = "C1"
    source: Annotated[
        Literal["volume", "views"],
        "Where particles are cut from: the tomogram, or boxes back-projected from the aligned views, as they are after "
        "lens, dose and gold were dealt with.",
    ] = "volume"
    box_px: (
        Annotated[int, "Side of the boxes.", facts("voxels", ge=16, le=512, absent="1.7 diameters", example=64)] | None
    ) = None
    reach_nm: (
        Annotated[
            float,
            "How far a particle's middle may be from where it was picked.",
            facts("nm", gt=0, le=500, absent="a sixth of the diameter", example=4.0),
        ]
        | None
    ) = None
    rounds: Annotated[
        int, "Rounds at most; they end before when the resolution stands.", facts("rounds", ge=1, le=50)
    ] = 10
    classes: Annotated[
        int, "Classes that the particles are told apart into, by what differs from their average.", facts(ge=1, le=20)
    ] = 1
    bright_reference: Annotated[
        bool, "References and templates that are given show the particle bright; tomograms show it dark."
    ] = False
    seed: Annotated[int, "Of the random halves and starts.", facts(ge=0)] = 0
