"""Pixels that stand clear of a ring around them: what an outlier must be, whatever else it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.correct.noise import BLOCK
from streamtomo.jit import kernel, parallel_kernel, prange

RING = ((-2, -1), (-2, 0), (-2, 1), (-1, -2), (-1, 2), (0, -2), (0, 2), (1, -2), (1, 2), (2, -1), (2, 0), (2, 1))
CLEAR = 0.6
"""Share of the limit by which a suspect must stand clear of its ring."""
CLEAR_ELECTRONS = 2.0
"""... and by so many electrons more, where electrons are counted."""


def places_of(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Flat indices of the pixels set in a mask `(ny, nx)`, ascending; much faster than `numpy.flatnonzero`."""
    found = np.empty(mask.shape[0], np.int64)
    _count_marks(mask, found)
    listed = np.empty((int(found.sum()), 2), dtype=np.int64)
    list_marks(mask, found, listed)
    places: NDArray[np.int64] = listed[:, 0] * mask.shape[1] + listed[:, 1]
    return places


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
def list_marks(marks: Any, found: Any, listed: Any) -> Any:
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
def second(low: Any, low2: Any, high: Any, high2: Any, value: Any) -> Any:
    """Keep the two lowest and the two highest values seen, without branches."""
    above = value if value > low else low
    low2 = above if above < low2 else low2
    low = value if value < low else low
    beneath = value if value < high else high
    high2 = beneath if beneath > high2 else high2
    high = value if value > high else high
    return low, low2, high, high2


@parallel_kernel
def suspects(image: Any, clear: Any, terms: Any, share: Any) -> Any:
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
            low, low2, high, high2 = second(low, low2, high, high2, c[x - 2])
            low, low2, high, high2 = second(low, low2, high, high2, c[x + 2])
            low, low2, high, high2 = second(low, low2, high, high2, a[x - 1])
            low, low2, high, high2 = second(low, low2, high, high2, a[x + 1])
            low, low2, high, high2 = second(low, low2, high, high2, e[x - 1])
            low, low2, high, high2 = second(low, low2, high, high2, e[x + 1])
            low, low2, high, high2 = second(low, low2, high, high2, b[x - 2])
            low, low2, high, high2 = second(low, low2, high, high2, b[x + 2])
            low, low2, high, high2 = second(low, low2, high, high2, d[x - 2])
            low, low2, high, high2 = second(low, low2, high, high2, d[x + 2])
            value, bright, dark = np.float32(c[x]), np.float32(high2), np.float32(low2)
            over = value - bright - share * np.sqrt(max(least, offset + gain * bright))
            under = dark - value - share * np.sqrt(max(least, offset + gain * dark))
            mark[x] = max(over, under) > apart[x]
        for x in (0, 1, nx - 2, nx - 1):
            mark[x] = stands_clear(image, marks, False, y, x, apart[x], gain, offset, least, share)
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
def stands_clear(
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
        low, low2, high, high2 = second(low, low2, high, high2, np.float32(image[iy, ix]))
        n += 1
    if n < 4:
        return False
    value = np.float32(image[y, x])
    over = value - high2 - share * np.sqrt(max(least, offset + gain * high2))
    under = low2 - value - share * np.sqrt(max(least, offset + gain * low2))
    return max(over, under) > apart
