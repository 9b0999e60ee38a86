"""A Dask cluster that finishes series, for a facility with several microscopes: whole series, or blocks of slices.

Its workers see raw data and results under the same paths as this machine. One that dies takes nothing with it: what it
had is given to another one, which goes on where the files are good. The package distributed is loaded on first use.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from streamtomo.config import Settings
from streamtomo.errors import StreamtomoError

CONNECT_S = 10.0
AHEAD = 2
"""Pieces of work that wait at the cluster for each of its workers."""
LOOK_S = 1.0
"""How often a worker looks whether its series is still wanted."""
PROGRAM = (sys.executable, "-m", "streamtomo", "finish-job")
OUTCOMES = (0, 1)
"""Exit statuses of a finishing process whose last line says what became of the series."""

Result = TypeVar("Result")


class ClusterError(StreamtomoError):
    """The cluster cannot be asked, or gave up."""


def takes_series(settings: Settings) -> bool:
    """Whether whole series are for a cluster."""
    return settings.cluster.scheduler is not None and settings.cluster.takes == "series"


def connect(address: str) -> Any:
    """A connection to a cluster with at least one worker. Raises ClusterError."""
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError("the package distributed is not installed here") from None
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(f"{address}: no scheduler answers ({error})") from None
    if not client.ncores():
        client.close()
        raise ClusterError(f"{address}: has no workers")
    return client


# -- pieces of work --------------------------------------------------------------------------------------------------


def each(address: str, function: Callable[..., Result], pieces: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
    """`function` of each of the pieces, by the workers; in order. Raises ClusterError.

    The function is one of a module that the workers have, too.
    """
    with connect(address) as client:
        most = AHEAD * max(1, sum(client.ncores().values()))
        waiting: deque[Any] = deque()
        for piece in pieces:
            waiting.append(client.submit(function, *piece, pure=False))
            if len(waiting) >= most:
                yield result_of(waiting.popleft())
        while waiting:
            yield result_of(waiting.popleft())


def result_of(future: Any) -> Any:
    """What became of a piece of work. Raises ClusterError, or what of ours the worker raised."""
    try:
        return future.result()
    except StreamtomoError:
        raise
    except Exception as error:  # what a worker may have met is without bounds
        raise ClusterError(f"the cluster gave up: {type(error).__name__}: {error}") from error


# -- whole series, at a worker ---------------------------------------------------------------------------------------


def finish_series(job_file: str, topic: str) -> str:
    """Finish a series in a process of its own; its last line. What it says before goes to whoever hears the topic."""
    from distributed import get_worker

    worker = get_worker()
    key, last = worker.get_current_task(), ""
    with subprocess.Popen(
        [*PROGRAM, job_file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
    ) as process:
        threading.Thread(target=_end_if_unwanted, args=(worker, key, process), daemon=True).start()
        assert process.stdout is not None
        for line in process.stdout:
            if last:
                worker.log_event(topic, last)
            last = line.rstrip()
    if process.returncode not in OUTCOMES or not last:
        raise ClusterError(f"the finishing process ended with status {process.returncode}; the worker's log says why")
    return last


def _end_if_unwanted(worker: Any, key: str, process: subprocess.Popen[str]) -> None:
    """End the process when the cluster has forgotten the task: whoever asked for it is gone, or changed their mind."""
    while True:
        try:
            process.wait(LOOK_S)
            return
        except subprocess.TimeoutExpired:
            task = worker.state.tasks.get(key)
            if task is None or task.state in ("cancelled", "released", "forgotten"):
                process.kill()
