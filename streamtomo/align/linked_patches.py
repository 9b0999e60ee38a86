"""Patches linked over all views: what a bundle adjustment is to be told of a specimen without gold.

The whole field says how the specimen lies and where it is in each view (`linked`). Then some squares of it are linked
each for itself, with views and noise of its own: so their positions show what one shift a view does not, the direction
of the axis above all, and their disagreement how good they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import bundle, linked
from streamtomo.align import slab as slabs
from streamtomo.align.bundle import Tracks
from streamtomo.align.linked import FIRST_STEPS, Linked
from streamtomo.align.slab import Slab

Image = NDArray[np.float32]
Array = NDArray[np.float64]

FIELD_SHARE = 0.9
"""Side of the square that is looked at, as a share of the field's shorter side."""
SEARCH_SIDE_PX = 460.0
"""It need not be larger than this to tell how the specimen lies."""
SEARCH_BAND, FIELD_BAND, PATCH_BAND = 0.08, 0.12, 0.15
"""Highest frequencies, cycles per pixel: the first placements are off by pixels, the last by a fraction of one."""
FINE_STEPS = 0.3 * FIRST_STEPS
THICKNESS_SHARE = 0.2
"""Thickness that the search begins with, as a share of the field's shorter side."""
PATCHES = 3
"""In a row, and rows of them."""
PATCH_SHARE = 0.4
"""Side of a patch as a share of the square's."""


class Start(NamedTuple):
    """A placement of the views: shifts `(views, 2)` and the axis."""

    shift: Array
    axis_deg: float


class Patches(NamedTuple):
    """Positions of the patches, and the whole field."""

    tracks: Tracks
    field: Linked


def link_patches(images: Sequence[Image], tilt_deg: Array, starts: Sequence[Start]) -> Patches:
    """Link views `(ny, nx)`, from that of the starts for which they gain most; lengths are pixels of these images."""
    shorter = min(images[0].shape)
    side = FIELD_SHARE * shorter
    searched = min(side, SEARCH_SIDE_PX)
    at = slabs.frequencies(searched, SEARCH_BAND)
    soft, slab = slabs.blurred(images, at), Slab(THICKNESS_SHARE * shorter)
    first = [linked.link(soft, tilt_deg, start.shift, start.axis_deg, slab, at) for start in starts]
    best = max(first, key=lambda one: one.gain)
    best = linked.search(soft, tilt_deg, best.shift, best.axis_deg, slab, at)
    at = slabs.frequencies(searched, FIELD_BAND)
    soft = slabs.blurred(images, at)
    best = linked.search(soft, tilt_deg, best.shift, best.axis_deg, best.slab, at, FINE_STEPS, rounds=1)
    return Patches(_patches(images, tilt_deg, best, side), best)


def _patches(images: Sequence[Image], tilt_deg: Array, field: Linked, side: float) -> Tracks:
    """Positions of the patches in all views, each from where the whole field has it."""
    at = slabs.frequencies(PATCH_SHARE * side, PATCH_BAND)
    soft, view = slabs.blurred(images, at), slabs.seen(field.slab, tilt_deg)
    places = np.linspace(-0.5, 0.5, PATCHES) * (1 - PATCH_SHARE) * side
    views, points, xy = [], [], []
    for number, (x, y) in enumerate(np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)):
        there = np.stack([view.scale * x + view.shear * y, np.full(len(tilt_deg), y)], axis=1)
        start = field.shift + there @ geometry.rotation(field.axis_deg).T
        patch = linked.link(soft, tilt_deg, start, field.axis_deg, field.slab, at)
        heard = np.flatnonzero(patch.powers.heard & field.powers.heard)
        views.append(heard)
        points.append(np.full(len(heard), number))
        xy.append(patch.shift[heard])
    return bundle.make_tracks(np.concatenate(views), np.concatenate(points), np.concatenate(xy))
