"""The live lane on small files: placements, failures as events, restarts, the memory budget, idle rebuilds."""

import mrcfile
import msgspec
import numpy as np
import pytest
from simulated import simulated

from streamtomo.config import Settings
from streamtomo.lane import Job, Lane
from streamtomo.messages import Picture, TiltFailed, TiltPlaced
from streamtomo.model import RawImage, Tilt

ORDER = [15, 16, 14, 13, 17, 18, 12]


@pytest.fixture(scope="module")
def tilts(tmp_path_factory):
    """Seven tilts of a simulated series, a file each."""
    folder, sample = tmp_path_factory.mktemp("scope"), simulated()
    found = []
    for index, row in enumerate(ORDER):
        path = folder / f"{index}.mrc"
        with mrcfile.new(path) as file:
            file.set_data(sample.series.expose(row).image)
        angle = sample.views[row].angle_deg
        found.append(Tilt(index=index, image=RawImage(series="A", path=str(path), nx=384, ny=384, angle_deg=angle)))
    return found


def process(lane, tilts, placed=()):
    """Send tilts through one after the other; the events of all."""
    known, events = list(placed), []
    for tilt in tilts:
        job = Job(tilt=tilt, attempts=0, settled_s=0.0, axis_deg=20.0, pixel_size_A=10.8, placed=tuple(known))
        news = lane.process(job)
        known += [(tilt, event) for event in news if isinstance(event, TiltPlaced)]
        events += news
    return events


def results(events):
    return [(event.index, event.placement, event.verdict.state) for event in events if isinstance(event, TiltPlaced)]


def named(tilt, **changes):
    return msgspec.structs.replace(tilt, image=msgspec.structs.replace(tilt.image, **changes))


def test_tilts_are_placed_judged_and_shown(tilts):
    events = process(Lane(Settings()), tilts)
    placed = [event for event in events if isinstance(event, TiltPlaced)]
    assert [event.index for event in placed] == list(range(7))
    assert {event.verdict.state for event in placed} == {"good"}
    assert all(event.in_volume and event.stage_ms["total"] > 0 for event in placed)
    assert {event.plane for event in events if isinstance(event, Picture)} == {"xy", "xz"}


def test_a_file_that_is_gone_is_an_event_and_costs_nothing_else(tilts):
    lane = Lane(Settings())
    broken = [*tilts[:3], named(tilts[3], path="/nowhere/x.mrc"), *tilts[4:]]
    events = process(lane, broken)
    (failure,) = (event for event in events if isinstance(event, TiltFailed))
    assert (failure.index, failure.attempts, failure.final) == (3, 1, False)
    assert "x.mrc" in failure.reason
    assert len(results(events)) == 6


def test_after_a_restart_it_goes_on_the_same(tilts):
    through = process(Lane(Settings()), tilts)
    known = [(tilts[event.index], event) for event in through if isinstance(event, TiltPlaced)]
    again = process(Lane(Settings()), tilts[4:], known[:4])
    assert results(again) == results(through)[4:]


def test_volumes_are_let_go_and_come_back_equal(tilts):
    tight = Settings(live=msgspec.structs.replace(Settings().live, memory_GB=0.15))
    lane = Lane(tight)
    first = process(lane, tilts[:4])
    known = [(tilts[event.index], event) for event in first if isinstance(event, TiltPlaced)]
    lane.refine_when_idle(lambda: False)
    before = lane._series["A"].volume().snapshot()
    process(lane, [named(tilt, series="B") for tilt in tilts[:2]])
    assert lane._series["A"].nbytes < 0.01e9 < 0.1e9 < lane._series["B"].nbytes
    lane._live(Job(tilt=tilts[4], attempts=0, settled_s=0.0, axis_deg=20.0, pixel_size_A=10.8, placed=tuple(known)))
    volume = lane._series["A"].volume()
    volume.rebuild(lambda: False)
    assert np.abs(volume.snapshot() - before).max() < 1e-3


def test_a_dark_view_stays_out_of_the_volume(tilts, tmp_path):
    with mrcfile.new(tmp_path / "dark.mrc") as file:
        file.set_data(np.random.default_rng(1).poisson(0.3, (384, 384)).astype(np.int16))
    lane = Lane(Settings())
    events = process(lane, [*tilts[:4], named(tilts[4], path=str(tmp_path / "dark.mrc")), *tilts[5:]])
    dark = next(event for event in events if isinstance(event, TiltPlaced) and event.index == 4)
    assert (dark.verdict.state, dark.in_volume) == ("bad", False)
    assert lane._series["A"].volume().views == 6


def test_idle_time_rebuilds_unless_a_tilt_comes(tilts):
    lane = Lane(Settings())
    process(lane, tilts[:3])
    assert lane.refine_when_idle(lambda: True) == []
    assert [event.plane for event in lane.refine_when_idle(lambda: False)] == ["xy", "xz"]
    assert lane.refine_when_idle(lambda: False) == [], "nothing has changed since"
