"""Each way of writing, by a simulated microscope in another process, and what the run tells of it.

One run watches all of them at once, each in a folder of its own; another one does so without events. What they open
and touch is recorded by an audit hook in every process of the run.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from streamtomo import messages
from streamtomo.publish import journal
from streamtomo.watch.images import read_image

SETTLE_S = 0.3
TILTS = 5
EVERY = ("--size", "128x128", "--tilts", TILTS, "--step", 15, "--interval", 0.3, "--thickness", 60, "--beads", 4)

WITH_EVENTS = {
    "stacks": ("serialem-stack", "--series", 4, "--interleaved", "--ending", "sort-aside", "--interval", 0.15),
    "second": ("serialem-stack", "--restart-after", 3),
    "tiffs": ("serialem-frames", "--frames", 3),
    "eers": ("tomo5", "--container", "eer", "--frames", 2, "--ending", "override"),
    "names": ("plain", "--container", "tif"),
}
BY_LISTING = {
    "stack": ("serialem-stack", "--ending", "sort"),
    "idoc": ("serialem-idoc",),
    "tomo5": ("tomo5", "--container", "mrc"),
    "movies": ("serialem-frames", "--container", "mrc", "--frames", 3, "--series", 3, "--interleaved"),
    "plain": ("plain",),
}

HOOK = """
import json, os, sys, time
SCOPE, LOG = os.environ["AUDITED"], os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND)

def hook(event, arguments):
    if event != "open" and not event.startswith(("os.", "shutil.", "fcntl.")):
        return
    paths = [os.fsdecode(one) for one in arguments if isinstance(one, (str, bytes, os.PathLike))]
    paths = [path for path in paths if os.path.abspath(path).startswith(SCOPE)]
    if not paths or event in ("os.listdir", "os.scandir", "os.walk"):
        return
    line = {"event": event, "path": paths[0], "now": time.time()}
    if event == "open":
        status = os.stat(paths[0])
        line |= {"mode": arguments[1], "flags": arguments[2], "size": status.st_size, "mtime": status.st_mtime}
    os.write(LOG, (json.dumps(line) + "\\n").encode())

sys.addaudithook(hook)
"""


class Session(NamedTuple):
    """What a run made of several microscopes' folders."""

    scope: Path
    truth: Path
    out: Path
    said: str
    audit: list


def session(tmp_path, writers, events):
    """Run and writers at the same time, each in a process of its own."""
    scope, truth, out, hooks = (tmp_path / name for name in ("scope", "truth", "out", "hooks"))
    for folder in (scope, hooks):
        folder.mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK)
    (log := tmp_path / "audit.jsonl").touch()
    audited = {"PYTHONPATH": str(hooks), "AUDITED": str(scope), "AUDIT_LOG": str(log)}
    run = start("run", scope, "--out", out, *options(events), env={**os.environ, **audited})
    wait_for(run, (out / "endpoint.json").exists)
    microscopes = [
        start(
            "simulate",
            scope / name,
            "--name",
            f"{name}_1",
            "--truth",
            truth,
            *EVERY,
            "--seed",
            10 * n,
            "--pattern",
            *how,
        )
        for n, (name, how) in enumerate(writers.items())
    ]
    for microscope in microscopes:
        said, _ = microscope.communicate(timeout=100)
        assert microscope.returncode == 0, said
    total = sum(len(json.loads(path.read_text())["views"]) for path in truth.glob("*.json"))
    said = end(run, out, total)
    return Session(scope, truth, out, said, [json.loads(line) for line in log.read_text().splitlines()])


def options(events):
    watch = {"settle_s": SETTLE_S, "relist_s": 0.5, "events": events, "min_tilts": 99}
    settings = [word for key, value in watch.items() for word in ("--set", f"watch.{key}={value}")]
    return ["--plain", "--set", "acquisition.tilt_axis_deg=85.3", *settings]


def end(run, out, tilts):
    """Stop a run that has placed so many tilts, a little later; what it said."""
    wait_for(run, lambda: len(events_of(out, messages.TiltPlaced)) >= tilts)
    time.sleep(5 * SETTLE_S)  # what would be told twice is told by now
    run.terminate()
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 0, said
    return said


def start(*arguments, before=(), **options):
    return subprocess.Popen(
        [*before, sys.executable, "-m", "streamtomo", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip


def wait_for(run, happened):
    until = time.monotonic() + 90
    while not happened() and time.monotonic() < until:
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.2)


def events_of(out, kind):
    return [one.event for one in journal.read(out / "journal.jsonl") if isinstance(one.event, kind)]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Both at once: they wait most of the time."""
    ways = {"auto": WITH_EVENTS, "off": BY_LISTING}
    with ThreadPoolExecutor(len(ways)) as threads:
        running = {
            events: threads.submit(session, tmp_path_factory.mktemp(events), writers, events)
            for events, writers in ways.items()
        }
        return {events: one.result() for events, one in running.items()}


@pytest.fixture(params=["auto", "off"])
def done(request, sessions):
    return sessions[request.param]


def told_tilts(out):
    """The last word on each tilt, by series."""
    tilts = {}
    for event in events_of(out, messages.TiltReceived | messages.TiltUpdated):
        tilts.setdefault(event.series, {})[event.tilt.index] = event.tilt.image
    return {series: [image for image in known.values() if image.gone is None] for series, known in tilts.items()}


def true_series(session):
    for path in sorted(session.truth.glob("*.json")):
        (folder,) = session.scope.glob(path.stem.rpartition("_")[0])
        yield folder, json.loads(path.read_text())


def test_every_series_is_told_whole_once_and_right(done):
    told = told_tilts(done.out)
    truths = list(true_series(done))
    assert sorted(told) == sorted(truth["series"] for _, truth in truths)
    for folder, truth in truths:
        images = told[truth["series"]]
        true = {round(view["read_deg"], 1): view for view in truth["views"]}
        assert sorted(round(image.angle_deg, 1) for image in images) == sorted(true), truth["series"]
        for image in images:
            view = true[round(image.angle_deg, 1)]
            assert abs(image.angle_deg - view["read_deg"]) < 0.06
            pixels = read_image(image.path, image.section, frames=image.frames)
            assert np.array_equal(pixels, read_image(folder / view["file"], view["section"], frames=image.frames))
        stamps = {round(image.angle_deg, 1): image.acquired_s or image.written_s for image in images}
        in_order = [stamps[angle] for angle in true]
        assert in_order == sorted(in_order)


def test_every_tilt_is_placed_and_nothing_fails(done):
    placed = Counter(event.series for event in events_of(done.out, messages.TiltPlaced))
    assert set(placed.values()) == {TILTS}
    assert events_of(done.out, messages.TiltFailed) == []
    assert "Traceback" not in done.said


def test_nothing_is_changed_below_the_watched_folder(done):
    assert done.audit, "the hook was there"
    assert [line for line in done.audit if line["event"] != "open"] == []
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    for line in done.audit:
        assert not (line["flags"] or 0) & writing, line
        assert set(line["mode"] or "rb") <= set("rb"), line


def test_no_image_is_opened_before_it_is_settled(done):
    for line in done.audit:
        path = Path(line["path"])
        if line["event"] == "open" and path.suffix not in (".mdoc", ".idoc") and not grows(path):
            assert line["now"] - line["mtime"] >= SETTLE_S - 0.05, line
            assert (path.stat().st_size, path.stat().st_mtime) == (line["size"], line["mtime"]), "opened too early"


def test_a_growing_stack_is_opened_once_for_each_section_to_be_read(done):
    opened = Counter(line["path"] for line in done.audit if line["event"] == "open" and grows(Path(line["path"])))
    for path, times in opened.items():
        assert times <= TILTS + 2, f"{path}: {times} times"  # and once when it was new, once after it was sorted


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && ! touch "$0/x" 2>/dev/null && exec "$@"'


def test_a_folder_mounted_read_only_is_processed_like_any_other(sessions, tmp_path):
    folder = sessions["off"].scope / "movies"
    mount = ("unshare", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, str(folder))
    if not shutil.which("unshare") or subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    expected = {name: images for name, images in told_tilts(sessions["off"].out).items() if name.startswith("movies")}
    run = start("run", folder, "--out", tmp_path / "out", *options("auto"), before=mount)
    end(run, tmp_path / "out", sum(map(len, expected.values())))
    told = told_tilts(tmp_path / "out")
    assert {series: angles(images) for series, images in told.items()} == {
        series: angles(images) for series, images in expected.items()
    }


def angles(images):
    return sorted(image.angle_deg for image in images)


def grows(path):
    return Path(f"{path}.mdoc").exists() or not path.exists()
