"""The judge on labelled series: false rejections, faults found, how many tilts it took, and the beam time saved.

Each series goes tilt by tilt through what the live lane does but for the volume: correction, alignment, measures and
policy are the lane's own code. Thresholds were set on the tuning seeds (--tuning) and the kinds of fault in TUNED only;
the report is on other seeds, and on kinds that were not looked at before.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

if __name__ == "__main__":  # one series per process is faster than many threads on small images
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import msgspec
from _judge_cases import Case, good
from _judge_faults import TUNED, UNSEEN, faulty
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import config_file
from streamtomo.config import Settings
from streamtomo.correct.prepare import prepare
from streamtomo.judge.plan import Plan
from streamtomo.judge.policy import Judgement
from streamtomo.judge.record import Seen, seen
from streamtomo.liveseries import AcceptedTilt, LiveSeries
from streamtomo.messages import TiltPlaced
from streamtomo.model import RawImage, Tilt

GOOD, FAULTY = 400, 210
TUNING_SEED, REPORT_SEED = 1_000, 900_000
INTERVAL_S = 35.0
"""Time that a tilt takes at the microscope."""


class Outcome(Struct):
    """What became of one series."""

    name: str
    kind: str
    onset: int | None
    states: list[str]
    """The verdict on the series after each tilt."""
    reasons: list[str]
    """Those of the first rejection, else of the last tilt."""
    seen: list[Seen]

    @property
    def rejected(self) -> int | None:
        """The tilt after which it was rejected first."""
        return self.states.index("reject") if "reject" in self.states else None


def judge(case: Case, settings: Settings, *, told_plan: bool) -> Outcome:
    """Take a series through correction, alignment and judgement, tilt by tilt."""
    plan = case.series.plan
    raws = [_raw(case, index) for index in range(len(plan.angles_deg))]
    live = LiveSeries(raws[0], plan.axis_deg, plan.pixel_size_A, settings)
    live.judge.plan = Plan(tilts=len(raws) if told_plan else None, reach_deg=settings.judge.reach_deg)
    states, reasons = [], []
    for index, pixels in enumerate(case.images()):
        judgement = take(live, Tilt(index=index, image=raws[index]), pixels)
        if "reject" not in states:
            reasons = list(judgement.reasons)
        states.append(judgement.state)
    return Outcome(case.name, case.kind, case.onset, states, reasons, live.judge.seen)


def take(live: LiveSeries, tilt: Tilt, pixels: NDArray[Any]) -> Judgement:
    """Take one tilt through what the live lane does but for the volume; the judgement on its series."""
    image, correction = prepare(pixels, live.binning, live.settings.correct.outlier_sigma)
    look, placement, verdict = live.place(tilt, pixels, image, correction)
    accepted = placement is not None and verdict.state != "bad"
    if placement is not None and accepted:
        live.accept(AcceptedTilt(tilt, placement, correction), image)
    placed = TiltPlaced(
        series=tilt.image.series,
        index=tilt.index,
        angle_deg=tilt.image.angle_deg,
        correction=correction,
        placement=placement,
        verdict=verdict,
        in_volume=accepted,
        look=look,
    )
    return live.judge.add(seen(tilt, placed))


def _raw(case: Case, index: int) -> RawImage:
    plan = case.series.plan
    ny, nx = plan.shape_yx
    return RawImage(
        series=case.name,
        path=case.name,
        section=index,
        nx=nx,
        ny=ny,
        angle_deg=float(case.series.read_deg[index]),
        acquired_s=INTERVAL_S * index,
        pixel_size_A=plan.pixel_size_A,
        dose_e_A2=plan.dose_e_A2,
        prior_dose_e_A2=plan.dose_e_A2 * index,
    )


def _work(task: tuple[Job, Settings]) -> tuple[Job, Outcome]:
    (kind, seed), settings = task
    case = good(seed) if kind == "good" else faulty(kind, seed)
    return (kind, seed), judge(case, settings, told_plan=seed % 2 == 0)


Job = tuple[str, int]
"""Kind and seed of a series."""


def jobs(*, tuning: bool) -> list[Job]:
    """All series, so mixed that the first so many of them have good and faulty ones of all kinds in equal shares."""
    base, kinds = (TUNING_SEED, TUNED) if tuning else (REPORT_SEED, (*TUNED, *UNSEEN))
    faults = [(kind, base + n) for n in range(FAULTY // len(kinds)) for kind in kinds]
    parts = [("good", base + n) for n in range(GOOD)], faults
    placed = [((i + 0.5) / len(part), job) for part in parts for i, job in enumerate(part)]
    return [job for _, job in sorted(placed, key=lambda one: one[0])]


def run(todo: Sequence[Job], settings: Settings, records: Path | None, processes: int) -> dict[Job, Outcome]:
    """What becomes of each series; those that `records` has, a line each, are not run again, the others are added."""
    known = {(one.name, one.onset is None): one for one in _read(records)}
    done = {job: known[key] for job in todo if (key := _key(job)) in known}
    left = [job for job in todo if job not in done]
    with get_context("spawn").Pool(processes) as pool:
        for job, outcome in pool.imap_unordered(_work, [(job, settings) for job in left]):
            done[job] = outcome
            if records:
                with records.open("ab") as file:
                    file.write(msgspec.json.encode(outcome) + b"\n")
    return {job: done[job] for job in todo}


def _key(job: Job) -> tuple[str, bool]:
    kind, seed = job
    return f"{kind}-{seed}", kind == "good"


def _read(records: Path | None) -> list[Outcome]:
    if records is None or not records.exists():
        return []
    return [msgspec.json.decode(line, type=Outcome) for line in records.read_bytes().splitlines()]


def report(outcomes: Sequence[Outcome]) -> str:
    """All figures, in Markdown."""
    fine = [one for one in outcomes if one.onset is None]
    bad = [one for one in outcomes if one.onset is not None]
    found = [one for one in bad if _delay(one) is not None]
    early = [one for one in bad if one.rejected is not None and one not in found]
    delays = [delay for one in found if (delay := _delay(one)) is not None]
    saved = sum(len(one.states) - 1 - (one.rejected or 0) for one in found)
    lost = sum(len(one.states) - (one.onset or 0) for one in bad)
    lines = [
        "| labelled | good | watch | rejected |",
        "|---|---|---|---|",
        _row(f"good ({len(fine)})", fine),
        _row(f"faulty ({len(bad)})", bad),
        "",
        f"False rejections: {sum(one.rejected is not None for one in fine)} of {len(fine)} good series, and "
        f"{len(early)} faulty ones before their onset. Faults found: {len(found)} of {len(bad)} "
        f"({len(found) / max(1, len(bad)):.1%}), after a median of {median(delays) if delays else 0:g} tilts. Beam "
        f"time saved: {saved * INTERVAL_S / 60:.0f} of {lost * INTERVAL_S / 60:.0f} min after the onsets, at "
        f"{INTERVAL_S:g} s a tilt.",
        "",
        "| fault | found | tilts from onset to rejection: median | worst | beam time saved |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_fault(kind, bad) for kind in sorted({one.kind for one in bad}, key=_order))])


def _order(kind: str) -> int:
    return (*TUNED, *UNSEEN).index(kind)


def _row(name: str, outcomes: Sequence[Outcome]) -> str:
    worst = Counter(max(one.states, key=("good", "watch", "reject").index) for one in outcomes)
    return f"| {name} | {worst['good']} | {worst['watch']} | {worst['reject']} |"


def _fault(kind: str, outcomes: Sequence[Outcome]) -> str:
    those = [one for one in outcomes if one.kind == kind]
    delays = [delay for one in those if (delay := _delay(one)) is not None]
    saved = sum(len(one.states) - 1 - (one.rejected or 0) for one in those if _delay(one) is not None)
    lost = sum(len(one.states) - (one.onset or 0) for one in those)
    name = f"{kind} (never seen in tuning)" if kind in UNSEEN else kind
    middle, worst = (f"{median(delays):g}", f"{max(delays)}") if delays else ("", "")
    return f"| {name} | {len(delays)} of {len(those)} | {middle} | {worst} | {saved / max(1, lost):.0%} |"


def _delay(one: Outcome) -> int | None:
    """Tilts acquired from the onset to the rejection, that of the onset included; None if it never came or before."""
    if one.onset is None or one.rejected is None or one.rejected < one.onset:
        return None
    return one.rejected - one.onset + 1


def main() -> None:
    """Judge all series, print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, metavar="N", help="the first N series of the mix (all)")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="but without the first N of them (0)")
    parser.add_argument("--tuning", action="store_true", help="the series that the limits were set on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="series at a time (all cores)")
    parser.add_argument("--records", type=Path, help="write what became of each series here (JSON lines), or go on so")
    parser.add_argument("--wrong", action="store_true", help="also list the series that were judged wrongly")
    args = parser.parse_args()
    todo = jobs(tuning=args.tuning)[args.skip : args.first]
    outcomes = list(run(todo, config_file.load(None, args.set), args.records, args.processes).values())
    print(report(outcomes))
    print(f"\n{len(outcomes)} series, {sum(len(one.states) for one in outcomes)} tilts")
    if args.wrong:
        for one in outcomes:
            if (one.rejected is not None) if one.onset is None else _delay(one) is None:
                marks = "".join(each.verdict.state[0] for each in one.seen)
                print(one.name, one.kind, one.onset, marks, one.reasons)


if __name__ == "__main__":
    main()
