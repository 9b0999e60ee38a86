"""The live volume of a series in a file, `OUT/NAME/NAME_live.mrc`: on request, and at intervals while it changes.

What is written is a copy, taken between two tilts: the lane goes on meanwhile, and the file shows one moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import __version__, jit
from streamtomo.errors import OutputError
from streamtomo.export.mrc import Statistics, new_blocks
from streamtomo.liveseries import LiveSeries
from streamtomo.messages import Event, VolumeSaved, Warned
from streamtomo.outfolder import LIVE_SUFFIX

ROWS = 32
"""Slices written at a time."""


class Shot(NamedTuple):
    """A live volume at a moment."""

    series: str
    path: Path
    voxels: NDArray[Any]
    """`(ny, nz, nx)`, int16 or float32."""
    counts: float
    """What a unit of density is in the voxels."""
    voxel_A: float | None
    views: int


def path_of(out: Path, series: str) -> Path:
    """Where the live volume of a series is written to."""
    return out / series / f"{series}{LIVE_SUFFIX}"


def take(series: str, live: LiveSeries, out: Path) -> Shot:
    """The volume of a series as it is now, copied."""
    volume = live.volume()
    live.filed_s, live.filed_views = time.monotonic(), len(live.views)
    voxel_A = live.pixel_size_A * live.binning if live.pixel_size_A else None
    return Shot(series, path_of(out, series), volume.voxels().copy(), volume.counts, voxel_A, len(live.views))


class LiveFiles:
    """Writes one live volume at a time, in a thread of its own."""

    def __init__(self, tell: Callable[[list[Event]], None]) -> None:
        """`tell` is called from that thread with what came of it."""
        self._tell, self._taken = tell, threading.Lock()
        self._writer = ThreadPoolExecutor(1, "livefile", initializer=jit.use_threads, initargs=(1,))

    def reserve(self) -> bool:
        """Claim the writer for a volume to come; False while another one is written."""
        return self._taken.acquire(blocking=False)

    def give_up(self) -> None:
        """Nothing comes after all."""
        self._taken.release()

    def write(self, shot: Shot) -> None:
        """Write it, after `reserve`, and come back at once."""
        self._writer.submit(self._write, shot)

    def close(self) -> None:
        """Wait for what is being written."""
        self._writer.shutdown()

    def _write(self, shot: Shot) -> None:
        try:
            self._tell([written(shot)])
        except Exception as error:  # of a thread that nobody waits for, it would never be told
            self._tell([unsaved(shot.series, error)])
        finally:
            self._taken.release()


def written(shot: Shot) -> VolumeSaved:
    """Write the file, which appears whole or not at all. Raises OutputError."""
    start = time.perf_counter()
    ny, nz, nx = shot.voxels.shape
    kind = shot.voxels.dtype.name
    label = f"streamtomo {__version__}: live volume of {shot.views} views, value = density * {shot.counts:.6g}"
    try:
        shot.path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{shot.path.parent}: cannot be made ({error.strerror})") from error
    with new_blocks(shot.path, (nz, ny, nx), kind, pixel_size_A=shot.voxel_A, kind="volume", label=label) as file:
        for y0 in range(0, ny, ROWS):
            file.write(y0, np.ascontiguousarray(shot.voxels[y0 : y0 + ROWS].transpose(1, 0, 2)))
    seconds = round(time.perf_counter() - start, 3)
    return VolumeSaved(series=shot.series, path=str(shot.path), views=shot.views, seconds=seconds)


def unsaved(series: str, error: Exception) -> Warned:
    """What went wrong, in words."""
    return Warned(code="volume.unsaved", text=f"{series}: its live volume is not written ({error})", series=series)


def warmup() -> None:
    """Compile what describes the values written."""
    for kind in (np.int16, np.float32):
        Statistics().plus(np.ones((2, 2, 2), kind))
