"""What a person looks at on the dashboard, and what their keys do: pure, no terminal here."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from streamtomo.messages import (
    CloseSeries,
    Command,
    ExcludeTilts,
    PauseFinishing,
    RejectSeries,
    ReopenSeries,
    RestoreTilts,
    ResumeFinishing,
    RetrySeries,
)
from streamtomo.publish.state import SeriesRow, SessionState

PAGE = 10
"""Series that Page Up and Page Down go by."""

HELP: Mapping[str, str] = {
    "up, down": "choose a series (j, k); Page Up, Page Down: ten of them",
    "left, right": "choose a tilt (h, l)",
    "f": "follow: the series and the tilt that came last",
    "x": "leave the tilt out; nothing is deleted",
    "r": "count the tilt again",
    "c": "close: the series is complete, finish it",
    "o": "open the series again, for more tilts",
    "d": "drop: reject the series, nothing more is made of it",
    "t": "try again what failed in the series",
    "p": "pause finishing, or resume it",
    "a": "alarms that are over were seen: take them away",
    "tab": "the next run, where there are several",
    "?": "this help, on and off",
    "q": "leave; the run goes on",
}


class View(Struct, frozen=True, kw_only=True):
    """What is chosen and shown."""

    series: str | None = None
    """None: the one that something happened to last."""
    tilt: int | None = None
    """None: the last one."""
    help: bool = False
    seen_s: float = 0.0
    """Alarms that were over by then were seen."""
    asked: Command | None = None
    """Will be sent if `y` is pressed."""
    words: str = ""
    """The last answer."""


class Pressed(Struct, frozen=True):
    """What a key did."""

    view: View
    order: Command | None = None
    """To be sent now."""


def chosen(view: View, state: SessionState) -> SeriesRow | None:
    """The series that is shown in depth."""
    return state.series.get(view.series or "") or state.active


def chosen_tilt(view: View, row: SeriesRow) -> int | None:
    """Number of the tilt that is marked; None if there is none yet."""
    return view.tilt if view.tilt in row.tilts else max(row.tilts, default=None)


def in_order(state: SessionState) -> list[SeriesRow]:
    """Series as they are listed: those that something happens to, the last one first; then the others."""
    ended = ("finished", "failed", "too few", "rejected")
    return sorted(state.series.values(), key=lambda row: (row.state in ended, -row.touched_s))


def press(view: View, key: str, state: SessionState) -> Pressed:
    """A key was pressed."""
    if view.asked is not None:
        return Pressed(replace(view, asked=None), view.asked if key in ("y", "Y") else None)
    view = replace(view, words="")
    if view.help or key == "?":
        return Pressed(replace(view, help=not view.help))
    if key == "f":
        return Pressed(replace(view, series=None, tilt=None))
    if key == "a":
        return Pressed(replace(view, seen_s=state.time_s))
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -PAGE, "pgdn": PAGE}
    if key in steps:
        return Pressed(_move_series(view, steps[key], state))
    row = chosen(view, state)
    if key in ("left", "h", "right", "l") and row is not None:
        return Pressed(_move_tilt(view, -1 if key in ("left", "h") else 1, row))
    return Pressed(replace(view, asked=_order(view, key, row, state)))


def _move_series(view: View, by: int, state: SessionState) -> View:
    names = [row.name for row in in_order(state)]
    row = chosen(view, state)
    if row is None:
        return view
    at = min(len(names) - 1, max(0, names.index(row.name) + by))
    return replace(view, series=names[at], tilt=None)


def _move_tilt(view: View, by: int, row: SeriesRow) -> View:
    numbers = sorted(row.tilts)
    tilt = chosen_tilt(view, row)
    if tilt is None:
        return view
    at = min(len(numbers) - 1, max(0, numbers.index(tilt) + by))
    return replace(view, series=row.name, tilt=numbers[at])


def _order(view: View, key: str, row: SeriesRow | None, state: SessionState) -> Command | None:
    if key == "p":
        return ResumeFinishing() if state.finishing_paused else PauseFinishing()
    if row is None:
        return None
    tilt = chosen_tilt(view, row)
    if key in ("x", "r") and tilt is not None:
        if key == "x":
            return ExcludeTilts(series=row.name, tilts=(tilt,), reason="left out on the dashboard")
        return RestoreTilts(series=row.name, tilts=(tilt,))
    match key:
        case "c":
            return CloseSeries(series=row.name)
        case "o":
            return ReopenSeries(series=row.name)
        case "d":
            return RejectSeries(series=row.name, reason="rejected on the dashboard")
        case "t":
            return RetrySeries(series=row.name)
        case _:
            return None


def question(order: Command) -> str:
    """What is asked before an order is sent."""
    match order:
        case ExcludeTilts():
            return f"leave tilt {order.tilts[0]} of {order.series} out?"
        case RestoreTilts():
            return f"count tilt {order.tilts[0]} of {order.series} again?"
        case CloseSeries():
            return f"{order.series} is complete: finish it?"
        case ReopenSeries():
            return f"open {order.series} again?"
        case RejectSeries():
            return f"reject {order.series}: make nothing more of it?"
        case RetrySeries():
            return f"try again what failed in {order.series}?"
        case PauseFinishing():
            return "pause finishing?"
        case ResumeFinishing():
            return "resume finishing?"
        case _:
            return "send it?"
