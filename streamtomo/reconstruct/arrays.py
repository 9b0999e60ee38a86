"""The same reconstruction in terms of whole arrays, for a graphics device.

`xp` is a library with numpy's interface: cupy on a device, numpy in the tests. Phases, tables and weights are those of
the kernels, so that results are equal but for the order in which float32 numbers are added up. Arrays come from and go
to the processor's memory; what is in between stays on the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.reconstruct.rays import EDGE, FINE, PHASES, Rays, Tables, tables
from streamtomo.reconstruct.stretch import COARSE, HALF, LANCZOS, LOBES, ONE

if TYPE_CHECKING:
    from streamtomo.reconstruct.backproject import Scaled
    from streamtomo.reconstruct.filters import RowFilter
    from streamtomo.reconstruct.sirt import Solver

Image = NDArray[np.float32]
TAPS = 2 * LOBES


def host(array: Any) -> NDArray[Any]:
    """An array in the processor's memory."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


def stretching(xp: Any, first: int, step: int, length: int, image_nx: int, phases: int = PHASES) -> Any:
    """The matrix `(image_nx, phases * length)` by which a row of pixels is sampled anew, as `stretch` does."""
    sample = xp.arange(phases * length)
    phase, k = sample // length, sample % length
    at = first + (PHASES * k + phase) * step
    inside = (at >= EDGE * ONE) & (at <= (image_nx - 1 + EDGE) * ONE)
    fraction = ((at & (ONE - 1)) + HALF) >> COARSE
    weights = xp.where(inside[:, None], xp.asarray(LANCZOS)[fraction], xp.float32(0.0))
    matrix = xp.zeros((image_nx, phases * length), xp.float32)
    for tap in range(TAPS):
        pixel = xp.clip((at >> FINE) + (tap - LOBES + 1 - EDGE), 0, image_nx - 1)
        matrix[pixel, sample] += weights[:, tap]
    return matrix


def backproject(
    xp: Any, images: Image, rays: Rays, gains: NDArray[np.float32], out: NDArray[Any], scaled: Scaled
) -> None:
    """As `backproject.backproject` in float32 sums, without adding to what is there."""
    ny, nz, nx = out.shape
    table = tables(rays, nz, nx, images.shape[2])
    sums = xp.zeros((ny, nz, nx), xp.float32)
    for i, gain in enumerate(gains):
        matrix = stretching(xp, int(table.first[i]), int(table.step[i]), table.length, images.shape[2])
        sums += _seen_by(xp, (xp.asarray(images[i]) * gain) @ matrix, table, i, nx, ny)
    if scaled.gain is not None:
        sums *= xp.asarray(scaled.gain)
    sums = sums * xp.float32(scaled.scale) + xp.float32(scaled.offset)
    if out.dtype == np.int16:
        sums = xp.rint(xp.clip(sums, -32768, 32767)).astype(xp.int16)
    out[:] = host(sums)


def _seen_by(xp: Any, stretched: Any, table: Tables, i: int, nx: int, ny: int) -> Any:
    """What voxels `(ny, nz, nx)` take from the stretched rows `(rows, PHASES * length)` of view i."""
    column, row = xp.asarray(table.columns[:, i]), xp.asarray(table.rows[:, i])
    samples = (column % PHASES * table.length + column // PHASES)[:, None] + xp.arange(nx)
    rows = xp.arange(ny)[:, None] * table.rows_per_slice + row
    return stretched[rows[:, :, None], samples]


def project(xp: Any, voxels: NDArray[Any], rays: Rays, image_nx: int) -> Image:
    """As `project.project`, for level rays."""
    ny, nz, nx = voxels.shape
    table, there = tables(rays, nz, nx, image_nx), xp.asarray(voxels)
    images = np.empty((len(rays.step), ny, image_nx), np.float32)
    for i, image in enumerate(images):
        matrix = stretching(xp, int(table.first[i]), int(table.step[i]), table.length, image_nx)
        image[:] = host(_collected(xp, there, table, i).reshape(ny, -1) @ matrix.T)
    return images


def _collected(xp: Any, voxels: Any, table: Tables, i: int) -> Any:
    """The lines of voxels `(ny, nz, nx)` in the rows `(ny, PHASES, length)` of view i."""
    ny, _, nx = voxels.shape
    collected = xp.zeros((ny, PHASES, table.length), xp.float32)
    for phase in range(PHASES):
        (z,) = np.nonzero(table.columns[:, i] % PHASES == phase)
        if len(z) == 0:
            continue
        x = xp.arange(table.length) - xp.asarray(table.columns[z, i] // PHASES)[:, None]
        lines = voxels[:, xp.asarray(z)[:, None], xp.clip(x, 0, nx - 1)]
        collected[:, phase] = xp.where((x >= 0) & (x < nx), lines, xp.float32(0.0)).sum(axis=1)
    return collected


def filter_views(xp: Any, views: Image, means: NDArray[np.float32], by: RowFilter, ends: int) -> Image:
    """As `filters.filter_views`; a row's level at each end is the mean of so many pixels."""
    flat = xp.asarray(views) - xp.asarray(means)[:, None, None]
    first, last = (part.mean(axis=2, keepdims=True) for part in (flat[..., :ends], flat[..., -ends:]))
    ramp = xp.linspace(0.0, 1.0, by.length - by.nx, dtype=xp.float32)
    padded = xp.concatenate([flat, last + (first - last) * ramp], axis=2)
    spectrum = xp.fft.rfft(padded, axis=2) * xp.asarray(by.response)
    filtered = xp.fft.irfft(spectrum, n=by.length, axis=2)[..., : by.nx]
    return np.ascontiguousarray(host(filtered), np.float32)


def iterate(
    xp: Any, of: Solver, images: Image, gain: Image, not_below: float, sd: float, most: float, left: Image
) -> Image:
    """As `sirt_kernels.iterate_slices`, from nothing; `left` `(rows, iterations, n)` is filled."""
    table, n, rows = of.table, len(images), images.shape[1]
    views = [_sampled(xp, of, images, i) for i in range(n)]
    by_path, gain, there = xp.asarray(of.by_path), xp.asarray(gain), xp.zeros((rows, of.nz, of.nx), xp.float32)
    size = xp.sqrt(sum(((by_path[i] * views[i]) ** 2).sum(axis=1) for i in range(n)) / by_path.size)
    for iteration in range(left.shape[1]):
        counts = xp.where(size > 0, sd / xp.where(size > 0, size, 1), 0).astype(xp.float32)[:, None]
        sums, total = xp.zeros_like(there), xp.zeros(rows, xp.float32)
        for i in range(n):
            seen = _brought_together(xp, _collected(xp, there, table, i), of)
            differs = xp.where(by_path[i] > 0, views[i] - seen, xp.float32(0.0))
            left[:, iteration, i] = host((differs**2).sum(axis=1))
            differs = counts * by_path[i] * differs
            total += (differs**2).sum(axis=1)
            spread = xp.rint(xp.clip(_spread_out(xp, differs, of), -most, most)).astype(xp.float32)
            sums += _seen_by(xp, spread.reshape(rows, -1), table, i, of.nx, rows)
        there = xp.maximum(there + (size / sd).astype(xp.float32)[:, None, None] * gain * sums, xp.float32(not_below))
        size = size * xp.sqrt(total / by_path.size) / sd
    return host(there)


def _sampled(xp: Any, of: Solver, images: Image, i: int) -> Any:
    """A view at the voxels' own steps, times these, `(rows, length)`."""
    table = of.table
    matrix = stretching(xp, int(table.first[i]), int(table.step[i]), table.length, of.image_nx, phases=1)
    return (xp.asarray(images[i]) * np.float32(of.rays.step[i])) @ matrix


def _brought_together(xp: Any, collected: Any, of: Solver) -> Any:
    """Rows `(rows, PHASES, length)`, each moved back by its fraction: their sum `(rows, length)`."""
    length = of.table.length
    padded, seen = xp.pad(collected, ((0, 0), (0, 0), (TAPS, TAPS))), collected[:, 0].copy()
    for phase in range(1, PHASES):
        for tap in range(TAPS):
            first = TAPS + LOBES - 1 - tap
            seen += of.between[phase, tap] * padded[:, phase, first : first + length]
    return seen


def _spread_out(xp: Any, differs: Any, of: Solver) -> Any:
    """The transpose of it."""
    length = of.table.length
    padded, spread = xp.pad(differs, ((0, 0), (TAPS, TAPS))), xp.zeros((len(differs), PHASES, length), xp.float32)
    for phase in range(PHASES):
        for tap in range(TAPS):
            first = TAPS - LOBES + 1 + tap
            spread[:, phase] += of.between[phase, tap] * padded[:, first : first + length]
    return spread
