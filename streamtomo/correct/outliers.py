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

from streamtomo.correct.noise import BLOCK, Image, NoiseModel, Real, Statistics, local_variance, median
from streamtomo.correct.ring import CLEAR, CLEAR_ELECTRONS, inside, list_marks, stands_clear, suspects
from streamtomo.jit import kernel, parallel_kernel, prange

SURE = 0.65
"""A hit of 8 standard deviations reads beyond 0.65 times that in 99.7 % of cases; noise does in one of five million."""
REACH = 3
"""The window is 7 x 7."""
STRUCTURE = 1.5
"""A window whose spread is this many times the noise holds structure, and the limit rises with it."""
GROW = 0.55
"""Neighbours of a hit belong to it beyond this fraction of its limit, some 3 standard deviations."""
SKIRT = 0.27
"""... and those around a hit of several pixels beyond this one."""
BLOOM = 0.33
"""Share of a hit's height that is left two pixels away: 0.25 of a bloom 3 pixels wide, a bead has more."""
PATCH = 13
"""A hit lies within a square of this side, or it is none."""
BRIGHT, DARK = 1, 2
"""Marks of what was found."""


def find(
    image: Image, statistics: Statistics, model: NoiseModel, sigma: float, known: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """A mask `(ny, nx)` of what is `known`, and of hits, marked `BRIGHT` or `DARK`.

    Known pixels, marked otherwise, are no part of any surroundings. Types: int8, uint8, int16, uint16, float32.
    """
    limit = Real(SURE * sigma)
    noise = np.zeros_like(statistics.mean)
    if model.gain <= 0:
        noise = np.sqrt(local_variance(statistics, model))
    terms = np.array([model.gain, model.offset, model.least, model.skew], Real)
    clear = Real(CLEAR) * limit * noise
    marks, found = suspects(image, clear, terms, Real(CLEAR) * limit)
    listed = np.empty((int(found.sum()), 2), dtype=np.int64)
    list_marks(marks, found, listed)
    mask = known.copy()
    _measure(image, known, listed, noise, terms, limit, mask)
    hits = listed[mask[listed[:, 0], listed[:, 1]] > 0]
    for _ in range(2):  # what the first round marks uncovers more
        _search_beside(image, hits, noise, clear, terms, limit, mask)
    return mask


@kernel
def _variance(terms: Any, mean: Any) -> Any:
    """The model's variance at a mean; terms are gain, offset, least and skew."""
    return max(terms[2], terms[1] + terms[0] * mean)


@kernel
def _surroundings(image: Any, mask: Any, y: Any, x: Any, terms: Any, values: Any) -> Any:
    """Level, robust spread and number of the unmasked pixels of the 7 x 7 window without its 3 x 3 core.

    The level is the mean of what lies within 3 standard deviations (and some electrons) of the median; the spread is
    1.48 median absolute deviations, or the median's distance from the tenth on the side away from the pixel, if that
    is more: a bright gap between two beads has gold there.
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
    away = middle - values[n // 10] if np.float32(image[y, x]) > middle else values[n - 1 - n // 10] - middle
    spread = max(spread, away / np.float32(1.28))
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
    outermost = patch[0].sum() + patch[edge].sum() + patch[:, 0].sum() + patch[:, edge].sum()
    return outermost == 0


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
    if known[y, x]:
        return
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
            if patch[py, px] and not known[y + py - half, x + px - half]:
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
def _search_beside(image: Any, hits: Any, noise: Any, clear: Any, terms: Any, limit: Any, mask: Any) -> Any:
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
                if not mask[y, x] and stands_clear(image, mask, True, y, x, apart, gain, offset, least, share):
                    _mark_hit(image, mask, y, x, noise, terms, limit, mask, values, patch)
    return ny
