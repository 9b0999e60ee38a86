"""A series as every exporter takes it: how each view sees the specimen, in pixels of the sorted stack.

    raw = mag R(axis) [Ry(tilt) Rx(xtilt) P]_xy + shift

with P from the middle of the tomogram, raw and shift from the middle of the image; both counted as arrays are, so that
the middle of n pixels is `(n - 1) / 2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamtomo import geometry
from streamtomo.geometry import Array
from streamtomo.model import RawImage


class View(NamedTuple):
    """One row of the sorted stack."""

    image: RawImage
    tilt_deg: float
    """In the specimen's own frame: solved angle and offset."""
    xtilt_deg: float
    axis_deg: float
    mag: float
    shift: Array
    """`(2,)`"""

    def project(self, points: Array) -> Array:
        """Where points `(n, 3)` are seen, `(n, 2)`."""
        seen = geometry.project(points, self.tilt_deg, self.xtilt_deg)
        return geometry.apply(geometry.aligned_to_raw(self.axis_deg, self.shift, self.mag), seen)

    def level(self) -> View:
        """The same for programs that know no x-axis tilt: the specimen keeps its pitch, about the same middle."""
        return self._replace(xtilt_deg=0.0)


class Exports(NamedTuple):
    """All that is exported; lengths in pixels of the sorted stack."""

    name: str
    views: Sequence[View]
    nx: int
    ny: int
    """Of the sorted stack."""
    pixel_size_A: float | None
    stack_binning: int
    stack: str
    """Path of the sorted stack."""
    tomogram: str
    halves: tuple[str, ...]
    tomogram_binning: float
    """Pixels of the sorted stack along a voxel."""
    size_xyz: tuple[int, int, int]
    """Of the tomogram, voxels."""
    voltage_kV: float
    cs_mm: float
    amplitude_contrast: float
    thickness_px: float
    """Of the specimen."""
    offset_deg: float
    """What the tilt angles hold beside the solved ones."""
    means: Sequence[float]
    """Mean counts of the views."""

    @property
    def pixel_A(self) -> float:
        """Pixel size of the sorted stack in Å; 1 where it is not known."""
        return self.pixel_size_A or 1.0


def view_of(
    image: RawImage, xf: Array, tilt_deg: float, *, offset_deg: float, pitch_deg: float, height_px: float
) -> View:
    """A view from its raw-to-aligned transform `(2, 3)` and the position of the specimen, all in the same pixels."""
    back = np.linalg.inv(xf[:, :2])
    mag = float(np.sqrt(abs(np.linalg.det(back))))
    axis = float(np.degrees(np.arctan2(back[1, 0] - back[0, 1], back[0, 0] + back[1, 1])))
    middle = geometry.project([[0.0, 0.0, height_px]], tilt_deg + offset_deg, pitch_deg)[0]
    return View(image, tilt_deg + offset_deg, pitch_deg, axis, mag, back @ (middle - xf[:, 2]))
