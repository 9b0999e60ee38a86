"""Parts of the dashboard: the list of series, one series in depth. Colours are always backed by letters."""

from __future__ import annotations

import math
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamtomo.messages import Picture
from streamtomo.publish.curves import braille, limits
from streamtomo.publish.halfblocks import HalfBlocks
from streamtomo.publish.lines import printable
from streamtomo.publish.state import SeriesRow, TiltRow

STYLES = {"G": "green", "D": "yellow", "B": "bold red", "F": "bold red", "U": "bold yellow", "X": "magenta", ".": "dim"}
STATE_STYLES = {
    "collecting": "cyan",
    "finishing": "magenta",
    "finished": "green",
    "failed": "bold red",
    "too few": "yellow",
    "rejected": "bold red",
}
JUDGED_STYLES = {"good": "green", "watch": "yellow", "reject": "bold red"}
LONGEST_NAME = 20
"""Cells for the name of a series; what is longer is cut."""
ROOM_FOR_ALL = 58
"""Width of the tilt table from which all its columns are shown."""
ROOM_FOR_CURVES = 11
"""Lines of detail from which the curves are shown."""
WIDEST_CURVE = 44
ROOM_FOR_FOUR = 90
"""Width of the detail from which there are four curves."""
LINES_TO_ONE_OF_MEASURES = 9
"""Of so many lines of detail one is for what was measured of the marked tilt."""
STAGES = ("wait", "read", "correct", "align", "judge", "reconstruct", "show", "total")
TALL = 30
"""Lines that leave room for the section across the tilt axis as well."""
WEDGE_DEG = 70.0
"""The progress bar by angle reaches from minus to plus this."""


def series_table(rows: list[SeriesRow], marked: SeriesRow | None, width: int, now: float) -> RenderableType:
    """A line for each series."""
    table = Table(box=None, padding=(0, 1, 0, 0), width=width, show_edge=False, header_style="dim")
    wedge = max(11, min(57, width - 62)) // 2 * 2 + 1
    for title, options in (
        ("series", {"no_wrap": True, "max_width": LONGEST_NAME, "overflow": "ellipsis"}),
        ("tilts", {"justify": "right", "no_wrap": True}),
        (f"-{WEDGE_DEG:.0f}°".ljust(wedge // 2) + "0" + f"+{WEDGE_DEG:.0f}°".rjust(wedge // 2), {"min_width": wedge}),
        ("verdict", {"no_wrap": True}),
        ("state", {"no_wrap": True, "ratio": 1, "overflow": "ellipsis"}),
    ):
        table.add_column(title, **options)
    for row in rows:
        name = Text(printable(row.name), style="bold reverse" if row is marked else "bold")
        table.add_row(name, _count(row), _wedge(row, wedge), _verdict(row), _phase(row, now))
    return table


def _count(row: SeriesRow) -> str:
    return f"{len(row.tilts)}/{row.planned}" if row.planned else f"{len(row.tilts)}"


def _wedge(row: SeriesRow, cells: int) -> Text:
    """Which angles are there: a cell for each few degrees, the worst verdict in it."""
    marks = [" "] * cells
    order = " X.GDUBF"
    for tilt in row.tilts.values():
        cell = round((tilt.angle_deg / WEDGE_DEG + 1) / 2 * (cells - 1))
        cell = min(cells - 1, max(0, cell))
        marks[cell] = max(marks[cell], tilt.letter, key=order.index)
    text = Text()
    for mark in marks:
        text.append({" ": "·", "G": "█", ".": "▁"}.get(mark, mark), style=STYLES.get(mark, "dim"))
    return text


def _verdict(row: SeriesRow) -> Text:
    if row.judged is None:
        return Text("G good" if row.placed else "", style="green")
    return Text(f"{row.judged.state[0].upper()} {row.judged.state}", style=JUDGED_STYLES[row.judged.state])


def _phase(row: SeriesRow, now: float) -> Text:
    words = {
        "collecting": f"collecting{_forecast(row, now)}",
        "finishing": f"finishing: {row.step} {_bar(row.fraction)} {100 * row.fraction:.0f} %",
        "finished": f"finished in {row.done.seconds:.0f} s" if row.done else "finished",
        "failed": f"failed: {row.failure}",
        "rejected": f"rejected: {row.failure}",
        "too few": f"too few: {row.failure}",
        "complete": f"complete: {row.closed_by}",
    }.get(row.state, row.state)
    return Text(printable(words), style=STATE_STYLES.get(row.state, ""))


def _forecast(row: SeriesRow, now: float) -> str:
    """When the last of the planned tilts is expected, at the pace of the last ones."""
    left = (row.planned or 0) - len(row.tilts)
    if left <= 0 or not row.interval_s:
        return ""
    last = max(tilt.received_s for tilt in row.tilts.values())
    end = max(last + left * row.interval_s, now)
    return f", {left} to come, ends {datetime.fromtimestamp(end):%H:%M}"


def _bar(fraction: float, cells: int = 10) -> str:
    full = round(fraction * cells)
    return "━" * full + "─" * (cells - full)


def detail(row: SeriesRow, tilt: int | None, width: int, height: int, now: float) -> RenderableType:
    """The series in depth: facts, curves and tilts at the left, the live volume's central sections at the right."""
    picture_width = min(height * 2 - 2, width // 2) if width >= 72 and row.pictures else 0
    left = width - picture_width - (2 if picture_width else 0)
    curves = _curves(row, left, max(2, min(5, height // 8))) if height >= ROOM_FOR_CURVES else []
    parts: list[RenderableType] = [facts(row, left, now), *curves]
    numbers = _measures(row, tilt, left)[: height // LINES_TO_ONE_OF_MEASURES]
    parts.append(_tilt_table(row, tilt, left, height - 4 - len(curves) - len(numbers)))
    parts += [*numbers, _last_line(row, tilt, left)]
    if not picture_width:
        return Group(*parts)
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=left)
    grid.add_column(width=picture_width)
    grid.add_row(Group(*parts), _pictures(row, picture_width, height))
    return grid


def facts(row: SeriesRow, width: int, now: float) -> Text:
    """What is known of the series as a whole, on one line."""
    parts = [row.name]
    if row.nx:
        parts.append(f"{row.nx} x {row.ny}")
    if row.pixel_size_A:
        parts.append(f"{row.pixel_size_A:g} Å")
    if row.tilt_axis_deg is not None:
        parts.append(f"axis {row.tilt_axis_deg:.1f}°")
    if row.measured_axis is not None:
        parts.append(f"AXIS MEASURED {row.measured_axis.axis_deg:.1f}°")
    if row.interval_s and row.state == "collecting":
        parts.append(f"every {row.interval_s:.1f} s")
    if row.touched_s and row.state == "collecting":
        parts.append(f"last {max(0.0, now - row.touched_s):.0f} s ago")
    return Text(short(" · ".join(parts), width, keep="left"), style="bold", no_wrap=True)


# -- curves ----------------------------------------------------------------------------------------------------------


def _curves(row: SeriesRow, width: int, height: int) -> list[Text]:
    """By angle: intensity against the expected one, height of the correlation peak (it gives way first: the table has
    it), agreement with the volume of all other tilts, once that is known; by order of acquisition: shift."""
    with_agreement = any(tilt.agreement is not None for tilt in row.placed)
    with_peak = not with_agreement or width >= ROOM_FOR_FOUR
    count = 2 + with_agreement + with_peak
    each = min(WIDEST_CURVE, (width - 2 * (count - 1)) // count)
    if each < 10:
        return []
    tilts = sorted(row.placed, key=lambda tilt: tilt.index)
    angles = (-WEDGE_DEG, WEDGE_DEG)
    numbers = (0.0, float(max(row.planned or 0, len(row.tilts), 8)))
    columns = [
        _curve("intensity", [(tilt.angle_deg, _ratio(tilt)) for tilt in tilts], angles, 0.5, each, height),
        _curve("peak", [(tilt.angle_deg, _score(tilt)) for tilt in tilts], angles, 10.0, each, height),
        _curve("left out", [(tilt.angle_deg, tilt.agreement) for tilt in tilts], angles, 0.1, each, height),
        _curve("shift px", [(float(tilt.index), _shift(tilt)) for tilt in tilts], numbers, 10.0, each, height),
    ]
    columns = [columns[0], *columns[1:2] * with_peak, *columns[2:3] * with_agreement, columns[3]]
    return [
        Text("  ".join(line), style="dim" if n == 0 else "cyan", no_wrap=True)
        for n, line in enumerate(zip(*columns, strict=True))
    ]


def _curve(
    title: str,
    points: list[tuple[float, float | None]],
    across: tuple[float, float],
    least: float,
    width: int,
    height: int,
) -> list[str]:
    """Title with the range, then the curve."""
    known = [(x, y) for x, y in points if y is not None]
    low, high = limits([y for _, y in known], least)
    head = f"{title} {low:g}–{high:g}" if known else title
    return [head[:width].ljust(width), *braille(known, width, height, across, (low, high))]


def _ratio(tilt: TiltRow) -> float | None:
    """Mean intensity over what the other tilts predict."""
    assert tilt.placed is not None
    return next((one.value for one in tilt.placed.verdict.measures if one.name == "intensity"), None)


def _score(tilt: TiltRow) -> float | None:
    at = tilt.placed.placement if tilt.placed else None
    return at.score if at and at.neighbour is not None else None


def _shift(tilt: TiltRow) -> float | None:
    at = tilt.placed.placement if tilt.placed else None
    return math.hypot(at.shift_x, at.shift_y) if at else None


# -- tilts -----------------------------------------------------------------------------------------------------------


def _tilt_table(row: SeriesRow, marked: int | None, width: int, lines: int) -> Table:
    """A page of the tilts, in the order of acquisition: a page stands still while tilts come."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", width=width)
    titles: tuple[str, ...] = ("#", "angle", "shift x", "y", "peak", "repaired", "ms")
    if width < ROOM_FOR_ALL:  # the reason of a verdict is worth more
        titles = titles[:-2]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, ratio=1, overflow="ellipsis")
    for tilt in _page(row, marked, max(1, lines)):
        *cells, verdict = _tilt_cells(tilt)
        style = "reverse" if tilt.index == marked else ""
        table.add_row(*cells[: len(titles)], verdict, style=style)
    return table


def _page(row: SeriesRow, marked: int | None, lines: int) -> list[TiltRow]:
    tilts = sorted(row.tilts.values(), key=lambda tilt: tilt.index)
    at = next((place for place, tilt in enumerate(tilts) if tilt.index == marked), 0)
    half = max(1, lines // 2)  # so that a new page shows some of the one before
    first = max(0, at // half - 1) * half if at >= lines else 0
    return tilts[first : first + lines]


def reason(tilt: TiltRow) -> str:
    """The tilt's letter, and the words that go with it."""
    if tilt.excluded:
        words = tilt.excluded
    elif tilt.failure:
        words = tilt.failure
    elif tilt.placed is None:
        return ". in the queue"
    else:
        verdict = tilt.placed.verdict
        state = "unplaced, no neighbour recognised" if tilt.placed.unplaced else verdict.state
        words = ": ".join(filter(None, (state, "; ".join(verdict.reasons))))
    return printable(f"{tilt.letter} {words}")


def _tilt_cells(tilt: TiltRow) -> list[RenderableType]:
    head: list[RenderableType] = [str(tilt.index), f"{tilt.angle_deg:+.1f}"]
    words = Text(reason(tilt), style=STYLES[tilt.letter])
    if tilt.placed is None:
        return [*head, "", "", "", "", "", words]
    placed, at = tilt.placed, tilt.placed.placement
    return [
        *head,
        f"{at.shift_x:+.1f}" if at else "",
        f"{at.shift_y:+.1f}" if at else "",
        f"{at.score:.0f}" if at else "",
        str(placed.correction.repaired),
        f"{placed.stage_ms.get('total', 0.0):.0f}",
        words,
    ]


def _last_line(row: SeriesRow, marked: int | None, width: int) -> Text:
    """Why the marked tilt is not good, where the table has no room for it; else the times of the last one."""
    tilt = row.tilts.get(-1 if marked is None else marked)
    if tilt is None or tilt.letter in "G.":
        return _stages(row, width)
    return Text(short(f"{tilt.index}: {reason(tilt)}", width, keep="left"), style=STYLES[tilt.letter], no_wrap=True)


def _measures(row: SeriesRow, marked: int | None, width: int) -> list[Text]:
    """What was measured of the marked tilt, against its limit, what fails first; as many lines as it takes."""
    tilt = row.tilts.get(-1 if marked is None else marked)
    if tilt is None or tilt.placed is None:
        return []
    lines: list[Text] = []
    for one in sorted(tilt.placed.verdict.measures, key=lambda one: -"good doubtful bad".index(one.state)):
        letter = "" if one.state == "good" else f" {one.state[0].upper()}"
        words = f"{one.name} {one.value:.3g}{f'/{one.limit:.3g}' if one.limit is not None else ''}{letter}"
        if not lines or len(lines[-1]) + len(words) + 2 > width:
            lines.append(Text(no_wrap=True))
        style = STYLES[one.state[0].upper()] if letter else "dim"
        lines[-1].append(("  " if len(lines[-1]) else "") + printable(words), style=style)
    return lines


def _stages(row: SeriesRow, width: int) -> Text:
    """Milliseconds of the last tilt, stage by stage."""
    last = max(row.placed, key=lambda tilt: tilt.index, default=None)
    if last is None or last.placed is None:
        return Text("")
    times = last.placed.stage_ms
    words = " ".join(f"{stage} {times[stage]:.0f}" for stage in STAGES if times.get(stage, 0.0) >= 0.5)
    return Text(short(f"ms: {words}", width, keep="left"), style="dim", no_wrap=True)


# -- pictures --------------------------------------------------------------------------------------------------------


def _pictures(row: SeriesRow, width: int, height: int) -> RenderableType:
    parts: list[RenderableType] = []
    depths = ("xz", "yz") if height >= TALL else ("xz",)
    lines_of = {plane: _lines(row.pictures[plane], width, height // 3) for plane in depths if plane in row.pictures}
    left = height - 1 - sum(lines + 1 for lines in lines_of.values())
    for plane, lines in (("xy", left), *lines_of.items()):
        picture = row.pictures.get(plane)
        if picture is not None and lines > 0:
            made = ", SIRT" if picture.by == "sirt" else ""
            parts.append(Text(f"live volume, central {plane}, {picture.tilts} views{made}", style="dim", no_wrap=True))
            parts.append(HalfBlocks(picture, width, lines))
    return Group(*parts)


def _lines(picture: Picture, width: int, most: int) -> int:
    """Lines of text that a picture fills at a width."""
    return max(1, min(most, round(picture.height * min(1.0, width / picture.width) / 2)))


def short(text: str, width: int, keep: str = "right") -> str:
    """The text in at most `width` characters, its end or its beginning cut."""
    text, width = printable(text), max(1, width)
    if len(text) <= width:
        return text
    return text[: width - 1] + "…" if keep == "left" else "…" + text[len(text) - width + 1 :]
