"""All conventions about space: signs, centres, the tilt axis, `.xf` algebra. No other module decides a sign.

A point `(X, Y, Z)` of the specimen, origin at its centre, seen at tilt angle `t`:

    xt = X cos t + Z sin t          yt = Y                        aligned view, tilt axis vertical
    raw = mag * R(axis) [xt, yt] + shift                          R turns counter-clockwise by the axis angle

Images are `(ny, nx)` with y up; the centre of pixel `i` is `i`, an image's centre is `(n - 1) / 2`. Transforms are
IMOD's: a row `a11 a12 a21 a22 dx dy` maps `[x', y'] = A [x, y] + [dx, dy]`, both sides relative to the image centres.
Here a transform is a `(2, 3)` float64 array `[A | d]`, many of them `(n, 2, 3)`. Angles are in degrees everywhere.

Source: IMOD's conventions, checked by experiment.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

IDENTITY: Array = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
IDENTITY.flags.writeable = False


class TiltTerms(NamedTuple):
    """Cosine, sine and tangent of tilt angles, for kernels that must not compute them."""

    cos: Array
    sin: Array
    tan: Array


def tilt_terms(tilt_deg: ArrayLike) -> TiltTerms:
    """Cosine, sine and tangent of one or many tilt angles (degrees)."""
    t = np.radians(np.asarray(tilt_deg, dtype=np.float64))
    return TiltTerms(np.cos(t), np.sin(t), np.tan(t))


def centre(n: int) -> float:
    """Array index of the centre of an axis with `n` pixels."""
    return (n - 1) / 2


def rotation(angle_deg: float) -> Array:
    """Counter-clockwise rotation, `(2, 2)`."""
    t = np.radians(angle_deg)
    c, s = np.cos(t), np.sin(t)
    return np.array([[c, -s], [s, c]])


def rotation_x(angle_deg: float) -> Array:
    """`Rx(a)`: y' = Y cos a - Z sin a, z' = Y sin a + Z cos a, `(3, 3)`."""
    turn = np.eye(3)
    turn[1:, 1:] = rotation(angle_deg)
    return turn


def rotation_y(angle_deg: float) -> Array:
    """`Ry(a)`: x' = X cos a + Z sin a, z' = Z cos a - X sin a, `(3, 3)`: how a tilt turns the specimen."""
    terms = tilt_terms(angle_deg)
    return np.array([[terms.cos, 0.0, terms.sin], [0.0, 1.0, 0.0], [-terms.sin, 0.0, terms.cos]])


def project(points: ArrayLike, tilt_deg: float, xtilt_deg: float = 0.0) -> Array:
    """Aligned view `[xt, yt]` of specimen points `(n, 3)` in X, Y, Z from the centre, at one tilt angle; `(n, 2)`."""
    x, y, z = (np.asarray(points, dtype=np.float64).reshape(-1, 3) @ rotation_x(xtilt_deg).T).T
    terms = tilt_terms(tilt_deg)
    return np.stack([x * terms.cos + z * terms.sin, y], axis=1)


def aligned_to_raw(axis_deg: float, shift_xy: ArrayLike = (0.0, 0.0), mag: float = 1.0) -> Array:
    """Transform `(2, 3)` from the aligned view to the raw image: `raw = mag R(axis) aligned + shift`."""
    return np.column_stack([mag * rotation(axis_deg), np.asarray(shift_xy, dtype=np.float64)])


def raw_to_aligned(axis_deg: float, shift_xy: ArrayLike = (0.0, 0.0), mag: float = 1.0) -> Array:
    """A row of an `.xf`: from the raw image to the aligned view, `A = R(-axis) / mag`, `d = -A shift`; `(2, 3)`."""
    return invert(aligned_to_raw(axis_deg, shift_xy, mag))


def translation(dx: float, dy: float) -> Array:
    """Transform `(2, 3)` that only shifts; with `-shift` of the view it is a row of a `.prexg`."""
    return np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]])


def compose(first: Array, then: Array) -> Array:
    """The transform that applies `first`, and `then` on its result; `(2, 3)` or `(n, 2, 3)` each."""
    linear = then[..., :2] @ first[..., :2]
    shift = (then[..., :2] @ first[..., 2:])[..., 0] + then[..., 2]
    return np.concatenate([linear, shift[..., None]], axis=-1)


def invert(transform: Array) -> Array:
    """The inverse transform, `(2, 3)` or `(n, 2, 3)`."""
    linear = np.linalg.inv(transform[..., :2])
    return np.concatenate([linear, -(linear @ transform[..., 2:])], axis=-1)


def apply(transform: Array, points_xy: ArrayLike) -> Array:
    """Map points `(n, 2)` (from the centre) by a transform `(2, 3)`."""
    moved: Array = np.asarray(points_xy, dtype=np.float64) @ transform[:, :2].T + transform[:, 2]
    return moved


def rescale(transform: Array, binning: float) -> Array:
    """The same transform in pixels `binning` times larger: only the shift changes."""
    scaled = np.array(transform, dtype=np.float64)
    scaled[..., 2] /= binning
    return scaled


def without_beam_tilt(transform: Array, tilt_deg: float, beam_deg: float) -> tuple[float, float, Array]:
    """Tilt and x-axis tilt of a view whose beam leans, and the transform `(2, 3)` aligned to raw that goes with them.

    The view sees `transform Rx(beam) Ry(tilt) Rx(-beam) P`; with what is returned it is `project(P, tilt, xtilt)`.
    """
    turn = rotation_x(beam_deg) @ rotation_y(tilt_deg) @ rotation_x(-beam_deg)
    x, y, z = turn[2]  # the beam's direction in the specimen
    tilt, xtilt = float(np.degrees(np.arcsin(-x))), float(np.degrees(np.arctan2(y, z)))
    linear = turn[:2] @ np.linalg.pinv(project(np.eye(3), tilt, xtilt).T)
    return tilt, xtilt, np.column_stack([transform[:, :2] @ linear, transform[:, 2]])


def at_tilt(transform: Array, tilt_deg: float, other_deg: float) -> Array:
    """The transform `(2, 3)` aligned to raw that goes with another tilt angle, near by: right for the plane Z = 0."""
    ratio = float(tilt_terms(tilt_deg).cos / tilt_terms(other_deg).cos)
    return np.column_stack([transform[:, :2] * [ratio, 1.0], transform[:, 2]])


def tilt_stretch(axis_deg: float, from_tilt_deg: float, to_tilt_deg: float) -> Array:
    """Transform `(2, 3)`, raw to raw about the centre, that makes a flat specimen seen at one tilt look as at another.

    Across the tilt axis lengths scale by `cos(to) / cos(from)`, along it they stay.
    """
    ratio = float(tilt_terms(to_tilt_deg).cos / tilt_terms(from_tilt_deg).cos)
    linear = rotation(axis_deg) @ np.diag([ratio, 1.0]) @ rotation(-axis_deg)
    return np.column_stack([linear, np.zeros(2)])


def parallax(from_tilt_deg: float, to_tilt_deg: float) -> float:
    """Shift across the tilt axis per unit of depth, between a view stretched to another tilt and the view taken there.

    `|sin b - sin a cos b / cos a| = |sin(b - a)| / cos a`; of the two directions the larger.
    """
    a, b = tilt_terms(from_tilt_deg), tilt_terms(to_tilt_deg)
    return float(abs(b.sin * a.cos - a.sin * b.cos) / min(a.cos, b.cos))


def thickness_path(tilt_deg: ArrayLike) -> Array:
    """Path through a flat specimen relative to its thickness, `1 / cos t`."""
    path: Array = 1.0 / tilt_terms(tilt_deg).cos
    return path


def axis_from_rotation_angle(rotation_angle_deg: float) -> float:
    """Tilt-axis angle from an mdoc section's `RotationAngle`, which is measured from X."""
    return wrap_angle(rotation_angle_deg - 90.0)


def wrap_angle(angle_deg: float) -> float:
    """The same direction within (-180, 180]."""
    wrapped = float(np.remainder(angle_deg, 360.0))
    return wrapped - 360.0 if wrapped > 180.0 else wrapped


def axis_is_horizontal(axis_deg: float) -> bool:
    """Whether the tilt axis lies nearer to the raw image's X than to its Y: aligned images swap width and height."""
    turned = abs(wrap_angle(axis_deg))
    return 45.0 < turned < 135.0


def aligned_shape(raw_shape_yx: tuple[int, int], axis_deg: float, binning: int = 1) -> tuple[int, int]:
    """Shape `(ny, nx)` of the aligned view of a raw image at a binning; even, as IMOD's `tilt` wants it."""
    ny, nx = raw_shape_yx[::-1] if axis_is_horizontal(axis_deg) else raw_shape_yx
    return max(2, ny // binning // 2 * 2), max(2, nx // binning // 2 * 2)
