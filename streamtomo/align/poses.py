"""What a bundle adjustment is about: measured positions, the views' poses, and what they say of each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import bundle_kernels as kernels
from streamtomo.align import local_motion

Array = NDArray[np.float64]
Index = NDArray[np.int64]

FRAME_ROUNDS, FRAME_NEAR_PX = 10, 0.1
"""Rounds of the fit of a frame; distances below this count as this."""
FIT_STEPS = 2
UNDISTORTED: Array = np.zeros((1, 2))
STILL: Array = np.zeros((1, 0))


class Tracks(NamedTuple):
    """Measured positions: which view, which point, where (raw pixels about the image's centre, `(n, 2)`)."""

    view: Index
    point: Index
    xy: Array
    weight: Array
    """Relative weight of each position before any robust weighting, mostly 1."""


class Poses(NamedTuple):
    """The views: tilt and axis angle (degrees), magnification, `(n,)` each; shift `(n, 2)` in raw pixels."""

    tilt_deg: Array
    axis_deg: Array
    mag: Array
    shift: Array
    shape: Array = UNDISTORTED
    """Stretch across the axis and skew, `(n, 2)` or the same for all, `(1, 2)`."""
    beam_deg: float = 0.0
    """Beam tilt: the beam leans against the normal of the tilt axis, `Rx(b) Ry(t) Rx(-b)` instead of `Ry(t)`."""
    local: Array = STILL
    """Motion of the specimen's parts, see `local_motion`: `(n, 3 k)` or the same for all, raw pixels."""
    field: tuple[float, float] = (0.0, 0.0)
    """Width and height of the images; half of the longer side is the unit of the local motion. 0: not known."""
    middle: tuple[float, float] = (0.0, 0.0)
    """X and Y of the specimen about which the local motion is told."""
    when: Array | None = None
    """Order of acquisition `(n,)`; None: as the views are ordered."""

    def aligned_to_raw(self, i: int) -> Array:
        """The transform `(2, 3)` from an aligned view to its raw image, raw pixels about the centres."""
        stretch, skew = self.shape[min(i, len(self.shape) - 1)]
        turned = geometry.aligned_to_raw(float(self.axis_deg[i]), self.shift[i], float(self.mag[i]))
        turned[:, :2] = turned[:, :2] @ [[1 + stretch, skew], [skew, 1 - stretch]]
        return turned

    def upright(self, i: int) -> tuple[float, float, Array]:
        """Tilt and x-axis tilt (degrees) of a beam that does not lean, and the transform `(2, 3)` as above for them."""
        transform = self.aligned_to_raw(i)
        if not self.beam_deg:
            return float(self.tilt_deg[i]), 0.0, transform
        return geometry.without_beam_tilt(transform, float(self.tilt_deg[i]), self.beam_deg)


def make_tracks(view: Index, point: Index, xy: Array, weight: Array | None = None) -> Tracks:
    """Tracks with the array types that the kernels are compiled for."""
    ones = np.ones(len(view)) if weight is None else weight
    return Tracks(
        np.array(view, np.int64), np.array(point, np.int64), np.array(xy, float).reshape(-1, 2), np.array(ones, float)
    )


def terms_of(poses: Poses) -> Array:
    """What the kernels need of the views, `(views, 9)`: see there."""
    n = len(poses.mag)
    tilt, axis = geometry.tilt_terms(poses.tilt_deg), geometry.tilt_terms(poses.axis_deg)
    beam, shape = geometry.tilt_terms(poses.beam_deg), np.broadcast_to(poses.shape, (n, 2))
    lean = np.broadcast_to([beam.cos, beam.sin], (n, 2))
    return np.column_stack([tilt.cos, tilt.sin, axis.cos, axis.sin, poses.mag, shape, lean])


def local_of(poses: Poses, points: Array) -> tuple[Array, Array]:
    """The motion of the specimen's parts as the kernels take it: numbers of the views, shapes of the points."""
    local = np.ascontiguousarray(np.broadcast_to(poses.local, (len(poses.mag), poses.local.shape[1])))
    return local, local_motion.shapes(points[:, :2] - poses.middle, max(poses.field) / 2, local.shape[1] // 3)


def predict(poses: Poses, points: Array, view: Index, point: Index) -> Array:
    """Raw positions `(n, 2)` of given points in given views."""
    tracks = Tracks(np.asarray(view, np.int64), np.asarray(point, np.int64), np.zeros((len(view), 2)), np.zeros(0))
    return residuals_of(tracks, poses, np.ascontiguousarray(points, np.float64))


def residuals_of(tracks: Tracks, poses: Poses, points: Array) -> Array:
    """Predicted minus measured positions `(n, 2)`."""
    out = np.empty_like(tracks.xy)
    kernels.residuals(
        tracks.view, tracks.point, tracks.xy, terms_of(poses), poses.shift, *local_of(poses, points), points, out
    )
    return out


def jacobian(poses: Poses, points: Array, view: Index, point: Index) -> tuple[Array, Array]:
    """Derivatives of positions to their view's parameters `(n, 2, m)` and to their point `(n, 2, 3)`."""
    local, shapes = local_of(poses, points)
    by_view = np.empty((len(view), 2, kernels.VIEW_PARAMETERS + local.shape[1]))
    by_point = np.empty((len(view), 2, 3))
    kernels.jacobian(
        np.asarray(view, np.int64), np.asarray(point, np.int64), terms_of(poses), local, shapes,
        np.ascontiguousarray(points), by_view, by_point
    )  # fmt: skip
    return by_view, by_point


def fitted_points(tracks: Tracks, poses: Poses, points: Array, weight: Array) -> Array:
    """Points `(n, 3)` where they fit best in given views, from those given on; those without weight stay."""
    for _ in range(FIT_STEPS):
        _, slopes = jacobian(poses, points, tracks.view, tracks.point)
        normal, pull = np.zeros((len(points), 3, 3)), np.zeros((len(points), 3))
        np.add.at(normal, tracks.point, np.einsum("k,kij,kim->kjm", weight, slopes, slopes))
        residual = residuals_of(tracks, poses, points)
        np.add.at(pull, tracks.point, np.einsum("k,kij,ki->kj", weight, slopes, residual))
        points = points - np.einsum("pij,pj->pi", np.linalg.pinv(normal, hermitian=True), pull)
    return points


def move_origin(poses: Poses, points: Array, origin: Array) -> tuple[Poses, Array]:
    """The same solution with the specimen's origin moved to `origin` `(3,)`."""
    still = poses._replace(local=STILL)
    at_origin = predict(still, origin.reshape(1, 3), np.arange(len(poses.mag)), np.zeros(len(poses.mag), np.int64))
    return poses._replace(shift=at_origin, middle=_less(poses.middle, origin)), points - origin


def _less(middle: tuple[float, float], origin: Array) -> tuple[float, float]:
    return float(middle[0] - origin[0]), float(middle[1] - origin[1])


def in_frame_of(
    poses: Poses, shift: Array, counted: NDArray[np.bool_] | None = None, flat: float = 0.0
) -> tuple[Poses, Array]:
    """The solution moved so that its shifts are those given but for single views' errors; and the new origin `(3,)`.

    Least absolute distance over the views `counted` (None: all). The origin of a solution is the mean of its points,
    which beads on one surface put above the specimen; `shift` `(views, 2)` says where it was before. `flat`: weight of
    the mean height being 0, where few views cannot tell it (1: until some 20° are covered).
    """
    n = len(poses.mag)
    views, none, still = np.arange(n), np.zeros(n, np.int64), poses._replace(local=STILL)
    rows = np.stack([predict(still, unit[None], views, none) - poses.shift for unit in np.eye(3)], axis=2)
    weight = np.ones(n) if counted is None else counted.astype(np.float64)
    share, origin = weight, np.zeros(3)
    for _ in range(FRAME_ROUNDS):
        weighted = (share[:, None, None] * rows).reshape(-1, 3)
        normal = weighted.T @ rows.reshape(-1, 3) + np.diag([0.0, 0.0, flat])
        origin = np.asarray(np.linalg.pinv(normal) @ (weighted.T @ (shift - poses.shift).ravel()), np.float64)
        share = weight / np.maximum(np.hypot(*(poses.shift + rows @ origin - shift).T), FRAME_NEAR_PX)
    return poses._replace(shift=poses.shift + rows @ origin, middle=_less(poses.middle, origin)), origin
