"""What it costs to tell people and programs: latency, loss, slow readers, a restart, rubbish, bytes on a bad line."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import select
import statistics
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import zmq

from streamtomo import messages
from streamtomo.messages import VERSION, Answer, Envelope, Heartbeat, Picture, TiltPlaced, TiltReceived
from streamtomo.model import Correction, Placement, RawImage, Tilt, Verdict
from streamtomo.publish.bus import Publisher
from streamtomo.publish.client import Subscriber
from streamtomo.publish.gate import Gate
from streamtomo.publish.state import SessionState

Row = Callable[[str, tuple[float, float]], None]
PORT = 5950
MANY = 100_000
RUBBISH = 1_000_000


class Session:
    """A publisher with the state behind it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.seq, self.state = name, 0, SessionState()
        self.lock = threading.Lock()
        self.publisher = Publisher(
            session=name,
            bind="127.0.0.1",
            port=PORT,
            curve_keys=None,
            snapshot=self.snapshot,
            command=lambda command, by: Answer(ok=True, text="done"),
            command_socket=folder / ".command",
        )
        self.endpoint = self.publisher.endpoint

    def snapshot(self) -> bytes:
        with self.lock:
            return msgspec.json.encode(self.state)

    def say(self, event: messages.Event) -> None:
        self.seq += 1
        one = Envelope(version=VERSION, session=self.name, seq=self.seq, topic_seq=1, time_s=time.time(), event=event)
        with self.lock:
            self.state.apply(one)
        self.publisher.publish(one)


def joined(session: Session) -> tuple[Subscriber, Iterator[Envelope | None]]:
    """A reader that has heard something."""
    reader = Subscriber(session.endpoint)
    stream = reader.envelopes(0.05)
    while True:
        session.say(Heartbeat(backlog=0))
        if next(stream) is not None:
            break
    while next(stream) is not None:
        pass
    return reader, stream


def bench(folder: Path, row: Row, runs: int) -> None:
    """Print the table."""
    print("\ntelling (loopback)")
    bench_latency(folder, row)
    bench_loss(folder, row)
    bench_slow(folder, row)
    bench_restart(folder, row)
    bench_rubbish(row)
    bench_start(folder, row, runs)
    for size in ((80, 24), (120, 40), (200, 60)):
        bench_dashboard(folder, row, size)
    bench_readers(folder, row, runs)


def bench_latency(folder: Path, row: Row) -> None:
    """From `publish` to the decoded envelope in another thread."""
    session = Session(folder, "latency")
    reader, stream = joined(session)
    taken: list[float] = []

    def read() -> None:
        for envelope in stream:
            if envelope is not None:
                taken.append(1000 * (time.time() - envelope.time_s))
                if len(taken) == 2000:
                    return

    thread = threading.Thread(target=read)
    thread.start()
    for n in range(2000):
        session.say(placed("TS_01", n % 41))
        time.sleep(0.002)
    thread.join(20)
    taken.sort()
    row("latency, ms: median, 99 of 100", (statistics.median(taken), taken[len(taken) * 99 // 100]))
    reader.close()
    session.publisher.close()


def bench_loss(folder: Path, row: Row) -> None:
    """A healthy reader of very many messages, sent as fast as they can be."""
    session = Session(folder, "many")
    reader, stream = joined(session)
    first, last = session.seq, session.seq + MANY
    seen = 0

    def read() -> None:
        nonlocal seen
        for envelope in stream:
            seen += envelope is not None
            if reader.state.seq >= last:
                return

    thread = threading.Thread(target=read)
    start = time.perf_counter()
    thread.start()
    while session.seq < last:
        session.say(messages.Warned(code="bench", text="n"))
    thread.join(120)
    row(f"{MANY} messages: messages lost, s", (float(last - first - seen), time.perf_counter() - start))
    row("  gaps that a snapshot filled", (float(reader.filled), float(reader.state.missed)))
    reader.close()
    session.publisher.close()


def bench_slow(folder: Path, row: Row) -> None:
    """Twenty readers, one of which never reads: what a message costs the publisher, and whether the others have all."""
    session = Session(folder, "slow")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    counts = [0] * 19

    def read(which: int) -> None:
        socket = subscribed(context, session.endpoint)
        while True:
            if not socket.poll(2000):
                break
            socket.recv_multipart()
            counts[which] += 1
        socket.close(linger=0)

    stuck = subscribed(context, session.endpoint, rcvhwm=1)
    threads = [threading.Thread(target=read, args=(n,)) for n in range(19)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    spent = []
    for n in range(5000):
        start = time.perf_counter()
        session.say(placed("TS_01", n % 41))
        spent.append(1e6 * (time.perf_counter() - start))
        time.sleep(0.0005)
    for thread in threads:
        thread.join()
    row("20 readers, one stuck: us a message, median and worst", (statistics.median(spent), max(spent)))
    row("  of 5000, the least and the most that a reader got", (float(min(counts)), float(max(counts))))
    stuck.close(linger=0)
    context.destroy(linger=0)
    session.publisher.close()


def subscribed(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, rcvhwm: int = 100_000) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.SUB)
    socket.rcvhwm = rcvhwm
    socket.connect(endpoint)
    socket.subscribe(b"tilt.")
    return socket


def bench_restart(folder: Path, row: Row) -> None:
    """A publisher that ends and comes again: until its reader knows the new session as a whole."""
    session = Session(folder, "first")
    reader, stream = joined(session)
    session.publisher.close()
    while next(stream) is not None:
        pass
    again = Session(folder, "second")
    again.say(messages.SeriesOpened(series="TS_01", source="s", nx=1, ny=1))
    start = time.perf_counter()
    while reader.state.session != "second":
        again.say(Heartbeat(backlog=0))
        next(stream)
    whole = reader.state.series.keys() == again.state.series.keys()
    spent = 1000 * (time.perf_counter() - start)
    row("a publisher started anew: ms until whole; whether whole", (spent, float(whole)))
    reader.close()
    again.publisher.close()


def bench_rubbish(row: Row) -> None:
    """Random and nearly right messages at the gate: none gets in, all are counted."""
    gate, rng = Gate("session"), random.Random(1)
    whole = msgspec.json.encode(
        messages.Request(session="another", id="1", command=messages.CloseSeries(series="TS_01"))
    )
    start = time.perf_counter()
    let_in = 0
    for n in range(RUBBISH):
        if n % 2:
            message = rng.randbytes(rng.randrange(80))
        else:
            damaged = bytearray(whole)
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            message = bytes(damaged)
        let_in += not isinstance(gate.admit(message), Answer)
    assert gate.turned_away.total() == RUBBISH - let_in
    row(f"{RUBBISH} random messages: let in, s", (float(let_in), time.perf_counter() - start))


# -- bytes on the line -----------------------------------------------------------------------------------------------


def bench_dashboard(folder: Path, row: Row, size: tuple[int, int]) -> None:
    """Bytes a second on a real pseudo-terminal, at rest and while a tilt with new pictures comes each second."""
    session = Session(folder, "shown")
    session.say(messages.SessionStarted(watched="/scope", out="/out", host="h", pid=1, program="0"))
    session.say(messages.SeriesOpened(series="TS_01", source="s", nx=5760, ny=4092, pixel_size_A=2.1, planned_tilts=41))
    tilt(session, 0)
    with on_terminal(session.endpoint, size) as heard:
        heard.rate(lambda: session.say(Heartbeat(backlog=0)), 8)  # the first screen
        rest = heard.rate(lambda: session.say(Heartbeat(backlog=0)), 10)
        numbers = iter(range(1, 41))

        def a_tilt() -> None:
            tilt(session, next(numbers))
            session.say(Heartbeat(backlog=0, waiting_for="TS_01: the next tilt"))

        busy = heard.rate(a_tilt, 20)
    row(f"dashboard {size[0]} x {size[1]}: bytes/s at rest, with a tilt a second", (rest, busy))
    session.publisher.close()


def bench_start(folder: Path, row: Row, runs: int) -> None:
    """From the command to the first screen with a series on it; beside it, an interpreter that does nothing."""
    session = Session(folder, "started")
    session.say(messages.SessionStarted(watched="/scope", out="/out", host="h", pid=1, program="0"))
    session.say(messages.SeriesOpened(series="TS_01", source="s", nx=5760, ny=4092, pixel_size_A=2.1, planned_tilts=41))
    tilt(session, 0)
    shown, bare = [], []
    for _ in range(runs):
        start = time.perf_counter()
        with on_terminal(session.endpoint, (120, 40)) as heard:
            heard.until(b"TS_01")
            shown.append(1000 * (time.perf_counter() - start))
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", ""], check=True)
        bare.append(1000 * (time.perf_counter() - start))
    row("dashboard 120 x 40: ms to its first screen", (min(shown), statistics.median(shown)))
    row("  an interpreter that does nothing", (min(bare), statistics.median(bare)))
    session.publisher.close()


def tilt(session: Session, index: int) -> None:
    """One tilt, with noise for pictures: the hardest to send."""
    angle = 3.0 * (index // 2) * (-1) ** index
    image = RawImage(series="TS_01", path=f"/scope/{index}.mrc", nx=5760, ny=4092, angle_deg=angle)
    session.say(TiltReceived(series="TS_01", tilt=Tilt(index=index, image=image)))
    session.say(placed("TS_01", index, angle))
    rng = random.Random(index)
    for plane, height in (("xy", 96), ("xz", 32)):
        pixels = bytes(min(255, max(0, int(rng.gauss(128, 40)))) for _ in range(96 * height))
        session.say(Picture(series="TS_01", plane=plane, tilts=index, width=96, height=height, pixels=pixels))


def placed(series: str, index: int, angle: float = 0.0) -> TiltPlaced:
    """As the live lane tells it."""
    return TiltPlaced(
        series=series,
        index=index,
        angle_deg=angle,
        correction=Correction(repaired=40 + index, binning=8, mean=100.0, sd=10.0),
        placement=Placement(shift_x=1.5 * index, shift_y=-2.5, score=90.0 - index, ambiguity=0.2, neighbour=0),
        verdict=Verdict(state="good"),
        in_volume=True,
        stage_ms={"wait": 5, "read": 16, "correct": 9, "align": 45, "reconstruct": 18, "show": 2, "total": 98},
    )


class Heard:
    """What comes through a terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal

    def rate(self, work: Callable[[], None], seconds: int) -> float:
        """Bytes a second while something is done each second."""
        return sum(self._second(work) for _ in range(seconds)) / seconds

    def until(self, text: bytes) -> None:
        """Read on until this was sent."""
        sent = b""
        while text not in sent:
            sent += os.read(self._terminal, 65536)

    def _second(self, work: Callable[[], None]) -> int:
        work()
        count, end = 0, time.monotonic() + 1.0
        while (left := end - time.monotonic()) > 0:
            if select.select([self._terminal], [], [], left)[0]:
                count += len(os.read(self._terminal, 65536))
        return count


@contextmanager
def on_terminal(endpoint: str, size: tuple[int, int]) -> Iterator[Heard]:
    """A dashboard on a pseudo-terminal, and what it sends."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    shown = subprocess.Popen(
        [sys.executable, "-m", "streamtomo", "dashboard", endpoint],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)

    try:
        yield Heard(ours)
    finally:
        shown.kill()
        shown.wait()
        os.close(ours)


# -- what readers cost a run -----------------------------------------------------------------------------------------


def bench_readers(folder: Path, row: Row, pairs: int) -> None:
    """CPU time of the live lane in 41 tilts with 20 readers of everything in another process, and without, in turn.

    Its kernels run in the lane's own thread here, so that its time is told apart from what else the run does.
    """
    scope = folder / "scope"
    simulated = [sys.executable, "-m", "streamtomo", "simulate", str(scope), "--interval", "0", "--size", "512x512"]
    subprocess.run(simulated, check=True, stdout=subprocess.DEVNULL)
    spent: dict[bool, list[float]] = {False: [], True: []}
    for pair in range(pairs):
        for with_readers in (False, True) if pair % 2 else (True, False):
            spent[with_readers].append(run_cpu_s(scope, folder / f"out-{pair}-{with_readers}", with_readers))
    without, more = (statistics.median(spent[one]) for one in (False, True))
    row(f"live lane, 41 tilts, CPU s without and with 20 readers ({pairs} pairs)", (without, more))
    ratios = [a / b - 1 for a, b in zip(spent[True], spent[False], strict=True)]
    row("  difference, %: median, standard error", (100 * statistics.median(ratios), standard_error(ratios)))


def standard_error(ratios: list[float]) -> float:
    return 100 * statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0


def run_cpu_s(scope: Path, out: Path, with_readers: bool) -> float:
    """User and system time of the busiest thread of `streamtomo run` itself, from the first tilt to the last."""
    settings = [f"publish.port={PORT}", "acquisition.planned_tilts=42", "run.threads=1"]
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "streamtomo", "run", str(scope), "--out", str(out), "--plain", *words]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    readers = None
    if with_readers:
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import _bench_told as b; b.read_all()"
        readers = subprocess.Popen([sys.executable, "-c", code])
    assert run.stdout is not None
    before: dict[str, float] = {}
    for line in run.stdout:
        if "tilt   0" in line:
            before = threads_cpu_s(run.pid)
        if "tilt  40" in line:
            break
    spent = max(now - before.get(thread, 0.0) for thread, now in threads_cpu_s(run.pid).items())
    run.terminate()
    run.stdout.close()
    run.wait()
    if readers is not None:
        readers.kill()
        readers.wait()
    return spent


def threads_cpu_s(pid: int) -> dict[str, float]:
    """User and system time of each thread of a process."""
    spent = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        user, system = (task / "stat").read_text().rpartition(")")[2].split()[11:13]
        spent[task.name] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return spent


def read_all() -> None:
    """Twenty readers, until killed."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    poller = zmq.Poller()
    for _ in range(20):
        socket = context.socket(zmq.SUB)
        socket.connect(f"tcp://127.0.0.1:{PORT}")
        socket.subscribe(b"")
        poller.register(socket, zmq.POLLIN)
    while True:
        for socket, _ in poller.poll():
            socket.recv_multipart()
