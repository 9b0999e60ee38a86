"""Gold beads in a view: their size and polarity, and candidates for their centres.

A bead is the strongest compact extremum at its own scale. The filter is the scale-normalised Laplacian of a Gaussian
(Lindeberg 1998): its answer to a projected sphere is largest at sigma = 0.6 radius, and does not depend on slopes of
the background. Lengths are in pixels of the images given.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo import geometry, jit
from streamtomo.jit import kernel

Image = NDArray[np.float32]
Array = NDArray[np.float64]

SIGMA_OF_RADIUS = 0.6
SMALLEST_RADIUS_PX = 1.5
LARGEST_SHARE = 1 / 24
"""Radii looked for: from the smallest to this share of the image's shorter side."""
RADIUS_STEP = 1.15
STRONGEST = 6
"""Extrema of a view that speak for a size."""
NOISE_LIMIT = 5.0
"""Noise reaches about this many standard deviations somewhere in an image."""
MOST_CANDIDATES = 150
MAD_TO_SD = 1.4826


class BeadShape(NamedTuple):
    """What the beads of a series look like."""

    radius_px: float
    sign: float
    """-1 for beads darker than their surroundings, +1 for brighter ones."""


class Candidates(NamedTuple):
    """Extrema of one view: where (pixels about the image's centre, `(n, 2)`), and how strong, strongest first."""

    xy: Array
    strength: Array
    """Filter's answer in relative contrast."""


def find_shape(images: Sequence[Image], radius_px: float | None) -> BeadShape:
    """Size (unless given) and polarity of the strongest compact extrema of some views of low tilt."""
    radii = [radius_px] if radius_px else _radii(images[0].shape)
    views = [(_spectrum(image), image.shape) for image in images]
    tried = [(spectrum, shape, radius) for radius in radii for spectrum, shape in views]
    found = iter(jit.each(lambda one: _scores(*one), tried))
    scores: dict[tuple[float, float], float] = {}
    for radius in radii:
        both = [next(found) for _ in images]
        for sign, of_views in zip((-1.0, 1.0), zip(*both, strict=True), strict=True):
            scores[radius, sign] = float(np.mean(of_views))
    return BeadShape(*max(scores, key=lambda key: scores[key]))


def find_candidates(image: Image, shape: BeadShape, most: int = MOST_CANDIDATES) -> Candidates:
    """The strongest extrema of one view `(ny, nx)` at the beads' size, above what noise does by itself."""
    response = filtered(_spectrum(image), image.shape, shape)
    floor = NOISE_LIMIT * _sd(response)
    found = extrema(response, shape.radius_px, np.float32(floor))
    values = response[found[:, 1], found[:, 0]]
    order = np.argsort(-values)[:most]
    ny, nx = image.shape
    offsets = _vertices(response, found[order])
    xy = found[order] + offsets - np.array([geometry.centre(nx), geometry.centre(ny)])
    return Candidates(xy, values[order].astype(np.float64))


def filtered(spectrum: NDArray[np.complex64], shape_yx: tuple[int, ...], shape: BeadShape) -> Image:
    """Answer of the filter, positive at beads."""
    padded = _padded(shape_yx)
    response = fft.irfft2(spectrum * _laplacian(padded, shape.radius_px), s=padded)
    ny, nx = shape_yx
    answer: Image = np.ascontiguousarray(np.float32(shape.sign) * response[:ny, :nx])
    return answer


def extrema(response: Image, radius_px: float, floor: np.float32) -> NDArray[np.int64]:
    """Indices `(n, 2)` x, y of values above `floor` that nothing within a radius exceeds, away from the border."""
    margin = int(np.ceil(1.5 * radius_px)) + 2
    out = np.empty((response.size // 16 + 1, 2), np.int64)
    count = _extrema(response, np.int64(max(1, round(radius_px))), np.int64(margin), floor, out)
    return out[:count]


@kernel
def _extrema(response: Any, reach: Any, margin: Any, floor: Any, out: Any) -> Any:
    """Local maxima of `response` float32 `(ny, nx)` within a square of half width `reach`; returns their number."""
    ny, nx = response.shape
    count = 0
    for y in range(margin, ny - margin):
        for x in range(margin, nx - margin):
            value = response[y, x]
            if value <= floor or count >= out.shape[0]:
                continue
            highest = True
            for v in range(y - reach, y + reach + 1):
                for u in range(x - reach, x + reach + 1):
                    other = response[v, u]
                    if other > value or (other == value and (v < y or (v == y and u < x))):
                        highest = False
                        break
                if not highest:
                    break
            if highest:
                out[count, 0], out[count, 1] = x, y
                count += 1
    return count


def _scores(spectrum: NDArray[np.complex64], shape_yx: tuple[int, ...], radius: float) -> tuple[float, float]:
    """Mean of the strongest dark and bright extrema at one size, above what noise does."""
    response = filtered(spectrum, shape_yx, BeadShape(radius, -1.0))
    floor = NOISE_LIMIT * _sd(response)
    scores = []
    for answer in (response, -response):
        found = extrema(answer, radius, np.float32(floor))
        values = np.sort(answer[found[:, 1], found[:, 0]])[-STRONGEST:]
        scores.append(float((values - floor).sum()) / STRONGEST)
    return scores[0], scores[1]


def _radii(shape_yx: tuple[int, ...]) -> list[float]:
    largest = max(2 * SMALLEST_RADIUS_PX, LARGEST_SHARE * min(shape_yx))
    steps = int(np.log(largest / SMALLEST_RADIUS_PX) / np.log(RADIUS_STEP)) + 1
    return [SMALLEST_RADIUS_PX * RADIUS_STEP**k for k in range(steps)]


def _padded(shape_yx: tuple[int, ...]) -> tuple[int, int]:
    ny, nx = (fft.next_fast_len(n, real=True) for n in shape_yx)
    return ny, nx


def _spectrum(image: Image) -> NDArray[np.complex64]:
    """Spectrum of the image as relative contrast (deviation from the mean over the mean's size)."""
    mean = float(image.mean(dtype=np.float64))
    size = abs(mean) if abs(mean) > float(image.std()) else float(image.std()) or 1.0
    padded = _padded(image.shape)
    contrast = np.zeros(padded, np.float32)
    contrast[: image.shape[0], : image.shape[1]] = (image - np.float32(mean)) / np.float32(size)
    spectrum: NDArray[np.complex64] = fft.rfft2(contrast)
    return spectrum


@lru_cache(maxsize=64)
def _laplacian(padded: tuple[int, int], radius_px: float) -> Image:
    """Minus the scale-normalised Laplacian of a Gaussian in Fourier space, `(ny, nx // 2 + 1)`."""
    sigma = SIGMA_OF_RADIUS * radius_px
    fy, fx = fft.fftfreq(padded[0])[:, None], fft.rfftfreq(padded[1])[None, :]
    squared = (2 * np.pi * sigma) ** 2 * (fx**2 + fy**2)
    taps: Image = (squared * np.exp(-0.5 * squared)).astype(np.float32)
    taps.flags.writeable = False
    return taps


def _sd(response: Image) -> float:
    """Standard deviation of the response, beads not counting."""
    sample = response[::3, ::3]
    return MAD_TO_SD * float(np.median(np.abs(sample - np.median(sample))))


def _vertices(response: Image, found: NDArray[np.int64]) -> Array:
    """Sub-pixel offsets `(n, 2)` of extrema from the parabolas through their neighbours in x and y."""
    x, y = found[:, 0], found[:, 1]
    here = response[y, x].astype(np.float64)
    offsets = np.zeros((len(found), 2))
    for axis, (dx, dy) in enumerate(((1, 0), (0, 1))):
        before, after = response[y - dy, x - dx].astype(np.float64), response[y + dy, x + dx].astype(np.float64)
        curvature = before - 2 * here + after
        steep = curvature < 0
        offsets[steep, axis] = 0.5 * (before - after)[steep] / curvature[steep]
    return np.clip(offsets, -0.5, 0.5)
