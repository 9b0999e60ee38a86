"""Central sections of the volume that iterations (SIRT) would give; the volume itself is never held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.reconstruct.live import block_rows
from streamtomo.reconstruct.rays import single_axis
from streamtomo.reconstruct.sirt import iterate, solver
from streamtomo.reconstruct.slabs import Slabs, central

Image = NDArray[np.float32]


class Sections(NamedTuple):
    """Of the volume, as `LiveVolume.central_slabs`."""

    slabs: Slabs
    residual: float
    """What the iterations had left of the views before the last one, as a fraction of them."""


def iterated_sections(
    views: Image, tilts_deg: Sequence[float], nz: int, iterations: int, interrupted: Callable[[], bool]
) -> Sections | None:
    """Sections of `nz` slices seen by aligned views `(n, ny, nx)` with mean 0; None if `interrupted`.

    Slice by slice, some at a time: what interrupts waits for no more than those.
    """
    n, ny, nx = views.shape
    of = solver(single_axis(tilts_deg), nz, nx, nx)
    xy, xz, yz = (np.zeros(shape, np.float32) for shape in ((ny, nx), (nz, nx), (nz, ny)))
    residuals = list[float]()
    step = block_rows(2 * iterations * n * nz * nx)
    middle = central(ny, nz)
    for y0 in range(0, ny, step):
        if interrupted():
            return None
        rows = slice(y0, min(ny, y0 + step))
        voxels, left = iterate(of, np.ascontiguousarray(views[:, rows]), iterations)
        xy[rows] = voxels[:, central(nz, nz)].mean(axis=1)
        yz[:, rows] = voxels[:, :, central(nx, nz)].mean(axis=2).T
        xz += voxels[max(0, middle.start - y0) : max(0, middle.stop - y0)].sum(axis=0)
        residuals += [left[-1]] * len(voxels)
    return Sections(Slabs(xy, xz / np.float32(middle.stop - middle.start), yz), float(np.mean(residuals)))
