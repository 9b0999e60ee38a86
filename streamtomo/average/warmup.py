"""Compiles the kernels of averages with the types that are used later."""

from __future__ import annotations

import numpy as np

from streamtomo.average.extract import Pile
from streamtomo.average.match import Template, match
from streamtomo.average.refine import Plan, refine
from streamtomo.average.spectra import ball, wedge
from streamtomo.average.turns import symmetry


def warmup() -> None:
    """Run every kernel once on something small."""
    rng = np.random.default_rng(0)
    boxes = rng.normal(size=(4, 16, 16, 16)).astype(np.float32)
    seen = wedge(np.arange(-60.0, 61.0, 3.0))
    match(boxes[0], Template(ball(12, 3.0), 4.0, np.eye(3)[None]), seen, 1, lambda part: None)
    pile = Pile(boxes, np.zeros(4, np.int64), [seen])
    refine(pile, Plan(9.0, symmetry("D9"), 1, 1.0), boxes[0], np.arange(4) % 2, lambda text: None)
