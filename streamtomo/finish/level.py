"""Slabs of a flat tomogram from slices that lie level with the stage, for methods that work slice by slice.

A voxel at q from the middle of the tomogram is the specimen's `P = Rx(pitch) (q + (0, 0, height))`: the flat slab is
cut out of level slices by interpolation in y and z, with cubic weights (Keys 1981) that are the same for all x. The
level slices are only as deep as each slab needs: their middle follows the specimen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from streamtomo import geometry

Image = NDArray[np.float32]
Array = NDArray[np.float64]
TAPS = np.arange(-1, 3)
"""Neighbours of a place that a cubic weighs."""
EDGE = 2
"""Level slices and heights beyond the slab, for the interpolation at its faces."""


class Level(NamedTuple):
    """The level slices that a flat slab is cut out of."""

    first: int
    """Of the slices, counted as rows of the images."""
    rows: int
    nz: int
    middle: float
    """Height of their middle above the tilt axis."""


MakeLevel = Callable[[Level], tuple[Image, list[float]]]
"""Makes level slices `(rows, nz, nx)`, and tells what was left at each iteration."""


class Flat(NamedTuple):
    """How the tomogram lies."""

    nz: int
    ny: int
    pitch_deg: float
    height: float

    def level(self, y0: int, rows: int) -> Level:
        """What the flat slices `y0` and on are cut out of."""
        y, z = self._places(y0, rows)
        first, last = math.floor(y.min()) - EDGE, math.ceil(y.max()) + EDGE
        first, last = max(0, min(first, self.ny - 1)), min(self.ny - 1, max(last, 0))
        middle = (z.min() + z.max()) / 2
        return Level(first, last - first + 1, 2 * math.ceil((z.max() - z.min()) / 2 + EDGE) + 2, float(middle))

    def _places(self, y0: int, rows: int) -> tuple[Array, Array]:
        """Where voxels `(rows, nz)` of the flat slab are: row of the images, height above the tilt axis."""
        flat_y, flat_z = np.meshgrid(
            np.arange(y0, y0 + rows) - geometry.centre(self.ny),
            np.arange(self.nz) - geometry.centre(self.nz) + self.height,
            indexing="ij",
        )
        flat = np.stack([np.zeros(flat_y.size), flat_y.ravel(), flat_z.ravel()], axis=1)
        there = flat @ geometry.rotation_x(self.pitch_deg).T
        return (
            (there[:, 1] + geometry.centre(self.ny)).reshape(flat_y.shape),
            there[:, 2].reshape(flat_y.shape),
        )

    def cut(self, make: MakeLevel, y0: int, rows: int) -> tuple[Image, list[float]]:
        """Flat slices `(rows, nz, nx)` from `y0` on, and what the level ones tell."""
        level = self.level(y0, rows)
        slices, residuals = make(level)
        y, z = self._places(y0, rows)
        weights = _weights(y - level.first, level.rows, z - level.middle + geometry.centre(level.nz), level.nz)
        cut = np.asarray(weights @ slices.reshape(level.rows * level.nz, -1)).reshape(rows, self.nz, -1)
        return cut, residuals


def _weights(y: Array, rows: int, z: Array, nz: int) -> csr_array:
    """Of each level place `(rows * nz)` in each flat one; places beyond the slices count as their last."""
    (at_y, of_y), (at_z, of_z) = _taps(y.ravel(), rows), _taps(z.ravel(), nz)
    columns = (at_y[:, :, None] * nz + at_z[:, None, :]).reshape(y.size, -1)
    weights = (of_y[:, :, None] * of_z[:, None, :]).reshape(y.size, -1).astype(np.float32)
    starts = np.arange(y.size + 1) * columns.shape[1]
    return csr_array((weights.ravel(), columns.ravel(), starts), shape=(y.size, rows * nz))


def _taps(places: Array, number: int) -> tuple[NDArray[np.int64], Array]:
    """Neighbours `(n, 4)` of places `(n,)` and their cubic weights."""
    base = np.floor(places).astype(np.int64)
    far = np.abs((places - base)[:, None] - TAPS)
    weights = np.where(far <= 1, (1.5 * far - 2.5) * far**2 + 1, ((-0.5 * far + 2.5) * far - 4) * far + 2)
    return np.clip(base[:, None] + TAPS, 0, number - 1), weights
