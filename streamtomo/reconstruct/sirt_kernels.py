"""All iterations of SIRT for one slice after the other: a slice and its views stay in the second-level cache.

Views are sampled at the voxels' own steps once, before the first iteration (`stretch`, one phase). Projecting a slice
is then adding its lines at whole samples, in PHASES rows a fraction of a sample apart, which short filters with
constant weights bring together; back-projecting is the transpose of that. Nothing is interpolated at a position of
its own.
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
def _copy(row: Any, to: Any) -> None:
    """In a loop: numba takes seconds to compile an assignment of arrays."""
    for k in range(to.shape[0]):
        to[k] = row[k]


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
def _filtered_add(to: Any, w: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> None:
    w0, w1, w2, w3, w4, w5 = w[0], w[1], w[2], w[3], w[4], w[5]
    for k in range(to.shape[0]):
        to[k] += w0 * a[k] + w1 * b[k] + w2 * c[k] + w3 * d[k] + w4 * e[k] + w5 * f[k]


@kernel
def _filtered_int16(to: Any, w: Any, limit: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> None:
    """Rounded, never beyond `limit`."""
    w0, w1, w2, w3, w4, w5 = w[0], w[1], w[2], w[3], w[4], w[5]
    for k in range(to.shape[0]):
        value = w0 * a[k] + w1 * b[k] + w2 * c[k] + w3 * d[k] + w4 * e[k] + w5 * f[k]
        to[k] = np.int16(np.rint(min(max(value, -limit), limit)))


@kernel
def _bring_together(rows: Any, weights: Any, low: Any, high: Any, out: Any) -> None:
    """Samples `low` to `high` of the sum of `rows` `(PHASES, length + 2 * TAPS)`, each moved back by its fraction."""
    n, first = high - low, TAPS + low + LOBES - 1
    to = out[low:high]
    _copy(rows[0, TAPS + low : TAPS + high], to)
    for phase in range(1, PHASES):
        row = rows[phase]
        _filtered_add(
            to, weights[phase],
            row[first : first + n], row[first - 1 : first - 1 + n], row[first - 2 : first - 2 + n],
            row[first - 3 : first - 3 + n], row[first - 4 : first - 4 + n], row[first - 5 : first - 5 + n],
        )  # fmt: skip


@kernel
def _spread_out(row: Any, weights: Any, limit: Any, low: Any, high: Any, out: Any) -> None:
    """Transpose of it: samples `low` to `high` of `out` `(PHASES, length)` int16 from `row` `(length + 2 * TAPS,)`."""
    n, first = high - low, TAPS + low - LOBES + 1
    for phase in range(PHASES):
        _filtered_int16(
            out[phase, low:high], weights[phase], limit,
            row[first : first + n], row[first + 1 : first + 1 + n], row[first + 2 : first + 2 + n],
            row[first + 3 : first + 3 + n], row[first + 4 : first + 4 + n], row[first + 5 : first + 5 + n],
        )  # fmt: skip


@kernel
def _difference(view: Any, seen: Any, by_path: Any, counts: Any, out: Any) -> Any:
    """`counts * by_path * (view - seen)` into `out`; the sum of squares of what rays that count leave over."""
    total = np.float32(0.0)
    for k in range(out.shape[0]):
        left = view[k] - seen[k] if by_path[k] > np.float32(0.0) else np.float32(0.0)
        total += left * left
        out[k] = counts * by_path[k] * left
    return total


@kernel
def _squares(row: Any) -> Any:
    total = np.float32(0.0)
    for k in range(row.shape[0]):
        total += row[k] * row[k]
    return total


@kernel
def _project_view(lines: Any, begin: Any, end: Any, where: Any, z: Any, at: Any, rows: Any) -> None:
    """The lines of a slice into `rows` `(PHASES, length + 2 * TAPS)` of a view, whose groups are `begin` to `end`."""
    rows[:] = np.float32(0.0)
    for g in range(begin, end):
        low, high = TAPS + where[g, 1], TAPS + where[g, 2]
        _collect_group(lines, z[g], at[g], rows[where[g, 0], low:high])


@kernel
def _update(sums: Any, gain: Any, scale: Any, low: Any, line: Any) -> None:
    for x in range(line.shape[0]):
        line[x] = max(line[x] + scale * gain[x] * np.float32(sums[x]), low)


@kernel
def _back_project(spread: Any, columns: Any, none: Any, gain: Any, scale: Any, not_below: Any, lines: Any) -> None:
    """All views' rows `(n, 1, PHASES, length)` int16 into the lines of a slice, times `scale * gain` `(nz, nx)`."""
    nz, nx = gain.shape
    sums = np.empty(nx, np.int16)
    for z in range(nz):
        _sum_of_views(spread, columns[z], none, 0, nx, sums)
        _update(sums, gain[z], scale, not_below, lines[z, REACH : REACH + nx])


@kernel
def _first_size(views: Any, by_path: Any, y: Any) -> Any:
    """Root mean square of `by_path * views` of a slice."""
    n, length = by_path.shape
    nothing, weighed, total = np.zeros(length, np.float32), np.empty(length, np.float32), 0.0
    for i in range(n):
        _difference(views[i, y, 0], nothing, by_path[i], np.float32(1.0), weighed)
        total += _squares(weighed)
    return np.sqrt(total / (n * length))


@kernel
def _iterate_slice(
    views: Any, y: Any, columns: Any, ends: Any, first: Any, where: Any, zs: Any, at: Any, weights: Any, by_path: Any,
    gain: Any, not_below: Any, sd: Any, limit: Any, voxels: Any, left: Any,
) -> None:  # fmt: skip
    """One slice `(nz, nx)` of `iterate_slices`, with its `gain` `(nz, nx)` and its `left` `(iterations, n)`."""
    n, length = by_path.shape
    nz, nx = voxels.shape
    lines = np.zeros((nz + 1, nx + 2 * REACH), np.float32)
    for z in range(nz):
        _copy(voxels[z], lines[z, REACH : REACH + nx])
    spread, none = np.zeros((n, 1, PHASES, length), np.int16), np.zeros(n, np.int64)
    apart, seen = np.zeros((PHASES, length + 2 * TAPS), np.float32), np.zeros(length, np.float32)
    differs = np.zeros(length + 2 * TAPS, np.float32)
    size = _first_size(views, by_path, y)
    for iteration in range(left.shape[0]):
        counts = np.float32(sd / size if size > 0.0 else 0.0)
        total = 0.0
        for i in range(n):
            low, high = ends[i, 0], ends[i, 1]
            _project_view(lines, first[i], first[i + 1], where, zs, at, apart)
            _bring_together(apart, weights, low, high, seen)
            differs[:] = np.float32(0.0)
            inner = differs[TAPS + low : TAPS + high]
            left[iteration, i] = _difference(
                views[i, y, 0, low:high], seen[low:high], by_path[i, low:high], counts, inner
            )
            total += _squares(inner)
            _spread_out(differs, weights, limit, low, high, spread[i, 0])
        _back_project(spread, columns, none, gain, np.float32(size / sd), not_below, lines)
        size = size * np.sqrt(total / (n * length)) / sd
    for z in range(nz):
        _copy(lines[z, REACH : REACH + nx], voxels[z])


@parallel_kernel
def iterate_slices(
    views: Any, columns: Any, ends: Any, first: Any, where: Any, zs: Any, at: Any, weights: Any, by_path: Any,
    gain: Any, not_below: Any, sd: Any, limit: Any, voxels: Any, left: Any,
) -> None:  # fmt: skip
    """Iterate each slice of `voxels` `(rows, nz, nx)` from what it is.

    `views` `(n, rows, 1, length)`: stretched rows, times their step; `columns` `(nz, n)` as in `Tables`; `ends`
    `(n, 2)`: samples of a view that count; groups of eight lines: those of view i are `first[i]` to the next, `where`
    `(groups, 3)` has phase and ends in its row, `zs` and `at` `(groups, 8)` which lines, and from which sample on;
    `weights` is BETWEEN; `by_path` `(n, length)`; `gain` `(rows or 1, nz, nx)`: what a voxel's sum is multiplied by.
    What is left of the views is summed in int16, as `sd` counts for the root mean square of the iteration before, and
    never more than `limit`: what is cut or rounded is still left for the next one. `left` `(rows, iterations, n)`
    takes each view's sum of squares before each iteration.
    """
    for y in prange(voxels.shape[0]):
        _iterate_slice(
            views, y, columns, ends, first, where, zs, at, weights, by_path, gain[y % gain.shape[0]], not_below, sd,
            limit, voxels[y], left[y],
        )  # fmt: skip
