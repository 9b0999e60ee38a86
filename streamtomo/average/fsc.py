"""How far two halves agree, and what follows from it for a reference."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo.average.spectra import Components, Volume, components, levelled, transform

Array = NDArray[np.float64]

THRESHOLD = 0.143
"""Gold standard (Rosenthal and Henderson 2003): there a reference from all data correlates by 0.5 with the truth."""
SURE = 0.8
"""Phases are made random from where halves without a mask agree less than this."""
PADS = 2
"""Shells after the last that agrees that a reference keeps, damped."""


class Curve(NamedTuple):
    """Fourier shell correlation by shell 0, 1, ... cycles per box."""

    masked: Array
    corrected: Array
    """Without what the mask alone would give (Chen et al. 2013, by random phases)."""
    plain: Array
    """Of the whole boxes."""

    def resolution(self, box_A: float, threshold: float = THRESHOLD) -> float:
        """In Å: where the corrected curve first falls below a threshold, between shells; that of the last at best."""
        return box_A / crossing(self.corrected, threshold)


def crossing(curve: Array, threshold: float = THRESHOLD) -> float:
    """Radius at which a curve by shell first falls below a threshold."""
    below = np.flatnonzero(curve[1:] < threshold) + 1
    if not len(below):
        return float(len(curve) - 1)
    high = int(below[0])
    upper, lower = (curve[high - 1], curve[high]) if high > 1 else (1.0, curve[1])
    return float(max(high - 1 + (upper - threshold) / max(upper - lower, 1e-12), 0.5))


def shell_correlation(a: Volume, b: Volume) -> Array:
    """Of two boxes, by shell; 1 at shell 0."""
    of = components(a.shape[0], a.shape[0] / 2 - 1)
    return _correlated(transform(a).ravel()[of.at], transform(b).ravel()[of.at], of)


def _correlated(a: NDArray[np.complex64], b: NDArray[np.complex64], of: Components) -> Array:
    def summed(values: NDArray[np.floating]) -> Array:
        return np.asarray(np.bincount(of.shell, values.astype(np.float64), minlength=of.n // 2), np.float64)

    norm = np.sqrt(summed(np.abs(a) ** 2) * summed(np.abs(b) ** 2))
    curve = summed((a * b.conj()).real) / np.maximum(norm, 1e-30)
    curve[0] = 1.0
    return np.asarray(curve[: of.n // 2])


def agreement(a: Volume, b: Volume, mask: Volume, seed: int = 0) -> Curve:
    """Of two half averages within a mask. `seed` is that of the random phases."""
    whole = np.ones_like(mask)
    plain = shell_correlation(levelled(a, whole), levelled(b, whole))
    masked = shell_correlation(levelled(a, mask), levelled(b, mask))
    start = int(crossing(plain, SURE)) + 1
    rng = np.random.default_rng(seed)
    mixed = [levelled(_random_from(half, start, rng), mask) for half in (a, b)]
    by_mask = shell_correlation(mixed[0], mixed[1])
    by_mask[: start + 2] = 0.0  # shells that still hold phases of the other side
    corrected = np.clip((masked - by_mask) / np.maximum(1 - by_mask, 1e-6), -1, 1)
    return Curve(masked, corrected, plain)


def _random_from(box: Volume, start: int, rng: np.random.Generator) -> Volume:
    """A box with the phases of white noise from a shell on."""
    n = box.shape[0]
    spectrum = fft.rfftn(box)
    noise = fft.rfftn(rng.normal(size=box.shape))
    k = [fft.fftfreq(n, 1 / n), fft.fftfreq(n, 1 / n), np.arange(n // 2 + 1)]
    radius = np.sqrt(k[0][:, None, None] ** 2 + k[1][:, None] ** 2 + k[2] ** 2)
    mixed = np.where(radius >= start, np.abs(spectrum) * noise / np.maximum(np.abs(noise), 1e-30), spectrum)
    return np.asarray(fft.irfftn(mixed, box.shape), np.float32)


def trust(curve: Array) -> Array:
    """What a reference from one half is multiplied by, by shell: its correlation with the truth, 0 beyond the limit.

    From halves that agree by f the half itself correlates with the truth by sqrt(f).
    """
    known = np.sqrt(np.clip(curve, 0, 1))
    last = int(np.ceil(crossing(curve))) + PADS
    known[last:] = 0.0
    return known


def trust_of_both(curve: Array) -> Array:
    """The same for the average of both halves: sqrt(2 f / (1 + f)) (Rosenthal and Henderson 2003)."""
    f = np.clip(curve, 0, 1)
    known = np.sqrt(2 * f / (1 + f))
    known[int(np.ceil(crossing(curve))) + PADS :] = 0.0
    return np.asarray(known)
