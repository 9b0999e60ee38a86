"""The lens: phases of the contrast transfer, for whoever looks at rings in power spectra.

Underfocus is positive. The image of a weak object is `-2 sin(gamma)` times its phase, frequency by frequency, with
`gamma = pi lambda d k² - pi/2 Cs lambda³ k⁴ + asin(A) + plate` (Rohou and Grigorieff 2015, J. Struct. Biol. 192, 216).
"""

from __future__ import annotations

from math import asin, pi, radians, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Microscope(NamedTuple):
    """What is known of the column."""

    voltage_kV: float = 300.0
    cs_mm: float = 2.7
    amplitude_contrast: float = 0.07

    @property
    def wavelength_A(self) -> float:
        """Of the electron, relativistic."""
        volt = self.voltage_kV * 1e3
        return 12.2643 / sqrt(volt * (1 + 0.978476e-6 * volt))


def phase(k: ArrayLike, defocus_um: ArrayLike, microscope: Microscope, phase_shift_deg: float = 0.0) -> Array:
    """`gamma` in radians, contrast being `-sin(gamma)`; `k` in 1/Å, shapes as they broadcast."""
    k2, wave = np.asarray(k, np.float64) ** 2, microscope.wavelength_A
    focus = pi * wave * 1e4 * np.asarray(defocus_um, np.float64) * k2
    lens = -pi / 2 * microscope.cs_mm * 1e7 * wave**3 * k2**2
    return np.asarray(focus + lens + asin(microscope.amplitude_contrast) + radians(phase_shift_deg))
