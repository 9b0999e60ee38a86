"""What stands out at the same place on the camera while the specimen moves: defects, and what is left of the gain.

Of each tilt the map takes how far every pixel lies from its own surroundings (the mean of the ring between 3 x 3 and
5 x 5 in the repaired image), in standard deviations of the noise expected there, cut at `CUT`. The sums go to one of
two halves. Only tilts whose specimen lies elsewhere than in all tilts taken before may be given: what belongs to the
specimen then falls on each pixel a few times at most, and what is the camera's is in all of them and in both halves.

The mean over the tilts is told apart into columns, rows and the rest; what lies beyond its own spread in both halves
is a defect. Below that there is the residual gain: its variance is what the halves have in common (their covariance:
noise, of whatever kind, has no part in it), and each part of the pattern is believed by that share of its variance.
A defect of whole blocks hides from a ring of 5 pixels: it is looked for in the means of blocks, once a series, because
only another series has another specimen at that scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from streamtomo.correct.binning import bin_image
from streamtomo.correct.noise import BLOCK, Image, Map, NoiseModel, Real, Statistics, local_variance
from streamtomo.correct.ring import inside
from streamtomo.jit import kernel, parallel_kernel, prange

CUT = 4.0
"""Standard deviations that one tilt can add."""
UNIT = 16
"""Sums are kept in sixteenths of a standard deviation."""
MOST = 512
"""Tilts in a half, from which on it is halved: what is older than that is forgotten by and by."""
BEYOND = 6.0
"""A defect's mean lies beyond so many standard deviations (robust) of all pixels' means ..."""
LEAST = 0.75
"""... and beyond so many of a single image's noise; a weaker pixel is left to the gain pattern."""
BEYOND_LINE = 8.0
LEAST_LINE = 0.1
"""The same for columns and rows, which harm an alignment long before one sees them."""
PARTS = 8
PIECES = 8
"""A line that stands out in a part of its length is looked for in eight pieces."""
WHOLE = 0.7
"""... and it stands out as a whole if so many of the pieces do."""
WIDEST = 6
"""Lines that stand closer together than three pixels over more than this width are something else."""
GHOST = 0.45
"""A line two pixels from another one that is stronger by more than this is what the ring saw of that one."""
HALVES_AGREE = 0.5
"""Share of the limit that each half must show by itself."""
APART_BLOCKS = 4
BEYOND_BLOCKS = 2.5
SERIES_NEEDED = 4
"""Series from which on blocks are believed."""
LARGEST_SHARE = 0.02
"""Blocks that cover more of the image than this are something else."""
MOST_PIXELS = 0.01
"""No camera has so many bad pixels: a specimen that stood still has."""
SAMPLED = 100_000
"""Pixels that a single tilt is judged by."""
AGREES = 0.5
"""Share of the known gain pattern that tilts must show; less by so many standard errors is another one:"""
SURELY = 4.0
SIGNIFICANT = 5.0
"""Standard errors beyond which a gain pattern is one."""

Sums = NDArray[np.int16]


@dataclass
class Learned:
    """Sums over the tilts taken so far of one camera set-up, in two halves; they do not depend on the tilts' order."""

    sums: tuple[Sums, Sums]
    """Deviations of the pixels, `(ny, nx)` each, in 1/16 standard deviations."""
    blocks: tuple[NDArray[np.int32], NDArray[np.int32]]
    """Deviations of blocks of 16 pixels, `(ny // 16, nx // 16)`, in the same units."""
    tilts: list[int] = field(default_factory=lambda: [0, 0])
    series: list[int] = field(default_factory=lambda: [0, 0])
    levels: list[int] = field(default_factory=lambda: [0, 0])
    """Sums of the images' mean over its noise, in thousandths; 0 where the noise does not tell the light."""
    seen: int = 0
    """Tilts ever learned."""

    @classmethod
    def empty(cls, shape_yx: tuple[int, int]) -> Learned:
        """Nothing learned of images `(ny, nx)`."""
        ny, nx = shape_yx
        blocks = (ny // BLOCK, nx // BLOCK)
        return cls(
            (np.zeros(shape_yx, np.int16), np.zeros(shape_yx, np.int16)),
            (np.zeros(blocks, np.int32), np.zeros(blocks, np.int32)),
        )

    def learn(
        self, raw: Image, repaired: Image, statistics: Statistics, model: NoiseModel, half: int, *, new_series: bool
    ) -> Map:
        """Add a tilt `(ny, nx)`, as it came and as it was repaired, to a half (0 or 1).

        Returns its own deviations at sampled pixels, relative to the mean; 0 where the noise does not tell the light.
        """
        if self.tilts[half] == MOST:
            self.sums[half][...] //= 2
            self.tilts[half], self.levels[half] = MOST // 2, self.levels[half] // 2
        middle = float(np.median(statistics.mean))
        usual = float(model.variance(np.array([middle], Real))[0])
        noise = np.sqrt(np.maximum(local_variance(statistics, model), Real(0.25 * usual + 1e-30)))
        terms = np.array([model.gain, model.offset, model.least, 0.25 * usual + 1e-30], Real)
        before = sample(self.sums[half]).copy()
        _add(raw, repaired, noise, terms, self.sums[half])
        self.tilts[half] += 1
        self.seen += 1
        if model.gain > 0:
            self.levels[half] += round(1000 * usual**0.5 / model.gain)
        if new_series:
            self.blocks[half][...] += _block_deviations(statistics.mean)
            self.series[half] += 1
        return np.asarray((sample(self.sums[half]) - before) * Real(model.gain / (UNIT * (usual + 1e-30) ** 0.5)), Real)


def sample(image: NDArray[Any]) -> NDArray[Any]:
    """Some pixels of an image `(ny, nx)`, evenly spread, as a view."""
    return image.reshape(-1)[:: _every(image.size)]


def disagrees(known: CameraMap, recent: Sequence[Map], size: int, limit_percent: float) -> bool:
    """Whether tilts have surely another gain pattern than the map of an image of so many pixels.

    `recent` is what `Learned.learn` returned of two tilts or more. Where the map has no pattern, one of more than the
    limit is another.
    """
    good = _sampled_but(known.places, size)
    first, second = (np.mean([one[good] for one in recent[half::2]], axis=0, dtype=np.float64) for half in (0, 1))
    spread, other = float(np.std(first)), float(np.std(second))
    if known.pattern is None:
        surely = _typical(np.asarray(first * second)) - SURELY * spread * other / first.size**0.5
        return known.gain_percent is not None and surely > (limit_percent / 100) ** 2
    pattern = sample(known.pattern)[good].astype(np.float64)
    power = float(np.mean(pattern * pattern))
    error = (spread + other) / 8**0.5 * (power / pattern.size) ** 0.5
    return bool(float(np.mean((first + second) * pattern)) / 2 + SURELY * error < AGREES * power)


def _sampled_but(places: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Which of the sampled pixels of an image of so many pixels are none of `places`."""
    every = _every(size)
    good = np.ones(-(-size // every), bool)
    good[places[places % every == 0] // every] = False
    return good


def _every(size: int) -> int:
    return max(1, size // SAMPLED) | 1


@dataclass(frozen=True)
class CameraMap:
    """What is known of a camera, and applied."""

    tilts: int
    """It was learned from."""
    places: NDArray[np.int64]
    """Flat indices of defects, ascending: they are replaced in every image."""
    pattern: NDArray[np.float16] | None = None
    """Relative residual gain `(ny, nx)`, as far as it is believed; None where there is none."""
    gain_percent: float | None = None
    """Standard deviation of the residual gain over the pixels; None where it cannot be told."""
    counts: dict[str, int] = field(default_factory=dict)
    """Defects by kind: pixels, columns, rows, blocks."""
    _binned: dict[int, Map] = field(default_factory=dict, repr=False, compare=False)

    def flatten(self, image: Map, binning: int) -> None:
        """Take the gain pattern out of a binned image `(ny // binning, nx // binning)`, in place."""
        if self.pattern is None:
            return
        if binning not in self._binned:
            self._binned[binning] = 1 + bin_image(self.pattern.astype(Real), binning)
        image /= self._binned[binning]


def build(learned: Learned) -> CameraMap:
    """The map of what was learned; both halves hold tilts."""
    halves = tuple(_deviation(learned, half) for half in (0, 1))
    lines = [_lines([half if axis == 0 else half.T for half in halves]) for axis in (0, 1)]
    mask = lines[0][0] | lines[1][0].T
    numbers = {"columns": lines[0][1], "rows": lines[1][1]}
    blocks = _block_defects(learned)
    pixels = _pixels(halves, mask)
    if pixels.sum() > MOST_PIXELS * mask.size:
        pixels[:] = False
    mask |= pixels
    if blocks.sum() * BLOCK**2 <= LARGEST_SHARE * mask.size:
        ny, nx = (side * BLOCK for side in blocks.shape)
        mask[:ny, :nx] |= np.repeat(np.repeat(blocks, BLOCK, axis=0), BLOCK, axis=1)
        numbers["blocks"] = int(blocks.sum())
    counts = {"pixels": int(pixels.sum()), **numbers}
    places = np.flatnonzero(mask)
    pattern, percent = _gain(learned, halves, mask)
    return CameraMap(learned.seen, places, pattern, percent, {name: n for name, n in counts.items() if n})


def deviation(learned: Learned) -> Map:
    """Mean deviation of the pixels in standard deviations of one image's noise, `(ny, nx)`: the map as a picture."""
    total = learned.sums[0].astype(Real) + learned.sums[1]
    return np.asarray(total / Real(UNIT * max(1, sum(learned.tilts))), Real)


def _deviation(learned: Learned, half: int) -> Map:
    return np.asarray(learned.sums[half] / Real(UNIT * max(1, learned.tilts[half])), Real)


def _beyond(halves: Any, limits: tuple[float, float]) -> NDArray[np.bool_]:
    """Where the mean of two halves lies beyond both limits (robust standard deviations, and absolute) in either."""
    first, second = halves
    mean = 0.5 * (first + second)
    sample = mean.ravel()[:: max(1, mean.size // 200_000)]
    spread = 1.4826 * float(np.median(np.abs(sample - np.median(sample))))
    limit = max(limits[0] * spread, limits[1])
    agree = (first * second > 0) & (np.minimum(np.abs(first), np.abs(second)) > HALVES_AGREE * limit)
    return np.asarray(agree & (np.abs(mean) > limit))


def _pixels(halves: Any, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return _beyond(halves, (BEYOND, LEAST)) & ~known


def _lines(halves: list[Map]) -> tuple[NDArray[np.bool_], int]:
    """Mask `(ny, nx)` of columns that stand out over their whole length or a piece of it, and how many they are."""
    ny, nx = halves[0].shape
    mask = np.zeros((ny, nx), bool)
    edges = np.linspace(0, ny, PIECES + 1).astype(int)
    pieces = [_flat(np.stack([half[a:b].mean(axis=0) for a, b in pairwise(edges)])) for half in halves]
    for piece, x in np.argwhere(_outlying(pieces)):
        mask[edges[piece] : edges[piece + 1], x] = True
    mean = 0.5 * (pieces[0] + pieces[1])
    whole = [piece.mean(axis=0, keepdims=True) for piece in pieces]
    alike = mean * np.sign(whole[0]) > 0.5 * np.abs(mean.mean(axis=0))
    mask[:, _outlying(whole)[0] & (alike.mean(axis=0) > WHOLE)] = True
    mask &= ~ndimage.binary_opening(ndimage.binary_closing(mask, np.ones((1, 5))), np.ones((1, WIDEST + 1)))
    return mask, int(mask.any(axis=0).sum())


def _flat(means: Map) -> Map:
    """Means along pieces of columns `(pieces, nx)` without what changes slowly across."""
    return np.asarray(means - ndimage.median_filter(means, (1, 15)), Real)


def _outlying(halves: list[Map]) -> NDArray[np.bool_]:
    strength = np.abs(halves[0] + halves[1])
    own = strength > GHOST * ndimage.maximum_filter(strength, (1, 5))
    return np.asarray(own & _beyond(halves, (BEYOND_LINE, LEAST_LINE)))


def _block_deviations(mean: Map) -> NDArray[np.int32]:
    """How far blocks lie from the median of eight around them, four blocks away, in spreads of those, cut."""
    step = APART_BLOCKS
    padded = np.pad(mean, step, mode="reflect") if min(mean.shape) > step else np.pad(mean, step, mode="edge")
    rows, columns = mean.shape
    shifts = [(dy, dx) for dy in (0, step, 2 * step) for dx in (0, step, 2 * step) if (dy, dx) != (step, step)]
    around = np.stack([padded[dy : dy + rows, dx : dx + columns] for dy, dx in shifts])
    middle = np.median(around, axis=0)
    spread = 1.4826 * np.median(np.abs(around - middle), axis=0)
    usual = np.median(spread)
    found = (mean - middle) / np.maximum(np.maximum(spread, usual), 1e-30)
    return np.asarray(np.rint(UNIT * np.clip(found, -CUT, CUT)), np.int32)


def _block_defects(learned: Learned) -> NDArray[np.bool_]:
    if sum(learned.series) < SERIES_NEEDED or min(learned.series) == 0:
        return np.zeros(learned.blocks[0].shape, bool)
    halves = [learned.blocks[half] / (UNIT * learned.series[half]) for half in (0, 1)]
    return _beyond(halves, (0.0, BEYOND_BLOCKS))


def _gain(learned: Learned, halves: Any, mask: NDArray[np.bool_]) -> tuple[NDArray[np.float16] | None, float | None]:
    """The believed part of the pattern, and the standard deviation of the whole, in percent."""
    if min(learned.levels) == 0:
        return None, None
    scales = [Real(1000 * learned.tilts[half] / learned.levels[half]) for half in (0, 1)]
    variance, error, pattern = 0.0, 0.0, np.zeros(mask.shape, Real)
    parts = [_apart(half, mask, scale) for half, scale in zip(halves, scales, strict=True)]
    for first, second in zip(*parts, strict=True):
        common, one, other = _typical(first * second), _dot(first, first), _dot(second, second)
        mean_square = 0.25 * (one + other + 2 * common)
        pattern += Real(0.5 * min(1.0, max(0.0, common) / max(mean_square, 1e-30))) * (first + second)
        variance += common
        error += np.pi / 2 * one * other / first.size
    if variance < SIGNIFICANT * error**0.5:
        return None, 0.0
    # The ring saw a part of each pixel's neighbours: that is put back.
    pattern += (25 * ndimage.uniform_filter(pattern, 5) - 9 * ndimage.uniform_filter(pattern, 3)) / 16
    return np.clip(pattern, -0.9, 9.0).astype(np.float16), 100 * variance**0.5


def _typical(product: NDArray[Any]) -> float:
    """Median of the means over 8 x 8 parts: the camera is the same everywhere, a specimen that stood still is not."""
    parts = [np.array_split(band, PARTS, axis=-1) for band in np.array_split(product, PARTS) if band.size]
    return float(np.median([part.mean(dtype=np.float64) for band in parts for part in band if part.size]))


def _dot(first: Map, second: Map) -> float:
    """Mean product."""
    return float(np.dot(first.ravel(), second.ravel())) / first.size


def _apart(mean: Map, mask: NDArray[np.bool_], scale: np.float32) -> tuple[Map, Map, Map]:
    """A map, scaled, as columns `(1, nx)`, rows `(ny, 1)` and the rest, each about 0; what is masked counts as 0."""
    rest = mean * scale
    rest -= rest.mean(dtype=np.float64).astype(Real)
    rest[mask] = 0
    columns = rest.mean(axis=0, keepdims=True)
    rest -= columns
    rows = rest.mean(axis=1, keepdims=True)
    rest -= rows
    return columns, rows, rest


@parallel_kernel
def _add(raw: Any, repaired: Any, noise: Any, terms: Any, sums: Any) -> Any:
    """Add to `sums` how far the pixels of `raw` lie from the rings in `repaired`, all `(ny, nx)`, in 1/16 deviations.

    Terms: the noise model's gain, offset and least variance, and a floor; without gain `noise` holds for each block.
    """
    ny, nx = raw.shape
    for y in prange(ny):
        outer, inner = np.zeros(nx + 4, dtype=np.float32), np.zeros(nx + 4, dtype=np.float32)
        for dy in range(-2, 3):
            _add_row(repaired[inside(y, dy, ny)], outer, inner, abs(dy) < 2)
        _mirror_ends(outer)
        _mirror_ends(inner)
        spread = np.empty(nx, dtype=np.float32)
        ring = np.empty(nx, dtype=np.float32)
        _means(outer, inner, ring)
        if terms[0] > 0:
            _model_noise(ring, terms, spread)
        else:
            _block_noise(noise[min(y // BLOCK, noise.shape[0] - 1)], spread)
        _add_deviations(raw[y], ring, spread, sums[y])
    return ny


@kernel
def _add_row(row: Any, outer: Any, inner: Any, near: Any) -> Any:
    n = row.shape[0]
    for x in range(n):
        outer[x + 2] += np.float32(row[x])
    if near:
        for x in range(n):
            inner[x + 2] += np.float32(row[x])


@kernel
def _mirror_ends(sums: Any) -> Any:
    last = sums.shape[0] - 3
    for i in range(1, 3):
        sums[2 - i] = sums[2 + i]
        sums[last + i] = sums[last - i]


@kernel
def _means(outer: Any, inner: Any, ring: Any) -> Any:
    n, part = ring.shape[0], np.float32(1 / 16)
    for x in range(n):
        wide = outer[x] + outer[x + 1] + outer[x + 2] + outer[x + 3] + outer[x + 4]
        ring[x] = (wide - inner[x + 1] - inner[x + 2] - inner[x + 3]) * part


@kernel
def _model_noise(ring: Any, terms: Any, spread: Any) -> Any:
    gain, offset, least = terms[0], terms[1], max(terms[2], terms[3])
    for x in range(ring.shape[0]):
        spread[x] = np.float32(UNIT) / np.sqrt(max(least, offset + gain * ring[x]))


@kernel
def _block_noise(noise: Any, spread: Any) -> Any:
    for x in range(spread.shape[0]):
        spread[x] = np.float32(UNIT) / noise[min(x // BLOCK, noise.shape[0] - 1)]


@kernel
def _add_deviations(raw: Any, ring: Any, spread: Any, sums: Any) -> Any:
    most = np.float32(CUT * UNIT)
    for x in range(raw.shape[0]):
        one = (np.float32(raw[x]) - ring[x]) * spread[x]
        one = max(-most, min(most, one))
        sums[x] += np.int16(np.floor(one + np.float32(0.5)))
