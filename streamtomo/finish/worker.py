"""The finishing process: reads a job, runs the recipe, and tells its parent in JSON lines on standard output.

It ends at once when the parent is gone (its standard input closes): an orphan would write beside the next run.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import msgspec

from streamtomo.errors import StreamtomoError
from streamtomo.messages import Event, FinishFailed


def main(job_file: str) -> int:
    """Run one job; exit status 0 with a FinishDone as the last line, 1 with a FinishFailed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from streamtomo import jit
    from streamtomo.finish import recipe

    job = msgspec.json.decode(Path(job_file).read_bytes(), type=recipe.FinishJob)
    jit.use_threads(job.settings.run.threads)
    try:
        _tell(recipe.run(job, _tell))
    except StreamtomoError as error:
        _tell(FinishFailed(series=job.series, reason=str(error), final=False))
        return 1
    return 0


def _tell(event: Event) -> None:
    sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(3)
