"""What people ask a run to do with a series, and the answer in words."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from streamtomo.config import Settings
from streamtomo.messages import (
    Answer,
    CloseSeries,
    ExcludeTilts,
    FinishSeries,
    RejectSeries,
    ReopenSeries,
    RestoreTilts,
    RetrySeries,
    SeriesOrder,
)
from streamtomo.series import Command, Series
from streamtomo.watch.naming import Names, folder_name, stem_of


def carry_out(order: SeriesOrder, series: Series, now: float) -> tuple[Sequence[Command], Answer]:
    """The commands that a series answers an order with, and the answer to whoever gave it."""
    match order:
        case CloseSeries():
            commands = series.close(now, "operator", "closed by the operator")
            return commands, _answer(commands, "closed", f"{series.name} is {series.state}")
        case RetrySeries():
            commands = series.retry(now)
            return commands, _answer(commands, "trying again", f"nothing of {series.name} has failed")
        case ExcludeTilts():
            reason = order.reason or "left out by the operator"
            commands = series.exclude(order.tilts, reason, now)
            return commands, _about_tilts(series, order.tilts, commands, "left out")
        case RestoreTilts():
            commands = series.restore(order.tilts, now)
            return commands, _about_tilts(series, order.tilts, commands, "counted again")
        case RejectSeries():
            commands = series.reject(order.reason or "by the operator", now)
            return commands, _answer(commands, "rejected", f"{series.name} is rejected already")
        case ReopenSeries():
            commands = series.reopen(now)
            return commands, _answer(commands, "waiting for more tilts", f"{series.name} is {series.state}")
        case FinishSeries():
            commands = series.finish_again(order.overrides, now)
            nothing = f"{series.name} has no tilts" if not series.tilts else f"{series.name} is {series.state}"
            return commands, _answer(commands, "finishing it", nothing)


def refused_of(series: str, settings: Settings, paths: Iterable[str]) -> list[str]:
    """Those of these files that belong to a series by their names."""
    names = Names(settings.acquisition.name_patterns)

    def belongs(path: str) -> bool:
        name = names.parse(path)
        wanted = {name.series, name.numbered} if name else set()
        return series in {folder_name(one) for one in (*wanted, os.path.basename(stem_of(path))) if one}

    return [path for path in paths if belongs(path)]


def _about_tilts(series: Series, tilts: Sequence[int], commands: Sequence[Command], done: str) -> Answer:
    unknown = [index for index in tilts if index not in series.tilts]
    if unknown:
        words = f"{series.name} has no tilt {', '.join(map(str, unknown))}; its tilts are 0 to {len(series.tilts) - 1}"
        return Answer(ok=False, text=words)
    lost = [str(index) for index in tilts if not series.tilts[index].usable]
    never = f"; never placed, so of no use: {', '.join(lost)}" if lost and done == "counted again" else ""
    return _answer(commands, done + never, "nothing to change")


def _answer(commands: Sequence[Command], done: str, nothing: str) -> Answer:
    return Answer(ok=bool(commands), text=done if commands else nothing)
