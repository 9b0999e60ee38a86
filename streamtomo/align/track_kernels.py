"""Kernels of the search for beads: how well candidates support points of the specimen."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtomo.jit import kernel, parallel_kernel, prange

FAMILIAR = 0.5
"""A candidate weaker than this share of another, or the other way round, is another thing."""


@parallel_kernel
def support(
    seeds: Any,
    heights: Any,
    terms: Any,
    shift: Any,
    first: Any,
    xy: Any,
    strength: Any,
    bounds: Any,
    out_support: Any,
    out_count: Any,
    out_expected: Any,
) -> None:
    """For each seed and height: sum of `1 - (d / gate)^2` over the views, their number, and that number by chance.

    `seeds` `(n, 5)`: aligned x, y, cosine and sine of the tilt, strength. `terms` `(views, 5)`: cosine and sine of tilt
    and axis, magnification; `shift` `(views, 2)`. Candidates of view `i` are rows `first[i]` to `first[i + 1]` of `xy`
    and `strength`. `bounds`: width, height, gate. All float64, `first` int64; results `(n, heights)`.
    """
    width, height, gate = bounds[0], bounds[1], bounds[2]
    by_area = np.pi * gate * gate / (width * height)
    for s in prange(seeds.shape[0]):
        for h in range(heights.shape[0]):
            z, y = heights[h], seeds[s, 1]
            x = (seeds[s, 0] - z * seeds[s, 3]) / seeds[s, 2]
            total, number, chance = 0.0, 0.0, 0.0
            for i in range(terms.shape[0]):
                across = x * terms[i, 0] + z * terms[i, 1]
                u = terms[i, 4] * (terms[i, 2] * across - terms[i, 3] * y) + shift[i, 0]
                v = terms[i, 4] * (terms[i, 3] * across + terms[i, 2] * y) + shift[i, 1]
                if not (abs(u) < width / 2 and abs(v) < height / 2):
                    continue
                nearest, familiar = gate * gate, 0.0
                for k in range(first[i], first[i + 1]):
                    if strength[k] < FAMILIAR * seeds[s, 4] or FAMILIAR * strength[k] > seeds[s, 4]:
                        continue
                    familiar += 1.0
                    distance = (xy[k, 0] - u) ** 2 + (xy[k, 1] - v) ** 2
                    if distance < nearest:
                        nearest = distance
                chance += min(1.0, familiar * by_area)
                if nearest < gate * gate:
                    total += 1.0 - nearest / (gate * gate)
                    number += 1.0
            out_support[s, h], out_count[s, h], out_expected[s, h] = total, number, chance


@kernel
def nearest(predicted: Any, first: Any, xy: Any, gate: Any, out: Any) -> None:
    """Which candidate of each view is nearest to each point and within the gate, -1 where none is.

    `predicted` `(points, views, 2)`, `first` and `xy` as in `support`; `out` int64 `(points, views)`.
    """
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[j, i], least = -1, gate * gate
            for k in range(first[i], first[i + 1]):
                distance = (xy[k, 0] - predicted[j, i, 0]) ** 2 + (xy[k, 1] - predicted[j, i, 1]) ** 2
                if distance < least or (distance == least and out[j, i] < 0):
                    out[j, i], least = k - first[i], distance


@kernel
def density(offsets: Any, at: Any, radius: Any) -> Any:
    """Sum of `1 - (d / radius)^2` of the offsets `(n, 2)` around one of them, float64."""
    total = 0.0
    for k in range(offsets.shape[0]):
        share = ((offsets[k, 0] - at[0]) ** 2 + (offsets[k, 1] - at[1]) ** 2) / (radius * radius)
        if share < 1.0:
            total += 1.0 - share
    return total
