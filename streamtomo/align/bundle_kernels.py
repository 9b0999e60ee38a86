"""Kernels of the bundle adjustment: residuals and normal equations over a flat list of measured positions.

`terms` `(views, 5)` holds, for each view, cosine and sine of the tilt, cosine and sine of the axis angle, and the
magnification; `shift` `(views, 2)` and `xy` `(n, 2)` are raw pixels about the image's centre, `points` `(points, 3)`
likewise. All are float64, indices int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtomo.jit import kernel

VIEW_PARAMETERS = 5
"""Shift x, shift y, axis angle (rad), tilt angle (rad), logarithm of the magnification."""


@kernel
def residuals(view: Any, point: Any, xy: Any, terms: Any, shift: Any, points: Any, out: Any) -> None:
    """`out[k]` `(n, 2)` = predicted minus measured position."""
    for k in range(view.size):
        i, j = view[k], point[k]
        across = points[j, 0] * terms[i, 0] + points[j, 2] * terms[i, 1]
        along = points[j, 1]
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

    `by_view` `(views, 5, 5)`, `by_point` `(points, 3, 3)`, `mixed` `(5 views, 3 points)`, `grad_view` `(5 views,)`,
    `grad_point` `(points, 3)`.
    """
    for k in range(view.size):
        w = weight[k]
        if w <= 0.0:
            continue
        i, j = view[k], point[k]
        c, s, ca, sa, m = terms[i, 0], terms[i, 1], terms[i, 2], terms[i, 3], terms[i, 4]
        across = points[j, 0] * c + points[j, 2] * s
        turned = m * (points[j, 2] * c - points[j, 0] * s)
        along = points[j, 1]
        px, py = m * (ca * across - sa * along), m * (sa * across + ca * along)
        ax = (1.0, 0.0, -py, ca * turned, px)
        ay = (0.0, 1.0, px, sa * turned, py)
        bx = (m * ca * c, -m * sa, m * ca * s)
        by = (m * sa * c, m * ca, m * sa * s)
        rx, ry = residual[k, 0], residual[k, 1]
        for p in range(5):
            grad_view[5 * i + p] += w * (ax[p] * rx + ay[p] * ry)
            for q in range(5):
                by_view[i, p, q] += w * (ax[p] * ax[q] + ay[p] * ay[q])
            for q in range(3):
                mixed[5 * i + p, 3 * j + q] += w * (ax[p] * bx[q] + ay[p] * by[q])
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
