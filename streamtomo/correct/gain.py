"""The camera's gain: how a reference is laid on the frames, and what the frames themselves say about it.

Orientation: a reference is turned by quarters, counter-clockwise as displayed with y up, then mirrored: "x" swaps left
and right, "y" top and bottom. In the words of others:

| here | MotionCor2, RELION | SerialEM's RotationAndFlip, IMOD's `clip -R`, `alignframes -rotation` |
|---|---|---|
| rotate r, flip none | RotGain r, FlipGain 0 | r |
| rotate r, flip "y" | RotGain r, FlipGain 1 | 4 + (2 - r) mod 4 |
| rotate r, flip "x" | RotGain r, FlipGain 2 | 4 + (-r) mod 4 |

(RELION's help says clockwise, for its display has y down.) Files in TIFF, and Falcon's `.gain`, which is one, store the
top row first and are turned over when they are read, as the frames are.

K2, K3 and Falcon's `.gain` references are multiplied with the counts; other references for EER movies are divided by,
as in RELION. A reference's zeros are defective pixels either way.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.fft as fft
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

Image = NDArray[Any]
Real = NDArray[np.float32]
Flip = Literal["none", "x", "y"]

EXTREME = 8.0
"""Pixels whose gain is further from the usual one than by this factor are defective."""
SCALES = (2, 3, 4, 8)
"""A reference may have so many times more, or fewer, pixels along each side: super-resolution."""
FIELD_PX = 1024
"""Side of the middle of the field in which patterns are compared."""
CERTAIN = 10.0
"""Height of a correlation over its own background, in standard deviations, that is no chance."""
SHARP = 0.3
"""Correlation at the next pixels over that of a pattern with itself: the camera's is below, the specimen's above."""
STRONG = 0.015
"""Spread of a pattern, as a fraction of the counts, above which its gain is missed."""


class Gain(NamedTuple):
    """A reference laid on the frames, `(ny, nx)`."""

    factor: Real
    """What counts are multiplied with; its mean over good pixels is 1."""
    dead: NDArray[np.bool_]


class Orientation(NamedTuple):
    """How a reference is turned, then mirrored."""

    rotate: int = 0
    """Quarter turns, counter-clockwise as displayed."""
    flip: Flip = "none"

    def __str__(self) -> str:
        return f'gain_rotate = {self.rotate}, gain_flip = "{self.flip}"'


ORIENTATIONS = (
    *(Orientation(rotate) for rotate in range(4)),
    *(Orientation(rotate, flip) for rotate in range(2) for flip in ("x", "y")),
)
"""All that there are; turned by one quarter more, x and y change places."""


def orient(reference: Image, orientation: Orientation) -> Image:
    """A view of the reference, turned and mirrored; row 0 is the bottom."""
    turned = np.rot90(reference, -orientation.rotate)
    return {"none": turned, "x": turned[:, ::-1], "y": turned[::-1]}[orientation.flip]


def make_gain(reference: Image, shape_yx: tuple[int, int], orientation: Orientation, *, divide: bool) -> Gain:
    """The gain of frames of `shape_yx`; raises ValueError with what is wrong if the reference has another shape."""
    return _factors(_fit(orient(reference, orientation), shape_yx), divide=divide)


def _factors(turned: Image, *, divide: bool) -> Gain:
    turned = turned.astype(np.float32)
    good = np.isfinite(turned) & (turned > 0)
    factor = np.ones(turned.shape, np.float32)
    np.divide(1, turned, out=factor, where=good) if divide else np.copyto(factor, turned, where=good)
    if not good.any():
        raise ValueError("has no pixel above 0")
    usual = float(np.median(factor[good][:: max(1, factor.size // 100_000)]))
    good &= (factor < EXTREME * usual) & (factor > usual / EXTREME)
    factor /= np.float32(factor.mean(where=good, dtype=np.float64))
    factor[~good] = 1
    return Gain(factor, ~good)


def _fit(reference: Image, shape_yx: tuple[int, int]) -> Image:
    """The reference at the size of the frames; 0 where any of the pixels that make one is no good."""
    ny, nx = shape_yx
    have = reference.shape
    for scale in SCALES:
        if have == (ny * scale, nx * scale):
            blocks = reference.reshape(ny, scale, nx, scale)
            return np.where((blocks > 0).all(axis=(1, 3)), blocks.mean(axis=(1, 3)), np.float32(0))
        if (have[0] * scale, have[1] * scale) == (ny, nx):
            return np.repeat(np.repeat(reference, scale, axis=0), scale, axis=1)
    if have == (ny, nx):
        return reference
    text = f"has {have[1]} x {have[0]} pixels, the frames have {nx} x {ny}"
    raise ValueError(text + ("; it fits when turned by 90°: see gain_rotate" if have == (nx, ny) else ""))


# -- what the frames say ---------------------------------------------------------------------------------------------


class PatternReport(NamedTuple):
    """What the fixed pattern of the frames says; heights are in standard deviations of the correlation's background."""

    height: float
    """Of the pattern with the gain as it is laid on: high when it is right, about 0 when not, negative when inverse."""
    best: Orientation
    """The orientation whose correlation is highest."""
    best_height: float

    @property
    def rotated(self) -> bool:
        """Whether another orientation fits beyond doubt, and the one in use does not."""
        return self.best_height >= CERTAIN and self.height < self.best_height / 2

    @property
    def inverse(self) -> bool:
        """Whether the frames were to be divided where they are multiplied, or the other way round."""
        return self.height <= -CERTAIN and not self.rotated


class FixedPattern:
    """The camera's own pattern, gathered from the sums of exposures before any gain.

    What differs from the surroundings at the same pixel in every exposure is the camera's; the specimen's own detail
    moves on from tilt to tilt, and averages out.
    """

    def __init__(self) -> None:
        self.exposures = 0
        self._sum: Real | None = None
        self._weight = 0.0

    def add(self, counts: Image, dead: NDArray[np.bool_]) -> float:
        """Take in the sum of the frames of one exposure `(ny, nx)`; pixels known to be `dead` tell nothing.

        Returns the spread of the pattern that it has in common with the earlier ones beyond doubt, as a fraction of the
        counts; 0 if there is none.
        """
        middle = _middle(counts)
        detail, weight = _detail(middle, _middle(dead)), max(float(np.nan_to_num(middle.mean())), 0.0)
        common = 0.0
        if self._sum is None:
            self._sum = np.zeros_like(detail)
        elif self._weight > 0:
            common = _common_spread(self._sum / np.float32(self._weight), detail)
        self._sum += np.float32(weight) * detail  # the more electrons, the less noise
        self._weight += weight
        self.exposures += 1
        return common

    def compare(self, reference: Image, shape_yx: tuple[int, int], used: Orientation, *, divide: bool) -> PatternReport:
        """Correlate with the gain in all orientations that fit frames of `shape_yx`; `used` is the one in use."""
        assert self._sum is not None
        heights = {}
        for orientation in (used, *ORIENTATIONS):
            if orientation not in heights:
                try:
                    gain = _factors(_middle(_fit(orient(reference, orientation), shape_yx)), divide=divide)
                except ValueError:
                    continue  # of another shape
                expected = _detail(1 / gain.factor, gain.dead)
                heights[orientation] = _height(_correlation(self._sum, expected))
        best = max(heights, key=lambda one: heights[one])
        return PatternReport(heights.get(used, 0.0), best, heights[best])


def _middle(image: Image) -> Image:
    """The middle of an image, `FIELD_PX` along each side at most."""
    y0, x0 = (max(0, n - FIELD_PX) // 2 for n in image.shape)
    return image[y0 : y0 + FIELD_PX, x0 : x0 + FIELD_PX]


def _detail(image: Image, dead: NDArray[np.bool_]) -> Real:
    """How far each pixel is from its surroundings, as a fraction of them; outliers cut, dead pixels 0."""
    pixels = np.nan_to_num(image.astype(np.float32), posinf=0.0, neginf=0.0)
    level = float(pixels.mean(where=~dead)) if not dead.all() else 0.0
    pixels[dead] = level
    around = np.maximum(uniform_filter(pixels, 5, mode="reflect"), np.float32(0.05 * level + 1e-20))
    detail = pixels / around - 1
    detail[dead] = 0
    limit = 4 * float(np.median(np.abs(detail))) / 0.6745 or 4 * float(detail.std())
    detail = np.clip(detail, -limit, limit)
    detail -= detail.mean()
    return np.asarray(detail, np.float32)


def _correlation(one: Real, other: Real) -> Real:
    """Covariance of two patterns at all displacements (cyclic), displacement 0 first."""
    product = fft.rfft2(one, workers=2) * np.conj(fft.rfft2(other, workers=2))
    return np.asarray(fft.irfft2(product, s=one.shape, workers=2), np.float32) / np.float32(one.size)


def _height(surface: Real) -> float:
    """Value at displacement 0 over the spread of all others."""
    sample = surface.ravel()[1 :: max(1, surface.size // 100_000)]
    spread = float(np.median(np.abs(sample))) / 0.6745
    return float(surface[0, 0]) / spread if spread > 0 else 0.0


def _common_spread(one: Real, other: Real) -> float:
    """Spread of what two patterns have in common at single pixels; 0 where it could be the specimen's or chance."""
    surface = _correlation(one, other)
    at = float(surface[0, 0])
    beside = max(float(np.abs(surface[y, x])) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
    if _height(surface) < CERTAIN or beside > SHARP * at:
        return 0.0
    return float(np.sqrt(at))
