"""Cross-correlation of two views: band-passed, tapered, to a fraction of a pixel, with a score.

Shifts are in pixels of the images given; a peak at `(dx, dy)` says that what the reference shows at `x` lies at
`x + d` in the image.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo.align import peak_kernels

Image = NDArray[np.float32]

TAPER = 0.1
"""Share of each side over which a view fades to its mean."""
EDGE_WIDTH = 0.02
"""Softness of the band's edges, cycles per pixel."""


class Band(NamedTuple):
    """Band of spatial frequencies, cycles per pixel."""

    low: float
    high: float

    @property
    def reach(self) -> float:
        """Radius in pixels of the neighbourhood that belongs to one peak."""
        return max(4.0, 1.0 / self.high)


class Peak(NamedTuple):
    """The highest peak of a correlation."""

    dx: float
    dy: float
    score: float
    """Height over the background, in the background's standard deviations."""
    ambiguity: float
    """Height of the second peak over the first's."""


def correlate(
    reference: Image, image: Image, band: Band, reach_px: tuple[float, float], usual_px: float | None = None
) -> Peak:
    """Find the shift between two views of equal shape `(ny, nx)`, already tapered, mean removed.

    Searches within an ellipse with half axes `reach_px` (x, y). Shifts are usually shorter than `usual_px`: a peak far
    beyond it must be so much the higher (None: all shifts are equally likely).
    """
    surface = cross_correlation(reference, image, band)
    return best_peak(surface, band.reach, reach_px, usual_px)


def cross_correlation(reference: Image, image: Image, band: Band) -> Image:
    """Band-passed circular cross-correlation; shift zero at `[ny // 2, nx // 2]` of the padded shape."""
    shape = tuple(fft.next_fast_len(n, real=True) for n in image.shape)
    spectrum = fft.rfft2(reference, s=shape)
    np.conjugate(spectrum, out=spectrum)
    spectrum *= fft.rfft2(image, s=shape)
    spectrum *= band_pass(shape[0], shape[1], band)
    surface: Image = fft.fftshift(fft.irfft2(spectrum, s=shape, overwrite_x=True))
    return surface


@lru_cache(maxsize=16)
def band_pass(ny: int, nx: int, band: Band) -> Image:
    """Real filter `(ny, nx // 2 + 1)` of the product of two spectra: flat between the edges, Gaussian beyond."""
    frequency = np.hypot(fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)[None, :])
    high_pass = 1 - np.exp(-0.5 * (frequency / band.low) ** 2) if band.low > 0 else np.ones_like(frequency)
    low_pass = np.exp(-0.5 * (np.clip(frequency - band.high, 0, None) / EDGE_WIDTH) ** 2)
    filtered: Image = (high_pass * low_pass).astype(np.float32)
    filtered[0, 0] = 0
    filtered.flags.writeable = False
    return filtered


@lru_cache(maxsize=16)
def taper(ny: int, nx: int) -> Image:
    """Window `(ny, nx)`: 1 inside, falling to 0 at the edges like a cosine."""

    def side(n: int) -> NDArray[np.float64]:
        depth = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) / max(1.0, TAPER * n)
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip(depth, 0, 1)))

    window: Image = np.outer(side(ny), side(nx)).astype(np.float32)
    window.flags.writeable = False
    return window


def masked(image: Image, window: Image) -> Image:
    """The image minus its weighted mean, times the window, scaled to unit power; `(ny, nx)` each."""
    total = float(window.sum())
    if total <= 0:
        return np.zeros_like(image)
    flat: Image = image - np.float32(image.mean(dtype=np.float64))  # large offsets first, they cost digits
    flat -= np.float32(float(np.vdot(flat, window)) / total)
    flat *= window
    power = float(np.vdot(flat, flat))
    if power > 0:
        flat *= np.float32(1 / np.sqrt(power))
    return flat


def best_peak(surface: Image, peak_reach: float, reach_px: tuple[float, float], usual_px: float | None = None) -> Peak:
    """The likeliest shift within an ellipse about the centre of a correlation, with its score and ambiguity.

    In white noise a peak of `z` standard deviations has the log likelihood `z^2 / 2`; long shifts have the prior
    probability `1 / (1 + (r / usual)^2)^2`, whose tail leaves jumps of the stage possible.
    """
    ny, nx = surface.shape
    rx, ry = (min(max(reach, 3.0), n / 2 - 2) for reach, n in zip(reach_px, (nx, ny), strict=True))
    x, y = np.arange(nx) - nx // 2, np.arange(ny) - ny // 2
    allowed = (x[None, :] / rx) ** 2 + (y[:, None] / ry) ** 2 <= 1
    merit = surface - surface.mean(dtype=np.float64).astype(np.float32)
    if usual_px is not None:
        variance = float(merit.var(dtype=np.float64))
        merit = merit * np.abs(merit) / np.float32(2 * variance or 1) + _prior(ny, nx, usual_px)
    py, px = np.unravel_index(int(np.argmax(np.where(allowed, merit, -np.inf))), surface.shape)
    away = (x[None, :] - x[px]) ** 2 + (y[:, None] - y[py]) ** 2 > peak_reach**2
    background = surface[away]
    mean, sd = float(background.mean()), float(background.std())
    height = float(surface[py, px]) - mean
    elsewhere = surface[away & allowed]
    second = float(elsewhere.max()) - mean if elsewhere.size else 0.0
    fx, fy = vertex(surface[py - 1 : py + 2, px - 1 : px + 2])
    return Peak(
        dx=float(x[px]) + fx,
        dy=float(y[py]) + fy,
        score=height / sd if sd > 0 else 0.0,
        ambiguity=float(np.clip(second / height, 0, 1)) if height > 0 else 1.0,
    )


@lru_cache(maxsize=8)
def _prior(ny: int, nx: int, usual_px: float) -> Image:
    """Log of the prior probability of shifts `(ny, nx)`, 0 at shift zero in the middle."""
    x, y = np.arange(nx) - nx // 2, np.arange(ny) - ny // 2
    prior: Image = (-2 * np.log1p((x[None, :] ** 2 + y[:, None] ** 2) / usual_px**2)).astype(np.float32)
    prior.flags.writeable = False
    return prior


def vertex(values: NDArray[Any]) -> tuple[float, float]:
    """Maximum `(x, y)` of the quadratic surface through 3 x 3 values, least squares, within half a pixel or so."""
    v = np.asarray(values, dtype=np.float64)
    if v.shape != (3, 3):
        return 0.0, 0.0
    fx, fy = peak_kernels.vertex(v)
    return float(fx), float(fy)
