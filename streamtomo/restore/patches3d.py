"""Two tilt series of one area without gold: how one volume lies in the other, by patches of their density.

Both volumes are made small. The turn and the shift in the plane are those at which their projections along z agree
best; then they are correlated in three dimensions, as a whole and patch by patch, in steps that grow finer. The
patches' displacements are fitted as beads are, those that disagree left out. Only frequencies that both axes sampled
speak: the product of two spectra has no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.fft as fft
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from streamtomo import geometry
from streamtomo.jit import threads
from streamtomo.restore.beads3d import bin_volume
from streamtomo.restore.match import LEAST_PAIRS, OUTLIER, Match, fit, turn_about_z
from streamtomo.restore.resample3d import resample

Array = NDArray[np.float64]
Volume = NDArray[np.float32]

SIDES = (160, 400)
"""Longer sides of the small volumes, coarse to fine."""
PATCH = 72
"""Side of a patch, voxels of the small volume, or a third of its side."""
MOST_A_SIDE = 6
"""Patches along each side."""
COARSE_DEG, FINE_DEG = 3.0, 0.5
"""Steps of the turn that is sought."""
BAND = (0.015, 0.25)
"""Cycles per voxel of the small volumes that are looked at."""
LEAST_PEAK, LEAST_TURN_PEAK = 6.0, 12.0
"""Height of a correlation peak, in standard deviations, from which a patch counts; and a turn of the whole."""
LARGEST_MOVE = 0.2
"""Of a patch's side: patches that want to move further are lost."""
ROUNDS = (1, 2)
"""Of patches at each size."""
PADDED = 1.25
"""Sides of what is correlated, relative to the patches, whose edges fade."""
COVERED = 0.8
"""Share of a patch that the second volume must fill."""
MOST_PX = 4.0
"""Patches further from the fit than this, in voxels of the small volume, are left out at the least."""


class Small(NamedTuple):
    """A volume made small."""

    voxels: Volume
    binning: int


def match_patches(
    a: NDArray[Any], b: NDArray[Any], turn_deg: float = 0.0, *, reach_deg: float = 180.0, b_voxel: float = 1.0
) -> Match:
    """How volume `b` `(mz, my, mx)` lies in `a` `(nz, ny, nx)`, both flat; they may be memory-mapped files of any type.

    `turn_deg` turns the second into the first about Z, right within `reach_deg`; a voxel of `b` is `b_voxel` of `a`.
    `pairs` and the residual are of patches, in voxels of `a`. Raises ValueError where nothing agrees.
    """
    ours, theirs = (_small(v, SIDES[0]) for v in (a, b))
    scale = b_voxel * theirs.binning / ours.binning
    matrix, shift = _as_a_whole(ours.voxels, theirs.voxels, turn_deg, reach_deg, scale)
    for side, rounds in zip(SIDES, ROUNDS, strict=True):
        finer, other = (_small(v, side) for v in (a, b))
        matrix = matrix * (other.binning / theirs.binning) / (finer.binning / ours.binning)
        shift = shift * ours.binning / finer.binning
        ours, theirs = finer, other
        for _ in range(rounds):
            matrix, shift, found, apart = _by_patches(ours.voxels, theirs.voxels, matrix, shift)
    apart = apart * ours.binning
    return Match(
        matrix * ours.binning / theirs.binning,
        shift * ours.binning,
        np.column_stack([found, found]),
        float(np.sqrt((apart**2).mean())),
        float(apart.max()),
    )


def _small(volume: NDArray[Any], side: int) -> Small:
    """Binned so that the longer side is `side` at most; outliers, as gold is, are brought in."""
    binning = max(1, -(-max(volume.shape[1:]) // side))
    sections = max(1, volume.shape[0] // binning)
    out = np.empty((sections, *(n // binning for n in volume.shape[1:])), np.float32)
    for z in range(sections):
        part = np.array(volume[z * binning : (z + 1) * binning])
        bin_volume(part if len(part) == binning else np.repeat(part, binning, axis=0), binning, out[z : z + 1])
    low, high = np.percentile(out[:, ::4, ::4], (0.5, 99.5))
    return Small(np.clip(out, low, high) - np.float32(out.mean()), binning)


# -- as a whole --------------------------------------------------------------------------------------------------------


def _as_a_whole(a: Volume, b: Volume, turn_deg: float, reach_deg: float, scale: float) -> tuple[Array, Array]:
    """Matrix and shift of the best turn, in voxels of both small volumes."""
    flat_a, flat_b = a.sum(axis=0), b.sum(axis=0)
    coarse = turn_deg + np.arange(-reach_deg, min(reach_deg + COARSE_DEG / 2, 180.0), COARSE_DEG)
    best = max(_turned_peak(flat_a, flat_b, float(turn), scale) for turn in coarse)
    fine = best[1] + np.arange(-COARSE_DEG, COARSE_DEG + FINE_DEG / 2, FINE_DEG)
    height, turn, x, y = max(_turned_peak(flat_a, flat_b, float(turn), scale) for turn in fine)
    if height < LEAST_TURN_PEAK:
        raise ValueError(f"the two axes' views from above agree at no turn (peak {height:.1f} of its surroundings)")
    matrix = scale * turn_about_z(turn)
    moved = _seen_from(a.shape, b, matrix, np.array([x, y, 0.0]))
    more, _ = _displacement(a, moved, np.array(a.shape[::-1]) / 4)
    return matrix, np.array([x, y, 0.0]) + more


def _turned_peak(a: Volume, b: Volume, turn_deg: float, scale: float) -> tuple[float, float, float, float]:
    """Height of the correlation peak of two images, one turned and scaled, and where it is: height, turn, x, y."""
    back = np.linalg.inv(scale * geometry.rotation(turn_deg))[::-1, ::-1]
    centres = [np.array([geometry.centre(n) for n in image.shape]) for image in (a, b)]
    turned = affine_transform(b, back, centres[1] - back @ centres[0], output_shape=a.shape, order=1)
    (dy, dx), height = _peak(_correlation(a, turned), np.array(a.shape) / 2)
    return height, turn_deg, float(dx), float(dy)


# -- patch by patch ----------------------------------------------------------------------------------------------------


def _by_patches(a: Volume, b: Volume, matrix: Array, shift: Array) -> tuple[Array, Array, NDArray[np.int64], Array]:
    """A better matrix and shift, the patches that speak for it, and how far each is off.

    Raises ValueError where too few do.
    """
    moved = _seen_from(a.shape, b, matrix, shift)
    spots, moves = [], []
    for centre, ours, theirs in _patches(a, moved):
        move, height = _displacement(ours, theirs, LARGEST_MOVE * np.array(ours.shape[::-1]))
        if height >= LEAST_PEAK:
            spots.append(centre)
            moves.append(move)
    here = np.array(spots).reshape(-1, 3)
    there = (here - shift) @ np.linalg.inv(matrix).T
    target = here + np.array(moves).reshape(-1, 3)
    keep = np.arange(len(here))
    for _ in range(4):
        if len(keep) < LEAST_PAIRS:
            raise ValueError(f"only {len(keep)} of {len(here)} patches of the two axes agree")
        matrix, shift = fit(target[keep], there[keep])
        apart = np.linalg.norm(target - there @ matrix.T - shift, axis=1)
        limit = max(1.0, min(MOST_PX, OUTLIER * float(np.median(apart[keep]))))
        keep = np.flatnonzero(apart <= limit)
    if 2 * len(keep) < len(here) or len(keep) < LEAST_PAIRS:
        raise ValueError(f"only {len(keep)} of {len(here)} patches of the two axes agree")
    return matrix, shift, keep, apart[keep]


def _patches(a: Volume, b: Volume) -> Iterator[tuple[Array, Volume, Volume]]:
    """Half overlapping patches through all sections that both volumes fill, and their centres X, Y, Z."""
    _, ny, nx = a.shape
    high, wide = min(PATCH, max(1, ny // 3)), min(PATCH, max(1, nx // 3))
    for y in np.linspace(0, ny - high, min(MOST_A_SIDE, 2 * (ny // high) - 1)).astype(int):
        for x in np.linspace(0, nx - wide, min(MOST_A_SIDE, 2 * (nx // wide) - 1)).astype(int):
            place = (slice(None), slice(y, y + high), slice(x, x + wide))
            if np.mean(b[place] != 0) > COVERED:
                at_x = x + geometry.centre(wide) - geometry.centre(nx)
                at_y = y + geometry.centre(high) - geometry.centre(ny)
                yield np.array([at_x, at_y, 0.0]), a[place], b[place]


def _seen_from(shape: tuple[int, ...], b: Volume, matrix: Array, shift: Array) -> Volume:
    """The second small volume in the frame of the first; 0 where it is not."""
    back = np.linalg.inv(matrix)
    here, there = (np.array([geometry.centre(n) for n in of[::-1]]) for of in (shape, b.shape))
    out, inside = np.empty(shape, np.float32), np.empty(shape, np.bool_)
    resample(b, np.column_stack([back, there - back @ (here + shift)]), out, inside)
    return out


def _displacement(a: Volume, b: Volume, reach_xyz: Array) -> tuple[Array, float]:
    """Where, as X, Y, Z, the content of `b` is in `a`, less where it is in `b`; and how high that peak is."""
    move, height = _peak(_correlation(a, b), reach_xyz[::-1])
    return move[::-1], height


def _correlation(a: Volume, b: Volume) -> Volume:
    """Band-passed cross-correlation of two volumes or images of one shape, shift 0 at index 0."""
    window = np.ones(1, np.float32)
    for n in a.shape:
        edge = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 0.5
        window = window[..., None] * edge.astype(np.float32)
    shape = tuple(fft.next_fast_len(int(PADDED * n) + 1, real=True) for n in a.shape)
    cross, other = (fft.rfftn((v - v.mean()) * window[0], s=shape, workers=threads()) for v in (a, b))
    cross *= other.conj()
    cross *= _band(shape) / np.sqrt(np.abs(cross) + np.float32(1e-30))
    return np.asarray(fft.irfftn(cross, s=shape, workers=threads(), overwrite_x=True), np.float32)


@lru_cache(maxsize=4)
def _band(shape: tuple[int, ...]) -> Volume:
    """The band-pass for spectra of arrays of a shape."""
    grid = np.meshgrid(*(fft.fftfreq(n) for n in shape[:-1]), fft.rfftfreq(shape[-1]), indexing="ij", sparse=True)
    k2 = sum((k**2 for k in grid), start=np.zeros(1)).astype(np.float32)
    return np.asarray(np.exp(-k2 / (2 * BAND[1] ** 2)) * (1 - np.exp(-k2 / (2 * BAND[0] ** 2))), np.float32)


def _peak(correlation: Volume, reach: Array) -> tuple[Array, float]:
    """Sub-voxel shift of the highest value within `reach` of shift 0 along each axis; its height in deviations."""
    lows = [min(int(r), n // 2 - 2) for r, n in zip(reach, correlation.shape, strict=True)]
    near = correlation[np.ix_(*(np.arange(-low - 1, low + 2) for low in lows))]
    inner = near[tuple(slice(1, -1) for _ in near.shape)]
    at = np.array(np.unravel_index(int(inner.argmax()), inner.shape)) + 1
    spread = float(np.std(correlation))
    move = at - 1.0 - np.array(lows)
    for axis in range(near.ndim):
        before, here, after = (float(near[tuple(at + s * np.eye(near.ndim, dtype=int)[axis])]) for s in (-1, 0, 1))
        bend = before - 2 * here + after
        move[axis] += np.clip(0.5 * (before - after) / bend, -0.5, 0.5) if bend < 0 else 0.0
    return move, float(near[tuple(at)]) / max(spread, 1e-30)
