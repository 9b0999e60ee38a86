"""From the aligned stack to the tomogram's file: slab by slab, each voxel touched once, memory used again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import __version__
from streamtomo.config import Final
from streamtomo.export import mrc
from streamtomo.finish import unfinished
from streamtomo.finish.level import Flat, Level
from streamtomo.finish.prior import Mask, background
from streamtomo.model import Tomogram
from streamtomo.reconstruct import device, sirt, wbp
from streamtomo.reconstruct.backproject import PLAIN, Scaled, Scratch
from streamtomo.reconstruct.filters import Filtering, filter_views, smoothing
from streamtomo.reconstruct.rays import Box, single_axis

INT16_SD = 1000.0
"""Standard deviation of the central voxels of an int16 tomogram: 32 sd of room above and below."""
SLAB_BYTES = 256e6
"""A slab of voxels is made no larger than this, unless it has the least number of rows already."""
LEAST_ROWS = 16
PITCHED_ROWS = 64
"""Slices that are cut out of level ones at a time: those beyond both ends are made twice."""
SAMPLE_ROWS = 16
"""Slices in the middle that the scale of the whole is taken from."""

Image = NDArray[np.float32]
Slabs = Callable[[int, NDArray[Any], Scaled], None]
"""Makes slices `y0` and on: into `(rows, nz, nx)`, float32 or int16, scaled."""
Piece = tuple[int, int]
"""First and number of the slices of a block."""
Spread = Callable[[Sequence[Piece], Scaled], Iterator[NDArray[Any]]]
"""Makes blocks `(nz, rows, nx)` elsewhere, in order."""


DARKEST = 0.01
"""Counts below this part of a view's mean are taken as this, for their logarithm."""


def logarithm(stack: Image) -> Image:
    """The natural logarithm of views of counts `(n, ny, nx)`: density adds up along a ray, counts multiply.

    A view whose mean is not positive does not hold counts, and is left as it is.
    """
    means = stack.mean(axis=(1, 2), dtype=np.float64, keepdims=True).astype(np.float32)
    return np.where(means > 0, np.log(np.maximum(stack, DARKEST * np.maximum(means, 1e-30))), stack)


class Source(NamedTuple):
    """What a tomogram is made of."""

    stack: Image
    """`(n, ny, nx)`, aligned, in ascending tilt."""
    tilts_deg: Sequence[float]
    nz: int
    binning: int
    voxel_A: float | None
    pitch_deg: float = 0.0
    """Turn of the specimen about X that the tomogram is made flat by."""
    height: float = 0.0
    """Of the tomogram's middle above the tilt axis, in the turned specimen, voxels."""
    sds: Sequence[float] | None = None
    """Standard deviations that the views are normalised by; None: their own."""
    xtilts_deg: Sequence[float] | None = None
    """What is added to the pitch in each view; SIRT does without."""

    def half(self, first: int) -> Source:
        """Every other view, from `first` on."""
        sds, xtilts = (None if of is None else of[first::2] for of in (self.sds, self.xtilts_deg))
        return self._replace(stack=self.stack[first::2], tilts_deg=self.tilts_deg[first::2], sds=sds, xtilts_deg=xtilts)

    def levels(self) -> NDArray[np.float32]:
        """Mean and standard deviation of each view, `(n, 2)`."""
        levels = np.array([wbp.level(view) for view in self.stack], np.float32)
        if self.sds is not None:
            levels[:, 1] = self.sds
        return levels


class Made(NamedTuple):
    """A tomogram that was written."""

    tomogram: Tomogram
    sections: dict[str, Image]
    """Three thin central slabs, as pictures."""
    how: str
    scaled: Scaled
    """What was done with the densities."""


def write_tomogram(
    path: Path, source: Source, final: Final, progress: Callable[[float], None], spread: Spread | None = None
) -> Made:
    """The file `(nz, ny, nx)` with z up, as `trimvol -rx` turns it.

    `progress` is told what fraction is done; `spread` makes the blocks elsewhere. Raises OutputError.
    """
    _, ny, nx = source.stack.shape
    slabs, rows, how = maker(source, final)
    rows = min(rows, max(LEAST_ROWS, int(SLAB_BYTES / (4 * source.nz * nx)) // LEAST_ROWS * LEAST_ROWS))
    scaled = _scaling(slabs, source, final.volume_type)
    label = f"streamtomo {__version__}: {how}, value = density * {scaled.scale:.6g} + {scaled.offset:.6g}"
    sections = Sections(source.nz, ny, nx)
    key = unfinished.key_of(source.stack, source[1:], final, rows, scaled.scale) if final.method == "sirt" else ""
    done = unfinished.rows_done(path, key)
    pieces = [(y0, min(rows, ny - y0)) for y0 in range(0, ny, rows)]
    ready = [piece for piece in pieces if sum(piece) <= done]
    left = pieces[len(ready) :]
    shape, kind = (source.nz, ny, nx), final.volume_type
    with (
        mrc.new_blocks(
            path, shape, kind, pixel_size_A=source.voxel_A, kind="volume", label=label, resume=done > 0
        ) as file,
        ThreadPoolExecutor(1) as writer,
    ):
        writing: Future[None] | None = None
        for y0, count in ready:
            before = np.empty((source.nz, count, nx), kind)
            file.read(y0, before)
            sections.take(y0, before)
        blocks = spread(left, scaled) if spread and left else _made_here(slabs, left, shape, kind, scaled)
        for (y0, _), block in zip(left, blocks, strict=True):
            sections.take(y0, block)
            if writing is not None:
                writing.result()
            writing = writer.submit(_write, file, y0, block, path, key)
            progress((y0 + block.shape[1]) / ny)
        if writing is not None:
            writing.result()
        values = file.statistics
    unfinished.forget(path)
    tomogram = Tomogram(
        path=str(path),
        nx=nx,
        ny=ny,
        nz=source.nz,
        binning=source.binning,
        pixel_size_A=source.voxel_A,
        mean=round(values.mean, 4),
        sd=round(values.sd, 4),
    )
    return Made(tomogram, sections.pictures, how, scaled)


def _write(file: mrc.Blocks, y0: int, block: NDArray[Any], path: Path, key: str) -> None:
    """Slices into the file; with a key, they need not be made again by a process that comes after this one."""
    file.write(y0, block)
    if key:
        file.sync()
        unfinished.note(path, key, y0 + block.shape[1])


def _made_here(
    slabs: Slabs, pieces: Sequence[Piece], shape: tuple[int, int, int], kind: str, scaled: Scaled
) -> Iterator[NDArray[Any]]:
    """The blocks one after the other; each is overwritten by the next but one."""
    nz, _, nx = shape
    buffers = [np.empty((nz, max((rows for _, rows in pieces), default=0), nx), kind) for _ in range(2)]
    for turn, (y0, rows) in enumerate(pieces):
        block = buffers[turn % 2][:, :rows]
        slabs(y0, block.transpose(1, 0, 2), scaled)
        yield block


def maker(source: Source, final: Final) -> tuple[Slabs, int, str]:
    """What makes the slabs, how many rows are best made at a time, and what it is called."""
    if final.method == "sirt":
        slabs, iterations = _sirt_slabs(source, final)
        return slabs, device.rows(PITCHED_ROWS if source.pitch_deg else sirt.SLAB_ROWS), f"SIRT {iterations}"
    like = f" like SIRT {final.sirt_like}" if final.sirt_like else ""
    return _wbp_slabs(source, final), device.rows(wbp.SLAB_ROWS), f"WBP{like}"


def _filtering(final: Final) -> Filtering:
    return Filtering(final.radial_cutoff, final.radial_falloff, final.roll_off, final.sirt_like)


def _wbp_slabs(source: Source, final: Final) -> Slabs:
    _, ny, nx = source.stack.shape
    xtilts = source.pitch_deg if source.xtilts_deg is None else [source.pitch_deg + one for one in source.xtilts_deg]
    views = wbp.weighted(source.stack, source.tilts_deg, xtilts, levels=source.levels())
    box, scratch = Box(source.nz, ny, nx, (0.0, 0.0, source.height)), Scratch()
    filtering = _filtering(final)
    views = wbp.filtered_ahead(views, source.nz, filtering)
    gain = wbp.coverage_gain(views, box) if final.even_coverage else None

    def make(y0: int, out: NDArray[Any], scaled: Scaled) -> None:
        wbp.make_slab(views, box, y0, out, filtering=filtering, scaled=scaled._replace(gain=gain), scratch=scratch)

    return make


def _sirt_slabs(source: Source, final: Final) -> tuple[Slabs, int]:
    """Slabs by SIRT, with as many iterations as slices in the middle need to their plateau.

    It works on slices that are level with the stage; a specimen with a pitch is cut out of them.
    """
    _, ny, nx = source.stack.shape
    mask = Mask(Path(final.sirt_mask), (source.nz, ny, nx)) if final.sirt_mask else None
    sign = np.float32(-1.0 if final.sirt_sign == "dark" else 1.0)
    lowest = None if final.sirt_sign == "any" else 0.0
    smooth = smoothing(nx, _filtering(final))
    levels = source.levels()
    levels[:, 0] = [background(view, final.sirt_sign) for view in source.stack]
    flat = Flat(source.nz, ny, source.pitch_deg, source.height)

    @lru_cache(1)
    def solver(nz: int, middle: float) -> sirt.Solver:
        return sirt.solver(single_axis(source.tilts_deg, (0.0, middle)), nz, nx, nx)

    def solve(at: Level, iterations: int, allowed: NDArray[Any] | None = None) -> tuple[Image, list[float]]:
        rows = source.stack[:, at.first : at.first + at.rows]
        views = filter_views(rows, levels[:, 0], smooth) / (sign * levels[:, 1, None, None])
        limits = sirt.Limits(lowest, allowed)
        return sirt.iterate(
            solver(at.nz, at.middle), views, iterations, relaxation=final.sirt_relaxation, limits=limits
        )

    def of_rows(y0: int, rows: int, iterations: int) -> tuple[Image, list[float]]:
        allowed = mask.rows(y0, rows) if mask else None
        if not source.pitch_deg:
            return solve(Level(y0, rows, source.nz, source.height), iterations, allowed)
        voxels, residuals = flat.cut(lambda at: solve(at, iterations), y0, rows)
        if allowed is not None:  # it lies in the flat tomogram, not in the level slices that are solved
            voxels *= allowed != 0
        return voxels, residuals

    iterations = sirt.until_plateau(of_rows(*_middle_rows(ny), final.sirt_iterations)[1])

    def make(y0: int, out: NDArray[Any], scaled: Scaled) -> None:
        store(of_rows(y0, len(out), iterations)[0] * sign, scaled, out)

    return make, iterations


def store(voxels: Image, scaled: Scaled, out: NDArray[Any]) -> None:
    """Voxels scaled into an array of the same shape; int16 is clipped."""
    values = voxels * np.float32(scaled.scale) + np.float32(scaled.offset)
    out[:] = np.clip(np.rint(values), -32768, 32767) if out.dtype == np.int16 else values


def _middle_rows(ny: int) -> tuple[int, int]:
    """First and number of the rows that are sampled."""
    count = min(ny, SAMPLE_ROWS)
    return (ny - count) // 2, count


def _scaling(slabs: Slabs, source: Source, volume_type: str) -> Scaled:
    """For int16 slices in the middle get mean 0 and standard deviation INT16_SD; float32 is left as it is."""
    if volume_type == "float32":
        return PLAIN
    _, ny, nx = source.stack.shape
    first, count = _middle_rows(ny)
    sample = np.empty((count, source.nz, nx), np.float32)
    slabs(first, sample, PLAIN)
    scale = INT16_SD / (float(sample.std(dtype=np.float64)) or 1.0)
    return Scaled(scale, -float(sample.mean(dtype=np.float64)) * scale)


class Sections:
    """Means of thin slabs through the middle along x, y and z, gathered while blocks are made."""

    def __init__(self, nz: int, ny: int, nx: int) -> None:
        """Of a volume of this size."""
        self._x, self._y, self._z = (_middle(n, ny) for n in (nx, ny, nz))
        self.pictures = {
            "xy": np.empty((ny, nx), np.float32),
            "xz": np.zeros((nz, nx), np.float32),
            "yz": np.empty((nz, ny), np.float32),
        }

    def take(self, y0: int, block: NDArray[Any]) -> None:
        """Rows `y0` and on, `(nz, rows, nx)`."""
        end = y0 + block.shape[1]
        self.pictures["xy"][y0:end] = block[self._z].mean(axis=0, dtype=np.float32)
        self.pictures["yz"][:, y0:end] = block[:, :, self._x].mean(axis=2, dtype=np.float32)
        inside = block[:, max(0, self._y.start - y0) : max(0, self._y.stop - y0)]
        self.pictures["xz"] += inside.sum(axis=1, dtype=np.float32) / (self._y.stop - self._y.start)


def _middle(n: int, side: int) -> slice:
    """The planes in the middle of `n` that a picture shows the mean of: a hundredth of the field's side."""
    half = max(0, min(n, side // 100) // 2)
    return slice(n // 2 - half, min(n, n // 2 + half + 1))
