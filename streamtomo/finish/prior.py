"""What may be known of a specimen before it is reconstructed, for SIRT: that it is only darker or only brighter than
what is around it, and where it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamtomo.errors import SettingsError
from streamtomo.export import mrc

Sign = Literal["any", "dark", "bright"]
BLOCK = 8
"""Pixels to a side of the blocks whose means tell the background: their noise is low."""
FARTHEST = 2.0
"""Percent of the blocks that are beyond the background."""


def background(view: NDArray[np.float32], sign: Sign) -> float:
    """Level of a view `(ny, nx)` around a specimen that is darker or brighter; its mean for a specimen of any sign."""
    if sign == "any":
        return float(view.mean(dtype=np.float64))
    ny, nx = (max(1, n // BLOCK) for n in view.shape)
    y, x = (min(BLOCK, n) for n in view.shape)
    blocks = view[: ny * y, : nx * x].reshape(ny, y, nx, x).mean(axis=(1, 3))
    return float(np.percentile(blocks, FARTHEST if sign == "bright" else 100 - FARTHEST))


class Mask:
    """A file of the tomogram's size; what is 0 there is 0 in the tomogram."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        """Of `(nz, ny, nx)` voxels. Raises SettingsError."""
        self._path = path
        try:
            found = mrc.shape_of(path)
        except (OSError, ValueError) as error:
            raise SettingsError(f"final.sirt_mask: {path} cannot be read as MRC ({error})") from None
        if found != shape:
            raise SettingsError(
                f"final.sirt_mask: {path} is {_words(found)} voxels, the tomogram {_words(shape)}; make it from a "
                "tomogram of the same binning and thickness"
            )

    def rows(self, y0: int, count: int) -> NDArray[Any]:
        """Some slices, `(count, nz, nx)`."""
        return mrc.rows(self._path, y0, count).transpose(1, 0, 2)


def _words(shape_zyx: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape_zyx[::-1]))
