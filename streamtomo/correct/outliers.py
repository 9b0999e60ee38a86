"""X-rays, hot and dead pixels: found against the noise that their own surroundings must have.

A pixel is suspected when it stands clear of all but one of the twelve pixels on a ring two pixels away. Beads,
membranes, needles and their edges pass that test, because something on the ring is as bright as they are; single
hits and blooms up to about three pixels across do not. Suspects are then measured against a 7 x 7 window without its
core. What hangs together with a hit and stands out, too, belongs to it. Nothing dark blooms: a dark pixel must also
stand clear of the eight pixels that touch it, but for one.

The measure is the tail's probability, told in standard deviations: with `n` electrons expected and `n + e` counted it
is the root of the deviance, `r = sqrt(2 n h(e / n))`, `h(u) = (1 + u) ln(1 + u) - u`, which for many electrons is
`e / sqrt(n)`; variance and electrons come from the image's noise model. The surroundings' level is known to its own
standard error only, and is taken that much nearer to the pixel. A hit of `sigma` standard deviations can be read lower
by its own noise: all beyond `SURE * sigma` is taken. Where the window's own spread shows structure the limit rises.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.correct.noise import BLOCK, Image, Map, NoiseModel, Real, Statistics
from streamtomo.jit import kernel, parallel_kernel, prange

SURE = 0.7
"""A hit of 8 standard deviations reads beyond 0.7 times that in 99 of 100 cases: 8 - 2.4."""
CLEAR = 0.6
"""Share of the limit by which a suspect must stand clear of its ring."""
CLEAR_ELECTRONS = 2.0
"""... and by so many electrons more, where electrons are counted."""
RING = ((-2, -1), (-2, 0), (-2, 1), (-1, -2), (-1, 2), (0, -2), (0, 2), (1, -2), (1, 2), (2, -1), (2, 0), (2, 1))
REACH = 3
"""The window is 7 x 7."""
STRUCTURE = 1.5
"""A window whose spread is this many times the noise holds structure, and the limit rises with it."""
GROW = 0.55
"""Neighbours of a hit belong to it beyond this fraction of its limit, some 3 standard deviations."""
SKIRT = 0.27
"""... and those around a hit of several pixels beyond this one."""
BLOOM = 0.33
"""Share of a hit's height that is left two pixels away: 0.25 for a bloom of 3 pixels (at half height); a bead has more."""
PATCH = 13
"""A hit lies within a square of this side, or it is none."""
BRIGHT, DARK = 1, 2
"""Marks of what was found."""


def find(image: Image, statistics: Statistics, model: NoiseModel, sigma: float) -> NDArray[np.uint8]:
    """Mark hits `BRIGHT` or `DARK` in a mask `(ny, nx)`, for an image of int8, uint8, int16, uint16 or float32."""
    limit = Real(SURE * sigma)
    clear = Real(CLEAR) * limit * _local_noise(statistics, model)
    terms = np.array([model.gain, model.offset, model.least, model.skew], Real)
    marks, found = _suspects(image, clear, terms, Real(CLEAR) * limit)
    suspects = np.empty((int(found.sum()), 2), dtype=np.int64)
    _list_marks(marks, found, suspects)
    mask = np.zeros(image.shape, np.uint8)
    noise = np.ascontiguousarray(clear / (Real(CLEAR) * limit))
    _measure(image, np.zeros(image.shape, np.uint8), suspects, noise, terms, limit, mask)
    hits = suspects[mask[suspects[:, 0], suspects[:, 1]] > 0]
    _search_beside(image, hits, noise, clear, terms, limit, mask)
    return mask


def _local_noise(statistics: Statistics, model: NoiseModel) -> Map:
    """Noise per block where no model of the whole image holds; else zeros."""
    if model.gain > 0:
        return np.zeros_like(statistics.mean)
    noise = np.empty_like(statistics.variance)
    _middle_variance(statistics.variance, noise)
    return np.sqrt(np.maximum(noise, Real(model.least)))


def places_of(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Flat indices of the pixels set in a mask `(ny, nx)`, ascending; much faster than `numpy.flatnonzero`."""
    found = np.empty(mask.shape[0], np.int64)
    _count_marks(mask, found)
    listed = np.empty((int(found.sum()), 2), dtype=np.int64)
    _list_marks(mask, found, listed)
    return listed[:, 0] * mask.shape[1] + listed[:, 1]


@parallel_kernel
def _count_marks(marks: Any, found: Any) -> Any:
    """Number of marked pixels per row of `(ny, nx)`."""
    for y in prange(marks.shape[0]):
        row, total = marks[y], np.uint32(0)
        for x in range(row.shape[0]):
            total += row[x] != 0
        found[y] = total
    return marks.shape[0]


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


@kernel
def _variance(terms: Any, mean: Any) -> Any:
    """The model's variance at a mean; terms are gain, offset, least and skew."""
    return max(terms[2], terms[1] + terms[0] * mean)


@parallel_kernel
def _suspects(image: Any, clear: Any, terms: Any, share: Any) -> Any:
    """Mark pixels that stand clear of their ring: `(ny, nx)` uint8, and the number per row.

    Clear is `share` times the noise at the ring's second highest (lowest) value, or, where the model has no gain, what
    `clear` says per block. Rings that reach over the image's edge use the pixel on the other side of the centre.
    """
    ny, nx = image.shape
    marks = np.zeros((ny, nx), dtype=np.uint8)
    found = np.zeros(ny, dtype=np.int64)
    rows, columns = clear.shape
    gain, offset, least = terms[0], terms[1], terms[2] if terms[0] > 0 else np.float32(0.0)
    if gain <= 0:
        offset = np.float32(0.0)
    more = np.float32(CLEAR_ELECTRONS) * terms[3]
    for y in prange(ny):
        up1, up2 = (y + 1 if y + 1 < ny else y - 1), (y + 2 if y + 2 < ny else y - 2)
        down1, down2 = (y - 1 if y >= 1 else y + 1), (y - 2 if y >= 2 else y + 2)
        a, b, c, d, e = image[down2], image[down1], image[y], image[up1], image[up2]
        mark = marks[y]
        apart = np.empty(nx, dtype=np.float32)
        level = clear[min(y // BLOCK, rows - 1)]
        for column in range(columns):
            stop = (column + 1) * BLOCK if column < columns - 1 else nx
            apart[column * BLOCK : stop] = level[column] + more
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
            value, bright, dark = np.float32(c[x]), np.float32(high2), np.float32(low2)
            over = value - bright - share * np.sqrt(max(least, offset + gain * bright))
            under = dark - value - share * np.sqrt(max(least, offset + gain * dark))
            mark[x] = max(over, under) > apart[x]
        for x in (0, 1, nx - 2, nx - 1):
            mark[x] = _stands_clear(image, marks, False, y, x, apart[x], gain, offset, least, share)
        total = np.uint32(0)
        for x in range(nx):
            total += mark[x]
        found[y] = total
    return marks, found


@kernel
def inside(i: Any, step: Any, n: Any) -> Any:
    """`i + step`, or `i - step` where that lies outside `0 ... n - 1`."""
    return i + step if 0 <= i + step < n else i - step


@kernel
def _stands_clear(
    image: Any, mask: Any, masked: Any, y: Any, x: Any, apart: Any, gain: Any, offset: Any, least: Any, share: Any
) -> Any:
    """The ring test for one pixel anywhere in the image; pixels of the mask are no part of the ring, if `masked`."""
    ny, nx = image.shape
    low, low2, high, high2 = np.float32(np.inf), np.float32(np.inf), np.float32(-np.inf), np.float32(-np.inf)
    n = 0
    for dy, dx in RING:
        iy, ix = inside(y, dy, ny), inside(x, dx, nx)
        if masked and mask[iy, ix]:
            continue
        low, low2, high, high2 = _second(low, low2, high, high2, np.float32(image[iy, ix]))
        n += 1
    if n < 4:
        return False
    value = np.float32(image[y, x])
    over = value - high2 - share * np.sqrt(max(least, offset + gain * high2))
    under = low2 - value - share * np.sqrt(max(least, offset + gain * low2))
    return max(over, under) > apart


@kernel
def _surroundings(image: Any, mask: Any, y: Any, x: Any, terms: Any, values: Any) -> Any:
    """Level, robust spread and number of the unmasked pixels of the 7 x 7 window without its 3 x 3 core.

    The level is the mean of what lies within 3 standard deviations (and some electrons) of the median; the spread is
    1.48 median absolute deviations.
    """
    ny, nx = image.shape
    n = 0
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            iy, ix = inside(y, dy, ny), inside(x, dx, nx)
            if (abs(dy) > 1 or abs(dx) > 1) and not mask[iy, ix]:
                values[n] = image[iy, ix]
                n += 1
    if n < 8:
        return np.float32(0.0), np.float32(np.inf), n
    middle = median(values, n)
    total, kept = np.float32(0.0), 0
    for i in range(n):
        values[n + i] = abs(values[i] - middle)
    spread = np.float32(1.4826) * median(values[n:], n)
    reach = np.float32(3.0) * max(np.sqrt(_variance(terms, middle)), spread) + np.float32(2.0) * terms[3]
    for i in range(n):
        if abs(values[i] - middle) <= reach:
            total += values[i]
            kept += 1
    return total / np.float32(kept), spread, n


@kernel
def deviance_limit(variance: Any, skew: Any, limit: Any, positive: Any) -> Any:
    """Excess (counts) over a level of that variance whose tail is as rare as `limit` standard deviations.

    Infinite where no such excess exists: nothing is darker than no electron at all.
    """
    gauss = limit * np.sqrt(variance)
    if skew <= 0:
        return gauss
    n = variance / (skew * skew)
    half = np.float32(0.5) * limit * limit / n
    if not positive and half >= 1:  # h(-1) = 1
        return np.float32(np.inf)
    # Newton on h(u) = half, from the Gaussian's u, which is above the root for u > 0; h is convex.
    u = np.sqrt(np.float32(2.0) * half)
    u = u if positive else -min(u, np.float32(0.99))
    for _ in range(8):
        slope = np.log(np.float32(1.0) + u)
        step = ((np.float32(1.0) + u) * slope - u - half) / slope
        u = max(u - step, np.float32(-0.9999))
    return abs(u) * n * skew


@kernel
def _limit(image: Any, mask: Any, y: Any, x: Any, noise: Any, terms: Any, limit: Any, values: Any) -> Any:
    """Level of the surroundings, and the signed excess over it beyond which the pixel is a hit."""
    level, spread, n = _surroundings(image, mask, y, x, terms, values)
    positive = np.float32(image[y, x]) > level
    local = noise[min(y // BLOCK, noise.shape[0] - 1), min(x // BLOCK, noise.shape[1] - 1)]
    variance = _variance(terms, level) if terms[0] > 0 else local * local
    if not n >= 8:
        return level, np.float32(np.inf)
    error = np.sqrt(variance / np.float32(n)) + terms[3] / np.float32(n)
    level = level + error if positive else level - error
    if terms[0] > 0:
        variance = _variance(terms, level)
    least = deviance_limit(variance, terms[3], limit, positive)
    least = max(least, limit * spread / np.float32(STRUCTURE))
    return level, least if positive else -least


@kernel
def _bordered(image: Any, mask: Any, y: Any, x: Any, half: Any) -> Any:
    """Whether more than one of the eight touching pixels lies below `half`: then a dark pixel is no single one."""
    ny, nx = image.shape
    n = 0
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            iy, ix = inside(y, dy, ny), inside(x, dx, nx)
            if (dy != 0 or dx != 0) and np.float32(image[iy, ix]) < half:
                n += 1
    return n > 1


@kernel
def _broad(image: Any, known: Any, y: Any, x: Any, level: Any, excess: Any) -> Any:
    """Whether the mean excess two pixels away, left, right, above and below, is too much for a bloom."""
    ny, nx = image.shape
    total, n = np.float32(0.0), 0
    for dy, dx in ((0, -2), (0, 2), (-2, 0), (2, 0)):
        iy, ix = inside(y, dy, ny), inside(x, dx, nx)
        if not known[iy, ix]:
            total += np.float32(image[iy, ix]) - level
            n += 1
    return n > 0 and total > np.float32(BLOOM) * np.float32(n) * excess


@kernel
def _grow(image: Any, y: Any, x: Any, level: Any, reach: Any, patch: Any) -> Any:
    """Mark in `patch` (its centre at y, x) what hangs together with the marked pixels and stands out beyond `reach`.

    Returns whether the patch ends inside its square.
    """
    ny, nx = image.shape
    half = PATCH // 2
    positive = np.float32(image[y, x]) > level
    grown = True
    while grown:
        grown = False
        for py in range(PATCH):
            for px in range(PATCH):
                iy, ix = y + py - half, x + px - half
                if patch[py, px] or not (0 <= iy < ny and 0 <= ix < nx):
                    continue
                excess = np.float32(image[iy, ix]) - level
                if not (excess if positive else -excess) > reach:
                    continue
                for qy in range(max(0, py - 1), min(PATCH, py + 2)):
                    for qx in range(max(0, px - 1), min(PATCH, px + 2)):
                        if patch[qy, qx] and not patch[py, px]:
                            patch[py, px] = 1
                            grown = True
    edge = PATCH - 1
    for i in range(PATCH):
        if patch[0, i] or patch[edge, i] or patch[i, 0] or patch[i, edge]:
            return False
    return True


@kernel
def _skirt(image: Any, y: Any, x: Any, level: Any, reach: Any, patch: Any) -> Any:
    """Add the pixels around a patch of several pixels that stand out beyond `reach`."""
    ny, nx = image.shape
    half = PATCH // 2
    positive = np.float32(image[y, x]) > level
    if patch.sum() < 2:
        return
    for py in range(1, PATCH - 1):
        for px in range(1, PATCH - 1):
            iy, ix = y + py - half, x + px - half
            if patch[py, px] == 1 or not (0 <= iy < ny and 0 <= ix < nx):
                continue
            excess = np.float32(image[iy, ix]) - level
            if not (excess if positive else -excess) > reach:
                continue
            for qy in range(py - 1, py + 2):
                for qx in range(px - 1, px + 2):
                    if patch[qy, qx] == 1:
                        patch[py, px] = 2


@kernel
def _mark_hit(
    image: Any, known: Any, y: Any, x: Any, noise: Any, terms: Any, limit: Any, mask: Any, values: Any, patch: Any
) -> Any:
    """Mark the hit at `y, x` in `mask`, if it is one, measured without the pixels `known` before."""
    ny, nx = image.shape
    level, least = _limit(image, known, y, x, noise, terms, limit, values)
    excess = np.float32(image[y, x]) - level
    if not (excess > least if least > 0 else excess < least):
        return
    if least < 0 and _bordered(image, mask, y, x, level + np.float32(0.5) * excess):
        return
    if least > 0 and _broad(image, known, y, x, level, excess):
        return
    half = PATCH // 2
    patch[:] = 0
    patch[half, half] = 1
    if least > 0 and not _grow(image, y, x, level, np.float32(GROW) * least, patch):
        return
    _skirt(image, y, x, level, np.float32(SKIRT) * abs(least), patch)
    kind = BRIGHT if least > 0 else DARK
    for py in range(PATCH):
        for px in range(PATCH):
            if patch[py, px]:
                mask[y + py - half, x + px - half] = kind


@parallel_kernel
def _measure(image: Any, known: Any, suspects: Any, noise: Any, terms: Any, limit: Any, mask: Any) -> Any:
    """Mark in `mask` those of the suspects `(n, 2)` that are hits, each by the image alone: no order matters."""
    for index in prange(suspects.shape[0]):
        values = np.empty(2 * (2 * REACH + 1) ** 2, dtype=np.float32)
        patch = np.zeros((PATCH, PATCH), dtype=np.uint8)
        _mark_hit(image, known, suspects[index, 0], suspects[index, 1], noise, terms, limit, mask, values, patch)
    return suspects.shape[0]


@kernel
def _search_beside(
    image: Any, hits: Any, noise: Any, clear: Any, terms: Any, limit: Any, mask: Any
) -> Any:
    """Repeat the search around hits `(n, 2)` without what is marked: hits that lie close together hide each other."""
    ny, nx = image.shape
    rows, columns = clear.shape
    values = np.empty(2 * (2 * REACH + 1) ** 2, dtype=np.float32)
    patch = np.zeros((PATCH, PATCH), dtype=np.uint8)
    gain, offset, least = terms[0], terms[1], terms[2]
    if gain <= 0:
        offset, least = np.float32(0.0), np.float32(0.0)
    more = np.float32(CLEAR_ELECTRONS) * terms[3]
    share = np.float32(CLEAR) * limit
    for index in range(hits.shape[0]):
        y0, x0 = hits[index]
        for y in range(max(0, y0 - REACH), min(ny, y0 + REACH + 1)):
            for x in range(max(0, x0 - REACH), min(nx, x0 + REACH + 1)):
                apart = clear[min(y // BLOCK, rows - 1), min(x // BLOCK, columns - 1)] + more
                if not mask[y, x] and _stands_clear(image, mask, True, y, x, apart, gain, offset, least, share):
                    _mark_hit(image, mask, y, x, noise, terms, limit, mask, values, patch)
    return ny
