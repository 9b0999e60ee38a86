"""The dashboard as text at several sizes, in every state of a session; reasons of red things; quick starts."""

import io
import subprocess
import sys

import pytest
from rich.console import Console

from streamtomo import messages
from streamtomo.messages import Envelope
from streamtomo.model import AlignedView, Alignment, Correction, Measure, Placement, RawImage, Tilt, Tomogram, Verdict
from streamtomo.publish.dashboard import render
from streamtomo.publish.lines import plain_line, printable
from streamtomo.publish.state import SessionState

SIZES = [(80, 24), (120, 40), (200, 60), (40, 10)]
NOW = 1_700_000_100.0


def state(*events, session="s"):
    """A session after some events, one a second."""
    result = SessionState()
    started = messages.SessionStarted(watched="/scope", out="/out", host="h", pid=1, program="0.1", resumed=False)
    for seq, event in enumerate((started, *events), start=1):
        result.apply(Envelope(version=1, session=session, seq=seq, time_s=NOW - 100 + seq, event=event))
    return result


def opened(name="TS_01"):
    return messages.SeriesOpened(
        series=name, source="/scope/a.mrc", nx=1024, ny=1024, pixel_size_A=10.8, tilt_axis_deg=85.3, planned_tilts=41
    )


def received(index, name="TS_01"):
    image = RawImage(series=name, path=f"/scope/{index}.mrc", nx=1024, ny=1024, angle_deg=3.0 * index)
    return messages.TiltReceived(series=name, tilt=Tilt(index=index, image=image), live=True)


def placed(index, verdict=None, name="TS_01"):
    return messages.TiltPlaced(
        series=name,
        index=index,
        angle_deg=3.0 * index,
        correction=Correction(repaired=12, binning=2, mean=100.0, sd=10.0),
        placement=Placement(shift_x=1.5, shift_y=-2.5, score=40.0, ambiguity=0.2, neighbour=0),
        verdict=verdict or Verdict(state="good"),
        in_volume=True,
        stage_ms={"read": 1.0, "align": 30.0, "total": 45.0},
    )


def picture(plane="xy", width=96, height=96):
    return messages.Picture(
        series="TS_01",
        plane=plane,
        tilts=2,
        width=width,
        height=height,
        pixels=bytes(range(256)) * (width * height // 256),
    )


BAD = Verdict(
    state="bad", reasons=("mean 0.01 of what the other tilts predict",), measures=(Measure(name="m", value=0.1),)
)
DONE = messages.FinishDone(
    series="TS_01",
    seconds=9.0,
    alignment=Alignment(
        method="beads",
        axis_deg=85.3,
        residual_px=0.05,
        views=(AlignedView(index=0, tilt_deg=0.0, xf=(1, 0, 0, 1, 0, 0)),),
    ),
    tomogram=Tomogram(
        path="/out/TS_01/TS_01_rec.mrc", nx=64, ny=64, nz=32, binning=1, pixel_size_A=10.8, mean=0.0, sd=1.0
    ),
    files=("/out/TS_01/TS_01_rec.mrc",),
)
FAILED = messages.TiltFailed(series="TS_01", index=2, reason="cut off", attempts=4, final=True)
LOW = messages.Warned(code="disk.low", text="make room")
RUNNING = (opened(), received(0), placed(0), received(1), placed(1), picture(), picture("xz", 96, 32))
STATES = {
    "nothing": (),
    "running": RUNNING,
    "bad tilt": (*RUNNING, received(2), placed(2, BAD)),
    "failed tilt": (*RUNNING, received(2), FAILED),
    "rejected": (*RUNNING, messages.SeriesJudged(series="TS_01", state="reject", reasons=("3 bad tilts in a row",))),
    "finishing": (
        *RUNNING,
        messages.SeriesCompleted(series="TS_01", witness="count", text="41 of 41", tilts=2),
        messages.FinishStarted(series="TS_01", tilts=2),
        messages.FinishStep(series="TS_01", step="align", fraction=0.25),
    ),
    "finished": (*RUNNING, messages.SeriesCompleted(series="TS_01", witness="count", text="all", tilts=2), DONE),
    "finishing failed": (*RUNNING, messages.FinishFailed(series="TS_01", reason="no room on the disk", final=True)),
    "warned": (*RUNNING, LOW, messages.FileRefused(path="/scope/x", reason="no image")),
    "ended": (*RUNNING, messages.SessionEnded(reason="Ctrl-C")),
    "many": tuple(opened(f"a series with a rather long name number {n}") for n in range(30)),
}  # fmt: skip


def screen(session, width, height, now=NOW - 90):
    console = Console(width=width, height=height, record=True, file=io.StringIO(), force_terminal=True)
    console.print(render(session, width, height, now))
    return console.export_text()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", STATES)
def test_every_state_fits_on_the_screen(name, size):
    lines = screen(state(*STATES[name]), *size).splitlines()
    assert len(lines) <= size[1]
    assert max(map(len, lines)) <= size[0]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("running", ["TS_01", "2/41", "good", "live volume, central xy"]),
        ("bad tilt", ["mean 0.01 of what the other tilts predict"]),
        ("failed tilt", ["cut off"]),
        ("rejected", ["reject", "3 bad tilts in a row"]),
        ("finishing", ["align", "25 %"]),
        ("finished", ["finished in 9 s"]),
        ("finishing failed", ["no room on the disk"]),
        ("warned", ["disk.low: make room", "refused /scope/x: no image"]),
        ("ended", ["ENDED: Ctrl-C"]),
    ],
)
def test_what_must_be_seen_is_on_it(name, told):
    text = screen(state(*STATES[name]), 120, 40)
    for words in told:
        assert words in text


def test_a_run_that_is_silent_is_shown_as_such():
    assert "NO SIGN OF LIFE for 95 s" in screen(state(*RUNNING), 120, 40, now=NOW + 3)


def test_names_cannot_steer_the_terminal():
    assert printable("a\x1b[2Jb\n") == "a [2Jb "
    event = messages.FileRefused(path="/scope/\x1b]0;x\x07.mrc", reason="no\nimage")
    line = plain_line(Envelope(version=1, session="s", seq=1, time_s=NOW, event=event))
    assert line.isprintable()
    assert "\x1b" not in screen(state(event), 120, 40)


@pytest.mark.parametrize("module", ["streamtomo.publish.dashboard", "streamtomo.publish.viewer", "streamtomo.cli"])
def test_viewers_start_without_numpy_and_numba(module):
    code = f"import sys, {module}; print([name for name in ('numpy', 'numba', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
