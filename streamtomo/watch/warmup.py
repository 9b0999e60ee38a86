"""Compiles the kernel that reads EER movies."""

from __future__ import annotations

import numpy as np

from streamtomo.watch.eer_kernels import add_events


def warmup() -> None:
    """Load or compile it; one stream takes it through every branch."""
    add_events(np.full(16, 0x55, np.uint8), 7, 4, False, np.zeros(64, np.uint8))
