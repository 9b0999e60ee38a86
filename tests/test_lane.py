"""The live lane on small files: placements, failures as events, restarts, the memory budget, idle rebuilds."""

import warnings

import mrcfile
import msgspec
import numpy as np
import pytest
from simulated import simulated

from streamtomo.align.live import LiveAligner
from streamtomo.align.places import in_frame
from streamtomo.config import Settings
from streamtomo.lane import Job, Lane, LiveSeries
from streamtomo.messages import (
    AxisMeasured,
    Event,
    Picture,
    SeriesJudged,
    TiltFailed,
    TiltPlaced,
    TiltRealigned,
    TiltScored,
    VolumeIterated,
    VolumeRebuilt,
    Warned,
)
from streamtomo.model import RawImage, Tilt
from streamtomo.reconstruct.live import LiveVolume

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


def job(tilt, placed=(), axis_deg=20.0, settings=None):
    return Job(
        tilt=tilt,
        attempts=0,
        settled_s=0.0,
        axis_deg=axis_deg,
        pixel_size_A=10.8,
        placed=tuple(placed),
        settings=settings or Settings(),
    )


def process(lane, tilts, placed=(), settings=None):
    """Send tilts through one after the other; the events of all."""
    known, events = list(placed), []
    for tilt in tilts:
        news = lane.process(job(tilt, known, settings=settings))
        known += [(tilt, event) for event in news if isinstance(event, TiltPlaced)]
        events += news
    return events


def results(events):
    return [(event.index, event.placement, event.verdict.state) for event in events if isinstance(event, TiltPlaced)]


def test_the_camera_is_learned_from_a_tilt_once_it_is_shown_and_before_the_next(tilts, tmp_path):
    lane = Lane(Settings(), tmp_path)
    camera = lane._cameras.of(tilts[0].image, 10.8, Settings().correct)
    news = process(lane, tilts[:1])
    assert camera.lacks("A", tilts[0].index)
    assert lane.learn() == []
    assert not camera.lacks("A", tilts[0].index)
    process(lane, tilts[1:3], [(tilts[0], news[0])])
    assert not camera.lacks("A", tilts[1].index)
    assert camera.lacks("A", tilts[2].index)


def test_a_map_that_cannot_be_learned_is_a_warning(tilts, monkeypatch):
    lane = Lane(Settings())
    process(lane, tilts[:1])
    monkeypatch.setattr(lane, "_learn", lambda *_: 1 / 0)
    (warning,) = lane.learn()
    assert (warning.code, warning.series) == ("camera.failed", "A")
    assert lane.learn() == []


def named(tilt, **changes):
    return msgspec.structs.replace(tilt, image=msgspec.structs.replace(tilt.image, **changes))


def test_tilts_are_placed_judged_and_shown(tilts):
    events = process(Lane(Settings()), tilts)
    placed = [event for event in events if isinstance(event, TiltPlaced)]
    assert [event.index for event in placed] == list(range(7))
    assert {event.verdict.state for event in placed} == {"good"}
    assert all(event.in_volume and event.stage_ms["total"] > 0 for event in placed)
    assert {event.plane for event in events if isinstance(event, Picture)} == {"xy", "xz", "yz"}


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


TIGHT = Settings(live=msgspec.structs.replace(Settings().live, memory_GB=0.2))
"""Room for one series."""


def test_series_go_to_disk_and_come_back_equal(tilts, tmp_path):
    lane = Lane(TIGHT, tmp_path)
    gone = process(lane, tilts[:4])
    lane.refine_when_idle(lambda: False)
    before = lane._series["A"]
    process(lane, [named(tilt, series="B") for tilt in tilts[:2]])
    assert list(lane._series) == ["B"]
    lane._read = None  # nothing is read again
    after = lane._live(job(tilts[4], known(tilts, gone)))
    assert list(lane._series) == ["A"]
    assert (after.volume().snapshot() == before.volume().snapshot()).all()
    assert after.volume().rebuild(lambda: False)
    assert np.abs(after.volume().snapshot() - before.volume().snapshot()).max() < 1e-3
    assert after.aligner.memory() == before.aligner.memory()
    assert (after.views, after.judge.seen) == (before.views, before.judge.seen)
    assert after.nbytes == before.nbytes


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
    rebuilt, *shown = lane.refine_when_idle(lambda: False)
    assert isinstance(rebuilt, VolumeRebuilt)
    assert (rebuilt.series, rebuilt.views) == ("A", 3)
    assert [(event.plane, event.by) for event in shown] == [(plane, "wbp") for plane in ("xy", "xz", "yz")]
    assert lane.refine_when_idle(lambda: True) == []
    iterated, *shown = lane.refine_when_idle(lambda: False)
    assert isinstance(iterated, VolumeIterated)
    assert (iterated.views, iterated.binning) == (3, 2)
    assert 0 < iterated.residual < 0.9
    assert [(event.plane, event.by) for event in shown] == [(plane, "sirt") for plane in ("xy", "xz", "yz")]
    assert lane.refine_when_idle(lambda: False) == [], "nothing has changed since"


def test_idle_time_compares_each_tilt_with_the_volume_of_the_others(tilts):
    lane = Lane(Settings())
    process(lane, tilts[:6])
    scored = [event for event in idle(lane) if isinstance(event, TiltScored)]
    assert [event.index for event in scored] == [5, 4, 3, 2, 1, 0]
    assert min(event.leave_one_out for event in scored) > 0.2
    process(lane, tilts[6:], known(tilts, process(Lane(Settings()), tilts[:6])))
    again = [event for event in idle(lane) if isinstance(event, TiltScored)]
    assert [(event.index, event.views) for event in again] == [(6, 7)]


def test_idle_time_finds_a_tilt_that_was_placed_wrongly(tilts, monkeypatch):
    """It is put right in the volume, and the volume built again; the placements told stay what they are."""
    lane, wrong = Lane(Settings()), 5
    right = LiveAligner.accept

    def misled(aligner, index, angle_deg, image, placement):
        right(aligner, index, angle_deg, image, placement)
        if index == wrong:
            view = aligner._views[index]
            aligner._views[index] = view._replace(shift=view.shift + np.array([14.0, -9.0]))

    monkeypatch.setattr(LiveAligner, "accept", misled)
    process(lane, tilts[:6])
    live = lane._series["A"]
    told = idle(lane)
    moved = [event for event in told if isinstance(event, TiltRealigned)]
    assert [event.index for event in moved] == [wrong]
    assert moved[0].after > moved[0].before + 0.2
    assert (moved[0].shift_x, moved[0].shift_y) == pytest.approx(np.subtract(live.aligner.shift_of(5), (14, -9)), abs=2)
    rebuilt = [event.moved for event in told if isinstance(event, VolumeRebuilt)]
    assert rebuilt[-1] == (wrong,)
    scores = [(event.index, event.leave_one_out) for event in told if isinstance(event, TiltScored)]
    assert scores[-1] == (wrong, pytest.approx(moved[0].after, abs=0.1))
    assert idle(lane) == []


def idle(lane):
    """All that is done while no tilt comes."""
    events = []
    while news := lane.refine_when_idle(lambda: False):
        events += news
    return events


def written(tilt, path, pixels):
    """The tilt with other pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mrcfile has its own thoughts about NaN
        mrcfile.write(path, pixels, overwrite=True)
    return named(tilt, path=str(path), nx=pixels.shape[1], ny=pixels.shape[0])


def pixels_of(tilt):
    with mrcfile.open(tilt.image.path) as file:
        return file.data.astype(np.float32)


def known(tilts, events):
    return [(tilts[event.index], event) for event in events if isinstance(event, TiltPlaced)]


def test_pixels_that_are_no_numbers_fail_a_tilt_and_nothing_else(tilts, tmp_path):
    broken = pixels_of(tilts[1])
    broken[7, 9] = np.nan
    events = process(Lane(Settings()), [tilts[0], written(tilts[1], tmp_path / "nan.mrc", broken), tilts[2]])
    (failure,) = (event for event in events if isinstance(event, TiltFailed))
    assert "has pixels that are no finite numbers" in failure.reason
    assert [index for index, *_ in results(events)] == [0, 2]


def test_whatever_the_pixels_are_what_is_told_can_be_read_again(tilts, tmp_path):
    """A number that does not exist could not be written down, and a journal with it not be read again."""
    lane = Lane(Settings())
    for index, value in enumerate((np.nan, -np.inf, np.inf, 3e38, 0.0), start=1):
        for share in (1, None):
            odd = pixels_of(tilts[1])
            odd.ravel()[:share] = value
            for event in process(lane, [tilts[0], written(tilts[index], tmp_path / "odd.mrc", odd)]):
                assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event


def test_an_image_of_another_size_fails_by_its_own_reason(tilts, tmp_path):
    small = written(tilts[1], tmp_path / "small.mrc", pixels_of(tilts[1])[:200, :300])
    events = process(Lane(Settings()), [tilts[0], small, tilts[2]])
    (failure,) = (event for event in events if isinstance(event, TiltFailed))
    assert "is 300 x 200 pixels, its series has 384 x 384" in failure.reason
    assert [index for index, *_ in results(events)] == [0, 2]


def test_a_first_image_that_failed_does_not_decide_the_size_of_the_others(tilts, tmp_path):
    gone = named(tilts[0], path=str(tmp_path / "gone.mrc"), nx=100, ny=100)
    assert len(results(process(Lane(Settings()), [gone, *tilts[1:3]]))) == 2


def test_a_restart_leaves_out_what_is_gone_and_goes_on(tilts, tmp_path):
    first = process(Lane(Settings()), tilts[:4])
    lost = known([tilts[0], named(tilts[1], path="/nowhere/x.mrc"), *tilts[2:]], first)
    lane = Lane(Settings())
    assert len(results(process(lane, tilts[4:5], lost))) == 1
    assert lane._series["A"].volume().views == 4


def test_a_restart_judges_the_series_as_before(tilts, tmp_path):
    """What was said before is not said again; and what got better is said, though it was worse before the restart."""
    black = [written(tilts[n], tmp_path / f"{n}.mrc", np.zeros((384, 384), np.float32)) for n in (1, 2)]
    mixed = [tilts[0], *black, *tilts[3:]]
    through = process(Lane(Settings()), mixed)
    judged = [event.state for event in through if isinstance(event, SeriesJudged)]
    assert "watch" in judged
    for cut in range(1, len(mixed)):
        place = next(n for n, event in enumerate(through) if isinstance(event, TiltPlaced) and event.index == cut)
        before = known(mixed, through[:place])
        later = [event for event in through[place:] if isinstance(event, SeriesJudged)]
        again = process(Lane(Settings()), mixed[cut:], before)
        assert [event for event in again if isinstance(event, SeriesJudged)] == later


def test_better_metadata_starts_the_series_again(tilts):
    lane = Lane(Settings())
    first = process(lane, tilts[:2])
    old = lane._series["A"]
    assert isinstance(lane.process(job(tilts[2], known(tilts, first), axis_deg=25.0))[0], TiltPlaced)
    assert lane._series["A"] is not old
    assert (lane._series["A"].axis_deg, lane._series["A"].volume().views) == (25.0, 3)


def test_a_session_of_many_series_stays_within_its_memory(tilts):
    lane = Lane(TIGHT)
    first = process(lane, [named(tilt, series="S0") for tilt in tilts[:2]])
    for n in range(1, 4):
        process(lane, [named(tilt, series=f"S{n}") for tilt in tilts[:1]])
        assert 0 < sum(live.nbytes for live in lane._series.values()) <= 0.2e9
        assert lane._dirty == {f"S{n}"}, "what was let go is not made again in idle time"
    assert results(process(lane, [named(tilts[2], series="S0")], known(tilts, first)))


def test_series_are_forgotten_whole_when_their_images_fill_the_memory(tilts, monkeypatch):
    lane = Lane(Settings())
    for name in ("old", "new"):
        process(lane, [named(tilt, series=name) for tilt in tilts[:2]])
    monkeypatch.setattr(LiveSeries, "nbytes", property(lambda live: 10**10))
    process(lane, [named(tilts[2], series="new")])
    assert list(lane._series) == ["new"]
    assert lane._dirty == {"new"}


def test_a_rebuild_that_is_interrupted_shows_nothing_half_made(tilts):
    lane = Lane(Settings())
    process(lane, tilts[:3])
    before = lane._series["A"].volume().snapshot()
    looks = iter([False] * 5)  # at the three views, then at the first blocks of the volume
    assert lane.refine_when_idle(lambda: next(looks, True)) == []
    assert (lane._series["A"].volume().snapshot() == before).all()
    assert lane.refine_when_idle(lambda: False) != [], "it is taken up again"


def test_a_rebuild_that_fails_is_told_and_the_lane_goes_on(tilts, monkeypatch):
    lane = Lane(Settings())
    events = process(lane, tilts[:2])

    def broken(*_):
        raise MemoryError("no memory")

    with monkeypatch.context() as bad:
        bad.setattr(LiveVolume, "rebuild", broken)
        (told,) = lane.refine_when_idle(lambda: False)
    assert isinstance(told, Warned)
    assert "MemoryError: no memory" in told.text
    assert lane.refine_when_idle(lambda: False) == []
    assert len(results(process(lane, tilts[2:3], known(tilts, events)))) == 1
    assert lane._series["A"].volume().views == 3


def test_a_fault_of_ours_is_an_event(tilts, monkeypatch):
    monkeypatch.setattr("streamtomo.lane.repair", lambda *_: 1 / 0)
    (failure,) = Lane(Settings()).process(
        Job(tilt=tilts[0], attempts=3, settled_s=0.0, axis_deg=20.0, pixel_size_A=None, placed=())
    )
    assert failure.reason == "internal error: ZeroDivisionError: division by zero"
    assert (failure.attempts, failure.final) == (4, True)


def test_what_could_not_be_read_again_is_not_told(tilts, monkeypatch):
    """A number that is none would stand in the journal as nothing, and no run could go on with it."""
    wrong = AxisMeasured(series="A", axis_deg=float("nan"), nominal_deg=0.0, tilts=9)
    monkeypatch.setattr(Lane, "_process", lambda lane, job: [wrong])
    (failure,) = Lane(Settings()).process(
        Job(tilt=tilts[0], attempts=0, settled_s=0.0, axis_deg=20.0, pixel_size_A=None, placed=())
    )
    assert failure.reason == "internal error: ValueError: something measured is no number"


def test_the_thickness_given_is_that_of_the_volume(tilts):
    thick = Settings(specimen=msgspec.structs.replace(Settings().specimen, thickness_nm=108.0))
    lane = Lane(Settings())
    process(lane, tilts[:1], settings=thick)
    assert lane._series["A"].volume().snapshot().shape[0] == 100


@pytest.mark.parametrize(("pixel_size_A", "depth"), [(None, 76), (40.0, 76), (20.0, 150), (10.0, 256)])
def test_without_a_thickness_the_volume_of_a_small_field_is_deep_enough_for_most_specimens(pixel_size_A, depth):
    raw = RawImage(series="A", path="a.mrc", nx=256, ny=256, angle_deg=0.0)
    assert LiveSeries(raw, 0.0, pixel_size_A, Settings()).volume_shape() == (depth, 256, 256)


def test_a_tilt_that_is_left_out_is_in_no_volume_any_more(tilts):
    lane = Lane(Settings())
    events = process(lane, tilts[:4])
    placed = [(tilts[event.index], event) for event in events if isinstance(event, TiltPlaced)]
    process(lane, [tilts[4]], [one for one in placed if one[0].index != 2])
    assert sorted(lane._series["A"].views) == [0, 1, 3, 4]
    without = Lane(Settings())
    process(without, [*tilts[:2], *tilts[3:5]])
    both = [one._series["A"].volume().snapshot() for one in (lane, without)]
    assert np.corrcoef(both[0].ravel(), both[1].ravel())[0, 1] > 0.98


def test_in_idle_time_tilts_settle_at_the_same_places_whatever_order_they_came_in(tilts):
    places = []
    for order in ((0, 1, 2, 3, 4, 5, 6), (6, 2, 0, 5, 3, 1, 4)):
        lane = Lane(Settings())
        come = [msgspec.structs.replace(tilts[n], index=number) for number, n in enumerate(order)]
        process(lane, come)
        idle(lane)
        at = lane._series["A"]._at
        places.append(np.array([at[order.index(n)] for n in range(7)]))
    angles = {n: tilts[n].image.angle_deg for n in range(7)}
    one, other = ({n: tuple(row) for n, row in enumerate(place)} for place in places)
    moved = in_frame(one, other, angles, 20.0)
    assert max(np.hypot(*np.subtract(moved[n], other[n])) for n in angles) < 0.3


def test_a_tilt_that_nothing_recognises_moves_no_other_and_is_placed_when_its_neighbours_came(tilts, tmp_path):
    lane, elsewhere = Lane(Settings()), simulated(seed=6).series.expose(ORDER[3]).image
    lost = written(tilts[3], tmp_path / "elsewhere.mrc", elsewhere)
    events = process(lane, [*tilts[:3], lost, *tilts[4:]])
    told = {event.index: event for event in events if isinstance(event, TiltPlaced)}
    assert (told[3].unplaced, told[3].in_volume) == (True, False)
    assert not any(told[n].unplaced for n in told if n != 3)
    without = results(process(Lane(Settings()), [*tilts[:3], *tilts[4:]]))
    assert [one[:2] for one in results(events) if one[0] != 3] == [one[:2] for one in without]
    again = process(lane, [tilts[3]], known([*tilts[:3], tilts[3], *tilts[4:]], events)[:3] + known(tilts, events)[4:])
    assert results(again)[0][1].credible
    assert lane._series["A"].volume().views == 7, "it was not begun anew for it"
