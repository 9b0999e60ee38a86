"""One number against its limit: the measure, and the words for where it fails."""

from __future__ import annotations

from collections.abc import Iterable

from streamtomo.config_judge import Judge
from streamtomo.model import Measure, Verdict, VerdictState

ORDER: tuple[VerdictState, ...] = ("good", "doubtful", "bad")


def above(
    name: str, value: float, limit: float, state: VerdictState, words: str, *, unit: str, expected: float | None = None
) -> tuple[Measure, str]:
    """A measure that counts against a tilt above its limit: then it says `state`, with these words."""
    return _measure(name, value, expected, limit, unit, limit - value, state), f"{words}, limit {limit:.2f}"


def below(
    name: str, value: float, limit: float, state: VerdictState, words: str, *, unit: str, expected: float | None = None
) -> tuple[Measure, str]:
    """A measure that counts against a tilt below its limit."""
    return _measure(name, value, expected, limit, unit, value - limit, state), f"{words}, limit {limit:.2f}"


def graded(
    name: str,
    value: float,
    limits: tuple[float, float],
    words: str,
    *,
    unit: str,
    expected: float | None = None,
    falling: bool = False,
) -> tuple[Measure, str]:
    """A measure with two limits, above which (`falling`: below which) a tilt is doubtful and bad."""
    doubtful, bad = limits
    worst = value < bad if falling else value > bad
    judge = below if falling else above
    limit, state = (bad, "bad") if worst else (doubtful, "doubtful")
    return judge(name, value, limit, state, words, unit=unit, expected=expected)  # type: ignore[arg-type]


def note(name: str, value: float, unit: str, expected: float | None = None) -> tuple[Measure, str]:
    """A measure without a limit."""
    return Measure(name=name, value=_short(value), expected=_short(expected), unit=unit), ""


def verdict_of(found: Iterable[tuple[Measure, str]], settings: Judge) -> Verdict:
    """The worst of what the measures say, with the words of those that fail; the preset `off` never speaks."""
    pairs = list(found)
    state: VerdictState = max((measure.state for measure, _ in pairs), key=ORDER.index, default="good")
    if settings.preset == "off":
        state = "good"
    reasons = tuple(words for measure, words in pairs if measure.state != "good") if state != "good" else ()
    return Verdict(state=state, reasons=reasons, measures=tuple(measure for measure, _ in pairs))


def combine(*verdicts: Verdict) -> Verdict:
    """The worst state, all reasons, all measures."""
    return Verdict(
        state=max((verdict.state for verdict in verdicts), key=ORDER.index, default="good"),
        reasons=tuple(reason for verdict in verdicts for reason in verdict.reasons),
        measures=tuple(measure for verdict in verdicts for measure in verdict.measures),
    )


def _measure(
    name: str, value: float, expected: float | None, limit: float, unit: str, margin: float, state: VerdictState
) -> Measure:
    return Measure(
        name=name,
        value=_short(value),
        expected=_short(expected),
        limit=_short(limit),
        unit=unit,
        margin=_short(margin),
        state=state if margin < 0 else "good",
    )


def _short(value: float | None) -> float:
    """Four digits are enough for the journal."""
    return float(f"{value:.4g}") if value is not None else None  # type: ignore[return-value]
