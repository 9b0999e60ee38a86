"""An old session judged again, with other settings, from its journal alone: how limits are tuned.

All that verdicts rest on is in the journal. What is not done again is what follows from a verdict: a tilt that was left
out then was never placed, and one that would be left out now has been a reference for others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct, field

from streamtomo.config_judge import Judge
from streamtomo.errors import InputError
from streamtomo.judge.limit import combine
from streamtomo.judge.place import Field
from streamtomo.judge.plan import Plan
from streamtomo.judge.policy import Judgement, SeriesJudge
from streamtomo.judge.record import Seen, seen
from streamtomo.messages import (
    Envelope,
    SeriesCompleted,
    SeriesDescribed,
    SeriesOpened,
    TiltExcluded,
    TiltPlaced,
    TiltReceived,
    TiltUpdated,
)
from streamtomo.model import Tilt
from streamtomo.publish import journal


class Again(Struct, kw_only=True):
    """One series, judged again."""

    name: str
    judge: SeriesJudge
    tilts: dict[int, Tilt] = field(default_factory=dict)
    rejected: Judgement | None = None
    """The first rejection."""
    at: Seen | None = None
    """The tilt after which it came."""
    recorded: dict[int, TiltPlaced] = field(default_factory=dict)

    def take(self, placed: TiltPlaced) -> None:
        """Judge a tilt as if it came now."""
        self.recorded[placed.index] = placed
        one = seen(self.tilts[placed.index], placed)
        verdict = self.judge.image(one)
        if verdict.state != "bad" and one.placement is not None:
            verdict = combine(verdict, self.judge.placement(one))
        kept = verdict.state != "bad" and one.placement is not None and not placed.unplaced
        judgement = self.judge.add(msgspec.structs.replace(one, verdict=verdict, in_volume=kept))
        if judgement.state == "reject" and self.rejected is None:
            self.rejected, self.at = judgement, self.judge.seen[-1]

    def stamps(self) -> list[float]:
        """When the tilts were acquired, in order."""
        images = (tilt.image for tilt in self.tilts.values())
        known = (one.acquired_s if one.acquired_s is not None else one.written_s for one in images)
        return sorted(stamp for stamp in known if stamp is not None)

    def saved_s(self) -> float:
        """Beam time that ending the series at its rejection would have saved, seconds."""
        if self.at is None:
            return 0.0
        stamps = self.stamps()
        if self.at.acquired_s is not None and len(stamps) == len(self.tilts):
            return max(0.0, stamps[-1] - self.at.acquired_s)
        steps = [b - a for a, b in pairwise(stamps) if b > a]
        after = sum(index > self.at.index for index in self.tilts)
        return after * median(steps) if steps else 0.0


def judge_again(source: Path, settings: Judge) -> int:
    """Print what these settings make of a session; returns 0. Raises InputError if there is no journal."""
    path = source / "journal.jsonl" if source.is_dir() else source
    if not path.exists():
        raise InputError(f"{path}: no journal; give the output folder of a run, or its journal.jsonl")
    series = again(journal.read(path), settings)
    for line in report(series):
        print(line)
    return 0


def again(envelopes: Iterable[Envelope], settings: Judge) -> list[Again]:
    """All series of a journal, judged tilt by tilt in the order in which they were."""
    series: dict[str, Again] = {}
    like: tuple[float, ...] = ()
    for envelope in envelopes:
        match envelope.event:
            case SeriesOpened() as event:
                size = Field(event.nx, event.ny, event.pixel_size_A)
                plan = Plan(event.planned_tilts, like, settings.reach_deg)
                series.setdefault(event.series, Again(name=event.series, judge=SeriesJudge(settings, size, plan)))
            case SeriesDescribed() as event if event.series in series:
                _describe(series[event.series].judge, event)
            case TiltReceived() | TiltUpdated() as event if event.series in series:
                series[event.series].tilts[event.tilt.index] = event.tilt
            case TiltPlaced() as event if event.series in series and event.index in series[event.series].tilts:
                series[event.series].take(event)
            case TiltExcluded() as event if event.series in series:
                judge = series[event.series].judge
                judge.seen = [one for one in judge.seen if one.index != event.index]
            case SeriesCompleted() as event if event.series in series:
                like = tuple(one.angle_deg for one in series[event.series].judge.seen)
            case _:
                pass
    return list(series.values())


def _describe(judge: SeriesJudge, event: SeriesDescribed) -> None:
    judge.plan = judge.plan._replace(tilts=event.planned_tilts or judge.plan.tilts)
    judge.field = judge.field._replace(pixel_size_A=event.pixel_size_A or judge.field.pixel_size_A)


def report(series: Iterable[Again]) -> Iterator[str]:
    """What became of each series, and the sum."""
    series = list(series)
    for one in series:
        yield _line(one)
        changed = [now for now in one.judge.seen if now.verdict.state != one.recorded[now.index].verdict.state]
        for now in changed:
            before, reasons = one.recorded[now.index].verdict.state, "; ".join(now.verdict.reasons) or "nothing wrong"
            yield f"    tilt {now.index:3d} at {now.angle_deg:+6.1f}°  {before} -> {now.verdict.state}: {reasons}"
        old = sum(now.look is None for now in one.judge.seen)
        if old:
            yield f"    {old} tilts are from before looks were recorded: judged by intensity, place and peak only"
    rejected = [one for one in series if one.rejected is not None]
    saved, total = sum(one.saved_s() for one in series), sum(_duration(one) for one in series)
    yield (
        f"{len(rejected)} of {len(series)} series would have been rejected, "
        f"which saves {saved / 60:.1f} of {total / 60:.1f} min of beam time"
    )


def _duration(one: Again) -> float:
    stamps = one.stamps()
    return stamps[-1] - stamps[0] if stamps else 0.0


def _line(one: Again) -> str:
    judged = one.judge.judgement
    if one.rejected is None or one.at is None:
        reasons = f": {'; '.join(judged.reasons)}" if judged.reasons else ""
        return f"{one.name}  {len(one.judge.seen)} tilts, {judged.state}{reasons}"
    return (
        f"{one.name}  {len(one.judge.seen)} tilts, rejected after tilt {one.at.index} at {one.at.angle_deg:+.1f}°: "
        f"{'; '.join(one.rejected.reasons)}; first fault: tilt {one.rejected.first_fault}; "
        f"usable then: {one.rejected.usable}; saves {one.saved_s() / 60:.1f} min"
    )
