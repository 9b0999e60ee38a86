"""Two volumes of one specimen, tilted about two axes, into one: each frequency from whom it was sampled by.

Both lie in the frame of the first. They are cut into blocks; each block goes to frequencies, where both are averaged if
both sampled, else the one that did is taken. What neither sampled stays their mean, next to nothing. Wedges of missing
frequencies so become a pyramid (Penczek et al. 1995, Ultramicroscopy 60, 393). Blocks overlap by a margin that is
thrown away, so that memory stays bounded. On the way it is measured how far both agree where both sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.fft as fft
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.jit import threads

Array = NDArray[np.float64]
Volume = NDArray[np.float32]

BLOCK_VOXELS = 16e6
"""Of a block with its margins, of which some five copies are in memory."""
MARGIN = 16
"""Voxels around a block."""
BAND_ROWS = 128
"""Rows of the combined volume that are made at a time, by as many blocks as they need."""
LEAST_WEIGHT = 1e-3
"""Of what was not sampled."""
SAMPLED = 64
"""Voxels a side that tell the two volumes' scales, spread over their middle."""
TRIMMED = (2.0, 98.0)
"""Percentiles within which voxels tell the scale: gold does not."""
SHELLS = 16
"""Shells up to Nyquist in which the agreement is told."""


class Sampling(NamedTuple):
    """What a series of tilts about one axis saw."""

    lowest_deg: float
    highest_deg: float
    """Directions of the tilt range, half a step beyond the last views."""
    thickness_px: int
    """Sections of the volume: frequencies nearer than its inverse to a sampled one are sampled."""
    to_views: Array
    """`(3, 3)` from the volume's frame to that of the aligned views."""


def sampling(tilts_deg: Array | list[float], thickness_px: int, to_views: Array | None = None) -> Sampling:
    """Of views at these tilts; `to_views` is the identity where the volume lies as the views do."""
    tilts = np.sort(np.asarray(tilts_deg, np.float64))
    half = float(np.median(np.diff(tilts))) / 2 if len(tilts) > 1 else 0.0
    turn = np.eye(3) if to_views is None else to_views
    return Sampling(float(tilts[0]) - half, float(tilts[-1]) + half, thickness_px, turn)


class Field(NamedTuple):
    """Where the second series saw the specimen: `|table @ (x, y, z, 1)| <= half`, x, y, z from the volume's centre."""

    table: Array
    """`(2, 4)`"""
    half: tuple[float, float]

    def covers(self, x: NDArray[np.floating], y: NDArray[np.floating], z: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which voxels `(nz, ny, nx)` it saw; coordinates from the centre along each axis."""
        inside = np.ones((len(z), len(y), len(x)), np.bool_)
        for (by_x, by_y, by_z, at), half in zip(self.table, self.half, strict=True):
            seen = np.float32(by_z) * z[:, None, None].astype(np.float32)
            seen = seen + (by_y * y[:, None] + by_x * x + at).astype(np.float32)
            inside &= np.abs(seen) <= half
        return inside


class Agreement:
    """How far both volumes agree in shells of frequency, where both sampled; in the blocks of their middle band."""

    def __init__(self) -> None:
        self._sums = np.zeros((3, SHELLS))

    def add(self, ours: NDArray[np.complex64], theirs: NDArray[np.complex64], both: NDArray[np.int8]) -> None:
        """Spectra of a block, and the shell of each frequency, -1 where not both sampled."""
        for z in range(ours.shape[0]):
            shell, a, b = both[z].ravel(), ours[z].ravel(), theirs[z].ravel()
            keep = np.flatnonzero(shell >= 0)
            shell, a, b = shell[keep], a[keep], b[keep]
            powers = ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)
            self._sums += [np.bincount(shell, power, SHELLS) for power in powers]

    @property
    def shells(self) -> list[float]:
        """Fourier shell correlation, `SHELLS` values up to Nyquist; 0 where nothing was sampled twice."""
        cross, a, b = self._sums
        found = cross / np.maximum(np.sqrt(a * b), 1e-30)
        return [round(float(value), 4) for value in found]


def combined_bands(
    a: NDArray[Any],
    b: NDArray[Any],
    a_seen: Sampling,
    b_seen: Sampling,
    field: Field | None = None,
    agreement: Agreement | None = None,
) -> Iterator[tuple[int, Volume]]:
    """Yield `(y0, band)`, float32 bands `(nz, rows, nx)` of the combined volume in the frame and the scale of `a`.

    Both volumes `(nz, ny, nx)`, of any type, may be memory-mapped files. Beyond the second's `field` the first stays as
    it is. Raises ValueError for volumes of two shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"two axes: the volumes have shapes {a.shape} and {b.shape}, and must have the same")
    nz, ny, nx = a.shape
    scale, offset = _scale(a, b)
    rows = min(ny, BAND_ROWS)
    columns = min(nx, max(rows, int(BLOCK_VOXELS / ((nz + 2 * MARGIN) * (rows + 2 * MARGIN))) - 2 * MARGIN))
    columns = -(-nx // -(-nx // columns))
    shape = tuple(fft.next_fast_len(n + 2 * MARGIN, real=True) for n in (nz, rows, columns))
    shares, both = _weights(shape, a_seen, b_seen)
    for y0 in range(0, ny, rows):
        band = np.empty((nz, min(rows, ny - y0), nx), np.float32)
        for x0 in range(0, nx, columns):
            ours, theirs = _block(a, shape, y0, x0), _block(b, shape, y0, x0)
            inside = None if field is None else _inside(field, a.shape, shape, y0, x0)
            theirs = theirs * scale + offset if inside is None else np.where(inside, theirs * scale + offset, ours)
            mixed = _merge(ours, theirs, shares, both, agreement if y0 <= ny // 2 < y0 + rows else None)
            mixed = mixed if inside is None else np.where(inside, mixed, ours)
            part = band[:, :, x0 : x0 + columns]
            part[:] = mixed[tuple(slice(MARGIN, MARGIN + n) for n in part.shape)]
        yield y0, band


def _block(volume: NDArray[Any], shape: tuple[int, ...], y0: int, x0: int) -> Volume:
    """Part of a volume from row `y0` and column `x0` on and a margin all round; beyond its faces it is mirrored."""
    places = zip(volume.shape, (0, y0, x0), shape, strict=True)
    at = [_mirrored(n, first - MARGIN, count) for n, first, count in places]
    low, high = zip(*((int(one.min()), int(one.max()) + 1) for one in at), strict=True)
    part = np.asarray(volume[low[0] : high[0], low[1] : high[1], low[2] : high[2]], np.float32)
    return part[np.ix_(*(one - first for one, first in zip(at, low, strict=True)))]


def _mirrored(n: int, first: int, count: int) -> NDArray[np.int64]:
    at = np.mod(np.arange(first, first + count), 2 * n)
    return np.where(at < n, at, 2 * n - 1 - at)


def _inside(field: Field, whole: tuple[int, ...], shape: tuple[int, ...], y0: int, x0: int) -> NDArray[np.bool_]:
    places = zip(whole, (0, y0, x0), shape, strict=True)
    z, y, x = (np.arange(count) + first - MARGIN - geometry.centre(n) for n, first, count in places)
    return field.covers(x, y, z)


def _scale(a: NDArray[Any], b: NDArray[Any]) -> tuple[np.float32, np.float32]:
    """Scale and offset that give the second volume the spread and the mean of the first in their middle."""
    middle = []
    for n in a.shape:
        step = max(1, n // 2 // SAMPLED)
        middle.append(slice(n // 4, max(n // 4 + 1, n - n // 4), step))
    ours, theirs = (_level(np.asarray(v[middle[0], middle[1]][:, :, middle[2]], np.float64)) for v in (a, b))
    scale = ours[1] / max(theirs[1], 1e-30)
    return np.float32(scale), np.float32(ours[0] - scale * theirs[0])


def _level(values: Array) -> tuple[float, float]:
    """Mean and standard deviation without outliers."""
    low, high = np.percentile(values, TRIMMED)
    kept = values[(values >= low) & (values <= high)]
    return float(kept.mean()), float(kept.std())


def _weights(shape: tuple[int, ...], a_seen: Sampling, b_seen: Sampling) -> tuple[Volume, NDArray[np.int8]]:
    """The second volume's share at each frequency of a block `(nz, ny, nx // 2 + 1)`; the shells of both sampled."""
    kz, ky = (fft.fftfreq(n).astype(np.float32) for n in shape[:2])
    kx = fft.rfftfreq(shape[2]).astype(np.float32)
    share = np.empty((len(kz), len(ky), len(kx)), np.float32)
    both = np.empty(share.shape, np.int8)
    for section, z in enumerate(kz):
        k = np.stack(np.broadcast_arrays(kx, ky[:, None], z)).astype(np.float32)
        ours, theirs = _seen(k, a_seen), _seen(k, b_seen)
        share[section] = theirs / (ours + theirs)
        shell = (2 * SHELLS * np.sqrt((k**2).sum(axis=0))).astype(np.int8)
        both[section] = np.where((np.minimum(ours, theirs) >= 1) & (shell < SHELLS), shell, -1)
    return share, both


def _seen(k: Volume, seen: Sampling) -> Volume:
    """How far frequencies `(3, ...)` of the volume's frame were sampled."""
    turned = np.tensordot(np.linalg.inv(seen.to_views).T.astype(np.float32), k, axes=1)
    return sampled(turned[0], turned[2], seen)


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


def _merge(ours: Volume, theirs: Volume, share: Volume, both: NDArray[np.int8], agreement: Agreement | None) -> Volume:
    """Both blocks, mixed frequency by frequency."""
    mixed, other = (fft.rfftn(part, workers=threads()) for part in (ours, theirs))
    if agreement is not None:
        agreement.add(mixed, other, both)
    other -= mixed
    other *= share
    mixed += other
    merged: Volume = fft.irfftn(mixed, s=ours.shape, workers=threads(), overwrite_x=True)
    return merged
