"""The dashboard as text at several sizes, in every state of a session; reasons of red things; quick starts."""

import io
import socket
import subprocess
import sys

import msgspec
import pytest
from rich.console import Console

from streamtomo import messages
from streamtomo.errors import BusError
from streamtomo.messages import Answer, Envelope
from streamtomo.model import AlignedView, Alignment, Correction, Measure, Placement, RawImage, Tilt, Tomogram, Verdict
from streamtomo.publish import viewer
from streamtomo.publish.bus import Publisher
from streamtomo.publish.dashboard import render
from streamtomo.publish.halfblocks import HalfBlocks
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


def test_what_was_measured_of_the_marked_tilt_is_shown_what_fails_first():
    measures = (
        Measure(name="agreement", value=0.9123, limit=0.5),
        Measure(name="defocus", value=7.3, expected=3.2, limit=6.2, state="bad"),
        Measure(name="thickness", value=0.61),
    )
    session = state(*RUNNING, received(2), placed(2, Verdict(state="bad", reasons=("x",), measures=measures)))
    assert "defocus 7.3/6.2 B  agreement 0.912/0.5  thickness 0.61" in screen(session, 120, 40)


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


@pytest.mark.parametrize("module", ["status", "dashboard", "close", "stop", "init"])
def test_verbs_that_only_look_import_no_numpy_when_they_run(module, tmp_path):
    given = {"close": ["TS", "--out", "nowhere"], "stop": ["--out", "nowhere"], "init": ["x.toml"]}
    arguments = [module, *given.get(module, ["/nowhere"])]
    code = f"import sys; from streamtomo.cli import main; main({arguments}); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = set(done.stdout.splitlines()[-1].strip("[]'").split("', '"))
    assert "msgspec" in loaded
    assert not loaded & {"numpy", "numba", "scipy", "mrcfile", "tifffile"}


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=str)
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("bad tilt", "B bad: mean 0.01 of what the other tilts predict"),
        ("failed tilt", "F cut off"),
        ("rejected", "reject: 3 bad tilts in a row"),
        ("finishing failed", "failed: no room on the disk"),
    ],
)
def test_what_is_red_says_why_on_every_screen(name, told, size):
    assert told in screen(state(*STATES[name]), *size)


def test_a_finishing_that_is_tried_again_says_what_went_wrong():
    failed = messages.FinishFailed(series="TS_01", reason="killed by the system", final=False)
    assert "to be tried again: killed by the system" in screen(state(*RUNNING, failed), 80, 24)


def test_the_last_of_many_troubles_is_shown():
    others = [messages.Warned(code="other", text=f"number {n}") for n in range(200)]
    text = screen(state(*RUNNING, received(2), FAILED, *others), 80, 24)
    assert "F cut off" in text
    assert "number 199" in text
    assert "earlier messages: see streamtomo.log" in text


def test_a_long_name_leaves_room_for_the_reason():
    name = "Position_12_of_a_grid_with_a_name_that_never_ends"
    refused = messages.SeriesJudged(series=name, state="reject", reasons=("3 bad tilts in a row",))
    assert "reject: 3 bad tilts in a row" in screen(state(opened(name), refused), 80, 24)


@pytest.mark.parametrize("size", [(1, 1), (8, 3), (20, 5), (79, 11)], ids=str)
@pytest.mark.parametrize("name", STATES)
def test_a_tiny_terminal_is_no_reason_to_fail(name, size):
    screen(state(*STATES[name]), *size)


def test_what_is_not_known_is_left_out():
    bare = messages.SeriesOpened(series="TS_01", source="s", nx=0, ny=0)
    tilt = msgspec.structs.replace(placed(0, BAD), placement=None, stage_ms={})
    text = screen(state(bare, tilt, messages.Heartbeat(backlog=0)), 120, 40)
    assert "None" not in text
    assert "nan" not in text


def test_tilts_beyond_the_ends_of_the_bar_are_at_its_ends():
    ends = [msgspec.structs.replace(placed(n), angle_deg=angle) for n, angle in enumerate((-120.0, 0.0, 120.0))]
    bar = next(line for line in screen(state(*ends), 80, 24).splitlines() if line.startswith("TS_01"))
    assert bar.split()[2].strip("·") == bar.split()[2]


def test_a_picture_keeps_its_proportions_and_its_top_at_the_top():
    pixels = bytes([255] * 8 * 4 + [0] * 8 * 4)
    grey = messages.Picture(series="TS", plane="xy", tilts=1, width=8, height=8, pixels=pixels)
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="256")
    lines = console.render_lines(HalfBlocks(grey, 80, 80), pad=False)
    cells = [[segment.style for segment in line if segment.text == "▀"] for line in lines if line]
    cells = [line for line in cells if line]
    assert (len(cells), {len(line) for line in cells}) == (4, {8})
    shades = [line[0].color.number for line in cells]
    assert shades[0] > 250 > 235 > shades[-1] >= 232
    plain = Console(width=80, file=io.StringIO(), no_color=True)
    lines = [
        "".join(segment.text for segment in line) for line in plain.render_lines(HalfBlocks(grey, 80, 80), pad=False)
    ]
    assert (lines[0], lines[3]) == ("█" * 8, " " * 8)


# -- viewers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def endpoint(tmp_path):
    """A run that answers with one state."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = state(*STATES["finishing failed"], messages.Heartbeat(backlog=3, waiting_for="tilt 3 of 41"))
    publisher = Publisher(
        session="s",
        bind="127.0.0.1",
        port=port,
        curve_keys=None,
        snapshot=lambda: msgspec.json.encode(told),
        command=lambda _, by: Answer(ok=True, text=""),
        command_socket=tmp_path / ".command",
    )
    yield publisher.endpoint
    publisher.close()


def test_status_tells_in_words_what_a_run_is_doing(endpoint, capsys):
    assert viewer.status(endpoint, json=False) == 0
    text = capsys.readouterr().out
    for words in ("watching /scope, results in /out", "3 tilts in the queue; next: tilt 3 of 41", "2 of 41 tilts"):
        assert words in text
    assert "failed     GG  no room on the disk" in text


def test_status_names_alarms_and_refused_files_with_what_to_do():
    refused = [messages.FileRefused(path=f"/scope/{n}.mrc", reason="is no MRC file") for n in range(12)]
    alarm = messages.AlarmRaised(code="folder.gone", text="/scope: cannot be listed", about="/scope")
    lines = viewer._lines(state(*STATES["finishing failed"], alarm, *refused))
    assert "ALARM /scope: cannot be listed" in lines
    assert "REFUSED /scope/11.mrc: is no MRC file" in lines
    assert "REFUSED /scope/1.mrc: is no MRC file" not in lines
    assert lines[-2:] == [
        "2 other files were refused before (--json has them)",
        "To have one looked at again: streamtomo retry --file FILE --out /out",
    ]


def test_status_is_json_on_request_without_the_pixels(endpoint, capsys):
    assert viewer.status(endpoint, json=True) == 0
    told = msgspec.json.decode(capsys.readouterr().out, type=SessionState)
    assert told.series["TS_01"].failure == "no room on the disk"
    assert told.series["TS_01"].pictures == {}


def test_status_of_nobody_says_so(monkeypatch):
    monkeypatch.setattr(viewer, "ANSWER_S", 0.05)
    with pytest.raises(BusError, match="no answer; is a run active there"):
        viewer.status("tcp://127.0.0.1:9", json=False)
