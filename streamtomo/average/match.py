"""Particles found in a tomogram by a template: its correlation with each place, in each rotation.

Each place is compared over the template's ball alone, by its own spread there (normalised correlation, Roseman 2003),
and the template lacks what the tomogram's views did not sample.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import cKDTree

from streamtomo.average.kernels import keep_best, seen_from
from streamtomo.average.spectra import Array, Volume, Wedge, ball, components, levelled, padded, spread
from streamtomo.jit import threads

BLOCK_VOXELS = 16e6
"""Of a block that is transformed at once."""
LEAST_SPREAD = 0.05
"""Places whose spread is less than this part of the tomogram's hold nothing."""
STRONGEST = 5.0
"""Voxels further from the mean, in standard deviations, are taken as this far: gold would outshine all particles."""
GOLD = 20.0
"""Voxels further than this are gold; nothing is looked for where a ball holds any."""
BY_GOLD = 3.0
"""Within so many radii of gold its halos look like balls: where a ball is sought places there are judged apart."""
LOWEST = 0.05
"""Correlations below this are looked at no further."""
FALSE = 0.05
"""Part of the places found that may be noise."""
TAIL = 20
"""Best places of the template's negative that tell how noise ends."""
APART = 0.7
"""Particles are this part of their diameter apart at least."""


class Template(NamedTuple):
    """What is looked for."""

    box: Volume
    """`(n, n, n)`, of the tomogram's contrast and sampling."""
    radius: float
    """Of the particle, voxels."""
    turns: Array
    """Rotations to look for it in, `(r, 3, 3)`."""


class Found(NamedTuple):
    """Places, the best first."""

    xyz: Array
    """`(p, 3)`, indices."""
    turns: Array
    scores: Array
    threshold: float
    """Lower scores may be noise, far from gold."""


def sphere(n: int, radius: float, turns: Array) -> Template:
    """A dark ball: a template that fits any round particle."""
    return Template(-ball(n, radius * 0.8, radius * 0.4), radius, turns[:1])


def match(
    tomogram: NDArray[Any], template: Template, wedge: Wedge, count: int | None, progress: Callable[[float], None]
) -> Found:
    """Where the template is found in a tomogram `(nz, ny, nx)`: what is above noise, `count` at most."""
    n = template.box.shape[0]
    mask = ball(n, template.radius, 2.0)
    boxes = _Boxes(template, wedge, mask)
    nz, ny, nx = tomogram.shape
    rows = int(np.clip(BLOCK_VOXELS / ((nz + n) * (nx + n)) - n, n, ny))
    scores, against = (np.empty(tomogram.shape, np.float32) for _ in range(2))
    which = np.empty(tomogram.shape, np.int32)
    (level, sd), gold = _level(tomogram), list[Array]()
    for y0 in range(0, ny, rows):
        last = min(y0 + rows, ny)
        first, end = max(y0 - n // 2, 0), min(last + n // 2, ny)
        block = (np.asarray(tomogram[:, first:end], np.float32) - np.float32(level)) / np.float32(sd)
        best, worst, at = _scored(block, boxes, mask, partial(_tell, progress, y0 / ny, rows / ny))
        inner = slice(y0 - first, last - first)
        gold.append(np.asarray(np.argwhere(np.abs(block[:, inner]) > GOLD)[:, ::-1] + (0.0, y0, 0.0)))
        scores[:, y0:last], against[:, y0:last], which[:, y0:last] = best[:, inner], worst[:, inner], at[:, inner]
    for one in (scores, against):
        _without_faces(one, int(np.ceil(template.radius)))
    return _found(scores, against, which, template, count, np.concatenate(gold))


def _without_faces(scores: Volume, margin: int) -> None:
    """Balls that reach beyond the tomogram are no places: its faces stand out as particles do."""
    for axis in range(3):
        turned, wide = scores.swapaxes(0, axis), min(margin, scores.shape[axis] // 3)
        turned[:wide], turned[-wide:] = -1, -1


def _found(
    scores: Volume, against: Volume, which: NDArray[np.int32], template: Template, count: int | None, gold: Array
) -> Found:
    """Places above noise; of a round template those by gold and all others judged apart from each other."""
    places, noise = (peaks(one, LOWEST, 2 * APART * template.radius, None) for one in (scores, against))
    reach = BY_GOLD * template.radius if len(template.turns) == 1 else 0.0
    near = [_is_near(gold, xyz, reach) for xyz, _ in (places, noise)]
    limits = [_threshold(places[1][near[0] == by], noise[1][near[1] == by]) for by in (False, True)]
    kept = np.flatnonzero(places[1] >= np.where(near[0], limits[1], limits[0]))[:count]
    xyz, nearest = places[0][kept], np.rint(places[0][kept]).astype(int)
    turns = template.turns[which[nearest[:, 2], nearest[:, 1], nearest[:, 0]]]
    return Found(xyz, turns, places[1][kept], limits[0])


def _is_near(gold: Array, xyz: Array, distance: float) -> NDArray[np.bool_]:
    if not len(gold) or not len(xyz):
        return np.zeros(len(xyz), np.bool_)
    return np.asarray(cKDTree(gold).query(xyz, distance_upper_bound=distance)[0] < np.inf)


def _level(tomogram: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation of most voxels: gold counts little."""
    some = np.asarray(tomogram[:: max(1, tomogram.shape[0] // 16)], np.float32)
    low, middle, high = np.percentile(some, (15.87, 50, 84.13))
    return float(middle), max(float(high - low) / 2, 1e-30)


def _threshold(scores: Array, against: Array) -> float:
    """The lowest score above which no more than a part FALSE of the places is expected to be noise.

    Noise knows no sign: places that look like the template's negative are as many, and as good (targets and decoys:
    Elias and Gygi 2007, Nature Methods 4, 207). Few are as good as the best, so that their number is taken from the
    tail, where the squares of scores fall off exponentially, as those of the maxima of Gaussian noise do.
    """
    tail = against[: TAIL + 1] ** 2
    if len(tail) < 3:
        return LOWEST
    excess = max(float((tail[:-1] - tail[-1]).mean()), 1e-30)
    expected = (len(tail) - 1) * np.exp(-(scores**2 - tail[-1]) / excess)
    good = (expected <= FALSE * np.arange(1, len(scores) + 1)) & (scores**2 > tail[-1])
    return float(scores[np.flatnonzero(good)[-1]]) if good.any() else float("inf")


def _tell(progress: Callable[[float], None], done: float, share: float, part: float) -> None:
    progress(min(done + share * part, 1.0))


class _Boxes:
    """The template in each rotation, as the tomogram would show it."""

    def __init__(self, template: Template, wedge: Wedge, mask: Volume) -> None:
        n = template.box.shape[0]
        self._of, self._mask = components(n, n / 2 - 1), mask
        share, factor = wedge.at(self._of.k)
        self._weight = share * factor
        self._spectrum = padded(levelled(template.box, mask))
        self._turns = template.turns

    def __len__(self) -> int:
        return len(self._turns)

    def __getitem__(self, number: int) -> Volume:
        """Level within the mask, its squares add up to 1."""
        seen = np.empty((1, len(self._of.k)), np.complex64)
        seen_from(self._spectrum, self._of.k, self._turns[number : number + 1], seen)
        n = self._of.n
        box = fft.fftshift(fft.irfftn(spread(seen[0] * self._weight, self._of), (n, n, n)))
        masked = levelled(np.asarray(box, np.float32), self._mask)
        return masked / np.float32(max(float(np.linalg.norm(masked)), 1e-30))


def _scored(
    block: Volume, boxes: _Boxes, mask: Volume, progress: Callable[[float], None]
) -> tuple[Volume, Volume, NDArray[np.int32]]:
    """The best correlation at each place of a block, the best of the negative, and in which rotation the first is."""
    n = mask.shape[0]
    shape = tuple(fft.next_fast_len(size + n, real=True) for size in block.shape)
    inside = tuple(slice(0, size) for size in block.shape)

    def correlated(spectrum: Any, kernel: Volume) -> Volume:
        wide = np.zeros(shape, np.float32)
        wide[:n, :n, :n] = kernel
        product = spectrum * np.conj(fft.rfftn(wide, workers=threads()))
        found = fft.irfftn(product, shape, workers=threads(), overwrite_x=True)
        return np.ascontiguousarray(np.roll(found, n // 2, axis=(0, 1, 2))[inside], np.float32)

    gold = (np.abs(block) > GOLD).astype(np.float32)
    near_gold = correlated(fft.rfftn(gold, shape, workers=threads()), mask) > 0.02 if gold.any() else gold > 0
    block = np.clip(block, -STRONGEST, STRONGEST)
    transformed = fft.rfftn(block, shape, workers=threads())
    weight = float(mask.sum())
    mean = correlated(transformed, mask) / weight
    square = correlated(fft.rfftn(block**2, shape, workers=threads()), mask) / weight
    local = np.sqrt(np.maximum(square - mean**2, LEAST_SPREAD**2) * weight).astype(np.float32)
    best, worst = (np.full(block.shape, -1, np.float32) for _ in range(2))
    at = np.zeros(block.shape, np.int32)
    for number in range(len(boxes)):
        keep_best(correlated(transformed, boxes[number]), local, number, best, worst, at)
        progress((number + 1) / len(boxes))
    best[near_gold], worst[near_gold] = -1, -1
    return best, worst, at


def peaks(scores: Volume, threshold: float, apart: float, count: int | None) -> tuple[Array, Array]:
    """Places x, y, z `(p, 3)` of the highest scores, so far apart from each other, between voxels; and the scores."""
    top = scores == ndimage.maximum_filter(scores, 3, mode="nearest")
    places = np.argwhere(top & (scores >= threshold))
    values = scores[tuple(places.T)]
    order = np.argsort(-values, kind="stable")
    places, values = places[order], values[order]
    kept = _apart(places, apart)[:count]
    fine = np.array([_between(scores, place) for place in places[kept]]).reshape(-1, 3)
    return fine[:, ::-1].copy(), values[kept].astype(np.float64)


def _apart(places: NDArray[np.int64], apart: float) -> list[int]:
    """Which of places in order of worth are not too near to a better one."""
    if not len(places):
        return []
    near = cKDTree(places).query_ball_point(places, apart)
    taken, kept = np.zeros(len(places), np.bool_), []
    for number, others in enumerate(near):
        if not taken[number]:
            kept.append(number)
            taken[others] = True
    return kept


def _between(scores: Volume, place: NDArray[np.int64]) -> Array:
    """The top of parabolas through a voxel and its neighbours."""
    fine = place.astype(np.float64)
    for axis in range(3):
        if 0 < place[axis] < scores.shape[axis] - 1:
            low, middle, high = (float(scores[tuple(place + step * np.eye(3, dtype=int)[axis])]) for step in (-1, 0, 1))
            curve = low - 2 * middle + high
            if curve < 0:
                fine[axis] += float(np.clip(0.5 * (low - high) / curve, -0.5, 0.5))
    return fine
