"""Whatever the order in which writes, renames, deletions, events and clocks come: the same series as in plain order."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from microscopes import (
    QUIET_S,
    Disk,
    Watcher,
    backed_up,
    below,
    disagreements,
    finished,
    frames_and_mdoc,
    moved_away,
    names_only,
    paths_of,
    renamed,
    rest,
    serialem_stack,
    shots,
    sorted_aside,
    sorted_aside_by_section,
    sorted_in_place,
    sorted_then_renamed,
    tomo5,
)
from microscopes_on_disk import RealDisk, RealWatcher

from streamtomo.watch.images import read_image

ANGLES = (0.0, 3.0, -3.0, -6.0, 6.0)
PAUSES = (0.0, 0.0, 0.0, 0.3, 0.7, 1.5, 4.0, 15.0)


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
    "sorted under its old name by section": ended(sorted_aside_by_section),
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


def play(steps, pauses, events=(), touches=(), restarts=(), clock_steps=(), disk=None, unheard=()):
    """Do the steps with these pauses between them; the watcher lists, or hears of events only."""
    disk = Disk() if disk is None else disk
    watch = Watcher if type(disk) is Disk else RealWatcher
    watcher = watch(disk)
    watcher.unheard |= dict(unheard)
    for number, step, pause in zip(itertools.count(), steps, pauses, strict=False):
        step(disk)
        if number in clock_steps:
            disk.now += (-1) ** number * 3600
        if number in restarts:
            watcher = watch(disk, list(watcher.told.values()))
            watcher.step()
        if number in touches:
            disk.touch(sorted(disk.files)[number % len(disk.files)])
        if number in events:
            watcher.step(events_only=True)
        watcher.wait(QUIET_S if step is rest else pause, step=0.3)
    watcher.wait(QUIET_S)
    return watcher


def paces(length):
    return st.lists(st.sampled_from(PAUSES), min_size=length, max_size=length)


def draw_and_play(data, steps, *, touched=True, restarted=True, disk=None):
    """Play the steps at any pace, with events doubled and lost, files touched, restarts, and clocks set."""
    numbers = st.sets(st.integers(0, len(steps)), max_size=4)
    return play(
        steps,
        data.draw(paces(len(steps)), "pauses"),
        data.draw(numbers, "events only"),
        data.draw(numbers, "touched") if touched else (),
        data.draw(numbers, "restarts") if restarted else (),
        data.draw(numbers, "clock steps"),
        disk,
    )


def moved_or_copied(data, writer):
    """What may befall a writer's files.

    Of a file without any time but its own, only a run that saw it touched knows it again where it was moved to; a copy
    that was touched is another file.
    """
    if "copied" in writer:
        return {"touched": False}
    touched = "moved" not in writer or data.draw(st.booleans(), "touched, but never restarted")
    return {"touched": touched, "restarted": "moved" not in writer or not touched}


def in_turns(data, parts):
    """Steps of several writers, each in its own order, mixed at will."""
    left, steps = [list(part) for part in parts], []
    turns = data.draw(st.lists(st.integers(0, len(left) - 1), min_size=20, max_size=60), "turns")
    for turn in itertools.chain(turns, itertools.cycle(range(len(left)))):
        if not any(left):
            return steps
        if left[turn]:
            steps.append(left[turn].pop(0))
    return steps


def all_of(lists):
    return [one for some in lists for one in some]


FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.parametrize("writer", WRITERS)
@FEW
@given(data=st.data())
def test_one_series_at_any_pace(writer, data):
    taken = shots("TS_01", ANGLES)
    steps = list(WRITERS[writer]("TS_01", taken, data.draw(st.integers(1, 300), "cut")))
    watcher = draw_and_play(data, steps, **moved_or_copied(data, writer))
    assert disagreements(watcher, taken) == []


REAL = [name for name in WRITERS if name not in ("FEI header", "tlt") and not name.startswith("FEI")]


@pytest.mark.parametrize("writer", REAL)
@settings(parent=FEW, max_examples=3)
@given(data=st.data())
def test_one_series_on_a_real_disk(writer, data):
    taken = shots("TS_01", ANGLES)
    steps = list(WRITERS[writer]("TS_01", taken, data.draw(st.integers(1, 300), "cut")))
    with tempfile.TemporaryDirectory() as folder:
        disk = RealDisk(Path(folder))
        watcher = draw_and_play(data, steps, **moved_or_copied(data, writer), disk=disk)
        assert disagreements(watcher, taken) == []
        for image in watcher.images():
            shot = disk.files[image.path].content.shots[image.section]
            pixels = read_image(disk.root / image.path, image.section, frames=image.frames)
            assert np.all(pixels == shot.number * image.frames)


@FEW
@given(data=st.data())
def test_several_series_of_any_writers_in_one_folder(data):
    names = [f"TS_{number:02d}" for number in range(data.draw(st.integers(2, 4), "series"))]
    taken = [shots(name, ANGLES, first=number, every=len(names)) for number, name in enumerate(names)]
    writers = [data.draw(st.sampled_from(sorted(WRITERS)), name) for name in names]
    steps = in_turns(data, [WRITERS[w](name, own, 7) for w, name, own in zip(writers, names, taken, strict=True)])
    assert disagreements(draw_and_play(data, steps, touched=False), all_of(taken)) == []


ALIKE = sorted(name for name in WRITERS if "moved" not in name and "copied" not in name)


@settings(parent=FEW, max_examples=30)
@given(data=st.data())
def test_series_and_files_of_the_same_names_in_several_folders(data):
    writer = WRITERS[data.draw(st.sampled_from(ALIKE), "writer")]
    taken = [shots(f"G{number}", ANGLES, first=number, every=3) for number in range(3)]
    parts = [list(below(f"g{number}", writer("TS_01", own, 7))) for number, own in enumerate(taken)]
    steps = in_turns(data, parts) if data.draw(st.booleans(), "in turns") else all_of(parts)
    assert disagreements(draw_and_play(data, steps, touched=False), all_of(taken)) == []


def test_frames_without_a_stack_are_not_those_of_a_stack_elsewhere():
    first, second = shots("G0", ANGLES), shots("G1", ANGLES, first=10)
    stack = [step for step in serialem_stack("TS_01", first) if paths_of([step]) == ["TS_01.mrc"]]
    with_stack = [*stack, *frames_and_mdoc("TS_01", first)]
    steps = [*below("g0", with_stack), *below("g1", frames_and_mdoc("TS_01", second))]
    pauses = itertools.chain(itertools.repeat(0.0, len(with_stack) - 1), itertools.repeat(1.0))
    assert disagreements(play(steps, pauses), first + second) == []


PACE = {
    "stacks, sorted at the end": WRITERS["sorted under its old name"],
    "frames": frames_and_mdoc,
    "frames of one root": option(frames_and_mdoc, root="run"),
    "names only": names_only,
    "Tomo5": tomo5,
}


@pytest.mark.parametrize("count", [3, 20])
@pytest.mark.parametrize("writer", PACE)
@settings(parent=FEW, max_examples=3)
@given(data=st.data())
def test_series_taken_in_turns(writer, count, data):
    names = [f"TS_{number:02d}" for number in range(count)]
    taken = [shots(name, ANGLES[:4], first=number, every=count) for number, name in enumerate(names)]
    parts = [list(PACE[writer](name, own, 7)) for name, own in zip(names, taken, strict=True)]
    tilt_by_tilt = [step for steps in itertools.zip_longest(*parts) for step in steps if step is not None]
    pauses = itertools.cycle(data.draw(st.lists(st.sampled_from(PAUSES[:6]), min_size=7, max_size=7), "pauses"))
    numbers = st.sets(st.integers(0, len(tilt_by_tilt)), max_size=2)
    watcher = play(tilt_by_tilt, pauses, (), (), data.draw(numbers, "restarts"))
    assert disagreements(watcher, all_of(taken)) == []


@FEW
@given(data=st.data())
def test_a_stack_that_is_overwritten_by_another_series(data):
    first, second = shots("A", ANGLES), shots("B", ANGLES[:3], first=10)
    steps = [*serialem_stack("TS_01", first), *serialem_stack("TS_01", second)]
    assert disagreements(draw_and_play(data, steps, touched=False), second) == []


@FEW
@given(pauses=st.lists(st.sampled_from(PAUSES[:6]), min_size=50, max_size=50), frames=st.booleans())
def test_a_series_that_goes_on_in_a_second_file_is_one(pauses, frames):
    first, second = shots("A", ANGLES[:3]), shots("A", ANGLES[3:], first=10)
    write = frames_and_mdoc if frames else serialem_stack
    watcher = play([*write("TS_01", first), *write("TS_01_01", second)], pauses)
    assert disagreements(watcher, first + second) == []


@pytest.mark.parametrize("cut", [3, 40, 150, 290])
@pytest.mark.parametrize("writer", ["growing stack", "growing stack, mdoc rewritten", "frames and mdoc", "idoc"])
def test_an_mdoc_that_stands_still_in_the_middle_of_a_section_tells_everything_in_the_end(writer, cut):
    taken = shots("TS_01", ANGLES)
    watcher = play(WRITERS[writer]("TS_01", taken, cut), itertools.repeat(25.0))
    assert disagreements(watcher, taken) == []
    assert all(image.acquired_s is not None for image in watcher.images())


def test_a_series_that_begins_anew_in_a_second_file_is_another_one():
    first, second = shots("A", ANGLES[:2]), shots("B", ANGLES, first=10)
    watcher = play([*serialem_stack("TS_01", first), *serialem_stack("TS_01_01", second)], itertools.repeat(1.0))
    assert disagreements(watcher, first + second) == []


def test_what_is_deleted_after_it_was_told_changes_nothing():
    taken = shots("TS_01", ANGLES)
    steps = [*names_only("TS_01", taken), rest]
    watcher = play(steps, itertools.repeat(1.0))
    told = dict(watcher.told)
    for path in list(watcher.disk.files):
        watcher.disk.remove(path)
        watcher.wait(3.0)
    assert watcher.told == told
    assert watcher.remarks == []


@pytest.mark.parametrize("unheard_s", [0.0, 5.0, 40.0])
@pytest.mark.parametrize("unseen", [1, 2, 5])
@pytest.mark.parametrize("pause", [0.0, 0.3, 0.7, 1.5, 15.0])
@pytest.mark.parametrize("sort", [sorted_aside, sorted_aside_by_section, sorted_in_place, sorted_then_renamed])
def test_a_stack_that_is_sorted_before_its_last_tilts_were_seen(sort, pause, unseen, unheard_s):
    taken = shots("TS_01", (0.0, 3.0, -3.0, 6.0, -6.0))
    seen, rest_of_it = taken[: len(taken) - unseen], list(sort("TS_01", taken))
    steps = list(serialem_stack("TS_01", taken))
    first = len(list(serialem_stack("TS_01", seen)))
    pauses = [1.0] * first + [0.0] * (len(steps) - first) + [pause] * len(rest_of_it)
    aside = {f"TS_01_unsorted.mrc{suffix}": 1000.0 + sum(pauses[: len(steps)]) + unheard_s for suffix in ("", ".mdoc")}
    watcher = play([*steps, *rest_of_it], pauses, unheard=aside)
    assert disagreements(watcher, taken) == []
    assert {image.series for image in watcher.told.values()} == {"TS_01"}
    assert [image for image in watcher.told.values() if image.gone is not None] == []


@pytest.mark.parametrize("writer", ["growing stack", "growing stack, mdoc rewritten"])
def test_a_growing_stack_is_opened_for_its_first_section_only(writer):
    taken = shots("TS_01", ANGLES)
    watcher = play(WRITERS[writer]("TS_01", taken, 7), itertools.repeat(1.0))
    assert disagreements(watcher, taken) == []
    assert len(watcher.opened) <= 2  # and once when it was empty
