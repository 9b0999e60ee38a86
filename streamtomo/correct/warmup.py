"""Compiles the kernels of this stage with the types of pixels that files hold."""

from __future__ import annotations

import numpy as np

from streamtomo.correct import frames
from streamtomo.correct.camera_map import Learned
from streamtomo.correct.prepare import binned, repair

PIXEL_TYPES = (np.int16, np.uint16, np.uint8, np.int8, np.float32)


def warmup() -> None:
    """Load or compile all kernels; a hit and a dead column lead through every branch."""
    flat = np.random.default_rng(0).normal(50.0, 3.0, (160, 160))
    flat[20, 30] = 120.0
    flat[:, 90] = 0.0
    for pixel_type in PIXEL_TYPES:
        image = flat.astype(pixel_type)
        repaired = repair(image, 8.0)
        binned(repaired, 2)
        if repaired.statistics is not None and repaired.model is not None:
            learned = Learned.empty(image.shape)
            learned.learn(image, repaired.image, repaired.statistics, repaired.model, 0, new_series=True)
    total, factor = np.zeros(flat.shape, np.float32), np.ones(flat.shape, np.float32)
    for frame in (flat.astype(np.uint8), flat.astype(np.float32)):
        frames.add(total, frame)
        frames.block_mean(frame, factor, 2)
        frames.add_moved(total, frame, factor, (0.5, 0.5))
