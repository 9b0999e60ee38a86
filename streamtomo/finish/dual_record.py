"""What is kept and told of a combination of two series: `NAME_dual.json` in the folder of the first."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from streamtomo.finish.plan import Stamp
from streamtomo.finish.state_file import stamp
from streamtomo.finish.work import DUAL
from streamtomo.model import Tomogram

REC = f"{DUAL}_rec.mrc"
DIFFUSED = f"{DUAL}_nad.mrc"
RECORD = f"{DUAL}.json"


class Dual(Struct, frozen=True, kw_only=True):
    """How two series were combined: `NAME_dual.json`. Lengths in voxels of the first's tomogram."""

    first: str
    second: str
    by: str
    """What was matched: beads or patches."""
    pairs: int
    residual_px: float
    """Root of the mean squared distance of the pairs."""
    largest_px: float
    turn_deg: float
    """Of the second into the first, about Z."""
    matrix: tuple[tuple[float, float, float], ...]
    """`first = matrix @ second + shift`, X, Y, Z from the middles of both tomograms."""
    shift: tuple[float, float, float]
    shared: float
    """Share of the first's field that the second saw at zero tilt."""
    how: str
    agreement: tuple[float, ...]
    """Correlation of both, in shells up to Nyquist, where both sampled."""
    agreement_A: float | None
    """Resolution down to which they agree; None where they do not, or the voxel's size is not known."""
    tomogram: Tomogram
    files: tuple[str, ...]
    made_from: tuple[Stamp, Stamp]
    """Size and time of the two tomograms."""
    seconds: float


def read_record(folder: Path, series: str) -> Dual | None:
    """What is known of a combination into a series, if it belongs to the tomogram that is there now."""
    try:
        found = msgspec.json.decode((folder / f"{series}{RECORD}").read_bytes(), type=Dual)
    except (OSError, ValueError):
        return None
    return found if tuple(found.made_from[0]) == stamp(folder / f"{series}_rec.mrc") else None


def told_of(made: Dual) -> dict[str, str]:
    """A combination in words, for the page of the first."""
    agree = "not known" if made.agreement_A is None else f"{made.agreement_A:g} Å"
    return {
        "two axes": f"combined with {made.second}, turned by {made.turn_deg:.2f}°: {made.tomogram.path}",
        "matched by": f"{made.pairs} {made.by}, residual {made.residual_px:.2f} voxels, {made.largest_px:.2f} at most",
        "both agree down to": f"{agree} where both sampled; {made.shared:.0%} of the field is seen by both",
    }
