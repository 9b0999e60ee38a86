"""The other end of the sockets: a reader of the stream that is always whole, and the sender of commands."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import zmq

from streamtomo.errors import BusError
from streamtomo.messages import VERSION, Answer, Command, Envelope, Request
from streamtomo.publish.endpoints import command_endpoint, command_socket, read_endpoint, snapshot_endpoint
from streamtomo.publish.gate import MALFORMED
from streamtomo.publish.keys import ClientKeys
from streamtomo.publish.state import SessionState

RECEIVED_KEPT = 200_000
"""Envelopes that wait while their reader does something else."""

_ENCODER = msgspec.json.Encoder()
_ENVELOPES = msgspec.json.Decoder(Envelope)


class Subscriber:
    """A reader of the stream that is whole at once and stays so: a snapshot first, and again after a gap."""

    def __init__(self, endpoint: str, keys: ClientKeys | None = None) -> None:
        """Connect to `tcp://host:port`, with keys if the run demands them."""
        self.endpoint = endpoint
        self.state = SessionState()
        """The session as far as it is known."""
        self.filled = 0
        """Gaps that a snapshot filled."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._keys = keys
        try:
            self._sub = connect(self._context, zmq.SUB, endpoint, keys)
        except BusError:
            self.close()
            raise
        self._sub.subscribe(b"")

    def close(self) -> None:
        """Disconnect."""
        self._context.destroy(linger=0)

    def snapshot(self, timeout_s: float = 2.0) -> bool:
        """Ask for the session's state; False if nobody answers, or in another version of the protocol."""
        asker = connect(self._context, zmq.DEALER, snapshot_endpoint(self.endpoint), self._keys)
        try:
            asker.send_multipart([b"", b"{}"])
            if not asker.poll(int(1000 * timeout_s)):
                return False
            state = msgspec.json.decode(asker.recv_multipart()[-1], type=SessionState)
        except (*MALFORMED, zmq.ZMQError):
            return False
        finally:
            asker.close(linger=0)
        if state.version != VERSION:
            return False
        self.state = state
        return True

    def envelopes(self, timeout_s: float = 1.0, answer_s: float | None = None) -> Iterator[Envelope | None]:
        """Envelopes as they come, already taken into `state`; None after each `timeout_s` without one.

        Starts with a snapshot, then None. Takes another one when envelopes were missed or the program was started anew;
        it is waited for `answer_s` (None: as for envelopes).
        """
        answer_s = timeout_s if answer_s is None else answer_s
        while not self.snapshot(answer_s):
            yield None
        yield None
        while True:
            envelope = self._receive(timeout_s)
            if envelope is None:
                yield None
                continue
            fresh = envelope.session != self.state.session or envelope.seq > self.state.seq
            gap = envelope.session != self.state.session or envelope.seq > self.state.seq + 1
            filled = fresh and gap and self.snapshot(answer_s)
            self.filled += filled
            if fresh and not filled:
                self.state.apply(envelope)
            if fresh:
                yield envelope

    def _receive(self, timeout_s: float) -> Envelope | None:
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            if not self._sub.poll(int(1000 * left) + 1):
                return None
            with contextlib.suppress(*MALFORMED):
                envelope = _ENVELOPES.decode(self._sub.recv_multipart()[-1])
                if (
                    envelope.version == VERSION
                ):  # fields of another one mean something else, even where they can be read
                    return envelope
        return None


def connect(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, endpoint: str, keys: ClientKeys | None = None
) -> zmq.Socket[bytes]:
    """A socket of this kind, connected. Raises BusError."""
    socket = context.socket(kind)
    socket.ipv6, socket.rcvhwm = True, RECEIVED_KEPT
    if keys is not None:
        socket.curve_publickey, socket.curve_secretkey = keys.own
        socket.curve_serverkey = keys.server
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
    if path.stat().st_uid != out.stat().st_uid:
        raise BusError(f"{path}: belongs to somebody else than {out}; nothing is sent there")
    answer = _ask(f"ipc://{path}", read_endpoint(out).session, command, None, timeout)
    if answer is None:
        raise BusError(f"{out}: the run does not answer; it may have been killed")
    return answer


def send_command_to(endpoint: str, keys: ClientKeys, command: Command, timeout: float = 6.0) -> Answer:
    """Send a command to a run on another machine; raises BusError if it does not answer."""
    subscriber = Subscriber(endpoint, keys)
    try:
        if not subscriber.snapshot(timeout):
            raise BusError(f"{endpoint}: no answer; is a run active there, and does it know your key?")
    finally:
        subscriber.close()
    answer = _ask(command_endpoint(endpoint), subscriber.state.session, command, keys, timeout)
    if answer is None:
        raise BusError(f"{endpoint}: takes no commands from you; is your key in its folder operators/?")
    return answer


def _ask(endpoint: str, session: str, command: Command, keys: ClientKeys | None, timeout_s: float) -> Answer | None:
    """The answer to a command, None without one."""
    request = Request(session=session, id=uuid.uuid4().hex, command=command)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        asker = connect(context, zmq.DEALER, endpoint, keys)
        asker.send_multipart([b"", _ENCODER.encode(request)])
        if not asker.poll(int(1000 * timeout_s)):
            return None
        return msgspec.json.decode(asker.recv_multipart()[-1], type=Answer)
    except MALFORMED as error:
        raise BusError(f"{endpoint}: answers nonsense ({error})") from None
    finally:
        context.destroy(linger=0)
