"""How much of the field is not as it was: a film that tears, ice that grows, bubbles, a bar or a beam's edge.

What a specimen absorbs at one tilt it absorbs at the next one, but for a common factor. Where the level of a cell of
the field is another one than that of a tilt at a like angle, laid over it, something has come or gone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.judge.look import CELLS, cells
from streamtomo.resample import covered, warp

Image = NDArray[np.float32]

CELL_PX = 4
"""Pixels along a cell to which images are binned for it."""
CLEAR = 0.12
"""Levels are others if the logarithm of their ratio differs from the common one by more than this: a tenth of an
inelastic mean free path is some 30 nm of ice."""
ENOUGH = 64
"""Cells that both must show."""
WHOLE = 0.99


def binning_for(image: Image) -> int:
    """Live pixels along each side of one that is compared."""
    return max(1, int(min(image.shape)) // (CELLS * CELL_PX))


def changed(image: Image, other: Image, transform: geometry.Array) -> float | None:
    """Share of the field of a binned image `(ny, nx)` whose level changed against another one's, which `transform`
    lays over it; None where too little is seen of both.
    """
    here, there = cells(image), cells(warp(other, transform))
    seen = cells(covered(other.shape, transform, image.shape).astype(np.float32))
    both = (seen > WHOLE) & (here > 0) & (there > 0)
    if np.count_nonzero(both) < ENOUGH:
        return None
    ratio = np.log(here[both] / there[both])
    return float(np.mean(np.abs(ratio - np.median(ratio)) > CLEAR))
