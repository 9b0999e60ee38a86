"""The sockets over loopback: a session tells, viewers listen, strangers send rubbish."""

import ast
import json
import os
import pickle
import socket
import stat
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import pytest
import zmq
import zmq.auth
from hypothesis import given
from hypothesis import settings as fuzzing
from hypothesis import strategies as any_of

import streamtomo
from streamtomo.errors import BusError
from streamtomo.messages import (
    VERSION,
    Answer,
    CloseSeries,
    Envelope,
    Heartbeat,
    Request,
    SeriesJudged,
    SeriesOpened,
    StopRun,
    Warned,
)
from streamtomo.outfolder import lock_out
from streamtomo.publish import bus, endpoints, viewer
from streamtomo.publish.bus import Publisher
from streamtomo.publish.client import Subscriber, send_command, send_command_to
from streamtomo.publish.endpoints import command_socket, find_endpoint, is_loopback
from streamtomo.publish.gate import Bucket, Gate
from streamtomo.publish.keys import ClientKeys, Pair, add_client, client_keys, make_keys
from streamtomo.publish.state import SessionState

DEEP = b'{"x":' + b"[" * 50_000


class Session:
    """A publisher with a state behind it, as the engine has one."""

    def __init__(self, out, port, name="s1", snapshot=None, command=None, **options):
        self.name, self.seq, self.state = name, 0, SessionState()
        self.commands = []
        self.publisher = Publisher(
            session=name,
            bind=options.pop("bind", "127.0.0.1"),
            port=port,
            curve_keys=options.pop("curve_keys", None),
            snapshot=snapshot or (lambda: msgspec.json.encode(self.state)),
            command=command or self.obey,
            command_socket=command_socket(out),
        )
        self.endpoint = self.publisher.endpoint
        self.lock = lock_out((), out)
        told = endpoints.RunAddress(self.endpoint, name)
        (out / "endpoint.json").write_bytes(msgspec.json.encode(told))

    def obey(self, command, by):
        self.commands.append(command)
        self.by = by
        return Answer(ok=True, text="done")

    def say(self, event, *, lost=False):
        self.seq += 1
        envelope = Envelope(version=VERSION, session=self.name, seq=self.seq, time_s=1000.0 + self.seq, event=event)
        self.state.apply(envelope)
        if not lost:
            self.publisher.publish(envelope)
        return envelope

    def close(self):
        self.publisher.close()
        self.lock.close()

    def restart(self, name):
        self.name, self.seq = name, 0


class Fleet:
    """Opens sessions, subscribers and bare sockets, and closes them all."""

    def __init__(self, folder):
        self.folder, self.opened = folder, []
        self.context = zmq.Context()

    def session(self, name="s1", port=None, **options):
        out = Path(tempfile.mkdtemp(dir=self.folder))
        one = Session(out, port or free_port(), name, **options)
        one.out = out
        self.opened.append(one)
        return one

    def subscriber(self, endpoint, keys=None):
        one = Subscriber(endpoint, keys)
        self.opened.append(one)
        return one

    def socket(self, kind, connect=None, **options):
        one = self.context.socket(kind)
        self.opened.append(one)
        for name, value in {"linger": 0, **options}.items():
            setattr(one, name, value)
        if connect:
            one.connect(connect)
        return one

    def close(self):
        for one in reversed(self.opened):
            one.close()
        self.context.destroy(linger=0)


@pytest.fixture
def fleet(tmp_path):
    opened = Fleet(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def session(fleet):
    return fleet.session()


def free_port():
    """A port that is free now, with a free one after it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def joined(session, subscriber):
    """The stream of a subscriber that has heard something, so that it will hear everything."""
    stream = subscriber.envelopes(0.05)
    for _ in range(400):
        session.say(Heartbeat(backlog=0))
        if next(stream) is not None:
            break
    while next(stream) is not None:
        pass
    return stream


def heard(stream, count):
    """The next envelopes; pauses are passed over."""
    found = []
    for envelope in stream:
        if envelope is not None:
            found.append(envelope)
        if len(found) == count:
            break
    return found


def request(command, session="s1", id="1"):
    return msgspec.json.encode(Request(session=session, id=id, command=command))


def answer_in(frames):
    return msgspec.json.decode(frames[-1], type=Answer)


def done(answer):
    return (answer.ok, answer.text) == (True, "done")


def warned(n=0):
    return Warned(code="test", text=f"number {n}")


def opened(name):
    return SeriesOpened(series=name, source="s", nx=1, ny=1)


# -- the stream ------------------------------------------------------------------------------------------------------


def test_what_is_published_comes_in_order_and_without_gaps(fleet, session):
    subscriber = fleet.subscriber(session.endpoint)
    stream = joined(session, subscriber)
    told = [session.say(warned(n)) for n in range(300)]
    assert heard(stream, 300) == told
    assert subscriber.state == session.state


def test_who_joins_late_knows_all_at_once(fleet, session):
    for n in range(5):
        session.say(opened(f"TS_{n}"))
    subscriber = fleet.subscriber(session.endpoint)
    assert subscriber.snapshot(5)
    assert list(subscriber.state.series) == [f"TS_{n}" for n in range(5)]
    assert (subscriber.state.seq, subscriber.state.missed) == (5, 0)


def test_a_quiet_stream_says_so(fleet, session):
    stream = joined(session, fleet.subscriber(session.endpoint))
    assert next(stream) is None


def test_a_gap_is_filled_from_a_snapshot(fleet, session):
    subscriber = fleet.subscriber(session.endpoint)
    stream = joined(session, subscriber)
    session.say(opened("lost_1"), lost=True)
    session.say(opened("lost_2"), lost=True)
    last = session.say(opened("TS"))
    assert heard(stream, 1) == [last]
    assert list(subscriber.state.series) == ["lost_1", "lost_2", "TS"]
    assert subscriber.state.missed == 0


def test_a_gap_that_cannot_be_filled_is_counted(fleet):
    broken = []
    session = fleet.session(snapshot=lambda: broken[0] if broken else msgspec.json.encode(session.state))
    subscriber = fleet.subscriber(session.endpoint)
    stream = joined(session, subscriber)
    broken.append(b'{"series": [[]]}')
    session.say(opened("lost"), lost=True)
    session.say(opened("TS"))
    assert heard(stream, 1)[0].event == opened("TS")
    assert list(subscriber.state.series) == ["TS"]
    assert subscriber.state.missed == 1


def test_an_envelope_that_comes_twice_is_told_once(fleet, session):
    stream = joined(session, fleet.subscriber(session.endpoint))
    first = session.say(warned(1))
    session.publisher.publish(first)
    second = session.say(warned(2))
    assert heard(stream, 2) == [first, second]


def test_a_program_started_anew_is_followed(fleet, session):
    subscriber = fleet.subscriber(session.endpoint)
    stream = joined(session, subscriber)
    session.restart("s2")
    session.say(opened("TS"))
    assert heard(stream, 1)[0].session == "s2"
    assert (subscriber.state.session, subscriber.state.seq, subscriber.state.missed) == ("s2", 1, 0)


def test_a_subscriber_may_come_before_the_run(fleet):
    port = free_port()
    subscriber = fleet.subscriber(f"tcp://127.0.0.1:{port}")
    stream = subscriber.envelopes(0.1)
    assert next(stream) is None
    session = fleet.session(port=port)
    session.say(opened("TS"))
    for _ in range(100):
        next(stream)
        if subscriber.state.series:
            break
    assert list(subscriber.state.series) == ["TS"]


def test_one_series_can_be_followed_alone(fleet, session):
    """The topic ends with a slash, so that TS_1 is not the beginning of TS_10."""
    joined(session, fleet.subscriber(session.endpoint))
    one = fleet.socket(zmq.SUB, session.endpoint)
    one.subscribe(b"series.judged/TS_1/")
    one.subscribe(b"heartbeat/")
    while not one.poll(50):
        session.say(Heartbeat(backlog=0))
    for name in ("TS_10", "TS_1", "TS_2"):
        session.say(SeriesJudged(series=name, state="good"))
    while (frames := one.recv_multipart())[0] == b"heartbeat/":
        pass
    assert frames[0] == b"series.judged/TS_1/"
    assert msgspec.json.decode(frames[1], type=Envelope).event.series == "TS_1"


def test_what_was_queued_is_sent_before_the_end(fleet, session):
    stream = joined(session, fleet.subscriber(session.endpoint))
    told = [session.say(warned(n)) for n in range(50)]
    session.publisher.close()
    session.publisher.close()
    session.publisher.publish(told[0])
    assert heard(stream, 50) == told


# -- nobody is slowed down -------------------------------------------------------------------------------------------


def test_a_slow_subscriber_slows_nobody_down(fleet, monkeypatch):
    monkeypatch.setattr(bus, "HIGH_WATER", 50)
    session = fleet.session()
    quick = fleet.subscriber(session.endpoint)
    slow = fleet.socket(zmq.SUB, session.endpoint, rcvhwm=1, rcvbuf=4096)
    slow.subscribe(b"")
    while not slow.poll(50):
        session.say(Heartbeat(backlog=0))
    stream = joined(session, quick)
    for n in range(1000):
        session.say(Warned(code="test", text=f"{n}" + "x" * 40_000))
        assert heard(stream, 1)[0].seq == session.seq
    seen, gap = 0, False
    while not gap:
        if not slow.poll(50):
            session.say(Heartbeat(backlog=0))
            continue
        seq = msgspec.json.decode(slow.recv_multipart()[-1], type=Envelope).seq
        seen, gap = seq, bool(seen) and seq > seen + 1


def test_publishing_never_waits_nor_fails_while_the_bus_is_busy(fleet):
    begun, release = threading.Event(), threading.Event()

    def hesitate(command, by):
        begun.set()
        release.wait(30)
        return Answer(ok=True, text="at last")

    session = fleet.session(command=hesitate)
    subscriber = fleet.subscriber(session.endpoint)
    stream = joined(session, subscriber)
    asker = fleet.socket(zmq.DEALER, f"ipc://{command_socket(session.out)}")
    asker.send_multipart([b"", request(StopRun())])
    assert begun.wait(30)
    for n in range(5000):
        session.say(warned(n))
    release.set()
    while subscriber.state.seq < session.seq:  # so many at once that the last ones may be lost; the next shows the gap
        if next(stream) is None:
            session.say(Heartbeat(backlog=0))
    assert subscriber.state == session.state
    assert answer_in(asker.recv_multipart()) == Answer(ok=True, text="at last", id="1")


# -- strangers -------------------------------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


RUBBISH = [b"", b"\0", b"rubbish", b"[]", b'{"command":"dance"}', b'{"command":"stop","now":true}', DEEP]
RUBBISH += [
    b'{"session":"s1","id":"","command":{"command":"stop"}}',
    b'{"command":"close"}',
    b'{"command":"close","series":7}',
    b'{"command":"close","series":"\xff"}',
]


def test_malformed_commands_are_answered_and_change_nothing(fleet, session):
    asker = fleet.socket(zmq.DEALER, f"ipc://{command_socket(session.out)}")
    for rubbish in RUBBISH:
        asker.send_multipart([b"", rubbish])
        assert asker.poll(10_000), rubbish
        assert not answer_in(asker.recv_multipart()).ok
    asker.send_multipart([b"a", b"b", b"c", request(StopRun())])
    assert done(send_command(session.out, StopRun()))
    assert session.commands == [StopRun()]
    assert session.publisher.gate.turned_away == {"malformed": len(RUBBISH), "oversized": 1}
    assert not asker.poll(0), "too many frames: no answer"


def test_any_request_gets_a_snapshot_and_rubbish_does_no_harm(fleet, session):
    session.say(opened("TS"))
    address = endpoints.snapshot_endpoint(session.endpoint)
    asker = fleet.socket(zmq.DEALER, address)
    for rubbish in RUBBISH:
        asker.send_multipart([b"", rubbish])
        assert asker.poll(10_000), rubbish
        assert list(msgspec.json.decode(asker.recv_multipart()[-1], type=SessionState).series) == ["TS"]
    fleet.socket(zmq.DEALER, address).send(b"x" * (bus.LARGEST_MESSAGE + 1))
    fleet.socket(zmq.DEALER, address).send_multipart([b"x"] * 20)
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n" * 20)
    assert fleet.subscriber(session.endpoint).snapshot(5)


def test_the_snapshot_socket_takes_no_commands(fleet, session):
    asker = fleet.socket(zmq.DEALER, endpoints.snapshot_endpoint(session.endpoint))
    asker.send_multipart([b"", b'{"command":"stop"}'])
    assert asker.poll(10_000)
    assert session.commands == []


def test_a_subscriber_passes_over_what_it_does_not_understand(fleet):
    port = free_port()
    pub, router = fleet.socket(zmq.PUB), fleet.socket(zmq.ROUTER)
    pub.bind(f"tcp://127.0.0.1:{port}")
    router.bind(f"tcp://127.0.0.1:{port + 1}")
    answering = threading.Thread(target=_answer_once, args=(router,))
    answering.start()
    stream = fleet.subscriber(f"tcp://127.0.0.1:{port}").envelopes(0.05)
    envelope = Envelope(version=VERSION, session="s", seq=1, time_s=1.0, event=warned())
    while next(stream) is None:
        pub.send_multipart([b"t", msgspec.json.encode(envelope)])
    answering.join()
    later = b'{"version":1,"session":"s","seq":2,"time_s":2.0,"event":{"kind":"tilt.dreamt"}}'
    nan = msgspec.json.encode(envelope).replace(b"1.0", b"null")
    newer = msgspec.json.encode(msgspec.structs.replace(envelope, version=VERSION + 1, seq=2))
    for rubbish in (*RUBBISH, later, nan, newer, pickle.dumps(Bomb("never"))):
        pub.send_multipart([b"t", rubbish])
        pub.send(rubbish)
    last = msgspec.structs.replace(envelope, seq=2)
    pub.send_multipart([b"t", msgspec.json.encode(last)])
    assert heard(stream, 1) == [last]


def _answer_once(router, version=VERSION):
    client, *_ = router.recv_multipart()
    router.send_multipart([client, b"", msgspec.json.encode(SessionState(version=version))])


def test_a_snapshot_of_another_version_is_none(fleet):
    port = free_port()
    router = fleet.socket(zmq.ROUTER)
    router.bind(f"tcp://127.0.0.1:{port + 1}")
    reader = fleet.subscriber(f"tcp://127.0.0.1:{port}")
    for version in (VERSION + 1, VERSION):
        answering = threading.Thread(target=_answer_once, args=(router, version))
        answering.start()
        assert reader.snapshot(10.0) == (version == VERSION)
        answering.join()


def test_nothing_received_is_unpickled(fleet, session, tmp_path):
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    for address in (f"ipc://{command_socket(session.out)}", endpoints.snapshot_endpoint(session.endpoint)):
        asker = fleet.socket(zmq.DEALER, address)
        asker.send_multipart([b"", bomb])
        assert asker.poll(10_000)
    assert not (tmp_path / "exploded").exists()


def test_no_module_can_unpickle_or_execute():
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "recv_pyobj", "eval", "exec"}
    for path in Path(streamtomo.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not names & forbidden, path


def test_a_request_works_once_and_only_in_its_session(fleet, session):
    asker = fleet.socket(zmq.DEALER, f"ipc://{command_socket(session.out)}")
    for told, text in (
        (request(StopRun()), "done"),
        (request(StopRun()), "this request came before"),
        (request(StopRun(), session="s0", id="2"), "meant for another session; the run was started anew"),
    ):
        asker.send_multipart([b"", told])
        assert answer_in(asker.recv_multipart()).text == text
    assert session.commands == [StopRun()]
    assert session.publisher.gate.turned_away == {"repeated": 1, "other session": 1}


def test_a_flood_is_counted_and_others_are_still_served(fleet, session):
    flood = fleet.socket(zmq.DEALER, endpoints.snapshot_endpoint(session.endpoint))
    for _ in range(500):
        flood.send_multipart([b"", b"{}"])
    assert done(send_command(session.out, CloseSeries(series="TS")))
    stream = joined(session, fleet.subscriber(session.endpoint))
    told = session.say(warned(1))
    assert heard(stream, 1) == [told]
    assert session.publisher.gate.turned_away["flooding"] > 100


def test_a_bucket_lets_a_burst_through_and_then_so_many_a_second():
    bucket = Bucket(per_s=10, burst=5)
    assert [bucket.take(100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [bucket.take(100.2) for _ in range(3)] == [True, True, False]
    assert sum(bucket.take(200.0) for _ in range(100)) == 5


JSON = any_of.recursive(
    any_of.none() | any_of.booleans() | any_of.integers() | any_of.floats() | any_of.text(),
    lambda inner: (
        any_of.lists(inner) | any_of.dictionaries(any_of.text() | any_of.sampled_from(["id", "command"]), inner)
    ),
)
NEARLY = any_of.fixed_dictionaries(
    {"session": any_of.sampled_from(["s1", "s2", 1]), "id": any_of.text(max_size=80) | JSON},
    optional={"command": JSON | any_of.fixed_dictionaries({"command": any_of.text(max_size=8)}), "more": JSON},
).map(lambda value: json.dumps(value).encode())


@fuzzing(max_examples=60, deadline=None)
@given(any_of.binary() | JSON.map(lambda value: json.dumps(value).encode()) | NEARLY)
def test_whatever_comes_is_turned_away_and_counted(message):
    gate = Gate("s1")
    assert isinstance(gate.admit(message), Answer)
    assert gate.turned_away.total() == 1


@fuzzing(max_examples=100, deadline=None)
@given(any_of.data())
def test_a_damaged_request_never_becomes_another_order(data):
    whole = bytearray(request(CloseSeries(series="TS_1")))
    at = data.draw(any_of.integers(0, len(whole) - 1))
    whole[at] = data.draw(any_of.integers(0, 255))
    admitted = Gate("s1").admit(bytes(whole))
    assert isinstance(admitted, Answer) or isinstance(admitted.command, CloseSeries)


def test_ids_are_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr("streamtomo.publish.gate.IDS_KEPT", 10)
    gate = Gate("s1")
    assert all(isinstance(gate.admit(request(StopRun(), id=str(n))), Request) for n in range(30))
    assert isinstance(gate.admit(request(StopRun(), id="29")), Answer)
    assert len(gate._seen) == 10


# -- commands --------------------------------------------------------------------------------------------------------


def test_a_command_gets_its_answer_from_the_owner_only_file(fleet, session):
    assert done(send_command(session.out, CloseSeries(series="TS")))
    assert session.commands == [CloseSeries(series="TS")]
    path = command_socket(session.out)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    session.publisher.close()
    assert not path.exists()


def test_where_no_run_is_active_a_command_says_so(tmp_path):
    with pytest.raises(BusError, match="no run is active there"):
        send_command(tmp_path, StopRun())


def test_a_run_that_was_killed_does_not_answer_and_its_file_is_no_obstacle(fleet, tmp_path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(command_socket(tmp_path)))
    (tmp_path / "endpoint.json").write_text('{"endpoint": "tcp://127.0.0.1:9"}')
    with pytest.raises(BusError, match="no run is active there"):
        send_command(tmp_path, StopRun())
    with lock_out((), tmp_path), pytest.raises(BusError, match="may have been killed"):
        send_command(tmp_path, StopRun(), timeout=0.1)
    session = Session(tmp_path, free_port())
    fleet.opened.append(session)
    assert send_command(tmp_path, StopRun()).ok


def test_a_path_too_long_for_a_socket_is_no_obstacle(fleet, tmp_path):
    out = tmp_path / ("x" * 120)
    out.mkdir()
    session = Session(out, free_port())
    fleet.opened.append(session)
    assert len(os.fsencode(command_socket(out))) <= endpoints.LONGEST_SOCKET_PATH
    assert command_socket(out) != command_socket(tmp_path / ("x" * 121))
    assert send_command(out, StopRun()).ok


def test_a_command_socket_that_cannot_be_made_leaves_nothing_open(tmp_path):
    port = free_port()
    for _ in range(2):
        with pytest.raises(BusError, match="cannot be made"):
            Session(tmp_path / "nowhere", port)
    (tmp_path / "out").mkdir()
    session = Session(tmp_path / "out", port)
    assert session.endpoint.endswith(f":{port}")
    session.close()


# -- ports -----------------------------------------------------------------------------------------------------------


def test_two_runs_on_one_machine_do_not_meet(fleet):
    port = free_port()
    first, second = fleet.session("first", port), fleet.session("second", port)
    assert first.endpoint != second.endpoint
    streams = [joined(one, fleet.subscriber(one.endpoint)) for one in (first, second)]
    told = [one.say(warned()) for one in (first, second)]
    assert [heard(stream, 1)[0] for stream in streams] == told
    for one in (first, second):
        send_command(one.out, CloseSeries(series=one.name))
        assert one.commands == [CloseSeries(series=one.name)]


@pytest.mark.parametrize("offset", [0, 1])
def test_a_port_in_use_is_passed_over(fleet, offset):
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + offset))
        other.listen()
        session = fleet.session(port=port)
    assert int(session.endpoint.rpartition(":")[2]) >= port + 2
    assert fleet.subscriber(session.endpoint).snapshot(5)


def test_when_all_ports_are_in_use_it_says_what_to_do(fleet, monkeypatch):
    monkeypatch.setattr(bus, "PORTS_TRIED", 1)
    session = fleet.session()
    port = int(session.endpoint.rpartition(":")[2])
    with pytest.raises(BusError, match=r"publish\.port: .* in use; choose another"):
        fleet.session(port=port)


def test_an_address_that_is_not_ours_is_named(fleet, tmp_path):
    with pytest.raises(BusError, match=r"tcp://127\.0\.0\.1\.5:.*cannot be bound|cannot be bound"):
        fleet.session(bind="localhost.invalid", curve_keys=certificates(tmp_path))


# -- who may listen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bind", ["0.0.0.0", "*", "192.0.2.1", "::", "[::]", "eth0", "lo", "example.org", "127.0.0.1.evil"]
)
def test_without_keys_only_loopback_is_bound(fleet, bind):
    assert not is_loopback(bind)
    with pytest.raises(BusError, match=r"is not loopback: others could read .* Set publish\.curve_keys"):
        fleet.session(bind=bind)


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]"])
def test_every_loopback_will_do(fleet, bind):
    assert is_loopback(bind)
    if ":" in bind and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    session = fleet.session(bind=bind)
    assert fleet.subscriber(session.endpoint).snapshot(5)


def _has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def certificates(folder):
    """A folder of keys as `streamtomo keys` makes it, with one operator more and one who only listens."""
    make_keys(folder / "keys", "owner")
    add_client(folder / "keys", "alice", read_only=False)
    add_client(folder / "keys", "bob", read_only=True)
    return folder / "keys"


@pytest.mark.skipif(not zmq.has("curve"), reason="libzmq without CURVE")
def test_with_keys_only_those_who_are_known_may_listen(fleet, tmp_path):
    keys = certificates(tmp_path)
    session = fleet.session(bind="0.0.0.0", curve_keys=keys)
    endpoint = session.endpoint.replace("0.0.0.0", "127.0.0.1")
    alice, bob = (client_keys(keys / "for" / name) for name in ("alice", "bob"))
    streams = [joined(session, fleet.subscriber(endpoint, one)) for one in (client_keys(keys), bob, alice)]
    stream = streams[-1]
    strangers = {
        "no keys": None,
        "unknown client": ClientKeys(Pair(*zmq.curve_keypair()), alice.server),
        "another server": ClientKeys(alice.own, zmq.curve_keypair()[0]),
    }
    for name, held in strangers.items():
        stranger = fleet.subscriber(endpoint, held)
        assert not stranger.snapshot(0.3), name
        told = session.say(warned())
        assert heard(stream, 1) == [told]
        assert stranger._receive(0.2) is None, name
    assert send_command(session.out, StopRun()).ok, "the owner's file needs no keys"


@pytest.mark.skipif(not zmq.has("curve"), reason="libzmq without CURVE")
def test_from_another_machine_only_operators_give_orders(fleet, tmp_path):
    keys = certificates(tmp_path)
    session = fleet.session(curve_keys=keys)
    session.say(warned())
    alice, bob = (client_keys(keys / "for" / name) for name in ("alice", "bob"))
    assert done(send_command_to(session.endpoint, alice, CloseSeries(series="TS")))
    assert (session.commands, session.by) == ([CloseSeries(series="TS")], "alice")
    with pytest.raises(BusError, match="takes no commands from you"):
        send_command_to(session.endpoint, bob, StopRun(), timeout=0.5)
    with pytest.raises(BusError, match="does it know your key"):
        send_command_to(session.endpoint, ClientKeys(Pair(*zmq.curve_keypair()), bob.server), StopRun(), timeout=0.3)
    (keys / "operators" / "alice.key").unlink()
    with pytest.raises(BusError):
        send_command_to(session.endpoint, alice, StopRun(), timeout=0.3)
    late = add_client(keys, "carol", read_only=False)
    assert done(send_command_to(session.endpoint, client_keys(late), CloseSeries(series="TS")))
    assert session.by == "carol"
    assert session.commands == 2 * [CloseSeries(series="TS")]


def test_secret_keys_are_their_owners_alone(tmp_path):
    keys = certificates(tmp_path)
    secrets = [*keys.rglob("*.key_secret")]
    assert len(secrets) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    public, secret = zmq.auth.load_certificate(keys / "server.key_secret")
    assert zmq.curve_public(secret) == public
    for wrong in ("alice", "bob", "../up", "", ".x"):
        with pytest.raises(BusError):
            add_client(keys, wrong, read_only=False)
    with pytest.raises(BusError, match="has keys already"):
        make_keys(keys, "owner")
    (keys / "client.key_secret").chmod(0o640)
    with pytest.raises(BusError, match="others can read it"):
        client_keys(keys)


def test_keys_that_cannot_be_used_are_named_and_nothing_is_left_running(fleet, tmp_path):
    threads = threading.active_count()
    keys = tmp_path / "keys"
    with pytest.raises(BusError, match=r"operators: no such folder; `streamtomo keys"):
        fleet.session(curve_keys=keys)
    (keys / "clients").mkdir(parents=True)
    with pytest.raises(BusError, match=r"server\.key_secret: cannot be read"):
        fleet.session(curve_keys=keys)
    (keys / "clients").rmdir()
    make_keys(keys, "owner")
    (keys / "clients" / "bob.key").write_text("my dog has fleas")
    with pytest.raises(BusError, match=r"bob\.key: cannot be read"):
        fleet.session(curve_keys=keys)
    (keys / "clients" / "bob.key").unlink()
    (keys / "server.key").replace(keys / "server.key_secret")
    with pytest.raises(BusError, match=r"server\.key_secret: holds no secret key"):
        fleet.session(curve_keys=keys)
    assert threading.active_count() == threads


# -- what a person types ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (None, "tcp://127.0.0.1:5570"),
        ("", "tcp://127.0.0.1:5570"),
        ("5580", "tcp://127.0.0.1:5580"),
        ("scope:5580", "tcp://scope:5580"),
        ("tcp://scope:5580", "tcp://scope:5580"),
    ],
)
def test_an_endpoint_is_found_from_what_a_person_types(typed, found):
    assert find_endpoint(typed) == found


def test_an_endpoint_is_found_from_the_folder_of_results(tmp_path):
    with pytest.raises(BusError, match="no run is active there"):
        find_endpoint(str(tmp_path))
    (tmp_path / "scope").mkdir()
    with lock_out((tmp_path / "scope",), tmp_path / "out"):
        told = tmp_path / "out" / "endpoint.json"
        told.write_text('{"endpoint": "tcp://127.0.0.1:5572"}')
        assert find_endpoint(str(tmp_path / "out")) == "tcp://127.0.0.1:5572"
        for bad in ("", "{}", "[]", '{"endpoint": 3}'):
            told.write_text(bad)
            with pytest.raises(BusError, match=r"endpoint\.json: cannot be read"):
                find_endpoint(str(tmp_path / "out"))
    told.write_text('{"endpoint": "tcp://127.0.0.1:5572"}')
    with pytest.raises(BusError, match="no run is active there"):  # one that was killed
        find_endpoint(str(tmp_path / "out"))


@pytest.mark.parametrize("typed", ["nonsense", "nonsense:", "scope:http"])
def test_what_is_no_endpoint_is_named(typed):
    with pytest.raises(BusError, match="is no endpoint; give an output folder, a port, or"):
        find_endpoint(typed)


def test_an_endpoint_that_cannot_be_is_named_and_leaves_nothing_open():
    with pytest.raises(BusError, match=r"is no endpoint .* write tcp://HOST:PORT"):
        Subscriber("tcp://nonsense")
    with pytest.raises(BusError, match="has no port"):
        endpoints.snapshot_endpoint("tcp://scope")


def test_a_dashboard_follows_a_run_to_its_new_port_and_takes_no_other_for_it(fleet):
    first = fleet.session("first")
    first.say(warned())
    watched = viewer._Watched(str(first.out), first.endpoint)
    _until(lambda: watched.look().state is not None)
    port = int(first.endpoint.rpartition(":")[2])
    first.close()
    fleet.opened.remove(first)
    other = fleet.session("other", port)
    for _ in range(8):
        other.say(warned())
        time.sleep(viewer.COPY_S / 4)
    assert watched.look().state.session == "first"
    again = fleet.session("again")
    again.say(warned())
    (first.out / "endpoint.json").write_bytes(msgspec.json.encode(endpoints.RunAddress(again.endpoint, "again")))
    _until(lambda: watched.look().state.session == "again")


def _until(holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
