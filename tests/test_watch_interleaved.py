"""Whatever the order in which writes, renames, deletions, events and clocks come: the same series as in plain order."""

from itertools import count

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from microscopes import (
    QUIET_S,
    Disk,
    Watcher,
    disagreements,
    backed_up,
    finished,
    frames_and_mdoc,
    moved_away,
    names_only,
    renamed,
    rest,
    serialem_stack,
    shots,
    sorted_aside,
    sorted_in_place,
    sorted_then_renamed,
    tomo5,
)

ANGLES = (0.0, 3.0, -3.0, -6.0, 6.0)
PAUSES = (0.0, 0.0, 0.0, 0.3, 0.7, 1.5, 4.0, 13.0, 30.0)


def ended(end):
    return lambda name, taken, cut: [*serialem_stack(name, taken, cut), *end(name, taken, cut)]


def then(writer, after, **options):
    """All files of a series are moved or copied when it is over."""

    def write(name, taken, cut):
        steps = list(writer(name, taken, cut))
        return [*steps, rest, *after(steps, **options)]

    return write


def option(writer, **options):
    return lambda name, taken, cut: writer(name, taken, cut, **options)


WRITERS = {
    "growing stack": serialem_stack,
    "growing stack, mdoc rewritten": option(serialem_stack, rewrite=True),
    "sorted in place": ended(sorted_in_place),
    "sorted under its old name": ended(sorted_aside),
    "sorted beside and renamed": ended(sorted_then_renamed),
    "moved to another folder": ended(renamed),
    "moved, its mdoc first": ended(lambda *args: renamed(*args, suffixes=(".mdoc", ""))),
    "stack copied": then(serialem_stack, backed_up),
    "stack copied with new times": then(serialem_stack, backed_up, keep_time=False),
    "frames moved": then(frames_and_mdoc, moved_away),
    "frames copied": then(frames_and_mdoc, backed_up),
    "frames copied with new times": then(frames_and_mdoc, backed_up, keep_time=False),
    "names only, moved": then(names_only, moved_away),
    "names only, copied": then(names_only, backed_up),
    "Tomo5 moved": then(tomo5, moved_away),
    "Tomo5 copied": then(tomo5, backed_up),
    "Tomo5 copied with new times": then(tomo5, backed_up, keep_time=False),
    "rawtlt moved": then(finished, moved_away),
    "rawtlt copied": then(finished, backed_up),
    "FEI moved": then(option(finished, angles="FEI"), moved_away),
    "FEI copied": then(option(finished, angles="FEI"), backed_up),
    "frames and mdoc": frames_and_mdoc,
    "frames of another root and mdoc": lambda name, taken, cut: frames_and_mdoc(name, taken, cut, root=f"run_{name}"),
    "frames and mdoc in one folder": option(frames_and_mdoc, folder=""),
    "idoc": option(frames_and_mdoc, idoc=True, folder=""),
    "names only": names_only,
    "Tomo5": tomo5,
    "Tomo5 with stack": option(tomo5, stack=True),
    "Tomo5 with override": option(tomo5, override=True),
    "rawtlt": option(finished, angles=".rawtlt"),
    "tlt": option(finished, angles=".tlt"),
    "FEI header": option(finished, angles="FEI"),
    "SerialEM header": option(finished, angles="SerialEM"),
}


def play(steps, pauses, events=(), touches=(), restarts=(), clock_steps=()):
    """Do the steps with these pauses between them; the watcher lists, or hears of events only."""
    disk = Disk()
    watcher = Watcher(disk)
    for number, step, pause in zip(count(), steps, pauses, strict=False):
        step(disk)
        if number in clock_steps:
            disk.now += (-1) ** number * 3600
        if number in restarts:
            watcher = Watcher(disk, watcher.told.values())
            watcher.step()
        if number in touches:
            disk.touch(sorted(disk.files)[number % len(disk.files)])
        if number in events:
            watcher.step(events_only=True)
        watcher.wait(QUIET_S if step is rest else pause, step=0.3)
    watcher.wait(QUIET_S)
    return watcher


@st.composite
def pace(draw, length):
    return draw(st.lists(st.sampled_from(PAUSES), min_size=length, max_size=length))


@pytest.mark.parametrize("writer", WRITERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_one_series_at_any_pace(writer, data):
    taken = shots("TS_01", ANGLES)
    steps = list(WRITERS[writer]("TS_01", taken, data.draw(st.integers(1, 300), "cut")))
    pauses = data.draw(pace(len(steps)), "pauses")
    numbers = st.sets(st.integers(0, len(steps)), max_size=5)
    watcher = play(steps, pauses, data.draw(numbers, "events"), data.draw(numbers, "touches"))
    assert disagreements(watcher, taken) == []
