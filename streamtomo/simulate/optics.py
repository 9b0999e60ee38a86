"""From matter to electrons: absorption, phase contrast, defocus.

The wave behind the specimen is `exp(i phase - absorption / 2)`; the lens multiplies its spectrum by `exp(i gamma)`, and
its squared modulus is the intensity. Nothing is taken as weak, so that gold has its fringes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, exp, radians, sqrt

import numpy as np
import scipy.fft as fft
from numpy.typing import NDArray

from streamtomo.simulate.specimen import Map, Projection

GOLD_PHASE_PER_NM = 0.14
"""rad/nm against ice."""
GOLD_MEAN_FREE_PATH_NM = 7.0
"""Length of gold that takes all but 1/e of the electrons from the image: scattered beyond the aperture."""
LARGEST_MARGIN_PX = 256


@dataclass(frozen=True)
class Optics:
    """The microscope's column."""

    voltage_kV: float = 300.0
    cs_mm: float = 2.7
    amplitude_contrast: float = 0.08
    underfocus_um: float = 4.0
    astigmatism_um: float = 0.0
    """Greatest underfocus less the mean."""
    astigmatism_deg: float = 0.0
    """Direction of the greatest underfocus in the image, from X, counter-clockwise."""
    phase_shift_deg: float = 0.0
    """Of a phase plate."""
    gradient: int = 0
    """What a tilted specimen does to the focus: 0 nothing, 1 what is higher (z up) is less underfocused, -1 more."""
    focus_error_um: float = 0.0
    """Standard deviation of the focus from tilt to tilt."""
    b_factor_A2: float = 150.0
    """Envelope `exp(-B k² / 4)`."""
    ice_mean_free_path_nm: float = 320.0
    """Length of ice that takes all but 1/e of the electrons from the image."""

    @property
    def wavelength_A(self) -> float:
        """Of the electron, relativistic."""
        volt = self.voltage_kV * 1e3
        return 12.2643 / sqrt(volt * (1 + 0.978476e-6 * volt))

    def margin(self, pixel_A: float) -> int:
        """Pixels around the image from which defocus can carry signal into it."""
        carried = self.wavelength_A * self.underfocus_um * 1e4 / (2 * pixel_A) / pixel_A
        return min(LARGEST_MARGIN_PX, 12 + ceil(carried))

    def focused(self, underfocus_um: float) -> Optics:
        """The same column at another underfocus."""
        return replace(self, underfocus_um=underfocus_um)

    def transfer(self, shape_yx: tuple[int, int], pixel_A: float) -> NDArray[np.complex64]:
        """`exp(i gamma)` with its envelope on the grid of a full FFT; positive gamma is underfocus, protein dark."""
        ky, kx = np.fft.fftfreq(shape_yx[0], pixel_A)[:, None], np.fft.fftfreq(shape_yx[1], pixel_A)
        k2 = (ky**2 + kx**2).astype(np.float32)
        wave, twice = self.wavelength_A, 2 * radians(self.astigmatism_deg)
        stretched = np.cos(twice) * (kx**2 - ky**2) + np.sin(twice) * 2 * kx * ky
        focus = self.underfocus_um * k2 + self.astigmatism_um * stretched
        gamma = np.pi * wave * 1e4 * focus - np.pi / 2 * self.cs_mm * 1e7 * wave**3 * k2**2
        # The plate turns all but the unscattered wave, which is the one of frequency 0.
        gamma += np.where(k2 > 0, radians(self.phase_shift_deg), 0)
        return np.asarray(np.exp(1j * gamma - self.b_factor_A2 / 4 * k2), np.complex64)

    def ice_transmission(self, path_nm: float) -> float:
        """Share of the electrons that pass a path of ice (Beer and Lambert)."""
        return exp(-path_nm / self.ice_mean_free_path_nm)


def exit_spectrum(matter: Projection, optics: Optics) -> NDArray[np.complex64]:
    """Spectrum of the wave behind the specimen, on the canvas of the projection."""
    absorbed = optics.amplitude_contrast * matter.phase + matter.gold_nm / np.float32(2 * GOLD_MEAN_FREE_PATH_NM)
    phase = matter.phase + np.float32(GOLD_PHASE_PER_NM) * matter.gold_nm
    amplitude = np.exp(-absorbed.astype(np.float32))
    wave = np.empty(phase.shape, np.complex64)
    np.multiply(amplitude, np.cos(phase), out=wave.real)
    np.multiply(amplitude, np.sin(phase), out=wave.imag)
    return np.asarray(fft.fft2(wave, overwrite_x=True))


def intensity(spectrum: NDArray[np.complex64], transfer: NDArray[np.complex64]) -> Map:
    """Intensity relative to the beam behind bare ice, on the canvas of the projection."""
    seen = fft.ifft2(spectrum * transfer, overwrite_x=True)
    return np.asarray(seen.real**2 + seen.imag**2, np.float32)


def graded_intensity(spectrum: NDArray[np.complex64], optics: Optics, pixel_A: float, height_um: Map) -> Map:
    """The same of a flat specimen that is not level: `height_um` of each pixel, of the shape wanted.

    Images at even steps of focus are blended; a step is half a radian at the finest detail that the pixels carry.
    """
    ny, nx = height_um.shape
    step_um = 0.5 / (np.pi * optics.wavelength_A * 1e4) * (2 * pixel_A) ** 2
    level = -optics.gradient * height_um / np.float32(step_um)
    lowest, highest = int(np.floor(level.min())), int(np.ceil(level.max()))
    blended = np.zeros((ny, nx), np.float32)
    for number in range(lowest, highest + 1):
        focused = optics.focused(optics.underfocus_um + number * step_um)
        seen = intensity(spectrum, focused.transfer(spectrum.shape, pixel_A))[:ny, :nx]
        blended += seen * np.maximum(0, 1 - np.abs(level - number))
    return blended
