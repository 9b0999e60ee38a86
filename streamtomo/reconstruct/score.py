"""How well a view agrees with what all others say: the first sign of a lost target or a wrong placement."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo.reconstruct.backproject import backproject
from streamtomo.reconstruct.project import project
from streamtomo.reconstruct.rays import Rays

Image = NDArray[np.float32]

BAND = (0.01, 0.15)
"""Frequencies that are compared, cycles per pixel: where a few views' volume is not noise only."""
BORDER = 0.08
"""A rim of this fraction of each side is not compared: edges fade there, and rays leave the box."""


def reprojection_without(voxels: Image, filtered: Image, rays: Rays, block_rows: int = 32) -> Image:
    """What one view should look like, `(ny, nx)`, from a volume `(ny, nz, nx)` without the view's own share in it.

    `filtered` `(ny, nx)` is the view as it went into the volume, its weight included; back-projection is linear, so
    taking it out again leaves the volume of all others.
    """
    out = np.empty_like(filtered)
    unit = np.ones(1, np.float32)
    for y0 in range(0, len(voxels), block_rows):
        rows = slice(y0, y0 + block_rows)
        others = voxels[rows].copy()
        backproject(-filtered[None, rows], rays, unit, others, add=True, exact=True)
        out[rows] = project(others, rays, filtered.shape[1])[0]
    return out


def agreement(view: Image, expected: Image) -> float:
    """Correlation of two images `(ny, nx)` within the band, away from their rims; 0 where one of them is empty."""
    a, b = (_inner(_band_passed(image)) for image in (view, expected))
    norm = float(np.sqrt((a * a).sum(dtype=np.float64) * (b * b).sum(dtype=np.float64)))
    return float((a * b).sum(dtype=np.float64)) / norm if norm > 0 else 0.0


def _band_passed(image: Image) -> Image:
    ny, nx = image.shape
    frequency = np.hypot(fft.fftfreq(ny)[:, None], fft.rfftfreq(nx)[None, :])
    low, high = BAND
    inside = np.exp(-((frequency / high) ** 2)) * -np.expm1(-((frequency / low) ** 2))
    spectrum = fft.rfft2(image, workers=-1) * inside.astype(np.float32)
    return np.asarray(fft.irfft2(spectrum, s=(ny, nx), workers=-1), np.float32)


def _inner(image: Image) -> Image:
    y, x = (int(BORDER * n) for n in image.shape)
    inner = image[y : image.shape[0] - y, x : image.shape[1] - x]
    return np.asarray(inner - inner.mean(dtype=np.float64), np.float32)
