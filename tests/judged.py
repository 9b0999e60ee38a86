"""Tilts as the judge sees them, without images: for stories about verdicts."""

import math

import msgspec

from streamtomo.judge.policy import SeriesJudge
from streamtomo.judge.record import Seen
from streamtomo.model import Correction, Look, Measure, Placement, Verdict

DOSE_SYMMETRIC = sorted([float(t) for t in range(-60, 61, 3)], key=lambda t: (abs(t), -t))
BIDIRECTIONAL = [*(float(t) for t in range(0, 61, 3)), *(float(t) for t in range(-3, -61, -3))]
ONE_WAY = [float(t) for t in range(-66, 67, 3)]
SPECTRUM = (20.0, 18.0, 15.0, 10.0, 6.0, 3.0, 2.0, 1.5, 1.0, 0.5, 0.2)


def bright_field(t, thickness=0.8):
    return 100 * math.exp(-thickness / math.cos(math.radians(t)))


def look(mean, **changes):
    usual = Look(median=mean, lit=mean, noise=math.sqrt(abs(mean)), skew=-3.0, saturated=0.0, spectrum=SPECTRUM)
    return msgspec.structs.replace(usual, **changes)


def placement(**changes):
    usual = Placement(
        shift_x=5, shift_y=-3, score=40, ambiguity=0.2, neighbour=0, step_x=2, step_y=2, agreement=0.6, agreed_with=0
    )
    return msgspec.structs.replace(usual, **changes)


def tilt(index, t, mean=100.0, *, sd=5.0, looks=None, placed=None, **changes):
    return Seen(
        index=index,
        angle_deg=t,
        correction=Correction(repaired=0, binning=2, mean=mean, sd=sd),
        look=look(mean, **(looks or {})),
        placement=placement(agreed_with=max(0, index - 2), **(placed or {})),
        **changes,
    )


def judged(judge: SeriesJudge, new: Seen):
    """Take a tilt through both verdicts, as the lane does; the tilt with its verdict, and the judgement."""
    verdict = judge.image(new)
    if verdict.state == "bad":
        new = msgspec.structs.replace(new, placement=None)
    else:
        later = judge.placement(new)
        measures = (*verdict.measures, *later.measures)
        reasons = (*verdict.reasons, *later.reasons)
        verdict = Verdict(state=max(verdict.state, later.state, key=ORDER.index), reasons=reasons, measures=measures)
    new = msgspec.structs.replace(new, verdict=verdict, in_volume=verdict.state != "bad")
    return new, judge.add(new)


ORDER = ("good", "doubtful", "bad")


def marked(index, t, state="good", *names, **values):
    """A tilt with a verdict from elsewhere: these measures fail, those have values."""
    measures = [Measure(name=name, value=0.0, state=state) for name in names]
    measures += [Measure(name=name, value=value) for name, value in values.items() if name not in names]
    measures = [msgspec.structs.replace(one, value=values[one.name]) if one.name in values else one for one in measures]
    verdict = Verdict(state=state, measures=tuple(measures))
    return tilt(index, t, verdict=verdict, in_volume=state != "bad")
