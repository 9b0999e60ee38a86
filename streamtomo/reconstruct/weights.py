"""Weights of back-projection: the ramp along each row, the sector that each view stands for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Image = NDArray[np.float32]

PADDING = 1.5
"""Rows are filtered at this many times their length."""
ENDS = 3
"""Pixels at each end of a row whose mean is its level there."""
DC_STEPS = 0.2
"""The ramp at zero frequency, in steps of frequency: rows keep a little of their mean."""
SAME_ANGLE_DEG = 0.05
WIDEST_SECTOR = 3.0
"""No view stands for more than this many typical sectors, however wide the gap beside it."""


def radial_filter(length: int, cutoff: float, falloff: float) -> Image:
    """Filter for an `rfft` of `length` samples, `(length // 2 + 1,)`: |f| up to `cutoff`, then a Gaussian fall.

    Frequencies in cycles per pixel. Beyond the cutoff the ramp's value there is multiplied by
    `exp(-((f - cutoff) / falloff)^2)`, as IMOD's RADIAL does.
    """
    frequency = fft.rfftfreq(length)
    ramp = np.minimum(frequency, cutoff)
    ramp[0] = DC_STEPS / length
    beyond = np.maximum(frequency - cutoff, 0.0) / falloff
    return np.asarray(ramp * np.exp(-(beyond**2)), np.float32)


def filter_rows(rows: Image, cutoff: float, falloff: float) -> Image:
    """Filter the last axis of `(..., nx)`. Beyond a row's ends a straight line joins the last pixels to the first."""
    nx = rows.shape[-1]
    length = fft.next_fast_len(int(PADDING * nx) + 2 * ENDS, real=True)
    padded = np.empty((*rows.shape[:-1], length), np.float32)
    padded[..., :nx] = rows
    first = rows[..., :ENDS].mean(axis=-1, keepdims=True, dtype=np.float32)
    last = rows[..., -ENDS:].mean(axis=-1, keepdims=True, dtype=np.float32)
    ramp = np.linspace(0.0, 1.0, length - nx, dtype=np.float32)
    padded[..., nx:] = last + (first - last) * ramp
    spectrum = fft.rfft(padded, axis=-1, overwrite_x=True, workers=-1)
    spectrum *= radial_filter(length, cutoff, falloff)
    filtered: Image = fft.irfft(spectrum, n=length, axis=-1, overwrite_x=True, workers=-1)
    return np.ascontiguousarray(filtered[..., :nx])


def angular_weights(tilts_deg: Sequence[float]) -> NDArray[np.float64]:
    """The sector in radians that each view stands for, `(n,)`, in the order given.

    Half-way to its neighbours on both sides; views of one angle share a sector; the first and last have sectors as wide
    as the gap to their only neighbour; gaps in the series widen a sector up to `WIDEST_SECTOR` typical ones. With the
    ramp in cycles per pixel the sum of all views is then the density per voxel, whatever the scheme.
    """
    tilts = np.asarray(tilts_deg, np.float64)
    angles, group = _distinct(tilts)
    if len(angles) == 1:
        return np.full(len(tilts), np.pi / len(tilts))
    gaps = np.diff(angles)
    gaps = np.minimum(gaps, WIDEST_SECTOR * np.median(gaps))
    sectors = np.empty(len(angles))
    sectors[1:-1] = (gaps[:-1] + gaps[1:]) / 2
    sectors[0], sectors[-1] = gaps[0], gaps[-1]
    return np.radians(sectors[group] / np.bincount(group)[group])


def _distinct(tilts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distinct angles, ascending, and for each view which of them it has."""
    order = np.argsort(tilts, kind="stable")
    fresh = np.diff(tilts[order], prepend=-np.inf) > SAME_ANGLE_DEG
    group = np.empty(len(tilts), np.int64)
    group[order] = np.cumsum(fresh) - 1
    return tilts[order][fresh], group
