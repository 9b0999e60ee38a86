"""The finishing process: reads a job, runs the recipe, and tells its parent in JSON lines on standard output.

Without a job it loads all that one needs, and waits to be told of one on standard input.

It ends at once when the parent is gone (its standard input closes): an orphan would write beside the next run. That
one waits until it is the only one at work in the folder, and removes what was left half written there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import sys
import threading
from pathlib import Path

import msgspec

from streamtomo.errors import OutputError, StreamtomoError
from streamtomo.messages import Event, FinishFailed
from streamtomo.outfolder import LIVE_SUFFIX


def main(job_file: str | None) -> int:
    """Run one job; exit status 0 with a FinishDone as the last line, 1 with a FinishFailed.

    `job_file` None: it is the first line of standard input; if that ends without one the run is over, status 0.
    """
    if job_file is None:
        from streamtomo.warmup import warm_finishing

        warm_finishing(_is_told)
        job_file = sys.stdin.readline().rstrip("\n")
        if not job_file:
            return 0
    threading.Thread(target=end_with_parent, daemon=True).start()
    from streamtomo import jit
    from streamtomo.finish import dual, recipe
    from streamtomo.reconstruct import device

    job = msgspec.json.decode(Path(job_file).read_bytes(), type=recipe.FinishJob)
    jit.use_threads(job.settings.run.threads)
    be_alone(Path(job.folder), job.series)
    try:
        device.use(job.settings.run.device)
        done = recipe.run(job, _tell)
        assert done is not None
        dual.combine_when_paired(job, _tell)
        _tell(done)
    except StreamtomoError as error:
        blocked = isinstance(error, OutputError)
        _tell(FinishFailed(series=job.series, reason=str(error), final=False, blocked=blocked))
        return 1
    return 0


def _is_told() -> bool:
    """Whether a job waits on standard input, or it has ended."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


_locked: set[Path] = set()
"""Folders whose lock this process holds."""


def be_alone(folder: Path, series: str) -> None:
    """Wait for the orphan of a run that was killed, if it still works in the folder, and remove what it left.

    The lock ends with this process, which may ask for it again. Where the file system has no locks, only the removal
    is done.
    """
    if folder.resolve() in _locked:
        return
    _locked.add(folder.resolve())
    with contextlib.suppress(OSError):
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)
    with contextlib.suppress(OSError):
        for part in (*folder.glob(f"{series}*.part"), *folder.glob("*.com.part")):
            resumed = part.with_name(f"{part.name}.json").exists()  # `unfinished` goes on with it
            if resumed or part.name == f"{series}{LIVE_SUFFIX}.part":
                continue
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def _tell(event: Event) -> None:
    sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
    sys.stdout.flush()


def end_with_parent() -> None:
    """Waits for the end of standard input, and ends this process then."""
    sys.stdin.read()
    os._exit(3)
