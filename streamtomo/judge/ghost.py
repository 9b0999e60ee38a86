"""Is everything seen twice? A specimen that jumps while it is exposed leaves two images of itself in one.

Two copies a distance `d` apart multiply the power spectrum by `1 + c cos(2 pi k d)`; its transform, the
autocorrelation, has a side peak at `d` of half the height `c`. Each ring in frequency is divided by its own mean first,
so that neither the specimen's spectrum nor the lens matters, and counts by the share of its power that is not noise.
What is periodic by itself has side peaks, too: a tilt is held against the others.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo.judge.spectrum import DETAIL, NOISE, RINGS, clipped_spectrum, middle_of, power_of, rings_of

Image = NDArray[np.float32]

LOOKED_AT_PX = 256
"""So many live pixels in the middle of the image tell."""
NEAREST_PX = 6
"""Side peaks nearer than this, in live pixels, belong to the middle one ..."""
FURTHEST = 0.4
"""... and further away than this fraction of the part that is looked at, both copies are hardly in it."""
LOUDEST = 6.0
"""Power over its ring's mean is cut here, which noise hardly exceeds: the edge of a shadow is one bright line."""


def ghost(image: Image) -> float:
    """Height of the highest side peak in the autocorrelation of a live image `(ny, nx)`, that of the middle being 1."""
    middle = middle_of(image, LOOKED_AT_PX)
    side, rings = len(middle), rings_of(len(middle))
    spectrum = clipped_spectrum(middle, rings.window)
    power = power_of(spectrum).ravel()
    profile = np.bincount(rings.number, power, RINGS + 1) / np.maximum(np.append(rings.counts, 1), 1)
    signal = np.zeros(RINGS + 1)
    signal[DETAIL] = np.maximum(0.0, 1 - profile[NOISE].mean() / np.maximum(profile[DETAIL], 1e-30))
    total = float(signal[:RINGS] @ rings.counts)
    if not total > 0:
        return 0.0
    inverse = (1 / np.maximum(profile, 1e-30)).astype(np.float32)
    relative = np.minimum(power * inverse[rings.number], np.float32(LOUDEST)) - np.float32(1)
    weighted = (signal.astype(np.float32)[rings.number] * relative).reshape(spectrum.shape)
    peaks = fft.irfft2(weighted, s=(side, side))
    highest = float(peaks[_looked_at(side)].max())
    return max(0.0, highest * float(side) ** 2 / (2 * total))


@lru_cache(maxsize=4)
def _looked_at(side: int) -> NDArray[np.bool_]:
    """Shifts `(side, side)` at which a side peak is looked for; shift 0 is at index 0."""
    away = np.minimum(np.arange(side), side - np.arange(side))
    distance = np.hypot(away[:, None], away[None, :])
    return np.asarray((distance >= NEAREST_PX) & (distance <= FURTHEST * side))
