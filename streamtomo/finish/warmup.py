"""Compiles the kernels of the finishing with the types that are used later."""

from __future__ import annotations

import numpy as np

from streamtomo import geometry
from streamtomo.export.mrc import Statistics
from streamtomo.finish.slab import find_slab, small_views
from streamtomo.shrink import shrink


def warmup() -> None:
    """Aligned stacks from images of every type, the search for the specimen, the statistics of what is written."""
    views = np.random.default_rng(0).integers(0, 100, (9, 64, 64))
    for kind in (np.int8, np.uint8, np.int16, np.uint16, np.float32):
        shrink(views[0].astype(kind), geometry.IDENTITY, (32, 32), 2)
    images = [view.astype(np.float32) for view in views]
    find_slab(
        small_views(images, [geometry.IDENTITY] * len(images), (64, 64)), np.linspace(-40, 40, len(images)).tolist()
    )
    for kind in (np.int16, np.float32):
        Statistics().plus(views.astype(kind)).plus(views.astype(kind)[:, :32])
