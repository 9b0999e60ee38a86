"""Edge-enhancing diffusion of a volume: smooth along surfaces and within compartments, not across edges.

The volume u follows `du/dt = div(D grad u)` with `D = I - (1 - g) n nᵀ`: n is the direction of the gradient of the
volume blurred by a Gaussian, and g, the diffusivity across, falls from 1 to 0 as that gradient's size passes K
(Weickert 1998, Anisotropic diffusion in image processing; for tomograms Frangakis and Hegerl 2001, J. Struct. Biol.
135, 239). An iteration is a time of 0.1, as IMOD's `nad_eed_3d` counts them. Three of them are taken in two steps of
uneven length with the blurred volume kept, of which the long one is unstable alone but not after the other (Fast
Explicit Diffusion, Grewenig, Weickert and Bruhn 2010, DAGM, 533). Longer cycles leave more of the finest noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import jit
from streamtomo.restore.diffusion_kernels import REACH_SIGMAS, gaussian_taps, smooth, step

Volume = NDArray[np.float32]

ITERATION = 0.1
"""Time of one iteration."""
LARGEST_STEP = 1 / 6
"""A single explicit step is stable up to this time."""
CYCLE = 3
"""Iterations at most for which the tensor is kept."""
PAD = 3
"""Voxels around a volume that repeat its faces: nothing flows through these."""
K_OF_NOISE = 2.5
"""Default K relative to the median gradient, which is that of noise."""
SAMPLE_SIDE = 96
"""Side of the cubes that the noise is measured in."""
SLAB_VOXELS = 96e6
"""Voxels worked on at a time, halo included: three times four bytes each."""


class Diffusion(NamedTuple):
    """How a volume is diffused."""

    k: float
    """Gradient at edges that are to stay, in the volume's values per voxel."""
    iterations: int = 20
    sigma: float = 1.0
    """Blur of the volume that gradients are taken from, voxels; at most 1."""

    @property
    def halo(self) -> int:
        """Voxels beyond which nothing noticeable comes from: ways go with the root of the time."""
        return PAD + 2 + int(np.ceil(4 * np.sqrt(2 * ITERATION * self.iterations)))


def diffuse(volume: NDArray[Any], how: Diffusion, watch: Callable[[int, Volume], None] | None = None) -> Volume:
    """The volume `(nz, ny, nx)` after all iterations, float32, in three times its memory.

    `watch` is shown, after each cycle, the number of iterations and the volume as it then is, not to be kept.
    """
    return _diffused(volume, how, _room(volume.shape, 3), watch)


def _diffused(
    volume: NDArray[Any], how: Diffusion, room: list[Volume], watch: Callable[[int, Volume], None] | None = None
) -> Volume:
    """The same in the first three arrays of `room`; the one that the result is in is its last then."""
    if not (how.k > 0 and 0 < how.sigma <= PAD / REACH_SIGMAS):
        raise ValueError(f"K must be above 0, sigma above 0 up to 1; they are {how.k} and {how.sigma}")
    padded = [n + 2 * PAD for n in volume.shape]
    u, blurred, after = (one[: math.prod(padded)].reshape(padded) for one in room[:3])
    _fill(u, volume)
    taps, scale = gaussian_taps(how.sigma), np.float32(1 / (2 * how.k) ** 2)
    first, second = room[0], room[2]
    for done in range(0, how.iterations, CYCLE):
        smooth(u, taps, PAD, blurred)
        _fill_border(blurred)
        count = min(CYCLE, how.iterations - done)
        for length in cycle_steps(count * ITERATION):
            step(u, blurred, scale, np.float32(length), PAD, after)
            _fill_border(after)
            u, after, first, second = after, u, second, first
        if watch is not None:
            watch(done + count, _inside(u))
    room[:] = [second, room[1], *room[3:], first]
    return _inside(u)


def _room(shape: Sequence[int], arrays: int) -> list[Volume]:
    """Arrays that each hold a volume of a shape with its padding."""
    return [np.empty(math.prod(n + 2 * PAD for n in shape), np.float32) for _ in range(arrays)]


def cycle_steps(total: float) -> NDArray[np.float64]:
    """The fewest steps of a cycle that together take a time `total`, shortest first."""
    n = 1
    while LARGEST_STEP * n * (n + 1) / 3 < total:
        n += 1
    steps = 1 / np.cos(np.pi * (2 * np.arange(n) + 1) / (4 * n + 2)) ** 2
    return np.asarray(steps * total / steps.sum())


def diffused_slabs(volume: NDArray[Any], how: Diffusion) -> Iterator[tuple[int, Volume]]:
    """Yield `(y0, slab)`, float32 slabs `(nz, rows, nx)` of the diffused volume from y = 0 upward.

    `volume` `(nz, ny, nx)` may be a memory-mapped file of any type: only a slab and its halo are in memory. A slab is
    overwritten when the next but one is made.
    """
    nz, ny, nx = volume.shape
    halo = how.halo
    rows = max(halo, int(SLAB_VOXELS / (nz * nx)) - 2 * halo)
    room = _room((nz, min(ny, rows + 2 * halo), nx), 4 if rows < ny else 3)
    for y0 in range(0, ny, rows):
        low, high = max(0, y0 - halo), min(ny, y0 + rows + halo)
        yield y0, _diffused(volume[:, low:high], how, room)[:, y0 - low : y0 - low + min(rows, ny - y0)]


def default_k(volume: NDArray[Any], sigma: float = 1.0) -> float:
    """K for a volume `(nz, ny, nx)`: K_OF_NOISE times its median blurred gradient, in three cubes along a diagonal.

    Most voxels of a tomogram show noise, so the median is noise's own; 1 for a volume without any gradient.
    """
    found = [float(np.median(gradient(cube, sigma))) for cube in _cubes(volume)]
    return K_OF_NOISE * float(np.median(found)) or 1.0


def gradient(volume: NDArray[Any], sigma: float = 1.0) -> Volume:
    """Size of the gradient of the blurred volume, `(nz, ny, nx)`, per voxel."""
    u, blurred = np.empty((2, *(n + 2 * PAD for n in volume.shape)), np.float32)
    _fill(u, volume)
    smooth(u, gaussian_taps(sigma), PAD, blurred)
    _fill_border(blurred)
    return np.asarray(np.sqrt(sum(_central(blurred, axis) ** 2 for axis in range(3))), np.float32)


def preview(
    volume: NDArray[Any], ks: Sequence[float], iterations: Sequence[int], z: int | None = None, sigma: float = 1.0
) -> dict[tuple[float, int], Volume]:
    """One section `(ny, nx)` (None: the middle one) as each K and each number of iterations would make it.

    Numbers that are multiples of CYCLE come for the price of the largest.
    """
    middle = volume.shape[0] // 2 if z is None else z
    pictures: dict[tuple[float, int], Volume] = {}
    runs = {count for count in iterations if count % CYCLE} | {max(iterations)}
    for k, most in product(ks, sorted(runs)):
        how = Diffusion(k, most, sigma)
        low, high = max(0, middle - how.halo), min(volume.shape[0], middle + how.halo + 1)

        def keep(done: int, now: Volume, k: float = k, low: int = low) -> None:
            if done in iterations:
                pictures[k, done] = now[middle - low].copy()

        diffuse(volume[low:high], how, keep)
    return pictures


def _fill(padded: Volume, volume: NDArray[Any]) -> None:
    """Put a volume into one with padding, which repeats its faces."""
    inside = _inside(padded)

    def copy(z: int) -> None:
        inside[z] = volume[z]

    jit.each(copy, range(len(volume)))
    _fill_border(padded)


def _fill_border(padded: Volume) -> None:
    """Repeat the faces in the padding."""
    for axis in range(3):
        turned = padded.swapaxes(0, axis)
        turned[:PAD], turned[-PAD:] = turned[PAD], turned[-PAD - 1]


def _inside(padded: Volume) -> Volume:
    return padded[PAD:-PAD, PAD:-PAD, PAD:-PAD]


def _central(padded: Volume, axis: int) -> Volume:
    """Half the difference of the two neighbours along an axis, inside the padding."""
    moved = [np.roll(padded, by, axis) for by in (-1, 1)]
    return np.asarray(_inside(moved[0] - moved[1]) / np.float32(2), np.float32)


def _cubes(volume: NDArray[Any]) -> list[NDArray[Any]]:
    """Three cubes of the volume along its diagonal, or as much of them as it has."""
    cubes = []
    for share in (0.25, 0.5, 0.75):
        starts = [max(0, min(int(share * n) - SAMPLE_SIDE // 2, n - SAMPLE_SIDE)) for n in volume.shape]
        cubes.append(volume[tuple(slice(s, s + SAMPLE_SIDE) for s in starts)])
    return cubes
