"""A quick defocus: the rings in the power spectrum of a few tiles along the tilt axis.

On the tilt axis the focus is that of the tilt, however steep it is. The tiles' profiles, ring by ring, are put together
by their median, so that gold on some of them does not count; the rings go like `-cos(2 gamma)` on a smooth background,
a Chebyshev polynomial that both the profile and the rings are freed of. It serves to compare the tilts of one series;
the fit with astigmatism, hand and neighbours is the finishing's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo import geometry
from streamtomo.judge.blocks import block_sums
from streamtomo.lens import Microscope, phase

Image = NDArray[np.float32]
Array = NDArray[np.float64]
Place = tuple[slice, slice]

TILE_PX = 256
MOST_TILES = 6
PIXEL_A = 4.0
"""Pixels are binned to about this size."""
SAME_FOCUS_UM = 0.15
"""Tiles whose centres lie further than this above or below the axis are left out."""
COARSEST_A, FINEST_A = 30.0, 9.0
"""Details at which rings are looked for; what is coarser is the specimen's more than the lens's."""
NYQUIST_SHARE = 0.85
FEWEST_RINGS = 16
LOWEST_UM, HIGHEST_UM, STEP_UM = 0.3, 12.0, 0.04
TERMS = 5
"""Of the background's polynomial."""
FADE = 1.5
"""Rings fade with frequency like `exp(-FADE (k / highest k)²)`."""
CLEAR = 0.5
"""Correlation of the profile with the rings of a defocus below which nothing is told ..."""
ALONE = 0.85
"""... or if another defocus has so much of it ..."""
APART = 0.25
"""... that differs by more than this share."""
FAR_SD = 4.0
"""Pixels further from their tile's mean are cut: X-rays, gold."""


def binning_for(pixel_A: float) -> int:
    """Raw pixels along each side of one in which rings are looked at."""
    return max(1, round(PIXEL_A / pixel_A))


def places(shape_yx: tuple[int, int], pixel_A: float, axis_deg: float, tilt_deg: float) -> list[Place]:
    """Where in a raw image `(ny, nx)` tiles lie on the tilt axis, those in its middle first."""
    side = TILE_PX * binning_for(pixel_A)
    steepness = abs(float(geometry.tilt_terms(tilt_deg).tan)) * pixel_A / 1e4
    across = geometry.rotation(axis_deg)[:, 0]
    ys, xs = (_starts(n, side) for n in shape_yx)
    y, x = (one.ravel() for one in np.meshgrid(ys, xs, indexing="ij"))
    up, right = (one + geometry.centre(side) - geometry.centre(n) for one, n in zip((y, x), shape_yx, strict=True))
    focused = np.flatnonzero(np.abs(across[0] * right + across[1] * up) * steepness <= SAME_FOCUS_UM)
    nearest = focused[np.argsort(np.hypot(up, right)[focused], kind="stable")[:MOST_TILES]]
    return [(slice(y[i], y[i] + side), slice(x[i], x[i] + side)) for i in nearest]


def _starts(n: int, side: int) -> NDArray[np.int64]:
    """Where tiles side by side about the middle begin."""
    count = n // side
    return (n - count * side) // 2 + side * np.arange(count)


def tile_of(raw: NDArray[Any], place: Place, binning: int) -> Image:
    """A tile `(TILE_PX, TILE_PX)`: sums of the pixels of a place in a raw image."""
    return block_sums(raw[place], binning)


def quick_defocus(tiles: Sequence[Image], pixel_A: float, microscope: Microscope) -> float | None:
    """Underfocus in µm by tiles `(TILE_PX, TILE_PX)` of one tilt; None where their rings do not tell."""
    rings = _rings(pixel_A, microscope)
    if rings is None:
        return None
    profiles = [profile for tile in tiles if (profile := _profile(tile, rings)) is not None]
    if not profiles:
        return None
    level = np.log(np.median(profiles, axis=0)) * rings.root
    rest = level - rings.smooth @ (rings.smooth.T @ level)
    size = float(np.linalg.norm(rest))
    return _best(rings.models @ rest / size) if size > 0 else None


class _Rings(NamedTuple):
    """What does not depend on the image."""

    number: NDArray[np.int64]
    """The ring of each coefficient, flat; that after the last one for those that are in none."""
    counts: Array
    root: Array
    """Root of the coefficients in each ring: what a ring's logarithm weighs."""
    smooth: Array
    """`(rings, TERMS)`, orthonormal: the background."""
    models: Array
    """`(defoci, rings)`, normalised: the rings of each defocus, less their background."""
    window: Image


@lru_cache(maxsize=4)
def _rings(pixel_A: float, microscope: Microscope) -> _Rings | None:
    """None where the pixels are too coarse for rings."""
    step = 1 / (TILE_PX * pixel_A)
    first = max(2, round(1 / COARSEST_A / step))
    last = int(min(1 / FINEST_A, NYQUIST_SHARE / (2 * pixel_A)) / step)
    if last - first < FEWEST_RINGS:
        return None
    ky, kx = fft.fftfreq(TILE_PX, 1 / TILE_PX)[:, None], fft.rfftfreq(TILE_PX, 1 / TILE_PX)
    number = np.rint(np.hypot(ky, kx)).astype(np.int64) - first
    outside = (number < 0) | (number >= last - first) | (np.abs(ky) < 2) | (kx < 2)  # dead rows and columns
    number[outside] = last - first
    counts = np.bincount(number.ravel(), minlength=last - first + 1)[:-1].astype(np.float64)
    k, root = np.arange(first, last) * step, np.sqrt(counts)
    background = np.polynomial.chebyshev.chebvander(np.linspace(-1, 1, len(k)), TERMS - 1)
    smooth = np.linalg.qr(background * root[:, None])[0]
    models = -np.cos(2 * phase(k, _defoci()[:, None], microscope)) * np.exp(-FADE * (k / k[-1]) ** 2) * root
    models -= models @ smooth @ smooth.T
    models /= np.linalg.norm(models, axis=1, keepdims=True)
    one = np.hanning(TILE_PX)
    return _Rings(number.ravel(), counts, root, smooth, models, np.outer(one, one).astype(np.float32))


def _defoci() -> Array:
    return np.asarray(np.arange(LOWEST_UM, HIGHEST_UM + STEP_UM / 2, STEP_UM))


def _profile(tile: Image, rings: _Rings) -> Array | None:
    """Mean power in each ring, of mean 1; None for a tile that is blank."""
    flat = tile - np.float32(tile.mean(dtype=np.float64))
    sd = np.sqrt(np.vdot(flat, flat) / np.float32(flat.size))
    if not sd > 0:
        return None
    np.clip(flat, -FAR_SD * sd, FAR_SD * sd, out=flat)
    flat *= rings.window
    spectrum = fft.rfft2(flat)
    power = spectrum.real**2 + spectrum.imag**2
    profile = np.bincount(rings.number, power.ravel(), len(rings.counts) + 1)[:-1] / rings.counts
    return np.asarray(profile / profile.mean())


def _best(match: NDArray[Any]) -> float | None:
    """The defocus that matches best, if it does clearly."""
    defoci = _defoci()
    at = int(match.argmax())
    others = match[np.abs(defoci - defoci[at]) > APART * defoci[at]]
    if match[at] < CLEAR or (len(others) and others.max() > ALONE * match[at]) or at in (0, len(match) - 1):
        return None
    before, here, after = match[at - 1 : at + 2]
    bend = before - 2 * here + after
    return round(float(defoci[at] + STEP_UM * 0.5 * (before - after) / bend if bend < 0 else defoci[at]), 3)
