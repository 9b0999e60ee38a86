"""Rows and columns of the camera that stand out in a single image.

Told from means of 16 pixels along the line: such a strip stands clear by so many standard deviations of its noise of
all but one of six strips beside it, two to four pixels away. A line is a run of strips that stand clear the same way:
the run with the greatest sum of margins (each cut, so that no single one decides). Where there is no line the margins
are negative on average, and long runs of great sums do not come about. Things of the specimen are hardly ever straight
to a pixel, three pixels wide at most, along the sensor, and as long as that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.correct.noise import BLOCK, Map, NoiseModel, Real, Statistics, local_variance
from streamtomo.correct.ring import inside, second
from streamtomo.jit import kernel, parallel_kernel, prange

SCORE = 24.0
"""Sum of margins of a line; by chance one of some ten million strips begins a run of such a sum in 100 images."""
MOST = 3.0
"""A strip counts for so many standard deviations at most."""
SHORTEST = 0.25
"""Length of a line as a fraction of the image's side, and in strips."""
STRIPS = 8
WHOLE = 0.75
"""What is longer than this fraction of the side is taken for a line from edge to edge."""
CHUNK = 512


def mark(mask: NDArray[np.uint8], statistics: Statistics, model: NoiseModel, kind: int) -> None:
    """Set the pixels of outlying columns and rows to `kind` in a mask `(ny, nx)`."""
    variance = model.variance(statistics.mean) if model.gain > 0 else local_variance(statistics, model)
    noise = np.sqrt(np.maximum(variance, Real(1e-30)) / BLOCK)
    for x, run in find(statistics.columns, noise):
        mask[_pixels(run, len(statistics.columns), mask.shape[0]), x] = kind
    for y, run in find(statistics.rows, np.ascontiguousarray(noise.T)):
        mask[y, _pixels(run, len(statistics.rows), mask.shape[1])] = kind


def find(strips: Map, noise: Map) -> list[tuple[int, tuple[int, int]]]:
    """Lines that stand out in means of strips `(strips along the line, lines)`: index, first and last strip + 1.

    `noise` is the standard deviation of a strip's mean in each block, `(strips along the line, blocks)`.
    """
    count, n = strips.shape
    if count < STRIPS or n < 4 * BLOCK:
        return []
    scores, runs = np.zeros((2, n), Real), np.zeros((2, 2, n), np.int32)
    _best_runs(strips, noise, scores, runs)
    long = runs[:, 1] - runs[:, 0] >= max(STRIPS, SHORTEST * count)
    found = np.argwhere((scores > SCORE) & long)
    return [(int(x), (int(runs[sign, 0, x]), int(runs[sign, 1, x]))) for sign, x in found]


def _pixels(run: tuple[int, int], strips: int, side: int) -> slice:
    """Pixels along the line."""
    start, stop = run
    if stop - start > WHOLE * strips:
        return slice(0, side)
    return slice(start * BLOCK, side if stop == strips else stop * BLOCK)


@parallel_kernel
def _best_runs(strips: Any, noise: Any, scores: Any, runs: Any) -> Any:
    """Fill scores `(2, lines)` and first and last strip + 1 `(2, 2, lines)` of each line's best bright and dark run."""
    count, n = strips.shape
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        first, last = chunk * CHUNK, min(n, (chunk + 1) * CHUNK)
        wide = last - first
        bright, dark = np.empty(wide, dtype=np.float32), np.empty(wide, dtype=np.float32)
        padded = np.empty(wide + 8, dtype=np.float32)
        totals, begun = np.zeros((2, wide), dtype=np.float32), np.zeros((2, wide), dtype=np.int32)
        for row in range(count):
            for i in range(4):
                padded[i] = strips[row, inside(first, i - 4, n)]
                padded[4 + wide + i] = strips[row, inside(last - 1, i + 1, n)]
            padded[4 : 4 + wide] = strips[row, first:last]
            _margins(padded, noise[row], first, bright, dark)
            at = np.int32(row)
            for sign in range(2):
                start, stop = runs[sign, 0, first:last], runs[sign, 1, first:last]
                margin = bright if sign == 0 else dark
                _carry_on(margin, at, totals[sign], begun[sign], scores[sign, first:last], start, stop)
    return n


@kernel
def _margins(strip: Any, noise: Any, first: Any, bright: Any, dark: Any) -> Any:
    """Fill by how much strips stand clear of the six beside them; `strip` has four more at each end."""
    n = bright.shape[0]
    a, b, c, d = strip[0:n], strip[1 : n + 1], strip[2 : n + 2], strip[4 : n + 4]
    e, f, g = strip[6 : n + 6], strip[7 : n + 7], strip[8 : n + 8]
    for x in range(n):
        low, low2 = min(a[x], b[x]), max(a[x], b[x])
        high, high2 = low2, low
        low, low2, high, high2 = second(low, low2, high, high2, c[x])
        low, low2, high, high2 = second(low, low2, high, high2, e[x])
        low, low2, high, high2 = second(low, low2, high, high2, f[x])
        low, low2, high, high2 = second(low, low2, high, high2, g[x])
        bright[x], dark[x] = d[x] - high2, low2 - d[x]
    most, last = np.float32(MOST), noise.shape[0] - 1
    for start in range(0, n, BLOCK):
        one = np.float32(1.0) / noise[min((first + start) // BLOCK, last)]
        for x in range(start, min(n, start + BLOCK)):
            bright[x] = max(-most, min(most, bright[x] * one))
            dark[x] = max(-most, min(most, dark[x] * one))


@kernel
def _carry_on(margin: Any, row: Any, total: Any, begun: Any, score: Any, start: Any, stop: Any) -> Any:
    """Add a row of margins to the runs that go on, begin new ones, and keep the best; without branches."""
    nothing, after = np.float32(0.0), row + np.int32(1)
    for x in range(margin.shape[0]):
        before = total[x]
        since = begun[x] if before > nothing else row
        now = max(before, nothing) + margin[x]
        best = score[x]
        better = now > best
        total[x], begun[x] = now, since
        score[x] = now if better else best
        start[x] = since if better else start[x]
        stop[x] = after if better else stop[x]
