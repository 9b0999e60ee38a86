"""Centres of beads to a few hundredths of a pixel: least squares against the beads' own average radial profile.

A bead is a sphere: it looks the same in all views, its profile (with whatever fringe the microscope adds) depends on
the distance from the centre only, and an average over all beads and views has almost no noise. Lengths are in pixels of
the images, positions are array indices.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.jit import kernel

Image = NDArray[np.float32]
Array = NDArray[np.float64]

BINS_PER_PX = 4
WINDOW = 2.0
"""Radius of the fitted neighbourhood in bead radii."""
LEAST_WINDOW_PX = 4.0
FIT_STEPS = 12
RESTING_PX = 5e-3
"""Fits end when the centre moves less; in the second half they take half steps, so that they do not swing."""
NOTHING = 1e-18
"""Squared amplitude, relative to the level, of a bead that is not there."""
FIELDS = 6
"""x, y, amplitude, noise, 1 where the fit converged (else 0), curvature: expected error = noise / curvature."""


class Fits(NamedTuple):
    """Beads fitted in one view."""

    xy: Array
    amplitude: Array
    """Relative to the profile; positive where there is a bead."""
    error: Array
    """Expected error of one coordinate, pixels."""
    converged: NDArray[np.bool_]


def sphere_profile(radius_px: float) -> Array:
    """Profile of a projected sphere, seen by pixels of finite size: 1 at the centre, 0 outside."""
    window = max(WINDOW * radius_px, radius_px + LEAST_WINDOW_PX)
    r = np.arange(int(np.ceil(window * BINS_PER_PX)) + 1) / BINS_PER_PX
    inner = np.linspace(-0.5, 0.5, 9)
    distance = np.hypot(r[:, None, None] + inner[:, None], inner)
    seen = np.sqrt(np.clip(1 - (distance / radius_px) ** 2, 0, None)).mean(axis=(1, 2))
    profile: Array = seen / seen[0]
    return profile


def fit_beads(image: Image, xy: Array, profile: Array, sign: float) -> Fits:
    """Fit centre, amplitude and a plane as background at each start `xy` `(n, 2)` (array indices)."""
    out = np.zeros((len(xy), FIELDS))
    if len(xy):
        _fit(image, np.ascontiguousarray(xy, np.float64), np.ascontiguousarray(profile), out)
    amplitude = sign * out[:, 2]
    error = np.where(out[:, 5] > 0, out[:, 3] / np.maximum(out[:, 5], 1e-12), np.inf)
    return Fits(out[:, :2], amplitude, error, (out[:, 4] > 0) & (amplitude > 0))


def average_profile(images: list[Image], fits: list[Fits], chosen: list[NDArray[np.bool_]], size: int) -> Array:
    """Average radial profile `(size,)` of the chosen beads, 1 at the centre and 0 at the window's edge."""
    total, weight = np.zeros(size), np.zeros(size)
    for image, fit, keep in zip(images, fits, chosen, strict=True):
        if keep.any():
            _add_profile(image, np.ascontiguousarray(fit.xy[keep]), total, weight)
    seen = weight > 0
    if seen.sum() < size // 2:
        return np.zeros(size)
    radii = np.arange(size)
    profile = np.interp(radii, radii[seen], total[seen] / weight[seen])
    profile[1:-1] = 0.25 * profile[:-2] + 0.5 * profile[1:-1] + 0.25 * profile[2:]
    profile -= profile[-BINS_PER_PX:].mean()
    height = profile[:BINS_PER_PX].mean()
    return profile / height if height else profile


def profile_radius(profile: Array) -> float:
    """Radius of the sphere that falls to half its height where the profile does."""
    below = np.flatnonzero(profile < 0.5)
    if not len(below) or below[0] == 0:
        return 0.0
    k = int(below[0])
    half = k - (0.5 - profile[k]) / (profile[k - 1] - profile[k])
    return float(half / BINS_PER_PX / np.sqrt(0.75))


@kernel
def _fit(image: Any, xy: Any, profile: Any, out: Any) -> None:
    """Gauss-Newton on `b0 + b1 dx + b2 dy + a T(distance)`; `image` float32 `(ny, nx)`, `out` `(n, 6)`."""
    ny, nx = image.shape
    bins = np.float64(4)
    reach = (profile.size - 1) / bins
    half = int(np.ceil(reach))
    normal, gradient, jacobian = np.zeros((6, 6)), np.zeros(6), np.zeros(6)
    for k in range(xy.shape[0]):
        x, y, a, b0, b1, b2 = xy[k, 0], xy[k, 1], 0.0, 0.0, 0.0, 0.0
        fine = False
        for step in range(FIT_STEPS):
            ix, iy = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
            if not (ix - half >= 0 and iy - half >= 0 and ix + half < nx and iy + half < ny):
                break
            normal[:] = 0.0
            gradient[:] = 0.0
            squares, count = 0.0, 0
            for v in range(iy - half, iy + half + 1):
                for u in range(ix - half, ix + half + 1):
                    dx, dy = u - x, v - y
                    r = np.sqrt(dx * dx + dy * dy)
                    if r >= reach:
                        continue
                    place = r * bins
                    low = int(place)
                    slope = profile[low + 1] - profile[low]
                    height = profile[low] + (place - low) * slope
                    slope *= bins
                    jacobian[0] = height
                    jacobian[1] = 1.0
                    jacobian[2] = dx
                    jacobian[3] = dy
                    jacobian[4] = -a * slope * dx / r if r > 0 else 0.0
                    jacobian[5] = -a * slope * dy / r if r > 0 else 0.0
                    rest = image[v, u] - (b0 + b1 * dx + b2 * dy + a * height)
                    squares += rest * rest
                    count += 1
                    for p in range(6):
                        gradient[p] += jacobian[p] * rest
                        for q in range(6):
                            normal[p, q] += jacobian[p] * jacobian[q]
            free = 4 if step == 0 else 6
            if free == 6 and normal[4, 4] + normal[5, 5] <= NOTHING * (a * a + b0 * b0):
                break
            change = np.linalg.solve(normal[:free, :free].copy(), gradient[:free].copy())
            a += change[0]
            b0 += change[1]
            b1 += change[2]
            b2 += change[3]
            if step == 0:
                continue
            length = np.sqrt(change[4] ** 2 + change[5] ** 2)
            share = min(1.0, 1.0 / max(length, 1e-9)) * (1.0 if 2 * step < FIT_STEPS else 0.5)
            x += share * change[4]
            y += share * change[5]
            if length < RESTING_PX:
                fine = True
                out[k, 3] = np.sqrt(squares / max(1, count - 6))
                out[k, 5] = np.sqrt(0.5 * (normal[4, 4] + normal[5, 5]))
                break
        out[k, 0], out[k, 1], out[k, 2] = x, y, a
        out[k, 4] = 1.0 if fine else 0.0


@kernel
def _add_profile(image: Any, xy: Any, total: Any, weight: Any) -> None:
    """Add pixels, their ring's background removed, to the profile's bins by linear shares."""
    bins = np.float64(4)
    reach = (total.size - 1) / bins
    half = int(np.ceil(reach))
    ny, nx = image.shape
    for k in range(xy.shape[0]):
        ix, iy = int(np.floor(xy[k, 0] + 0.5)), int(np.floor(xy[k, 1] + 0.5))
        if not (ix - half >= 0 and iy - half >= 0 and ix + half < nx and iy + half < ny):
            continue
        ground, count = 0.0, 0
        for v in range(iy - half, iy + half + 1):
            for u in range(ix - half, ix + half + 1):
                r = np.sqrt((u - xy[k, 0]) ** 2 + (v - xy[k, 1]) ** 2)
                if r < reach and r >= reach - 1.5:
                    ground += image[v, u]
                    count += 1
        ground /= max(1, count)
        for v in range(iy - half, iy + half + 1):
            for u in range(ix - half, ix + half + 1):
                place = np.sqrt((u - xy[k, 0]) ** 2 + (v - xy[k, 1]) ** 2) * bins
                low = int(place)
                if low + 1 >= total.size:
                    continue
                share = place - low
                total[low] += (1 - share) * (image[v, u] - ground)
                weight[low] += 1 - share
                total[low + 1] += share * (image[v, u] - ground)
                weight[low + 1] += share
