"""Gold taken out of aligned views: each bead's disc is replaced by texture of its surroundings.

What is put in has the mean and slope of a ring around the disc and the grain of a place nearby without gold, a copy of
it less its own mean and slope: noise and spectrum are those of the view itself. Every view takes its grain from
somewhere else, so that nothing of it adds up in the volume. The disc reaches as far as the beads' mean profile, fringes
included, stands out from the noise that a volume of so many views would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import cKDTree

from streamtomo import geometry, jit

Array = NDArray[np.float64]
Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

WIDEST = 4.0
"""Discs reach to so many radii of the bead at most."""
OTHERS = 2.5
"""Pixels within so many radii of another bead say nothing of this one's profile."""
MOST_SIGMAS = 3.0
"""A pixel counts no more, so that gold that nobody knows of does not make discs wider."""
BINS_PER_PX = 2
"""Of the profile."""
SHARE_OF_NOISE = 0.5
"""A profile below this share of the volume's noise is no longer seen."""
SIGNIFICANT = 3.5
"""... and so is one below so many standard deviations of itself."""
RING_OF_RADIUS = 0.8
LEAST_RING_PX = 3.0
MOST_MOVE = 0.6
"""A bead is sought again no farther from where the model puts it, radii."""
STRAY = 0.6
"""Gold that nobody knew of stands out by this share of what the known beads do."""
SURE = 5.0
"""... and by so many standard deviations of the view at the beads' size: noise, however faint the beads, is no gold."""
LEAST_KNOWN = 3
"""Fewer known beads do not tell how much that is."""
TRIES = 40
"""Places that are tried for grain."""
LEAST_GRAIN = 0.5
"""Grain is taken from where its spread is at least this share of the ring's: not where no image is."""
LEAST_FOR_PLANE = 12
LEAST_FREE = 0.8
"""A ring of which other discs leave less gives no plane: its slope would be drawn out over the whole disc."""
FAINT = 0.02
"""Where so little of a Gaussian is free the next wider one says as much."""
HALO = 4.0
"""Standard deviations of a slope outwards from which it is believed."""
SPARSE = 4
"""Every so many pixels along both axes tell the level of a whole view."""
NEAR = 2.5
"""Standard deviations at which the Gaussians end that levels in a crowd are taken by."""


class Erased(NamedTuple):
    """Views without gold."""

    stack: Image
    """`(n, ny, nx)`"""
    radius_px: float
    """Of the discs that were replaced."""
    xy: Array
    """`(n, m, 2)`: where the beads were seen, pixels from the views' centres; not a number outside of a view."""


def erase_gold(
    stack: Image,
    tilts_deg: Sequence[float],
    beads_xyz: Array,
    radius_px: float,
    *,
    sign: float = -1.0,
    xtilts_deg: Sequence[float] | float = 0.0,
    edge_px: float | None = None,
    seed: int = 0,
) -> Erased:
    """Replace beads `(m, 3)` (pixels from the specimen's centre) in aligned views `(n, ny, nx)`; the input is kept.

    Gold that comes into a view from beside the volume is replaced as well, by what the known beads look like.
    `radius_px` is the beads' own radius, `edge_px` that of the discs (None: as far as they are seen). `sign` is -1
    where gold is dark. The same seed gives the same result, whatever the number of threads.
    """
    out = stack.copy()
    xtilts = np.broadcast_to(np.asarray(xtilts_deg, np.float64), len(stack))
    places = [geometry.project(beads_xyz, tilt, xtilt) for tilt, xtilt in zip(tilts_deg, xtilts, strict=True)]
    corner = np.array([geometry.centre(stack.shape[2]), geometry.centre(stack.shape[1])])
    seen = [recentred(view, xy + corner, radius_px, sign) for view, xy in zip(stack, places, strict=True)]
    edge = edge_px or found_edge(stack, seen, radius_px)

    def clear(number: int) -> None:
        view, xy = out[number], seen[number]
        strays = stray_beads(view, xy, radius_px, sign)
        all_xy = np.concatenate([xy, recentred(view, strays, radius_px, sign)])
        fill_discs(view, all_xy, edge, _ring_px(radius_px), np.random.default_rng((seed, number)))

    jit.each(clear, range(len(out)))
    return Erased(out, edge, np.array(seen).reshape(len(stack), -1, 2) - corner)


def stray_beads(view: Image, known: Array, radius_px: float, sign: float) -> Array:
    """Array indices `(k, 2)` of gold in a view that is none of the `known` beads `(m, 2)` but stands out as they do.

    Beads beside the volume come into the field as it is tilted, and leave streaks in it.
    """
    known = known[~np.isnan(known[:, 0])]
    side = max(1, int(radius_px / 1.5))
    ny, nx = (n // side for n in view.shape)
    if len(known) < LEAST_KNOWN or min(ny, nx) < 8:
        return np.empty((0, 2))
    blocks = view[: ny * side, : nx * side].reshape(ny, side, nx, side).mean(axis=(1, 3), dtype=np.float32)
    sigma = 0.6 * radius_px / side
    response = sign * (gaussian_filter(blocks, sigma) - gaussian_filter(blocks, 1.6 * sigma))
    highest = maximum_filter(response, 3)
    x, y = np.clip(np.rint((known + 0.5) / side - 0.5).astype(int), 0, (nx - 1, ny - 1)).T
    limit = max(STRAY * np.median(highest[y, x]), SURE * _spread(response))
    found = np.argwhere((response == highest) & (response > limit))[:, ::-1]
    spots = (found + 0.5) * side - 0.5
    return np.asarray(spots[cKDTree(known).query(spots)[0] > 2 * radius_px] if len(spots) else spots, np.float64)


def recentred(view: Image, xy: Array, radius_px: float, sign: float) -> Array:
    """Array indices `(m, 2)` x, y of beads near `xy`: the centroid of what stands out; not a number outside."""
    moved = np.full(xy.shape, np.nan)
    for i, start in enumerate(xy):
        if not (
            np.abs(start - (np.array(view.shape[::-1]) - 1) / 2) < np.array(view.shape[::-1]) / 2 + radius_px
        ).all():
            continue
        moved[i] = _centroid(view, start, radius_px, sign)
    return moved


def _centroid(view: Image, start: Array, radius_px: float, sign: float) -> Array:
    xy = start
    for _ in range(3):
        patch, dx, dy = _window(view, xy, 2 * radius_px)
        distance = np.hypot(dx, dy)
        ring = patch[distance > 1.5 * radius_px]
        if not ring.size:
            return start
        weight = np.where(distance < radius_px, np.maximum(np.float32(sign) * (patch - np.median(ring)), 0), 0)
        if weight.sum() <= 0:
            return start
        xy = xy + np.array([(weight * dx).sum(), (weight * dy).sum()]) / weight.sum()
        if np.hypot(*(xy - start)) > MOST_MOVE * radius_px:
            return start
    return xy


def _window(image: NDArray[Any], xy: Array, reach: float) -> tuple[NDArray[Any], Array, Array]:
    """The part of an image within `reach` of a place, a view of it, and the distances along x `(mx,)`, y `(my, 1)`."""
    x, y = xy
    x0, y0 = (max(0, int(np.ceil(c - reach))) for c in (x, y))
    x1, y1 = (max(0, min(n, int(c + reach) + 1)) for c, n in ((x, image.shape[1]), (y, image.shape[0])))
    return image[y0:y1, x0:x1], np.arange(x0, max(x0, x1)) - x, (np.arange(y0, max(y0, y1)) - y)[:, None]


def found_edge(stack: Image, seen: Sequence[Array], radius_px: float) -> float:
    """Radius in pixels beyond which the mean profile of all beads in all views is lost in a volume's noise."""
    reach = WIDEST * radius_px + 2 * _ring_px(radius_px)
    bins = int(reach * BINS_PER_PX) + 1
    sums, counts, noise = np.zeros(bins), np.zeros(bins), []
    for view, places in zip(stack, seen, strict=True):
        places = places[~np.isnan(places[:, 0])]
        for i, xy in enumerate(places):
            patch, dx, dy = _window(view, xy, reach)
            others = np.delete(places, i, axis=0)
            patch, distance = _alone(patch, dx, dy, others - xy, OTHERS * radius_px)
            around = patch[(distance > (WIDEST - 1) * radius_px) & (distance < WIDEST * radius_px)]
            if around.size < LEAST_FOR_PLANE or _spread(around) == 0:
                continue
            noise.append(_spread(around))
            here = np.minimum(distance * BINS_PER_PX, bins - 1).astype(int)
            sums += np.bincount(here, np.clip((patch - np.median(around)) / noise[-1], -MOST_SIGMAS, MOST_SIGMAS), bins)
            counts += np.bincount(here, minlength=bins)
    step = np.abs(_steps(sums, counts, round(BINS_PER_PX * _ring_px(radius_px))))
    limit = np.maximum(SHARE_OF_NOISE / np.sqrt(len(stack)), SIGNIFICANT / np.sqrt(np.maximum(counts, 1)))
    above = np.flatnonzero((step > limit)[:-1])
    above = above[above < WIDEST * radius_px * BINS_PER_PX]
    outermost = (above[-1] + 1) / BINS_PER_PX if len(above) else 0.0
    return float(np.clip(outermost + 0.5, radius_px + 1, WIDEST * radius_px))


def _steps(sums: Array, counts: Array, ring: int) -> Array:
    """Means of bins less those of the ring of bins that follows, or less what this and the next ring lead to.

    A wide halo, which a ring or its slope takes up, is no edge.
    """
    total, number = (np.concatenate([[0.0], np.cumsum(part)]) for part in (sums, counts))
    first = np.minimum(np.arange(len(sums)) + 1, len(sums) - 1)
    last = np.minimum(first + ring, len(sums))
    end = np.minimum(last + ring, len(sums))
    here = sums / np.maximum(counts, 1)
    near = (total[last] - total[first]) / np.maximum(number[last] - number[first], 1)
    far = (total[end] - total[last]) / np.maximum(number[end] - number[last], 1)
    step, sloped = here - near, here - near - np.where(number[end] > number[last], near - far, 0) / 2
    # The smaller of both: what goes on down beyond the ring as it did before is the slope of a halo.
    return np.where(step * sloped > 0, np.sign(step) * np.minimum(np.abs(step), np.abs(sloped)), 0)


def _ring_px(radius_px: float) -> float:
    """Width of the ring that a disc's level is taken from."""
    return max(LEAST_RING_PX, RING_OF_RADIUS * radius_px)


def _alone(patch: NDArray[Any], dx: Array, dy: Array, others: Array, apart: float) -> tuple[Array, Array]:
    """Values of a patch that are not within `apart` of other beads `(m, 2)`, and their distances from its middle."""
    near = others[np.abs(others).max(axis=1) < np.abs(dx).max(initial=0) + np.abs(dy).max(initial=0) + apart]
    free = np.ones(patch.shape, bool)
    for x, y in near:
        free &= np.hypot(dx - x, dy - y) > apart
    return patch[free], np.hypot(dx, dy)[free]


def _spread(values: NDArray[Any]) -> float:
    """Standard deviation by the quartiles: a bead next door does not count."""
    last = values.size - 1
    at = [(int(share * last), share * last % 1) for share in (0.25, 0.75)]
    needed = [min(i + step, last) for i, _ in at for step in (0, 1)]
    ordered = np.partition(values, needed, axis=None)  # np.percentile takes five times as long
    low, high = ((1 - part) * float(ordered[i]) + part * float(ordered[min(i + 1, last)]) for i, part in at)
    return (high - low) / 1.349


def fill_discs(view: Image, xy: Array, edge_px: float, ring_px: float, rng: np.random.Generator) -> None:
    """Replace discs about array indices `(m, 2)` in place; a row that is not a number is left out."""
    xy = xy[~np.isnan(xy[:, 0])]
    gold = np.zeros(view.shape, bool)
    for place in xy:
        part, dx, dy = _window(gold, place, edge_px)
        part |= np.hypot(dx, dy) <= edge_px
    before = view.copy()
    for place in xy:
        _fill_disc(view, before, gold, place, edge_px, ring_px, rng)


def _fill_disc(
    view: Image, before: Image, gold: Mask, xy: Array, edge: float, ring: float, rng: np.random.Generator
) -> None:
    """One disc: the level that the ring gives, and grain of a place nearby."""
    target, dx, dy = _window(view, xy, edge)
    inside = np.hypot(dx, dy) <= edge
    if not inside.any():
        return
    around, ax, ay = _window(before, xy, edge + ring)
    beyond = np.hypot(ax, ay) > edge
    free = beyond & ~_window(gold, xy, edge + ring)[0]
    spread = _spread(around[free]) if free.sum() >= LEAST_FOR_PLANE else 0.0
    if free.sum() >= max(LEAST_FOR_PLANE, LEAST_FREE * beyond.sum()):
        plane, halo = _plane(around, ax, ay, free, edge)
        spread = _spread((around - _at(plane, ax, ay) - halo * (np.hypot(ax, ay) - edge))[free])
        level = _at(plane, dx, dy)
    else:
        level = _between(before, gold, xy, edge, ring)
    grain = _grain(before, gold, target.shape, xy, edge, LEAST_GRAIN * spread, rng)
    if grain is None:
        grain = np.asarray(rng.normal(0, spread, target.shape), np.float64)
    target[inside] = (level + grain)[inside]


def _between(view: Image, gold: Mask, xy: Array, edge: float, ring: float) -> Array:
    """The level in the window of a disc in a crowd: means of what is free about each pixel, the nearest first.

    Normalised convolution (Knutsson and Westin 1993, CVPR, 515) by ever narrower Gaussians.
    """
    reach = 4 * edge + ring
    patch, dx, dy = _window(view, xy, reach)
    free = (~_window(gold, xy, reach)[0]).astype(np.float64)
    level = np.full(patch.shape, _level(view, gold))
    for sigma in (2 * edge, edge, ring):
        share, seen = (gaussian_filter(part, sigma, mode="nearest", truncate=NEAR) for part in (free, free * patch))
        level = (seen + FAINT * level) / (share + FAINT)
    inside = (np.abs(dy) <= edge) & (np.abs(dx) <= edge)
    rows, columns = inside.any(axis=1), inside.any(axis=0)
    return np.asarray(level[rows][:, columns])


def _at(plane: Array, dx: Array, dy: Array) -> Array:
    return np.asarray(plane[0] + plane[1] * dx + plane[2] * dy)


def _level(view: Image, gold: Mask) -> float:
    """Of a view whose surroundings of a bead hold no free pixel; some of its pixels tell it."""
    view, gold = view[::SPARSE, ::SPARSE], gold[::SPARSE, ::SPARSE]
    return float(np.median(view[~gold])) if not gold.all() else float(np.median(view))


def _plane(patch: NDArray[Any], dx: Array, dy: Array, free: Mask, edge: float) -> tuple[Array, float]:
    """Mean and slopes `(3,)` of the free pixels, those that stand out by 3 standard deviations left out.

    Where they rise or fall outwards all round, as in a halo, the mean is the one at the edge; that slope is told, too.
    """
    x, y = (np.broadcast_to(d, patch.shape)[free] for d in (dx, dy))
    values, design = patch[free].astype(np.float64), np.column_stack([np.ones(len(x)), x, y])
    keep = np.abs(values - np.median(values)) <= 3 * max(_spread(values), 1e-12)
    if keep.sum() < LEAST_FOR_PLANE:
        return np.array([np.median(values), 0.0, 0.0]), 0.0
    design, values, outwards = design[keep], values[keep], np.hypot(x, y)[keep] - edge
    plain = np.linalg.lstsq(design, values, rcond=None)[0]
    rest, alone = values - design @ plain, outwards - design @ np.linalg.lstsq(design, outwards, rcond=None)[0]
    halo = float(rest @ alone / max(alone @ alone, 1e-12))
    error = float(np.std(rest) / np.sqrt(max(alone @ alone, 1e-12)))
    if abs(halo) < HALO * error:
        return np.asarray(plain, np.float64), 0.0
    return np.asarray(np.linalg.lstsq(design, values - halo * outwards, rcond=None)[0], np.float64), halo


def _grain(
    view: Image, gold: Mask, shape: tuple[int, ...], xy: Array, edge: float, least: float, rng: np.random.Generator
) -> Array | None:
    """Texture `(ny, nx)` without mean and slope of a place nearby that holds no gold; None if there is none."""
    size = np.array(shape)
    for attempt in range(TRIES):
        distance, angle = edge * (2 + 4 * rng.random() * (1 + attempt / 8)), 2 * np.pi * rng.random()
        y, x = np.rint(xy[::-1] + distance * np.array([np.sin(angle), np.cos(angle)]) - size / 2).astype(int)
        if x < 0 or y < 0 or x + size[1] > view.shape[1] or y + size[0] > view.shape[0]:
            continue
        if gold[y : y + size[0], x : x + size[1]].any():
            continue
        patch = view[y : y + size[0], x : x + size[1]].astype(np.float64)
        grain = _flattened(patch)
        if grain.std() >= least:
            return grain
    return None


def _flattened(patch: Array) -> Array:
    """Less its mean and its slopes."""
    y, x = (np.arange(n) - (n - 1) / 2 for n in patch.shape)
    flat = patch - patch.mean()
    across = flat.sum(axis=0) @ x / max(1e-12, (x**2).sum() * len(y))
    along = flat.sum(axis=1) @ y / max(1e-12, (y**2).sum() * len(x))
    return np.asarray(flat - across * x - along * y[:, None])
