"""Views corrected for the lens: phases flipped, or amplitudes restored as far as the noise allows.

A tilted specimen has another focus at each distance from the tilt axis. A view is cut into strips along the axis that
overlap by half, each is corrected as a whole for the focus at its middle, and neighbours are blended: from one to the
next the phase of the lens changes by an eighth of a turn at most, at the finest detail that the pixels carry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import asin, pi, radians
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.fft as fft
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.jit import parallel_kernel, prange, threads
from streamtomo.lens import Microscope
from streamtomo.restore.ctf import Focus, local_defocus

Image = NDArray[np.float32]

NARROWEST_PX = 16
"""Strips are no nearer to each other."""
MARGIN_PX = (8, 256)
"""Around a strip, at the least and at the most: as far as the lens carries detail aside."""
LEAST_SNR = 1e-3


class Lens(NamedTuple):
    """What a kernel needs to know, in Å and radians."""

    pixel_A: float
    defocus: float
    """pi lambda."""
    spherical: float
    """pi / 2 Cs lambda³."""
    constant: float
    """Of amplitude contrast and phase plate."""
    along_A: float
    """Twofold underfocus, cosine part ..."""
    across_A: float
    """... and sine part."""
    snr: float
    """Signal over noise of all views together at frequency 0; 0: phases are only flipped."""
    snr_decay_A2: float


def corrected(
    stack: Image,
    tilts_deg: Sequence[float],
    pixel_A: float,
    focus: Focus,
    microscope: Microscope,
    how: Literal["flip", "wiener"] = "flip",
    progress: Callable[[float], None] = lambda _: None,
) -> Image:
    """Aligned views `(n, ny, nx)` corrected for their focus, a new stack; dark stays dark.

    `wiener` multiplies by `s / (s² + 1 / SNR)`, s the lens's transfer and SNR that of all views together.
    `tilts_deg` are those that the focus was found with.
    """
    if not len(stack) == len(tilts_deg) == len(focus.views):
        raise ValueError(f"{len(stack)} views, {len(tilts_deg)} tilt angles, {len(focus.views)} foci")
    lens, out = _lens(pixel_A, focus, microscope, len(stack) if how == "wiener" else 0), np.empty_like(stack)
    for number, (view, tilt, found) in enumerate(zip(stack, tilts_deg, focus.views, strict=True)):
        _correct(view, tilt, found.defocus_um, focus.hand, lens, out[number])
        progress((number + 1) / len(stack))
    return out


def _lens(pixel_A: float, focus: Focus, microscope: Microscope, views: int) -> Lens:
    wave, twice = microscope.wavelength_A, 2 * radians(focus.astigmatism_deg)
    return Lens(
        pixel_A=pixel_A,
        defocus=pi * wave,
        spherical=pi / 2 * microscope.cs_mm * 1e7 * wave**3,
        constant=asin(microscope.amplitude_contrast) + radians(focus.phase_shift_deg),
        along_A=focus.astigmatism_um * 1e4 * float(np.cos(twice)),
        across_A=focus.astigmatism_um * 1e4 * float(np.sin(twice)),
        snr=max(LEAST_SNR, views * focus.snr[0]) if views else 0.0,
        snr_decay_A2=focus.snr[1],
    )


def _correct(view: Image, tilt_deg: float, defocus_um: float, hand: int, lens: Lens, out: Image) -> None:
    """One view `(ny, nx)` into `out`."""
    ny, nx = view.shape
    step, middles = strip_middles(nx, tilt_deg, lens)
    margin, span = _margin(defocus_um, lens), min(2 * int(np.ceil(step)) + 1, nx)
    height = fft.next_fast_len(ny + 2 * margin, real=True)
    width = fft.next_fast_len(span + 2 * margin, real=True)
    mean = np.float32(view.mean(dtype=np.float64))
    starts = [int(np.clip(np.floor(middle - step), 0, nx - span)) for middle in middles]
    strips = np.empty((len(middles), height, width), np.float32)
    columns = np.stack([_mirrored(nx, start - margin, width) for start in starts])
    _cut(np.ascontiguousarray(view), _mirrored(ny, -margin, height), columns, mean, strips)
    spectra = fft.rfft2(strips, workers=threads(), overwrite_x=True)
    local_A = 1e4 * local_defocus(defocus_um, middles - geometry.centre(nx), tilt_deg, lens.pixel_A, hand)
    _apply(spectra, np.int64(width), local_A, np.array(lens, np.float64))
    strips = fft.irfft2(spectra, s=(height, width), workers=threads(), overwrite_x=True)
    away = np.abs(np.arange(span) + np.array(starts)[:, None] - middles[:, None])
    weights = np.maximum(0, 1 - away / step) if len(middles) > 1 else np.ones((1, span))
    _blend(strips, np.array(starts), np.int64(margin), weights.astype(np.float32), mean, out)


def strip_middles(nx: int, tilt_deg: float, lens: Lens) -> tuple[float, NDArray[np.float64]]:
    """Distance of strips in pixels, and their middles (array indices), from edge to edge; or only one."""
    finest = 1 / (2 * lens.pixel_A)
    tolerance_A = pi / 4 / (lens.defocus * finest**2)
    rise = abs(float(geometry.tilt_terms(tilt_deg).tan)) * lens.pixel_A
    if rise * nx <= tolerance_A:
        return float(nx), np.array([geometry.centre(nx)])
    count = int(np.ceil((nx - 1) / max(NARROWEST_PX, tolerance_A / rise)))
    return (nx - 1) / count, np.linspace(0, nx - 1, count + 1)


def _margin(defocus_um: float, lens: Lens) -> int:
    """Pixels that the finest detail is carried aside."""
    carried = lens.defocus / pi * defocus_um * 1e4 / (2 * lens.pixel_A) / lens.pixel_A
    return int(np.clip(np.ceil(carried) + MARGIN_PX[0], *MARGIN_PX))


def _mirrored(n: int, first: int, count: int) -> NDArray[np.int64]:
    """Indices `first` to `first + count`, those beyond an image's borders mirrored into it."""
    at = np.mod(np.arange(first, first + count), 2 * n)
    return np.where(at < n, at, 2 * n - 1 - at)


@parallel_kernel
def _cut(view: Any, rows: Any, columns: Any, mean: Any, strips: Any) -> None:
    """`strips[s, y, x] = view[rows[y], columns[s, x]] - mean`."""
    for y in prange(strips.shape[1]):
        for s in range(strips.shape[0]):
            for x in range(strips.shape[2]):
                strips[s, y, x] = view[rows[y], columns[s, x]] - mean


@parallel_kernel
def _blend(strips: Any, starts: Any, margin: Any, weights: Any, mean: Any, out: Any) -> None:
    """`out` = `mean` plus strips without margins, weighed by `(strips, span)`, each from column `starts[s]` on."""
    for y in prange(out.shape[0]):
        out[y] = mean
        for s in range(strips.shape[0]):
            into = out[y, starts[s] : starts[s] + weights.shape[1]]
            row = strips[s, margin + y, margin : margin + weights.shape[1]]
            for x in range(into.shape[0]):
                into[x] += weights[s, x] * row[x]


@parallel_kernel
def _apply(spectra: Any, width: Any, defocus_A: Any, lens: Any) -> None:
    """Multiply spectra `(strips, height, width // 2 + 1)` by the correction, each at its underfocus, of a `Lens`."""
    strips, height, columns = spectra.shape
    pixel, focus, spherical, constant, along, across, snr, decay = lens
    for y in prange(height):
        ky = (y if y <= height // 2 else y - height) / (height * pixel)
        for s in range(strips):
            row = spectra[s, y]
            for x in range(columns):
                kx = x / (width * pixel)
                k2 = kx * kx + ky * ky
                astigmatic = along * (kx * kx - ky * ky) + across * 2 * kx * ky
                gamma = focus * (defocus_A[s] * k2 + astigmatic) - spherical * k2 * k2 + constant
                if snr == 0:
                    if np.int64(np.floor(gamma / np.pi)) & 1:
                        row[x] = -row[x]
                else:
                    sine = np.sin(gamma)
                    row[x] *= np.float32(sine / (sine * sine + np.exp(decay * k2) / snr))
