"""Small curves as inline SVG: a few lines of text, for pages that must open anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 560, 200
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 40
COLOURS = ("#1b6ca8", "#c8553d", "#5b8c5a", "#8d6a9f")
TICKS = 5


class Curve(NamedTuple):
    """Points of one curve; a y that is None is a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]


def plot(curves: Sequence[Curve], x_name: str, y_name: str) -> str:
    """An SVG element with axes, the curves with a dot at each point, and their names if there are several."""
    points = [(x, y) for curve in curves for x, y in zip(curve.x, curve.y, strict=True) if y is not None]
    if not points:
        return ""
    x_axis = _axis([x for x, _ in points])
    y_axis = _axis([y for _, y in points])
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_name)}">',
        *(_x_tick(value, x_axis) for value in x_axis.ticks),
        *(_y_tick(value, y_axis) for value in y_axis.ticks),
        f'<text class="name" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 4}">{escape(x_name)}</text>',
        f'<text class="name" transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)">'
        f"{escape(y_name)}</text>",
    ]
    for number, curve in enumerate(curves):
        parts.append(_line(curve, x_axis, y_axis, COLOURS[number % len(COLOURS)]))
    if len(curves) > 1:
        parts += [_legend(curve.name, number) for number, curve in enumerate(curves)]
    return "".join([*parts, "</svg>"])


class _Axis(NamedTuple):
    low: float
    high: float
    ticks: list[float]

    def part(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        return (value - self.low) / (self.high - self.low)


def _axis(values: Sequence[float]) -> _Axis:
    """A range that holds all values, with round numbers on it."""
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(abs(low), abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    step = _round_step((high - low) / TICKS)
    first, last = math.floor(low / step), math.ceil(high / step)
    return _Axis(first * step, last * step, [n * step for n in range(first, last + 1)])


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)


def _at(x: float, y: float) -> tuple[float, float]:
    return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)


def _x_tick(value: float, axis: _Axis) -> str:
    x, y = _at(axis.part(value), 0.0)
    return (
        f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{y:.1f}"/><text x="{x:.1f}" y="{y + 14:.1f}">{value:g}</text>'
    )


def _y_tick(value: float, axis: _Axis) -> str:
    x, y = _at(0.0, axis.part(value))
    text = f'<text class="y" x="{x - 5:.1f}" y="{y + 4:.1f}">{value:.6g}</text>'
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>{text}'


def _line(curve: Curve, x_axis: _Axis, y_axis: _Axis, colour: str) -> str:
    runs: list[list[str]] = [[]]
    dots = []
    for x, y in zip(curve.x, curve.y, strict=True):
        if y is None:
            runs.append([])
            continue
        u, v = _at(x_axis.part(x), y_axis.part(y))
        runs[-1].append(f"{u:.1f},{v:.1f}")
        dots.append(f'<circle cx="{u:.1f}" cy="{v:.1f}" r="2" fill="{colour}"/>')
    lines = [f'<polyline points="{" ".join(run)}" stroke="{colour}"/>' for run in runs if len(run) > 1]
    return "".join(lines + dots)


def _legend(name: str, number: int) -> str:
    y = TOP + 12 + 14 * number
    colour = COLOURS[number % len(COLOURS)]
    return f'<text class="key" x="{WIDTH - RIGHT - 6}" y="{y}" style="fill:{colour}">{escape(name)}</text>'
