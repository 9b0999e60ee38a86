"""What can happen to a series, from its first image to its tomogram."""

from __future__ import annotations

from typing import Literal

from streamtomo.happening import Happening
from streamtomo.model import Alignment, Place, Tomogram

SeriesState = Literal["collecting", "complete", "finishing", "finished", "failed", "too few", "rejected"]
Witness = Literal["count", "mdoc", "stack", "siblings", "silence", "operator"]
"""Who says that a series is complete: the settings' count or angles, the mdoc's sections, the angles of the series
before it, a long silence, the operator."""
SeriesVerdict = Literal["good", "watch", "reject"]


class SeriesOpened(Happening, frozen=True, kw_only=True, tag="series.opened"):
    """A new series was seen."""

    series: str
    source: str
    """The file or folder it comes from."""
    nx: int
    ny: int
    pixel_size_A: float | None = None
    tilt_axis_deg: float | None = None
    planned_tilts: int | None = None


class SeriesDescribed(Happening, frozen=True, kw_only=True, tag="series.described"):
    """Metadata said something about the series as a whole."""

    series: str
    source: str
    planned_tilts: int | None = None
    """How many tilts there will be; None if the metadata does not tell."""
    pixel_size_A: float | None = None
    tilt_axis_deg: float | None = None


class AxisMeasured(Happening, frozen=True, kw_only=True, tag="axis.measured"):
    """The tilt axis of a series was measured, and is not the nominal one; it is used from now on.

    An axis and its opposite cannot be told apart: of the two the one nearer to the nominal axis is told.
    """

    series: str
    axis_deg: float
    nominal_deg: float
    tilts: int
    """Views that it was measured from."""
    places: tuple[Place, ...] = ()
    """Those tilts, placed anew by it; their placements as told before were made by another axis."""


class SeriesJudged(Happening, frozen=True, kw_only=True, tag="series.judged"):
    """The verdict on a whole series changed."""

    series: str
    state: SeriesVerdict
    reasons: tuple[str, ...] = ()
    index: int | None = None
    """The tilt after which it was spoken."""
    first_fault: int | None = None
    """The first tilt at fault, where one can be named."""
    usable: str = ""
    """What can still be used of the series, in words."""
    forecast: str = ""
    """What will go wrong, and at which angle, in words; empty if nothing is foreseen."""
    confidence: float | None = None
    """How sure a verdict other than good is, 0 to 1."""


class SeriesCompleted(Happening, frozen=True, kw_only=True, tag="series.completed"):
    """No more tilts are expected."""

    series: str
    witness: Witness
    text: str
    """The witness in words, for people."""
    tilts: int


class SeriesTooFew(Happening, frozen=True, kw_only=True, tag="series.too_few"):
    """A complete series with too few usable tilts to be finished, such as one that was cancelled; no error."""

    series: str
    usable: int
    needed: int


class SeriesReopened(Happening, frozen=True, kw_only=True, tag="series.reopened"):
    """A tilt came after the series had been closed, or the operator waits for more; it will be finished again."""

    series: str
    reason: str
    by_operator: bool = False
    """Then the planned number of tilts closes it no more: only silence and the operator do."""


class SeriesDropped(Happening, frozen=True, kw_only=True, tag="series.dropped"):
    """The operator gives a series up: nothing more is made of it, nothing of it is deleted."""

    series: str
    reason: str


class SeriesRejected(Happening, frozen=True, kw_only=True, tag="series.rejected"):
    """*Wire only.* What other programs wait for: a series is not worth more beam time. Follows what says so."""

    series: str
    by: Literal["judge", "operator"]
    """The judge's word is advice: the series goes on if it goes on."""
    reasons: tuple[str, ...] = ()


class Picture(Happening, frozen=True, kw_only=True, tag="picture"):
    """*Wire only.* A small grey picture of the live volume, top row first."""

    series: str
    plane: Literal["xy", "xz", "yz"]
    tilts: int
    """Views in the volume that it shows."""
    by: Literal["wbp", "sirt"] = "wbp"
    """How what it shows was made."""
    width: int
    height: int
    pixels: bytes
    """`width * height` grey values."""


class FinishAsked(Happening, frozen=True, kw_only=True, tag="finish.asked"):
    """The operator has a series finished again, with these settings changed from now on."""

    series: str
    overrides: tuple[str, ...] = ()
    """Each as `table.key=value`."""


class FinishStarted(Happening, frozen=True, kw_only=True, tag="finish.started"):
    """The finishing lane took the series."""

    series: str
    tilts: int


class FinishStep(Happening, frozen=True, kw_only=True, tag="finish.step"):
    """The finishing lane moved on."""

    series: str
    step: str
    fraction: float
    """Of the whole recipe, 0 to 1."""
    part: float = 0.0
    """Of this step, 0 to 1: it is told again while it goes on."""
    skipped: bool = False
    """Its results of an earlier time are good."""


class FinishDone(Happening, frozen=True, kw_only=True, tag="finish.done"):
    """The series has its tomogram."""

    series: str
    seconds: float
    alignment: Alignment
    tomogram: Tomogram
    files: tuple[str, ...]


class FinishFailed(Happening, frozen=True, kw_only=True, tag="finish.failed"):
    """The finishing lane gave the series up."""

    series: str
    reason: str
    final: bool
    blocked: bool = False
    """Whether the output folder could not be written: it is tried again until it can, and does not count."""


class TomogramReady(Happening, frozen=True, kw_only=True, tag="tomogram.ready"):
    """*Wire only.* What other programs wait for: the tomogram of a series is on disk. Follows `finish.done`."""

    series: str
    path: str
    pixel_size_A: float | None = None
    """Of the tomogram's voxels."""
    residual_px: float | None = None
    tilts: int
    """Views that it is made of."""
