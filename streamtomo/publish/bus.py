"""The ZeroMQ sockets of a run: a stream of events, a snapshot for late joiners, commands from those who may give them.

    PUB      tcp BIND:PORT      [topic, envelope as JSON]; topic = kind/series/ (or kind/), so TS_1 never matches TS_10
    ROUTER   tcp BIND:PORT + 1  any request -> the session's state as JSON
    ROUTER   tcp BIND:PORT + 2  with CURVE keys only: a request with a command as JSON -> an answer as JSON
    ROUTER   ipc OUT/.command   the same, from the owner of the run alone

The stream is read-only for everybody. Without CURVE keys it binds to loopback only. Nothing received is ever executed
or unpickled; what is no valid request is counted and dropped.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import zmq
from zmq.auth.thread import ThreadAuthenticator

from streamtomo.errors import BusError
from streamtomo.messages import Answer, Command, Envelope, topic
from streamtomo.publish.endpoints import is_loopback, reachable, tcp
from streamtomo.publish.gate import Bucket, Gate
from streamtomo.publish.keys import CLIENTS, OPERATORS, Doorman, Pair, server_pair

PORTS_TRIED = 20
LARGEST_MESSAGE = 1 << 20
"""Who sends more bytes at once is disconnected."""
HIGH_WATER = 2000
"""Messages kept for a slow subscriber; what is beyond is lost to it, and it sees the gap."""
REQUESTS_KEPT = 100
"""Requests of one connection that wait to be read; then its sender waits."""
SENT_AT_ONCE, PAUSE_S = HIGH_WATER // 4, 0.01
"""After so many messages the network gets time to take them: a burst is no loss to who reads."""
REST_S = 0.05
"""A socket that is flooded is not read for so long ..."""
FLOOD = 64
"""... after so many messages at once that nobody will answer."""
PEER_LOST_MS = 10_000
"""A connection that is silent for so long is closed, and its messages are forgotten."""

_ENCODER = msgspec.json.Encoder()
_Socket = zmq.Socket[bytes]


class Publisher:
    """Owns the sockets and the one thread that uses them; `publish` only puts into a queue."""

    def __init__(
        self,
        *,
        session: str,
        bind: str,
        port: int,
        curve_keys: Path | None,
        snapshot: Callable[[], bytes],
        command: Callable[[Command, str], Answer],
        command_socket: Path,
    ) -> None:
        """Bind all sockets and start. `command` gets the name of who asks, too.

        Raises BusError if that is not allowed or not possible.
        """
        if curve_keys is None and not is_loopback(bind):
            raise BusError(
                f"publish.bind = {bind!r} is not loopback: others could read the session. "
                "Set publish.curve_keys to a folder made by `streamtomo keys`, or bind to 127.0.0.1"
            )
        self._doorman = Doorman(curve_keys) if curve_keys is not None else None
        self._snapshot, self._command = snapshot, command
        self._command_socket = command_socket
        self.gate = Gate(session)
        """Counts what was turned away."""
        self._outbox: queue.SimpleQueue[Envelope | None] = queue.SimpleQueue()
        self._context: zmq.Context[_Socket] = zmq.Context()
        self._authenticator: ThreadAuthenticator | None = None
        try:
            pair = self._admit_only_known(curve_keys) if curve_keys is not None else None
            self._pub, self._router, self._remote, self.endpoint = self._bind_tcp(bind, port, pair)
            self._local = self._bind_local()
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

    # -- sockets -------------------------------------------------------------------------------------------------

    def _admit_only_known(self, curve_keys: Path) -> Pair:
        """Start the authenticator; the run's own keys."""
        pair = server_pair(curve_keys)
        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.start()
        for domain in (CLIENTS, OPERATORS):
            self._authenticator.configure_curve_callback(domain=domain, credentials_provider=self._doorman)
        return pair

    def _bind_tcp(self, bind: str, port: int, pair: Pair | None) -> tuple[_Socket, _Socket, _Socket | None, str]:
        """Two sockets on neighbouring free ports, with keys a third one, and the endpoint of the first."""
        kinds = [(zmq.PUB, CLIENTS), (zmq.ROUTER, CLIENTS)] + ([(zmq.ROUTER, OPERATORS)] if pair else [])
        for candidate in range(port, port + 2 * PORTS_TRIED, 2):
            sockets = [self._socket(kind, pair, domain) for kind, domain in kinds]
            try:
                for place, one in enumerate(sockets):
                    one.bind(tcp(bind, candidate + place))
            except zmq.ZMQError as error:
                for one in sockets:
                    one.close(linger=0)
                if error.errno != zmq.EADDRINUSE:
                    raise BusError(f"{tcp(bind, candidate)}: cannot be bound ({error.strerror})") from error
            else:
                pub, router, *remote = sockets
                return pub, router, next(iter(remote), None), tcp(reachable(bind), candidate)
        raise BusError(f"publish.port: {PORTS_TRIED} pairs of ports from {port} are all in use; choose another")

    def _socket(self, kind: int, pair: Pair | None = None, domain: str = "") -> _Socket:
        socket = self._context.socket(kind)
        socket.maxmsgsize, socket.linger, socket.ipv6 = LARGEST_MESSAGE, 500, True
        socket.sndhwm, socket.rcvhwm = HIGH_WATER, REQUESTS_KEPT
        socket.heartbeat_ivl, socket.heartbeat_timeout = PEER_LOST_MS // 3, PEER_LOST_MS
        if pair is not None:
            socket.curve_server, socket.zap_domain = True, domain.encode()
            socket.curve_publickey, socket.curve_secretkey = pair
        return socket

    def _bind_local(self) -> _Socket:
        """A socket file that only its owner can open."""
        path = self._command_socket
        router = self._socket(zmq.ROUTER)
        old_mask = os.umask(0o177)
        try:
            path.unlink(missing_ok=True)
            router.bind(f"ipc://{path}")
        except (OSError, zmq.ZMQError) as error:
            raise BusError(f"{path}: the command socket cannot be made ({error.strerror})") from error
        finally:
            os.umask(old_mask)
        return router

    def _pair(self) -> tuple[_Socket, _Socket]:
        """Two ends of a line inside the process, to wake the thread."""
        here, there = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        there.bind("inproc://wake")
        here.connect("inproc://wake")
        return here, there

    # -- the thread ----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        desks = [_Desk(self._router, self.gate, lambda frames: self._snapshot())]
        desks += [_Desk(one, self.gate, self._obey) for one in (self._remote, self._local) if one is not None]
        poller = zmq.Poller()
        poller.register(self._woken, zmq.POLLIN)
        running = True
        while running:
            now = time.monotonic()
            for desk in desks:
                poller.register(desk.socket, zmq.POLLIN if now >= desk.rests_until else 0)
            resting = any(now < desk.rests_until for desk in desks)
            ready = dict(poller.poll(round(1000 * REST_S) if resting else None))
            if self._woken in ready:
                with contextlib.suppress(zmq.Again):
                    while True:
                        self._woken.recv(zmq.DONTWAIT)
                running = self._send_all()
            for desk in desks:
                if desk.socket in ready:
                    desk.serve(time.monotonic())
        for one in (self._pub, self._woken, *(desk.socket for desk in desks)):
            one.close(linger=500)

    def _send_all(self) -> bool:
        """Send everything queued; False when the end was queued."""
        sent = 0
        while not self._outbox.empty():
            sent += 1
            if sent % SENT_AT_ONCE == 0:
                time.sleep(PAUSE_S)
            envelope = self._outbox.get()
            if envelope is None:
                return False
            self._pub.send_multipart([topic(envelope.event).encode(), _ENCODER.encode(envelope)])
        return True

    def _obey(self, frames: Sequence[zmq.Frame]) -> bytes:
        request = self.gate.admit(frames[-1].bytes)
        if isinstance(request, Answer):
            return _ENCODER.encode(request)
        answer = self._command(request.command, self._name_of(frames[-1]))
        return _ENCODER.encode(msgspec.structs.replace(answer, id=request.id))

    def _name_of(self, frame: zmq.Frame) -> str:
        """Who sent it: the name of the key, or the user whose socket file it is."""
        try:
            key = frame.get("User-Id")
        except zmq.ZMQError:
            key = ""
        if not key or self._doorman is None:
            return getpass.getuser()
        return self._doorman.name_of(str(key).encode())


class _Desk:
    """A socket that answers requests `[client, (empty,) request]`; what comes beyond measure gets none."""

    def __init__(self, socket: _Socket, gate: Gate, answer: Callable[[Sequence[zmq.Frame]], bytes]) -> None:
        self.socket = socket
        self.rests_until = 0.0
        self._gate, self._answer = gate, answer
        self._bucket, self._flood = Bucket(), 0

    def serve(self, now: float) -> None:
        """Take one request."""
        frames: list[zmq.Frame] = self.socket.recv_multipart(copy=False)
        if not self._bucket.take(now):
            self._gate.refuse("flooding")
            self._flood += 1
            if self._flood >= FLOOD:
                self._flood, self.rests_until = 0, now + REST_S
            return
        self._flood = 0
        if len(frames) not in (2, 3):
            self._gate.refuse("malformed")
            return
        reply = self._answer(frames)
        with contextlib.suppress(zmq.ZMQError):
            self.socket.send_multipart([*(frame.bytes for frame in frames[:-1]), reply], zmq.DONTWAIT)
