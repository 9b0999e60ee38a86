"""Events as lines of text: which get one, what it says, and that it is one line whatever a file is called."""

import re
import typing

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
from streamtomo.publish.lines import plain_line, printable

TILT = Tilt(index=3, image=RawImage(series="TS", path="/data/x", nx=64, ny=48, angle_deg=-9.0))
PLACED = TiltPlaced(
    series="TS",
    index=3,
    angle_deg=-9.0,
    correction=Correction(repaired=12, binning=1, mean=10.0, sd=1.0),
    placement=Placement(shift_x=1.25, shift_y=-200.0, score=25.4, ambiguity=0.1),
    verdict=Verdict(state="good"),
    in_volume=True,
    stage_ms={"total": 123.4},
)


def started(resumed=False):
    where = "processor (as set)"
    return SessionStarted(watched="/data", out="/out", host="h", pid=7, program="0.1", device=where, resumed=resumed)


def done(residual_px=None):
    return FinishDone(
        series="TS",
        seconds=12.3,
        alignment=Alignment(method="beads", axis_deg=0.0, views=(), residual_px=residual_px),
        tomogram=Tomogram(path="/out/TS_rec.mrc", nx=1, ny=1, nz=1, binning=1, pixel_size_A=None, mean=0.0, sd=1.0),
        files=(),
    )


def line(event):
    return plain_line(Envelope(version=VERSION, session="s", seq=1, time_s=0.0, event=event))


TOLD = [
    (started(), r"watching /data, results in /out \(streamtomo 0\.1, process 7, on the processor \(as set\)\)"),
    (started(resumed=True), "going on with /data, "),
    (SessionEnded(reason="Ctrl-C"), "ended: Ctrl-C"),
    (
        SeriesOpened(series="TS", source="s", nx=64, ny=48, pixel_size_A=2.17, tilt_axis_deg=85.3, planned_tilts=41),
        "TS  new series, 64 x 48, pixel 2.17 Å, axis 85.3°, 41 tilts planned",
    ),
    (SeriesOpened(series="TS", source="s", nx=64, ny=48), "64 x 48, pixel size unknown, axis unknown$"),
    (SeriesDescribed(series="TS", source="s", tilt_axis_deg=0.0), "TS  metadata, pixel size unknown, axis 0.0°$"),
    (PLACED, r"TS  tilt   3 at   -9\.0°  shift +\+1\.2 +-200\.0 px, peak +25\.4, 12 px repaired, 123 ms  good$"),
    (TiltFailed(series="TS", index=3, reason="locked"), r"TS  tilt 3 FAILED \(to be tried again\): locked"),
    (TiltFailed(series="TS", index=3, reason="cut", final=True), r"tilt 3 FAILED \(given up\): cut"),
    (TiltRetried(series="TS", index=3), "TS  tilt 3 is tried again"),
    (TiltExcluded(series="TS", index=3, reason="ice"), "TS  tilt 3 left out: ice"),
    (TiltRestored(series="TS", index=3), "TS  tilt 3 counts again"),
    (FolderAdded(path="/more"), "watching /more$"),
    (FolderAdded(path="/more", overrides=("a.b=1",)), "watching /more with a.b=1"),
    (
        FolderTested(
            path="/more",
            findings=(Finding(about="mount", text="ext4"), Finding(about="gain", text="is old", level="warning")),
        ),
        "folder /more: mount ext4; WARNING gain is old",
    ),
    (FileRetried(path="/data/y.mrc"), "looking again at /data/y.mrc"),
    (AlarmRaised(code="tilt.late", text="no new tilt"), "ALARM tilt.late: no new tilt"),
    (AlarmCleared(code="tilt.late", about="/data"), "alarm over: tilt.late /data"),
    (
        AxisMeasured(series="TS", axis_deg=83.1, nominal_deg=95.0, tilts=14),
        "TS  tilt axis 83.1° measured from 14 tilts, nominal 95.0°: the measured one is used",
    ),
    (SeriesTooFew(series="TS", usable=2, needed=5), "TS  too few tilts: 2 usable, 5 needed"),
    (FileRefused(path="/data/y.mrc", reason="is no MRC"), "REFUSED /data/y.mrc: is no MRC"),
    (Warned(code="disk.low", text="make room"), "WARNING disk.low: make room"),
    (SeriesJudged(series="TS", state="reject", reasons=("a", "b")), "TS  series reject: a; b"),
    (SeriesJudged(series="TS", state="good"), "TS  series good: nothing wrong any more"),
    (
        SeriesJudged(
            series="TS", state="watch", reasons=("a",), first_fault=3, usable="9 of 41 tilts", confidence=0.65
        ),
        "TS  series watch: a; first tilt at fault: 3; usable: 9 of 41 tilts; sure: 65%",
    ),
    (
        SeriesCompleted(series="TS", witness="count", text="41 of 41 planned tilts are here", tilts=41),
        r"TS  complete \(count\): 41 of 41 planned tilts are here",
    ),
    (SeriesReopened(series="TS", reason="a tilt came late"), "TS  open again: a tilt came late"),
    (messages.SeriesDropped(series="TS", reason="ice"), "TS  REJECTED by the operator: ice"),
    (messages.FinishAsked(series="TS", overrides=("final.binning=2",)), "TS  to be finished with final.binning=2"),
    (
        messages.TiltRealigned(series="TS", index=4, shift_x=1.0, shift_y=2.0, moved_px=9.0, before=0.1, after=0.5),
        r"TS  tilt 4 moved by 9\.0 px in the live volume: agreement with all others 0\.10, now 0\.50",
    ),
    (messages.FinishingPaused(), "finishing pauses: nothing is finished until it is resumed"),
    (messages.FinishingResumed(), "finishing goes on"),
    (
        messages.OrderGiven(
            by="alice",
            order={"command": "exclude", "series": "TS", "tilts": (1, 2), "reason": ""},
            ok=True,
            text="done",
        ),
        "order from alice: exclude TS 1 2: done",
    ),
    (
        messages.OrderGiven(by="bob", order={"command": "close", "series": "X"}, ok=False, text="no series X"),
        "order from bob: close X: REFUSED, no series X",
    ),
    (
        messages.VolumeSaved(series="TS", path="/out/TS/TS_live.mrc", views=9, seconds=0.5),
        r"TS  live volume of 9 views written: /out/TS/TS_live\.mrc",
    ),
    (FinishStarted(series="TS", tilts=41), "TS  finishing, 41 tilts"),
    (FinishStep(series="TS", step="track", fraction=0.2), "TS  finishing: track"),
    (FinishStep(series="TS", step="clean", fraction=0.0, skipped=True), r"TS  finishing: clean \(is good\)"),
    (done(0.314), r"TS  FINISHED in 12 s: 0 views aligned by beads, residual 0\.31 px; /out/TS_rec\.mrc"),
    (done(), "aligned by beads; /out"),
    (FinishFailed(series="TS", reason="killed", final=False), r"TS  FINISHING FAILED \(to be tried again\): killed"),
    (FinishFailed(series="TS", reason="killed", final=True), r"TS  FINISHING FAILED \(given up\): killed"),
]
SILENT = [
    messages.SeriesRejected(series="TS", by="judge"),
    messages.TomogramReady(series="TS", path="p", tilts=1),
    TiltScored(series="TS", index=1, leave_one_out=0.5, views=9),
    messages.VolumeRebuilt(series="TS", views=9, seconds=0.5),
    messages.VolumeIterated(series="TS", views=9, iterations=10, residual=0.3, binning=4, seconds=0.5),
    TiltReceived(series="TS", tilt=TILT),
    TiltUpdated(series="TS", tilt=TILT),
    Heartbeat(backlog=1),
    Picture(series="TS", plane="xy", tilts=1, width=1, height=1, pixels=b"\0"),
]


@pytest.mark.parametrize(("event", "words"), TOLD, ids=lambda value: type(value).__name__)
def test_a_line_says_what_happened(event, words):
    text = line(event)
    assert re.match(r"\d\d:\d\d:\d\d  ", text)
    assert re.search(words, text), text


def test_some_events_are_worth_no_line_and_none_is_forgotten():
    assert [line(event) for event in SILENT] == [None] * len(SILENT)
    kinds = {type(event) for event, _ in TOLD} | {type(event) for event in SILENT}
    assert kinds == set(typing.get_args(messages.Event))


def test_a_tilt_that_was_not_placed_says_why():
    verdict = Verdict(state="bad", reasons=("mean 0.01 of what the other tilts predict", "and more"))
    event = TiltPlaced(
        series="TS",
        index=0,
        angle_deg=0.0,
        correction=PLACED.correction,
        placement=None,
        verdict=verdict,
        in_volume=False,
    )
    assert line(event).endswith(
        "not placed, 12 px repaired, 0 ms  bad: mean 0.01 of what the other tilts predict; and more"
    )


def test_a_reconstruction_that_goes_on_is_told_once():
    steps = [FinishStep(series="TS", step="reconstruct", fraction=0.7, part=part) for part in (0.0, 0.2, 0.9)]
    assert [line(step) is not None for step in steps] == [True, False, False]


@pytest.mark.parametrize(
    "reason", ["two\nlines", "\x1b[2Jgone", "tab\there", "bell\a", "broken \udce9 name", "a\u2028b"]
)
def test_whatever_a_reason_holds_it_is_one_line_that_can_be_written(reason):
    text = line(TiltFailed(series="TS", index=0, reason=reason))
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    text.encode()


def test_letters_of_all_languages_stay():
    assert printable("Müller µ Å 東京 ± °") == "Müller µ Å 東京 ± °"
