"""Does a tilt show the same specimen as its neighbour: their correlation where both are seen, ring by ring.

The height of a correlation peak says little where a few coarse features fill the field: any two fields have some. Here
each ring in frequency counts as much as it has coefficients, whatever its power, so that it is the many small features
that must agree (Fourier ring correlation). What is told is how far it lies above chance, which makes two fields agree
the better, the smaller the part is that both show. Chance is measured where nothing can agree, at shifts out of reach;
but there the two windows hardly lie on each other any more, and the noise is lower than where they do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo import geometry
from streamtomo.judge.blocks import block_sums
from streamtomo.judge.spectrum import LARGEST_PX, RINGS, Spectrum, clipped_spectrum, fast_side, power_of, rings_of
from streamtomo.resample import covered, warp

Image = NDArray[np.float32]

COARSE = 2
"""Live pixels along each side of one compared."""
COMPARED = 8
"""Rings compared, from 0 to 0.2 cycles per coarse pixel: beyond them depth makes even neighbours differ."""
REACH_PX = 6
"""The neighbour may lie so far, in coarse pixels, from where it was placed: its features have many depths, and it is
laid at one."""
CHANCE = 3.0
"""The highest of the positions within reach hardly lies more standard deviations above 0 by chance."""


def agreement(image: Image, neighbour: Image, transform: geometry.Array) -> float:
    """Correlation above chance, 0 to 1, of a live image `(ny, nx)` with a neighbour that `transform` lays over it."""
    here, there, over = block_sums(image, COARSE), block_sums(neighbour, COARSE), geometry.rescale(transform, COARSE)
    side = fast_side(here.shape, LARGEST_PX // COARSE)
    y, x = ((n - side) // 2 for n in here.shape)
    over[:, 2] += np.array([here.shape[1] - side, here.shape[0] - side]) / 2 - (x, y)  # the middles, to half a pixel
    square = side, side
    window = covered(there.shape, over, square) * rings_of(side).window
    pair = here[y : y + side, x : x + side], warp(there, over, square)
    a, b = (_low(clipped_spectrum(one, window)) for one in pair)
    numbers = _low(rings_of(side).number.reshape(side, side // 2 + 1))
    return _best_nearby(a, b, numbers, side, noise_at_zero(window))


def noise_at_zero(window: Image) -> float:
    """Noise at shift 0 in the correlation of two images seen through one window `(ny, nx)`, over its root mean square
    at all shifts: its variance goes like the correlation of the window's square with itself.
    """
    square = window.astype(np.float64) ** 2
    total = float(square.sum())
    return float(np.sqrt(square.size * (square**2).sum())) / total if total > 0 else np.inf


def _best_nearby(a: Spectrum, b: Spectrum, number: NDArray[np.int64], side: int, louder: float) -> float:
    """The highest correlation of two spectra's rings for shifts within reach, above what chance makes of it.

    Within reach noise is so many times `louder` than on average.
    """
    rings = np.minimum(number, COMPARED).ravel()
    counts = np.bincount(rings, minlength=COMPARED + 1)[: COMPARED + 1].astype(np.float64)
    norms = np.sqrt(np.prod([np.bincount(rings, power_of(one).ravel(), COMPARED + 1) for one in (a, b)], axis=0))
    weights = np.divide(counts, norms, out=np.zeros_like(norms), where=norms > 0)
    weights[COMPARED] = 0.0
    size = len(a)
    surface = fft.irfft2(a * b.conj() * weights[rings].reshape(a.shape), s=(size, size))
    reach = max(1, round(REACH_PX * size / side))
    near = np.r_[: reach + 1, size - reach : size]
    surface *= size * size / (2 * counts[:COMPARED].sum())
    best = float(surface[np.ix_(near, near)].max())
    surface[np.ix_(near, near)] = 0.0
    chance = CHANCE * louder * float(np.sqrt((surface**2).sum() / (surface.size - len(near) ** 2)))
    return max(0.0, (best - chance) / (1 - chance)) if chance < 1 else 0.0


def _low(values: NDArray[Any]) -> NDArray[Any]:
    """The coefficients `(2 n, n)` of low frequency of a square's real transform, those compared among them."""
    side = len(values)
    reach = min(side // 2, side * COMPARED // RINGS + 2)
    return values[np.r_[:reach, side - reach : side], :reach]
