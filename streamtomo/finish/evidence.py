"""Which of several alignments of a series the views themselves bear out.

Each view is compared with the reprojection of a small volume of all others: that asks neither how an alignment was
found nor what the specimen is like.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align.bundle import Poses
from streamtomo.reconstruct.live import LiveVolume

Array = NDArray[np.float64]
Image = NDArray[np.float32]

DEPTH = 0.3
"""Depth of the volume as a share of the views' longer side."""


def agreements(images: Sequence[Image], poses: Poses) -> Array:
    """Correlation of each view `(ny, nx)` with what all others say of it, `(views,)`; poses in the images' pixels."""
    shape = geometry.aligned_shape((images[0].shape[0], images[0].shape[1]), float(poses.axis_deg.mean()))
    volume = LiveVolume((max(8, round(DEPTH * max(shape) / 2) * 2), *shape))
    placed = [geometry.invert(poses.aligned_to_raw(i)) for i in range(len(images))]
    for image, tilt_deg, transform in zip(images, poses.tilt_deg.tolist(), placed, strict=True):
        volume.add(image, tilt_deg, transform)
    volume.rebuild(_never)
    found = [volume.leave_one_out(i, images[i], placed[i], _never) for i in range(len(images))]
    return np.array(found, np.float64)


def _never() -> bool:
    return False
