"""Power spectra of a view in strips along the tilt axis, reduced to rings in sectors of direction.

All that lies in one strip has the same focus, however far the specimen is tilted. Each tile counts the same whatever
shows on it, so that gold does not drown the rest.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy.fft as fft
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, uniform_filter

from streamtomo.jit import threads

Array = NDArray[np.float64]
Image = NDArray[np.float32]

SECTORS = 8
"""Of the half circle of directions."""
TILE_A = 1400.0
"""Side of a tile, to the nearest power of two in pixels: rings of common focus are some ten steps of it apart."""
LOWEST_SHARE = 0.3
"""What is looked at begins at this share of where it ends: below, spectra show the specimen more than the lens ..."""
LOWEST_A = (30.0, 45.0)
"""... but not finer than the first of these, nor coarser than the second, ..."""
HIGHEST_A = 6.0
"""... and ends here, or at NYQUIST_SHARE of what the pixels carry."""
NYQUIST_SHARE = 0.88
GOLD_A = 15.0
"""Side, at least, of the blocks whose means tell gold from noise."""
SPARSE = 3
"""Every so many blocks along both axes tell what is usual."""
FAR = 6.0
"""Standard deviations."""
BLANK = 0.05
"""A tile with a corner whose standard deviation is below this share of the view's holds no image there."""


class Rings(NamedTuple):
    """What is measured of one view."""

    power: Array
    """`(strips, SECTORS, nk)`, relative to a smooth background."""
    tiles: Array
    """`(strips,)`: how many are behind it."""
    weights: Array
    """`(strips, SECTORS, nk)`: how many samples are."""


class Layout(NamedTuple):
    """How views of one shape and pixel size are taken apart."""

    tile: int
    k: Array
    """`(nk,)` 1/Å, centres of the rings."""
    x_px: Array
    """`(strips,)` from the view's centre."""
    directions: Array
    """`(SECTORS,)` radians from X, counter-clockwise."""
    samples: Array
    """`(SECTORS, nk)` of a tile."""
    pixel_A: float


def layout(shape_yx: tuple[int, int], pixel_A: float) -> Layout:
    """For views `(ny, nx)`. Raises ValueError where pixels are too coarse or views too small for rings."""
    tile = 2 ** round(np.log2(TILE_A / pixel_A))
    tile = int(min(max(64, tile), 512, 2 ** int(np.log2(min(shape_yx)))))
    step = 1 / (tile * pixel_A)
    highest = min(1 / HIGHEST_A, NYQUIST_SHARE / (2 * pixel_A))
    lowest = 1 / np.clip(1 / (LOWEST_SHARE * highest), *LOWEST_A)
    first, last = max(3, round(lowest / step)), int(highest / step)
    if last - first < 8:
        raise ValueError(f"{shape_yx[1]} x {shape_yx[0]} pixels of {pixel_A:g} Å show no rings of the lens")
    x = np.asarray(_starts(shape_yx[1], tile) + (tile - 1) / 2 - (shape_yx[1] - 1) / 2, np.float64)
    directions = np.asarray((np.arange(SECTORS) + 0.5) * np.pi / SECTORS, np.float64)
    samples = _ring_index(tile, last - first, first)[1]
    k = np.asarray(np.arange(first, last) * step, np.float64)
    return Layout(tile, k, x, directions, samples, pixel_A)


def _starts(n: int, tile: int) -> NDArray[np.int64]:
    """Where tiles begin that overlap by half or a little more, from edge to edge."""
    return np.rint(np.linspace(0, n - tile, -(-2 * (n - tile) // tile) + 1)).astype(np.int64)


def measure(view: Image, of: Layout, background: int) -> Rings:
    """The rings of an aligned view `(ny, nx)`; a polynomial with `background` terms is what they are relative to."""
    view = without_gold(view, of.pixel_A)
    strips = [_strip(view, x0, of) for x0 in _starts(view.shape[1], of.tile)]
    tiles = np.array([float(count) for _, count in strips])
    weights = tiles[:, None, None] * of.samples
    power = np.array([mean for mean, _ in strips])
    level = smooth_level(power, weights, of.k, background)
    return Rings(power / level - 1, tiles, weights)


def without_gold(view: Image, pixel_A: float) -> Image:
    """The view with what stands out far, and a rim around it, replaced by the level around: beads have rings, too."""
    side = int(np.ceil(GOLD_A / pixel_A))
    ny, nx = (n // side * side for n in view.shape)
    blocks = view[:ny, :nx].reshape(ny // side, side, nx // side, side).mean(axis=(1, 3), dtype=np.float32)
    low, middle, high = np.percentile(blocks[::SPARSE, ::SPARSE], (25, 50, 75))
    far = np.abs(blocks - middle) > FAR * max(float(high - low) / 1.349, 1e-30)
    if not far.any():
        return view
    far = binary_dilation(far, np.ones((3, 3), bool), iterations=2)
    around = uniform_filter(np.where(far, 0, blocks), 15) / np.maximum(
        uniform_filter((~far).astype(np.float32), 15), 0.02
    )
    cleaned = view.copy()
    inside = cleaned[:ny, :nx].reshape(ny // side, side, nx // side, side).swapaxes(1, 2)
    inside[far] = around[far][:, None, None]
    return cleaned


def _strip(view: Image, x0: int, of: Layout) -> tuple[Array, int]:
    """Mean power `(SECTORS, nk)` of the tiles one above the other, each scaled to mean 1, and how many there are."""
    tile = of.tile
    tiles = np.stack([view[y0 : y0 + tile, x0 : x0 + tile] for y0 in _starts(view.shape[0], tile)])
    tiles = tiles[_whole(tiles)]
    index, samples = _ring_index(tile, len(of.k), round(of.k[0] * tile * of.pixel_A))
    if not len(tiles):
        return np.zeros(samples.shape), 0
    spectra = fft.rfft2((tiles - tiles.mean(axis=(1, 2), keepdims=True)) * _window(tile), workers=threads())
    power = spectra.real**2 + spectra.imag**2
    inside = index < samples.size
    scale = power[:, inside].mean(axis=1)
    mean = np.einsum("tyx,t->yx", power, 1 / np.maximum(scale, 1e-30)) / len(tiles)
    sums = np.bincount(index.ravel(), mean.ravel().astype(np.float64), samples.size + 1)[:-1].reshape(samples.shape)
    return sums / np.maximum(samples, 1), len(tiles)


def _whole(tiles: Image) -> NDArray[np.bool_]:
    """Which tiles hold image in all four corners."""
    part = tiles.shape[1] // 8
    corners = [tiles[:, y, x] for y in (slice(part), slice(-part, None)) for x in (slice(part), slice(-part, None))]
    spreads = np.array([corner.std(axis=(1, 2)) for corner in corners])
    usual = float(np.median(tiles.std(axis=(1, 2))))
    whole: NDArray[np.bool_] = spreads.min(axis=0) > BLANK * usual
    return whole


@lru_cache(maxsize=4)
def _window(tile: int) -> Image:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(tile) + 0.5) / tile)
    return np.asarray(hann[:, None] * hann, np.float32)


@lru_cache(maxsize=4)
def _ring_index(tile: int, count: int, first: int) -> tuple[NDArray[np.int64], Array]:
    """For each sample of a real FFT its sector and ring, `sector * count + ring`; and samples `(SECTORS, count)`."""
    ky, kx = fft.fftfreq(tile, 1 / tile)[:, None], fft.rfftfreq(tile, 1 / tile)
    ring = np.rint(np.hypot(ky, kx)).astype(np.int64) - first
    sector = (np.mod(np.arctan2(ky, kx), np.pi) / np.pi * SECTORS).astype(np.int64) % SECTORS
    inside = (ring >= 0) & (ring < count)
    index = np.where(inside, sector * count + ring, SECTORS * count)
    return index, np.bincount(index.ravel(), minlength=SECTORS * count + 1)[:-1].reshape(SECTORS, count).astype(float)


def smooth_level(power: Array, weights: Array, k: Array, terms: int) -> Array:
    """A smooth curve `(nk,)` through the logarithm of the mean power of all strips and sectors."""
    total = weights.sum(axis=(0, 1))
    mean = (power * weights).sum(axis=(0, 1)) / np.maximum(total, 1)
    design = background_terms(k, terms)
    root = np.sqrt(total)[:, None]
    values = np.log(np.maximum(mean, 1e-30))[:, None]
    found = np.linalg.lstsq(design * root, values * root, rcond=None)[0]
    return np.asarray(np.exp(design @ found)[:, 0])


def background_terms(k: Array, terms: int) -> Array:
    """Chebyshev polynomials over the range of k, `(nk, terms)`."""
    reduced = 2 * (k - k[0]) / (k[-1] - k[0]) - 1
    return np.polynomial.chebyshev.chebvander(reduced, terms - 1)
