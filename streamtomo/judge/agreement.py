"""Does a tilt show the same specimen as its neighbour: their correlation where both are seen, ring by ring.

The height of a correlation peak says little where a few coarse features fill the field: any two fields have some. Here
each ring in frequency counts as much as it has coefficients, whatever its power, so that it is the many small features
that must agree (Fourier ring correlation).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo import geometry
from streamtomo.judge.spectrum import LARGEST_PX, RINGS, rings_of
from streamtomo.resample import warp

Image = NDArray[np.float32]

COMPARED = 4
"""Rings compared, from 0 to 0.1 cycles per pixel: beyond them depth makes even neighbours differ."""
REACH_PX = 12
"""The neighbour may lie so far from where it was placed: it is laid at the mean depth, its features have others."""


def agreement(image: Image, neighbour: Image, transform: geometry.Array) -> float:
    """Correlation, -1 to 1, of a live image `(ny, nx)` with its neighbour, which `transform` `(2, 3)` lays over it.

    Of two fields that have nothing in common it is about 0.1, as the best of a few positions is looked for.
    """
    side = min(*image.shape, LARGEST_PX)
    y, x = ((n - side) // 2 for n in image.shape)
    middle = slice(y, y + side), slice(x, x + side)
    seen = warp(np.ones_like(neighbour), transform, fill=0.0)[middle] * rings_of(side).window
    here, there = (_spectrum(part[middle], seen) for part in (image, warp(neighbour, transform)))
    number, low = rings_of(side).number.reshape(here.shape), 2 * (COMPARED * side // RINGS // 2) + 2
    rows = np.r_[:low, side - low : side]
    here, there, number = here[rows, :low], there[rows, :low], np.minimum(number[rows, :low], COMPARED)
    powers = [np.bincount(number.ravel(), (np.abs(one) ** 2).ravel(), COMPARED + 1) for one in (here, there)]
    norms = np.sqrt(powers[0] * powers[1])
    counts = np.bincount(number.ravel(), minlength=COMPARED + 1).astype(np.float64)
    weights = np.divide(counts, norms, out=np.zeros_like(norms), where=norms > 0)
    weights[COMPARED] = 0.0
    shape = (2 * low, 2 * low)
    surface = fft.irfft2(np.pad(here * there.conj() * weights[number], ((0, 0), (0, 1))), s=shape)
    scale = side / shape[0]
    reach = max(1, round(REACH_PX / scale))
    near = np.r_[: reach + 1, shape[0] - reach : shape[0]]
    half = counts[:COMPARED].sum()
    return float(surface[np.ix_(near, near)].max() * shape[0] * shape[1] / (2 * half))


def _spectrum(part: Image, window: Image) -> NDArray[np.complex64]:
    total = float(window.sum())
    level = float(np.vdot(part, window)) / total if total > 0 else 0.0
    return np.asarray(fft.rfft2((part - np.float32(level)) * window), np.complex64)
