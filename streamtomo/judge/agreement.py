"""Does a tilt show the same specimen as its neighbour: their correlation where both are seen, ring by ring.

The height of a correlation peak says little where a few coarse features fill the field: any two fields have some. Here
each ring in frequency counts as much as it has coefficients, whatever its power, so that it is the many small features
that must agree (Fourier ring correlation). What is told is how far it lies above chance, which makes two fields agree
the better, the smaller the part is that both show.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo import geometry
from streamtomo.judge.spectrum import LARGEST_PX, RINGS, rings_of
from streamtomo.resample import warp

Image = NDArray[np.float32]
Spectrum = NDArray[np.complex64]

COARSE = 2
"""Live pixels along each side of one compared."""
COMPARED = 8
"""Rings compared, from 0 to 0.2 cycles per coarse pixel: beyond them depth makes even neighbours differ."""
REACH_PX = 6
"""The neighbour may lie so far, in coarse pixels, from where it was placed: its features have many depths, and it is
laid at one."""
EVERY = 3
"""Every third row and column is enough for the levels."""
OUTSTANDING = 2.0
"""What is further than so many standard deviations from the middle level is cut."""
QUARTILES_APART = 1.349
"""Standard deviations between the quartiles of a normal distribution."""
CHANCE = 3.0
"""The highest of the positions within reach hardly lies more standard deviations above 0 by chance."""


def agreement(image: Image, neighbour: Image, transform: geometry.Array) -> float:
    """Correlation above chance, 0 to 1, of a live image `(ny, nx)` with a neighbour that `transform` lays over it."""
    here, there, over = _coarse(image), _coarse(neighbour), geometry.rescale(transform, COARSE)
    side = min(*here.shape, LARGEST_PX // COARSE)
    y, x = ((n - side) // 2 for n in here.shape)
    seen = warp(np.ones_like(there), over, fill=0.0)
    middle = slice(y, y + side), slice(x, x + side)
    window = seen[middle] * rings_of(side).window
    a, b = (_low(_spectrum(one[middle], window)) for one in (here, warp(there, over)))
    return _best_nearby(a, b, _low(rings_of(side).number.reshape(side, side // 2 + 1)), side)


def _best_nearby(a: Spectrum, b: Spectrum, number: NDArray[np.int64], side: int) -> float:
    """The highest correlation of two spectra's rings for shifts within reach, above what chance makes of it."""
    rings = np.minimum(number, COMPARED).ravel()
    counts = np.bincount(rings, minlength=COMPARED + 1)[: COMPARED + 1].astype(np.float64)
    norms = np.sqrt(np.prod([np.bincount(rings, (np.abs(one) ** 2).ravel(), COMPARED + 1) for one in (a, b)], axis=0))
    weights = np.divide(counts, norms, out=np.zeros_like(norms), where=norms > 0)
    weights[COMPARED] = 0.0
    size = len(a)
    surface = fft.irfft2(a * b.conj() * weights[rings].reshape(a.shape), s=(size, size))
    reach = max(1, round(REACH_PX * size / side))
    near = np.r_[: reach + 1, size - reach : size]
    surface *= size * size / (2 * counts[:COMPARED].sum())
    best = float(surface[np.ix_(near, near)].max())
    surface[np.ix_(near, near)] = 0.0
    chance = CHANCE * float(np.sqrt((surface**2).sum() / (surface.size - len(near) ** 2)))
    return max(0.0, (best - chance) / (1 - chance)) if chance < 1 else 0.0


def _low(values: NDArray[Any]) -> NDArray[Any]:
    """The coefficients `(2 n, n)` of low frequency of a square's real transform, those compared among them."""
    side = len(values)
    reach = min(side // 2, side * COMPARED // RINGS + 2)
    return values[np.r_[:reach, side - reach : side], :reach]


def _coarse(image: Image) -> Image:
    ny, nx = (n // COARSE * COARSE for n in image.shape)
    rows = image[:ny:COARSE, :nx] + image[1:ny:COARSE, :nx]
    return np.asarray((rows[:, ::COARSE] + rows[:, 1::COARSE]) * np.float32(1 / COARSE**2))


def _spectrum(part: Image, window: Image) -> Spectrum:
    """Spectrum of what is seen through a window, with what stands out cut: a bead that lies on another one would else
    outweigh all the rest."""
    seen = part[::EVERY, ::EVERY][window[::EVERY, ::EVERY] > 0]
    low, level, high = np.percentile(seen, (25, 50, 75)) if seen.size else (0.0, 0.0, 0.0)
    spread = np.float32(OUTSTANDING * max(float(high - low), 1e-30) / QUARTILES_APART)
    flat = np.clip(part - np.float32(level), -spread, spread) * window
    total = float(window.sum())
    return np.asarray(fft.rfft2(flat - np.float32(flat.sum() / total) * window if total > 0 else flat), np.complex64)
