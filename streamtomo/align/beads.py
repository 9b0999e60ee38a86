"""Gold beads in a view: their size and polarity, and candidates for their centres.

A bead is the strongest compact extremum at its own scale. The filter is the scale-normalised Laplacian of a Gaussian
(Lindeberg 1998): its answer to a projected sphere is largest at sigma = 0.6 radius, and does not depend on slopes of
the background. What it lets through of large beads a coarser grid holds as well: they are looked for on one.
Lengths are in pixels of the images given.
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
LEAST_GRID_RADIUS = 2.5
"""Beads are looked for on the coarsest grid, up to every ...th pixel, on which their radius is this many points: half a
sample of the grid is then beyond the filter's frequencies, and a parabola finds the extremum."""
COARSEST = 8
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


class _View(NamedTuple):
    """An image for the filter."""

    spectrum: NDArray[np.complex64]
    """Of relative contrast (deviation from the mean over the mean's size), padded: `(ny, nx / 2 + 1)`."""
    shape: tuple[int, int]
    """Of the image itself."""
    factor: int = 1
    """Pixels from one point of the grid to the next."""

    def on_grid(self, radius_px: float) -> _View:
        """On the grid for beads of a size."""
        factor = 1
        while factor < COARSEST and radius_px / (2 * factor) >= LEAST_GRID_RADIUS:
            factor *= 2
        if factor == 1:
            return self
        rows, columns = self.spectrum.shape[0] // factor, (self.spectrum.shape[1] - 1) // factor + 1
        held = np.concatenate([self.spectrum[: rows // 2, :columns], self.spectrum[-(rows // 2) :, :columns]])
        held *= np.float32(1 / factor**2)
        ny, nx = (-(-n // factor) for n in self.shape)
        return _View(held, (ny, nx), factor)


class Candidates(NamedTuple):
    """Extrema of one view: where (pixels about the image's centre, `(n, 2)`), and how strong, strongest first."""

    xy: Array
    strength: Array
    """Filter's answer in relative contrast."""


def find_shape(images: Sequence[Image], radius_px: float | None) -> BeadShape:
    """Size (unless given) and polarity of the strongest compact extrema of some views of low tilt."""
    radii = [radius_px] if radius_px else _radii(images[0].shape)
    views = jit.each(_view, images)
    found = iter(jit.each(lambda one: _scores(*one), [(view, radius) for radius in radii for view in views]))
    scores: dict[tuple[float, float], float] = {}
    for radius in radii:
        both = [next(found) for _ in images]
        for sign, of_views in zip((-1.0, 1.0), zip(*both, strict=True), strict=True):
            scores[radius, sign] = float(np.mean(of_views))
    return BeadShape(*max(scores, key=lambda key: scores[key]))


def find_candidates(image: Image, shape: BeadShape, most: int = MOST_CANDIDATES) -> Candidates:
    """The strongest extrema of one view `(ny, nx)` at the beads' size, above what noise does by itself."""
    view = _view(image).on_grid(shape.radius_px)
    response = _filtered(view, shape)
    found = _extrema_of(response, view.factor, shape.radius_px, NOISE_LIMIT * _sd(response, view.factor))
    offsets, heights = _vertices(response, found)
    order = np.argsort(-heights)[:most]
    ny, nx = image.shape
    xy = view.factor * (found + offsets)[order] - np.array([geometry.centre(nx), geometry.centre(ny)])
    return Candidates(xy, heights[order])


def _filtered(view: _View, shape: BeadShape) -> Image:
    """Answer of the filter at each point of the view's grid, positive at beads."""
    padded = view.spectrum.shape[0], 2 * (view.spectrum.shape[1] - 1)
    response = fft.irfft2(view.spectrum * _laplacian(padded, shape.radius_px / view.factor), s=padded)
    ny, nx = view.shape
    answer: Image = np.ascontiguousarray(np.float32(shape.sign) * response[:ny, :nx])
    return answer


def _extrema_of(response: Image, factor: int, radius_px: float, floor: float) -> NDArray[np.int64]:
    """Points `(n, 2)` x, y of the grid above `floor` that nothing within a radius exceeds, away from the border."""
    margin = int(np.ceil((np.ceil(1.5 * radius_px) + 2) / factor))
    out = np.empty((response.size // 16 + 1, 2), np.int64)
    count = _extrema(response, np.int64(max(1, round(radius_px / factor))), np.int64(margin), np.float32(floor), out)
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


def _scores(view: _View, radius: float) -> tuple[float, float]:
    """Mean of the strongest dark and bright extrema at one size, above what noise does."""
    view = view.on_grid(radius)
    response = _filtered(view, BeadShape(radius, -1.0))
    floor = NOISE_LIMIT * _sd(response, view.factor)
    scores = []
    for answer in (response, -response):
        heights = _vertices(answer, _extrema_of(answer, view.factor, radius, floor))[1]
        scores.append(float((np.sort(heights)[-STRONGEST:] - floor).sum()) / STRONGEST)
    return scores[0], scores[1]


def _radii(shape_yx: tuple[int, ...]) -> list[float]:
    largest = max(2 * SMALLEST_RADIUS_PX, LARGEST_SHARE * min(shape_yx))
    steps = int(np.log(largest / SMALLEST_RADIUS_PX) / np.log(RADIUS_STEP)) + 1
    return [SMALLEST_RADIUS_PX * RADIUS_STEP**k for k in range(steps)]


def _view(image: Image) -> _View:
    mean, sd = float(image.mean(dtype=np.float64)), float(image.std())
    size = abs(mean) if abs(mean) > sd else sd or 1.0
    ny, nx = image.shape
    contrast = np.zeros([2 * COARSEST * fft.next_fast_len(-(-n // (2 * COARSEST))) for n in (ny, nx)], np.float32)
    contrast[:ny, :nx] = (image - np.float32(mean)) / np.float32(size)
    return _View(fft.rfft2(contrast), (ny, nx))


@lru_cache(maxsize=64)
def _laplacian(padded: tuple[int, int], radius_px: float) -> Image:
    """Minus the scale-normalised Laplacian of a Gaussian in Fourier space, `(ny, nx // 2 + 1)`."""
    sigma = SIGMA_OF_RADIUS * radius_px
    fy, fx = fft.fftfreq(padded[0])[:, None], fft.rfftfreq(padded[1])[None, :]
    squared = (2 * np.pi * sigma) ** 2 * (fx**2 + fy**2)
    taps: Image = (squared * np.exp(-0.5 * squared)).astype(np.float32)
    taps.flags.writeable = False
    return taps


def _sd(response: Image, factor: int) -> float:
    """Standard deviation of the response, beads not counting: from about every third pixel."""
    step = -(-3 // factor)
    sample = response[::step, ::step]
    return MAD_TO_SD * float(np.median(np.abs(sample - np.median(sample))))


def _vertices(response: Image, found: NDArray[np.int64]) -> tuple[Array, Array]:
    """Offsets `(n, 2)` of extrema from the parabolas through their neighbours in x and y, and their heights `(n,)`."""
    x, y = found[:, 0], found[:, 1]
    here = response[y, x].astype(np.float64)
    offsets, heights = np.zeros((len(found), 2)), here.copy()
    for axis, (dx, dy) in enumerate(((1, 0), (0, 1))):
        before, after = response[y - dy, x - dx].astype(np.float64), response[y + dy, x + dx].astype(np.float64)
        curvature = np.minimum(before - 2 * here + after, -1e-30)
        offsets[:, axis] = np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)
        heights += 0.25 * (after - before) * offsets[:, axis]
    return offsets, heights
