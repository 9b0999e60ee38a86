"""Beads and patches in one solution: few beads, or beads in one corner, say little of the views that patches do not.

A bead is seen to a few hundredths of a pixel, a patch to half of one, and its errors go on from view to view; but there
are many patches, all over the field. Weighed by that, a single bead already fixes what the patches leave open from view
to view, and the patches the axis and what the bead does not reach.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamtomo.align import bundle
from streamtomo.align.basis import Freedoms
from streamtomo.align.bundle import Poses, Tracks
from streamtomo.align.freedoms import Validated, validated
from streamtomo.align.tracks import select

BEAD_ERROR_PX = 0.1
"""Error of a bead's position that its fit does not explain."""
ERR_TOGETHER = 4.0
"""So many neighbouring views of a patch err together, and count as one."""
STRANGE = 3.0
"""A bead whose positions disagree with the patches by more than so many errors of a patch is none."""


class Together(NamedTuple):
    """Beads, numbered first, and patches."""

    tracks: Tracks
    beads: int
    note: str
    found: Validated


def together(gold: Tracks, patches: Tracks, start: Poses, patch_error_px: float) -> Together | None:
    """Both, weighed by their errors; None where no bead agrees with the patches."""
    alike = _joined(gold, patches, 1.0)
    first = bundle.solve(alike, start, Freedoms(), floor_px=patch_error_px)
    lengths, weights = np.hypot(*first.residuals.T), first.weights
    patched = np.arange(len(alike.view)) >= len(gold.view)
    share = weights * patched
    error_px = max(patch_error_px, float(np.sqrt(share @ lengths**2 / max(float(share.sum()), 1e-9) / 2)))
    median = [float(np.median(lengths[: len(gold.view)][gold.point == j])) for j in range(int(gold.point.max()) + 1)]
    kept = np.array(median)[gold.point] < STRANGE * error_px
    if not kept.any():
        return None
    gold = select(gold, kept)
    count = int(gold.point.max()) + 1
    both = _joined(gold, patches, (BEAD_ERROR_PX / error_px) ** 2 / ERR_TOGETHER)
    found = validated(both, start, Freedoms(), floor_px=BEAD_ERROR_PX)
    return Together(both, count, f"{count} of them and {int(patches.point.max()) + 1} patches together", found)


def _joined(gold: Tracks, patches: Tracks, weight: float) -> Tracks:
    """All positions; those of the patches weigh so much of a bead's."""
    count = int(gold.point.max()) + 1
    return Tracks(
        np.concatenate([gold.view, patches.view]),
        np.concatenate([gold.point, count + patches.point]),
        np.concatenate([gold.xy, patches.xy]),
        np.concatenate([gold.weight, weight * patches.weight]),
    )
