"""What it costs to tell people and programs: latency, loss, slow readers, a restart, rubbish."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import _bench_dashboard
import msgspec
import zmq
from _bench_session import PORT, Session, placed

from streamtomo import messages
from streamtomo.messages import Answer, Envelope, Heartbeat
from streamtomo.publish.client import Subscriber
from streamtomo.publish.gate import Gate

Row = Callable[[str, tuple[float, float]], None]
MANY = 100_000
RUBBISH = 1_000_000


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
    _bench_dashboard.bench(folder, row, runs)
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
