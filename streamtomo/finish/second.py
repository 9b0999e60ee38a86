"""The second of two tilt series about two axes, reconstructed in the frame of the first.

Its views are back-projected straight into the first's voxels, or into these turned by as many right angles as bring its
tilt axis near to y, where rays hardly lean: nothing is interpolated in three dimensions. A tomogram by SIRT, or one
whose aligned stack is gone, is sampled anew instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import __version__, geometry
from streamtomo.export import mrc
from streamtomo.finish.steps_volume import Lie, Stacked, lie_of, source_of
from streamtomo.finish.tomogram import INT16_SD, Source
from streamtomo.finish.work import VIEWS, Work
from streamtomo.reconstruct import wbp
from streamtomo.reconstruct.backproject import PLAIN, Scaled, Scratch, backproject
from streamtomo.reconstruct.filters import Filtering, filter_views, row_filter
from streamtomo.reconstruct.rays import Box, affine, upright
from streamtomo.restore.match import Match, turn_about_z
from streamtomo.restore.resample3d import resample

Array = NDArray[np.float64]
Volume = NDArray[np.float32]
Progress = Callable[[float], None]
Make = Callable[[int, Volume], None]
"""Makes slices `y0` and on of the turned box: `(rows, nz, nx)`."""

ROWS = 32
"""Slices made at a time."""
RIGHT_DEG = 90.0


class Second(NamedTuple):
    """A finished series that is to be seen from the first."""

    work: Work
    match: Match
    """How its tomogram lies in the first's, voxels of each."""
    shape: tuple[int, int, int]
    """`(nz, ny, nx)` of the first's tomogram."""

    @property
    def quarter_turns(self) -> int:
        """Right angles by which its axes are nearest to the first's."""
        matrix = self.match.matrix
        return int(np.rint(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])) / RIGHT_DEG)) % 4

    def in_first(self, turned: NDArray[Any]) -> NDArray[Any]:
        """The volume as `write_second` makes it, as the first lies: another view of the same memory."""
        return np.rot90(turned, -self.quarter_turns, axes=(1, 2))


def write_second(second: Second, path: Path, progress: Progress) -> str:
    """The second's volume about the first's middle, int16, in a file for `Second.in_first`; how it was made.

    Raises OutputError.
    """
    nz, ny, nx = second.shape if second.quarter_turns % 2 == 0 else (second.shape[0], *second.shape[:0:-1])
    source = _aligned(second.work)
    how = "sampled anew" if source is None else "back-projected in the frame of the first"
    make = _resampled(second) if source is None else _back_projected(second, source, Box(nz, ny, nx))
    scaled = _scaling(make, (nz, ny, nx))
    label = f"streamtomo {__version__}: {second.work.name}, {how}"
    voxel = second.work.product("stack", Stacked).voxel_A
    with mrc.new_blocks(path, (nz, ny, nx), "int16", pixel_size_A=voxel, kind="volume", label=label) as file:
        slab, block = np.empty((ROWS, nz, nx), np.float32), np.empty((nz, ROWS, nx), np.int16)
        for y0 in range(0, ny, ROWS):
            rows = min(ROWS, ny - y0)
            make(y0, slab[:rows])
            np.multiply(slab[:rows], np.float32(scaled.scale), out=slab[:rows])
            np.add(slab[:rows], np.float32(scaled.offset), out=slab[:rows])
            block[:, :rows] = np.clip(slab[:rows], -32768, 32767).transpose(1, 0, 2)
            file.write(y0, block[:, :rows])
            progress((y0 + rows) / ny)
    return how


def _aligned(work: Work) -> Source | None:
    """What the second's tomogram was made of, where that is still there and projects back."""
    if work.settings.final.method == "sirt" or not work.path(VIEWS[work.last_views()]).exists():
        return None
    return source_of(work)


def _scaling(make: Make, shape: tuple[int, int, int]) -> Scaled:
    """Slices in the middle get mean 0 and standard deviation INT16_SD."""
    nz, ny, nx = shape
    rows = min(ny, ROWS)
    sample = np.empty((rows, nz, nx), np.float32)
    make((ny - rows) // 2, sample)
    scale = INT16_SD / (float(sample.std(dtype=np.float64)) or 1.0)
    return Scaled(scale, -float(sample.mean(dtype=np.float64)) * scale)


# -- by back-projection ------------------------------------------------------------------------------------------------


def _back_projected(second: Second, source: Source, box: Box) -> Make:
    final, lie = second.work.settings.final, lie_of(second.work)
    views = wbp.weighted(source.stack, source.tilts_deg, levels=source.levels())
    filtering = Filtering(final.radial_cutoff, final.radial_falloff, final.roll_off, final.sirt_like)
    by = row_filter(source.stack.shape[2], filtering, wbp.start_of_ramp(views, source.nz))
    filtered, scratch = list(filter_views(views.stack, views.means, by)), Scratch()
    matrices, middle = seen_from_turned(second, lie)

    def make(y0: int, out: Volume) -> None:
        y = y0 + geometry.centre(len(out)) - geometry.centre(box.ny)
        slab = Box(box.nz, len(out), box.nx, (middle[0], middle[1] + y, middle[2]))
        rays, moves = affine(matrices, slab.centre_xyz)
        backproject(upright(filtered, moves, rays, slab), rays, views.gains, out, scaled=PLAIN, scratch=scratch)

    return make


def seen_from_turned(second: Second, lie: Lie) -> tuple[Array, Array]:
    """Where the second's aligned views `(n, 2, 3)` see points of the turned box, and the box's middle `(3,)` there.

    A voxel `p` of the turned box lies at `turn p` in the first's, at `q = matrix⁻¹ (turn p - shift)` in the second's.
    """
    match, turn = second.match, turn_about_z(RIGHT_DEG * second.quarter_turns)
    to_second = np.linalg.inv(match.matrix) @ turn
    matrices = [geometry.project(np.eye(3), tilt, lie.pitch_deg).T @ to_second for tilt in lie.tilts_deg]
    middle = turn.T @ (match.matrix @ (0.0, 0.0, lie.height) - match.shift)
    return np.stack(matrices), np.asarray(middle, np.float64)


# -- by sampling anew --------------------------------------------------------------------------------------------------


def _resampled(second: Second) -> Make:
    """Slices of the second's tomogram by interpolation; 0 where it has none."""
    turn = turn_about_z(RIGHT_DEG * second.quarter_turns)
    nz, ny, nx = second.shape if second.quarter_turns % 2 == 0 else (second.shape[0], *second.shape[:0:-1])
    to_second = np.linalg.inv(second.match.matrix)
    path = second.work.path("_rec.mrc")

    def make(y0: int, out: Volume) -> None:
        with mrc.mapped(path) as volume:
            there = np.array([geometry.centre(n) for n in volume.shape[::-1]])
            here = np.array([geometry.centre(nx), geometry.centre(ny) - y0, geometry.centre(nz)])
            linear = to_second @ turn
            table = np.column_stack([linear, there - linear @ here - to_second @ second.match.shift])
            block, inside = np.empty((nz, len(out), nx), np.float32), np.empty((nz, len(out), nx), np.bool_)
            resample(np.asarray(volume), table, block, inside)
            out[:] = block.transpose(1, 0, 2)

    return make
