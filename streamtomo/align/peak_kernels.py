"""The top of a peak between pixels."""

from __future__ import annotations

from typing import Any

from streamtomo.jit import kernel


@kernel
def vertex(v: Any) -> Any:
    """Maximum `(x, y)` of the quadratic surface through 3 x 3 values (float64), least squares, within a pixel."""
    gx, gy = (v[:, 2] - v[:, 0]).sum() / 6, (v[2] - v[0]).sum() / 6
    hxx = (v[:, 0] - 2 * v[:, 1] + v[:, 2]).sum() / 3
    hyy = (v[0] - 2 * v[1] + v[2]).sum() / 3
    hxy = (v[2, 2] - v[2, 0] - v[0, 2] + v[0, 0]) / 4
    determinant = hxx * hyy - hxy * hxy
    if hxx >= 0 or determinant <= 0:
        return 0.0, 0.0
    fx, fy = (hxy * gy - hyy * gx) / determinant, (hxy * gx - hxx * gy) / determinant
    return min(max(fx, -1.0), 1.0), min(max(fy, -1.0), 1.0)
