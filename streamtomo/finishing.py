"""The finishing lane: one series at a time, each in a spawned process of low priority.

The process gets its job from a file and answers in JSON lines; if it dies, the series is tried again. A process takes
seconds to load libraries and kernels: a spare one does so while the series is still being collected, and waits.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from streamtomo.cluster import takes_series
from streamtomo.config import Settings
from streamtomo.errors import OutputError
from streamtomo.export.imod import write_text
from streamtomo.finish.recipe import FinishJob
from streamtomo.messages import Event, FinishDone, FinishFailed, FinishStarted, FinishStep, Warned

Tell = Callable[[FinishJob, Event], None]

_Told = FinishStep | Warned | FinishDone | FinishFailed
_EVENTS: msgspec.json.Decoder[_Told] = msgspec.json.Decoder(_Told)
PROGRAM = (sys.executable, "-m", "streamtomo", "finish-job")
"""What is started for a job; the path of the job's file is added, or comes on its standard input."""
FOR_CLUSTER = (sys.executable, "-m", "streamtomo", "cluster-job")
"""The same where a cluster does the work."""
LAST_WORDS = 12
"""Lines of the process' standard error that a failure quotes."""


class FinishingLane(threading.Thread):
    """Takes jobs one at a time; `tell` is called from this thread with what happens to which job."""

    def __init__(self, tell: Tell, program: Sequence[str] = PROGRAM) -> None:
        super().__init__(name="finishing", daemon=True)
        self._tell, self._program = tell, program
        self._jobs: queue.Queue[FinishJob | None] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None
        self._spare: subprocess.Popen[str] | None = None
        self._changing = threading.Lock()
        """Held while the spare process is started, taken or ended."""
        self._stopping = threading.Event()
        self._cancelled: FinishJob | None = None
        self._held = False

    def submit(self, job: FinishJob) -> None:
        """Queue a series."""
        self._jobs.put(job)

    def prepare(self, settings: Settings) -> None:
        """Have a spare process for a job that will come soon, unless a cluster does the work.

        One that died is not replaced before the job comes: the next one would die as well.
        """
        with self._changing:
            if self._spare is None and not self._stopping.is_set() and not takes_series(settings):
                with suppress(OSError):  # no room for it now: the job starts one
                    self._spare = _start(self._program, settings.run.finish_nice)

    def cancel(self, job: FinishJob) -> None:
        """End the process at work on a job, which is out of date; what is told of it from now on means nothing."""
        self._cancelled = job
        if self._process is not None:
            self._process.kill()

    def hold(self, *, still: bool) -> None:
        """Let the process at work stand still, or go on; with the processes that it started."""
        self._held = still
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGSTOP if still else signal.SIGCONT)

    def stop(self) -> None:
        """End the process at work, forget the jobs that wait; they are done again after a restart."""
        self._stopping.set()
        self._jobs.put(None)
        if self._process is not None:
            self._process.kill()
        with self._changing:
            _end(self._spare)

    def run(self) -> None:
        """Work until stopped."""
        while (job := self._jobs.get()) is not None and not self._stopping.is_set():
            self._tell(job, FinishStarted(series=job.series, tilts=len(job.tilts)))
            try:
                outcome = self._finish(job)
            except Exception as error:  # whatever it is, the lane goes on with the next series
                blocked = isinstance(error, OutputError | OSError)
                reason = f"cannot start: {error}"
                outcome = FinishFailed(series=job.series, reason=reason, final=False, blocked=blocked)
            if not self._stopping.is_set():
                self._tell(job, outcome)

    def _finish(self, job: FinishJob) -> Event:
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        job_file = folder / f"{job.series}_job.json"
        write_text(job_file, msgspec.json.encode(job).decode())
        with self._process_for(job, job_file) as self._process:
            if self._stopping.is_set() or self._cancelled is job:  # asked before there was a process to end
                self._process.kill()
            if self._held:
                self.hold(still=True)
            return self._listen(job, self._process)

    def _process_for(self, job: FinishJob, job_file: Path) -> subprocess.Popen[str]:
        """The spare process, if it lives and may do the job; else a new one."""
        nice = job.settings.run.finish_nice
        if takes_series(job.settings):
            return _start((*FOR_CLUSTER, str(job_file)), nice)
        with self._changing:
            spare, self._spare = self._spare, None
        if spare is not None and _gave(spare, job_file):
            _lower_priority(spare.pid, nice)
            return spare
        _end(spare)
        return _start((*self._program, str(job_file)), nice)

    def _listen(self, job: FinishJob, process: subprocess.Popen[str]) -> Event:
        assert process.stdout is not None
        assert process.stderr is not None
        last_words: deque[str] = deque(maxlen=LAST_WORDS)
        reader = threading.Thread(target=_collect, args=(process.stderr, last_words), daemon=True)
        reader.start()
        outcome: Event | None = None
        for line in process.stdout:
            event = _event(line)
            if event is None:  # a library that prints
                last_words.append(line.rstrip())
            elif isinstance(event, FinishStep | Warned):
                self._tell(job, event)
            else:
                outcome = event
        code = process.wait()
        reader.join(timeout=2)
        if outcome is None:
            reason = f"the finishing process ended with status {code}: {' | '.join(last_words) or 'no message'}"
            outcome = FinishFailed(series=job.series, reason=reason, final=False)
        return outcome


def _start(command: Sequence[str], nice: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C in the terminal is for the parent, which then ends the child
    )
    _lower_priority(process.pid, nice)
    return process


def _gave(process: subprocess.Popen[str], job_file: Path) -> bool:
    """Tell a spare process its job; False if it is dead."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.write(f"{job_file}\n")
        process.stdin.flush()
        return process.poll() is None
    return False


def _end(process: subprocess.Popen[str] | None) -> None:
    """End a process that has no job."""
    if process is not None:
        process.kill()
        with suppress(OSError), process:  # what it was told and never read cannot be flushed
            pass


def _event(line: str) -> _Told | None:
    try:
        return _EVENTS.decode(line)
    except (ValueError, RecursionError):
        return None


def _collect(lines: IO[str], into: deque[str]) -> None:
    for line in lines:
        into.append(line.rstrip())


def _lower_priority(pid: int, nice: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    except OSError:
        return  # it is gone already, or the system does not allow it: not worth a failure
