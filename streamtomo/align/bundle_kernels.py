"""Kernels of the bundle adjustment: residuals and normal equations over a flat list of measured positions.

`terms` `(views, 7)` holds, for each view, cosine and sine of the tilt, cosine and sine of the axis angle, the
magnification, stretch and skew; `shift` `(views, 2)` and `xy` `(n, 2)` are raw pixels about the image's centre,
`points` `(points, 3)` likewise. All are float64, indices int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtomo.jit import kernel

VIEW_PARAMETERS = 7
"""Shift x, shift y, axis angle (rad), tilt angle (rad), logarithm of the magnification, stretch, skew."""


@kernel
def residuals(view: Any, point: Any, xy: Any, terms: Any, shift: Any, points: Any, out: Any) -> None:
    """`out[k]` `(n, 2)` = predicted minus measured position."""
    for k in range(view.size):
        i, j = view[k], point[k]
        seen, e, g = points[j, 0] * terms[i, 0] + points[j, 2] * terms[i, 1], terms[i, 5], terms[i, 6]
        across, along = (1.0 + e) * seen + g * points[j, 1], g * seen + (1.0 - e) * points[j, 1]
        out[k, 0] = terms[i, 4] * (terms[i, 2] * across - terms[i, 3] * along) + shift[i, 0] - xy[k, 0]
        out[k, 1] = terms[i, 4] * (terms[i, 3] * across + terms[i, 2] * along) + shift[i, 1] - xy[k, 1]


@kernel
def normal_equations(
    view: Any,
    point: Any,
    weight: Any,
    residual: Any,
    terms: Any,
    points: Any,
    by_view: Any,
    by_point: Any,
    mixed: Any,
    grad_view: Any,
    grad_point: Any,
) -> None:
    """Add `J^T W J` and `J^T W r` of all positions to zeroed blocks.

    `by_view` `(views, 7, 7)`, `by_point` `(points, 3, 3)`, `mixed` `(7 views, 3 points)`, `grad_view` `(7 views,)`,
    `grad_point` `(points, 3)`.
    """
    for k in range(view.size):
        w = weight[k]
        if w <= 0.0:
            continue
        i, j = view[k], point[k]
        c, s, ca, sa, m = terms[i, 0], terms[i, 1], terms[i, 2], terms[i, 3], terms[i, 4]
        seen, moved, high = points[j, 0] * c + points[j, 2] * s, points[j, 2] * c - points[j, 0] * s, points[j, 1]
        # What a step across and a step along the axis do in the image: the columns of the view's linear part.
        e, g = terms[i, 5], terms[i, 6]
        ux, uy = m * (ca * (1.0 + e) - sa * g), m * (sa * (1.0 + e) + ca * g)
        vx, vy = m * (ca * g - sa * (1.0 - e)), m * (sa * g + ca * (1.0 - e))
        px, py = ux * seen + vx * high, uy * seen + vy * high
        cx, sx = m * ca, m * sa
        ax = (1.0, 0.0, -py, ux * moved, px, cx * seen + sx * high, cx * high - sx * seen)
        ay = (0.0, 1.0, px, uy * moved, py, sx * seen - cx * high, sx * high + cx * seen)
        bx = (ux * c, vx, ux * s)
        by = (uy * c, vy, uy * s)
        rx, ry = residual[k, 0], residual[k, 1]
        for p in range(7):
            grad_view[7 * i + p] += w * (ax[p] * rx + ay[p] * ry)
            for q in range(7):
                by_view[i, p, q] += w * (ax[p] * ax[q] + ay[p] * ay[q])
            for q in range(3):
                mixed[7 * i + p, 3 * j + q] += w * (ax[p] * bx[q] + ay[p] * by[q])
        for p in range(3):
            grad_point[j, p] += w * (bx[p] * rx + by[p] * ry)
            for q in range(3):
                by_point[j, p, q] += w * (bx[p] * bx[q] + by[p] * by[q])


@kernel
def medians(length: Any, view: Any, reach: Any, own: Any, around: Any) -> None:
    """Medians of `length` `(n,)` over each view, and over the views up to `reach` away; 0 where there are none.

    `own`, `around` `(views,)` float64, zeroed; `view` `(n,)` int64.
    """
    chosen = np.empty(length.size, np.float64)
    for i in range(own.size):
        for out, width in ((own, 0), (around, reach)):
            count = 0
            for k in range(length.size):
                if abs(view[k] - i) <= width:
                    chosen[count] = length[k]
                    count += 1
            if count > 0:
                out[i] = np.median(chosen[:count])
