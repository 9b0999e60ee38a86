"""Killed at any instant, a run ends as if nothing had happened; on a full disk it waits for room."""

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from test_end_to_end import check_products, events, simulate, start, streamtomo, wait_for

from streamtomo import messages

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from crash_test import Plan, crash_test


@pytest.mark.parametrize("plan", [Plan(kills=3, tilts=8, series=2), Plan(kills=2, tilts=15, series=1, interval_s=0.15)])
def test_killed_at_random_instants_it_ends_as_an_undisturbed_run(plan, tmp_path):
    """The camera map, too, learns on as if nothing had been."""
    plan = replace(plan, size=256, align="coarse", longest_life_s=3.5)
    assert crash_test(tmp_path, plan).faults == []


@contextmanager
def small_disk(path, size):
    """A disk of its own; skips where that is not permitted."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(path):
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def warned(run, code):
    """Wait for an alarm in the run's own words: a full journal has none."""
    for line in run.stdout:
        if code in line:
            return line
    return pytest.fail(f"no line with {code!r}")


def test_a_full_disk_stops_the_lane_with_an_alarm_and_it_goes_on_when_there_is_room(tmp_path):
    watched, out = tmp_path / "scope", tmp_path / "out"
    simulate(watched, "--tilts", 7, "--step", 15, "--name", "TS_1")
    options = ("--set", "acquisition.planned_tilts=7", "--set", "final.align=coarse", "--set", "watch.settle_s=0.2")
    options = (*options, "--set", "alarms.reserve_GB=0")
    with small_disk(out, "2m"):
        run = start("run", watched, "--out", out, "--plain", *options)
        line = warned(run, "FINISHING FAILED")
        assert "TS_1" in line
        assert "to be tried again" in line
        assert "No space left on device" in line
        fill(out / "filler")
        simulate(watched, "--tilts", 7, "--step", 15, "--name", "TS_2")
        assert "journal.jsonl: cannot be written (No space left on device)" in warned(run, "journal")
        (out / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=300m", out], check=True)
        wait_for(run, out, lambda: len(events(out, messages.FinishDone)) == 2)
        assert streamtomo("stop", "--out", out).returncode == 0
        text, _ = run.communicate(timeout=30)
        assert run.returncode == 0, text
        for name in ("TS_1", "TS_2"):
            check_products(out / name, name, 7)
        placed = [(event.series, event.index) for event in events(out, messages.TiltPlaced)]
        assert sorted(placed) == [(name, n) for name in ("TS_1", "TS_2") for n in range(7)]
        assert not list(out.rglob("*.part"))


def test_a_folder_that_cannot_be_made_is_waited_for(tmp_path):
    watched, out = tmp_path / "scope", tmp_path / "out"
    simulate(watched, "--tilts", 7, "--step", 15, "--name", "TS_1")
    out.mkdir()
    (out / "TS_1").write_text("in the way\n")
    run = start("run", watched, "--out", out, "--plain", "--exit-when-idle", 1.5, "--set", "final.align=coarse")
    assert "to be tried again" in warned(run, "FINISHING FAILED")
    os.unlink(out / "TS_1")
    text, _ = run.communicate(timeout=60)
    assert run.returncode == 0, text
    check_products(out / "TS_1", "TS_1", 7)
