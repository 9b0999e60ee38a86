"""Kernels of the bundle adjustment: residuals and normal equations over a flat list of measured positions.

`terms` `(views, 9)` holds, for each view, cosine and sine of the tilt, cosine and sine of the axis angle, the
magnification, stretch and skew, cosine and sine of the beam tilt; `local` `(views, 3 k)` the motion of the specimen's
parts (see `local_motion`), x, y and z of one shape after the other, with `shapes` of each point `(points, k)`; `shift`
`(views, 2)` and `xy` `(n, 2)` are raw pixels about the image's centre, `points` `(points, 3)` likewise. All are
float64, indices int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtomo.jit import kernel

VIEW_PARAMETERS = 8
"""Shift x, shift y, axis angle (rad), tilt angle (rad), logarithm of the magnification, stretch, skew, beam tilt (rad);
the numbers of the local motion come after them."""


@kernel
def _moved(i: Any, j: Any, local: Any, shapes: Any, points: Any) -> Any:
    """Where point `j` is in view `i`."""
    x, y, z = points[j, 0], points[j, 1], points[j, 2]
    for k in range(local.shape[1] // 3):
        x += shapes[j, k] * local[i, 3 * k]
        y += shapes[j, k] * local[i, 3 * k + 1]
        z += shapes[j, k] * local[i, 3 * k + 2]
    return x, y, z


@kernel
def residuals(
    view: Any, point: Any, xy: Any, terms: Any, shift: Any, local: Any, shapes: Any, points: Any, out: Any
) -> None:
    """`out[k]` `(n, 2)` = predicted minus measured position."""
    for k in range(view.size):
        i = view[k]
        x, y, z = _moved(i, point[k], local, shapes, points)
        c, s, e, g, cb, sb = terms[i, 0], terms[i, 1], terms[i, 5], terms[i, 6], terms[i, 7], terms[i, 8]
        up = z * cb - y * sb
        seen, high = x * c + up * s, (y * cb + z * sb) * cb + (x * s - up * c) * sb
        across, along = (1.0 + e) * seen + g * high, g * seen + (1.0 - e) * high
        out[k, 0] = terms[i, 4] * (terms[i, 2] * across - terms[i, 3] * along) + shift[i, 0] - xy[k, 0]
        out[k, 1] = terms[i, 4] * (terms[i, 3] * across + terms[i, 2] * along) + shift[i, 1] - xy[k, 1]


@kernel
def _derivatives(i: Any, j: Any, terms: Any, local: Any, shapes: Any, points: Any, a: Any, b: Any) -> None:
    """Of a position, to the parameters of its view into `a` `(2, 8 + 3 k)` and to its point into `b` `(2, 3)`.

    The shapes are taken as the same while the point moves.
    """
    x, y, z = _moved(i, j, local, shapes, points)
    c, s, ca, sa, m = terms[i, 0], terms[i, 1], terms[i, 2], terms[i, 3], terms[i, 4]
    e, g, cb, sb = terms[i, 5], terms[i, 6], terms[i, 7], terms[i, 8]
    level, up = y * cb + z * sb, z * cb - y * sb
    seen, depth = x * c + up * s, up * c - x * s
    high = level * cb - depth * sb
    # What a step across and a step along the axis do in the image: the columns of the view's linear part.
    ux, uy = m * (ca * (1.0 + e) - sa * g), m * (sa * (1.0 + e) + ca * g)
    vx, vy = m * (ca * g - sa * (1.0 - e)), m * (sa * g + ca * (1.0 - e))
    px, py = ux * seen + vx * high, uy * seen + vy * high
    cx, sx = m * ca, m * sa
    leant = (up - depth) * cb - level * (1.0 - c) * sb
    a[0, 0], a[0, 1], a[0, 2], a[0, 3], a[0, 4] = 1.0, 0.0, -py, ux * depth + vx * seen * sb, px
    a[1, 0], a[1, 1], a[1, 2], a[1, 3], a[1, 4] = 0.0, 1.0, px, uy * depth + vy * seen * sb, py
    a[0, 5], a[0, 6], a[0, 7] = cx * seen + sx * high, cx * high - sx * seen, -ux * level * s + vx * leant
    a[1, 5], a[1, 6], a[1, 7] = sx * seen - cx * high, sx * high + cx * seen, -uy * level * s + vy * leant
    b[0, 0], b[1, 0] = ux * c + vx * s * sb, uy * c + vy * s * sb
    b[0, 1], b[1, 1] = -ux * sb * s + vx * (cb * cb + c * sb * sb), -uy * sb * s + vy * (cb * cb + c * sb * sb)
    b[0, 2], b[1, 2] = ux * cb * s + vx * cb * sb * (1.0 - c), uy * cb * s + vy * cb * sb * (1.0 - c)
    for k in range(local.shape[1] // 3):
        for q in range(3):
            a[0, 8 + 3 * k + q], a[1, 8 + 3 * k + q] = shapes[j, k] * b[0, q], shapes[j, k] * b[1, q]


@kernel
def jacobian(view: Any, point: Any, terms: Any, local: Any, shapes: Any, points: Any, a: Any, b: Any) -> None:
    """Derivatives of all positions: `a` `(n, 2, 8 + 3 k)`, `b` `(n, 2, 3)`."""
    for k in range(view.size):
        _derivatives(view[k], point[k], terms, local, shapes, points, a[k], b[k])


@kernel
def normal_equations(
    view: Any,
    point: Any,
    weight: Any,
    residual: Any,
    terms: Any,
    local: Any,
    shapes: Any,
    points: Any,
    by_view: Any,
    by_point: Any,
    mixed: Any,
    grad_view: Any,
    grad_point: Any,
) -> None:
    """Add `J^T W J` and `J^T W r` of all positions to zeroed blocks.

    With `m = 8 + 3 k`: `by_view` `(views, m, m)`, `by_point` `(points, 3, 3)`, `mixed` `(m views, 3 points)`,
    `grad_view` `(m views,)`, `grad_point` `(points, 3)`.
    """
    m = by_view.shape[1]
    a, b = np.empty((2, m)), np.empty((2, 3))
    for k in range(view.size):
        w = weight[k]
        if w <= 0.0:
            continue
        i, j = view[k], point[k]
        _derivatives(i, j, terms, local, shapes, points, a, b)
        rx, ry = residual[k, 0], residual[k, 1]
        for p in range(m):
            grad_view[m * i + p] += w * (a[0, p] * rx + a[1, p] * ry)
            for q in range(m):
                by_view[i, p, q] += w * (a[0, p] * a[0, q] + a[1, p] * a[1, q])
            for q in range(3):
                mixed[m * i + p, 3 * j + q] += w * (a[0, p] * b[0, q] + a[1, p] * b[1, q])
        for p in range(3):
            grad_point[j, p] += w * (b[0, p] * rx + b[1, p] * ry)
            for q in range(3):
                by_point[j, p, q] += w * (b[0, p] * b[0, q] + b[1, p] * b[1, q])


@kernel
def medians(length: Any, view: Any, reach: Any, own: Any, around: Any) -> None:
    """Medians of `length` `(n,)` over each view, and over the views up to `reach` away; 0 where there are none.

    `own`, `around` `(views,)` float64, zeroed; `view` `(n,)` int64.
    """
    first = np.zeros(own.size + 1, np.int64)
    for k in range(length.size):
        first[view[k] + 1] += 1
    for i in range(own.size):
        first[i + 1] += first[i]
    by_view, filled = np.empty(length.size, np.float64), first.copy()
    for k in range(length.size):
        by_view[filled[view[k]]] = length[k]
        filled[view[k]] += 1
    for i in range(own.size):
        for out, width in ((own, 0), (around, reach)):
            chosen = by_view[first[max(0, i - width)] : first[min(own.size, i + width + 1)]]
            if chosen.size > 0:
                out[i] = np.median(chosen)
