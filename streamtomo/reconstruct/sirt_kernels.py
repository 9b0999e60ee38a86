"""All iterations of SIRT for one slice after the other: a slice and its views stay in the second-level cache.

Views are sampled at the voxels' own steps once, before the first iteration (`stretch`, one phase): projecting a slice
is then adding its lines at whole samples, in PHASES rows a fraction of a sample apart, which short filters with constant
weights bring together. Back-projecting is the exact transpose of that, so that nothing is ever interpolated at a
position of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.jit import kernel, parallel_kernel, prange
from streamtomo.reconstruct.backproject import _sum_line as _sum_of_views
from streamtomo.reconstruct.project import REACH, _add_eight
from streamtomo.reconstruct.rays import PHASES
from streamtomo.reconstruct.stretch import FRACTIONS, LANCZOS, LOBES

TAPS = 2 * LOBES
BETWEEN: NDArray[np.float32] = np.ascontiguousarray(LANCZOS[np.arange(PHASES) * (FRACTIONS // PHASES)])
"""Weights `(PHASES, TAPS)` of the samples round a position that is `phase / PHASES` of a step beyond one."""


@kernel
def _collect_group(lines: Any, z: Any, at: Any, row: Any) -> None:
    """Eight lines `z` of a slice `(nz + 1, nx + 2 * REACH)`, from their sample `at` on, added to a row."""
    n = row.shape[0]
    a, b, c, d = lines[z[0]], lines[z[1]], lines[z[2]], lines[z[3]]
    e, f, g, h = lines[z[4]], lines[z[5]], lines[z[6]], lines[z[7]]
    _add_eight(
        row,
        a[at[0] : at[0] + n], b[at[1] : at[1] + n], c[at[2] : at[2] + n], d[at[3] : at[3] + n],
        e[at[4] : at[4] + n], f[at[5] : at[5] + n], g[at[6] : at[6] + n], h[at[7] : at[7] + n],
    )  # fmt: skip


@kernel
def _bring_together(rows: Any, weights: Any, low: Any, high: Any, out: Any) -> None:
    """Samples `low` to `high` of the sum of `rows` `(PHASES, length + 2 * TAPS)`, each filtered back by its fraction."""
    n = high - low
    for k in range(n):
        out[low + k] = rows[0, TAPS + low + k]
    to = out[low:high]
    for phase in range(1, PHASES):
        w, row = weights[phase], rows[phase]
        w0, w1, w2, w3, w4, w5 = w[0], w[1], w[2], w[3], w[4], w[5]
        first = TAPS + low + LOBES - 1
        a, b, c = row[first : first + n], row[first - 1 : first - 1 + n], row[first - 2 : first - 2 + n]
        d, e, f = row[first - 3 : first - 3 + n], row[first - 4 : first - 4 + n], row[first - 5 : first - 5 + n]
        for k in range(n):
            to[k] += w0 * a[k] + w1 * b[k] + w2 * c[k] + w3 * d[k] + w4 * e[k] + w5 * f[k]


@kernel
def _spread_out(row: Any, weights: Any, low: Any, high: Any, out: Any) -> None:
    """Transpose of it: samples `low` to `high` of `out` `(PHASES, length)` from `row` `(length + 2 * TAPS,)`."""
    n = high - low
    first = TAPS + low - LOBES + 1
    a, b, c = row[first : first + n], row[first + 1 : first + 1 + n], row[first + 2 : first + 2 + n]
    d, e, f = row[first + 3 : first + 3 + n], row[first + 4 : first + 4 + n], row[first + 5 : first + 5 + n]
    for k in range(n):
        out[0, low + k] = c[k]
    for phase in range(1, PHASES):
        w, to = weights[phase], out[phase, low:high]
        w0, w1, w2, w3, w4, w5 = w[0], w[1], w[2], w[3], w[4], w[5]
        for k in range(n):
            to[k] = w0 * a[k] + w1 * b[k] + w2 * c[k] + w3 * d[k] + w4 * e[k] + w5 * f[k]


@kernel
def _difference(view: Any, seen: Any, by_path: Any, low: Any, high: Any, out: Any) -> Any:
    """`by_path * (view - seen)` into `out` from TAPS on; the sum of squares of what rays that count leave over."""
    n = high - low
    v, s, w, to = view[low:high], seen[low:high], by_path[low:high], out[TAPS + low : TAPS + high]
    total = np.float32(0.0)
    for k in range(n):
        left = np.float32(0.0) if w[k] == np.float32(0.0) else v[k] - s[k]
        total += left * left
        to[k] = w[k] * left
    return total


@kernel
def _project_view(lines: Any, begin: Any, end: Any, where: Any, z: Any, at: Any, rows: Any) -> None:
    """The lines of a slice into `rows` `(PHASES, length + 2 * TAPS)` of a view, whose groups are `begin` to `end`."""
    rows[:] = np.float32(0.0)
    for g in range(begin, end):
        low, high = TAPS + where[g, 1], TAPS + where[g, 2]
        _collect_group(lines, z[g], at[g], rows[where[g, 0], low:high])


@kernel
def _update(sums: Any, gain: Any, low: Any, line: Any) -> None:
    for x in range(line.shape[0]):
        line[x] = max(line[x] + gain[x] * sums[x], low)


@kernel
def _back_project(spread: Any, columns: Any, none: Any, gain: Any, not_below: Any, lines: Any) -> None:
    """All views' rows `(n, 1, PHASES, length)` into the lines of a slice, times `gain` `(nz, nx)`."""
    nz, nx = gain.shape
    sums = np.empty(nx, np.float32)
    for z in range(nz):
        _sum_of_views(spread, columns[z], none, 0, nx, sums)
        _update(sums, gain[z], not_below, lines[z, REACH : REACH + nx])


@parallel_kernel
def iterate_slices(
    views: Any, columns: Any, ends: Any, first: Any, where: Any, zs: Any, at: Any, weights: Any, by_path: Any,
    gain: Any, not_below: Any, iterations: Any, voxels: Any, left: Any,
) -> None:  # fmt: skip
    """Iterate each slice of `voxels` `(rows, nz, nx)` from what it is.

    `views` `(n, rows, 1, length)`: stretched rows, times their step; `columns` `(nz, n)` as in `Tables`; groups of eight
    lines: those of view i are `first[i]` to the next, `where` `(groups, 3)` has phase and ends in its row, `zs` and
    `at` `(groups, 8)` which lines, and from which sample on; `ends` `(n, 2)`: samples of a view that count; `weights`
    is BETWEEN; `by_path` `(n, length)`; `gain` `(rows or 1, nz, nx)`: what a voxel's sum is multiplied by. `left`
    `(rows, iterations, n)` takes each view's sum of squares before each iteration.
    """
    n, rows, _, length = views.shape
    nz, nx = voxels.shape[1], voxels.shape[2]
    for y in prange(rows):
        lines = np.zeros((nz + 1, nx + 2 * REACH), np.float32)
        lines[:nz, REACH : REACH + nx] = voxels[y]
        spread = np.zeros((n, 1, PHASES, length), np.float32)
        apart, seen = np.zeros((PHASES, length + 2 * TAPS), np.float32), np.zeros(length, np.float32)
        differs, none = np.zeros(length + 2 * TAPS, np.float32), np.zeros(n, np.int64)
        for iteration in range(iterations):
            for i in range(n):
                low, high = ends[i, 0], ends[i, 1]
                _project_view(lines, first[i], first[i + 1], where, zs, at, apart)
                _bring_together(apart, weights, low, high, seen)
                differs[:] = np.float32(0.0)
                left[y, iteration, i] = _difference(views[i, y, 0], seen, by_path[i], low, high, differs)
                _spread_out(differs, weights, low, high, spread[i, 0])
            _back_project(spread, columns, none, gain[y % gain.shape[0]], not_below, lines)
        voxels[y] = lines[:nz, REACH : REACH + nx]
