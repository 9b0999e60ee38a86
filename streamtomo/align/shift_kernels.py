"""Kernels of the linear bundle adjustment of shifts and points.

`order` `(n,)` sorts the positions by point, `first` `(points + 1,)` says where each point's begin; `view` `(n,)`;
`terms` `(views, 2)` cosine and sine of the tilt; `aligned` `(n, 2)` positions, x across the tilt axis; `precision`
`(n,)`; `prior` `(3,)` precision with which X, Y, Z are 0. Indices are int64, all else float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtomo.jit import kernel


@kernel
def eliminate_points(
    order: Any, first: Any, view: Any, terms: Any, aligned: Any, precision: Any, prior: Any, normal: Any, right: Any
) -> None:
    """Add the normal equations of the views' shifts, points eliminated: `normal` `(2, views, views)`, `right`.

    A point's share is spread over all views, seen or not: so the innermost loop is a plain one.
    """
    shares = np.zeros((3, terms.shape[0]))
    for j in range(first.size - 1):
        seen = order[first[j] : first[j + 1]]
        xx, xz, zz, bx, bz, yy, by = prior[0], 0.0, prior[2], 0.0, 0.0, prior[1], 0.0
        for k in seen:
            p, c, s = precision[k], terms[view[k], 0], terms[view[k], 1]
            xx, xz, zz = xx + p * c * c, xz + p * c * s, zz + p * s * s
            bx, bz = bx + p * c * aligned[k, 0], bz + p * s * aligned[k, 0]
            yy, by = yy + p, by + p * aligned[k, 1]
            shares[0, view[k]] += p * c
            shares[1, view[k]] += p * s
            shares[2, view[k]] += p
        det = xx * zz - xz * xz
        for k in seen:
            p, i = precision[k], view[k]
            if p <= 0.0:
                continue
            c, s = terms[i, 0], terms[i, 1]
            u, w = p * (zz * c - xz * s) / det, p * (xx * s - xz * c) / det
            normal[0, i, i] += p
            normal[1, i, i] += p
            right[0, i] += p * aligned[k, 0] - u * bx - w * bz
            right[1, i] += p * aligned[k, 1] - p * by / yy
            across, along, q = normal[0, i], normal[1, i], p / yy
            for m in range(across.size):
                across[m] -= u * shares[0, m] + w * shares[1, m]
                along[m] -= q * shares[2, m]
        for k in seen:
            shares[:, view[k]] = 0.0


@kernel
def points_and_lengths(
    order: Any,
    first: Any,
    view: Any,
    terms: Any,
    aligned: Any,
    precision: Any,
    prior: Any,
    moved: Any,
    points: Any,
    length: Any,
) -> None:
    """The points `(points, 3)` that go with shifts `moved` `(views, 2)`, and the lengths of the residuals `(n,)`."""
    for j in range(first.size - 1):
        seen = order[first[j] : first[j + 1]]
        xx, xz, zz, bx, bz, yy, by = prior[0], 0.0, prior[2], 0.0, 0.0, prior[1], 0.0
        for k in seen:
            i, p = view[k], precision[k]
            c, s, x = terms[i, 0], terms[i, 1], aligned[k, 0] - moved[i, 0]
            xx, xz, zz = xx + p * c * c, xz + p * c * s, zz + p * s * s
            bx, bz = bx + p * c * x, bz + p * s * x
            yy, by = yy + p, by + p * (aligned[k, 1] - moved[i, 1])
        det = xx * zz - xz * xz
        points[j, 0], points[j, 1], points[j, 2] = (zz * bx - xz * bz) / det, by / yy, (xx * bz - xz * bx) / det
        for k in seen:
            i = view[k]
            dx = points[j, 0] * terms[i, 0] + points[j, 2] * terms[i, 1] + moved[i, 0] - aligned[k, 0]
            dy = points[j, 1] + moved[i, 1] - aligned[k, 1]
            length[k] = np.sqrt(dx * dx + dy * dy)
