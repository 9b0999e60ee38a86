"""Curves in braille: two dots a cell across, four down."""

from __future__ import annotations

from collections.abc import Sequence

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character, `[row][column]`."""
EMPTY = 0x2800


def braille(
    points: Sequence[tuple[float, float]],
    width: int,
    height: int,
    across: tuple[float, float],
    up: tuple[float, float],
) -> list[str]:
    """Points `(x, y)` on `height` lines of `width` characters; beyond the ranges they lie at the edge."""
    cells = [[EMPTY] * width for _ in range(height)]
    for x, y in points:
        column = _place(x, across, 2 * width)
        row = 4 * height - 1 - _place(y, up, 4 * height)
        cells[row // 4][column // 2] |= DOTS[row % 4][column % 2]
    return ["".join(map(chr, line)) for line in cells]


def limits(values: Sequence[float], least: float) -> tuple[float, float]:
    """A range that holds the values, never narrower than `least`, with round ends so that it changes seldom."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    step = least
    while high - low > 4 * step:
        step *= 2
    bottom = step * (low // step)
    top = step * -(-high // step)
    return bottom, max(top, bottom + least)


def _place(value: float, limits: tuple[float, float], count: int) -> int:
    low, high = limits
    if not high > low:
        return 0
    return min(count - 1, max(0, int((value - low) / (high - low) * count)))
