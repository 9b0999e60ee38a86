"""Compiles the kernels of reconstruction and resampling with the types that are used later."""

from __future__ import annotations

import numpy as np

from streamtomo import geometry
from streamtomo.reconstruct.filters import Filtering
from streamtomo.reconstruct.live import LiveVolume
from streamtomo.reconstruct.rays import Box, single_axis
from streamtomo.reconstruct.sections import iterated_sections
from streamtomo.reconstruct.sirt import iterate, solver
from streamtomo.reconstruct.wbp import make_slab, weighted


def warmup() -> None:
    """Run every kernel of the live volume once on something small."""
    flat, noise = np.ones((16, 16), np.float32), np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    for dtype, image in ((np.int16, flat), (np.int16, noise), (np.float32, noise)):  # flat: no sums in int16
        volume = LiveVolume((8, 16, 16))
        volume.recall([], [], np.zeros((16, 8, 16), dtype))
        for tilt in range(9):
            volume.add(image, float(tilt), geometry.IDENTITY)
        volume.rebuild(lambda: False)
        volume.leave_one_out(0, image, geometry.IDENTITY, lambda: False)
        volume.central_slabs()
    iterated_sections(np.ones((9, 16, 16), np.float32), list(range(9)), 8, 2, lambda: False)


def warmup_final() -> None:
    """Run every kernel of the final reconstruction once, in float and integer sums, into float and integer voxels."""
    tilts = np.linspace(-40, 40, 9)
    stack = np.random.default_rng(0).normal(size=(9, 16, 200)).astype(np.float32)
    views, box = weighted(stack, tilts), Box(8, 16, 200)
    for exact in (True, False):
        for dtype in (np.float32, np.int16):
            slab = np.empty((8, 16, 200), dtype)
            make_slab(views, box, 0, slab.transpose(1, 0, 2), filtering=Filtering(0.35, 0.05), exact=exact)
    iterate(solver(single_axis(tilts), 8, 200, 200), stack, 2)
