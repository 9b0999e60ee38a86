"""What is made better of a live series while no tilt waits, one thing after the other, each told as an event.

Places and weights of now first (rebuild), then how well each new tilt agrees with all others (score), then those that
agree badly are looked for elsewhere (realign, and rebuild again), and then the pictures are iterated (iterate). If no
tilt came by then, all are placed anew by all that is known (settle, and rebuild again). All of it asks again and again
whether a tilt waits, and is begun anew after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamtomo.liveseries import ITERATIONS, LiveSeries
from streamtomo.messages import Event, Picture, TiltRealigned, TiltScored, VolumeIterated, VolumeRebuilt
from streamtomo.publish.pictures import thumbnail
from streamtomo.reconstruct.slabs import Slabs

Image = NDArray[np.float32]
Stage = Callable[[str, LiveSeries, Callable[[], bool]], tuple[list[Event], bool]]
"""Events, and whether the stage is done."""


def improve(name: str, live: LiveSeries, interrupted: Callable[[], bool]) -> list[Event]:
    """Go on with the next stage that has something to tell; what is left to do is in `live.left`."""
    while live.left:
        events, done = STAGES[live.left[0]](name, live, interrupted)
        if done:
            live.left = live.left[1:]
        if events or not done:
            return events
    return []


def pictures(name: str, live: LiveSeries) -> list[Event]:
    """The volume's central sections, small."""
    return _small(name, live, live.volume().central_slabs(), "wbp")


def _small(name: str, live: LiveSeries, slabs: Slabs, by: Literal["wbp", "sirt"]) -> list[Event]:
    planes: tuple[tuple[Literal["xy", "xz", "yz"], Image, tuple[int, int]], ...] = (
        ("xy", slabs.xy, (96, 96)),
        ("xz", slabs.xz, (96, 32)),
        ("yz", slabs.yz, (96, 32)),
    )
    made: list[Event] = []
    for plane, section, size in planes:
        pixels = thumbnail(section, *size)
        height, width = pixels.shape
        picture = Picture(
            series=name,
            plane=plane,
            tilts=len(live.views),
            width=width,
            height=height,
            pixels=pixels.tobytes(),
            by=by,
        )
        made.append(picture)
    return made


def _rebuild(name: str, live: LiveSeries, interrupted: Callable[[], bool]) -> tuple[list[Event], bool]:
    start = time.perf_counter()
    if not live.follow(interrupted) or not live.volume().rebuild(interrupted):
        return [], False
    rebuilt = VolumeRebuilt(
        series=name,
        views=len(live.views),
        seconds=round(time.perf_counter() - start, 3),
        moved=live.moved_since_rebuild(),
    )
    return [rebuilt, *pictures(name, live)], True


def _score(name: str, live: LiveSeries, interrupted: Callable[[], bool]) -> tuple[list[Event], bool]:
    events: list[Event] = [
        TiltScored(series=name, index=index, leave_one_out=round(score, 4), views=len(live.views))
        for index, score in live.scores(interrupted)
    ]
    return events, not (live.unscored and live.can_score)


def _realign(name: str, live: LiveSeries, interrupted: Callable[[], bool]) -> tuple[list[Event], bool]:
    while (index := live.doubtful()) is not None:
        if interrupted():
            return [], False
        found = live.realign(index, interrupted)
        if found is None:
            continue
        live.left = ("realign", "rebuild", "score", "realign", *live.left[1:])
        event = TiltRealigned(
            series=name,
            index=index,
            shift_x=round(found.at[0], 3),
            shift_y=round(found.at[1], 3),
            moved_px=round(found.moved_px, 3),
            before=round(found.before, 4),
            after=round(found.after, 4),
        )
        return [event], True
    return [], True


def _iterate(name: str, live: LiveSeries, interrupted: Callable[[], bool]) -> tuple[list[Event], bool]:
    start = time.perf_counter()
    made = live.iterated(interrupted)
    if made is None:
        return [], False
    event = VolumeIterated(
        series=name,
        views=len(live.views),
        iterations=ITERATIONS,
        residual=round(made.residual, 4),
        binning=live.shown_binning(),
        seconds=round(time.perf_counter() - start, 3),
    )
    return [event, *_small(name, live, made.slabs, "sirt")], True


def _settle(name: str, live: LiveSeries, interrupted: Callable[[], bool]) -> tuple[list[Event], bool]:
    moved = live.settle(interrupted)
    if moved:
        live.left = ("settle", "rebuild", "iterate")
    return [], moved is not None


STAGES: dict[str, Stage] = {
    "rebuild": _rebuild,
    "score": _score,
    "realign": _realign,
    "iterate": _iterate,
    "settle": _settle,
}
