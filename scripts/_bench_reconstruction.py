"""Rates of back-projection, projection, SIRT, the live volume and the tomogram's file, as the engine calls them.

GUPS are giga voxel updates a second: voxels x views / time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _bench_table import row, times_ms
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.config import Final
from streamtomo.finish.tomogram import Source, write_tomogram
from streamtomo.jit import parallel_kernel, prange
from streamtomo.reconstruct.accumulate import add_view
from streamtomo.reconstruct.backproject import PLAIN, Scratch, backproject, sum_stretched
from streamtomo.reconstruct.filters import Filtering
from streamtomo.reconstruct.live import LiveVolume
from streamtomo.reconstruct.project import project
from streamtomo.reconstruct.rays import PHASES, Box, single_axis, tables
from streamtomo.reconstruct.sirt import SLAB_ROWS, iterate, solver
from streamtomo.reconstruct.wbp import make_slab, weighted

ROWS = 64
VOXELS = 1024.0 * 1024 * 300
"""Of the live volume."""
RADIAL = Filtering(0.35, 0.05)


def bench_reconstruction(runs: int) -> None:
    """All tables."""
    print("\nreconstruction, 41 views, 1024 x 300 voxels in a slice                       GUPS   minimum    median ms")
    _kernels(runs)
    _whole(runs)
    print("cost against size: GUPS must not depend on it")
    for views, nx, nz in ((11, 1024, 300), (81, 1024, 300), (41, 512, 150), (41, 2048, 300)):
        _slab(f"  {views} views, {nx} x {nz}", views, nx, nz, runs)
    _sirt(runs)
    _live(runs)


def _rate(name: str, updates: float, work: Callable[[], object], runs: int) -> None:
    figures = times_ms(work, runs)
    row(f"{name:42s} {updates / figures[0] / 1e6:9.1f}", figures)


def _kernels(runs: int, views: int = 41, nx: int = 1024, nz: int = 300) -> None:
    """Sums alone, sums with stretching, the transpose, and how near the sums are to the memory's limit."""
    rays, scratch = single_axis(np.linspace(-60, 60, views)), Scratch()
    table = tables(rays, nz, nx, nx)
    updates = float(views * nx * nz * ROWS)
    out, turned = np.empty((ROWS, nz, nx), np.float32), np.empty((nz, ROWS, nx), np.int16).transpose(1, 0, 2)
    for dtype in (np.int16, np.float32):
        stretched = np.zeros((views, ROWS, PHASES, table.length), dtype)
        for voxels in (turned, out):
            name = f"sums in {np.dtype(dtype)} to {voxels.dtype} voxels"
            _rate(name, updates, lambda rows=stretched, to=voxels: sum_stretched(rows, table, PLAIN, to), runs)
    images = np.random.default_rng(0).normal(size=(views, ROWS, nx)).astype(np.float32)
    gains = np.ones(views, np.float32)
    for exact in (False, True):
        name = f"with stretching, in {'float32' if exact else 'int16'}"
        _rate(name, updates, lambda e=exact: backproject(images, rays, gains, out, exact=e, scratch=scratch), runs)
    _rate("projection", updates, lambda: project(out, rays, nx, scratch), runs)


def _slab(name: str, views: int, nx: int, nz: int, runs: int) -> None:
    """Filtering, stretching and sums of one slab."""
    stack = np.random.default_rng(0).normal(100, 10, (views, ROWS, nx)).astype(np.float32)
    taken, box, scratch = weighted(stack, np.linspace(-60, 60, views)), Box(nz, ROWS, nx), Scratch()
    out = np.empty((nz, ROWS, nx), np.int16).transpose(1, 0, 2)
    work = lambda: make_slab(taken, box, 0, out, filtering=RADIAL, scratch=scratch)  # noqa: E731
    _rate(name, float(views * nx * nz * ROWS), work, runs)


def _whole(runs: int) -> None:
    """From the aligned stack to the synced file."""
    stack = np.random.default_rng(0).normal(100, 10, (41, 1024, 1024)).astype(np.float32)
    source = Source(stack, list(np.linspace(-60, 60, 41)), 300, 1, 10.0)
    _slab("with filtering, to int16 voxels", 41, 1024, 300, runs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench_rec.mrc"
        updates = 41 * 1024.0 * 1024 * 300
        _rate(
            "1024^2 x 300 to a synced int16 file", updates, lambda: write_tomogram(path, source, Final(), _quiet), runs
        )


def _quiet(_: float) -> None:
    pass


def _sirt(runs: int) -> None:
    """Ten iterations of one slab, times the slabs of 512 rows; and against the number of views and the size."""
    print("SIRT, 10 iterations")
    for views, nx, nz in ((41, 512, 150), (81, 512, 150), (41, 1024, 150)):
        images = np.random.default_rng(0).normal(size=(views, SLAB_ROWS, nx)).astype(np.float32)
        of = solver(single_axis(np.linspace(-60, 60, views)), nz, nx, nx)
        slabs = 512 // SLAB_ROWS
        best, middle = times_ms(lambda of=of, images=images: iterate(of, images, 10), runs)
        updates = 2 * 10 * views * 512.0 * nx * nz
        row(
            f"{f'{views} views, {nx} x 512 x {nz}':42s} {updates / best / slabs / 1e6:9.1f}",
            (best * slabs, middle * slabs),
        )


def _live(runs: int) -> None:
    """One view into a volume that streams through memory, and all that is done with it."""
    image = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    print("live volume, 1024 x 1024 x 300")
    for dtype in (np.float32, np.int16):
        volume = LiveVolume((300, 1024, 1024))
        volume.recall([], [], np.zeros((1024, 300, 1024), dtype))
        _one_view(volume, image, runs)
    while volume.views < 41:
        volume.add(image, 3.0 * volume.views - 60, geometry.IDENTITY)
    _rate("rebuilt from 41 views", 41 * VOXELS, lambda: volume.rebuild(lambda: False), 2)
    row("central slices", times_ms(volume.central_slabs, runs))
    row(
        "agreement of one view with all others",
        times_ms(lambda: volume.leave_one_out(20, image, geometry.IDENTITY, lambda: False), 2),
    )


def _one_view(volume: LiveVolume, image: NDArray[np.float32], runs: int) -> None:
    """The time of one more view, and of its sum alone against what reading and writing the voxels costs."""
    kind = volume.voxels().dtype
    bound_ms = _memory(volume.voxels(), runs)
    work = lambda: volume.add(image, 30.0, geometry.IDENTITY)  # noqa: E731
    _rate(f"one view, aligned, filtered, added, {kind}", VOXELS, work, runs)
    rays, scratch, view = single_axis([30.0]), Scratch(), volume.filtered(0)
    add = lambda: add_view(view, rays, volume.counts, volume.voxels(), scratch)  # noqa: E731
    spent = times_ms(add, runs)
    row(f"{'its sum alone, percent of the memory limit':42s} {100 * bound_ms / spent[0]:9.0f}", spent)


@parallel_kernel
def _count_up(voxels: Any) -> None:
    for y in prange(voxels.shape[0]):
        for z in range(voxels.shape[1]):
            line = voxels[y, z]
            for x in range(line.shape[0]):
                line[x] += voxels.dtype.type(1)


def _memory(voxels: NDArray[Any], runs: int) -> float:
    """What streaming a volume through memory costs at the least, ms: each voxel is read and written, on all threads."""
    figures = times_ms(lambda: _count_up(voxels), runs)
    row(f"{'memory limit: read and written, GB/s':42s} {2 * voxels.nbytes / figures[0] / 1e6:9.1f}", figures)
    return figures[0]
