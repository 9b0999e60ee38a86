"""Compiles the kernels of this stage with the types of pixels that files hold."""

from __future__ import annotations

import numpy as np

from streamtomo.correct.prepare import prepare

PIXEL_TYPES = (np.int16, np.uint16, np.uint8, np.int8, np.float32)


def warmup() -> None:
    """Load or compile all kernels; a hit and a dead column lead through every branch."""
    flat = np.random.default_rng(0).normal(50.0, 3.0, (160, 160))
    flat[20, 30] = 120.0
    flat[:, 90] = 0.0
    for pixel_type in PIXEL_TYPES:
        prepare(flat.astype(pixel_type), 2, 8.0)
