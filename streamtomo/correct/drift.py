"""How the specimen moves while one movie is exposed, from the binned frames.

Each frame is correlated with the sum of all the others, moved to where they were found so far; a few rounds settle it.
Frequencies are weighted as the data demand: by the whitened frames, and by Wiener's factor of the reference,
`S / (S + N / n)`, with signal `S` and noise `N` measured in rings from the cross-spectra of neighbouring frames. With
few electrons this leaves the lowest frequencies, with many it opens up. Frames whose peaks do not stand out are added
to their neighbours until they do. The path is then smoothed as much as generalised cross-validation finds right
(Craven and Wahba, Numer. Math. 31 (1978) 377).

What stands still on the camera pulls all shifts towards zero: frames come corrected by the gain, tapered at the edges,
and the lowest frequencies and those along the axes, where bad columns and rows live, are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft as fft
from numpy.typing import NDArray

Array = NDArray[np.float64]
Spectra = NDArray[np.complex64]

LONGEST_SIDE_PX = 1024
"""Frames are binned until their longer side is at most this."""
HIGHEST = 0.25
"""Highest frequency used, cycles per binned pixel."""
LOWEST = 8.0
"""Lowest frequency used, cycles per field."""
TAPER = 0.1
"""Share of the field over which each edge fades."""
REACH = 0.125
"""Largest shift that is looked for, fraction of the field."""
STANDS_OUT = 7.0
"""Height of a correlation peak, in standard deviations of the map, below which frames are too weak alone."""
FEWEST = 3
"""Groups of frames below which nothing is known of the path."""
RINGS = 32
MOST = 24
"""More frames than this are taken together in groups from the start."""
ROUNDS = 4
SEARCHES = 2
"""Rounds in which the whole correlation is searched for its peak, not only climbed near the last position."""


class Drift(NamedTuple):
    """The path of the specimen over one movie."""

    path: Array
    """`(n, 2)`: x, y of every frame relative to their mean, in the pixels of the frames that were given."""
    grouped: int
    """Frames that were measured together."""
    peak: float
    """Median height of the correlation peaks over the map's standard deviation."""


def drift_binning(nx: int, ny: int) -> int:
    """Whole binning at which drift is measured."""
    return max(1, -(-max(nx, ny) // LONGEST_SIDE_PX))


def find_drift(spectra: list[Spectra], shape_yx: tuple[int, int]) -> Drift | None:
    """The path over frames of `shape_yx`, given as `spectrum` makes them; None where no correlation stands out."""
    group = -(-len(spectra) // MOST)
    while (count := len(spectra) // group) >= FEWEST:
        grouped, centres = _grouped(np.stack(spectra), count)
        path, peak = _path_of(grouped, shape_yx)
        if peak >= STANDS_OUT:
            path = smooth(path)
            frames = np.arange(len(spectra), dtype=np.float64)
            full = np.stack([_through(frames, centres, path[:, axis]) for axis in (0, 1)], axis=1)
            return Drift(full - full.mean(axis=0), group, peak)
        group *= 2
    return None


def spectrum(frame: NDArray[np.float32]) -> Spectra:
    """Low frequencies of a binned frame `(ny, nx)`: its outliers cut, its edges faded; `(2 ky + 1, kx + 1)`."""
    ny, nx = frame.shape
    level, spread = float(frame.mean()), float(frame.std())
    flat = np.clip(frame - np.float32(level), -5 * spread, 5 * spread)
    flat *= _fade(ny)[:, None] * _fade(nx)
    ky, kx = int(HIGHEST * ny), int(HIGHEST * nx)
    columns = fft.rfft(flat, axis=1, workers=2)[:, : kx + 1]
    whole = fft.fft(columns, axis=0, workers=2, overwrite_x=True)
    return np.ascontiguousarray(np.concatenate([whole[: ky + 1], whole[-ky:]]), dtype=np.complex64)


def _fade(n: int) -> NDArray[np.float32]:
    """1 in the middle, falling to 0 at both ends like a cosine."""
    from_edge = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) / (TAPER * n)
    return ((1 - np.cos(np.pi * np.minimum(from_edge, 1))) / 2).astype(np.float32)


def _grouped(spectra: Spectra, count: int) -> tuple[Spectra, Array]:
    """Sums of runs of frames, as even as can be, and the mean index of the frames in each."""
    runs = np.array_split(np.arange(len(spectra)), count)
    return np.stack([spectra[run].sum(axis=0) for run in runs]), np.array([run.mean() for run in runs])


class _Grid(NamedTuple):
    """Frequencies of a spectrum as `spectrum` makes it, cycles per pixel."""

    fy: Array
    fx: Array
    ring: NDArray[np.int64]
    """Ring of each, from 0 to `RINGS - 1`; `RINGS` for those that are not used."""


def _grid(spectra: Spectra, shape_yx: tuple[int, int]) -> _Grid:
    ny, nx = shape_yx
    rows, columns = spectra.shape[1:]
    fy = fft.ifftshift(np.arange(rows) - rows // 2) / ny
    fx = np.arange(columns) / nx
    radius = np.hypot(fy[:, None], fx)
    used = (radius * min(ny, nx) >= LOWEST) & (radius <= HIGHEST) & (fy[:, None] != 0) & (fx != 0)
    ring = np.minimum((radius / HIGHEST * RINGS).astype(np.int64), RINGS - 1)
    return _Grid(fy, fx, np.where(used, ring, RINGS))


def _path_of(spectra: Spectra, shape_yx: tuple[int, int]) -> tuple[Array, float]:
    """Positions `(n, 2)` of all groups, centred, in pixels, and the median height of their peaks."""
    grid = _grid(spectra, shape_yx)
    power = _rings(np.mean(np.abs(spectra) ** 2, axis=0), grid)
    path = np.zeros((len(spectra), 2))
    peaks = np.zeros(len(spectra))
    for step in range(ROUNDS):
        moved = np.stack([one * _phases(grid, position) for one, position in zip(spectra, path, strict=True)])
        weight = _weights(moved, power, grid)
        total = moved.sum(axis=0)
        for i, one in enumerate(moved):
            product = weight * one * np.conj(total - one)
            start = np.zeros(2)
            if step < SEARCHES:
                start, peaks[i] = _peak(product, shape_yx)
            path[i] += _climb(product, grid, start)
        path -= path.mean(axis=0)
    return path, float(np.median(peaks))


def _phases(grid: _Grid, position: Array) -> NDArray[np.complex64]:
    """What moves a spectrum's image back by `position` (x, y)."""
    along_y = np.exp(2j * np.pi * grid.fy * position[1])[:, None]
    return np.asarray(along_y * np.exp(2j * np.pi * grid.fx * position[0]), np.complex64)


def _rings(values: NDArray[np.float32], grid: _Grid) -> Array:
    """Mean of each ring."""
    index = grid.ring.ravel()
    count = np.bincount(index, minlength=RINGS + 1)
    total = np.bincount(index, values.ravel(), minlength=RINGS + 1)
    return np.asarray(total / np.maximum(count, 1))[:RINGS]


def _weights(moved: Spectra, power: Array, grid: _Grid) -> NDArray[np.float32]:
    """Wiener's factor of the sum of all groups over the noise of one, per frequency; 0 where none is used.

    `power` is the mean power of the groups in each ring.
    """
    common = _rings((moved[:-1] * np.conj(moved[1:])).real.mean(axis=0), grid)
    signal = np.clip(np.convolve(np.pad(common, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid"), 0, power)
    noise = np.maximum(power - signal, 1e-3 * power + 1e-30)
    wiener = signal / (signal + noise / len(moved)) / noise
    return np.append(wiener, 0).astype(np.float32)[grid.ring]


def _peak(product: Spectra, shape_yx: tuple[int, int]) -> tuple[Array, float]:
    """Highest point (x, y, pixels) of the correlation within `REACH`, and its height over the map's spread."""
    rows, columns = product.shape
    size = (rows, 2 * (columns - 1) + 1)
    surface = fft.irfft2(product, s=size, workers=2)
    scale = np.array([shape_yx[1] / size[1], shape_yx[0] / size[0]])
    reach_y, reach_x = (max(2, int(REACH * n)) for n in size)
    near = np.roll(surface, (reach_y, reach_x), axis=(0, 1))[: 2 * reach_y + 1, : 2 * reach_x + 1]
    y, x = np.unravel_index(int(near.argmax()), near.shape)
    height = float(near[y, x] - surface.mean()) / (float(surface.std()) or 1.0)
    return np.array([x - reach_x, y - reach_y]) * scale, height


def _climb(product: Spectra, grid: _Grid, start: Array) -> Array:
    """The correlation's maximum near `start` (x, y), to a small fraction of a pixel, by Newton's method."""
    ky, kx = 2 * np.pi * grid.fy, 2 * np.pi * grid.fx
    at = start.copy()
    for _ in range(5):
        across = (np.exp(1j * kx * at[0])[:, None] * kx[:, None] ** np.arange(3)).astype(np.complex64)
        along = (np.exp(1j * ky * at[1])[:, None] * ky[:, None] ** np.arange(3)).astype(np.complex64)
        moments = along.T @ (product @ across)  # [power of ky, power of kx]
        slope = -np.array([moments[0, 1].imag, moments[1, 0].imag])
        curve = -np.array([[moments[0, 2].real, moments[1, 1].real], [moments[1, 1].real, moments[2, 0].real]])
        if not (curve[0, 0] < 0 and np.linalg.det(curve) > 0):
            break  # no maximum here
        step = np.linalg.solve(curve, slope)
        length = float(np.hypot(*step))
        at -= step * min(1.0, 1.0 / max(length, 1e-12))
        if length < 1e-3:
            break
    return at


def smooth(path: Array) -> Array:
    """The path `(n, 2)` with as much noise taken out as generalised cross-validation finds right.

    Minimises the squared distance plus `lambda` times the squared first differences (as far as to no drift at all) or
    second differences (as far as to a steady drift), whichever predicts better.
    """
    n = len(path)
    if n < 5:
        return path
    trials = list[tuple[float, int, Array]]()
    for order in (1, 2):
        bends = np.diff(np.eye(n), order, axis=0)
        values, vectors = np.linalg.eigh(bends.T @ bends)
        in_modes = vectors.T @ path
        for strength in np.geomspace(1e-3, 1e7, 51):
            kept = 1 / (1 + strength * np.maximum(values, 0))
            left = ((1 - kept)[:, None] * in_modes) ** 2
            trials.append((left.sum() / (1 - kept).sum() ** 2, len(trials), vectors @ (kept[:, None] * in_modes)))
    return np.asarray(min(trials, key=lambda trial: trial[0])[2])


def _through(at: Array, centres: Array, values: Array) -> Array:
    """Values at `at` on straight lines through the centres, the outer ones continued."""
    if len(centres) == len(at):
        return values
    i = np.clip(np.searchsorted(centres, at) - 1, 0, len(centres) - 2)
    slope = (values[i + 1] - values[i]) / (centres[i + 1] - centres[i])
    return np.asarray(values[i] + slope * (at - centres[i]))
