"""Kills a run at random instants, also while results are written, starts it again, and compares the end with an
undisturbed run of the same files: same placements and alignments, equal volumes, nothing lost, doubled or left over.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import mrcfile
import numpy as np

from streamtomo import messages
from streamtomo.model import Verdict
from streamtomo.publish import journal

PROGRAM = (sys.executable, "-m", "streamtomo")
TEXTS = (".rawtlt", ".tlt", ".prexg", ".xf")
SHARE_ALONE = 0.5
"""So often the run dies alone, as of a fault of its own; else with all its processes, as when the power fails."""
SHARE_AT_OUTPUTS = 0.5
"""Of the kills so many wait for a result that is half written ..."""
OUTPUTS = ("*_job.json", "*.xf", "*_ali.mrc", "*_rec.mrc", "*.png", "*")
"""... one of these."""


@dataclass(frozen=True)
class Plan:
    """What is written, and how often the run dies."""

    kills: int = 50
    size: int = 512
    tilts: int = 21
    series: int = 3
    interval_s: float = 1.2
    """Of several series it has to be over a second: that is how exactly an mdoc tells which tilt was first."""
    seed: int = 1
    pattern: str = "serialem-stack"
    align: str = "auto"
    longest_life_s: float = 6.0
    """Three times as long where a result is waited for."""


@dataclass
class Outcome:
    """What was found; no faults is what is hoped for."""

    faults: list[str] = field(default_factory=list)
    lives: list[str] = field(default_factory=list)
    """How each run that was killed ended."""


def crash_test(folder: Path, plan: Plan, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Write, kill, restart, compare; all files lie below `folder`."""
    outcome, rng = Outcome(), random.Random(plan.seed)
    scope, calm, killed = folder / "scope", folder / "calm", folder / "killed"
    scope.mkdir(parents=True)
    writer = write(scope, plan)
    try:
        for n in range(plan.kills):
            outcome.lives.append(one_life(scope, killed, plan, rng, outcome.faults))
            say(f"kill {n + 1}: {outcome.lives[-1]}")
        writer.wait(timeout=600)
    finally:
        writer.kill()
        writer.wait()
    for out in (killed, calm):
        done = start(scope, out, plan, "--exit-when-idle", "1.5", stderr=subprocess.PIPE)
        words = done.communicate()[1].decode()
        outcome.faults += [f"{out.name}: {words}"] if done.returncode else []
    outcome.faults += list(compare(calm, killed, plan))
    return outcome


def write(scope: Path, plan: Plan) -> subprocess.Popen[bytes]:
    """A microscope that writes series in turn."""
    options = {
        "--pattern": plan.pattern,
        "--size": plan.size,
        "--tilts": plan.tilts,
        "--step": 120 // plan.tilts,
        "--series": plan.series,
        "--interval": plan.interval_s,
        "--seed": plan.seed,
        "--name": "TS_1",
    }
    words = [str(word) for option in options.items() for word in option]
    return subprocess.Popen([*PROGRAM, "simulate", str(scope), "--interleaved", *words], stdout=subprocess.DEVNULL)


def start(scope: Path, out: Path, plan: Plan, *options: str, stderr: int = subprocess.DEVNULL) -> subprocess.Popen:
    """A run; it knows how many tilts there will be, so that a series is finished as soon as it can be."""
    settings = {
        "acquisition.planned_tilts": plan.tilts,
        "final.align": plan.align,
        "watch.settle_s": 0.2,
        "publish.port": 6200,
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [*PROGRAM, "run", str(scope), "--out", str(out), "--plain", *words, *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True)


def one_life(scope: Path, out: Path, plan: Plan, rng: random.Random, faults: list[str]) -> str:
    """Start a run and kill it; the finishing process that it may have dies with it, or is left alone, by chance."""
    output = rng.choice(OUTPUTS) if rng.random() < SHARE_AT_OUTPUTS else None
    life_s = rng.uniform(0.05, plan.longest_life_s) * (1 if output is None else 3)
    begun = time.monotonic()
    alone = rng.random() < SHARE_ALONE
    with start(scope, out, plan, stderr=subprocess.PIPE) as run:
        try:
            what = wait(out, life_s, output)
            if run.poll() is not None:
                faults.append(f"ended by itself with status {run.returncode}: {run.communicate()[1].decode()}")
                return faults[-1]
        finally:
            if not alone and run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
            run.kill()
    return f"after {time.monotonic() - begun:.2f} s{what}"


def wait(out: Path, life_s: float, output: str | None) -> str:
    """Sleep, or at most so long until a result is half written; what it was."""
    until = time.monotonic() + life_s
    while time.monotonic() < until:
        if output and (parts := list(out.glob(f"*/{output}.part"))):
            return f", while {parts[0].name} was written"
        time.sleep(0.003 if output else 0.02)
    return ""


# -- comparing -------------------------------------------------------------------------------------------------------


def results(out: Path) -> Iterator[str]:
    """All files but what is known of the camera, which is written down at other times."""
    for path in out.rglob("*"):
        if ".camera" not in path.parts and path.name != ".live":
            yield str(path.relative_to(out))


def compare(calm: Path, killed: Path, plan: Plan) -> Iterator[str]:
    """Everything in which two output folders differ though they should not, and what is wrong with the second."""
    there, here = (sorted(results(out)) for out in (calm, killed))
    if there != here:
        yield f"files differ: only calm {set(there) - set(here)}, only killed {set(here) - set(there)}"
    names = [path.name for path in sorted(calm.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if len(names) != plan.series:
        yield f"{len(names)} series instead of {plan.series}"
    tilts, again = placements(calm), placements(killed)
    yield from tells_all(killed, names, plan.tilts)
    if tilts != again:
        different = sorted(key for key in tilts.keys() | again.keys() if tilts.get(key) != again.get(key))
        yield f"live placements differ: {different}"
    for name in names if there == here else ():
        yield from compare_series(calm / name, killed / name)


def placements(out: Path) -> dict[tuple[str, int], messages.TiltPlaced]:
    """What the live lane made of each tilt, but for the time it took and for what other series before it teach."""
    events = [one.event for one in journal.read(out / "journal.jsonl")]
    placed = [event for event in events if isinstance(event, messages.TiltPlaced)]
    return {(e.series, e.index): (e.angle_deg, e.correction, e.placement, *_own(e.verdict)) for e in placed}


def _own(verdict: Verdict) -> tuple[object, ...]:
    """A verdict without the angle planned: the other series, complete or not by then, tells it."""
    return verdict.state, verdict.reasons, [measure for measure in verdict.measures if measure.name != "angle"]


def tells_all(out: Path, names: list[str], tilts: int) -> Iterator[str]:
    """Whether the journal has every tilt once, and an end for every series."""
    events = [one.event for one in journal.read(out / "journal.jsonl")]
    for name in names:
        own = [event for event in events if getattr(event, "series", None) == name]
        images = [event.tilt.image for event in own if isinstance(event, messages.TiltReceived)]
        if len({(image.path, image.section) for image in images}) != tilts or len(images) != tilts:
            yield f"{name}: {len(images)} tilts received instead of {tilts}"
        placed = sorted(event.index for event in own if isinstance(event, messages.TiltPlaced))
        if placed != list(range(tilts)):
            yield f"{name}: placed {placed}"
        done = [event for event in own if isinstance(event, messages.FinishDone)]
        if len(done) != 1:
            yield f"{name}: finished {len(done)} times"


def compare_series(calm: Path, killed: Path) -> Iterator[str]:
    """Alignments to the letter, volumes to the last digit of their type."""
    name = calm.name
    for suffix in TEXTS:
        one, other = ((folder / f"{name}{suffix}").read_text() for folder in (calm, killed))
        if one != other:
            yield f"{name}{suffix} differs"
    for suffix in ("_ali.mrc", "_rec.mrc"):
        one, other = (mrcfile.read(folder / f"{name}{suffix}") for folder in (calm, killed))
        if one.shape != other.shape or one.dtype != other.dtype:
            yield f"{name}{suffix}: {one.shape} {one.dtype}, {other.shape} {other.dtype}"
            continue
        limit = 1.0 if one.dtype.kind == "i" else 1e-5 * float(np.abs(one).max())
        worst = float(np.abs(one.astype(np.float64) - other).max())
        if worst > limit:
            yield f"{name}{suffix}: differs by {worst:.3g}"


def main() -> int:
    """Run it and print what was found."""
    usual = Plan()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=usual.kills, help="(%(default)s)")
    parser.add_argument("--size", type=int, default=usual.size, help="pixels along a side (%(default)s)")
    parser.add_argument("--tilts", type=int, default=usual.tilts, help="in each series (%(default)s)")
    parser.add_argument("--series", type=int, default=usual.series, help="tilt by tilt in turn (%(default)s)")
    parser.add_argument("--interval", type=float, default=usual.interval_s, help="s between tilts (%(default)s)")
    parser.add_argument("--seed", type=int, default=usual.seed, help="of the specimens and the kills (%(default)s)")
    parser.add_argument("--pattern", default=usual.pattern, help="serialem-stack, serialem-frames or plain")
    parser.add_argument("--life", type=float, default=usual.longest_life_s, help="the longest, s (%(default)s)")
    parser.add_argument("--keep", type=Path, help="new folder for all files, which are removed otherwise")
    args = parser.parse_args()
    plan = Plan(args.kills, args.size, args.tilts, args.series, args.interval, args.seed, args.pattern)
    plan = replace(plan, longest_life_s=args.life)
    with tempfile.TemporaryDirectory() as name:
        outcome = crash_test(args.keep or Path(name), plan, lambda line: print(line, flush=True))
    at_outputs = sum("written" in life for life in outcome.lives)
    for fault in outcome.faults:
        print(f"FAULT {fault}")
    print(f"{len(outcome.lives)} kills, {at_outputs} while results were written: {len(outcome.faults)} faults")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
