"""The finishing process where a cluster does the work: it gives the series to a worker, and says what that one says.

Where the cluster cannot be asked the series is finished here, with a warning.
"""

from __future__ import annotations

import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import msgspec

from streamtomo.cluster import ClusterError, connect, finish_series, result_of
from streamtomo.errors import StreamtomoError
from streamtomo.finish.work import FinishJob
from streamtomo.finish.worker import end_with_parent
from streamtomo.finish.worker import main as finish_here
from streamtomo.messages import Event, FinishFailed, Warned


def main(job_file: str) -> int:
    """The finishing process where a cluster does the work; the same lines on standard output, the same exit status."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    job = msgspec.json.decode(Path(job_file).read_bytes(), type=FinishJob)
    address = job.settings.cluster.scheduler
    assert address is not None
    try:
        client = connect(address)
    except ClusterError as error:
        text = f"{job.series}: is finished on this machine: {error}"
        _say(Warned(code="cluster.unreachable", text=text, series=job.series))
        return finish_here(job_file)
    with client:
        return _relay(client, job, job_file)


def _relay(client: Any, job: FinishJob, job_file: str) -> int:
    """Say what the worker says; exit status 1 where it failed."""
    topic = f"streamtomo-{uuid.uuid4().hex}"
    client.subscribe_topic(topic, lambda event: _write(event[1]))
    try:
        last = result_of(client.submit(finish_series, job_file, topic, pure=False))
    except StreamtomoError as error:
        last = _line(FinishFailed(series=job.series, reason=str(error), final=False))
    client.unsubscribe_topic(topic)
    _write(last)
    return int(isinstance(msgspec.json.decode(last, type=Event), FinishFailed))


def _say(event: Event) -> None:
    _write(_line(event))


def _line(event: Event) -> str:
    return msgspec.json.encode(event).decode()


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
