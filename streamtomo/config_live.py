"""Settings of what happens while a series runs."""

from __future__ import annotations

from typing import Annotated

from streamtomo.setting import Table, facts


class Align(Table, frozen=True):
    """Live alignment by cross-correlation."""

    band_low: Annotated[
        float, "Lower edge of the band used for correlation.", facts("cycles per live pixel", ge=0, le=0.4)
    ] = 0.01
    band_high: Annotated[
        float, "Upper edge of the band used for correlation.", facts("cycles per live pixel", ge=0.02, le=0.5)
    ] = 0.12
    max_shift: Annotated[
        float,
        "Largest shift between neighbouring tilts that is looked for.",
        facts("fraction of the field", gt=0, le=0.9),
    ] = 0.5


class Live(Table, frozen=True):
    """The volume that grows while the series runs."""

    size_px: Annotated[
        int,
        "Images are binned by the smallest whole number that brings their longer side to this size.",
        facts("pixels", ge=64, le=4096),
    ] = 768
    memory_GB: Annotated[
        float,
        "Memory for the live volumes of all series; the one not touched for longest is let go first and rebuilt when "
        "needed.",
        facts("GB", gt=0.05, le=4000),
    ] = 4.0
    save_every_min: (
        Annotated[
            float,
            "Write the live volume of a series to OUT/NAME/NAME_live.mrc whenever it has more views than the file, and "
            "that is so old; `streamtomo snapshot` does it at once.",
            facts("min", gt=0.1, le=1440, absent="never by itself", example=10.0),
        ]
        | None
    ) = None
