"""Stories of tilts in which no neighbour was recognised: they keep the series alive, and are tried again."""

from pathlib import Path

import msgspec
from test_series import Journal, image, placed, said

from streamtomo.config import Acquisition, Settings
from streamtomo.lanes import _finish_job
from streamtomo.messages import Envelope, SeriesCompleted, TiltPlaced, TiltRetried
from streamtomo.publish.state import SessionState
from streamtomo.series import Finish, Process, Series


def lost(n):
    """Tilt `n` (at 3n degrees) as the lane tells it when it recognised no neighbour."""
    return msgspec.structs.replace(placed(n), in_volume=False, unplaced=True)


def begun(*indices, settings=None):
    """A series with images 0 to the last of these; those named were placed, in this order."""
    series = Series("TS", settings or Settings())
    for n in range(max(indices) + 1):
        series.image(image(n), 1000.0 + n)
    for n in indices:
        series.processed(placed(n), 1010.0 + n)
    return series


def test_an_unplaced_tilt_is_no_failure_and_counts_for_nothing():
    series = begun(0, 1, 20)
    commands = series.processed(lost(10), 1050.0)
    assert said(commands) == [TiltPlaced]
    assert (series.tilts[10].status, series.tilts[10].usable, series.busy) == ("placed", False, True)
    assert 10 not in [state.tilt.index for state in series.usable()]


def test_it_is_tried_again_when_a_tilt_comes_that_is_near_in_angle():
    series = begun(0, 1, 2, 19)
    series.processed(lost(10), 1050.0)
    commands = series.processed(placed(12), 1051.0)
    assert said(commands) == [TiltPlaced, TiltRetried]
    assert commands[1].event.reason == "tilt 12 at +36.0° is near"
    assert commands[-1] == Process("TS", 10)
    assert series.tilts[10].status == "waiting"


def test_a_tilt_that_is_farther_than_those_it_was_compared_with_changes_nothing():
    series = begun(8, 9, 11, 19)
    series.processed(lost(10), 1050.0)
    assert said(series.processed(placed(3), 1051.0)) == [TiltPlaced]
    assert said(series.processed(lost(12), 1052.0)) == [TiltPlaced], "nor does one that is unplaced itself"


def test_when_it_is_placed_after_all_it_counts_and_others_are_tried_because_of_it():
    series = begun(0, 1, 2, 19)
    for n in (10, 13):
        series.processed(lost(n), 1050.0 + n)
    assert [one.event.index for one in series.processed(placed(7), 1070.0)[1:3]] == [10, 13]
    series.processed(lost(13), 1071.0)
    commands = series.processed(placed(10), 1072.0)
    assert commands[-1] == Process("TS", 13)
    assert series.tilts[10].usable
    assert [tilt.index for tilt, _ in series.placed()][-1] == 10, "the next ones are placed by it as by the last one"


def test_what_is_left_out_or_gone_is_not_tried_again():
    series = begun(0, 1, 19)
    for n in (10, 11):
        series.processed(lost(n), 1050.0)
    series.exclude([10], "ice", 1051.0)
    series.image(image(11, gone="it was deleted"), 1052.0)
    assert TiltRetried not in said(series.processed(placed(12), 1053.0))


def test_a_series_is_finished_without_those_that_stay_unplaced_and_says_why():
    settings = Settings(acquisition=Acquisition(planned_tilts=7))
    series = begun(0, 1, 2, 3, 4, 6, settings=settings)
    commands = series.processed(lost(5), 1050.0)
    assert said(commands) == [TiltPlaced, SeriesCompleted]
    assert commands[-1] == Finish("TS")
    job = _finish_job(series, Path("/out"), lambda *_: "")
    assert [one.failure for one in job.tilts if one.failure] == ["unplaced: no neighbour was recognised in it"]
    series.restore([5], 1060.0)
    assert series.tilts[5].usable, "the operator may want it as it is"


def test_a_restart_stands_where_it_was():
    series, journal = Series("TS", Settings()), Journal()
    for n in range(20):
        journal.take(series.image(image(n), 1000.0), 1000.0)
    for event in (placed(0), placed(1), placed(2), lost(10), placed(12)):
        journal.take(series.processed(event, 1050.0), 1050.0)
    again = Series("TS", Settings())
    for event, now in journal.events:
        again.apply(event, now)
    assert again.tilts == series.tilts
    assert Process("TS", 10) in again.resume()


def test_the_dashboard_has_a_letter_for_it():
    state = SessionState()
    for seq, event in enumerate((lost(3), TiltRetried(series="TS", index=3, reason="x"), placed(3)), start=1):
        state.apply(Envelope(version=1, session="s", seq=seq, topic_seq=seq, time_s=1.0, event=event))
        letter = state.series["TS"].tilts[3].letter
        assert letter == ("U", "U", "G")[seq - 1]
