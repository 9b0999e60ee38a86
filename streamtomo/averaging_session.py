"""An average that follows a session: made anew whenever another of its series is finished."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from streamtomo.averaging import Order, average
from streamtomo.averaging_input import series_in
from streamtomo.config import Settings
from streamtomo.errors import InputError
from streamtomo.export.particles import Picked

LOOK_S = 10.0
"""Between two looks at the session."""
HISTORY = "average_history.txt"


class _Told(msgspec.Struct):
    """What is read of `average.json`."""

    particles: dict[str, int]
    resolution_A: float


def follow(order: Order, settings: Settings, rest: Callable[[float], None] = time.sleep) -> None:
    """Average, and again for each series that is finished later, without end; every average is a line of `HISTORY`.

    Particles are looked for once in each series. Where no reference is given an average begins with the one before it,
    of which only the coarse is used. `rest` waits some seconds. Raises StreamtomoError.
    """
    known: dict[str, Picked] = {}
    averaged: list[Path] = []
    while True:
        series = series_in(order.series)
        if series != averaged:
            averaged = series
            _once(order, settings, known)
        rest(LOOK_S)


def _once(order: Order, settings: Settings, known: dict[str, Picked]) -> None:
    made = order.out / "average.mrc"
    if known and order.reference is None and made.exists():
        order = order._replace(reference=made)
        settings = msgspec.structs.replace(
            settings, average=msgspec.structs.replace(settings.average, bright_reference=False)
        )
    try:
        average(order, settings, known)
    except InputError as error:  # too few particles yet, or no series
        print(f"not yet: {error}", flush=True)
        return
    told = msgspec.json.decode((order.out / "average.json").read_bytes(), type=_Told)
    with (order.out / HISTORY).open("a") as file:
        count = sum(told.particles.values())
        file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {len(told.particles)} {count} {told.resolution_A:.2f}\n")
