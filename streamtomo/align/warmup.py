"""Compiles what the live alignment calls."""

from __future__ import annotations

import numpy as np

from streamtomo.align import common_lines
from streamtomo.align.beads import BeadShape, find_candidates
from streamtomo.align.live import LiveAligner
from streamtomo.config import Align


def warmup() -> None:
    """Place a few images, large enough for the kernels that use all threads."""
    image = np.random.default_rng(0).normal(size=(352, 320)).astype(np.float32)
    aligner = LiveAligner(Align(), 10.0, 1)
    for index, angle_deg in enumerate((0.0, 3.0, -3.0)):
        aligner.accept(index, angle_deg, image, aligner.place(index, angle_deg, image))
    find_candidates(image, BeadShape(3.0, -1.0))
    views = [common_lines.View(4.0 * n, image, np.zeros(2)) for n in range(2 * common_lines.LEAST_VIEWS)]
    common_lines.better_axis(views, 10.0)
