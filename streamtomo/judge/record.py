"""A tilt as the judge knows it: all of it is in the journal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from streamtomo.messages import TiltPlaced
from streamtomo.model import Correction, Look, Placement, Tilt, Verdict

LIKE = 5
"""Tilts nearest in angle that a tilt is compared with."""


class Seen(Struct, frozen=True, kw_only=True):
    """A tilt, as far as it came through the live lane."""

    index: int
    angle_deg: float
    correction: Correction
    look: Look | None = None
    """None where the journal is older than such looks."""
    placement: Placement | None = None
    """None if it was not placed (yet)."""
    verdict: Verdict = Verdict(state="good")
    in_volume: bool = True
    acquired_s: float | None = None
    dose_e_A2: float | None = None
    prior_dose_e_A2: float | None = None

    @property
    def light(self) -> float:
        """Level of the lit part of the image, in counts."""
        return self.look.lit if self.look is not None else self.correction.mean

    def shift(self) -> tuple[float, float] | None:
        """Where the specimen lies, raw pixels; None if that is not known."""
        return (self.placement.shift_x, self.placement.shift_y) if self.placement is not None else None


def fresh(tilt: Tilt, correction: Correction, look: Look | None) -> Seen:
    """A tilt that was read and corrected."""
    image = tilt.image
    return Seen(
        index=tilt.index,
        angle_deg=image.angle_deg,
        correction=correction,
        look=look,
        acquired_s=image.acquired_s if image.acquired_s is not None else image.written_s,
        dose_e_A2=image.dose_e_A2,
        prior_dose_e_A2=image.prior_dose_e_A2,
    )


def seen(tilt: Tilt, placed: TiltPlaced) -> Seen:
    """A tilt that went through the live lane before."""
    image = tilt.image
    return Seen(
        index=tilt.index,
        angle_deg=placed.angle_deg,
        correction=placed.correction,
        look=placed.look,
        placement=placed.placement,
        verdict=placed.verdict,
        in_volume=placed.in_volume,
        acquired_s=image.acquired_s if image.acquired_s is not None else image.written_s,
        dose_e_A2=image.dose_e_A2,
        prior_dose_e_A2=image.prior_dose_e_A2,
    )


def apart(a: tuple[float, float], b: tuple[float, float], field_px: tuple[int, int]) -> float:
    """Distance of two shifts as a fraction of the field."""
    return math.hypot((a[0] - b[0]) / field_px[0], (a[1] - b[1]) / field_px[1])


def like(new: Seen, before: Sequence[Seen]) -> list[Seen]:
    """The tilts nearest in angle, those that a tilt is compared with."""
    return sorted(before, key=lambda one: abs(one.angle_deg - new.angle_deg))[:LIKE]


def fails(one: Seen, *names: str) -> bool:
    """Whether one of these measures counts against a tilt."""
    return any(each.name in names and each.state != "good" for each in one.verdict.measures)


def value_of(one: Seen, measure: str) -> float | None:
    """A measure of a tilt; None if it has none."""
    return next((each.value for each in one.verdict.measures if each.name == measure), None)
