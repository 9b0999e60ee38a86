"""What the live lane keeps on disk: a restart stands where the run stood; what is damaged or old is not used."""

import shutil

import mrcfile
import msgspec
import numpy as np
import pytest
from simulated import simulated
from test_lane import job, known, named, process, results

from streamtomo import livecache
from streamtomo.config import Correct, Settings
from streamtomo.lane import Lane
from streamtomo.model import RawImage, Tilt

TILTS = tuple(range(-16, 16, 4))
ORDER = [4, 5, 3, 2, 6, 7, 1, 0]
TIGHT = Settings(live=msgspec.structs.replace(Settings().live, memory_GB=0.08))
"""Room for one series."""


@pytest.fixture(scope="module")
def tilts(tmp_path_factory):
    """Eight tilts of a simulated series, a file each."""
    folder, sample = tmp_path_factory.mktemp("scope"), simulated(size=256, tilts=TILTS)
    found = []
    for index, row in enumerate(ORDER):
        path = folder / f"{index}.mrc"
        mrcfile.write(path, sample.series.expose(row).image)
        angle = sample.views[row].angle_deg
        found.append(Tilt(index=index, image=RawImage(series="A", path=str(path), nx=256, ny=256, angle_deg=angle)))
    return found


@pytest.fixture(scope="module")
def through(tilts):
    """The events of a run that nothing disturbed."""
    return process(Lane(Settings()), tilts)


class Reading:
    """Counts what a lane reads from the microscope's files."""

    def __init__(self, lane):
        self.count, self._read = 0, lane._reader.read
        lane._reader.read = self

    def __call__(self, *arguments):
        self.count += 1
        return self._read(*arguments)


def save_idle(lane):
    for _ in range(50):
        if not lane._dirty and not any(live.unsaved for live in lane._series.values()):
            return
        lane.refine_when_idle(lambda: False)
    raise AssertionError("idle work has no end")


def begun(out, tilts, settings=None):
    """A lane that saw some tilts and was then killed, and what the journal knows."""
    lane = Lane(settings or Settings(), out)
    events = process(lane, tilts)
    save_idle(lane)
    return known(tilts, events)


def goes_on(out, tilts, placed, settings=None):
    """Results of a new lane, and how many old files it read."""
    lane = Lane(settings or Settings(), out)
    reading = Reading(lane)
    events = process(lane, tilts, placed, settings)
    return results(events), reading.count - len(tilts)


def test_a_restart_reads_no_file_twice_and_places_the_same(tilts, through, tmp_path):
    placed = begun(tmp_path, tilts[:5])
    assert goes_on(tmp_path, tilts[5:], placed) == (results(through)[5:], 0)


def test_an_orderly_end_keeps_the_volume(tilts, tmp_path):
    lane = Lane(Settings(), tmp_path)
    placed = known(tilts, process(lane, tilts[:4]))
    lane.close()
    again = Lane(Settings(), tmp_path)
    volume = again._live(job(tilts[4], placed)).volume()
    assert (volume.snapshot() == lane._series["A"].volume().snapshot()).all()


def test_a_journal_one_tilt_behind_takes_the_state_before(tilts, through, tmp_path):
    """Killed between the two: the tilt is placed again, as it was."""
    lane, placed = Lane(Settings(), tmp_path), []
    for tilt in tilts[:5]:
        placed += known(tilts, process(lane, [tilt], placed))
        save_idle(lane)
    assert goes_on(tmp_path, tilts[4:], placed[:4]) == (results(through)[4:], 0)


def test_tilts_placed_after_the_last_writing_come_from_their_files(tilts, through, tmp_path):
    lane = Lane(Settings(), tmp_path)
    placed = known(tilts, process(lane, tilts[:3]))
    save_idle(lane)
    placed += known(tilts, process(lane, tilts[3:5], placed))
    assert goes_on(tmp_path, tilts[5:], placed) == (results(through)[5:], 2)
    lane = Lane(Settings(), tmp_path)
    live = lane._live(job(tilts[5], placed))
    lane.close()
    assert live.volume().views == 5
    assert Lane(Settings(), tmp_path)._live(job(tilts[5], placed)).volume().views == 5


def test_under_load_something_is_written_too(tilts, tmp_path, monkeypatch):
    monkeypatch.setattr("streamtomo.lane.SAVED_EVERY", 3)
    lane = Lane(Settings(), tmp_path)
    process(lane, tilts[:4])
    assert (tmp_path / ".live" / "A" / "3.state").exists()


def damage(path, how):
    content = path.read_bytes()
    match how:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "flipped":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        case "empty":
            path.write_bytes(b"")
        case "other":
            path.write_bytes(b"a shopping list\n" * 99)
        case "gone":
            path.unlink()


@pytest.fixture(scope="module")
def kept(tilts, tmp_path_factory):
    """A folder in which a lane ended in order after three tilts, what is in the journal, and its series."""
    out = tmp_path_factory.mktemp("out")
    lane = Lane(Settings(), out)
    placed = known(tilts, process(lane, tilts[:3]))
    lane.close()
    lane._series["A"].volume().rebuild(lambda: False)
    return out, placed, lane._series["A"]


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "other", "gone"])
@pytest.mark.parametrize("name", ["2.image", "2.view", "volume", "3.state"])
def test_what_is_damaged_is_made_again(tilts, kept, tmp_path, name, how):
    out, placed, before = kept
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / ".live" / "A" / name, how)
    live = Lane(Settings(), tmp_path)._live(job(tilts[4], placed))
    assert live.aligner.memory() == before.aligner.memory()
    live.volume().rebuild(lambda: False)
    assert np.abs(live.volume().snapshot() - before.volume().snapshot()).max() < 1e-3


def test_what_is_out_of_date_is_not_used(tilts, tmp_path):
    placed = begun(tmp_path, tilts[:4])
    other = Settings(correct=Correct(outlier_sigma=20.0))
    assert goes_on(tmp_path, tilts[4:5], placed, other)[1] == 4, "other settings"
    moved = [(tilt, msgspec.structs.replace(event, angle_deg=event.angle_deg + 1)) for tilt, event in placed]
    assert goes_on(tmp_path, tilts[4:5], moved)[1] == 4, "placed otherwise"


def test_metadata_that_came_after_a_tilt_was_placed_changes_nothing(tilts, through, tmp_path):
    late = [
        (msgspec.structs.replace(tilt, image=msgspec.structs.replace(tilt.image, angle_deg=0.5)), event)
        for tilt, event in known(tilts, through)[:4]
    ]
    assert goes_on(None, tilts[4:], late)[0] == results(through)[4:]
    begun(tmp_path, tilts[:4])
    assert goes_on(tmp_path, tilts[4:], late) == (results(through)[4:], 0)


def test_tilts_that_were_placed_out_of_order_are_taken_up_in_theirs(tilts, tmp_path):
    """One that failed first and went through later."""
    order = [tilts[n] for n in (0, 1, 3, 4, 2, 5, 6, 7)]
    through = process(Lane(Settings()), order)
    placed = known(tilts, through)
    assert goes_on(None, order[6:], placed[:6])[0] == results(through)[6:]
    begun(tmp_path, order[:6])
    assert goes_on(tmp_path, order[6:], placed[:6]) == (results(through)[6:], 0)


def test_a_file_is_written_over_a_longer_one(tilts, tmp_path):
    placed = begun(tmp_path, tilts[:4])
    path = tmp_path / ".live" / "A" / "2.image"
    before = path.read_bytes()
    path.write_bytes(before + b"x" * 1000)
    begun(tmp_path, tilts[:4])
    assert path.read_bytes() == before
    assert goes_on(tmp_path, tilts[4:5], placed)[1] == 0


def test_series_that_are_finished_leave_nothing_and_others_of_old_runs_are_swept(tilts, tmp_path):
    for name in ("A", "B", "C"):
        begun(tmp_path, [named(tilt, series=name) for tilt in tilts[:2]])
    lane = Lane(Settings(), tmp_path)
    lane.start({"A", "B"})
    assert sorted(path.name for path in (tmp_path / ".live").iterdir()) == ["A", "B"]
    for name in ("A", "B"):
        lane.finished(name)
    assert not (tmp_path / ".live").exists()


def test_a_disk_that_takes_nothing_costs_time_only(tilts, through, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(livecache, "_write", full)
    lane = Lane(TIGHT, tmp_path)
    placed = known(tilts, process(lane, tilts[:4]))
    process(lane, [named(tilts[0], series="B")])
    assert results(process(lane, tilts[4:], placed)) == results(through)[4:]


def test_nine_series_in_turn_stay_within_the_budget_and_place_the_same(tilts, through, tmp_path):
    lane, placed = Lane(TIGHT, tmp_path), {f"S{n}": [] for n in range(9)}
    for tilt in tilts[:4]:
        for name, before in placed.items():
            before += known(tilts, process(lane, [named(tilt, series=name)], before))
            assert sum(live.nbytes for live in lane._series.values()) <= TIGHT.live.memory_GB * 1e9
    for before in placed.values():
        assert results([event for _, event in before]) == results(through)[:4]


def test_the_memory_said_to_be_needed_is_what_is_held(tilts):
    lane = Lane(Settings())
    process(lane, tilts[:4])
    live = lane._series["A"]
    assert live.nbytes == pytest.approx(live.nbytes_with(4), rel=0.02)
