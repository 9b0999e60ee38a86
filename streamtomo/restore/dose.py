"""Exposure filter: what radiation has destroyed at the time of a view is noise there, and is weighed down.

Source: Grant and Grigorieff, eLife 2015;4:e06980: at a spatial frequency k (1/Å) the signal falls as
`exp(-N / (2 Nc))` with the dose N and the critical dose `Nc = 0.24499 k^-1.6649 + 2.8141` e/Å² at 300 kV.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Image = NDArray[np.float32]

CRITICAL = (0.24499, -1.6649, 2.8141)
MEASURED_KV = 300.0
AT_200_KV = 0.8
"""Critical doses at 200 kV relative to those at 300 kV."""
STEPS = 2048
"""Frequencies at which the filter is tabulated, up to the corner of the spectrum."""


def critical_dose(frequency_per_A: NDArray[np.float64], voltage_kV: float) -> NDArray[np.float64]:
    """Dose (e/Å²) after which the amplitude at a frequency has fallen to `exp(-1/2)`; infinite at 0."""
    a, power, c = CRITICAL
    scale = 1.0 + (1.0 - AT_200_KV) * (voltage_kV - MEASURED_KV) / 100.0
    with np.errstate(divide="ignore"):
        dose: NDArray[np.float64] = max(scale, 0.1) * (a * np.asarray(frequency_per_A, np.float64) ** power + c)
    return dose


def filtered(image: Image, dose_e_A2: float, pixel_size_A: float, voltage_kV: float) -> Image:
    """An image `(ny, nx)` with each frequency weighted by what is left of it; its mean stays.

    The dose is the one that the specimen had when half of the view was exposed.
    """
    shape = tuple(fft.next_fast_len(n + n // 16, real=True) for n in image.shape)
    mean = image.mean(dtype=np.float64)
    padded = np.zeros(shape, np.float32)
    padded[: image.shape[0], : image.shape[1]] = image - np.float32(mean)
    spectrum = fft.rfft2(padded, workers=1)
    table_k = np.linspace(0.0, 0.7072 / pixel_size_A, STEPS)
    table = np.exp(-dose_e_A2 / (2 * critical_dose(table_k, voltage_kV))).astype(np.float32)
    spectrum *= table[_steps(shape)]
    back = fft.irfft2(spectrum, s=shape, workers=1, overwrite_x=True)
    return np.asarray(back[: image.shape[0], : image.shape[1]] + np.float32(mean), np.float32)


@lru_cache(maxsize=2)
def _steps(shape_yx: tuple[int, ...]) -> NDArray[np.int16]:
    """The step of the table that each frequency of a spectrum belongs to."""
    ky, kx = fft.fftfreq(shape_yx[0]), fft.rfftfreq(shape_yx[1])
    steps: NDArray[np.int16] = (np.hypot(ky[:, None], kx) * ((STEPS - 1) / 0.7072) + 0.5).astype(np.int16)
    return steps
