"""Light that is lost with time: a beam that weakens, or ice that grows, and not the longer path of a tilted specimen.

`ln light = a - depth path(tilt - pretilt) - rate max(0, n - onset)`, with `n` the number of the tilt in the order of
acquisition; or one step down at the onset. Every onset and pretilt is tried, each fit by least squares with
`depth >= 0` and `rate >= 0`. What is told is the least loss that any of them allows within `SURE` standard deviations
(profile likelihood), so that a loss that absorption explains as well is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.judge.law import PRETILTS_DEG, Array, path
from streamtomo.judge.record import Seen

SURE = 3.0
FEWEST_AFTER = 3
"""Tilts after the onset from which a loss can be told ..."""
FEWEST_BEFORE = 3
"""... and before it."""
ENOUGH = FEWEST_BEFORE + FEWEST_AFTER + 2
LEAST_SCATTER = 0.01
"""Light is never as predicted to better than this."""
OUTLYING = 4.0
"""A tilt this many times the scatter away from the best fit is left out of the second one."""
MAD_TO_SD = 1.4826
PARAMETERS = 5
"""Of the law: level, depth, pretilt, onset, rate."""


class Loss(NamedTuple):
    """Light lost with time, as shares from 0 to 1."""

    so_far: float
    per_tilt: float
    """0 where it was lost at once."""


def lost_light(tilts: Sequence[Seen]) -> Loss | None:
    """What the last of these tilts has lost at least, and goes on losing; None: they do not tell.

    `tilts` in the order of acquisition.
    """
    lit = [one for one in tilts if one.light > 0]
    if len(lit) < ENOUGH or lit[-1] is not tilts[-1]:
        return None
    angles, logs = np.array([one.angle_deg for one in lit]), np.log([one.light for one in lit])
    number = np.array([one.index for one in lit], np.float64)
    keep = _alike(_fits(angles, logs, number), angles, logs, number)
    if not keep[-1] or keep.sum() < ENOUGH:
        return None
    return _least_loss(_fits(angles[keep], logs[keep], number[keep]), int(keep.sum()))


class _Fits(NamedTuple):
    """Best fits, one for each pretilt (rows), and onset and kind of loss (columns; in the first one there is none)."""

    left: Array
    """Sums of squared residuals."""
    slope: Array
    """Minus the depth."""
    rate: Array
    """Minus the loss per tilt, or that of the step."""
    variance: Array
    """Of the rate, in units of the scatter's."""
    since: Array
    """`(columns, n)`: what the rate is multiplied with at each tilt."""


def _fits(angles: Array, logs: Array, number: Array) -> _Fits:
    """Least squares in two variables less their means, path `x` and what the rate is multiplied with `h`, all at once.

    A slope that would rise is set to 0, and then a rate that would.
    """
    onsets = number[FEWEST_BEFORE : len(number) - FEWEST_AFTER + 1]
    slow = np.maximum(0.0, number - (onsets - 1)[:, None])
    since = np.vstack([np.zeros_like(number), slow, slow > 0])
    y, h = logs - logs.mean(), since - since.mean(axis=1, keepdims=True)
    x = np.array([path(angles - pretilt) for pretilt in PRETILTS_DEG])
    x -= x.mean(axis=1, keepdims=True)
    yy, xx, xy = y @ y, (x**2).sum(axis=1)[:, None], (x @ y)[:, None]
    hh, hy, xh = np.maximum((h**2).sum(axis=1), 1e-12), h @ y, x @ h.T
    det = np.maximum(xx * hh - xh**2, 1e-9 * xx * hh)
    slope, rate, variance = (xy * hh - hy * xh) / det, (hy * xx - xy * xh) / det, xx / det
    rising = slope > 0
    slope, rate, variance = (np.where(rising, *pair) for pair in ((0.0, slope), (hy / hh, rate), (1 / hh, variance)))
    grows = (rate > 0) | (since.max(axis=1) == 0)
    slope, rate = np.where(grows, np.minimum(0.0, xy / xx), slope), np.where(grows, 0.0, rate)
    left = yy - 2 * slope * xy - 2 * rate * hy + slope**2 * xx + 2 * slope * rate * xh + rate**2 * hh
    return _Fits(np.maximum(left, 0.0), slope, rate, variance, since)


def _alike(fits: _Fits, angles: Array, logs: Array, number: Array) -> NDArray[np.bool_]:
    """The tilts that lie near the best fit."""
    row, column = np.unravel_index(int(fits.left.argmin()), fits.left.shape)
    fitted = fits.slope[row, column] * path(angles - PRETILTS_DEG[row]) + fits.rate[row, column] * fits.since[column]
    residual = logs - fitted
    residual = np.abs(residual - np.median(residual))
    return np.asarray(residual <= OUTLYING * max(LEAST_SCATTER, MAD_TO_SD * float(np.median(residual))))


def _least_loss(fits: _Fits, tilts: int) -> Loss:
    """The least loss at the last tilt that is within SURE standard deviations of the best fit."""
    scatter2 = max(LEAST_SCATTER**2, float(fits.left.min()) / (tilts - PARAMETERS))
    room = SURE**2 - (fits.left - fits.left.min()) / scatter2
    loss = -fits.rate * fits.since[:, -1]
    low = loss - np.sqrt(np.maximum(room, 0.0) * fits.variance * scatter2) * fits.since[:, -1]
    low = np.where(room >= 0, np.maximum(0.0, low), np.inf)
    row, column = np.unravel_index(int(low.argmin()), low.shape)
    goes_on = low[row, column] > 0 and fits.since[column, -1] > 1
    rate = -float(fits.rate[row, column]) if goes_on else 0.0
    return Loss(1 - math.exp(-low[row, column]), 1 - math.exp(-rate))
