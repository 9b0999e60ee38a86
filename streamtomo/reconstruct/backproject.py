"""Back-projection as shift-and-add: no gather, only loads that follow each other.

Along a line of constant z the position in a view at tilt t moves by cos t for each voxel. So each filtered row is
first sampled anew at steps of cos t: then a step along the line is a step in the row, and back-projecting is adding the
row to the line from an offset `X + Z tan t` on. `PHASES` versions of the row, each a fraction of a step further, take
the place of interpolation at that moment; the one good interpolation (Lanczos-3) is made when a row is sampled, once
for all lines.

Source of the geometry: `geometry.project`; xt = cos t (X + Z tan t).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.jit import kernel, parallel_kernel, prange

PHASES = 4
LOBES = 3
FRACTIONS = 256
"""The interpolation's weights are tabulated at this many fractions of a pixel."""
FINE = 24
ONE = 1 << FINE
HALF = 1 << (FINE - 9)
"""Half a step of the table, in parts of a pixel."""
EDGE = LOBES
"""Pixels repeated at both ends of a row, for the interpolation there."""
PAD = 2
"""Samples of a stretched row beyond what the outermost voxels need."""
TILE = 512
"""Voxels of a line that are worked on at a time: with 8 rows they stay in the first-level cache."""


def _lanczos_table() -> NDArray[np.float32]:
    """Weights `(FRACTIONS + 1, 2 * LOBES)` of the samples round a position, by its fraction; rows sum to 1."""
    fraction = np.arange(FRACTIONS + 1)[:, None] / FRACTIONS
    distance = fraction - np.arange(1 - LOBES, LOBES + 1)[None, :]
    weights = np.sinc(distance) * np.sinc(distance / LOBES)
    return np.ascontiguousarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


LANCZOS = _lanczos_table()


def row_length(nx: int, nz: int, tan: float) -> int:
    """Samples of a stretched row that serves `nx` x `nz` voxels."""
    return nx + int(np.ceil((nz - 1) * abs(tan))) + 2 * PAD + 2


def backproject(views: NDArray[np.float32], tilts_deg: Sequence[float], volume: NDArray[np.float32]) -> None:
    """Add filtered, weighted views `(n, ny, nx)` to `volume` `(ny, nz, nx)`, both float32 and contiguous.

    Views are aligned (tilt axis along y, through the middle of x); what they do not cover is zero.
    """
    terms = geometry.tilt_terms(np.asarray(tilts_deg, np.float64))
    _, nz, nx = volume.shape
    starts = np.empty(len(views), np.float64)
    offsets = np.empty((len(views), nz), np.int64)
    heights = np.arange(nz) - geometry.centre(nz)
    for n, tan in enumerate(terms.tan):
        starts[n] = geometry.centre(nx) + geometry.centre(nz) * abs(tan) + PAD
        offsets[n] = np.rint(PHASES * (starts[n] - geometry.centre(nx) + heights * tan))
    length = max(row_length(nx, nz, tan) for tan in terms.tan)
    cosines = np.ascontiguousarray(terms.cos, np.float64)
    _backproject(views, cosines, starts, offsets, np.int64(length), LANCZOS, volume)


@kernel
def _stretch(row: Any, cosine: Any, start: Any, table: Any, stretched: Any) -> None:
    """Sample a padded row `(nx + 2 * EDGE,)` at steps of `cosine`, into `stretched` `(PHASES, length)`; zero beyond it.

    Sample `k` of phase `p` lies at `(k + p / PHASES - start) * cosine` from the row's centre. Positions are counted in
    fixed point, `2^FINE` parts of a pixel, so that the loop has neither branches nor conversions.
    """
    nx = row.shape[0] - 2 * EDGE
    step = np.int64(np.rint(cosine * ONE))
    for phase in range(stretched.shape[0]):
        out = stretched[phase]
        origin = (phase / stretched.shape[0] - start) * cosine + (nx - 1) / 2 + EDGE
        first = np.int64(np.rint(origin * ONE))
        low = max(0, min(out.shape[0], -((first - EDGE * ONE) // step)))
        high = max(low, min(out.shape[0], ((nx - 1 + EDGE) * ONE - first) // step + 1))
        out[:low] = np.float32(0.0)
        out[high:] = np.float32(0.0)
        for k in range(low, high):
            at = first + k * step
            i = at >> FINE
            w = ((at & (ONE - 1)) + HALF) >> (FINE - 8)
            out[k] = (
                table[w, 0] * row[i - 2]
                + table[w, 1] * row[i - 1]
                + table[w, 2] * row[i]
                + table[w, 3] * row[i + 1]
                + table[w, 4] * row[i + 2]
                + table[w, 5] * row[i + 3]
            )


@kernel
def _add_eight(line: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> None:
    """Add eight rows to a line, all float32 of one length."""
    for x in range(line.shape[0]):
        line[x] += ((a[x] + b[x]) + (c[x] + d[x])) + ((e[x] + f[x]) + (g[x] + h[x]))


@kernel
def _add_one(line: Any, a: Any) -> None:
    for x in range(line.shape[0]):
        line[x] += a[x]


@parallel_kernel
def _backproject(views: Any, cosines: Any, starts: Any, offsets: Any, length: Any, table: Any, volume: Any) -> None:
    """`volume` `(ny, nz, nx)` += views `(n, ny, nx)`; one y at a time, so that a slice stays in the cache."""
    ny, nz, nx = volume.shape
    n = views.shape[0]
    for y in prange(ny):
        rows = np.empty((n, PHASES, length), np.float32)
        padded = np.empty(views.shape[2] + 2 * EDGE, np.float32)
        for i in range(n):
            padded[EDGE:-EDGE] = views[i, y]
            padded[:EDGE] = views[i, y, 0]
            padded[-EDGE:] = views[i, y, -1]
            _stretch(padded, cosines[i], starts[i], table, rows[i])
        for x0 in range(0, nx, TILE):
            x1 = min(nx, x0 + TILE)
            for z in range(nz):
                line = volume[y, z, x0:x1]
                i = 0
                while i + 8 <= n:
                    o = offsets[i : i + 8, z]
                    q, p = o // PHASES, o % PHASES
                    _add_eight(
                        line,
                        rows[i, p[0], q[0] + x0 : q[0] + x1],
                        rows[i + 1, p[1], q[1] + x0 : q[1] + x1],
                        rows[i + 2, p[2], q[2] + x0 : q[2] + x1],
                        rows[i + 3, p[3], q[3] + x0 : q[3] + x1],
                        rows[i + 4, p[4], q[4] + x0 : q[4] + x1],
                        rows[i + 5, p[5], q[5] + x0 : q[5] + x1],
                        rows[i + 6, p[6], q[6] + x0 : q[6] + x1],
                        rows[i + 7, p[7], q[7] + x0 : q[7] + x1],
                    )
                    i += 8
                while i < n:
                    start = offsets[i, z] // PHASES
                    _add_one(line, rows[i, offsets[i, z] % PHASES, start + x0 : start + x1])
                    i += 1
