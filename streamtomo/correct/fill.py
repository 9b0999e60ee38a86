"""New values for masked pixels: what is expected there, and noise like that around it.

The expectation of a pixel is a local plane through its unmasked neighbourhood with Gaussian weights, and, as far as
the neighbourhood varies by more than its noise, a mean of the nearest pixels (the share is Wiener's).

The noise is drawn for each pixel conditionally on its eight neighbours, in a few sweeps (Gibbs sampling), so that it
has the correlation, hence the spectrum, of the noise around it; with few electrons it is Poisson's. Its random numbers
come from the place and from the pixels around it: a rerun is identical, and other tilts get other noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from streamtomo.correct.noise import NEIGHBOURS, Image, NoiseModel, Real, Statistics, neighbour_weights
from streamtomo.jit import kernel, parallel_kernel, prange

SIGMA_PX = 1.8
"""Width of the neighbourhood's weights."""
REACH = 4
"""Half the side of the smallest neighbourhood; it is widened by as much until ENOUGH of it is unmasked."""
ENOUGH = 24
FARTHEST = 64
"""It goes no further: beyond, nothing tells what a pixel was, and it is left."""
MANY = 0.01
"""Share of masked pixels from which it is worth to know where there is nothing but masked ones."""
SWEEPS = 6
FEW = 30.0
"""Electrons of noise below which it is drawn from Poisson's distribution."""


def fill(
    image: Image, mask: NDArray[np.uint8], places: NDArray[np.int64], statistics: Statistics, model: NoiseModel
) -> None:
    """Replace the pixels at flat indices `places` of an image `(ny, nx)`, all that are set in the mask, in place."""
    if not len(places):
        return
    expected, variance = expectation(image, mask, places, model)
    weights, left = neighbour_weights(image, statistics)
    whole = image.dtype.kind in "iu"
    ends = np.iinfo(image.dtype.name) if whole else np.finfo(image.dtype.name)
    _draw(
        image, places, expected, variance, weights.astype(Real), NEIGHBOURS, Real(left), Real(model.skew), whole,
        Real(ends.min), Real(ends.max),
    )  # fmt: skip


def expectation(
    image: Image, mask: NDArray[np.uint8], places: NDArray[np.int64], model: NoiseModel
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the unmasked surroundings let expect at flat indices `(n,)`, and the variance of noise there."""
    expected, variance = np.empty(len(places), Real), np.empty(len(places), Real)
    terms = np.array([model.gain, model.offset, model.least, model.skew], Real)
    _expect(image, mask, _bare(mask, len(places)), places, terms, expected, variance)
    return expected, variance


def _bare(mask: NDArray[np.uint8], masked: int) -> NDArray[np.bool_]:
    """Blocks of FARTHEST pixels a side in which, and around which, all is masked: there is nothing to look for."""
    ny, nx = mask.shape
    if masked < MANY * mask.size:
        return np.zeros((-(-ny // FARTHEST), -(-nx // FARTHEST)), np.bool_)
    free = np.logical_or.reduceat(mask == 0, np.arange(0, ny, FARTHEST), axis=0)
    free = np.logical_or.reduceat(free, np.arange(0, nx, FARTHEST), axis=1)
    return ~np.asarray(maximum_filter(free, 3, mode="constant"), np.bool_)


@parallel_kernel
def _expect(image: Any, mask: Any, bare: Any, places: Any, terms: Any, expected: Any, variance: Any) -> Any:
    """Fill `expected` and `variance` `(n,)` for the places `(n,)`; places are independent of each other."""
    nx = image.shape[1]
    for index in prange(places.shape[0]):
        y, x = places[index] // nx, places[index] % nx
        if bare[y // FARTHEST, x // FARTHEST]:
            expected[index], variance[index] = np.float32(image[y, x]), np.float32(0.0)
            continue
        wide, seen = _plane(image, mask, y, x)
        noise = max(terms[2], terms[1] + terms[0] * wide) if terms[0] > 0 else seen
        near = _nearest(image, mask, y, x, wide)
        structure = max(seen - noise, np.float32(0.0))
        share = structure / max(structure + noise, np.float32(1e-30))
        expected[index] = wide + share * (near - wide)
        variance[index] = noise


@kernel
def _plane(image: Any, mask: Any, y: Any, x: Any) -> Any:
    """Value at the middle of a weighted plane through the unmasked neighbourhood, and the variance about it."""
    ny, nx = image.shape
    reach, n = REACH, 0
    while n < ENOUGH and reach <= FARTHEST:
        n = 0
        for iy in range(max(0, y - reach), min(ny, y + reach + 1)):
            for ix in range(max(0, x - reach), min(nx, x + reach + 1)):
                n += 1 - min(mask[iy, ix], 1)
        reach += REACH
    reach -= REACH
    if n == 0:
        return np.float32(image[y, x]), np.float32(0.0)
    fall = 1.0 / (2 * (SIGMA_PX * reach / REACH) ** 2)
    s, sx, sy, sxx, sxy, syy, v, vx, vy, vv = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for iy in range(max(0, y - reach), min(ny, y + reach + 1)):
        for ix in range(max(0, x - reach), min(nx, x + reach + 1)):
            if mask[iy, ix]:
                continue
            dy, dx = float(iy - y), float(ix - x)
            w, value = np.exp(-fall * (dx * dx + dy * dy)), float(image[iy, ix])
            s += w
            sx += w * dx
            sy += w * dy
            sxx += w * dx * dx
            sxy += w * dx * dy
            syy += w * dy * dy
            v += w * value
            vx += w * dx * value
            vy += w * dy * value
            vv += w * value * value
    mean = v / s
    cxx, cxy, cyy = sxx - sx * sx / s, sxy - sx * sy / s, syy - sy * sy / s
    cvx, cvy, left = vx - sx * mean, vy - sy * mean, vv - v * mean
    determinant = cxx * cyy - cxy * cxy
    if determinant > 0.05 * (0.5 * (cxx + cyy)) ** 2:
        gx, gy = (cvx * cyy - cvy * cxy) / determinant, (cvy * cxx - cvx * cxy) / determinant
        # Where the pixel lies outside its neighbourhood's middle a slope is carried on, and so is its error.
        mean -= (gx * sx + gy * sy) / s
        left -= gx * cvx + gy * cvy
    return np.float32(mean), np.float32(max(left, 0.0) / s)


@kernel
def _nearest(image: Any, mask: Any, y: Any, x: Any, otherwise: Any) -> Any:
    """Mean of the unmasked pixels that touch this one, those beside it with four times the weight of the diagonal."""
    ny, nx = image.shape
    total, weights = np.float32(0.0), np.float32(0.0)
    for iy in range(max(0, y - 1), min(ny, y + 2)):
        for ix in range(max(0, x - 1), min(nx, x + 2)):
            if mask[iy, ix]:
                continue
            w = np.float32(4.0 if iy == y or ix == x else 1.0)
            total += w * np.float32(image[iy, ix])
            weights += w
    return total / weights if weights >= 8 else otherwise


@kernel
def _uniform(state: Any) -> Any:
    """Next state of a SplitMix64 generator, and a number in (0, 1)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return state, (float(z >> np.uint64(11)) + 0.5) / 9007199254740992.0


@kernel
def _seed(image: Any, place: Any) -> Any:
    """A state from the place and from the pixels around it."""
    ny, nx = image.shape
    y, x = place // nx, place % nx
    state = np.uint64(place)
    for iy in range(max(0, y - 2), min(ny, y + 3)):
        for ix in range(max(0, x - 2), min(nx, x + 3)):
            state = state * np.uint64(6364136223846793005) + np.uint64(np.int64(image[iy, ix] * 16) + 1)
    return state


@kernel
def _standard(state: Any, electrons: Any) -> Any:
    """Next state and a random number of mean 0 and variance 1: Poisson's of so many electrons, if they are few."""
    state, u = _uniform(state)
    if 0 < electrons < FEW:
        term = np.exp(-electrons)
        total, k = term, 0
        while u > total and k < 200:
            k += 1
            term *= electrons / k
            total += term
        return state, (k - electrons) / np.sqrt(electrons)
    state, v = _uniform(state)
    return state, np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)


@kernel
def _draw(
    image: Any, places: Any, expected: Any, variance: Any, weights: Any, neighbours: Any, left: Any, skew: Any,
    whole: Any, least: Any, most: Any,
) -> Any:  # fmt: skip
    """Write expectation and noise to the places `(n,)`; where neighbours share their noise, sweep until all agree."""
    ny, nx = image.shape
    states = np.empty(places.shape[0], dtype=np.uint64)
    alone = True
    for k in range(weights.shape[0]):
        alone = alone and weights[k] == 0
    for index in range(places.shape[0]):
        states[index] = _seed(image, places[index])
    for index in range(places.shape[0]):
        image[places[index] // nx, places[index] % nx] = _cut(expected[index], whole, least, most)
    for _ in range(1 if alone else SWEEPS):
        for index in range(places.shape[0]):
            y, x = places[index] // nx, places[index] % nx
            shared = 0.0
            for k in range(weights.shape[0]):
                iy, ix = y + neighbours[k, 0], x + neighbours[k, 1]
                if not alone and 0 <= iy < ny and 0 <= ix < nx:
                    shared += weights[k] * (np.float32(image[iy, ix]) - expected[index])
            spread = variance[index] * left
            electrons = spread / (skew * skew) if skew > 0 else np.float32(0.0)
            states[index], number = _standard(states[index], electrons)
            value = expected[index] + shared + np.sqrt(spread) * number
            image[y, x] = _cut(value, whole, least, most)
    return ny


@kernel
def _cut(value: Any, whole: Any, least: Any, most: Any) -> Any:
    """A value that the image's type can hold."""
    value = min(max(value, least), most)
    return np.round(value) if whole else value
