"""Runs with a quick lane and a quick finisher: the engine as it is, without the work."""

import threading

import mrcfile
import numpy as np
import pytest

from streamtomo.config import Publish, Settings, Watch
from streamtomo.engine import Engine
from streamtomo.messages import (
    FinishDone,
    FinishStarted,
    SessionStarted,
    TiltPlaced,
)
from streamtomo.model import Alignment, Correction, Placement, Tomogram, Verdict
from streamtomo.publish import journal


def settings(port=5900, min_tilts=5):
    watch = Watch(settle_s=0.05, relist_s=0.05, min_tilts=min_tilts)
    return Settings(publish=Publish(port=port), watch=watch)


def run(engine):
    """A run in a thread of its own, begun."""
    begun = threading.Event()
    engine.listeners.append(lambda one: begun.set() if isinstance(one.event, SessionStarted) else None)
    thread = threading.Thread(target=engine.run, daemon=True)
    thread.start()
    assert begun.wait(20)
    return thread


def placed(job):
    return TiltPlaced(
        series=job.tilt.image.series,
        index=job.tilt.index,
        angle_deg=job.tilt.image.angle_deg,
        correction=Correction(repaired=0, binning=1, mean=10.0, sd=1.0),
        placement=Placement(shift_x=0.0, shift_y=0.0, score=10.0, ambiguity=0.1),
        verdict=Verdict(state="good"),
        in_volume=True,
    )


class QuickLane:
    """Places every tilt without looking at it."""

    def __init__(self, settings, out):
        self.settings = settings

    def start(self, unfinished, before):
        pass

    def close(self):
        pass

    def finished(self, name):
        pass

    def process(self, job):
        return [placed(job)]

    def learn(self):
        return []

    def refine_when_idle(self, interrupted):
        return []


class QuickFinisher(threading.Thread):
    """Finishes every series without doing anything."""

    def __init__(self, tell):
        super().__init__()
        self.tell = tell

    def submit(self, job):
        self.tell(job, FinishStarted(series=job.series, tilts=len(job.tilts)))
        self.tell(job, done(job.series))

    def cancel(self, job):
        pass

    def hold(self, *, still):
        pass

    def stop(self):
        pass

    def run(self):
        pass


def done(series):
    return FinishDone(
        series=series,
        seconds=1.0,
        alignment=Alignment(method="coarse", axis_deg=0.0, views=()),
        tomogram=Tomogram(path="/out/x", nx=1, ny=1, nz=1, binning=1, pixel_size_A=None, mean=0.0, sd=1.0),
        files=(),
    )


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("streamtomo.warmup.warm_live", lambda settings: None)
    monkeypatch.setattr("streamtomo.lanes.Lane", QuickLane)
    monkeypatch.setattr("streamtomo.lanes.FinishingLane", QuickFinisher)


@pytest.fixture
def scope(tmp_path):
    """A watched folder with a series of six tilts."""
    folder = tmp_path / "scope"
    folder.mkdir()
    for n in range(6):
        mrcfile.write(folder / f"TS_{n:03d}_{3.0 * n:.1f}.mrc", np.full((32, 32), n, np.int16))
    return folder


def run_until_idle(scope, out, **options):
    engine = Engine(scope, out, settings(**options), exit_when_idle_s=0.8)
    engine.run()
    return engine


def told(out, kind):
    return [one.event for one in journal.read(out / "journal.jsonl") if isinstance(one.event, kind)]


def write_series(folder, name, angles):
    folder.mkdir(exist_ok=True)
    for n, angle in enumerate(angles):
        mrcfile.write(folder / f"{name}_{n:03d}_{angle:.1f}.mrc", np.full((32, 32), n, np.int16))


def wait_for(engine, condition, *, begin=lambda: None, seconds=20):
    """Until an event makes the condition true."""
    done = threading.Event()
    engine.listeners.append(lambda one: done.set() if condition(one.event) else None)
    begin()
    assert done.wait(seconds)
