"""The dashboard: a session's state drawn for a terminal, from 80 x 24 up. A pure function of the messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from streamtomo.publish.lines import printable
from streamtomo.publish.panels import LONGEST_NAME, detail, reason, series_table, short
from streamtomo.publish.state import SeriesRow, SessionState
from streamtomo.publish.view import HELP, View, chosen, chosen_tilt, in_order, question

LATE_S = 2.5
"""A heartbeat older than this is shown as trouble."""
RESTARTED_S = 60.0
"""So long it is shown that a run was taken up again."""
LONGEST_END_S = 30.0
"""So long a run that is about to end may be silent."""
BEHIND = 5
"""More waiting tilts than this are shown as lagging."""
RED = frozenset("BF")
LOWEST_WITH_FOOTER = 12
FOOTER = "arrows choose · x leave out · r count again · c close · ? help · q leave"


class Health(NamedTuple):
    """How a run is doing, in words, and how bad that is: 0 fine, 1 to be known, 2 to be looked at, 3 lost."""

    words: str
    badness: int

    @property
    def style(self) -> str:
        """Colour; the words say the same."""
        return ("green", "yellow", "bold red", "bold red")[self.badness]


def render(state: SessionState, width: int, height: int, now: float, view: View | None = None) -> RenderableType:
    """The whole screen for a terminal of `width` x `height` cells at the time `now` (seconds since 1970)."""
    view = view or View()
    head = _header(state, width, now)
    foot = _footer(view, width)
    if view.help:
        return Filled(Group(*head, *_help(width, height - len(head))), foot, height)
    listed, marked = in_order(state), chosen(view, state)
    rows = max(1, min(len(listed), height // 4))
    alarms = _alarms(state, view, width, limit=max(1, height // 8))
    left = height - len(head) - 1 - rows - 1 - len(alarms) - (2 if alarms else 0)
    parts: list[RenderableType] = [*head, series_table(_window(listed, marked, rows), marked, width, now)]
    if marked is not None and left > 3:
        parts.append(detail(marked, chosen_tilt(view, marked), width, left, now))
    elif marked is None:
        waiting = state.heartbeat.waiting_for if state.heartbeat else "the first heartbeat"
        parts.append(Text(f"\n  Waiting for {printable(waiting)}.", style="dim"))
    if alarms:
        parts.append(Panel(Group(*alarms), title="messages", title_align="left", border_style="yellow", padding=0))
    return Filled(Group(*parts), foot if height > LOWEST_WITH_FOOTER else None, height)


class Filled:
    """Fills exactly `height` lines: a body, cut or padded, and a footer on the last line."""

    def __init__(self, body: RenderableType, foot: Text | None, height: int) -> None:
        self._body, self._foot, self._height = body, foot, height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines."""
        room = self._height - (self._foot is not None)
        lines = console.render_lines(self._body, options.update(height=None), pad=False)[:room]
        for line in lines + [[]] * (room - len(lines) if self._foot is not None else 0):
            yield from line
            yield Segment.line()
        if self._foot is not None:
            yield self._foot


def _window(rows: list[SeriesRow], marked: SeriesRow | None, count: int) -> list[SeriesRow]:
    """The page of the list with the marked series."""
    at = next((place for place, row in enumerate(rows) if row is marked), 0)
    first = at // count * count
    return rows[first : first + count]


# -- header and footer -----------------------------------------------------------------------------------------------


def _header(state: SessionState, width: int, now: float) -> list[Text]:
    started, beat = state.started, state.heartbeat
    watched = started.watched if started else "?"
    if len(state.folders) > 1:
        watched += f" and {len(state.folders) - 1} more"
    about = health(state, now)
    clock = f"{datetime.fromtimestamp(now):%H:%M:%S}"
    host = f"{started.host}: " if started and width >= 100 else ""
    right = Text(f"{short(about.words, max(10, width - 32), keep='left')}  {clock}", style=about.style)
    left = Text.assemble(("streamtomo ", "bold"), (short(host + watched, max(10, width - 12 - right.cell_len)), "cyan"))
    first = _both_ends(left, right, width)
    if beat is None:
        return [first]
    words = f"{beat.backlog} waiting"
    words += f" · finishing {', '.join(beat.finishing)}" if beat.finishing else ""
    words += f" · next: {beat.waiting_for}" if beat.waiting_for else ""
    room = f"{rate(state, now)} tilts/min" if width >= 100 else ""
    room += f" · {beat.turned_away} turned away" if beat.turned_away else ""
    room += f" · {beat.free_GB:.0f} GB free" if beat.free_GB is not None else ""
    room += f" · {beat.memory_GB:.1f} GB used" if beat.memory_GB is not None else ""
    room = room.removeprefix(" · ")
    second = _both_ends(Text(short(words, width - len(room) - 2, keep="left")), Text(room, style="dim"), width)
    return [first, second]


def rate(state: SessionState, now: float) -> int:
    """Tilts that came in the last minute."""
    return sum(now - tilt.received_s <= 60 for row in state.series.values() for tilt in row.tilts.values())


def health(state: SessionState, now: float) -> Health:
    """How the run is doing at the time `now`."""
    if state.ended is not None:
        return Health(f"ENDED: {state.ended.reason}", 2)
    silent = now - max(state.heartbeat_s, state.time_s)
    if state.heartbeat is not None and state.heartbeat.ending and silent < LONGEST_END_S:
        return Health(f"ENDING: {state.heartbeat.ending}", 1)
    if silent > LATE_S:
        return Health(f"NO SIGN OF LIFE for {silent:.0f} s", 3)
    words, bad = [], 0
    if state.alarms:
        words.append(f"{len(state.alarms)} ALARM{'S' if len(state.alarms) > 1 else ''}")
        bad = 2
    if state.finishing_paused:
        words.append("FINISHING PAUSED")
        bad = max(bad, 1)
    if state.heartbeat and state.heartbeat.backlog > BEHIND:
        words.append(f"LAGGING {state.heartbeat.backlog} tilts")
        bad = max(bad, 1)
    since = now - state.started_s
    if state.started and state.started.resumed and since < RESTARTED_S:
        words.append(f"RESTARTED {since:.0f} s ago")
        bad = max(bad, 1)
    return Health(" · ".join(words) or "running", bad)


def _footer(view: View, width: int) -> Text:
    if view.asked is not None:
        return Text(short(f"{question(view.asked)}  y: yes, any other key: no", width, keep="left"), style="reverse")
    return Text(short(view.words or FOOTER, width, keep="left"), style="bold" if view.words else "dim", no_wrap=True)


def _help(width: int, height: int) -> list[RenderableType]:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, width=width)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for key, words in list(HELP.items())[: height - 3]:
        table.add_row(Text(key, style="bold"), Text(words, no_wrap=True, overflow="ellipsis"))
    legend = "tilts: G good, D doubtful, B bad, F failed, U unplaced, X left out, . in the queue"
    return [Text(""), table, Text(short(legend, width, keep="left"), style="dim")]


# -- what is wrong ---------------------------------------------------------------------------------------------------


def _alarms(state: SessionState, view: View, width: int, limit: int) -> list[Text]:
    """Why what is red is red, alarms that nobody has seen, then warnings and refused files; at most `limit` of each."""
    lines = [f"{warning.code}: {warning.text}" for warning in state.warnings]
    lines += [f"refused {refused.path}: {refused.reason}" for refused in state.refused]
    more = len(lines) - limit
    shown = lines[-limit:]
    if more > 0:
        shown[0] = f"({more + 1} earlier messages: see streamtomo.log)"
    past = [one for one in state.past_alarms if one.over_s > view.seen_s][-limit:]
    styled = [(line, "bold red") for line in troubles(state)[:limit]]
    styled += [
        (f"was: {one.alarm.text} (over at {datetime.fromtimestamp(one.over_s):%H:%M}; a: seen)", "red") for one in past
    ]
    styled += [(line, "") for line in shown]
    return [Text(short(line, width - 4, keep="left"), style=style, no_wrap=True) for line, style in styled]


def troubles(state: SessionState) -> list[str]:
    """What is red, with the reason: series that something happened to last first."""
    lines = [f"ALARM {alarm.text}" for alarm in state.alarms]
    for row in sorted(state.series.values(), key=lambda row: -row.touched_s):
        name = short(row.name, LONGEST_NAME, keep="left")
        if row.failure and row.state not in ("too few", "rejected"):
            lines.append(f"{name} {'failed' if row.state == 'failed' else 'to be tried again'}: {row.failure}")
        if row.judged is not None and row.judged.state == "reject" and row.state != "rejected":
            lines.append(f"{name} reject: {'; '.join(row.judged.reasons)}")
        reds = [tilt for tilt in row.tilts.values() if tilt.letter in RED]
        if reds and row.state == "collecting":
            last = max(reds, key=lambda tilt: tilt.index)
            lines.append(f"{name} tilt {last.index} {reason(last)}")
    return lines


# -- several runs ----------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """A run as a viewer knows it."""

    name: str
    state: SessionState | None
    """None: it has not answered yet."""
    now: float
    """By the run's own clock."""


def worst_first(runs: Sequence[Known]) -> list[Known]:
    """In the order in which they need to be looked at."""
    return sorted(runs, key=lambda run: (_goodness(run), run.name))


def _goodness(run: Known) -> tuple[int, int]:
    if run.state is None:
        return -3, 0
    return -health(run.state, run.now).badness, -len(troubles(run.state))


def render_all(runs: Sequence[Known], marked: str, width: int, height: int, view: View) -> RenderableType:
    """A line for each run, the worst first, and one of them below."""
    rows = max(1, min(len(runs), height // 4))
    lines = [_run_line(run, run.name == marked, width) for run in worst_first(runs)[:rows]]
    one = next(run for run in runs if run.name == marked)
    if one.state is None:
        below: RenderableType = Text(f"{one.name}: no answer yet; trying on", style="yellow")
    else:
        below = render(one.state, width, height - len(lines) - 1, one.now, view)
    return Group(*lines, Text("─" * width, style="dim"), below)


def _run_line(run: Known, marked: bool, width: int) -> Text:
    name = Text(short(run.name, width // 3).ljust(width // 3), style="bold reverse" if marked else "bold")
    if run.state is None:
        return Text.assemble(name, "  ", ("NO ANSWER", "bold red"))
    about = health(run.state, run.now)
    wrong = troubles(run.state)
    collecting = [row for row in run.state.series.values() if row.state == "collecting"]
    words = f"{len(run.state.series)} series, {len(collecting)} collecting"
    words = wrong[0] if wrong else words
    return Text.assemble(
        name,
        "  ",
        (about.words, about.style),
        "  ",
        short(words, max(1, width * 2 // 3 - len(about.words) - 4), keep="left"),
    )


def _both_ends(left: Text, right: Text, width: int) -> Text:
    space = max(1, width - left.cell_len - right.cell_len)
    line = Text.assemble(left, " " * space, right, no_wrap=True)
    line.truncate(width)
    return line
