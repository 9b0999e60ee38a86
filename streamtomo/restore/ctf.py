"""What is found out about the focus of each view.

What is higher (z up, towards the source) is less underfocused: with the tilt axis at x = 0 the local underfocus of a
flat specimen is `d + x tan(tilt)`, which is IMOD's sense and here hand 1; hand -1 is the contrary.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from streamtomo import geometry

Array = NDArray[np.float64]


class ViewFocus(Struct, frozen=True, kw_only=True):
    """The focus of one view, in the aligned view's frame."""

    defocus_um: float
    """Mean underfocus at the tilt axis."""
    sd_um: float
    """Standard deviation of what the spectra leave open."""
    confidence: float
    """Probability that the defocus is within 2 % or 100 nm, whichever is more, from 0 to 1."""
    resolution_A: float | None
    """Up to here rings are seen; None: none are."""


class Focus(Struct, frozen=True, kw_only=True):
    """The focus of a series."""

    views: tuple[ViewFocus, ...]
    astigmatism_um: float = 0.0
    """Greatest underfocus less the mean; the same in all views."""
    astigmatism_deg: float = 0.0
    """Direction of the greatest underfocus in the aligned view, from X, counter-clockwise."""
    phase_shift_deg: float = 0.0
    hand: int = 1
    """1: the side that the tilt lifts is less underfocused, as the conventions have it; -1: more."""
    hand_odds: float = 0.0
    """Natural logarithm of the odds for this hand against the other; below 3 nothing is proved."""
    snr: tuple[float, float] = (0.0, 0.0)
    """Signal over noise of a view's power spectrum, `snr[0] exp(-snr[1] k²)`, k in 1/Å, all views together."""


def local_defocus(defocus_um: float, x_px: ArrayLike, tilt_deg: float, pixel_A: float, hand: int = 1) -> Array:
    """Underfocus in µm of a flat specimen at distances x (pixels) from the tilt axis of an aligned view."""
    rise = np.asarray(x_px, np.float64) * float(geometry.tilt_terms(tilt_deg).tan) * pixel_A / 1e4
    return defocus_um + hand * rise
