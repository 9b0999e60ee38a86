"""The finishing lane: a process for each job, its words, its end."""

import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from runs import done

from streamtomo.config import Settings
from streamtomo.errors import OutputError
from streamtomo.finish.recipe import FinishJob
from streamtomo.finishing import FinishingLane
from streamtomo.messages import (
    FinishDone,
    FinishFailed,
    FinishStarted,
    FinishStep,
    Warned,
)


def job(folder):
    return FinishJob(series="TS", folder=str(folder), settings=Settings(), axis_deg=0.0, pixel_size_A=None, tilts=())


def finish(program, *jobs, prepared=False):
    """What a lane with this program tells about the jobs; each outcome is waited for."""
    heard, outcome = [], threading.Semaphore(0)

    def tell(_job, event):
        heard.append(event)
        if isinstance(event, FinishDone | FinishFailed):
            outcome.release()

    lane = FinishingLane(tell, (sys.executable, "-c", program))
    lane.start()
    for one in jobs:
        if prepared:
            lane.prepare(one.settings)
        lane.submit(one)
        assert outcome.acquire(timeout=60)
    lane.stop()
    lane.join(20)
    assert not lane.is_alive()
    return heard


def printing(*events, then=""):
    lines = [msgspec.json.encode(event).decode() for event in events]
    return f"import sys\nfor line in {lines!r}: print(line)\n{then}"


def test_a_job_is_written_down_and_its_steps_and_result_are_told(tmp_path):
    step = FinishStep(series="TS", step="align", fraction=0.5)
    heard = finish(printing(step, done("TS")), job(tmp_path / "TS"))
    assert heard == [FinishStarted(series="TS", tilts=0), step, done("TS")]
    assert msgspec.json.decode((tmp_path / "TS" / "TS_job.json").read_bytes(), type=FinishJob) == job(tmp_path / "TS")


def test_warnings_of_the_process_are_told(tmp_path):
    warned = Warned(code="position.disagrees", text="TS: in doubt", series="TS")
    assert finish(printing(warned, done("TS")), job(tmp_path))[1:] == [warned, done("TS")]


@pytest.mark.parametrize("noise", ["'hello'", '\'{"kind":"picture"}\'', "'[' * 50000", "'\\0'"])
def test_a_library_that_prints_does_no_harm(tmp_path, noise):
    heard = finish(f"print({noise})\n" + printing(done("TS")), job(tmp_path))
    assert heard[-1] == done("TS")


def test_bytes_that_are_no_text_do_no_harm(tmp_path):
    noise = "import sys; sys.stdout.buffer.write(b'\\xff\\n'); sys.stderr.buffer.write(b'\\xff\\n')\n"
    assert finish(noise + printing(done("TS")), job(tmp_path))[-1] == done("TS")


def test_a_process_that_dies_is_a_failure_with_its_last_words(tmp_path):
    failed = finish("import sys; print('no room', file=sys.stderr); sys.exit(7)", job(tmp_path))[-1]
    assert failed.reason == "the finishing process ended with status 7: no room"
    assert not failed.final
    assert "status -9: no message" in finish("import os; os.kill(os.getpid(), 9)", job(tmp_path))[-1].reason


def test_a_job_that_cannot_even_start_does_not_end_the_lane(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    heard = finish(printing(done("TS")), job(tmp_path / "file"), job(tmp_path))
    assert "cannot start" in heard[1].reason
    assert heard[-1] == done("TS")

    def full(*_):
        raise OutputError("no space left")

    with monkeypatch.context() as disk:
        disk.setattr("streamtomo.finishing.write_text", full)
        assert finish("", job(tmp_path))[-1].reason == "cannot start: no space left"


def test_a_stop_ends_the_process_at_work_without_a_word(tmp_path):
    heard, begun = [], threading.Event()

    def tell(_job, event):
        heard.append(event)
        if isinstance(event, FinishStep):
            begun.set()

    step = FinishStep(series="TS", step="align", fraction=0.5)
    program = printing(step, then="sys.stdout.flush(); import time; time.sleep(600)")
    lane = FinishingLane(tell, (sys.executable, "-c", program))
    lane.start()
    for _ in range(2):
        lane.submit(job(tmp_path))
    assert begun.wait(60)
    lane.stop()
    lane.join(20)
    assert not lane.is_alive()
    assert heard == [FinishStarted(series="TS", tilts=0), step]


def test_a_job_that_is_out_of_date_is_ended_and_the_next_one_begun(tmp_path):
    heard, steps, outcome = [], threading.Semaphore(0), threading.Semaphore(0)

    def tell(job, event):
        heard.append((job, event))
        if isinstance(event, FinishStep):
            steps.release()
        if isinstance(event, FinishDone | FinishFailed):
            outcome.release()

    step = FinishStep(series="TS", step="align", fraction=0.5)
    program = printing(step, then="sys.stdout.flush(); import time; time.sleep(600)")
    lane = FinishingLane(tell, (sys.executable, "-c", program))
    lane.start()
    old, new = job(tmp_path), job(tmp_path)
    lane.submit(old)
    assert steps.acquire(timeout=60)
    lane.cancel(old)
    assert outcome.acquire(timeout=60)
    lane.submit(new)
    assert steps.acquire(timeout=60)
    lane.stop()
    lane.join(20)
    assert heard[-1][0] is new


@pytest.mark.parametrize("prepared", [True, False])
def test_a_spare_process_is_told_its_job(tmp_path, prepared):
    told = "path = sys.argv[1] if len(sys.argv) > 1 else sys.stdin.readline().strip()\n"
    told += "print(len(sys.argv), path, file=sys.stderr); sys.exit(7)"
    last = finish(f"import sys\n{told}", job(tmp_path), job(tmp_path), prepared=prepared)
    words = f"{1 if prepared else 2} {tmp_path / 'TS_job.json'}"
    reasons = [event.reason for event in last if isinstance(event, FinishFailed)]
    assert reasons == [f"the finishing process ended with status 7: {words}"] * 2


def test_a_spare_process_that_died_is_no_failure(tmp_path):
    heard, told = [], threading.Semaphore(0)
    lane = FinishingLane(
        lambda _job, event: (heard.append(event), told.release()),
        (sys.executable, "-c", "import sys\nif len(sys.argv) == 1: sys.exit(1)\n" + printing(done("TS"))),
    )
    lane.prepare(Settings())
    lane._spare.wait(20)
    lane.start()
    lane.submit(job(tmp_path))
    while done("TS") not in heard:
        assert told.acquire(timeout=60)
    lane.stop()
    lane.join(20)


def test_a_stop_ends_the_spare_process():
    lane = FinishingLane(lambda _job, _event: None, (sys.executable, "-c", "import time; time.sleep(600)"))
    lane.prepare(Settings())
    lane.stop()
    assert lane._spare.returncode is not None
    lane.prepare(Settings())
    assert lane._spare.returncode is not None, "after a stop there is none"


def test_a_spare_process_ends_with_the_run():
    ended = subprocess.run([sys.executable, "-m", "streamtomo", "finish-job"], stdin=subprocess.DEVNULL, timeout=60)
    assert ended.returncode == 0


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_a_process_at_work_stands_still_while_finishing_is_paused(tmp_path):
    begun, over, heard = threading.Event(), threading.Event(), []

    def tell(_job, event):
        heard.append(event)
        (over if isinstance(event, FinishDone | FinishFailed) else begun).set()

    step = FinishStep(series="TS", step="align", fraction=0.5)
    wait = "sys.stdout.flush()\nimport os, time\n"
    wait += f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
    program = printing(step, then=wait) + f"print({msgspec.json.encode(done('TS')).decode()!r})"
    lane = FinishingLane(tell, (sys.executable, "-c", program))
    lane.start()
    lane.submit(job(tmp_path))
    while step not in heard:
        assert begun.wait(20)
    lane.hold(still=True)
    while state_of(lane._process.pid) != "T":
        pass
    (tmp_path / "go").touch()
    assert not over.wait(0.2), "it stands still"
    lane.hold(still=False)
    assert over.wait(20)
    assert heard[-1] == done("TS")
    lane.stop()
    lane.join(20)
