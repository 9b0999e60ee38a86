"""Radial filters of back-projection, and their use on the rows of aligned views.

What back-projection does to a specimen of thickness T seen at n views over an angular range R: at a frequency f its
amplitude is multiplied by the overlap of the views' central slices, each 1 / T thick, which fan out with f. Relative to
complete overlap that is `M(f) = min(1, f0 / f)` with `f0 = 1 / (R T)`. Undoing it is the ramp, flat below f0 where all
views overlap (Crowther's argument). n SIRT iterations undo `1 - (1 - M)^n` of it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo import jit
from streamtomo.reconstruct import arrays, device

Image = NDArray[np.float32]

PADDING = 1.5
"""Rows are filtered at this many times their length."""
ENDS = 3
"""Pixels at each end of a row whose mean is its level there."""
DC_STEPS = 0.2
"""The ramp at zero frequency, in steps of frequency: rows keep a little of their mean."""
HAMMING = 0.54


class Filtering(NamedTuple):
    """What the radial filter is; frequencies in cycles per pixel."""

    cutoff: float
    """The ramp rises to here ..."""
    falloff: float
    """... and is multiplied by `exp(-((f - cutoff) / falloff)^2)` beyond, as IMOD's RADIAL does."""
    roll_off: Literal["gaussian", "hamming"] = "gaussian"
    """With "hamming" the ramp goes on, times Hamming's cosine from the cutoff to 0.5; from 0 it is the usual window."""
    sirt_like: int = 0
    """Filter as so many SIRT iterations would; 0: the ramp itself, as infinitely many would."""


class RowFilter(NamedTuple):
    """A filter for rows of `nx` pixels, padded to `length`."""

    nx: int
    length: int
    response: Image
    """`(length // 2 + 1,)`"""


def radial_filter(length: int, filtering: Filtering, start: float = 0.0) -> Image:
    """The filter's response for an `rfft` of `length` samples, `(length // 2 + 1,)`; `start` is f0, 0 for none."""
    frequency = fft.rfftfreq(length)
    highest = filtering.cutoff if filtering.roll_off == "gaussian" else 0.5
    ramp = np.maximum(np.minimum(frequency, highest), start)
    ramp[0] = max(ramp[0], DC_STEPS / length)
    if filtering.sirt_like:
        seen = np.minimum(1.0, max(start, 1.0 / length) / np.maximum(frequency, 1e-9))
        ramp *= 1.0 - (1.0 - seen) ** filtering.sirt_like
    return np.asarray(ramp * _roll_off(frequency, filtering), np.float32)


def _roll_off(frequency: NDArray[np.float64], filtering: Filtering) -> NDArray[np.float64]:
    beyond = np.maximum(frequency - filtering.cutoff, 0.0)
    if filtering.roll_off == "hamming":
        phase = np.pi * beyond / max(0.5 - filtering.cutoff, 1e-6)
        return np.asarray(HAMMING + (1 - HAMMING) * np.cos(phase))
    return np.asarray(np.exp(-((beyond / filtering.falloff) ** 2)))


def ramp_start(range_rad: float, nz: int) -> float:
    """f0, cycles per pixel: below it all views of a specimen `nz` thick over an angular range overlap."""
    return 1.0 / (max(range_rad, 1e-3) * nz)


def row_filter(nx: int, filtering: Filtering, start: float = 0.0) -> RowFilter:
    """The filter for rows of `nx` pixels."""
    length = _padded_length(nx)
    return RowFilter(nx, length, radial_filter(length, filtering, start))


def smoothing(nx: int, filtering: Filtering) -> RowFilter:
    """The same without the ramp: only what falls off beyond the cutoff, for rows of `nx` pixels."""
    length = _padded_length(nx)
    return RowFilter(nx, length, np.asarray(_roll_off(fft.rfftfreq(length), filtering), np.float32))


def _padded_length(nx: int) -> int:
    return int(fft.next_fast_len(int(PADDING * nx) + 2 * ENDS, real=True))


def filter_views(views: Image, means: NDArray[np.float32], by: RowFilter) -> Image:
    """Filter the rows of views `(n, rows, nx)`, less `means` `(n,)`; some views at a time on each thread."""
    if (xp := device.arrays()) is not None:
        return arrays.filter_views(xp, views, means, by, ENDS)
    out = np.empty(views.shape, np.float32)
    workers = min(jit.threads(), len(views))

    def some(first: int) -> None:
        padded = np.empty((views.shape[1], by.length), np.float32)
        for i in range(first, len(views), workers):
            _filter_into(views[i], means[i], by, padded, out[i])

    if workers == 1:
        some(0)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(some, range(workers)))
    return out


def filter_rows(rows: Image, by: RowFilter) -> Image:
    """Filter the rows of one view `(rows, nx)`."""
    blocks = rows.reshape(1, -1, by.nx) if len(rows) < 64 else rows[: len(rows) // 8 * 8].reshape(8, -1, by.nx)
    out = filter_views(blocks, np.zeros(len(blocks), np.float32), by).reshape(-1, by.nx)
    rest = rows[len(out) :]
    return np.concatenate([out, filter_rows(rest, by)]) if len(rest) else out


def _filter_into(rows: Image, mean: np.float32, by: RowFilter, padded: Image, out: Image) -> None:
    """Filter `(rows, nx)`. Beyond a row's ends a straight line joins its last pixels to its first: it has no step."""
    nx = by.nx
    np.subtract(rows, mean, out=padded[:, :nx])
    first = padded[:, :ENDS].mean(axis=1, keepdims=True)
    last = padded[:, nx - ENDS : nx].mean(axis=1, keepdims=True)
    ramp = np.linspace(0.0, 1.0, by.length - nx, dtype=np.float32)
    np.add(last, (first - last) * ramp, out=padded[:, nx:])
    spectrum = fft.rfft(padded, axis=1, workers=1)
    spectrum *= by.response
    out[:] = fft.irfft(spectrum, n=by.length, axis=1, overwrite_x=True, workers=1)[:, :nx]
