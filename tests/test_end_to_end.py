"""The whole job as its user does it: a simulated microscope writes, `streamtomo run` processes, files are opened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import msgspec
import numpy as np
import pytest

from streamtomo import messages
from streamtomo.export import imod
from streamtomo.publish import journal

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from alignment_error import compare

SIZE = "256x256"


def streamtomo(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "streamtomo", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        **options,
    )


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "streamtomo", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def simulate(folder, *options):
    done = streamtomo("simulate", folder, "--size", SIZE, "--interval", 0, "--truth", folder.parent / "truth", *options)
    assert done.returncode == 0, done.stderr


def events(out, kind):
    return [e.event for e in journal.read(out / "journal.jsonl") if isinstance(e.event, kind)]


def refused(out):
    return [Path(event.path).name for event in events(out, messages.FileRefused)]


def wait_for(run, out, happened):
    """Poll until it has happened; the run must not end meanwhile."""
    while not (out / "journal.jsonl").exists() or not happened():
        time.sleep(0.2)
        assert run.poll() is None, run.communicate()[0]


def check_products(folder, name, views):
    """What a scientist opens: rows agree, files are what they say they are."""
    etomofiles = pytest.importorskip("etomofiles")
    table = json.loads((folder / f"{name}_views.json").read_text())
    assert len(table["views"]) == views
    for suffix in (".rawtlt", ".tlt"):
        angles = np.ravel(etomofiles.read_tlt(folder / f"{name}{suffix}"))
        assert len(angles) == views
        assert (np.diff(angles) >= 0).all()
    for suffix in (".prexg", ".xf"):
        assert len(etomofiles.read_xf(folder / f"{name}{suffix}")) == views
    with mrcfile.open(folder / f"{name}_ali.mrc") as stack, mrcfile.open(folder / f"{name}_rec.mrc") as volume:
        assert stack.is_image_stack()
        assert stack.data.shape[0] == views
        assert volume.is_volume()
        assert volume.data.shape[1:] == stack.data.shape[1:]
        assert volume.voxel_size.x == pytest.approx(stack.voxel_size.x)
        assert np.isfinite(volume.data).all()
        assert volume.data.std() > 0
    assert (folder / f"{name}_rec_xy.png").read_bytes().startswith(b"\x89PNG")
    return table


def test_a_series_becomes_a_tomogram_while_it_is_written(tmp_path):
    watched, out = tmp_path / "scope", tmp_path / "out"
    watched.mkdir()
    run = start("run", watched, "--out", out, "--plain", "--exit-when-idle", 4, "--set", "acquisition.planned_tilts=15")
    options = ("--tilts", 15, "--step", 8, "--interval", 0.4, "--name", "TS_01")
    done = streamtomo("simulate", watched, "--size", SIZE, *options, "--truth", tmp_path / "truth")
    assert done.returncode == 0, done.stderr
    text, _ = run.communicate(timeout=150)
    assert run.returncode == 0, text
    check_products(out / "TS_01", "TS_01", 15)
    placed = events(out, messages.TiltPlaced)
    assert sorted(e.index for e in placed) == list(range(15))
    assert [e.witness for e in events(out, messages.SeriesCompleted)] == ["count"]
    assert "tomogram" in text
    assert not (out / "endpoint.json").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--pattern", "serialem-frames", "--axis", -12, "--scheme", "bidirectional", "--size", "320x400"),
        ("--pattern", "tomo5", "--axis", 175, "--size", "300x300"),
        ("--pattern", "plain", "--container", "tif", "--scheme", "unidirectional", "--size", "320x320"),
    ],
    ids=["TIFF files and mdoc, both ways", "mdoc at the end", "names alone, one way"],
)
def test_the_finish_is_nearer_to_the_truth_than_the_live_placements(tmp_path, options):
    watched, out = tmp_path / "scope", tmp_path / "out"
    specimen = ("--thickness", 60, "--beads", 8)
    simulate(watched, "--tilts", 21, "--step", 6, "--name", "TS_01", *specimen, *options)
    axis = options[options.index("--axis") + 1] if "--axis" in options else 85.3
    settings = ("--set", f"acquisition.tilt_axis_deg={axis}", "--exit-when-idle", 1.5)
    run = streamtomo("run", watched, "--out", out, "--plain", *settings)
    assert run.returncode == 0, run.stdout + run.stderr
    (folder,) = (path for path in out.iterdir() if path.is_dir() and path.name != ".live")
    check_products(folder, folder.name, 21)
    truth = json.loads((tmp_path / "truth" / "TS_01.json").read_text())
    live, final = (compare(folder, truth, final=final) for final in (False, True))
    assert live.rms < 10.0
    assert final.rms < min(0.1, live.rms)


def test_the_journal_shows_what_was_made_better_between_tilts(tmp_path):
    scope, watched, out = tmp_path / "scope", tmp_path / "watched", tmp_path / "out"
    simulate(scope, "--tilts", 7, "--step", 6, "--name", "TS_01", "--pattern", "plain")
    *first, last = sorted(scope.iterdir())
    watched.mkdir()
    for path in first:
        shutil.copy(path, watched)
    run = start("run", watched, "--out", out, "--plain")
    wait_for(run, out, lambda: events(out, messages.VolumeIterated))
    shutil.copy(last, watched)
    wait_for(run, out, lambda: any(event.views == 7 for event in events(out, messages.VolumeIterated)))
    assert streamtomo("stop", "--out", out).returncode == 0
    run.communicate(timeout=30)
    placed, rebuilt, scored, iterated = (
        [one.seq for one in journal.read(out / "journal.jsonl") if isinstance(one.event, kind)]
        for kind in (messages.TiltPlaced, messages.VolumeRebuilt, messages.TiltScored, messages.VolumeIterated)
    )
    for between in (rebuilt, scored, iterated):
        assert any(placed[-2] < seq < placed[-1] for seq in between)
        assert any(placed[-1] < seq for seq in between)


def test_nothing_is_written_into_the_watched_folder(tmp_path):
    watched, out = tmp_path / "scope", tmp_path / "out"
    simulate(watched, "--tilts", 7, "--step", 15, "--name", "TS_01")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(watched.rglob("*"))}
    run = streamtomo("run", watched, "--out", out, "--plain", "--exit-when-idle", 1.5)
    assert run.returncode == 0, run.stdout + run.stderr
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(watched.rglob("*"))} == before


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_and_takes_up_again(tmp_path, sign):
    watched, out = tmp_path / "scope", tmp_path / "out"
    simulate(watched, "--tilts", 7, "--step", 15, "--name", "TS_01")
    run = start("run", watched, "--out", out, "--plain")
    wait_for(run, out, lambda: events(out, messages.TiltPlaced))
    run.send_signal(sign)
    text, _ = run.communicate(timeout=30)
    assert run.returncode == 0, text
    assert "streamtomo ended: " in text
    assert events(out, messages.SessionEnded)
    again = streamtomo("run", watched, "--out", out, "--plain", "--exit-when-idle", 1.5)
    assert again.returncode == 0, again.stdout
    assert len(events(out, messages.TiltReceived)) == 7
    check_products(out / "TS_01", "TS_01", 7)


def test_bad_input_is_named_once_and_costs_nothing_else(tmp_path):
    watched, out = tmp_path / "scope", tmp_path / "out"
    simulate(watched, "--tilts", 7, "--step", 15, "--name", "TS_01")
    (watched / "empty_0.0.mrc").touch()
    (watched / "text_3.0.mrc").write_text("this is a shopping list, not an image\n" * 100)
    whole = next(watched.glob("TS_01*.mrc")).read_bytes()
    (watched / "cut_001_6.0.mrc").write_bytes(whole[: 1024 + 1000])
    (watched / "cut_001_9.0.tif").write_bytes(b"II*\x00\x08\x00\x00\x00\x05\x00")
    (watched / "half.mrc.mdoc").write_text("PixelSpacing = 5.4\r\nImageFile = half.mrc\r\n\r\n[ZValue = 0]\r\nTiltAn")
    options = ("--set", "watch.settle_s=0.2", "--set", "acquisition.planned_tilts=7")
    run = start("run", watched, "--out", out, "--plain", *options)
    bad = {"empty_0.0.mrc", "text_3.0.mrc", "cut_001_6.0.mrc", "cut_001_9.0.tif"}
    wait_for(run, out, lambda: bad <= set(refused(out)) and events(out, messages.FinishDone))
    assert streamtomo("stop", "--out", out).returncode == 0
    text, _ = run.communicate(timeout=30)
    check_products(out / "TS_01", "TS_01", 7)
    assert len(refused(out)) == len(set(refused(out))), "each file once"
    assert "Traceback" not in text


def test_it_refuses_to_start_where_it_cannot_work(tmp_path):
    watched = tmp_path / "scope"
    watched.mkdir()
    (tmp_path / "file").touch()
    for out, told in (
        (tmp_path / "file" / "out", "cannot be written"),
        (watched / "out", "lies in the watched folder"),
    ):
        run = streamtomo("run", watched, "--out", out, "--plain")
        assert run.returncode == 1
        assert told in run.stderr
        assert len(run.stderr.splitlines()) == 1
    run = streamtomo("run", tmp_path / "nowhere", "--out", tmp_path / "out", "--plain")
    assert "is no folder" in run.stderr


def test_another_terminal_sees_the_run_and_closes_the_series(tmp_path):
    watched, out = tmp_path / "scope", tmp_path / "out"
    simulate(watched, "--tilts", 7, "--step", 15, "--name", "TS_01")
    now = time.time()
    for path in watched.iterdir():
        os.utime(path, (now, now))
    run = start("run", watched, "--out", out, "--plain")
    wait_for(run, out, lambda: len(events(out, messages.TiltPlaced)) == 7)
    status = streamtomo("status", out, "--json")
    assert status.returncode == 0, status.stderr
    assert "TS_01" in json.dumps(json.loads(status.stdout))
    assert streamtomo("close", "TS_01", "--out", out).returncode == 0
    assert streamtomo("close", "nobody", "--out", out).returncode == 1
    wait_for(run, out, lambda: events(out, messages.FinishDone))
    assert streamtomo("stop", "--out", out).returncode == 0
    text, _ = run.communicate(timeout=30)
    assert run.returncode == 0, text
    assert streamtomo("status", out).returncode == 1


def test_two_runs_do_not_share_an_output_folder(tmp_path):
    watched, out = tmp_path / "scope", tmp_path / "out"
    watched.mkdir()
    run = start("run", watched, "--out", out, "--plain")
    wait_for(run, out, (out / "endpoint.json").exists)
    second = streamtomo("run", watched, "--out", out, "--plain")
    assert second.returncode == 1
    assert "another run writes there" in second.stderr
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=30)


def test_summary_is_valid_json(tmp_path):
    """The views left out are missing from all files, and named with their reason."""
    watched, out = tmp_path / "scope", tmp_path / "out"
    simulate(watched, "--tilts", 9, "--step", 12, "--dark", "4", "--name", "TS_01")
    run = streamtomo("run", watched, "--out", out, "--plain", "--exit-when-idle", 1.5)
    assert run.returncode == 0, run.stdout + run.stderr
    table = check_products(out / "TS_01", "TS_01", 8)
    assert len(table["left_out"]) == 1
    assert "predict" in table["left_out"][0]["reason"] or table["left_out"][0]["reason"]
    summary = msgspec.json.decode((out / "TS_01" / "TS_01_summary.json").read_bytes())
    assert summary["tomogram"]["nx"] == 256
    assert imod.read_angles(out / "TS_01" / "TS_01.tlt").shape == (8,)
