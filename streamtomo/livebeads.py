"""Gold beads of a live series: does a tilt show those that it should, by the tilt that it agrees with?

What is kept follows from the images alone, so that it is made again when it is needed after a restart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align.beads import BeadShape, find_candidates, find_shape
from streamtomo.correct.binning import bin_image
from streamtomo.judge.beads import SeenAgain, seen_again

Image = NDArray[np.float32]

LOOKED_AT_PX = 400
"""Live images are binned to at most this for it."""
STRONG = 0.5
"""A bead is looked for again if it is at least so strong, relative to the median of the strongest ..."""
STRONGEST = 6
MOST = 40
"""... and so many at most."""
DEPTH = 0.4
"""Depth over which beads may lie, as a fraction of the field's longer side."""
LEAST_PX = 2.0
"""Error of a bead's place that is reckoned with at least."""


class _Beads(NamedTuple):
    """Those of one tilt."""

    xy: geometry.Array
    """`(n, 2)` from the image's centre, strongest first."""
    strong: int
    """How many of them are looked for in others."""
    shape_yx: tuple[int, int]
    """Of the image."""


class LiveBeads:
    """The beads of one series, tilt by tilt; lengths are live pixels."""

    def __init__(self, radius_px: float | None) -> None:
        """`radius_px` is that of the beads; None: it is found."""
        self._radius_px = radius_px
        self._shape: BeadShape | None = None
        self._found: dict[int, _Beads] = {}

    def knows(self, index: int) -> bool:
        """Whether a tilt was looked at."""
        return index in self._found

    def look(self, index: int, image: Image) -> None:
        """Find the beads of a live image `(ny, nx)`; their size is that in the first one."""
        binning = -(-max(image.shape) // LOOKED_AT_PX)
        coarse = bin_image(image, binning)
        if self._shape is None:
            self._shape = find_shape([coarse], self._radius_px / binning if self._radius_px else None)
        found = find_candidates(coarse, self._shape)
        least = STRONG * float(np.median(found.strength[:STRONGEST])) if len(found.strength) else 0.0
        strong = min(MOST, int(np.count_nonzero(found.strength >= least)))
        self._found[index] = _Beads(found.xy * binning, strong, (image.shape[0], image.shape[1]))

    def again(self, index: int, other: int, over: geometry.Array, axis_deg: float, parallax: float) -> SeenAgain:
        """How many beads of another tilt lie in the field of this one, and how many of those are seen in it.

        `over` `(2, 3)` lays the other tilt's image over this one's, for what lies at height 0; `parallax` is the shift
        between them per unit of height.
        """
        before, now = self._found[other], self._found[index]
        reach = (LEAST_PX + parallax * DEPTH / 2 * max(now.shape_yx), LEAST_PX)
        return seen_again(before.xy[: before.strong], now.xy, over, axis_deg, reach, now.shape_yx)
