"""The nouns that pass between the stages: frozen records without behaviour.

Pixel coordinates are those of the raw, unbinned image unless a name says otherwise; angles are in degrees, times in
seconds since 1970 (UTC). A value that is not known is None, never NaN.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class RawImage(Struct, frozen=True, kw_only=True):
    """One exposure as the microscope wrote it: where its pixels lie and what is known about it."""

    series: str
    """Name of the tilt series it belongs to; also the name of the series' output folder."""
    path: str
    """File that holds the pixels."""
    section: int = 0
    """Section of a stack, from 0; 0 for a file with one image."""
    frames: int = 1
    """Frames of the exposure in the file, when it is a movie; all of them make the image."""
    nx: int
    """Width in pixels."""
    ny: int
    """Height in pixels."""
    angle_deg: float
    """Tilt angle with the sign it was acquired with."""
    acquired_s: float | None = None
    """When it was exposed, by the microscope's clock."""
    written_s: float | None = None
    """Modification time of the file when it was found settled."""
    pixel_size_A: float | None = None
    tilt_axis_deg: float | None = None
    """Tilt-axis angle from the image's Y axis, counter-clockwise positive, as the metadata states it."""
    dose_e_A2: float | None = None
    """Dose of this exposure."""
    prior_dose_e_A2: float | None = None
    """Dose that the specimen had before it."""
    mdoc_section: int | None = None
    """`ZValue` of its section in the mdoc."""
    exposure: str | None = None
    """Names the exposure for good where `path` and `section` do not: its file was renamed or sorted after it was taken
    in, or it lies where another exposure lay. None: they do."""
    gone: str | None = None
    """Why its pixels cannot be read any more; None: they can."""

    @property
    def key(self) -> str:
        """One exposure, one key, wherever its pixels go."""
        return self.exposure or f"{self.path}#{self.section}"


class Tilt(Struct, frozen=True, kw_only=True):
    """A raw image with its place in the series."""

    index: int
    """Order in which the series received it, from 0; with the series' name the key of the tilt everywhere."""
    image: RawImage


class Correction(Struct, frozen=True, kw_only=True):
    """What was done to the pixels of one tilt, and what they are like afterwards."""

    repaired: int
    """Pixels replaced (X-rays, hot and dead pixels)."""
    binning: int
    """Raw pixels along each side of one pixel of the live image."""
    mean: float
    """Mean of the repaired image, in its own counts."""
    sd: float
    """Standard deviation of the binned image, in the same counts."""
    camera: int = 0
    """Tilts from which the camera map was learned that was applied; 0 for none."""
    drift_px: float | None = None
    """Length of the specimen's way through the movie, in raw pixels; None for a single image or where it was not
    measured."""


class Look(Struct, frozen=True, kw_only=True):
    """What one corrected image looks like, in the numbers that verdicts rest on; levels are in its own counts."""

    median: float
    lit: float
    """Median level of the part of the field that the beam reaches."""
    noise: float
    """Standard deviation between neighbouring live pixels, without outliers."""
    skew: float
    """Skewness of the levels over the field: negative where dark things lie on a bright ground."""
    saturated: float
    """Share of the raw pixels that stand at the camera's end."""
    repaired: float = 0.0
    """Share of the raw pixels that were replaced."""
    blocked: float = 0.0
    """Share of the field that is dark while the rest is lit, connected with the field's edge."""
    blocked_side: str = ""
    """Where most of it is: `left`, `right`, `bottom` (low y) or `top`; empty if nothing is."""
    blob: float = 0.0
    """Share of the field that is dark and touches no edge: ice or dirt."""
    spectrum: tuple[float, ...] = ()
    """Power of the detail over that of the noise, in rings of equal width in frequency (`judge.spectrum`)."""
    ghost: float | None = None
    """Height of the highest side peak in the autocorrelation over that of the middle: everything is seen twice; None
    where the journal is older than this."""
    defocus_um: float | None = None
    """Underfocus at the tilt axis by the rings of the lens; None where they do not tell."""


class Placement(Struct, frozen=True, kw_only=True):
    """Where the specimen lies in one tilt: `raw = R(axis) aligned + shift`, before any refinement."""

    shift_x: float
    shift_y: float
    """Shift of the specimen in the raw image, in raw pixels; a row of the `.prexg` is its negative."""
    score: float
    """Height of the correlation peak over the background's standard deviation; 0 for the first view."""
    ambiguity: float
    """Second peak over the first, 0 to 1; near 1 the placement is a guess."""
    neighbour: int | None = None
    """Index of the tilt it was correlated with; None for the first one."""
    step_x: float = 0.0
    step_y: float = 0.0
    """Shift relative to that neighbour, in raw pixels."""
    credible: bool = True
    """Whether a neighbour was recognised: by one clear peak, or by patches found where they are expected."""
    agreement: float | None = None
    """Correlation with a tilt at a like angle, ring by ring in frequency, above what chance gives, 0 to 1; None where
    it was not measured."""
    agreed_with: int | None = None
    """Index of that tilt."""
    kinship: float | None = None
    """The same with the nearest tilt that was not recognised; None where this one was, or there is no such tilt."""
    beads_expected: int | None = None
    """Beads of that tilt that lie in the field of this one; None where they were not looked for."""
    beads_seen: int | None = None
    """How many of them are there."""
    beads_by_chance: float | None = None
    """How many would be, if what looks like a bead here lay anywhere; None where the journal is older than this."""
    changed: float | None = None
    """Share of the field whose level is another one than in a tilt at a like angle; None where it was not measured."""


class Place(Struct, frozen=True, array_like=True):
    """Where the specimen lies in a tilt that was placed anew, raw pixels, as in a placement."""

    index: int
    shift_x: float
    shift_y: float


VerdictState = Literal["good", "doubtful", "bad"]


class Measure(Struct, frozen=True, kw_only=True):
    """One number that a verdict rests on."""

    name: str
    value: float
    expected: float | None = None
    limit: float | None = None
    """The value beyond which it counts against the tilt."""
    unit: str = ""
    margin: float | None = None
    """How far the value is on the good side of the limit, in the same unit; negative beyond it."""
    state: VerdictState = "good"
    """What this number alone says."""


class Verdict(Struct, frozen=True, kw_only=True):
    """How good one tilt is, with the reasons in words and the numbers behind them."""

    state: VerdictState
    reasons: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()


class AlignedView(Struct, frozen=True, kw_only=True):
    """One view of the final alignment."""

    index: int
    """Index of the tilt."""
    tilt_deg: float
    """Solved tilt angle."""
    xf: tuple[float, float, float, float, float, float]
    """Raw-to-aligned transform `a11 a12 a21 a22 dx dy`, about the image centres, in raw pixels."""
    xtilt_deg: float = 0.0
    """Tilt about X that the specimen is seen at in this view: 0 but where a beam tilt was solved."""
    residual_px: float | None = None
    """RMS distance between predicted and measured points of this view, in raw pixels; None where none were used."""
    points: int = 0
    """Measured positions that count."""
    error_px: float | None = None
    """Expected error (RMS distance) at the centre of the field, raw pixels; None where nothing was measured."""
    edge_error_px: float | None = None
    """The same at its corners."""


class WorstPoint(Struct, frozen=True, kw_only=True):
    """A measured position that is far from where the solution has it."""

    point: int
    """Number of the bead or patch, from 0."""
    row: int
    """Of its view, in ascending tilt."""
    residual_px: float
    weight: float
    """What it counts in the solution, 0 to 1."""


class LeftOut(Struct, frozen=True, kw_only=True):
    """A view that is in no output, and why."""

    index: int
    reason: str


class Alignment(Struct, frozen=True, kw_only=True):
    """The final alignment of a series, in ascending tilt angle."""

    method: str
    """"beads", "patches", "mixed" (both) or "coarse"."""
    axis_deg: float
    views: tuple[AlignedView, ...]
    left_out: tuple[LeftOut, ...] = ()
    residual_px: float | None = None
    """RMS over all points used, in raw pixels."""
    mean_residual_px: float | None = None
    """Mean distance over all points used, as IMOD's `tiltalign` tells it ..."""
    sd_residual_px: float | None = None
    """... and its standard deviation."""
    left_out_px: float | None = None
    """RMS distance of positions left out in turn from where the others have them."""
    error_px: float | None = None
    """Expected error (RMS distance) over the field and all views, in raw pixels, from the covariance of the positions;
    patches are let err together from view to view."""
    points: int = 0
    """Measured positions used."""
    worst: tuple[WorstPoint, ...] = ()
    """The positions furthest off, those that do not count included, the furthest first."""
    beam_tilt_deg: float = 0.0
    solved: str = ""
    """What was free, in words."""
    verdict: str = ""
    """How good it is, in words."""
    heights_px: tuple[float, float] | None = None
    """Lowest and highest of the beads or patches above the tilt axis, in raw pixels."""
    note: str = ""
    """What the method rests on, or why another one was not possible."""


class Tomogram(Struct, frozen=True, kw_only=True):
    """A reconstructed volume on disk, `(nz, ny, nx)`."""

    path: str
    nx: int
    ny: int
    nz: int
    binning: int
    pixel_size_A: float | None
    """Size of one voxel."""
    mean: float
    sd: float
