"""From the raw image to the live image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.correct.binning import bin_image
from streamtomo.correct.outliers import repair
from streamtomo.model import Correction


def prepare(image: NDArray[Any], binning: int, sigma: float) -> tuple[NDArray[np.float32], Correction]:
    """Repair outliers beyond `sigma` and bin an image `(ny, nx)` to `(ny // binning, nx // binning)`.

    The image is C-contiguous and writable, of int8, uint8, int16, uint16 or float32; it is not changed.
    """
    repaired, replaced = repair(image, sigma)
    binned = bin_image(repaired, binning)
    return binned, Correction(
        repaired=replaced,
        binning=binning,
        mean=float(binned.mean(dtype=np.float64)),
        sd=float(binned.std(dtype=np.float64)),
    )


def live_binning(nx: int, ny: int, size_px: int) -> int:
    """The smallest whole number that brings the longer side to `size_px` or less."""
    return max(1, -(-max(nx, ny) // size_px))
