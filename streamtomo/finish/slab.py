"""The planes between which the specimen lies, from a small volume of each half of the views.

Where the specimen is, both halves show the same. Outside, the rays of one half run between those of the other: there
they disagree, the more the nearer the specimen. So along its surfaces the covariance of the halves jumps, and only
along planes parallel to them is the jump sharp in the mean of many columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from streamtomo import geometry
from streamtomo.finish.depth import EDGE_LEVEL, run_about_maximum
from streamtomo.jit import kernel, parallel_kernel, prange
from streamtomo.reconstruct.filters import Filtering
from streamtomo.reconstruct.wbp import reconstruct
from streamtomo.shrink import shrink

Array = NDArray[np.float64]
Image = NDArray[np.float32]

SMALL_SIDE_PX = 224
"""Longer side of the small volumes."""
TILES = 20
"""Columns along the longer side in which the halves are compared."""
LEAST_JUMP = 4.3
"""What a slab must show: geometric mean of the jumps at its surfaces, in standard deviations of the jumps elsewhere."""
LEAST_KNOWN_JUMP = 3.5
"""The same where its slopes are known: then no search can find a chance one."""
WEAKER = 0.75
"""The weaker of the two jumps is at least this share of their mean."""
BEYOND_PLANES, BEYOND_SHARE = 3, 0.1
"""So much of what the halves agree on may lie beyond the surfaces."""
STRONGEST = 90.0
"""Percentile at which values are cut: gold must not outshine the rest."""
BLUR = 1.0
"""Standard deviation, in planes, that jumps are looked for with."""
STEEPEST = np.tan(np.radians(25.0))
STEPS = 31
"""Slopes tried in each direction, before the best is refined."""
VIEWS = 8
"""Fewer views say nothing about a turn."""
FINEST_DEG, ERROR_DEG = 0.15, 2.0
"""Error of the slopes that is reckoned with at least, and where the jumps are as large as the noise."""
MEDIAN_TO_SD = 1.4826


class Slab(NamedTuple):
    """Planes `z = slope_x x + slope_y y + middle +- thickness / 2`, in pixels of the views about their centre."""

    slope_x: float
    slope_y: float
    middle: float
    thickness: float
    error_deg: float
    """Expected error of the slopes, roughly."""


class Small(NamedTuple):
    """Small aligned views `(n, ny, nx)`, and pixels of the views along one of theirs."""

    views: Image
    factor: int


def small_views(images: Sequence[Image], transforms: Sequence[geometry.Array], shape_yx: tuple[int, int]) -> Small:
    """Views with their raw-to-aligned transforms, aligned to `shape_yx`, small."""
    factor = max(1, round(max(shape_yx) / SMALL_SIDE_PX))
    small_yx = (max(2, shape_yx[0] // factor), max(2, shape_yx[1] // factor))
    aligned = [shrink(one, move, small_yx, factor) for one, move in zip(images, transforms, strict=True)]
    return Small(np.stack(aligned), factor)


def find_slab(small: Small, tilts_deg: Sequence[float], known: tuple[float, float] | None = None) -> Slab | None:
    """The slab in small views; None where none is seen. `known`: its slopes, where another witness tells them."""
    if len(small.views) < (4 if known else VIEWS):
        return None
    columns, x, y = _columns(small.views, tilts_deg)
    slopes = known or _best_slopes(columns, x, y)
    profile = _profile(columns, x, y, slopes)
    jumps = _jumps(profile)
    low, high = _edge_planes(jumps)
    noise = MEDIAN_TO_SD * float(np.median(np.abs(jumps - np.median(jumps)))) or 1.0
    rise, fall = float(jumps[low]) / noise, -float(jumps[high]) / noise
    clear = float(np.sqrt(max(0.0, rise) * max(0.0, fall)))
    if clear < (LEAST_KNOWN_JUMP if known else LEAST_JUMP) or min(rise, fall) < WEAKER * clear:
        return None
    if not _holds_all(profile, low, high):
        return None
    bottom, top = _peak(jumps, low), _peak(-jumps, high)
    return Slab(
        slope_x=slopes[0],
        slope_y=slopes[1],
        middle=((bottom + top) / 2 - geometry.centre(len(jumps))) * small.factor,
        thickness=(top - bottom) * small.factor,
        error_deg=max(FINEST_DEG, ERROR_DEG / clear),
    )


def _holds_all(profile: Array, low: int, high: int) -> bool:
    """Whether the halves agree between the planes only: else it is no slab, but something that sticks out of one."""
    first, last = run_about_maximum(profile > EDGE_LEVEL * profile.max(), int(profile.argmax()))
    slack = max(BEYOND_PLANES, BEYOND_SHARE * (high - low))
    return low - slack <= first and last <= high + slack


def _columns(small: Image, tilts_deg: Sequence[float]) -> tuple[Array, Array, Array]:
    """Covariance of the halves in columns `(columns, nz)`, and where they stand, x and y.

    Only the middle of the field: towards its ends fewer views see the specimen.
    """
    even, odd = (_volume(small[first::2], tilts_deg[first::2]) for first in (0, 1))
    ny, nz, nx = even.shape
    by_y, by_x = slice(ny // 10, ny - ny // 10), slice(nx // 6, nx - nx // 6)
    even, odd = even[by_y, :, by_x], odd[by_y, :, by_x]
    side = max(1, round(max(ny, nx) / TILES))
    agreement = even * odd
    my, mx = max(1, agreement.shape[0] // side), max(1, agreement.shape[2] // side)
    tiles = agreement[: my * side, :, : mx * side].reshape(my, side, nz, mx, side)
    columns = tiles.mean(axis=(1, 4), dtype=np.float64).transpose(0, 2, 1).reshape(my * mx, nz)
    y = by_y.start + (np.arange(my) + 0.5) * side - 0.5 - geometry.centre(ny)
    x = by_x.start + (np.arange(mx) + 0.5) * side - 0.5 - geometry.centre(nx)
    return columns, np.tile(x, my), np.repeat(y, mx)


def _volume(views: Image, tilts_deg: Sequence[float]) -> Image:
    """A cube over small views, `(ny, nz, nx)`, each plane's mean removed, strong values cut."""
    nz = max(views.shape[1:]) // 2 * 2
    slabs = reconstruct(np.ascontiguousarray(views), tilts_deg, nz, filtering=Filtering(0.25, 0.1))
    volume = np.concatenate([slab for _, slab in slabs])
    volume -= volume.mean(axis=(0, 2), keepdims=True)
    limit = np.float32(np.percentile(np.abs(volume[::3, ::3, ::3]), STRONGEST))
    return np.asarray(np.clip(volume, -limit, limit, out=volume), np.float32)


def _profile(columns: Array, x: Array, y: Array, slopes: tuple[float, float] | Array) -> Array:
    """Mean over the columns along planes of these slopes, by height at the centre, `(nz,)`."""
    return np.asarray(_profiles(columns, x, y, np.array([slopes]))[0], np.float64)


def _profiles(columns: Array, x: Array, y: Array, slopes: Array) -> Array:
    """The same for each of many slopes `(n, 2)`, `(n, nz)`."""
    sums = np.zeros((len(slopes), columns.shape[1]))
    _sums_along(columns, x, y, slopes, sums)
    return sums / len(columns)


@parallel_kernel
def _sums_along(columns: Any, x: Any, y: Any, slopes: Any, sums: Any) -> None:
    for i in prange(slopes.shape[0]):
        _sum_along(columns, slopes[i, 0] * x + slopes[i, 1] * y, sums[i])


@kernel
def _sum_along(columns: Any, shifts: Any, sums: Any) -> None:
    """Add columns `(n, nz)`, each taken so much further up, linear between planes, 0 beyond the ends."""
    n, nz = columns.shape
    for i in range(n):
        whole = int(np.floor(shifts[i]))
        part = shifts[i] - whole
        for z in range(max(0, -whole), min(nz, nz - 1 - whole)):
            sums[z] += columns[i, z + whole] * (1.0 - part) + columns[i, z + whole + 1] * part


def _best_slopes(columns: Array, x: Array, y: Array) -> tuple[float, float]:
    """Slopes of the planes along which the covariance jumps most sharply: all its jumps first, then the two edges."""

    def dullness(slopes: Array | tuple[float, float]) -> float:
        return -float((_jumps(_profile(columns, x, y, slopes)) ** 2).sum())

    def edge_dullness(slopes: Array | tuple[float, float]) -> float:
        jumps = _jumps(_profile(columns, x, y, slopes))
        low, high = _edge_planes(jumps)
        return -float(jumps[low] - jumps[high])

    tried = np.linspace(-STEEPEST, STEEPEST, STEPS)
    grid = np.array(list(product(tried, tried)))
    best = grid[(_jumps(_profiles(columns, x, y, grid)) ** 2).sum(axis=1).argmax()]
    step = float(tried[1] - tried[0])
    for measure in (dullness, edge_dullness):
        simplex = best + np.array([(0.0, 0.0), (step / 2, 0.0), (0.0, step / 2)])
        options = {"initial_simplex": simplex, "xatol": 1e-4, "fatol": 0.0}
        best = optimize.minimize(measure, best, method="Nelder-Mead", options=options).x
        step /= 4
    return float(best[0]), float(best[1])


def _jumps(profiles: Array) -> Array:
    """The slopes of profiles `(..., nz)`."""
    return np.asarray(ndimage.correlate1d(profiles, _slope_taps()), np.float64)


@lru_cache(maxsize=1)
def _slope_taps() -> Array:
    """The first derivative of a Gaussian, as `correlate1d` takes it."""
    impulse = np.zeros(2 * int(4 * BLUR + 0.5) + 1)
    impulse[len(impulse) // 2] = 1.0
    return np.asarray(ndimage.gaussian_filter1d(impulse, BLUR, order=1, mode="constant")[::-1], np.float64)


def _edge_planes(jumps: Array) -> tuple[int, int]:
    """The planes of the pair of a rise and a later fall that are largest together."""
    highest = np.maximum.accumulate(jumps)
    high = int((highest - jumps).argmax())
    return int(jumps[: high + 1].argmax()), high


def _peak(values: Array, at: int) -> float:
    """Position of a maximum, by a parabola through three values."""
    if not 0 < at < len(values) - 1:
        return float(at)
    before, here, after = values[at - 1 : at + 2]
    curve = before - 2 * here + after
    return at + (0.0 if curve >= 0 else float(np.clip((before - after) / (2 * curve), -0.5, 0.5)))
