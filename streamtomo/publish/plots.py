"""Drawings for the pages, as PNG files: curves, and arrows in the field of view.

Made with matplotlib, which is loaded when the first of them is made: in the finishing process and by the command
`report`, never while a tilt waits. Figures have no window, and share no state.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

SIZE_INCH, FIELD_INCH, DOTS_PER_INCH = (5.6, 2.3), 4.6, 130
COLOURS = ("#1b6ca8", "#c8553d", "#5b8c5a", "#8d6a9f")
ARROW_SHARE = 0.04
"""Length of a typical arrow as a share of the field's longer side."""
MOST_ARROWS = 4000
RIM_SHARE, TALL_SHARE = 0.72, 0.81
"""Of the drawing's width and height that the field itself takes."""


class Curve(NamedTuple):
    """Points of one curve; a y that is None is a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    line: bool = False
    """Without dots: a law, not measurements."""


def curves(lines: Sequence[Curve], x_name: str, y_name: str) -> bytes | None:
    """Curves with a dot at each point, and their names if there are several; None if there is nothing to draw."""
    if not any(y is not None for line in lines for y in line.y):
        return None
    figure = _figure(SIZE_INCH)
    axes = figure.add_axes((0.12, 0.2, 0.86, 0.77))
    for number, line in enumerate(lines):
        y = np.array([np.nan if value is None else value for value in line.y], np.float64)
        look: dict[str, Any] = {"linestyle": "--"} if line.line else {"marker": ".", "markersize": 4.5}
        axes.plot(np.asarray(line.x), y, color=COLOURS[number % len(COLOURS)], label=line.name, linewidth=1.0, **look)
    axes.set(xlabel=x_name, ylabel=y_name)
    axes.grid(color="#e3e3e3", linewidth=0.6)
    if len(lines) > 1:
        axes.legend(fontsize="small", framealpha=0.8)
    return _png(figure)


def arrows(xy: Array, vectors: Array, values: Array, size_xy: tuple[int, int], value_name: str) -> bytes | None:
    """Arrows at places `(n, 2)` of a field, coloured by values `(n,)`; drawn longer than they are, with one as a key.

    Places count from the field's corner, y up; vectors are in pixels. None if there is nothing to draw.
    """
    known = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    if not len(known):
        return None
    known = known[:: -(-len(known) // MOST_ARROWS)]
    typical = float(np.sqrt((vectors[known] ** 2).sum(axis=1).mean())) or 1.0
    scale = typical / (ARROW_SHARE * max(size_xy))
    width, height = 1 / RIM_SHARE, max(0.4, size_xy[1] / size_xy[0]) / TALL_SHARE
    figure = _figure((FIELD_INCH * width, FIELD_INCH * height))
    axes = figure.add_axes((0.12, 0.11, RIM_SHARE, TALL_SHARE))
    drawn = axes.quiver(
        *xy[known].T, *vectors[known].T, values[known], cmap=_shades(), angles="xy", scale_units="xy", scale=scale,
        width=0.0022, headwidth=4,
    )  # fmt: skip
    key = _round(typical)
    axes.quiverkey(drawn, 0.92, 1.03, key, f"{key:g} px", labelpos="W", coordinates="axes")
    axes.set(xlim=(0, size_xy[0]), ylim=(0, size_xy[1]), aspect="equal", xlabel="x, pixels", ylabel="y, pixels")
    figure.colorbar(drawn, cax=figure.add_axes((0.14 + RIM_SHARE, 0.11, 0.02, TALL_SHARE)), label=value_name)
    return _png(figure)


def _shades() -> Any:
    """From blue to red without a pale middle, which arrows on white would be lost in."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", ["#1b5fc8", "#5a5a5a", "#d02a2a"])


def _round(value: float) -> float:
    """The nearest of 1, 2, 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(min((1, 2, 5, 10), key=lambda factor: abs(np.log(factor * power / value))) * power)


def _figure(size_inch: tuple[float, float]) -> Figure:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a home that cannot be written costs time, not results
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(size_inch, dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    for axes in figure.axes:
        _plain(axes)
    made = io.BytesIO()
    figure.savefig(made, format="png", pil_kwargs={"compress_level": 4})
    return made.getvalue()


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize="small", color="#999999")
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set(fontsize="small", color="#555555")
    for spine in axes.spines.values():
        spine.set_color("#999999")
