"""The noise of an image: how its variance follows its mean, and how neighbouring pixels share it.

Measured in 16 x 16 blocks as half the mean square difference of pixels two apart: such differences ignore slow
structure and still see the whole variance of noise that a camera has smeared over two pixels.

A sensor that counts has `variance = offset + gain * mean`: `gain` is what one electron adds, `offset` is read noise
(positive) or a pedestal (negative). The line goes through the medians of groups of blocks of like mean; it is believed
only where the image holds a range of means and follows it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.jit import kernel, parallel_kernel, prange

Image = NDArray[Any]
Real = np.float32
Map = NDArray[np.float32]
Fine = NDArray[np.float64]

BLOCK = 16
"""Side of the blocks in which noise is measured, pixels."""
SAMPLED = 2048
"""Blocks that the model is fitted to, at most."""
GROUPS = 16
RANGE = 0.2
"""Spread of the groups' means, as a fraction of their median, from which slope and offset can be told apart."""
RISE = 1.5
"""... or by how much their variance must differ."""
MISFIT = 0.35
"""Median relative deviation of the blocks from the line beyond which it says nothing about single blocks."""
BETTER = 0.9
"""A line with an offset is believed when its misfit is smaller by this factor than that of one without."""
QUIET = 128
"""Blocks that the correlation of neighbours is measured in."""
WHITE = 0.04
"""Correlations below this are taken for none."""


class NoiseModel(NamedTuple):
    """`variance = max(least, offset + gain * mean)`, in counts; `gain` is 0 where the variance is no matter of mean."""

    gain: float
    offset: float
    least: float
    skew: float
    """Counts that one electron adds, for the shape of the distribution's tail; 0 for a Gaussian."""

    def variance(self, mean: Map) -> Map:
        """Variance expected at a mean."""
        return np.asarray(np.maximum(self.least, self.offset + self.gain * mean), Real)


class Statistics(NamedTuple):
    """Sums over blocks and strips of an image `(ny, nx)`; pixels beyond the last whole block are in none of them."""

    mean: Map
    """`(ny // 16, nx // 16)`."""
    variance: Map
    """Of the noise, as `mean`."""
    columns: Map
    """Mean of 16 pixels of one column, `(ny // 16, nx)`."""
    rows: Map
    """Mean of 16 pixels of one row, `(nx // 16, ny)`."""


def measure(image: Image) -> Statistics:
    """Means and noise of an image with sides of 16 pixels or more."""
    ny, nx = image.shape
    shape = (ny // BLOCK, nx // BLOCK)
    mean, variance = np.empty(shape, Real), np.empty(shape, Real)
    columns, rows = np.empty((shape[0], nx), Real), np.empty((shape[1], ny), Real)
    _block_statistics(image, mean, variance, columns, rows)
    for y in range(shape[0] * BLOCK, ny):
        rows[:, y] = image[y, : shape[1] * BLOCK].reshape(-1, BLOCK).mean(axis=1, dtype=Real)
    return Statistics(mean, variance, columns, rows)


def fit_model(mean: Map, variance: Map, whole: bool) -> NoiseModel:
    """The noise model of blocks; `whole` says that the counts are whole numbers, whose rounding is noise, too."""
    step = max(1, mean.size // SAMPLED)
    known = np.isfinite(mean) & np.isfinite(variance)
    means, variances = mean[known][::step].astype(np.float64), variance[known][::step].astype(np.float64)
    if means.size == 0:
        return NoiseModel(0.0, 0.0, 0.0, 0.0)
    typical = float(np.median(variances))
    # A block without any noise takes a share of the whole image's.
    least = 0.01 * typical
    if whole:  # rounding alone has a variance of 1/12, unless there is hardly an electron to be rounded
        least = min(1 / 12, 0.1 * typical) if typical > 0 else 1 / 12
    level, spread = _groups(means, variances)
    best, found = np.inf, None
    for offset, slope in _candidates(level, spread):
        fitted = np.maximum(least, offset + slope * means)
        misfit = float(np.median(np.abs(variances / fitted - 1)))
        apart = np.abs(spread / np.maximum(least, offset + slope * level) - 1)
        if np.quantile(apart, 0.75) > MISFIT:  # holds for a part of the image only
            continue
        if slope > 0 and misfit <= max(MISFIT, _scatter(fitted, slope)) and misfit < BETTER * best:
            best, found = misfit, NoiseModel(slope, offset, least, slope)
    if found is not None:
        return found
    return NoiseModel(0.0, max(typical, least), least, 0.0)


def _scatter(fitted: Fine, slope: float) -> float:
    """Relative scatter of a block's variance that is owed to few electrons in it."""
    electrons = float(np.median(fitted)) / slope**2
    return 1.5 * float(np.sqrt((2 + 1 / electrons) / BLOCK**2))


def _groups(mean: Fine, variance: Fine) -> tuple[Fine, Fine]:
    """Median mean and median variance of groups of blocks, in ascending mean."""
    count = min(GROUPS, max(1, len(mean) // 48))
    parts = np.array_split(np.argsort(mean, kind="stable"), count)
    level = np.array([np.median(mean[part]) for part in parts])
    spread = np.array([_without_structure(variance[part]) for part in parts])
    return level, spread


def _without_structure(values: Fine) -> float:
    """Centre of the variances of blocks: structure only adds to them, so that the lower half tells.

    A Gaussian's centre lies 1.11 times the distance of its first decile and quartile above the quartile. With few
    electrons in a block variances are skewed, too, but less than by structure: then a clipped mean is right.
    """
    middle = np.median(values)
    reach = 3 * 1.4826 * np.median(np.abs(values - middle))
    mean = float(values[np.abs(values - middle) <= reach].mean()) if reach > 0 else float(middle)
    decile, quartile = np.quantile(values, (0.1, 0.25))
    low = float(quartile + 1.11 * (quartile - decile))
    return low if low < 0.8 * mean else mean


def _candidates(level: Fine, spread: Fine) -> list[tuple[float, float]]:
    """`(offset, gain)` of lines to be tried: through the origin, and free where the means differ enough."""
    found = []
    middle = float(np.median(level))
    if middle > 0:
        found.append((0.0, float(np.median(spread[level > 0] / level[level > 0]))))
    if len(level) < 5:
        return found
    # One group alone, at either end, may be structure.
    if level[-2] - level[1] <= RANGE * abs(middle) and spread[-2] <= RISE * spread[1]:
        return found
    weights = 1 / np.maximum(spread, 1e-3 * np.median(spread) + 1e-30)
    for _ in range(4):  # bisquare weights on relative residuals
        design = np.column_stack([np.ones_like(level), level]) * weights[:, None]
        offset, slope = np.linalg.lstsq(design, spread * weights, rcond=None)[0]
        off = np.abs(spread / np.maximum(offset + slope * level, 1e-30) - 1)
        reach = max(3 * float(np.median(off)), 0.05)
        weights = np.clip(1 - (off / (2 * reach)) ** 2, 0.0, None) / np.maximum(spread, 1e-30)
        if np.count_nonzero(weights) < 3:
            return found
    return [*found, (float(offset), float(slope))]


def neighbour_weights(image: Image, statistics: Statistics) -> tuple[Fine, float]:
    """How the noise of a pixel follows that of its eight neighbours: weights `(8,)`, and the share left to chance.

    From the autocorrelation in the image's quietest blocks (mean and slopes taken out); neighbours in the order
    of `NEIGHBOURS`. White noise has no weights and a share of 1.
    """
    sample = np.arange(0, statistics.variance.size, max(1, statistics.variance.size // SAMPLED))
    order = sample[np.argsort(statistics.variance.flat[sample], kind="stable")]
    quiet = order[len(order) // 20 :][: max(QUIET, len(order) // 4)]
    quiet = quiet[:: max(1, len(quiet) // QUIET)]
    rows, columns = np.unravel_index(quiet, statistics.variance.shape)
    blocks = np.stack(
        [image[y : y + BLOCK, x : x + BLOCK] for y, x in zip(rows * BLOCK, columns * BLOCK, strict=True)]
    ).astype(np.float64)
    return _conditional(_autocorrelation(_flattened(blocks)))


NEIGHBOURS = np.array([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])


def _flattened(blocks: Fine) -> Fine:
    """Blocks without mean and slopes, hits cut."""
    ramp = np.linspace(-1, 1, BLOCK)
    norm = (ramp**2).sum() * BLOCK
    blocks = blocks - blocks.mean(axis=(1, 2), keepdims=True)
    along, across = (blocks * ramp[:, None]).sum((1, 2)) / norm, (blocks * ramp).sum((1, 2)) / norm
    blocks -= along[:, None, None] * ramp[:, None] + across[:, None, None] * ramp
    reach = 5 * float(np.median(blocks.std(axis=(1, 2))))
    return np.clip(blocks, -reach, reach)


def _autocorrelation(blocks: Fine) -> Fine:
    """Correlation at shifts of -2 to 2 pixels, `(5, 5)`, 1 in the middle."""
    found = np.zeros((5, 5))
    for dy in range(3):
        for dx in range(-2, 3):
            here = blocks[:, : BLOCK - dy, max(0, -dx) : BLOCK - max(0, dx)]
            there = blocks[:, dy:, max(0, dx) : BLOCK - max(0, -dx)]
            found[2 + dy, 2 + dx] = found[2 - dy, 2 - dx] = (here * there).mean()
    if found[2, 2] <= 0:
        found[2, 2] = 1.0
    found /= found[2, 2]
    found[np.abs(found) < WHITE] = 0.0
    return found


def _conditional(correlation: Fine) -> tuple[Fine, float]:
    """Best linear prediction of a pixel from its neighbours, and the variance that it leaves."""
    to_pixel = np.array([correlation[2 + dy, 2 + dx] for dy, dx in NEIGHBOURS])
    apart = NEIGHBOURS[:, None] - NEIGHBOURS[None] + 2
    between = correlation[apart[..., 0], apart[..., 1]] + 1e-3 * np.eye(8)
    weights = np.linalg.solve(between, to_pixel)
    left = 1 - float(weights @ to_pixel)
    if not 0 < left <= 1:  # no correlation that any noise can have
        return np.zeros(8), 1.0
    return weights, left


@parallel_kernel
def _block_statistics(image: Any, mean: Any, variance: Any, strips: Any, rows_out: Any) -> Any:
    """Fill mean and variance of blocks, means of 16 pixels along columns `(rows, nx)` and rows `(columns, ny)`."""
    rows, columns = mean.shape
    nx = image.shape[1]
    width = columns * BLOCK
    part = np.float32(1.0 / BLOCK)
    for row in prange(rows):
        total = np.zeros(nx, dtype=np.float32)
        square = np.zeros(nx, dtype=np.float32)
        for y in range(row * BLOCK, (row + 1) * BLOCK):
            other = y + 2 if y + 2 < image.shape[0] else y - 2
            here, below = image[y], image[other]
            for x in range(nx - 2):
                value = np.float32(here[x])
                across = value - np.float32(here[x + 2])
                along = value - np.float32(below[x])
                total[x] += value
                square[x] += across * across + along * along
            for x in range(nx - 2, nx):
                value = np.float32(here[x])
                along = value - np.float32(below[x])
                total[x] += value
                square[x] += np.float32(2.0) * along * along
            for column in range(columns):
                run = np.float32(0.0)
                for x in range(column * BLOCK, (column + 1) * BLOCK):
                    run += np.float32(here[x])
                rows_out[column, y] = run * part
        for column in range(columns):
            start = column * BLOCK
            mean[row, column] = total[start : start + BLOCK].sum() / np.float32(BLOCK * BLOCK)
            variance[row, column] = square[start : start + BLOCK].sum() / np.float32(4 * BLOCK * BLOCK)
        strip = strips[row]
        for x in range(nx):
            strip[x] = total[x] * part
    return width


def local_variance(statistics: Statistics, model: NoiseModel) -> Map:
    """Variance per block where no model of the whole image holds: the median of a block and its neighbours."""
    middle = np.empty_like(statistics.variance)
    _middle_variance(statistics.variance, middle)
    return np.maximum(middle, Real(model.least))


@kernel
def _middle_variance(variance: Any, middle: Any) -> Any:
    """Median of each block and its neighbours, `(rows, columns)`."""
    rows, columns = variance.shape
    values = np.empty(9, dtype=np.float32)
    for row in range(rows):
        for column in range(columns):
            n = 0
            for y in range(max(0, row - 1), min(rows, row + 2)):
                for x in range(max(0, column - 1), min(columns, column + 2)):
                    values[n] = variance[y, x]
                    n += 1
            middle[row, column] = median(values, n)


@kernel
def median(values: Any, n: Any) -> Any:
    """Median of the first `n` values, which are left sorted (insertion sort: n is small)."""
    for i in range(1, n):
        value = values[i]
        j = i - 1
        while j >= 0 and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value
    return values[n // 2]
