"""Tilts in which no neighbour was recognised: when they are tried again."""

from __future__ import annotations

from streamtomo.messages import TiltRetried
from streamtomo.series_record import SeriesRecord

NEAREST = 3
"""Tilts that an unplaced one is compared with one by one: a new one among them is a reason to try again."""
WORDS = "no neighbour was recognised in it"


def after(series: SeriesRecord, index: int) -> list[TiltRetried]:
    """What follows from a tilt that was just placed: those unplaced that it lies near to are tried again."""
    placed = {i: one.tilt.image.angle_deg for i, one in series.tilts.items() if one.is_reference}
    if index not in placed:
        return []
    again = []
    for i, one in series.tilts.items():
        angle = one.tilt.image.angle_deg
        nearest = sorted(placed, key=lambda other: abs(placed[other] - angle))[:NEAREST]
        if one.is_unplaced and index in nearest:
            reason = f"tilt {index} at {placed[index]:+.1f}° is near"
            again.append(TiltRetried(series=series.name, index=i, reason=reason))
    return again
