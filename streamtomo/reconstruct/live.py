"""The volume that grows while the series runs: add a view at once, rebuild all of it in idle time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.reconstruct.accumulate import add_view
from streamtomo.reconstruct.backproject import MOST_CLIPPED, Scaled, Scratch, backproject, within
from streamtomo.reconstruct.filters import Filtering, filter_rows, row_filter
from streamtomo.reconstruct.rays import single_axis
from streamtomo.reconstruct.score import agreement, reprojection_without
from streamtomo.reconstruct.slabs import Slabs, central_slabs
from streamtomo.reconstruct.wbp import level
from streamtomo.reconstruct.weights import angular_weights
from streamtomo.resample import warp

Image = NDArray[np.float32]
Voxels = NDArray[Any]
"""int16 or float32."""

FILTERING = Filtering(cutoff=0.25, falloff=0.1)
"""The radial filter of the live picture, in live pixels: a little smoother than the final one."""
EDGE_FRACTION = 0.03
"""Images fade to their mean over this fraction of their sides."""
BLOCK_ROWS = 32
"""Rows of y that are worked on between two looks at whether a new tilt waits, at most ..."""
LEAST_ROWS = 4
BLOCK_UPDATES = 2e8
"""... and voxel updates: some 20 ms of one core."""
INT16_MAX = 32767
BUFFERS = 2
"""What is shown, and what is being made of it anew."""
WHOLE_RANGE = np.pi
"""All sectors together, radians, at the most."""
HEADROOM = 4.0
"""Views to come may be so much stronger than the first one in int16 voxels."""


class LiveVolume:
    """Voxels `(ny, nz, nx)` inside; `(nz, ny, nx)` in what is handed out.

    After `rebuild` it is the weighted back-projection of all views added, each where it was placed last, in whatever
    order they came; after an `add` it is that plus the new view, with the sector it would have if nothing came after
    it. Views are numbered in the order in which they were added.

    Voxels are int16 as long as hardly any sample of a view is too strong for that, else float32. What a unit of density
    is in int16 counts follows from the first view: samples HEADROOM times as strong as its strongest would fill the
    range if all views had them there. Noise alone, in a sector of 3 degrees, is then 30 counts strong, and rounding
    errs by 0.3.
    """

    def __init__(self, shape_zyx: tuple[int, int, int]) -> None:
        """An empty volume; its pages are taken as the first view is added, on all threads."""
        nz, ny, nx = shape_zyx
        self._voxels: Voxels = np.zeros((ny, nz, nx), np.int16)
        self._spare: Voxels | None = None
        self._views: list[Image] = []
        self._tilts: list[float] = []
        self._filter = row_filter(nx, FILTERING)
        self._scratch = Scratch()
        self.counts = 1.0
        """What a unit of density is in the voxels; 1 where they are float32."""

    @property
    def nbytes(self) -> int:
        """Memory of voxels and kept views, the second buffer of a rebuild included."""
        return BUFFERS * self._voxels.nbytes + sum(view.nbytes for view in self._views)

    @property
    def views(self) -> int:
        """Views in the volume."""
        return len(self._views)

    def add(self, image: Image, tilt_deg: float, transform: geometry.Array) -> None:
        """Add a corrected image `(ny, nx)` float32; `transform` `(2, 3)` maps it to the aligned view, in its pixels."""
        filtered = self._filtered(image, transform)
        if not self._views:
            self._choose_counts(filtered)
        self._views.append(filtered)
        self._tilts.append(tilt_deg)
        gain = angular_weights(self._tilts)[-1] * self.counts
        add_view(filtered, single_axis([tilt_deg]), float(gain), self._voxels, self._scratch)

    def place(self, number: int, image: Image, tilt_deg: float, transform: geometry.Array) -> None:
        """Place a view anew, with its image as in `add`; the volume shows it there after the next `rebuild`."""
        self._views[number] = self._filtered(image, transform)
        self._tilts[number] = tilt_deg

    def rebuild(self, interrupted: Callable[[], bool]) -> bool:
        """Make the volume anew from all views with the weights of now; False, and nothing changed, if interrupted."""
        if not self._views:
            return True
        gains = angular_weights(self._tilts).astype(np.float32)
        fresh = self._spare if self._spare is not None else np.empty_like(self._voxels)
        self._spare = fresh
        step = block_rows(len(self._views) * fresh[0].size)
        for y0 in range(0, len(fresh), step):
            if interrupted():
                return False
            rows = slice(y0, y0 + step)
            self._sum(np.stack([view[rows] for view in self._views]), gains, fresh[rows])
        self._voxels, self._spare = fresh, self._voxels
        return True

    def expected(self, number: int, interrupted: Callable[[], bool]) -> Image | None:
        """What a view should look like by all others, aligned, `(ny, nx)`; None if interrupted.

        The volume must have been rebuilt since a view was added or placed.
        """
        gain = np.float32(angular_weights(self._tilts)[number] * self.counts)
        rays = single_axis([self._tilts[number]])
        seen = reprojection_without(self._voxels, self._views[number] * gain, rays, interrupted, BLOCK_ROWS)
        return None if seen is None else seen / np.float32(self.counts)

    def leave_one_out(
        self, number: int, image: Image, transform: geometry.Array, interrupted: Callable[[], bool]
    ) -> float | None:
        """How well a view, with its image as in `add`, agrees with what is expected of it: correlation, -1 to 1.

        None if interrupted.
        """
        expected = self.expected(number, interrupted)
        if expected is None or interrupted():
            return None
        view = self._aligned(image, transform)
        return None if interrupted() else agreement(view, expected)

    def _aligned(self, image: Image, transform: geometry.Array) -> Image:
        ny, _, nx = self._voxels.shape
        return aligned(image, transform, (ny, nx))

    def _filtered(self, image: Image, transform: geometry.Array) -> Image:
        """The view as it is added; where it is too strong for int16 voxels, these are float32 from now on."""
        filtered = filter_rows(self._aligned(image, transform), self._filter)
        if self._views and self._voxels.dtype == np.int16:
            self._take_strong([filtered])
        return filtered

    def _choose_counts(self, first: Image) -> None:
        most = strongest(first)
        if self._voxels.dtype != np.int16:
            return
        if 0 < most < np.inf:
            self.counts = INT16_MAX / (WHOLE_RANGE * HEADROOM * most)
        else:
            self._be_exact()

    def _take_strong(self, views: list[Image]) -> None:
        limit, one = INT16_MAX / (WHOLE_RANGE * self.counts), np.ones(1, np.float32)
        if not all(within(view[None], one, limit) for view in views):
            self._be_exact()

    def _be_exact(self) -> None:
        self._voxels, self._spare, self.counts = self._voxels * np.float32(1 / self.counts), None, 1.0

    def _sum(self, views: Image, gains: NDArray[np.float32], voxels: Voxels) -> None:
        # Float32 voxels are exact, so that a rebuild changes nothing that is not better known.
        exact, scaled = voxels.dtype == np.float32, Scaled(self.counts)
        backproject(views, single_axis(self._tilts), gains, voxels, scaled=scaled, exact=exact, scratch=self._scratch)

    def central_slabs(self) -> Slabs:
        """Central sections, each the mean of a thin slab."""
        return central_slabs(self._voxels, 1 / self.counts)

    def voxels(self) -> Voxels:
        """All voxels `(ny, nz, nx)` as they are kept, times `counts`, and not a copy."""
        return self._voxels

    def filtered(self, n: int) -> Image:
        """The filtered view `(ny, nx)` that was added as number `n`, as `recall` takes it."""
        return self._views[n]

    def recall(
        self, views: list[Image], tilts_deg: list[float], voxels: Voxels | None = None, counts: float = 1.0
    ) -> None:
        """Be the volume that held these filtered views `(ny, nx)` and `voxels()`; the arrays are kept.

        Without voxels it is rebuilt.
        """
        self._views, self._tilts, self._spare = views, tilts_deg, None
        if voxels is not None:
            self._voxels, self.counts = voxels, counts
            return
        self._choose_counts(views[0])
        if self._voxels.dtype == np.int16:
            self._take_strong(views)
        self.rebuild(lambda: False)

    def snapshot(self) -> Image:
        """A copy of all voxels, `(nz, ny, nx)`."""
        return np.ascontiguousarray(self._voxels.transpose(1, 0, 2)) * np.float32(1 / self.counts)


def strongest(view: Image) -> float:
    """What the samples of a view `(ny, nx)` hardly ever exceed: of some rows the strongest one does."""
    beyond = min(len(view), 1 + int(MOST_CLIPPED * view.size))
    return float(np.partition(np.abs(view).max(axis=1), -beyond)[-beyond])


def block_rows(updates: int) -> int:
    """Rows to work on at a time where each costs so many voxel updates."""
    return int(np.clip(BLOCK_UPDATES / updates, LEAST_ROWS, BLOCK_ROWS))


def aligned(image: Image, transform: geometry.Array, shape_yx: tuple[int, int]) -> Image:
    """The aligned view of an image `(ny, nx)` in units of its own noise, its edges faded to its mean, 0."""
    mean, sd = level(image)
    flat = image - np.float32(mean)
    flat *= _fading(*image.shape)
    flat *= np.float32(1 / sd)
    return warp(flat, transform, shape_yx, fill=0.0)


@lru_cache(maxsize=4)
def _fading(ny: int, nx: int) -> Image:
    """1 inside, a smooth step down to 0 at the edges, `(ny, nx)`."""
    return np.asarray(np.outer(_fade(ny), _fade(nx)), np.float32)


def _fade(n: int) -> NDArray[np.float64]:
    width = max(1, round(EDGE_FRACTION * n))
    distance = np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5
    ramp = np.clip(distance / width, 0.0, 1.0)
    return np.asarray(ramp * ramp * (3 - 2 * ramp))
