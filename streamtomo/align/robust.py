"""Weights that outliers do not deserve: what a residual is worth, and what is normal in a view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamtomo.align import bundle_kernels as kernels

Array = NDArray[np.float64]
Index = NDArray[np.int64]

HUBER_LIMIT, TUKEY_LIMIT = 1.5, 4.685
"""Where the weights begin to fall, and where Tukey's end, in standard deviations of one coordinate."""
RESTLESS = 0.02
"""Change of a weight that makes another round worth while."""
SHRINKAGE = 8.0
"""Number of positions in a view at which its own scale counts as much as that of the views around it."""
SCALE_REACH, SCALE_CEILING = 3, 2.0
"""Views on each side that count as around; how much worse than they a view may be."""
RAYLEIGH_MEDIAN = 1.1774
"""Median length of a 2-D normal vector with unit standard deviations."""


def huber(length: Array) -> Array:
    """Weights of residuals with these lengths, in standard deviations of one coordinate (Huber 1964)."""
    return np.minimum(1.0, HUBER_LIMIT / np.maximum(length, 1e-9))


def tukey(length: Array) -> Array:
    """Weights that end: Tukey's biweight (Beaton and Tukey 1974)."""
    share = length / TUKEY_LIMIT
    return np.where(share < 1, (1 - share**2) ** 2, 0.0)


def at_rest(before: Array, weights: Array) -> bool:
    """Whether one more round would change nothing that matters."""
    return float(np.abs(weights - before).max(initial=0.0)) < RESTLESS


def view_scales(length: Array, view: Index, n: int, floor_px: float) -> Array:
    """A view's scale: from its own median residual, drawn towards that of the views around it.

    Where few positions are left, half of them outliers, only the views around tell what is normal: hence the ceiling.
    """
    own, around = np.zeros(n), np.zeros(n)
    kernels.medians(length, view, np.int64(SCALE_REACH), own, around)
    count = np.bincount(view, minlength=n)
    usual = around / RAYLEIGH_MEDIAN
    square = (own / RAYLEIGH_MEDIAN) ** 2
    shrunk = np.sqrt((count * square + SHRINKAGE * usual**2) / (count + SHRINKAGE))
    scale = np.where(around > 0, np.minimum(shrunk, SCALE_CEILING * usual), 1.0)
    return np.maximum(scale, floor_px)
