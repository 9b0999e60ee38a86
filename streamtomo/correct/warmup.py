"""Compiles the kernels of this stage with the types of pixels that files hold."""

from __future__ import annotations

import numpy as np

from streamtomo.correct import frames
from streamtomo.correct.prepare import prepare

PIXEL_TYPES = (np.int16, np.uint16, np.uint8, np.int8, np.float32)


def warmup() -> None:
    """Load or compile all kernels; a hit in the image takes it through every branch."""
    flat = np.random.default_rng(0).normal(50.0, 3.0, (64, 64))
    flat[20, 30] = 120.0
    for pixel_type in PIXEL_TYPES:
        prepare(flat.astype(pixel_type), 2, 8.0)
    total, factor = np.zeros(flat.shape, np.float32), np.ones(flat.shape, np.float32)
    for frame in (flat.astype(np.uint8), flat.astype(np.float32)):
        frames.add(total, frame)
        frames.block_mean(frame, factor, 2)
        frames.add_moved(total, frame, factor, (0.5, 0.5))
