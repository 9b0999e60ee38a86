"""Sharpness: how much detail stands over the noise, ring by ring in frequency.

From tilt to tilt of a good series this profile hardly changes, whatever the specimen and the defocus are. A blur takes
its outer rings away, another defocus moves its maxima. Power is divided by that of the outermost rings, which is the
noise of the electrons.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Image = NDArray[np.float32]
Array = NDArray[np.float64]
Spectrum = NDArray[np.complex64]

LARGEST_PX = 512
"""The middle of the image is looked at, so many live pixels of it at most."""
RINGS = 40
"""Rings from frequency 0 to 1 cycle per pixel."""
DETAIL = slice(2, 13)
"""Rings kept, 0.05 to 0.325 cycles per pixel."""
AXIS = 1.5
"""Coefficients nearer to an axis than this are left out."""
NOISE = slice(16, 20)
"""Rings of noise, 0.4 to 0.5 cycles per pixel."""
CLEAR = 0.4
"""A ring is compared where the others have at least so much detail, in units of the noise's power."""
CLEAR_RINGS = 3
"""With fewer rings to compare nothing is said."""
ENOUGH = 3
"""Tilts to compare with that there must be."""
EVERY = 3
"""Every third row and column is enough for the levels."""
OUTSTANDING = 2.0
"""What is further than so many standard deviations from the middle level is cut."""
QUARTILES_APART = 1.349
"""Standard deviations between the quartiles of a normal distribution."""


def detail(image: Image) -> tuple[float, ...]:
    """Profile of a live image `(ny, nx)`: power of the detail over the noise's in each ring of DETAIL."""
    middle = middle_of(image)
    side = len(middle)
    flat = (middle - np.float32(middle.mean(dtype=np.float64))) * rings_of(side).window
    sums = np.bincount(rings_of(side).number, power_of(fft.rfft2(flat)).ravel(), minlength=RINGS)[:RINGS]
    profile = sums / np.maximum(rings_of(side).counts, 1)
    noise = float(profile[NOISE].mean())
    if not noise > 0:
        return ()
    return tuple(round(float(value), 3) for value in profile[DETAIL] / noise - 1)


def power_of(spectrum: Spectrum) -> Image:
    """Squares of its coefficients' sizes."""
    return np.asarray(spectrum.real**2 + spectrum.imag**2)


def middle_of(image: Image, most: int = LARGEST_PX) -> Image:
    """The square in an image's middle that is looked at, of `most` pixels; its side is one that is transformed fast."""
    side = fast_side(image.shape, most)
    y, x = ((n - side) // 2 for n in image.shape)
    return image[y : y + side, x : x + side]


def fast_side(shape_yx: tuple[int, ...], most: int) -> int:
    """The largest side that a square within an image can have which is transformed fast."""
    side = min(*shape_yx, most)
    while fft.next_fast_len(side, real=True) > side:
        side -= 1
    return side


class Compared(NamedTuple):
    """The detail of a profile over that of others, in the rings where that is clear."""

    kept: float
    """Mean of the rings' ratios, each of them cut at 1.5."""
    shape: float
    """Root mean square of the ratios' logarithms about their mean."""
    contrast: float
    """Median of the ratios."""


def sharpness(new: Sequence[float], others: Sequence[Sequence[float]]) -> Compared | None:
    """Detail of a profile against others'; None where there is too little detail, or too few others."""
    alike = [one for one in others if len(one) == len(new) and one]
    if len(alike) < ENOUGH or not new:
        return None
    usual = np.median(np.asarray(alike, dtype=np.float64), axis=0)
    clear = usual > CLEAR
    if int(clear.sum()) < CLEAR_RINGS:
        return None
    ratios = np.asarray(new, dtype=np.float64)[clear] / usual[clear]
    logs = np.log(np.clip(ratios, 0.05, 20.0))
    return Compared(float(np.clip(ratios, 0.0, 1.5).mean()), float(logs.std()), float(np.median(ratios)))


class Rings(NamedTuple):
    """The rings of a square's real transform, and the window to see it through."""

    number: NDArray[np.int64]
    """The ring of each coefficient, flat; those on the axes are in none (RINGS): dead rows and columns of the camera
    are there and nowhere else."""
    counts: Array
    """Coefficients in each ring, `(RINGS,)`."""
    window: Image
    """Hann window `(side, side)`."""


@lru_cache(maxsize=4)
def rings_of(side: int) -> Rings:
    """The rings of a square of so many pixels."""
    y, x = fft.fftfreq(side)[:, None], fft.rfftfreq(side)[None, :]
    number = np.minimum((RINGS * np.hypot(y, x)).astype(np.int64), RINGS - 1)
    number[(np.abs(y) < AXIS / side) | (x < AXIS / side)] = RINGS
    counts = np.bincount(number.ravel(), minlength=RINGS)[:RINGS].astype(np.float64)
    one = np.hanning(side)
    return Rings(number.ravel(), counts, np.outer(one, one).astype(np.float32))


def clipped_spectrum(part: Image, window: Image) -> Spectrum:
    """Real transform of what is seen through a window `(ny, nx)`, with what stands out cut: a bead that lies on another
    one would else outweigh all the rest.
    """
    seen = part[::EVERY, ::EVERY][window[::EVERY, ::EVERY] > 0]
    low, level, high = np.percentile(seen, (25, 50, 75)) if seen.size else (0.0, 0.0, 0.0)
    spread = np.float32(OUTSTANDING * max(float(high - low), 1e-30) / QUARTILES_APART)
    flat = np.clip(part - np.float32(level), -spread, spread) * window
    total = float(window.sum())
    return np.asarray(fft.rfft2(flat - np.float32(flat.sum() / total) * window if total > 0 else flat), np.complex64)
