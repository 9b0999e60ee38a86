"""A cluster of two workers, one of which is killed at work: what comes of it is what comes of no cluster."""

import os
import subprocess
import sys
import threading
import time

import mrcfile
import msgspec
import numpy as np
import pytest

from streamtomo.config import Cluster, Final, Settings
from streamtomo.finish import recipe
from streamtomo.finish.recipe import FinishJob, JobTilt
from streamtomo.finishing import FinishingLane
from streamtomo.messages import FinishDone, FinishFailed, FinishStep, Warned
from streamtomo.model import Placement, RawImage, Tilt

pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")
TILTS, SIDE = tuple(range(-50, 51, 10)), 192


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Its address, its processes, of which the first is the scheduler, and what begins one more worker."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": folder}
    dask = [sys.executable, "-m", "dask"]
    told = folder / "scheduler.json"
    listen = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    processes = [subprocess.Popen([*dask, "scheduler", *listen, "--scheduler-file", str(told)], **quiet)]
    alone = ["--no-nanny", "--nthreads", "1", "--no-dashboard"]
    worker = [*dask, "worker", *alone, "--local-directory", str(folder), "--scheduler-file", str(told)]
    begin = lambda: processes.append(subprocess.Popen(worker, **quiet)) or processes[-1]  # noqa: E731
    begin(), begin()
    deadline = time.monotonic() + 60
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    address = msgspec.json.decode(told.read_bytes())["address"]
    yield address, processes, begin
    for process in reversed(processes):
        process.kill()
        process.wait()


def _wait_for_workers(address):
    from distributed import Client

    with Client(address, timeout=30, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    path = tmp_path_factory.mktemp("scope") / "TS.mrc"
    images = np.random.default_rng(3).poisson(200, (len(TILTS), SIDE, SIDE)).astype(np.int16)
    with mrcfile.new(path) as file:
        file.set_data(images)
        file.set_image_stack()
    return path


def job_of(stack, folder, cluster=Cluster()):  # noqa: B008
    tilts = tuple(
        JobTilt(
            tilt=Tilt(index=n, image=RawImage(series="TS", path=str(stack), section=n, nx=SIDE, ny=SIDE, angle_deg=t)),
            placement=Placement(shift_x=0.0, shift_y=0.0, score=20.0, ambiguity=0.2),
        )
        for n, t in enumerate(map(float, TILTS))
    )
    final = Final(align="coarse", position="off")
    return FinishJob(
        series="TS", folder=str(folder / "TS"), settings=Settings(final=final, cluster=cluster), axis_deg=5.0,
        pixel_size_A=10.0, tilts=tilts,
    )  # fmt: skip


@pytest.fixture(scope="module")
def local(stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    recipe.run(job_of(stack, folder), lambda event: None)
    return mrcfile.read(folder / "TS" / "TS_rec.mrc")


def test_a_tomogram_is_made_in_blocks_though_a_worker_is_killed(cluster, stack, local, tmp_path):
    address, processes, _ = cluster
    _wait_for_workers(address)
    told = []

    def say(event):
        told.append(event)
        if isinstance(event, FinishStep) and event.step == "reconstruct" and event.part > 0.1:
            processes[1].kill()

    done = recipe.run(job_of(stack, tmp_path, Cluster(scheduler=address, takes="blocks")), say)
    assert done is not None
    assert processes[1].wait() < 0
    assert not [event for event in told if isinstance(event, Warned) and event.code.startswith("cluster")]
    assert np.array_equal(mrcfile.read(tmp_path / "TS" / "TS_rec.mrc"), local)


def test_a_whole_series_is_finished_though_its_worker_is_killed(cluster, stack, local, tmp_path):
    """The one that has it is killed in the middle: the other one goes on where the files are good."""
    address, processes, begin = cluster
    begin()
    _wait_for_workers(address)
    over, told, killed = threading.Event(), [], []

    def tell(_, event):
        told.append(event)
        if isinstance(event, FinishStep) and event.step == "stack" and not killed:
            killed.extend(one for one in processes[1:] if one.poll() is None and psutil.Process(one.pid).children())
            killed[0].kill()
        if isinstance(event, FinishDone | FinishFailed):
            over.set()

    lane = FinishingLane(tell)
    lane.start()
    lane.submit(job_of(stack, tmp_path, Cluster(scheduler=address)))
    assert over.wait(120)
    lane.stop()
    lane.join()
    assert isinstance(told[-1], FinishDone), told[-1]
    assert killed[0].wait() < 0
    skipped = [event.step for event in told if isinstance(event, FinishStep) and event.skipped]
    assert skipped[:3] == ["collect", "clean", "coarse"]
    assert np.array_equal(mrcfile.read(tmp_path / "TS" / "TS_rec.mrc"), local)


def test_a_worker_ends_what_nobody_wants_any_more(cluster, stack, tmp_path):
    """As when the run is stopped: whoever asked is gone."""
    address, processes, _ = cluster
    begun = threading.Event()
    lane = FinishingLane(lambda _, event: begun.set() if isinstance(event, FinishStep) else None)
    lane.start()
    lane.submit(job_of(stack, tmp_path, Cluster(scheduler=address)))
    assert begun.wait(60)
    (child,) = [child for one in processes if one.poll() is None for child in psutil.Process(one.pid).children()]
    child.suspend()  # it must not end by itself
    lane.stop()
    lane.join()
    child.wait(20)


def test_without_a_cluster_the_series_is_finished_here(stack, local, tmp_path, monkeypatch):
    monkeypatch.setattr("streamtomo.cluster.CONNECT_S", 0.3)
    told = []
    job = job_of(stack, tmp_path, Cluster(scheduler="tcp://127.0.0.1:9", takes="blocks"))
    assert recipe.run(job, told.append) is not None
    assert [event.code for event in told if isinstance(event, Warned)].count("cluster.unreachable") == 1
    assert np.array_equal(mrcfile.read(tmp_path / "TS" / "TS_rec.mrc"), local)
