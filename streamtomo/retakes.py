"""Exposures of one target taken twice: the earlier one is left out of its series."""

from __future__ import annotations

from itertools import pairwise

from streamtomo.messages import TiltExcluded, TiltRestored
from streamtomo.series_record import SeriesRecord, TiltState

RETAKE_DEG = 0.1
"""Two exposures one after the other whose angles differ by less are one target taken twice ..."""
MOST_RETAKES, MOST_RETAKES_SHARE = 3, 0.25
"""... unless there are more of them, and more than this share of all tilts: then the plan repeats its angles."""
RETAKEN = "taken again as tilt"


def after(series: SeriesRecord, index: int) -> list[TiltExcluded] | list[TiltRestored]:
    """What follows from a new tilt: of two exposures of one target, with no other taken between them, one goes."""
    order = sorted(series.kept(), key=lambda state: (state.stamp or 0.0, state.tilt.index))
    at = next(i for i, state in enumerate(order) if state.tilt.index == index)
    neighbours = order[max(0, at - 1) : at + 2]
    repeated = [] if series.repeats_angles else [pair for pair in pairwise(neighbours) if _is_retake(*pair)]
    before = [i for i, state in series.tilts.items() if (state.excluded or "").startswith(RETAKEN)]
    count = len(before) + len(repeated)
    if repeated and count > max(MOST_RETAKES, MOST_RETAKES_SHARE * len(series.tilts)):
        return [TiltRestored(series=series.name, index=i, reason="every angle is repeated") for i in before]
    return [
        TiltExcluded(series=series.name, index=one.tilt.index, reason=f"{RETAKEN} {other.tilt.index}")
        for one, other in repeated
    ]


def _is_retake(one: TiltState, other: TiltState) -> bool:
    """Whether these two, neighbours in time, show one target; without times of their own nobody knows."""
    apart = abs(one.tilt.image.angle_deg - other.tilt.image.angle_deg)
    return apart < RETAKE_DEG and None not in (one.stamp, other.stamp) and one.stamp != other.stamp
