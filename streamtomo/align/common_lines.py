"""The direction of the tilt axis from the views' common lines: it needs no features that can be followed.

Summed across the tilt axis, every view of a specimen gives the same line along the axis, whatever its tilt and whatever
the depth of what it shows (Crowther, DeRosier and Klug 1970). So lines are taken in a fan of directions and compared
between views whose tilts compress the specimen differently: those of like compression agree in any direction. A sum
over a whole field has so little noise that this works where nothing else does; that only a part of the specimen is in
the field is met by windows that narrow with the cosine of the tilt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import line_kernels

Image = NDArray[np.float32]
Array = NDArray[np.float64]
Spectra = NDArray[np.complex64]

SIDE_PX = 160
"""Views are binned until their shorter side has about as many pixels."""
STEP_DEG, FINE_DEG = 5.0, 1.0
"""Between the directions of the fan, about half the width of the peak; and between those about the best ..."""
PEAK_DEG = 6.0
"""... up to so far from it."""
SHARE = 0.9
"""Part of the field's shorter side that is looked at."""
LOWEST, HIGHEST = 3, 0.25
"""The band along a line: from so many periods in it to so many cycles per pixel."""
REACH_PX = 2
"""Lines may lie so far from where the placements have them, either way."""
UNLIKE = 0.05
"""Views are compared whose cosines differ by more."""
LEAST_VIEWS = 14
USUAL_DEG = 12.5
"""Nominal axes are seldom worse than this."""
CLEAR, CLEAR_FAR = 3.5, 5.0
"""A direction is told when it is better than the nominal one by so many standard errors of the views' votes; one
that is farther away than usual, of which there are many more, by so many."""


class View(NamedTuple):
    """A view `(ny, nx)` and where the specimen lies in it, pixels `(2,)`."""

    tilt_deg: float
    image: Image
    shift: Array


class _Small(NamedTuple):
    cos: float
    image: Image
    """Binned, its mean 0."""
    shift: Array


def better_axis(views: Sequence[View], nominal_deg: float) -> float | None:
    """The direction in which the views agree clearly better than in the nominal one; None if there is none."""
    small = [_small(view) for view in views]
    fan = nominal_deg + np.arange(-90.0, 90.0, STEP_DEG)
    nominal = len(fan) // 2
    votes = _votes(small, fan)
    if votes is None:
        return None
    best = int(votes.mean(1).argmax())
    gain = votes[best] - votes[nominal]
    clear = CLEAR if abs(fan[best] - nominal_deg) < USUAL_DEG else CLEAR_FAR
    if best == nominal or gain.mean() < clear * gain.std() / np.sqrt(len(gain)):
        return None
    return float(fan[best]) + _vertex(small, float(fan[best]))


def _vertex(views: Sequence[_Small], about_deg: float) -> float:
    """Where the parabola through the peak has its top, degrees from a direction near it."""
    away = np.arange(-PEAK_DEG, PEAK_DEG + FINE_DEG / 2, FINE_DEG)
    votes = _votes(views, about_deg + away)
    assert votes is not None
    bend, slope, _ = np.polyfit(away, votes.mean(1), 2)
    return float(np.clip(-slope / (2 * bend), -STEP_DEG, STEP_DEG)) if bend < 0 else 0.0


def _small(view: View) -> _Small:
    binning = max(1, round(min(view.image.shape) / SIDE_PX))
    ny, nx = (n // binning for n in view.image.shape)
    blocks = view.image[: ny * binning, : nx * binning].reshape(ny, binning, nx, binning)
    image = blocks.mean(axis=(1, 3), dtype=np.float32)
    image -= np.float32(image.mean(dtype=np.float64))
    return _Small(float(geometry.tilt_terms(view.tilt_deg).cos), image, view.shift / binning)


def _votes(views: Sequence[_Small], directions_deg: Array) -> Array | None:
    """For each direction and view its mean correlation with views of other compression, `(directions, views)`.

    None where too few views can be compared.
    """
    cos = np.array([view.cos for view in views])
    weight = np.abs(cos[:, None] - cos)
    weight[weight < UNLIKE] = 0.0
    counted = weight.sum(1) > 0
    if counted.sum() < LEAST_VIEWS:
        return None
    white, length = _white_lines(views, directions_deg)
    period = 2 * np.pi * (LOWEST + np.arange(white.shape[2])) / length
    agree = np.full((len(directions_deg), len(views), len(views)), -1.0, np.float32)
    for moved in range(-REACH_PX, REACH_PX + 1):
        shifted = (white * np.exp(1j * moved * period)).astype(np.complex64)
        np.maximum(agree, (white @ shifted.conj().transpose(0, 2, 1)).real, out=agree)
    return np.asarray((agree * weight).sum(2)[:, counted] / weight.sum(1)[counted], np.float64)


def _white_lines(views: Sequence[_Small], directions_deg: Array) -> tuple[Spectra, int]:
    """Spectra `(directions, views, frequencies)` in the band, all frequencies alike, unit power; the lines' length."""
    length = int(SHARE * min(views[0].image.shape)) // 2 * 2
    turn = geometry.tilt_terms(directions_deg)
    turns = np.stack([turn.cos, turn.sin], axis=1)
    lines = np.empty((len(views), len(directions_deg), length), np.float32)
    for line, view in zip(lines, views, strict=True):
        middle = np.array([geometry.centre(n) for n in view.image.shape[::-1]])
        across = _window(max(8, int(length * view.cos)))
        line_kernels.lines(view.image, turns, middle + view.shift, across, line)
    lines -= lines.mean(2, keepdims=True)
    whole = np.fft.rfft(lines * _window(length), axis=2)[:, :, LOWEST : int(HIGHEST * length) + 1].transpose(1, 0, 2)
    white = whole / (np.sqrt((np.abs(whole) ** 2).mean(1, keepdims=True)) + 1e-12)
    white /= np.linalg.norm(white, axis=2, keepdims=True) + 1e-12
    return white.astype(np.complex64), length


def _window(n: int) -> Image:
    return np.hanning(n + 2)[1:-1].astype(np.float32)
