"""How well a view agrees with what all others say: the first sign of a lost target or a wrong placement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo.reconstruct.backproject import Scratch, backproject
from streamtomo.reconstruct.project import project
from streamtomo.reconstruct.rays import Rays

Image = NDArray[np.float32]

BAND = (0.01, 0.15)
"""Frequencies that are compared, cycles per pixel: where a few views' volume is not noise only."""
SPREAD = 8
"""Pixels that interpolating twice reaches."""
BORDER = 0.08
"""A rim of this fraction of each side is not compared: edges fade there, and rays leave the box."""


def reprojection_without(
    voxels: NDArray[Any],
    filtered: Image,
    rays: Rays,
    interrupted: Callable[[], bool] = lambda: False,
    block_rows: int = 32,
) -> Image | None:
    """What one view should look like, `(ny, nx)`, from a volume without the view's own share in it.

    `voxels` `(ny, nz, nx)` are float32 or int16; `filtered` `(ny, nx)` is the view as it went into them, its weight
    included. Everything here is linear: the
    volume is projected with the view in it, and the projection of the view's own back-projection is taken off.
    `interrupted` is asked between blocks of rows; None if it said so.
    """
    out, scratch = np.empty_like(filtered), Scratch()
    for y0 in range(0, len(voxels), block_rows):
        if interrupted():
            return None
        rows = slice(y0, y0 + block_rows)
        out[rows] = project(voxels[rows], rays, filtered.shape[1], scratch)[0]
    out -= _own_share(filtered, rays, voxels.shape[1], voxels.shape[2])
    return out


def _own_share(filtered: Image, rays: Rays, nz: int, nx: int) -> Image:
    """The projection of the back-projection of a view `(ny, mx)`, through a box `nz` x `nx` in a slice.

    It is the same narrow operator for each row: a pixel comes back within SPREAD pixels of where it is. So combs whose
    teeth do not touch show all of it, whatever the number of rows.
    """
    mx, teeth = filtered.shape[1], 2 * SPREAD + 1
    combs = np.zeros((1, teeth, mx), np.float32)
    for j in range(teeth):
        combs[0, j, j::teeth] = 1.0
    through = np.empty((teeth, nz, nx), np.float32)
    backproject(combs, rays, np.ones(1, np.float32), through, exact=True)
    answer = project(through, rays, mx)[0]
    share = np.zeros_like(filtered)
    column = np.arange(mx)
    for step in range(-SPREAD, SPREAD + 1):
        to = slice(max(0, -step), min(mx, mx - step))
        source = column[to] + step
        share[:, to] += answer[source % teeth, column[to]] * filtered[:, source[0] : source[-1] + 1]
    return share


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
