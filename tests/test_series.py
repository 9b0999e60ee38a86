"""Stories of one series: what happens, when, and what comes out. Nothing here sleeps."""

import pytest

from streamtomo.config import Acquisition, Settings, Watch
from streamtomo.errors import SettingsError
from streamtomo.messages import (
    AxisMeasured,
    FinishAsked,
    FinishDone,
    FinishFailed,
    FinishStarted,
    SeriesCompleted,
    SeriesDescribed,
    SeriesDropped,
    SeriesOpened,
    SeriesReopened,
    SeriesTooFew,
    TiltExcluded,
    TiltFailed,
    TiltPlaced,
    TiltReceived,
    TiltRestored,
    TiltRetried,
    TiltUpdated,
)
from streamtomo.model import Alignment, Correction, Place, Placement, RawImage, Tomogram, Verdict
from streamtomo.series import Finish, Process, Say, Series


def image(n, **more):
    return RawImage(
        series="TS",
        path=f"/data/TS_{n:03d}.mrc",
        nx=64,
        ny=64,
        **{"angle_deg": 3.0 * n, "acquired_s": 1000.0 + 10 * n, **more},
    )


def placed(n, state="good"):
    return TiltPlaced(
        series="TS",
        index=n,
        angle_deg=3.0 * n,
        correction=Correction(repaired=0, binning=1, mean=10.0, sd=1.0),
        placement=Placement(shift_x=0.0, shift_y=0.0, score=10.0, ambiguity=0.1),
        verdict=Verdict(state=state),
        in_volume=True,
    )


def done():
    tomogram = Tomogram(path="x", nx=1, ny=1, nz=1, binning=1, pixel_size_A=None, mean=0.0, sd=1.0)
    alignment = Alignment(method="coarse", axis_deg=0.0, views=())
    return FinishDone(series="TS", seconds=1.0, alignment=alignment, tomogram=tomogram, files=())


def said(commands):
    return [type(command.event) for command in commands if isinstance(command, Say)]


def collected(count=6, settings=None, start=1000.0):
    series = Series("TS", settings or Settings())
    for n in range(count):
        series.image(image(n), start + 10 * n)
        series.processed(placed(n), start + 10 * n + 1)
    return series


class Journal:
    """Collects what a series says, to replay it."""

    def __init__(self):
        self.events = []

    def take(self, commands, now):
        self.events += [(command.event, now) for command in commands if isinstance(command, Say)]
        return commands


def test_first_image_opens_the_series_and_is_processed():
    commands = Series("TS", Settings()).image(image(0), 1000.0)
    assert said(commands) == [SeriesOpened, TiltReceived]
    assert commands[-1] == Process("TS", 0)


def test_the_same_image_again_is_nothing_new():
    series = collected(2)
    assert series.image(image(1), 1100.0) == []


def test_better_metadata_of_a_known_image_is_an_update():
    series = collected(2)
    commands = series.image(image(1, dose_e_A2=3.0), 1100.0)
    assert said(commands) == [TiltUpdated]
    assert series.tilts[1].tilt.image.dose_e_A2 == 3.0


def test_planned_count_closes_it_when_the_last_tilt_is_placed():
    settings = Settings(acquisition=Acquisition(planned_tilts=6))
    series = collected(5, settings)
    assert said(series.image(image(5), 1050.0)) == [TiltReceived]
    commands = series.processed(placed(5), 1051.0)
    assert said(commands) == [TiltPlaced, SeriesCompleted]
    assert commands[-1] == Finish("TS")
    assert commands[1].event.witness == "count"


@pytest.mark.parametrize("plan", ["0:15:3", "15:0:-3", "0,3,6,9,12,15", " 6, 3,0, 9,12, 15.0"])
def test_planned_angles_close_it_when_the_last_of_them_is_placed_whatever_else_was_taken(plan):
    series = collected(5, Settings(acquisition=Acquisition(planned_angles=plan)))
    assert series.planned == 6
    for n, angle in ((5, 20.0), (6, -3.0)):  # as many tilts as are planned, and more
        series.image(image(n, angle_deg=angle), 1050.0 + n)
        assert said(series.processed(placed(n), 1051.0 + n)) == [TiltPlaced]
    series.image(image(7, angle_deg=14.5), 1060.0)  # the stage did not go quite where it was sent
    commands = series.processed(placed(7), 1061.0)
    assert said(commands) == [TiltPlaced, SeriesCompleted]
    assert (commands[1].event.witness, commands[1].event.text) == ("count", "all 6 planned angles are here")


def test_planned_angles_that_lie_close_are_not_taken_for_each_other():
    series = collected(0, Settings(acquisition=Acquisition(planned_angles="0:2:0.5")))
    for n in range(3):
        series.image(image(n, angle_deg=float(n)), 1000.0 + n)
        assert said(series.processed(placed(n), 1000.5 + n)) == [TiltPlaced]


def test_with_planned_angles_a_shorter_series_before_closes_nothing():
    series = collected(6, Settings(acquisition=Acquisition(planned_angles="0:30:3")))
    series.like = (0.0, 3.0, 6.0)
    assert series.tick(1050.0 + 59.0) == []
    assert said(series.tick(1050.0 + 61.0)) == [SeriesCompleted]


def test_silence_is_measured_in_its_own_intervals():
    series = collected(6, Settings(watch=Watch(silence_min_s=20.0, silence_factor=6.0)))
    assert series.silence_limit_s() == 60.0
    assert series.tick(1050.0 + 59.0) == []
    commands = series.tick(1050.0 + 61.0)
    assert said(commands) == [SeriesCompleted]
    assert commands[0].event.witness == "silence"


def test_interleaved_series_wait_longer_by_themselves():
    series = Series("TS", Settings(watch=Watch(silence_min_s=1.0)))
    for n in range(6):
        series.image(image(n, acquired_s=1000.0 + 90.0 * n), 1000.0 + 90.0 * n)
        series.processed(placed(n), 1001.0 + 90.0 * n)
    assert series.silence_limit_s() == 540.0


def test_an_old_series_is_complete_at_once():
    series = Series("TS", Settings())
    for n in range(6):
        series.image(image(n, written_s=1000.0 + 10 * n), 900000.0, live=False)
        series.processed(placed(n), 900000.0)
    assert series.state == "complete"


def test_a_late_tilt_reopens_it_and_it_is_finished_again():
    series = collected(6)
    series.close(1100.0, "operator", "closed by hand")
    series.finishing(FinishStarted(series="TS", tilts=6), 1101.0)
    commands = series.image(image(6), 1102.0)
    assert said(commands) == [SeriesReopened, TiltReceived]
    assert series.finishing(done(), 1103.0) == [], "the finished product is out of date"
    series.processed(placed(6), 1104.0)
    assert said(series.tick(1104.0 + 61.0)) == [SeriesCompleted]


def test_too_few_tilts_are_a_state_of_their_own():
    series = collected(3)
    commands = series.close(1100.0, "operator", "closed by hand")
    assert said(commands) == [SeriesCompleted, SeriesTooFew]
    assert (series.state, commands[1].event.usable) == ("too few", 3)
    for n in range(3, 6):
        series.image(image(n), 1200.0 + n)
        series.processed(placed(n), 1200.0 + n)
    assert series.close(1300.0, "operator", "again")[-1] == Finish("TS"), "more tilts came: no error, no end"


def test_placements_made_by_a_wrong_axis_are_replaced_and_later_ones_count_again():
    series = collected(3)
    places = (Place(0, 1.0, 2.0), Place(1, 3.0, 4.0))
    news = AxisMeasured(series="TS", axis_deg=8.0, nominal_deg=0.0, tilts=2, places=places)
    assert said(series.processed(news, 1040.0)) == [AxisMeasured]
    at = [series.tilts[n].placement for n in range(3)]
    assert [(one.shift_x, one.shift_y) for one in at] == [(1.0, 2.0), (3.0, 4.0), (0.0, 0.0)]
    assert series.placed()[0][1].placement.shift_x == 0.0, "the lane does again what it did then"
    series.processed(placed(1), 1041.0)
    assert series.tilts[1].placement == placed(1).placement


def test_bad_tilts_do_not_count_as_usable():
    series = collected(6)
    series.processed(placed(0, "bad"), 1060.0)
    assert [state.tilt.index for state in series.usable()] == [1, 2, 3, 4, 5]


def test_a_failed_tilt_is_tried_again_and_holds_the_series_open():
    series = collected(6)
    series.image(image(6), 1060.0)
    series.processed(TiltFailed(series="TS", index=6, reason="locked", attempts=1), 1061.0)
    assert series.busy
    assert series.tick(1062.0) == []
    assert series.tick(1063.5) == [Process("TS", 6)]
    series.processed(TiltFailed(series="TS", index=6, reason="locked", attempts=4, final=True), 1064.0)
    assert not series.busy
    assert said(series.close(1065.0, "operator", "by hand")) == [SeriesCompleted]


def test_finishing_is_tried_again_until_it_is_final():
    series = collected(6)
    series.close(1100.0, "operator", "by hand")
    series.finishing(FinishStarted(series="TS", tilts=6), 1101.0)
    again = series.finishing(FinishFailed(series="TS", reason="killed", final=False), 1102.0)
    assert again[-1] == Finish("TS")
    series.finishing(FinishStarted(series="TS", tilts=6), 1103.0)
    assert said(series.finishing(FinishFailed(series="TS", reason="killed", final=True), 1104.0)) == [FinishFailed]
    assert series.state == "failed"


def test_configuration_wins_over_metadata():
    series = Series("TS", Settings(acquisition=Acquisition(tilt_axis_deg=0.0, planned_tilts=41)))
    series.image(image(0, tilt_axis_deg=85.0), 1000.0)
    series.described(
        SeriesDescribed(series="TS", source="m", planned_tilts=7, tilt_axis_deg=12.0, pixel_size_A=2.0), 1001.0
    )
    assert (series.axis_deg, series.planned, series.pixel_size_A) == (0.0, 41, 2.0)


@pytest.mark.parametrize("crash_after", range(1, 16))
def test_a_replayed_journal_stands_where_the_crash_left_it(crash_after):
    journal, series = Journal(), Series("TS", Settings())
    for n in range(6):
        journal.take(series.image(image(n), 1000.0 + 10 * n), 1000.0 + 10 * n)
        journal.take(series.processed(placed(n), 1001.0 + 10 * n), 1001.0 + 10 * n)
    journal.take(series.close(1100.0, "operator", "by hand"), 1100.0)
    journal.take(series.finishing(FinishStarted(series="TS", tilts=6), 1101.0), 1101.0)
    again = Series("TS", Settings())
    for event, time in journal.events[:crash_after]:
        again.apply(event, time)
    todo = again.resume()
    waiting = [n for n, state in again.tilts.items() if state.status == "waiting"]
    assert [command.index for command in todo if isinstance(command, Process)] == waiting
    assert (Finish("TS") in again.tick(1100.0)) == (again.state == "complete")
    for n in range(6):
        assert again.image(image(n), 2000.0) == [] or n >= len(again.tilts) - 1


def test_a_series_closed_while_tilts_wait_is_finished_with_them():
    series = collected(6)
    series.image(image(6), 1060.0)
    commands = series.close(1061.0, "operator", "by hand")
    assert said(commands) == [SeriesCompleted]
    assert Finish("TS") not in commands
    assert series.processed(placed(6), 1062.0)[-1] == Finish("TS")
    assert series.tick(1063.0) == [], "once"


def test_a_target_taken_twice_counts_once_and_the_newest_wins():
    series = collected(6)
    commands = series.image(image(6, angle_deg=15.04), 1060.0)
    assert said(commands) == [TiltReceived, TiltExcluded]
    assert (commands[1].event.index, commands[1].event.reason) == (5, "taken again as tilt 6")
    series.processed(placed(6), 1061.0)
    assert [state.tilt.index for state in series.usable()] == [0, 1, 2, 3, 4, 6]


def test_a_retake_that_is_found_late_is_the_earlier_one():
    series = collected(6)
    commands = series.image(image(6, angle_deg=15.0, acquired_s=1045.0), 1060.0)
    assert commands[1].event.index == 6, "by the microscope's clock it came before tilt 5"


def test_an_angle_that_comes_back_later_is_no_retake():
    series = collected(6)
    assert said(series.image(image(6, angle_deg=0.0), 1060.0)) == [TiltReceived]
    assert len(series.kept()) == 7


def test_a_plan_that_repeats_its_angles_has_no_retakes():
    series = Series("TS", Settings())
    for n in range(12):
        series.image(image(n, angle_deg=3.0 * (n // 3)), 1000.0 + 10 * n)
    assert len(series.kept()) == 12
    assert not any(state.wanted for state in series.tilts.values()), "their verdicts count"


def test_images_of_one_finished_stack_are_no_retakes_of_each_other():
    series = Series("TS", Settings())
    for n, angle in enumerate((-3.0, 0.0, 0.0, 3.0)):
        series.image(image(n, angle_deg=angle, acquired_s=None, written_s=5.0), 1000.0)
    assert len(series.kept()) == 4


def test_planned_tilts_are_counted_without_retakes():
    series = collected(5, Settings(acquisition=Acquisition(planned_tilts=6)))
    series.image(image(5, angle_deg=12.0), 1050.0)
    assert said(series.processed(placed(5), 1051.0)) == [TiltPlaced]
    series.image(image(6), 1060.0)
    assert SeriesCompleted in said(series.processed(placed(6), 1061.0))


def test_a_clock_that_was_set_back_between_two_runs_does_not_hold_a_series_open():
    series = collected(6, Settings(watch=Watch(silence_min_s=20.0, silence_factor=6.0)))
    assert series.tick(-3600.0) == []
    assert series.tick(-3600.0 + 59.0) == []
    assert series.tick(-3600.0 + 61.0)[0].event.witness == "silence"


def test_the_angles_of_the_series_before_are_a_witness_after_a_short_silence():
    series = collected(6, Settings(watch=Watch(silence_min_s=600.0)))
    series.like = tuple(3.0 * n + 0.2 for n in range(6))
    assert series.tick(1050.0 + 24.0) == []
    commands = series.tick(1050.0 + 26.0)
    assert commands[0].event.witness == "siblings"
    short = collected(5, Settings(watch=Watch(silence_min_s=600.0)))
    short.like = series.like
    assert short.tick(1040.0 + 100.0) == [], "one angle is missing"


def test_the_count_of_the_metadata_is_another_witness_than_that_of_the_settings():
    series = collected(6)
    series.described(SeriesDescribed(series="TS", source="TS.mdoc", planned_tilts=6), 1070.0)
    assert series.tick(1071.0)[0].event.witness == "mdoc"


def finished(count=6):
    series = collected(count)
    series.close(1100.0, "operator", "by hand")
    series.finishing(FinishStarted(series="TS", tilts=count), 1101.0)
    series.finishing(done(), 1102.0)
    return series


def test_tilts_are_left_out_and_put_back_by_hand_and_the_series_is_finished_again():
    series = finished(7)
    commands = series.exclude([2, 99], "ice", 1200.0)
    assert said(commands) == [TiltExcluded, SeriesCompleted]
    assert commands[-1] == Finish("TS")
    assert len(series.usable()) == 6
    assert series.exclude([2], "ice", 1201.0) == []
    assert said(series.restore([2], 1202.0)) == [TiltRestored, SeriesCompleted]
    assert len(series.usable()) == 7


def test_a_tilt_judged_bad_counts_again_when_the_operator_wants_it():
    series = collected(6)
    series.processed(placed(0, "bad"), 1060.0)
    assert said(series.restore([0], 1061.0)) == [TiltRestored]
    assert len(series.usable()) == 6


def test_what_failed_is_tried_again_on_command():
    series = collected(6)
    series.image(image(6), 1060.0)
    series.processed(TiltFailed(series="TS", index=6, reason="locked", attempts=4, final=True), 1061.0)
    series.close(1065.0, "operator", "by hand")
    series.finishing(FinishFailed(series="TS", reason="killed", final=True), 1066.0)
    commands = series.retry(1070.0)
    assert said(commands) == [TiltRetried, SeriesCompleted]
    assert Process("TS", 6) in commands
    assert Finish("TS") not in commands
    assert series.processed(placed(6), 1071.0)[-1] == Finish("TS")


def test_while_the_output_folder_cannot_be_written_the_finishing_waits_and_gives_nothing_up():
    series = collected()
    series.close(2000.0, "operator", "x")
    pauses, now = [], 2000.0
    for _ in range(12):
        series.finishing(FinishStarted(series="TS", tilts=6), now)
        blocked = FinishFailed(series="TS", reason="no space left", final=False, blocked=True)
        assert [type(c) for c in series.finishing(blocked, now)] == [Say]
        assert series.state == "complete"
        begun = now
        while Finish("TS") not in series.tick(now):
            now += 1.0
        pauses.append(now - begun)
        assert series.tick(now + 1000) == [], "once"
    assert pauses[:4] == [2.0, 4.0, 8.0, 16.0]
    assert max(pauses) == 300.0
    series.finishing(FinishStarted(series="TS", tilts=6), now)
    series.finishing(FinishFailed(series="TS", reason="fault", final=False), now)
    assert series.finish_attempts == 1, "what was blocked does not count"


def test_after_a_restart_a_blocked_finishing_is_tried_at_once_and_once():
    series = collected()
    series.close(2000.0, "operator", "x")
    series.finishing(FinishStarted(series="TS", tilts=6), 2000.0)
    series.finishing(FinishFailed(series="TS", reason="no space left", final=False, blocked=True), 2000.0)
    series.resume()
    assert series.tick(2000.1) == [Finish("TS")]
    assert series.tick(9000.0) == []


def test_tilts_are_told_in_the_order_in_which_they_were_placed():
    series = Series("TS", Settings())
    for n in range(3):
        series.image(image(n), 1000.0 + n)
    for n in (0, 2, 1):
        series.processed(placed(n), 1010.0 + n)
    assert [tilt.index for tilt, _ in series.placed()] == [0, 2, 1]


def test_a_rejected_series_is_left_alone_and_a_replay_of_its_journal_stands_where_it_stood():
    journal, series = Journal(), Series("TS", Settings())
    for n in range(6):
        journal.take(series.image(image(n), 1000.0 + 10 * n), 1000.0 + 10 * n)
        journal.take(series.processed(placed(n), 1001.0 + 10 * n), 1001.0 + 10 * n)
    commands = journal.take(series.reject("ice", 1060.0), 1060.0)
    assert said(commands) == [SeriesDropped]
    assert said(journal.take(series.image(image(6), 1070.0), 1070.0)) == [TiltReceived]
    assert series.tick(99_999.0) == [] == series.exclude([1], "", 99_999.0)[1:]
    assert series.has_ended
    assert not series.busy
    again = Series("TS", Settings())
    for event, time in journal.events:
        again.apply(event, time)
    assert again.state == "rejected"
    assert again.resume() == []
    commands = again.reopen(2000.0)
    assert said(commands) == [SeriesReopened]
    assert commands[-1] == Process("TS", 6), "what came meanwhile is processed now"


def test_finishing_again_takes_the_new_settings_into_the_journal():
    journal, series = Journal(), collected()
    series.close(1100.0, "operator", "closed")
    series.finishing(FinishStarted(series="TS", tilts=6), 1101.0)
    series.finishing(done(), 1102.0)
    commands = journal.take(series.finish_again(("final.binning=2",), 1200.0), 1200.0)
    assert said(commands) == [FinishAsked, SeriesCompleted]
    assert commands[-1] == Finish("TS")
    again = Series("TS", Settings())
    for event, time in journal.events:
        again.apply(event, time)
    assert again.settings.final.binning == series.settings.final.binning == 2
    with pytest.raises(SettingsError, match=r"final\.binning"):
        series.finish_again(("final.binning=0",), 1300.0)
    assert Series("empty", Settings()).finish_again((), 0.0) == []


def test_a_finished_stack_tells_its_number_of_images_by_itself():
    series = collected(6)
    commands = series.described(SeriesDescribed(series="TS", source="TS.mrc", planned_tilts=6), 1070.0)
    commands = [*commands, *series.tick(1071.0)]
    assert [one.event.witness for one in commands if isinstance(getattr(one, "event", None), SeriesCompleted)] == [
        "stack"
    ]
