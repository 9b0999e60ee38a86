"""X-rays, hot and dead pixels: found against the noise of their own surroundings, replaced from clean neighbours.

A pixel is suspected when it stands clear of all but one of the twelve pixels on a ring two pixels away. Beads,
membranes, needles and their edges pass that test, because something on the ring is as bright as they are; single
hits and blooms up to about three pixels across do not. Suspects are then measured in a 7 x 7 window: the difference
from the window's median must exceed `sigma` times the noise of the region, more where the window's own spread shows
structure, and the counting limit (below). What hangs together with a hit and stands out, too, is repaired with it.

Noise: half the mean square difference of pixels two apart in 16 x 16 blocks, median of 3 x 3 blocks. Differences two
apart ignore slow structure and still see the whole variance of noise that a camera has smeared over two pixels.

Counting limit: with few electrons a pixel the distribution is skewed, and 8 standard deviations happen by chance. With
variance = gain * mean the mean count is `mean^2 / variance`; the limit is where Chernoff's bound for a Poisson tail,
`exp(-n h(e / n))`, `h(u) = (1 + u) ln(1 + u) - u`, falls to `CHANCE`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.jit import kernel, parallel_kernel, prange

Image = NDArray[Any]
Real = np.float32

BLOCK = 16
"""Side of the blocks in which noise is measured, pixels."""
CHANCE = 3e-6
"""Bound on the chance that a pixel of a counting image is taken for a hit."""
RING = ((-2, -1), (-2, 0), (-2, 1), (-1, -2), (-1, 2), (0, -2), (0, 2), (1, -2), (1, 2), (2, -1), (2, 0), (2, 1))
REACH = 3
"""The window is 7 x 7."""
STRUCTURE = 1.5
"""A window whose spread is this many times the noise of the region holds structure, and the limit rises with it."""
GROW = 0.4
"""Neighbours of a hit are repaired with it beyond this fraction of its own limit."""
SMALLEST = 2 * BLOCK
"""Images with a shorter side are returned as they are: there is no noise to measure."""


def repair(image: Image, sigma: float) -> tuple[Image, int]:
    """Replace outliers of an image `(ny, nx)`; a new array of the same type, and the number of pixels replaced.

    Types: int8, uint8, int16, uint16, float32, C-contiguous. `sigma` is the limit in local standard deviations.
    """
    repaired = image.copy()
    if min(image.shape) < SMALLEST:
        return repaired, 0
    noise, limit = noise_map(image, sigma)
    marks, found = _suspects(image, noise, Real(0.5 * sigma))
    suspects = np.empty((int(found.sum()), 2), dtype=np.int64)
    _list_marks(marks, found, suspects)
    whole = image.dtype.kind in "iu"
    return repaired, int(_repair_suspects(repaired, suspects, noise, limit, Real(sigma), whole))


def noise_map(image: Image, sigma: float) -> tuple[NDArray[Real], NDArray[Real]]:
    """Noise (standard deviation) and smallest difference that counts as a hit, per block; `(ny // 16, nx // 16)` each.

    Pixels beyond the last whole block belong to that block.
    """
    shape = (image.shape[0] // BLOCK, image.shape[1] // BLOCK)
    mean, variance, noise, limit = (np.empty(shape, dtype=Real) for _ in range(4))
    _block_statistics(image, mean, variance)
    # Quantised counts have this variance at least; a block without any noise takes a share of the whole image's.
    least = 1 / 12 if image.dtype.kind in "iu" else 0.0
    least = max(least, 0.01 * float(np.median(variance)))
    _limits(mean, variance, noise, limit, Real(least), Real(sigma), Real(-np.log(CHANCE)))
    return noise, limit


@kernel
def _list_marks(marks: Any, found: Any, listed: Any) -> Any:
    """Positions `(n, 2)` as y, x of the marks `(ny, nx)`; `found` holds their number per row."""
    n = 0
    for y in range(marks.shape[0]):
        if found[y] == 0:
            continue
        for x in range(marks.shape[1]):
            if marks[y, x]:
                listed[n, 0] = y
                listed[n, 1] = x
                n += 1


@parallel_kernel
def _block_statistics(image: Any, mean: Any, variance: Any) -> Any:
    """Mean and noise variance of blocks: image `(ny, nx)` -> two arrays `(ny // 16, nx // 16)`."""
    rows, columns = mean.shape
    width = columns * BLOCK
    for row in prange(rows):
        total = np.zeros(width, dtype=np.float32)
        square = np.zeros(width, dtype=np.float32)
        for y in range(row * BLOCK, (row + 1) * BLOCK):
            other = y + 2 if y + 2 < image.shape[0] else y - 2
            here, below = image[y], image[other]
            for x in range(width - 2):
                value = np.float32(here[x])
                across = value - np.float32(here[x + 2])
                along = value - np.float32(below[x])
                total[x] += value
                square[x] += across * across + along * along
            for x in range(width - 2, width):
                value = np.float32(here[x])
                along = value - np.float32(below[x])
                total[x] += value
                square[x] += np.float32(2.0) * along * along
        for column in range(columns):
            start = column * BLOCK
            mean[row, column] = total[start : start + BLOCK].sum() / np.float32(BLOCK * BLOCK)
            variance[row, column] = square[start : start + BLOCK].sum() / np.float32(4 * BLOCK * BLOCK)


@kernel
def _chance_limit(mean: Any, variance: Any, bound: Any, least: Any) -> Any:
    """Excess over the mean, `least` or more, at which Chernoff's bound of a Poisson tail falls to `exp(-bound)`."""
    if mean <= np.float32(0.0) or variance <= np.float32(0.0):
        return least
    gain = variance / mean
    count = mean / gain
    excess = least / gain
    for _ in range(6):  # Newton on a convex function: from below it overshoots once and then falls to the root
        u = excess / count
        slope = np.log(np.float32(1.0) + u)
        value = count * ((np.float32(1.0) + u) * slope - u) - bound
        if value >= np.float32(0.0) and excess * gain <= least:
            return least
        excess -= value / slope
    return max(least, excess * gain)


@parallel_kernel
def _limits(mean: Any, variance: Any, noise: Any, limit: Any, least: Any, sigma: Any, bound: Any) -> Any:
    """Noise and limit per block from the block with the median variance of 3 x 3; all `(rows, columns)`."""
    rows, columns = mean.shape
    for row in prange(rows):
        variances = np.empty(9, dtype=np.float32)
        for column in range(columns):
            n = 0
            for y in range(max(0, row - 1), min(rows, row + 2)):
                for x in range(max(0, column - 1), min(columns, column + 2)):
                    variances[n] = variance[y, x]
                    n += 1
            middle = _median(variances, n)
            spread = max(middle, least)
            noise[row, column] = np.sqrt(spread)
            typical = mean[row, column]
            for y in range(max(0, row - 1), min(rows, row + 2)):
                for x in range(max(0, column - 1), min(columns, column + 2)):
                    typical = mean[y, x] if variance[y, x] == middle else typical
            limit[row, column] = _chance_limit(typical, middle, bound, sigma * noise[row, column])


@kernel
def _median(values: Any, n: Any) -> Any:
    """Median of the first `n` values, which are left sorted (insertion sort: n is small)."""
    for i in range(1, n):
        value = values[i]
        j = i - 1
        while j >= 0 and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value
    return values[n // 2]


@kernel
def _second(low: Any, low2: Any, high: Any, high2: Any, value: Any) -> Any:
    """Keep the two lowest and the two highest values seen, without branches."""
    above = value if value > low else low
    low2 = above if above < low2 else low2
    low = value if value < low else low
    beneath = value if value < high else high
    high2 = beneath if beneath > high2 else high2
    high = value if value > high else high
    return low, low2, high, high2


@parallel_kernel
def _suspects(image: Any, noise: Any, share: Any) -> Any:
    """Mark pixels that stand clear of their ring by `share` times the noise: `(ny, nx)` uint8, and the number per row.

    Rings that reach over the image's edge use the pixel on the other side of the centre instead.
    """
    ny, nx = image.shape
    marks = np.zeros((ny, nx), dtype=np.uint8)
    found = np.zeros(ny, dtype=np.int64)
    rows, columns = noise.shape
    for y in prange(ny):
        up1, up2 = (y + 1 if y + 1 < ny else y - 1), (y + 2 if y + 2 < ny else y - 2)
        down1, down2 = (y - 1 if y >= 1 else y + 1), (y - 2 if y >= 2 else y + 2)
        a, b, c, d, e = image[down2], image[down1], image[y], image[up1], image[up2]
        mark = marks[y]
        clear = np.empty(nx, dtype=np.float32)
        level = noise[min(y // BLOCK, rows - 1)]
        for column in range(columns):
            stop = (column + 1) * BLOCK if column < columns - 1 else nx
            clear[column * BLOCK : stop] = share * level[column]
        for x in range(2, nx - 2):
            low = a[x] if a[x] < e[x] else e[x]
            low2 = e[x] if a[x] < e[x] else a[x]
            high, high2 = low2, low
            low, low2, high, high2 = _second(low, low2, high, high2, c[x - 2])
            low, low2, high, high2 = _second(low, low2, high, high2, c[x + 2])
            low, low2, high, high2 = _second(low, low2, high, high2, a[x - 1])
            low, low2, high, high2 = _second(low, low2, high, high2, a[x + 1])
            low, low2, high, high2 = _second(low, low2, high, high2, e[x - 1])
            low, low2, high, high2 = _second(low, low2, high, high2, e[x + 1])
            low, low2, high, high2 = _second(low, low2, high, high2, b[x - 2])
            low, low2, high, high2 = _second(low, low2, high, high2, b[x + 2])
            low, low2, high, high2 = _second(low, low2, high, high2, d[x - 2])
            low, low2, high, high2 = _second(low, low2, high, high2, d[x + 2])
            value = np.float32(c[x])
            over = value - np.float32(high2)
            under = np.float32(low2) - value
            mark[x] = max(over, under) > clear[x]
        for x in (0, 1, nx - 2, nx - 1):
            mark[x] = _stands_clear(image, y, x, clear[x])
        total = np.uint32(0)
        for x in range(nx):
            total += mark[x]
        found[y] = total
    return marks, found


@kernel
def _inside(i: Any, step: Any, n: Any) -> Any:
    """`i + step`, or `i - step` where that lies outside `0 ... n - 1`."""
    return i + step if 0 <= i + step < n else i - step


@kernel
def _stands_clear(image: Any, y: Any, x: Any, distance: Any) -> Any:
    """The ring test for one pixel anywhere in the image."""
    ny, nx = image.shape
    low, low2, high, high2 = np.float32(np.inf), np.float32(np.inf), np.float32(-np.inf), np.float32(-np.inf)
    for dy, dx in RING:
        value = np.float32(image[_inside(y, dy, ny), _inside(x, dx, nx)])
        low, low2, high, high2 = _second(low, low2, high, high2, value)
    value = np.float32(image[y, x])
    return max(value - high2, low2 - value) > distance


@kernel
def _surroundings(image: Any, y: Any, x: Any, values: Any) -> Any:
    """Median and robust spread (1.48 median absolute deviations) of the 7 x 7 window without its 3 x 3 core."""
    ny, nx = image.shape
    n = 0
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            if abs(dy) > 1 or abs(dx) > 1:
                values[n] = image[_inside(y, dy, ny), _inside(x, dx, nx)]
                n += 1
    middle = _median(values, n)
    for i in range(n):
        values[i] = abs(values[i] - middle)
    return middle, np.float32(1.4826) * _median(values, n)


@kernel
def _grow(image: Any, y: Any, x: Any, middle: Any, reach: Any, patch: Any) -> Any:
    """Mark in `patch` (9 x 9, its centre at y, x) what hangs together with the hit and stands out beyond `reach`.

    Returns whether the patch ends inside the 9 x 9 window; what is larger is no hit.
    """
    ny, nx = image.shape
    positive = np.float32(image[y, x]) > middle
    patch[:] = 0
    patch[4, 4] = 1
    grown = True
    while grown:
        grown = False
        for py in range(9):
            for px in range(9):
                iy, ix = y + py - 4, x + px - 4
                if patch[py, px] or not (0 <= iy < ny and 0 <= ix < nx):
                    continue
                excess = np.float32(image[iy, ix]) - middle
                touches = patch[max(0, py - 1) : py + 2, max(0, px - 1) : px + 2].sum() > 0
                if touches and (excess if positive else -excess) > reach:
                    patch[py, px] = 1
                    grown = True
    return patch[0].sum() + patch[8].sum() + patch[:, 0].sum() + patch[:, 8].sum() == 0


@kernel
def _fill(image: Any, y: Any, x: Any, middle: Any, patch: Any, whole: Any) -> Any:
    """Replace the marked pixels by the mean of the unmarked ones within two pixels; return how many."""
    ny, nx = image.shape
    count = 0
    for py in range(9):
        for px in range(9):
            if not patch[py, px]:
                continue
            total, n = np.float32(0.0), 0
            for qy in range(max(0, py - 2), min(9, py + 3)):
                for qx in range(max(0, px - 2), min(9, px + 3)):
                    iy, ix = y + qy - 4, x + qx - 4
                    if not patch[qy, qx] and 0 <= iy < ny and 0 <= ix < nx:
                        total += np.float32(image[iy, ix])
                        n += 1
            value = total / np.float32(n) if n >= 6 else middle
            image[y + py - 4, x + px - 4] = np.round(value) if whole else value
            count += 1
    return count


@kernel
def _repair_suspects(image: Any, suspects: Any, noise: Any, limit: Any, sigma: Any, whole: Any) -> Any:
    """Measure the suspects `(n, 2)` one after the other and repair hits in place; return the pixels replaced.

    Around a repaired hit the ring test is repeated: hits that lie close together hide each other.
    """
    ny, nx = image.shape
    rows, columns = noise.shape
    values = np.empty((2 * REACH + 1) ** 2, dtype=np.float32)
    patch = np.zeros((9, 9), dtype=np.uint8)
    replaced = 0
    for index in range(suspects.shape[0]):
        y0, x0 = suspects[index]
        again = _repair_one(image, y0, x0, noise, limit, sigma, whole, values, patch)
        replaced += again
        if again == 0:
            continue
        for y in range(max(0, y0 - REACH), min(ny, y0 + REACH + 1)):
            for x in range(max(0, x0 - REACH), min(nx, x0 + REACH + 1)):
                level = noise[min(y // BLOCK, rows - 1), min(x // BLOCK, columns - 1)]
                if _stands_clear(image, y, x, np.float32(0.5) * sigma * level):
                    replaced += _repair_one(image, y, x, noise, limit, sigma, whole, values, patch)
    return replaced


@kernel
def _repair_one(
    image: Any, y: Any, x: Any, noise: Any, limit: Any, sigma: Any, whole: Any, values: Any, patch: Any
) -> Any:
    """Repair the hit at `y, x`, if it is one; return the pixels replaced."""
    row, column = min(y // BLOCK, noise.shape[0] - 1), min(x // BLOCK, noise.shape[1] - 1)
    middle, spread = _surroundings(image, y, x, values)
    least = max(limit[row, column], sigma * spread / np.float32(STRUCTURE))
    if abs(np.float32(image[y, x]) - middle) <= least:
        return 0
    if not _grow(image, y, x, middle, np.float32(GROW) * least, patch):
        return 0
    return _fill(image, y, x, middle, patch, whole)
