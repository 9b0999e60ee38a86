"""The terminal as cells: only those that changed are sent, and no more of them than a bad line carries.

What matters comes first: text from the top, then pictures. What finds no room is sent with the next frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from rich.color import ColorSystem
from rich.console import Console, RenderableType
from rich.style import Style

BYTES_PER_S = 4000.0
BURST_S = 0.25
"""What was not used is kept for so long."""
JOINED = 4
"""Changes on a line with fewer equal cells between them are sent as one."""
SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
    "windows": ColorSystem.WINDOWS,
}
ENTER = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"

Cell = tuple[str, str]
"""A character and the codes of its style; a wide one is followed by a cell without character."""


class Span(NamedTuple):
    """Cells that differ from what the terminal shows."""

    row: int
    column: int
    cells: list[Cell]

    @property
    def pictorial(self) -> bool:
        """Whether it is mostly picture, which can wait."""
        return 2 * sum(text == "▀" for text, _ in self.cells) > len(self.cells)


class Screen:
    """Draws frames; `write` sends text to the terminal."""

    def __init__(self, console: Console, write: Callable[[str], object], bytes_per_s: float = BYTES_PER_S) -> None:
        self._console, self._write = console, write
        self._rate, self._room = bytes_per_s, BURST_S * bytes_per_s
        self._shown: list[list[Cell]] = []
        self._at_s = 0.0
        self.behind = False
        """Whether something found no room yet."""
        self.sent = 0
        """Bytes."""

    def draw(self, frame: RenderableType, now: float, *, at_once: bool = False) -> None:
        """Send what changed, as far as there is room for it at the time `now` (seconds); all of it `at_once`."""
        width, height = self._console.size
        cells = _cells(self._console, frame, width, height)
        self._room = min(BURST_S * self._rate, self._room + (now - self._at_s) * self._rate)
        self._at_s = now
        head = ""
        if [len(row) for row in self._shown] != [width] * height:
            self._shown = [[(" ", "")] * width for _ in range(height)]
            head, at_once = "\x1b[0m\x1b[2J", True
        self.behind = False
        text = "".join(self._changes(cells, at_once))
        if text:
            self._send(head + text + "\x1b[0m")

    def _changes(self, cells: list[list[Cell]], at_once: bool) -> Iterator[str]:
        """The codes for each span that there is room for, which is taken to be shown then."""
        spans = [span for row, line in enumerate(cells) for span in _spans(row, self._shown[row], line)]
        for span in sorted(spans, key=lambda span: (span.pictorial, span.row, span.column)):
            text = _encoded(span)
            if self._room <= 0 and not at_once:
                self.behind = True
                return
            self._room = max(0.0, self._room - len(text.encode())) if at_once else self._room - len(text.encode())
            self._shown[span.row][span.column : span.column + len(span.cells)] = span.cells
            yield text

    def _send(self, text: str) -> None:
        self.sent += len(text.encode())
        self._write(text)


def _cells(console: Console, frame: RenderableType, width: int, height: int) -> list[list[Cell]]:
    """The frame as `height` rows of `width` cells."""
    options = console.options.update(width=width, height=height)
    system = None if console.no_color else SYSTEMS.get(console.color_system or "")
    rows = []
    for line in console.render_lines(frame, options, pad=True)[:height]:
        row: list[Cell] = []
        for segment in line:
            codes = _codes(segment.style, system) if segment.style else ""
            for character in segment.text:
                row.append((character, codes))
                if console_width(character) == 2:
                    row.append(("", codes))
        rows.append((row + [(" ", "")] * width)[:width])
    return rows + [[(" ", "")] * width for _ in range(height - len(rows))]


@lru_cache(4096)
def console_width(character: str) -> int:
    """Cells that a character fills."""
    from rich.cells import cell_len

    return cell_len(character)


@lru_cache(4096)
def _codes(style: Style, system: ColorSystem | None) -> str:
    """Codes of a style between ESC [ and m; without colours bold, dim and reverse are left."""
    if system is None:
        style = style.without_color
    text = style.render("x", color_system=system or ColorSystem.STANDARD)
    return text[2 : text.index("m")] if text.startswith("\x1b[") else ""


def _spans(row: int, shown: list[Cell], wanted: list[Cell]) -> Iterator[Span]:
    if shown == wanted:
        return
    start = end = -1
    for column, (before, after) in enumerate(zip(shown, wanted, strict=True)):
        if before == after:
            continue
        if start >= 0 and column - end > JOINED:
            yield Span(row, start, wanted[start:end])
            start = -1
        start = column if start < 0 else start
        end = column + 1
    if start >= 0:
        yield Span(row, start, wanted[start:end])


def _encoded(span: Span) -> str:
    parts, before = [f"\x1b[{span.row + 1};{span.column + 1}H"], None
    for text, codes in span.cells:
        if codes != before:
            parts.append(_change(before, codes))
            before = codes
        parts.append(text)
    return "".join(parts)


def _change(before: str | None, after: str) -> str:
    """The shortest way from one style to the next; for two pairs of greys only the one that differs."""
    if before is not None and _is_pair(before) and _is_pair(after):
        (old_front, old_back), (front, back) = before.split(";4", 1), after.split(";4", 1)
        changed = [front] * (front != old_front) + [f"4{back}"] * (back != old_back)
        return f"\x1b[{';'.join(changed)}m"
    return f"\x1b[0;{after}m" if after else "\x1b[m"


def _is_pair(codes: str) -> bool:
    return codes.startswith("38;5;") and ";48;5;" in codes
