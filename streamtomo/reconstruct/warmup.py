"""Compiles the kernels of reconstruction and resampling with the types that are used later."""

from __future__ import annotations

import numpy as np

from streamtomo import geometry
from streamtomo.reconstruct.live import LiveVolume


def warmup() -> None:
    """Run every kernel once on something small."""
    volume = LiveVolume((8, 16, 16))
    for tilt in range(9):
        volume.add(np.ones((16, 16), np.float32), float(tilt), geometry.IDENTITY)
    volume.rebuild(lambda: False)
