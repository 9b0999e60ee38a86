"""Numbers for Prometheus: the session's state in its text format, on a loopback port, if the settings name one.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import get_args

import msgspec

from streamtomo.errors import BusError
from streamtomo.messages import SeriesState
from streamtomo.publish.state import SessionState

HOST = "127.0.0.1"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LONGEST_WAIT_S = 5.0
LETTERS = {"G": "good", "D": "doubtful", "B": "bad", "F": "failed", "U": "unplaced", "X": "excluded", ".": "waiting"}

Sample = tuple[dict[str, str], float]


def text(state: SessionState) -> str:
    """All metrics of a session."""
    lines: list[str] = []
    for name, kind, words, samples in _metrics(state):
        lines += [f"# HELP streamtomo_{name} {words}", f"# TYPE streamtomo_{name} {kind}"]
        lines += [f"streamtomo_{name}{_labels(labels)} {value:.15g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _metrics(state: SessionState) -> Iterator[tuple[str, str, str, list[Sample]]]:
    tilts = [tilt for row in state.series.values() for tilt in row.tilts.values()]
    series = Counter(row.state for row in state.series.values())
    letters = Counter(tilt.letter for tilt in tilts)
    alarms = Counter(alarm.code for alarm in state.alarms)
    beat = state.heartbeat
    yield "series", "gauge", "Tilt series by state.", [({"state": one}, series[one]) for one in get_args(SeriesState)]
    yield "tilts", "gauge", "Tilts by verdict.", [({"verdict": word}, letters[one]) for one, word in LETTERS.items()]
    yield "alarms", "gauge", "Alarms that stand, by code.", [({"code": one}, count) for one, count in alarms.items()]
    yield "finishing_paused", "gauge", "1 while finishing is paused.", [({}, state.finishing_paused)]
    yield "heartbeat_timestamp_seconds", "gauge", "Last sign of life.", [({}, state.heartbeat_s)]
    last = max((tilt.received_s for tilt in tilts), default=None)
    yield "last_tilt_timestamp_seconds", "gauge", "When the last tilt came.", [({}, last)] if last else []
    if beat is not None:
        yield "backlog_tilts", "gauge", "Tilts that wait for the live lane.", [({}, beat.backlog)]
        yield "turned_away_total", "counter", "Messages that were not let in.", [({}, beat.turned_away)]
        for name, value in (("free_bytes", beat.free_GB), ("resident_bytes", beat.memory_GB)):
            words = "Free space for the results." if name == "free_bytes" else "Memory of the process."
            yield name, "gauge", words, [({}, 1e9 * value)] if value is not None else []
    times = [tilt.placed.stage_ms["total"] / 1e3 for tilt in tilts if tilt.placed and "total" in tilt.placed.stage_ms]
    yield (
        "tilt_seconds",
        "gauge",
        "From settled file to shown volume, last tilt.",
        [({}, one) for one in times[-1:]],
    )


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    escaped = (f'{key}="{value}"'.replace("\n", " ") for key, value in labels.items())
    return "{" + ",".join(escaped) + "}"


@contextmanager
def served(port: int | None, state: Callable[[], bytes]) -> Iterator[None]:
    """Answer on a loopback port with the metrics of a state that is given as JSON; no port: do nothing.

    Raises BusError if the port cannot be used.
    """
    if port is None:
        yield
        return
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(state))
    except OSError as error:
        raise BusError(f"publish.metrics_port = {port}: cannot be used ({error.strerror}); choose another") from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(state: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = LONGEST_WAIT_S

        def do_GET(self) -> None:
            """Answer one request, whatever its path is."""
            body = text(msgspec.json.decode(state(), type=SessionState)).encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: the terminal is the dashboard's."""

    return Handler
