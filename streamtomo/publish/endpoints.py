"""Where a run is found: its endpoints, and the socket file for its commands."""

from __future__ import annotations

import fcntl
import ipaddress
import os
from pathlib import Path

import msgspec

from streamtomo.errors import BusError

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5570"
LONGEST_SOCKET_PATH = 100
"""The system allows 107 bytes."""


def command_socket(out: Path) -> Path:
    """Socket file of the run that writes to `out`; beside it, or, where that path is too long for a socket, in /tmp."""
    path = out.absolute() / ".command"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    import hashlib  # seldom needed, and a viewer starts at once
    import tempfile

    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"streamtomo-{os.getuid()}-{name}"


def find_endpoint(where: str | None) -> str:
    """Endpoint of a run from what a person types: nothing, a port, `host:port`, `tcp://host:port`, an output folder."""
    if not where:
        return DEFAULT_ENDPOINT
    if where.startswith("tcp://"):
        return where
    if Path(where).is_dir():
        return read_endpoint(Path(where)).endpoint
    if where.isdecimal():
        return f"tcp://127.0.0.1:{where}"
    if where.rpartition(":")[2].isdecimal() and ":" in where:
        return f"tcp://{where}"
    raise BusError(f"{where}: is no endpoint; give an output folder, a port, or tcp://HOST:PORT")


class RunAddress(msgspec.Struct, frozen=True):
    """Where a run is found, as `endpoint.json` in its output folder tells it."""

    endpoint: str
    session: str = ""
    curve_keys: str | None = None
    """The run's folder of keys, which are needed to reach it."""


def read_endpoint(out: Path) -> RunAddress:
    """The address of the run that writes to `out`. Raises BusError where there is none."""
    if not is_running(out):  # what a run that was killed left there leads nowhere, or to another run
        raise BusError(f"{out}: no run is active there")
    return told_address(out)


def told_address(out: Path) -> RunAddress:
    """The address of the last run that wrote to `out`, whether it is active or not. Raises BusError."""
    try:
        return msgspec.json.decode((out / "endpoint.json").read_bytes(), type=RunAddress)
    except FileNotFoundError:
        raise BusError(f"{out}: no run is active there") from None
    except (OSError, msgspec.DecodeError) as error:
        raise BusError(f"{out}/endpoint.json: cannot be read ({error})") from None


def is_running(out: Path) -> bool:
    """Whether a run holds the lock of its output folder; where there are no locks it is taken to."""
    try:
        with (out / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return False


def snapshot_endpoint(endpoint: str) -> str:
    """The snapshot socket beside an event stream."""
    return _beside(endpoint, 1)


def command_endpoint(endpoint: str) -> str:
    """The command socket beside an event stream, where there are keys."""
    return _beside(endpoint, 2)


def _beside(endpoint: str, places: int) -> str:
    head, _, port = endpoint.rpartition(":")
    if not port.isdecimal():
        raise BusError(f"{endpoint}: has no port; write tcp://HOST:PORT")
    return f"{head}:{int(port) + places}"


def is_loopback(bind: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(bind.strip("[]")).is_loopback
    except ValueError:
        return bind == "localhost"


def reachable(bind: str) -> str:
    """An address under which a socket bound to this one is reached from this machine."""
    return "127.0.0.1" if bind in ("*", "0.0.0.0", "::", "[::]") else bind


def tcp(bind: str, port: int) -> str:
    """ZeroMQ's way of writing it."""
    return f"tcp://{bind}:{port}"
