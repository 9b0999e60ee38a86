"""Stories of a session as its viewers see it: envelopes in, what is known out. Nothing here sleeps."""

import typing

import msgspec
import pytest

from streamtomo import messages
from streamtomo.messages import (
    VERSION,
    AlarmCleared,
    AlarmRaised,
    AxisMeasured,
    Envelope,
    FileRefused,
    FileRetried,
    Finding,
    FinishDone,
    FinishFailed,
    FinishStarted,
    FinishStep,
    FolderAdded,
    FolderTested,
    Heartbeat,
    Picture,
    SeriesCompleted,
    SeriesDescribed,
    SeriesJudged,
    SeriesOpened,
    SeriesReopened,
    SeriesTooFew,
    SessionEnded,
    SessionStarted,
    TiltExcluded,
    TiltFailed,
    TiltPlaced,
    TiltReceived,
    TiltRestored,
    TiltRetried,
    TiltScored,
    TiltUpdated,
    Warned,
)
from streamtomo.model import Alignment, Correction, Placement, RawImage, Tilt, Tomogram, Verdict
from streamtomo.publish.state import MESSAGES_KEPT, SessionState


class Story:
    """Tells events one after the other; at the end the state must have survived a trip over the wire."""

    def __init__(self):
        self.state = SessionState()
        self.seq, self.session = 0, "s1"

    def tell(self, *events, time_s=None):
        for event in events:
            self.seq += 1
            self.state.apply(self.envelope(event, time_s=time_s))
        return self.state

    def envelope(self, event, seq=None, time_s=None):
        seq = seq or self.seq
        time_s = 1000.0 + seq if time_s is None else time_s
        return Envelope(version=VERSION, session=self.session, seq=seq, time_s=time_s, event=event)

    def row(self, name="TS"):
        return self.state.series[name]


@pytest.fixture
def story():
    told = Story()
    yield told
    assert msgspec.json.decode(msgspec.json.encode(told.state), type=SessionState) == told.state


def started(**more):
    return SessionStarted(**{"watched": "/data", "out": "/out", "host": "h", "pid": 1, "program": "0", **more})


def opened(**more):
    return SeriesOpened(**{"series": "TS", "source": "/data/TS.mrc", "nx": 64, "ny": 48, **more})


def tilt(n, angle_deg):
    image = RawImage(series="TS", path=f"/data/{n}", nx=64, ny=48, angle_deg=angle_deg)
    return Tilt(index=n, image=image)


def received(n, series="TS"):
    return TiltReceived(series=series, tilt=tilt(n, 3.0 * n))


def placed(n, state="good"):
    return TiltPlaced(
        series="TS",
        index=n,
        angle_deg=3.0 * n,
        correction=Correction(repaired=0, binning=1, mean=10.0, sd=1.0),
        placement=Placement(shift_x=0.0, shift_y=0.0, score=10.0, ambiguity=0.1),
        verdict=Verdict(state=state),
        in_volume=state != "bad",
    )


def failed(n, reason="locked"):
    return TiltFailed(series="TS", index=n, reason=reason)


def done():
    tomogram = Tomogram(path="/out/x", nx=1, ny=1, nz=1, binning=1, pixel_size_A=None, mean=0.0, sd=1.0)
    return FinishDone(
        series="TS",
        seconds=1.0,
        alignment=Alignment(method="coarse", axis_deg=0.0, views=()),
        tomogram=tomogram,
        files=(),
    )


def completed():
    return SeriesCompleted(series="TS", witness="operator", text="closed by the operator", tilts=1)


def letters(row):
    return "".join(one.letter for one in row.tilts.values())


def test_tilts_come_are_placed_fail_and_are_placed_after_all(story):
    story.tell(started(), opened(), received(0), received(1), received(2), received(3))
    assert letters(story.row()) == "...."
    story.tell(placed(0), placed(1, "doubtful"), placed(2, "bad"), failed(3))
    assert letters(story.row()) == "GDBF"
    assert story.row().tilts[3].failure == "locked"
    story.tell(placed(3))
    assert letters(story.row()) == "GDBG"
    assert [one.index for one in story.row().placed] == [0, 1, 2, 3]


def test_idle_time_tells_how_a_tilt_agrees_and_is_no_news_of_the_microscope(story):
    story.tell(opened(), received(0), placed(0))
    before = story.row().touched_s
    story.tell(TiltScored(series="TS", index=0, leave_one_out=0.4, views=3))
    assert story.row().tilts[0].agreement == 0.4
    assert story.row().touched_s == before


def test_what_is_known_of_a_series_stays_known(story):
    story.tell(opened(pixel_size_A=2.0, planned_tilts=41, tilt_axis_deg=0.0))
    story.tell(SeriesDescribed(series="TS", source="/data/TS.mdoc"))
    row = story.row()
    assert (row.pixel_size_A, row.planned, row.tilt_axis_deg, row.nx) == (2.0, 41, 0.0, 64)
    story.tell(SeriesDescribed(series="TS", source="m", planned_tilts=7, pixel_size_A=3.0, tilt_axis_deg=-85.0))
    assert (row.pixel_size_A, row.planned, row.tilt_axis_deg) == (3.0, 7, -85.0)


def test_late_metadata_moves_a_tilt(story):
    story.tell(opened(), received(0), TiltUpdated(series="TS", tilt=tilt(0, -60.0)))
    assert story.row().tilts[0].angle_deg == -60.0
    story.tell(TiltUpdated(series="TS", tilt=tilt(5, 10.0)))
    assert list(story.row().tilts) == [0], "a tilt that nobody told of is not made up"


def test_a_series_runs_to_its_tomogram(story):
    story.tell(opened(), received(0), placed(0), completed())
    assert (story.row().state, story.row().closed_by) == ("complete", "closed by the operator")
    story.tell(FinishStarted(series="TS", tilts=1), FinishStep(series="TS", step="align", fraction=0.3))
    assert (story.row().state, story.row().step, story.row().fraction) == ("finishing", "align", 0.3)
    story.tell(done())
    assert (story.row().state, story.row().fraction) == ("finished", 1.0)
    assert story.row().done is not None


def test_a_finishing_that_fails_says_why_until_it_is_tried_again(story):
    story.tell(opened(), completed(), FinishStarted(series="TS", tilts=1))
    story.tell(FinishFailed(series="TS", reason="killed", final=False))
    assert (story.row().state, story.row().failure) == ("complete", "killed")
    story.tell(FinishStarted(series="TS", tilts=1))
    assert (story.row().state, story.row().failure) == ("finishing", None)
    story.tell(FinishFailed(series="TS", reason="killed again", final=True))
    assert (story.row().state, story.row().failure) == ("failed", "killed again")


def test_a_late_tilt_opens_a_failed_series_without_its_old_failure(story):
    story.tell(opened(), completed(), FinishFailed(series="TS", reason="too few", final=True))
    story.tell(SeriesReopened(series="TS", reason="a tilt came late"), received(0))
    assert (story.row().state, story.row().failure, story.row().closed_by) == ("collecting", None, "")


def test_a_verdict_on_the_series_is_the_last_one(story):
    story.tell(opened(), SeriesJudged(series="TS", state="reject", reasons=("3 bad tilts in a row",)))
    assert story.row().judged.reasons == ("3 bad tilts in a row",)
    story.tell(SeriesJudged(series="TS", state="good"))
    assert story.row().judged.state == "good"


def test_pictures_are_kept_one_for_each_plane(story):
    for n in (1, 2):
        for plane in ("xy", "xz"):
            story.tell(Picture(series="TS", plane=plane, tilts=n, width=1, height=1, pixels=b"\x07"))
    assert {plane: picture.tilts for plane, picture in story.row().pictures.items()} == {"xy": 2, "xz": 2}


def test_an_envelope_that_comes_twice_changes_nothing(story):
    story.tell(opened(), received(0), placed(0))
    again = story.envelope(failed(0), seq=2)
    story.state.apply(again)
    assert letters(story.row()) == "G"
    assert (story.state.seq, story.state.missed) == (3, 0)


def test_envelopes_that_never_came_are_counted(story):
    story.tell(opened(), received(0))
    story.seq += 3
    story.tell(placed(4))
    assert story.state.missed == 3
    assert letters(story.row()) == ".G", "the tilt is shown though its arrival was missed"
    assert story.row().tilts[4].angle_deg == 12.0


def test_a_new_start_of_the_program_keeps_the_series_and_counts_anew(story):
    story.tell(started(), opened(), received(0))
    story.seq += 5
    story.tell(SessionEnded(reason="Ctrl-C"))
    assert story.state.missed == 5
    story.session, story.seq = "s2", 0
    story.tell(started(resumed=True), placed(0))
    assert (story.state.session, story.state.seq, story.state.missed) == ("s2", 2, 0)
    assert story.state.ended is None
    assert letters(story.row()) == "G"


def test_who_joins_late_without_a_snapshot_knows_what_was_missed(story):
    story.seq = 10
    story.tell(placed(0))
    assert story.state.missed == 10


def test_the_series_that_something_happened_to_last_is_the_active_one(story):
    assert story.state.active is None
    story.tell(opened(), opened(series="TS_2"), received(0))
    assert story.state.active.name == "TS"
    story.tell(Heartbeat(backlog=0), Warned(code="c", text="t", series="TS_2"))
    assert story.state.active.name == "TS"


def test_the_pace_is_the_median_of_the_last_intervals(story):
    story.tell(opened())
    assert story.row().interval_s is None
    for n in range(20):
        story.tell(received(n), time_s=1000.0 + (100 * n if n < 5 else 500 + 7 * n))
    assert story.row().interval_s == 7.0


def test_only_the_last_messages_are_kept(story):
    for n in range(MESSAGES_KEPT + 5):
        story.tell(Warned(code="c", text=str(n)), FileRefused(path=str(n), reason="r"))
    assert len(story.state.warnings) == len(story.state.refused) == MESSAGES_KEPT
    assert story.state.warnings[-1].text == story.state.refused[-1].path == str(MESSAGES_KEPT + 4)


def test_a_heartbeat_is_known_with_its_time(story):
    story.tell(Heartbeat(backlog=3, free_GB=None))
    assert (story.state.heartbeat.backlog, story.state.heartbeat_s, story.state.time_s) == (3, 1001.0, 1001.0)


def test_every_kind_of_event_is_taken_in(story):
    """A kind that was forgotten here, or in the state, would fail."""
    examples = [
        started(),
        opened(),
        SeriesDescribed(series="TS", source="m"),
        received(0),
        TiltUpdated(series="TS", tilt=tilt(0, 1.0)),
        placed(0),
        failed(1),
        FileRefused(path="p", reason="r"),
        Warned(code="c", text="t"),
        AxisMeasured(series="TS", axis_deg=1.0, nominal_deg=9.0, tilts=9),
        AlarmRaised(code="c", text="t"),
        AlarmCleared(code="c"),
        FolderAdded(path="/more"),
        FolderTested(path="/more", findings=()),
        FileRetried(path="p"),
        TiltRetried(series="TS", index=1),
        TiltExcluded(series="TS", index=1, reason="r"),
        TiltRestored(series="TS", index=1),
        TiltScored(series="TS", index=1, leave_one_out=0.5, views=9),
        messages.TiltRealigned(series="TS", index=4, shift_x=1.0, shift_y=2.0, moved_px=9.0, before=0.1, after=0.5),
        messages.VolumeRebuilt(series="TS", views=9, seconds=0.5),
        messages.VolumeIterated(series="TS", views=9, iterations=10, residual=0.3, binning=4, seconds=0.5),
        messages.VolumeSaved(series="TS", path="/out/TS/TS_live.mrc", views=9, seconds=0.5),
        SeriesTooFew(series="TS", usable=1, needed=5),
        SeriesJudged(series="TS", state="watch"),
        completed(),
        SeriesReopened(series="TS", reason="r"),
        FinishStarted(series="TS", tilts=1),
        FinishStep(series="TS", step="s", fraction=0.1),
        FinishFailed(series="TS", reason="r", final=False),
        done(),
        messages.FinishAsked(series="TS", overrides=("final.binning=2",)),
        messages.TomogramReady(series="TS", path="p", tilts=1),
        messages.SeriesRejected(series="TS", by="judge"),
        messages.SeriesDropped(series="TS", reason="r"),
        messages.FinishingPaused(),
        messages.FinishingResumed(),
        messages.OrderGiven(by="me", order={"command": "stop"}, ok=True, text="t"),
        Heartbeat(backlog=0),
        Picture(series="TS", plane="xy", tilts=1, width=1, height=1, pixels=b"\0"),
        SessionEnded(reason="r"),
    ]
    assert {type(one) for one in examples} == set(typing.get_args(messages.Event))
    story.tell(*examples)
    assert story.state.seq == len(examples)


def test_alarms_stand_until_they_are_cleared_or_the_program_starts_anew(story):
    story.tell(started(), AlarmRaised(code="tilt.late", text="a", about="/one"), AlarmRaised(code="behind", text="b"))
    story.tell(AlarmRaised(code="tilt.late", text="again", about="/one"))
    assert [alarm.text for alarm in story.state.alarms] == ["b", "again"]
    story.tell(AlarmCleared(code="behind"))
    assert [alarm.code for alarm in story.state.alarms] == ["tilt.late"]
    story.tell(started())
    assert story.state.alarms == []
    assert [past.alarm.text for past in story.state.past_alarms] == ["b", "again"], "nobody may have seen them"


def test_a_refused_file_is_one_until_it_is_looked_at_again_or_taken_in(story):
    image = received(0).tilt.image.path
    refused = [FileRefused(path=path, reason="r") for path in ("a", "b", image)]
    story.tell(*refused, FileRetried(path="a"))
    assert [one.path for one in story.state.refused] == ["b", image]
    story.tell(FileRefused(path="b", reason="again"), received(0))
    assert story.state.refused == [FileRefused(path="b", reason="again")]


def test_what_folders_are_like_is_known_for_this_run(story):
    finding = Finding(about="mount", text="ext4")
    story.tell(started(), FolderTested(path="/a", findings=()), FolderTested(path="/a", findings=(finding,)))
    assert story.state.tested == [FolderTested(path="/a", findings=(finding,))]
    story.tell(started())
    assert story.state.tested == []


def test_a_tilt_left_out_is_marked_so_and_counts_again(story):
    story.tell(opened(), received(0), placed(0), TiltExcluded(series="TS", index=0, reason="ice"))
    row = story.state.series["TS"].tilts[0]
    assert (row.letter, row.excluded) == ("X", "ice")
    story.tell(TiltRestored(series="TS", index=0))
    assert story.state.series["TS"].tilts[0].letter == "G"


def test_a_series_with_too_few_tilts_is_no_failure(story):
    story.tell(opened(), completed(), SeriesTooFew(series="TS", usable=2, needed=5))
    row = story.state.series["TS"]
    assert (row.state, row.failure) == ("too few", "2 usable tilts, 5 are needed (watch.min_tilts)")
