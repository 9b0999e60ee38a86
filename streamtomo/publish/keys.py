"""CURVE keys: who may listen to a run, and who may give it orders.

    DIR/server.key, server.key_secret    the run's own pair
    DIR/client.key_secret                the pair of whoever works on the run's machine
    DIR/operators/NAME.key               public keys of those who may listen and give orders
    DIR/clients/NAME.key                 public keys of those who may only listen
    DIR/for/NAME/                        what is handed to them: server.key, client.key_secret

Secret keys belong to their owner alone (0600), and are refused where others can read them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

import zmq

from streamtomo.errors import BusError

SERVER = "server.key_secret"
CLIENT = "client.key_secret"
OPERATORS, CLIENTS = "operators", "clients"


class Pair(NamedTuple):
    """A key pair, in ZeroMQ's text form (Z85)."""

    public: bytes
    secret: bytes


class ClientKeys(NamedTuple):
    """What a client needs to reach a run."""

    own: Pair
    server: bytes
    """The run's public key: nobody else can pretend to be it."""


def make_keys(folder: Path, name: str) -> None:
    """Make the run's pair, and one for `name`, who works on this machine and may give orders. Raises BusError."""
    if (folder / SERVER).exists():
        raise BusError(f"{folder}: has keys already; add people with --add NAME")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        for inside in (OPERATORS, CLIENTS):
            (folder / inside).mkdir(exist_ok=True)
        _write_pair(folder, "server", _new_pair())
        own = _new_pair()
        _write_pair(folder, "client", own)
        _write_public(folder / OPERATORS / f"{name}.key", own.public)
    except OSError as error:
        raise BusError(f"{folder}: keys cannot be written there ({error.strerror})") from None


def add_client(folder: Path, name: str, *, read_only: bool) -> Path:
    """Let one more in; the folder to hand to them, by a safe way. Raises BusError."""
    if not name or Path(name).name != name or name.startswith("."):
        raise BusError(f"{name!r}: is no name for a key; use letters and digits")
    if any((folder / inside / f"{name}.key").exists() for inside in (OPERATORS, CLIENTS)):
        raise BusError(f"{folder}: {name} has a key already; delete {name}.key first to take it back")
    server, _ = _load(folder / "server.key")
    handed = folder / "for" / name
    try:
        handed.mkdir(parents=True, exist_ok=True)
        pair = _new_pair()
        _write_pair(handed, "client", pair)
        (handed / "client.key").unlink()
        _write_public(handed / "server.key", server)
        inside = folder / (CLIENTS if read_only else OPERATORS)
        inside.mkdir(exist_ok=True)
        _write_public(inside / f"{name}.key", pair.public)
    except OSError as error:
        raise BusError(f"{folder}: keys cannot be written there ({error.strerror})") from None
    return handed


def server_pair(folder: Path) -> Pair:
    """The run's own pair. Raises BusError."""
    return _secret(folder / SERVER)


def client_keys(folder: Path) -> ClientKeys:
    """What lies in a folder for a client. Raises BusError."""
    server, _ = _load(folder / "server.key")
    return ClientKeys(_secret(folder / CLIENT), server)


class Doorman:
    """Says who may come in, by key; looks again at each, so that a key added or deleted counts at once."""

    def __init__(self, folder: Path) -> None:
        """Raises BusError where nobody could come in, or a key cannot be read."""
        self._folder = folder
        if not any((folder / inside).is_dir() for inside in (OPERATORS, CLIENTS)):
            raise BusError(f"{folder}/{OPERATORS}: no such folder; `streamtomo keys {folder}` makes what is needed")
        self.names(OPERATORS)
        self.names(CLIENTS)

    def names(self, inside: str) -> dict[bytes, str]:
        """Public keys in one of the folders, with their names. Raises BusError."""
        return {_load(path)[0]: path.stem for path in sorted((self._folder / inside).glob("*.key"))}

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the owner of a key may come in; the authenticator calls it, by this name, for each connection."""
        try:
            return key in self.names(OPERATORS) or (domain == CLIENTS and key in self.names(CLIENTS))
        except BusError:  # a key that is just being written: nobody comes in until it is whole
            return False

    def name_of(self, key: bytes) -> str:
        """Who gives an order."""
        try:
            return self.names(OPERATORS).get(key, "?")
        except BusError:
            return "?"


def _new_pair() -> Pair:
    return Pair(*zmq.curve_keypair())


def _write_pair(folder: Path, stem: str, pair: Pair) -> None:
    _write_public(folder / f"{stem}.key", pair.public)
    secret = folder / f"{stem}.key_secret"
    with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{_text(pair.public)}    secret-key = {_quoted(pair.secret)}\n")


def _write_public(path: Path, public: bytes) -> None:
    path.write_text(_text(public))


def _text(public: bytes) -> str:
    """ZeroMQ's certificate format, which `zmq.auth` and other languages read."""
    return f"metadata\ncurve\n    public-key = {_quoted(public)}\n"


def _quoted(key: bytes) -> str:
    return f'"{key.decode()}"'


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        import zmq.auth  # only where there are keys: a viewer starts at once

        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise BusError(f"{path}: cannot be read ({error}); `streamtomo keys` makes keys") from None
    return public, secret


def _secret(path: Path) -> Pair:
    public, secret = _load(path)
    if secret is None:
        raise BusError(f"{path}: holds no secret key")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise BusError(f"{path}: others can read it; chmod 600 it, or make new keys if they may have")
    return Pair(public, secret)
