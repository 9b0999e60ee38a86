"""The dashboard: a session's state drawn for a terminal, from 80 x 24 up. Colours are always backed by letters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streamtomo.messages import Picture
from streamtomo.publish.halfblocks import HalfBlocks
from streamtomo.publish.lines import printable
from streamtomo.publish.state import SeriesRow, SessionState, TiltRow

REFRESH_S = 0.25
LATE_S = 4.0
"""A heartbeat older than this is shown as trouble."""
STYLES = {"G": "green", "D": "yellow", "B": "bold red", "F": "bold red", "X": "magenta", ".": "dim"}
RED = frozenset("BF")
STATE_STYLES = {
    "collecting": "cyan",
    "finishing": "magenta",
    "finished": "green",
    "failed": "bold red",
    "too few": "yellow",
}
JUDGED_STYLES = {"good": "green", "watch": "yellow", "reject": "bold red"}
LONGEST_NAME = 20
"""Cells for the name of a series; what is longer is cut."""
ROOM_FOR_ALL = 58
"""Width of the tilt table from which all its columns are shown."""
STAGES = ("wait", "read", "correct", "align", "judge", "reconstruct", "show", "total")
WEDGE_DEG = 70.0
"""The progress bar by angle reaches from minus to plus this."""


def render(state: SessionState, width: int, height: int, now: float) -> RenderableType:
    """The whole screen for a terminal of `width` x `height` cells at the time `now` (seconds since 1970)."""
    active = state.active
    rows = max(1, min(len(state.series), height // 4))
    parts: list[RenderableType] = [_header(state, width, now), _series_table(state, width, rows)]
    alarms = _alarms(state, width, limit=max(1, height // 8))
    left = height - 5 - rows - len(alarms) - (2 if alarms else 0)
    if active is not None and left > 3:
        parts.append(_detail(active, width, left, now))
    elif active is None:
        waiting = state.heartbeat.waiting_for if state.heartbeat else "the first heartbeat"
        parts.append(Text(f"\n  Waiting for {printable(waiting)}.", style="dim"))
    if alarms:
        parts.append(Panel(Group(*alarms), title="messages", title_align="left", border_style="yellow", padding=0))
    return Group(*parts)


def _header(state: SessionState, width: int, now: float) -> RenderableType:
    started, beat = state.started, state.heartbeat
    watched = started.watched if started else "?"
    if len(state.folders) > 1:
        watched += f" and {len(state.folders) - 1} more"
    left = Text.assemble(("streamtomo ", "bold"), (_short(watched, max(10, width - 48)), "cyan"))
    right = Text(f"{printable(_health(state, now))}  {datetime.fromtimestamp(now):%H:%M:%S}")
    right.stylize(_health_style(state, now))
    first = _both_ends(left, right, width)
    if beat is None:
        return first
    facts = f"{beat.backlog} waiting"
    facts += f" · finishing {', '.join(beat.finishing)}" if beat.finishing else ""
    facts += f" · next: {beat.waiting_for}" if beat.waiting_for else ""
    room = f"{beat.free_GB:.0f} GB free" if beat.free_GB is not None else ""
    room += f" · {beat.memory_GB:.1f} GB used" if beat.memory_GB is not None else ""
    second = _both_ends(Text(_short(facts, width - len(room) - 2, keep="left")), Text(room, style="dim"), width)
    return Group(first, second)


def _health(state: SessionState, now: float) -> str:
    if state.ended is not None:
        return f"ENDED: {state.ended.reason}"
    silent = now - max(state.heartbeat_s, state.time_s)
    return f"NO SIGN OF LIFE for {silent:.0f} s" if silent > LATE_S else "running"


def _health_style(state: SessionState, now: float) -> str:
    health = _health(state, now)
    return "green" if health == "running" else "bold red" if health.startswith("NO") else "yellow"


def _series_table(state: SessionState, width: int, rows: int) -> RenderableType:
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
    for row in _newest(state)[:rows]:
        table.add_row(Text(row.name, style="bold"), _count(row), _wedge(row, wedge), _verdict(row), _phase(row))
    return table


def _newest(state: SessionState) -> list[SeriesRow]:
    return sorted(state.series.values(), key=lambda row: -row.touched_s)


def _count(row: SeriesRow) -> str:
    return f"{len(row.tilts)}/{row.planned}" if row.planned else f"{len(row.tilts)}"


def _wedge(row: SeriesRow, cells: int) -> Text:
    """Which angles are there: a cell for each few degrees, the worst verdict in it."""
    marks = [" "] * cells
    order = " X.GDBF"
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


def _phase(row: SeriesRow) -> Text:
    words = {
        "finishing": f"finishing: {row.step} {_bar(row.fraction)} {100 * row.fraction:.0f} %",
        "finished": f"finished in {row.done.seconds:.0f} s" if row.done else "finished",
        "failed": f"failed: {row.failure}",
        "too few": f"too few: {row.failure}",
        "complete": f"complete: {row.closed_by}",
    }.get(row.state, row.state)
    return Text(printable(words), style=STATE_STYLES.get(row.state, ""))


def _bar(fraction: float, cells: int = 10) -> str:
    full = round(fraction * cells)
    return "━" * full + "─" * (cells - full)


def _detail(row: SeriesRow, width: int, height: int, now: float) -> RenderableType:
    """The series in depth: last tilts at the left, the live volume's central sections at the right."""
    picture_width = min(height * 2 - 2, width // 2) if width >= 72 and row.pictures else 0
    left = width - picture_width - (2 if picture_width else 0)
    lines = height - 4
    tilts = _tilt_table(row, left, lines)
    facts = _facts(row, left, now)
    stages = _stages(row, left)
    column = Group(facts, tilts, stages)
    if not picture_width:
        return column
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=left)
    grid.add_column(width=picture_width)
    grid.add_row(column, _pictures(row, picture_width, height))
    return grid


def _facts(row: SeriesRow, width: int, now: float) -> Text:
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
    return Text(_short(" · ".join(parts), width, keep="left"), style="bold", no_wrap=True)


def _tilt_table(row: SeriesRow, width: int, lines: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", width=width)
    titles: tuple[str, ...] = ("#", "angle", "shift x", "y", "peak", "repaired", "ms")
    if width < ROOM_FOR_ALL:  # the reason of a verdict is worth more
        titles = titles[:-2]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, ratio=1, overflow="ellipsis")
    last = sorted(row.tilts.values(), key=lambda tilt: tilt.index)[-max(1, lines) :]
    for tilt in reversed(last):
        *cells, verdict = _tilt_cells(tilt)
        table.add_row(*cells[: len(titles)], verdict)
    return table


def _reason(tilt: TiltRow) -> str:
    """The tilt's letter, and the words that go with it."""
    if tilt.excluded:
        words = tilt.excluded
    elif tilt.failure:
        words = tilt.failure
    elif tilt.placed is None:
        return "in the queue"
    else:
        verdict = tilt.placed.verdict
        words = ": ".join(filter(None, (verdict.state, "; ".join(verdict.reasons))))
    return printable(f"{tilt.letter} {words}")


def _tilt_cells(tilt: TiltRow) -> list[RenderableType]:
    head: list[RenderableType] = [str(tilt.index), f"{tilt.angle_deg:+.1f}"]
    words = Text(_reason(tilt), style=STYLES[tilt.letter])
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


def _stages(row: SeriesRow, width: int) -> Text:
    """Milliseconds of the last tilt, stage by stage."""
    last = max(row.placed, key=lambda tilt: tilt.index, default=None)
    if last is None or last.placed is None:
        return Text("")
    times = last.placed.stage_ms
    words = " ".join(f"{stage} {times[stage]:.0f}" for stage in STAGES if times.get(stage, 0.0) >= 0.5)
    return Text(_short(f"ms: {words}", width, keep="left"), style="dim", no_wrap=True)


def _pictures(row: SeriesRow, width: int, height: int) -> RenderableType:
    parts: list[RenderableType] = []
    depth = row.pictures.get("xz")
    depth_lines = _lines(depth, width, height // 3) if depth else 0
    for plane, lines in (("xy", height - depth_lines - 2), ("xz", depth_lines)):
        picture = row.pictures.get(plane)
        if picture is not None and lines > 0:
            parts.append(Text(f"live volume, central {plane}, {picture.tilts} views", style="dim", no_wrap=True))
            parts.append(HalfBlocks(picture, width, lines))
    return Group(*parts)


def _lines(picture: Picture, width: int, most: int) -> int:
    """Lines of text that a picture fills at a width."""
    return max(1, min(most, round(picture.height * min(1.0, width / picture.width) / 2)))


def _alarms(state: SessionState, width: int, limit: int) -> list[Text]:
    """Why what is red is red, then warnings and refused files; at most `limit` of each."""
    lines = [f"{warning.code}: {warning.text}" for warning in state.warnings]
    lines += [f"refused {refused.path}: {refused.reason}" for refused in state.refused]
    more = len(lines) - limit
    shown = lines[-limit:]
    if more > 0:
        shown[0] = f"({more + 1} earlier messages: see streamtomo.log)"
    styled = [(line, "bold red") for line in _troubles(state)[:limit]] + [(line, "") for line in shown]
    return [Text(_short(line, width - 4, keep="left"), style=style, no_wrap=True) for line, style in styled]


def _troubles(state: SessionState) -> list[str]:
    """What is red, with the reason: series that something happened to last first."""
    lines = [f"ALARM {alarm.text}" for alarm in state.alarms]
    for row in _newest(state):
        name = _short(row.name, LONGEST_NAME, keep="left")
        if row.failure and row.state != "too few":
            lines.append(f"{name} {'failed' if row.state == 'failed' else 'to be tried again'}: {row.failure}")
        if row.judged is not None and row.judged.state == "reject":
            lines.append(f"{name} reject: {'; '.join(row.judged.reasons)}")
        reds = [tilt for tilt in row.tilts.values() if tilt.letter in RED]
        if reds and row.state == "collecting":
            last = max(reds, key=lambda tilt: tilt.index)
            lines.append(f"{name} tilt {last.index} {_reason(last)}")
    return lines


def _short(text: str, width: int, keep: str = "right") -> str:
    text, width = printable(text), max(1, width)
    if len(text) <= width:
        return text
    return text[: width - 1] + "…" if keep == "left" else "…" + text[len(text) - width + 1 :]


def _both_ends(left: Text, right: Text, width: int) -> Text:
    space = max(1, width - left.cell_len - right.cell_len)
    line = Text.assemble(left, " " * space, right, no_wrap=True)
    line.truncate(width)
    return line


class Dashboard:
    """Draws a state on the terminal's other screen until left; redraws what changed, at most four times a second."""

    def __init__(self, state: Callable[[], SessionState], console: Console | None = None) -> None:
        self._state = state
        self._console = console or Console()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="dashboard", daemon=True)

    def __enter__(self) -> Dashboard:
        """Take the screen."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give the screen back."""
        self._stop.set()
        self._thread.join()

    def _draw(self) -> None:
        with Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False) as live:
            drawn: tuple[object, ...] = ()
            while True:
                try:
                    drawn = self._redraw(live, drawn)
                except Exception as error:  # a fault of ours must not take the window away
                    live.update(Text(f"cannot be drawn: {type(error).__name__}: {error}"), refresh=True)
                if self._stop.wait(REFRESH_S):
                    return

    def _redraw(self, live: Live, drawn: tuple[object, ...]) -> tuple[object, ...]:
        """Draw if anything differs from what was drawn; what is drawn now."""
        state, now = self._state(), time.time()
        key = (state.session, state.seq, int(now), self._console.size)
        if key != drawn:
            width, height = self._console.size
            live.update(render(state, width, height, now), refresh=True)
        return key
