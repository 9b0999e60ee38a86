"""The ZeroMQ sockets: a stream of events, a snapshot for late joiners, commands on a socket file of the owner's own.

    PUB      tcp BIND:PORT      [topic, envelope as JSON]; topic = kind/series/ (or kind/), so TS_1 never matches TS_10
    ROUTER   tcp BIND:PORT + 1  any request -> the session's state as JSON
    ROUTER   ipc OUT/.command   a command as JSON -> an answer as JSON

The stream is read-only for everybody. Without CURVE keys it binds to loopback only. Nothing received is ever executed
or unpickled; what is no valid message is counted and dropped.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from streamtomo.errors import BusError
from streamtomo.messages import Answer, Command, Envelope
from streamtomo.publish.endpoints import command_socket, is_loopback, reachable, snapshot_endpoint, tcp
from streamtomo.publish.state import SessionState

PORTS_TRIED = 20
LARGEST_REQUEST = 64 * 1024
HIGH_WATER = 2000
"""Messages kept for a slow subscriber; what is beyond is lost to it, and it sees the gap."""

_ENCODER = msgspec.json.Encoder()
_ENVELOPES = msgspec.json.Decoder(Envelope)
_COMMANDS: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_MALFORMED = (ValueError, RecursionError)
"""What decoders raise: wrong JSON, wrong fields (both `ValueError`), bytes that are no UTF-8, bottomless nesting."""


class Publisher:
    """Owns the sockets and the one thread that uses them; `publish` only puts into a queue."""

    def __init__(
        self,
        *,
        bind: str,
        port: int,
        curve_keys: Path | None,
        snapshot: Callable[[], bytes],
        command: Callable[[Command], Answer],
        command_socket: Path,
    ) -> None:
        """Bind all sockets and start. Raises BusError if that is not allowed or not possible."""
        if curve_keys is None and not is_loopback(bind):
            raise BusError(
                f"publish.bind = {bind!r} is not loopback: others could read the session. "
                "Set publish.curve_keys to a folder with server.key_secret and clients/*.key, or bind to 127.0.0.1"
            )
        self._snapshot, self._command = snapshot, command
        self._command_socket = command_socket
        self.dropped = 0
        """Requests that were no valid messages."""
        self._outbox: queue.SimpleQueue[Envelope | None] = queue.SimpleQueue()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator: ThreadAuthenticator | None = None
        try:
            if curve_keys is not None:
                self._authenticator = _authenticator(self._context, curve_keys)
            self._pub, self._router, self.endpoint = self._bind_tcp(bind, port, curve_keys)
            self._commands = self._bind_commands()
            self._wake, self._woken = self._pair()
        except BaseException:
            self._release(linger_ms=0)
            raise
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="bus", daemon=True)
        self._thread.start()

    def publish(self, envelope: Envelope) -> None:
        """Send an envelope to all subscribers; never waits."""
        with self._lock:
            if not self._closed:
                self._outbox.put(envelope)
                with contextlib.suppress(zmq.Again):  # so many wake-up calls wait that one more is not needed
                    self._wake.send(b"", zmq.DONTWAIT)

    def close(self) -> None:
        """Send what is queued, then close all sockets."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._outbox.put(None)
            self._wake.send(b"")
        self._thread.join()
        self._wake.close(linger=0)
        self._release(linger_ms=500)
        self._command_socket.unlink(missing_ok=True)

    def _release(self, linger_ms: int) -> None:
        """End the context and who uses it."""
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.destroy(linger=linger_ms)

    def _bind_tcp(
        self, bind: str, port: int, curve_keys: Path | None
    ) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes], str]:
        """Two sockets on neighbouring free ports, and the endpoint of the first."""
        for candidate in range(port, port + 2 * PORTS_TRIED, 2):
            pub, router = self._context.socket(zmq.PUB), self._context.socket(zmq.ROUTER)
            pub.sndhwm = HIGH_WATER
            for one in (pub, router):
                _guard(one)
                if curve_keys is not None:
                    _serve_curve(one, curve_keys)
            try:
                pub.bind(tcp(bind, candidate))
                router.bind(tcp(bind, candidate + 1))
            except zmq.ZMQError as error:
                pub.close(linger=0)
                router.close(linger=0)
                if error.errno != zmq.EADDRINUSE:
                    raise BusError(f"{tcp(bind, candidate)}: cannot be bound ({error.strerror})") from error
            else:
                return pub, router, tcp(reachable(bind), candidate)
        raise BusError(f"publish.port: {PORTS_TRIED} pairs of ports from {port} are all in use; choose another")

    def _bind_commands(self) -> zmq.Socket[bytes]:
        """A socket file that only its owner can open."""
        path = self._command_socket
        router = self._context.socket(zmq.ROUTER)
        _guard(router)
        old_mask = os.umask(0o177)
        try:
            path.unlink(missing_ok=True)
            router.bind(f"ipc://{path}")
        except (OSError, zmq.ZMQError) as error:
            raise BusError(f"{path}: the command socket cannot be made ({error.strerror})") from error
        finally:
            os.umask(old_mask)
        return router

    def _pair(self) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        """Two ends of a line inside the process, to wake the thread."""
        here, there = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        there.bind("inproc://wake")
        here.connect("inproc://wake")
        return here, there

    def _serve(self) -> None:
        poller = zmq.Poller()
        for one in (self._woken, self._router, self._commands):
            poller.register(one, zmq.POLLIN)
        running = True
        while running:
            ready = dict(poller.poll())
            if self._woken in ready:
                with contextlib.suppress(zmq.Again):
                    while True:
                        self._woken.recv(zmq.DONTWAIT)
                running = self._send_all()
            if self._router in ready:
                self._answer(self._router, lambda _request: self._snapshot())
            if self._commands in ready:
                self._answer(self._commands, self._obey)
        for one in (self._pub, self._router, self._commands, self._woken):
            one.close(linger=500)

    def _send_all(self) -> bool:
        """Send everything queued; False when the end was queued."""
        while not self._outbox.empty():
            envelope = self._outbox.get()
            if envelope is None:
                return False
            self._pub.send_multipart([topic(envelope), _ENCODER.encode(envelope)])
        return True

    def _answer(self, socket: zmq.Socket[bytes], answer: Callable[[bytes], bytes]) -> None:
        """Answer one request `[client, (empty,) request]`; anything else is dropped."""
        frames = socket.recv_multipart()
        if len(frames) not in (2, 3):
            self.dropped += 1
            return
        try:
            reply = answer(frames[-1])
        except _MALFORMED:
            self.dropped += 1
            reply = _ENCODER.encode(Answer(ok=False, text="not a valid request"))
        with contextlib.suppress(zmq.ZMQError):
            socket.send_multipart([*frames[:-1], reply], zmq.DONTWAIT)

    def _obey(self, request: bytes) -> bytes:
        return _ENCODER.encode(self._command(_COMMANDS.decode(request)))


class Subscriber:
    """A reader of the stream that is whole at once and stays so: a snapshot first, and again after a gap."""

    def __init__(
        self, endpoint: str, *, client_keys: tuple[bytes, bytes] | None = None, server_key: bytes = b""
    ) -> None:
        """Connect to `tcp://host:port`. With CURVE: the client's (public, secret) keys and the server's public one."""
        self.endpoint = endpoint
        self.state = SessionState()
        """The session as far as it is known."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._keys = (client_keys, server_key)
        try:
            self._sub = self._connect(zmq.SUB, endpoint)
        except BusError:
            self.close()
            raise
        self._sub.subscribe(b"")

    def close(self) -> None:
        """Disconnect."""
        self._context.destroy(linger=0)

    def snapshot(self, timeout_s: float = 2.0) -> bool:
        """Ask for the session's state; False if nobody answers."""
        asker = self._connect(zmq.DEALER, snapshot_endpoint(self.endpoint))
        try:
            asker.send_multipart([b"", b"{}"])
            if not asker.poll(int(1000 * timeout_s)):
                return False
            state = msgspec.json.decode(asker.recv_multipart()[-1], type=SessionState)
        except (*_MALFORMED, zmq.ZMQError):
            return False
        finally:
            asker.close(linger=0)
        self.state = state
        return True

    def envelopes(self, timeout_s: float = 1.0) -> Iterator[Envelope | None]:
        """Envelopes as they come, already taken into `state`; None after each `timeout_s` without one.

        Starts with a snapshot, and takes another one when envelopes were missed or the program was started anew.
        """
        while not self.snapshot(timeout_s):
            yield None
        while True:
            envelope = self._receive(timeout_s)
            if envelope is None:
                yield None
                continue
            fresh = envelope.session != self.state.session or envelope.seq > self.state.seq
            gap = envelope.session != self.state.session or envelope.seq > self.state.seq + 1
            if fresh and (not gap or not self.snapshot(timeout_s)):
                self.state.apply(envelope)
            if fresh:
                yield envelope

    def _receive(self, timeout_s: float) -> Envelope | None:
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            if not self._sub.poll(int(1000 * left) + 1):
                return None
            with contextlib.suppress(*_MALFORMED):
                return _ENVELOPES.decode(self._sub.recv_multipart()[-1])
        return None

    def _connect(self, kind: int, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.ipv6 = True
        client_keys, server_key = self._keys
        if client_keys is not None:
            socket.curve_publickey, socket.curve_secretkey = client_keys
            socket.curve_serverkey = server_key
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise BusError(f"{endpoint}: is no endpoint ({error.strerror}); write tcp://HOST:PORT") from error
        return socket


def send_command(out: Path, command: Command, timeout: float = 6.0) -> Answer:
    """Send a command to the run that writes to `out`; raises BusError if it does not answer in `timeout` seconds."""
    path = command_socket(out)
    if not path.exists():
        raise BusError(f"{out}: no run is active there")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        asker = context.socket(zmq.DEALER)
        asker.connect(f"ipc://{path}")
        asker.send_multipart([b"", _ENCODER.encode(command)])
        if not asker.poll(int(1000 * timeout)):
            raise BusError(f"{out}: the run does not answer; it may have been killed")
        return msgspec.json.decode(asker.recv_multipart()[-1], type=Answer)
    finally:
        context.destroy(linger=0)


def topic(envelope: Envelope) -> bytes:
    """`kind/series/`, or `kind/` for events that belong to no series."""
    kind = envelope.event.__struct_config__.tag
    series = getattr(envelope.event, "series", None)
    return f"{kind}/{series}/".encode() if series else f"{kind}/".encode()


def _guard(socket: zmq.Socket[bytes]) -> None:
    socket.maxmsgsize = LARGEST_REQUEST
    socket.linger = 500
    socket.ipv6 = True


def _serve_curve(socket: zmq.Socket[bytes], keys: Path) -> None:
    try:
        public, secret = zmq.auth.load_certificate(keys / "server.key_secret")
    except (OSError, ValueError) as error:
        raise BusError(f"{keys}/server.key_secret: cannot be read ({error})") from None
    if secret is None:
        raise BusError(f"{keys}/server.key_secret: holds no secret key")
    socket.curve_server = True
    socket.curve_publickey, socket.curve_secretkey = public, secret


def _authenticator(context: Any, keys: Path) -> ThreadAuthenticator:
    """Lets only the clients in whose public keys lie in `clients/`."""
    clients = keys / "clients"
    if not clients.is_dir():
        raise BusError(f"{clients}: no such folder; put the public keys (*.key) of those who may connect there")
    try:
        zmq.auth.load_certificates(clients)  # the authenticator would only log it, and let nobody in
    except (OSError, ValueError) as error:
        raise BusError(f"{clients}: its keys cannot be read ({error})") from None
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve(domain="*", location=str(clients))
    return authenticator
