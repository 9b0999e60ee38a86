"""Two volumes of one specimen, tilted about two axes, into one: each frequency from whom it was sampled by.

The second volume is sampled anew in the frame of the first, block by block; each block goes to frequencies, where both
are averaged if both sampled, else the one that did is taken. What neither sampled stays their mean, next to nothing.
Wedges of missing frequencies so become a pyramid (Penczek et al. 1995, Ultramicroscopy 60, 393). Blocks overlap
by a margin that is thrown away, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.fft as fft
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.jit import kernel, parallel_kernel, prange, threads
from streamtomo.restore.match import Match

Array = NDArray[np.float64]
Volume = NDArray[np.float32]

BLOCK_VOXELS = 24e6
"""Of a block with its margins."""
MARGIN = 16
"""Voxels around a block."""
LEAST_WEIGHT = 1e-3
"""Of what was not sampled."""
SAMPLED = 64
"""Blocks of so many voxels a side tell the two volumes' scales."""


class Sampling(NamedTuple):
    """What a series of tilts about one axis saw."""

    lowest_deg: float
    highest_deg: float
    """Directions of the tilt range, half a step beyond the last views."""
    thickness_px: int
    """Sections of the volume: frequencies nearer than its inverse to a sampled one are sampled."""


def sampling(tilts_deg: Array | list[float], thickness_px: int) -> Sampling:
    """Of views at these tilts."""
    tilts = np.sort(np.asarray(tilts_deg, np.float64))
    half = float(np.median(np.diff(tilts))) / 2 if len(tilts) > 1 else 0.0
    return Sampling(float(tilts[0]) - half, float(tilts[-1]) + half, thickness_px)


def combined_slabs(
    a: NDArray[Any], b: NDArray[Any], a_seen: Sampling, b_seen: Sampling, match: Match
) -> Iterator[tuple[int, Volume]]:
    """Yield `(y0, slab)`, float32 slabs `(nz, rows, nx)` of the combined volume in the frame and the scale of `a`.

    Volumes `(nz, ny, nx)` and `(mz, my, mx)` of any type; they may be memory-mapped files.
    """
    nz, ny, nx = a.shape
    scale, offset = _scale(a, b, match)
    rows = int(max(MARGIN, BLOCK_VOXELS / ((nz + 2 * MARGIN) * (nx + 2 * MARGIN)) - 2 * MARGIN))
    shape = tuple(fft.next_fast_len(n + 2 * MARGIN, real=True) for n in (nz, min(rows, ny), nx))
    weights = _weights(shape, a_seen, b_seen, match.matrix)
    for y0 in range(0, ny, rows):
        count = min(rows, ny - y0)
        ours, theirs = _block(a, shape, y0), np.empty(shape, np.float32)
        inside = np.zeros(shape, np.bool_)
        resample(b, _to_indices(match, a.shape, b.shape, y0), theirs, inside)
        theirs = np.where(inside, theirs * scale + offset, ours)
        both = _merge(ours, theirs, weights)
        yield y0, np.ascontiguousarray(both[MARGIN : MARGIN + nz, MARGIN : MARGIN + count, MARGIN : MARGIN + nx])


def _block(a: NDArray[Any], shape: tuple[int, ...], y0: int) -> Volume:
    """Part of a volume from row `y0 - MARGIN` on and a margin all round; beyond its faces it is mirrored."""
    at = [_mirrored(n, first - MARGIN, count) for n, first, count in zip(a.shape, (0, y0, 0), shape, strict=True)]
    return np.asarray(a[:, at[1]][at[0]][:, :, at[2]], np.float32)


def _mirrored(n: int, first: int, count: int) -> NDArray[np.int64]:
    at = np.mod(np.arange(first, first + count), 2 * n)
    return np.where(at < n, at, 2 * n - 1 - at)


def _to_indices(match: Match, a_shape: tuple[int, ...], b_shape: tuple[int, ...], y0: int) -> Array:
    """`(3, 4)`: from indices x, y, z of a block of the first volume to indices of the second."""
    back = np.linalg.inv(match.matrix)
    here = np.array([geometry.centre(n) for n in a_shape[::-1]]) + MARGIN - (0, y0, 0)
    there = np.array([geometry.centre(n) for n in b_shape[::-1]])
    return np.column_stack([back, there - back @ (here + match.shift)])


def _scale(a: NDArray[Any], b: NDArray[Any], match: Match) -> tuple[np.float32, np.float32]:
    """Scale and offset that give the second volume the spread and the mean of the first where both are."""
    side = [min(SAMPLED, n) for n in a.shape]
    starts = [(n - s) // 2 for n, s in zip(a.shape, side, strict=True)]
    ours = np.asarray(a[tuple(slice(s, s + n) for s, n in zip(starts, side, strict=True))], np.float32)
    theirs, inside = np.empty(ours.shape, np.float32), np.zeros(ours.shape, np.bool_)
    to_b = _to_indices(match, a.shape, b.shape, 0)
    to_b[:, 3] += to_b[:, :3] @ (np.array(starts[::-1]) + MARGIN)
    resample(b, to_b, theirs, inside)
    if inside.sum() < inside.size / 8:
        return np.float32(1), np.float32(0)
    scale = ours[inside].std() / max(float(theirs[inside].std()), 1e-30)
    return np.float32(scale), np.float32(ours[inside].mean() - scale * theirs[inside].mean())


def _weights(shape: tuple[int, ...], a_seen: Sampling, b_seen: Sampling, matrix: Array) -> Volume:
    """The second volume's share at each frequency of a block, `(nz, ny, nx // 2 + 1)`."""
    kz, ky = (fft.fftfreq(n).astype(np.float32) for n in shape[:2])
    kx = fft.rfftfreq(shape[2]).astype(np.float32)
    k = np.stack(np.broadcast_arrays(kx, ky[:, None], kz[:, None, None]))
    ours = sampled(k[0], k[2], a_seen)
    turned = np.tensordot(matrix.T.astype(np.float32), k, axes=1)
    theirs = sampled(turned[0], turned[2], b_seen)
    return np.asarray(theirs / (ours + theirs), np.float32)


def sampled(kx: Volume, kz: Volume, seen: Sampling) -> Volume:
    """How far frequencies (cycles per voxel) were sampled, from LEAST_WEIGHT to 1.

    A view at tilt t samples the plane of direction `(cos t, 0, sin t)`, as thick as one over the volume's thickness.
    """
    low, high = geometry.tilt_terms(seen.lowest_deg), geometry.tilt_terms(seen.highest_deg)
    side = np.where(kx < 0, np.float32(-1), np.float32(1))
    beyond_low = side * (kz * np.float32(low.cos) - kx * np.float32(low.sin))
    beyond_high = side * (kx * np.float32(high.sin) - kz * np.float32(high.cos))
    depth = np.minimum(beyond_low, beyond_high) * seen.thickness_px
    return np.asarray(np.clip(0.5 + depth, LEAST_WEIGHT, 1), np.float32)


def _merge(ours: Volume, theirs: Volume, share: Volume) -> Volume:
    """Both blocks, mixed frequency by frequency."""
    mixed = fft.rfftn(ours, workers=threads())
    mixed += share * (fft.rfftn(theirs, workers=threads()) - mixed)
    merged: Volume = fft.irfftn(mixed, s=ours.shape, workers=threads(), overwrite_x=True)
    return merged


@kernel
def _cubic(f: Any) -> Any:
    """The four weights of cubic convolution (Keys 1981, a = -1/2) at a fraction beyond the second sample."""
    w0 = 0.5 * f * (f * (2.0 - f) - 1.0)
    w1 = 0.5 * (f * f * (3.0 * f - 5.0) + 2.0)
    w2 = 0.5 * f * (f * (4.0 - 3.0 * f) + 1.0)
    return np.float32(w0), np.float32(w1), np.float32(w2), np.float32(0.5 * f * f * (f - 1.0))


@kernel
def _sample(volume: Any, u: Any, v: Any, w: Any) -> Any:
    """The value at x, y, z = `u v w`; beyond the faces these repeat."""
    nz, ny, nx = volume.shape
    i, j, k = int(np.floor(u)), int(np.floor(v)), int(np.floor(w))
    wx, wy, wz = _cubic(u - i), _cubic(v - j), _cubic(w - k)
    total = np.float32(0)
    i0, i1, i2, i3 = max(i - 1, 0), max(i, 0), min(i + 1, nx - 1), min(i + 2, nx - 1)
    for c in range(4):
        z = min(max(k - 1 + c, 0), nz - 1)
        plane = np.float32(0)
        for r in range(4):
            row = volume[z, min(max(j - 1 + r, 0), ny - 1)]
            plane += wy[r] * (wx[0] * row[i0] + wx[1] * row[i1] + wx[2] * row[i2] + wx[3] * row[i3])
        total += wz[c] * plane
    return total


@parallel_kernel
def resample(volume: Any, to_volume: Any, out: Any, inside: Any) -> None:
    """`out[z, y, x] = volume(to_volume @ (x, y, z, 1))` by cubic convolution, and whether it lies within `volume`.

    `to_volume` float64 `(3, 4)`: indices x, y, z of `out` to those of `volume`. Outside 0.
    """
    nz, ny, nx = volume.shape
    m = to_volume
    for z in prange(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                u = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
                v = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
                w = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
                within = u >= 0 and u <= nx - 1 and v >= 0 and v <= ny - 1 and w >= 0 and w <= nz - 1
                inside[z, y, x] = within
                out[z, y, x] = _sample(volume, u, v, w) if within else np.float32(0)
