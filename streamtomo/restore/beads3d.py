"""Gold beads in a volume: compact extrema of their size, those that stand out from all else.

The filter is a difference of two Gaussians, near to the scale-normalised Laplacian (Lindeberg 1998) that finds beads
in views; the volume is binned first so far as the beads' size allows. Beads and specimen part at the widest gap
of the extrema's strengths, or, where beads are known from the alignment, at a share of their strength.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamtomo import geometry
from streamtomo.jit import kernel, parallel_kernel, prange
from streamtomo.restore.diffusion_kernels import gaussian_taps, smooth

Array = NDArray[np.float64]
Volume = NDArray[np.float32]

SMALLEST_RADIUS = 1.5
"""Radius of beads after binning, voxels, at the least."""
SIGMA_OF_RADIUS = 0.6
WIDER = 1.6
"""Ratio of the two Gaussians."""
SLAB_VOXELS = 30e6
NOISE_LIMIT = 8.0
"""Beads are above so many standard deviations of the filtered volume."""
MAD_TO_SD = 1.4826
SHARE_OF_KNOWN = 0.4
"""Of the median strength of the known beads."""
LEAST_GAP = 1.25
"""Beads are stronger than the strongest of the rest by this factor at least."""
STRONGEST = 20_000
"""Extrema that are looked at."""


class Beads3D(NamedTuple):
    """Where beads are, and how much they stand out."""

    xyz: Array
    """`(n, 3)` X, Y, Z from the volume's centre, voxels, the strongest first."""
    strength: Array
    """`(n,)`: the filter's answer in its own standard deviations."""


def find_beads_3d(
    volume: NDArray[Any], radius_px: float, *, sign: float = -1.0, known_xyz: Array | None = None
) -> Beads3D:
    """All beads of a radius in a volume `(nz, ny, nx)` of any type, which may be a memory-mapped file.

    `sign` is -1 where gold is dark. `known_xyz` `(n, 3)`: beads that are known to be there, from the centre.
    """
    extrema = _extrema(volume, radius_px, sign)
    beads = _apart(extrema, 1.8 * radius_px)
    return Beads3D(*(part[: _parting(beads, known_xyz, radius_px)] for part in beads))


def _extrema(volume: NDArray[Any], radius_px: float, sign: float) -> Beads3D:
    """The strongest local maxima of the filtered volume, strongest first."""
    binning = coarsest(radius_px)
    radius = radius_px / binning
    taps = [gaussian_taps(SIGMA_OF_RADIUS * radius * wide) for wide in (1.0, WIDER)]
    halo, thick = len(taps[1]), _slab(volume.shape, binning)
    spots, strengths, spread = [], [], []
    nz, ny, nx = (n // binning for n in volume.shape)
    scratch = _Scratch((min(nz, thick + 2 * halo), ny, nx), len(taps[1]) - 1)
    for z0 in range(0, nz, thick):
        low, high = max(0, z0 - halo), min(nz, z0 + thick + halo)
        response = _filtered(volume[low * binning : high * binning], binning, taps, sign, scratch)
        spread.append(MAD_TO_SD * float(np.median(np.abs(response[::3, ::5, ::5]))))
        found, values = maxima(response, np.float32(NOISE_LIMIT / 2 * max(spread[-1], 1e-30)))
        here = (found[:, 0] + low >= z0) & (found[:, 0] + low < z0 + thick)
        spots.append(found[here] + _vertices(response, found[here]) + (low, 0, 0))
        strengths.append(values[here])
    strength = np.concatenate(strengths) / max(float(np.median(spread)), 1e-30)
    order = np.argsort(-strength)[:STRONGEST]
    zyx = (np.concatenate(spots)[order] + 0.5) * binning - 0.5
    centre = np.array([geometry.centre(n) for n in volume.shape])
    return Beads3D((zyx - centre)[:, ::-1], strength[order])


def coarsest(radius_px: float) -> int:
    """Binning of a volume in which beads of a radius are still found."""
    return max(1, int(radius_px / SMALLEST_RADIUS))


def _slab(shape: tuple[int, ...], binning: int) -> int:
    """Binned sections that are worked on at a time."""
    return max(8, int(SLAB_VOXELS * binning**2 / (shape[1] * shape[2])))


class _Scratch:
    """Memory for one slab with its halo: touched once, used for all of them."""

    def __init__(self, shape: tuple[int, ...], pad: int) -> None:
        self.pad = pad
        wide = tuple(n + 2 * pad for n in shape)
        self._padded = [np.empty(wide, np.float32) for _ in range(3)]
        self._response = np.empty(shape, np.float32)

    def of(self, sections: int) -> tuple[Volume, Volume, Volume, Volume]:
        """Three arrays with room on all sides, and one without, for so many sections."""
        u, narrow, wide = (one[: sections + 2 * self.pad] for one in self._padded)
        return u, narrow, wide, self._response[:sections]


def _filtered(part: NDArray[Any], binning: int, taps: list[Volume], sign: float, scratch: _Scratch) -> Volume:
    """The answer of the filter to a slab; it is overwritten by the next one."""
    pad = scratch.pad
    u, narrow, wide, response = scratch.of(len(part) // binning)
    inside = (slice(pad, -pad),) * 3
    bin_volume(part, binning, u[inside])
    _continue_edges(u, pad)
    smooth(u, taps[0], pad, narrow)
    smooth(u, taps[1], pad, wide)
    more, less = (narrow, wide) if sign > 0 else (wide, narrow)
    return np.subtract(more[inside], less[inside], out=response)


def _continue_edges(u: Volume, pad: int) -> None:
    """Fill the room on all sides with what lies at the edges."""
    for axis in range(3):
        sides = np.moveaxis(u, axis, 0)
        sides[:pad], sides[-pad:] = sides[pad], sides[-pad - 1]


def maxima(response: Volume, floor: np.float32) -> tuple[NDArray[np.int64], Array]:
    """Indices `(n, 3)` z, y, x and values of what exceeds `floor` and its 26 neighbours."""
    counts = np.zeros(response.shape[0], np.int64)
    spots = np.empty((response.shape[0], max(16, response[0].size // 8), 2), np.int32)
    _maxima(response, floor, spots, counts)
    found = np.concatenate(
        [np.column_stack([np.full(n, z), spots[z, :n]]) for z, n in enumerate(counts)], dtype=np.int64
    )
    return found, response[tuple(found.T)].astype(np.float64)


def _vertices(response: Volume, found: NDArray[np.int64]) -> Array:
    """Sub-voxel offsets `(n, 3)` of parabolas through the maxima, along each axis."""
    offsets = np.zeros(found.shape)
    here = response[tuple(found.T)].astype(np.float64)
    for axis in range(3):
        step = np.eye(3, dtype=np.int64)[axis]
        before, after = (response[tuple((found + s * step).T)].astype(np.float64) for s in (-1, 1))
        bend = before - 2 * here + after
        offsets[:, axis] = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1), 0)
    return np.clip(offsets, -0.5, 0.5)


def _apart(extrema: Beads3D, distance: float) -> Beads3D:
    """Without those that are nearer than `distance` to a stronger one."""
    if not len(extrema.xyz):
        return extrema
    keep = np.ones(len(extrema.xyz), bool)
    for i, j in sorted(cKDTree(extrema.xyz).query_pairs(distance)):
        if keep[i]:
            keep[j] = False
    return Beads3D(extrema.xyz[keep], extrema.strength[keep])


def _parting(beads: Beads3D, known_xyz: Array | None, radius_px: float) -> int:
    """How many of the extrema, strongest first, are beads."""
    above = int(np.sum(beads.strength > NOISE_LIMIT))
    if known_xyz is not None and len(known_xyz) and above:
        near = cKDTree(beads.xyz[:above]).query(known_xyz, distance_upper_bound=1.5 * radius_px)[1]
        strengths = beads.strength[near[near < above]]
        if len(strengths) >= max(2, len(known_xyz) / 2):
            return int(np.sum(beads.strength[:above] > SHARE_OF_KNOWN * np.median(strengths)))
    gaps = np.log(beads.strength[:above] / np.append(beads.strength[1:above], NOISE_LIMIT))
    # A gap says the more the more lie above it: one very strong extremum is no population.
    widest = int(np.argmax(gaps * np.sqrt(np.arange(1, above + 1)))) if above else 0
    return widest + 1 if above and gaps[widest] > np.log(LEAST_GAP) else 0


@parallel_kernel
def bin_volume(volume: Any, binning: Any, out: Any) -> None:
    """Means over cubes of `binning` voxels; `out` float32 `(nz // binning, ny // binning, nx // binning)`."""
    share = np.float32(1) / np.float32(binning**3)
    for z in prange(out.shape[0]):
        line = np.empty(out.shape[2] * binning, np.float32)
        for y in range(out.shape[1]):
            line[:] = 0
            for dz in range(binning):
                for dy in range(binning):
                    row = volume[z * binning + dz, y * binning + dy]
                    for x in range(line.shape[0]):
                        line[x] += np.float32(row[x])
            for x in range(out.shape[2]):
                total = np.float32(0)
                for dx in range(binning):
                    total += line[x * binning + dx]
                out[z, y, x] = total * share


@kernel
def _is_maximum(response: Any, z: Any, y: Any, x: Any) -> Any:
    value = response[z, y, x]
    for k in range(z - 1, z + 2):
        for j in range(y - 1, y + 2):
            for i in range(x - 1, x + 2):
                if response[k, j, i] > value:
                    return False
    return True


@parallel_kernel
def _maxima(response: Any, floor: Any, spots: Any, counts: Any) -> None:
    """`spots` `(nz, most, 2)` y, x and `counts` `(nz,)` of the maxima of each section, not those at a face."""
    nz, ny, nx = response.shape
    for z in prange(1, nz - 1):
        for y in range(1, ny - 1):
            for x in range(1, nx - 1):
                if response[z, y, x] > floor and counts[z] < spots.shape[1] and _is_maximum(response, z, y, x):
                    spots[z, counts[z], 0], spots[z, counts[z], 1] = y, x
                    counts[z] += 1
