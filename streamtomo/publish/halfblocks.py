"""Grey pictures in a terminal: a cell is two pixels one above the other, its two colours; without colours a shade."""

from __future__ import annotations

from functools import cache

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from streamtomo.messages import Picture

SHADES = " ░▒▓█"
DARKEST, GREYS = 232, 24
"""The greys among a terminal's 256 colours."""


class HalfBlocks:
    """A picture in at most `width` x `height` cells, in its own proportions."""

    def __init__(self, picture: Picture, width: int, height: int) -> None:
        self._picture = picture
        scale = min(1.0, width / picture.width, 2 * height / picture.height)
        self._columns = max(1, int(picture.width * scale))
        self._rows = max(1, int(picture.height * scale / 2))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lines of cells."""
        coloured = console.color_system is not None and not console.no_color
        for row in range(self._rows):
            for column in range(self._columns):
                upper, lower = self._grey(2 * row, column), self._grey(2 * row + 1, column)
                yield Segment("▀", _style(upper, lower)) if coloured else Segment(_shade(upper, lower))
            yield Segment.line()

    def _grey(self, row: int, column: int) -> int:
        """Mean of the pixels under half a cell."""
        picture = self._picture
        top, bottom = _span(row, 2 * self._rows, picture.height)
        left, right = _span(column, self._columns, picture.width)
        total = sum(
            sum(picture.pixels[y * picture.width + left : y * picture.width + right]) for y in range(top, bottom)
        )
        return total // ((bottom - top) * (right - left))


def _span(index: int, count: int, length: int) -> tuple[int, int]:
    start = index * length // count
    return start, max(start + 1, (index + 1) * length // count)


def _shade(upper: int, lower: int) -> str:
    return SHADES[(upper + lower) * len(SHADES) // 512]


@cache
def _style(upper: int, lower: int) -> Style:
    """Foreground and background grey; in every second of the greys, so that a screen changes little."""
    a, b = (DARKEST + value * GREYS // 256 // 2 * 2 for value in (upper, lower))
    return Style(color=f"color({a})", bgcolor=f"color({b})")
