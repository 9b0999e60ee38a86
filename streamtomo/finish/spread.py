"""Blocks of slices of a tomogram, made by any process that reads the aligned stack: as they would be here."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import jit
from streamtomo.config import Final
from streamtomo.export import mrc
from streamtomo.finish.tomogram import Slabs, Source, logarithm, maker
from streamtomo.reconstruct.backproject import Scaled

_ONE = threading.Lock()
"""Slabs are made in memory that is used again, by all cores."""


class BlockSource(Struct, frozen=True, kw_only=True):
    """What a tomogram is made of, without the views themselves: see `tomogram.Source`."""

    stack: str
    """Path of the aligned stack."""
    log: bool
    half: int | None
    """Every other view, from this one on; None: all of them."""
    tilts_deg: tuple[float, ...]
    nz: int
    binning: int
    voxel_A: float | None
    pitch_deg: float
    height: float
    sds: tuple[float, ...] | None
    xtilts_deg: tuple[float, ...] | None = None
    final: Final
    threads: int | None

    def source(self) -> Source:
        """With the views. Raises OutputError."""
        views = np.stack([section.astype(np.float32) for section in mrc.sections(Path(self.stack))])
        whole = Source(
            stack=logarithm(views) if self.log else views,
            tilts_deg=self.tilts_deg,
            nz=self.nz,
            binning=self.binning,
            voxel_A=self.voxel_A,
            pitch_deg=self.pitch_deg,
            height=self.height,
            sds=self.sds,
            xtilts_deg=self.xtilts_deg,
        )
        return whole if self.half is None else whole.half(self.half)


def described(source: Source, stack: Path, final: Final, half: int | None, threads: int | None) -> bytes:
    """A whole source, whose views are in the file `stack`, for `make_block`."""
    return msgspec.json.encode(
        BlockSource(
            stack=str(stack),
            log=final.log,
            half=half,
            tilts_deg=tuple(map(float, source.tilts_deg)),
            nz=source.nz,
            binning=source.binning,
            voxel_A=source.voxel_A,
            pitch_deg=source.pitch_deg,
            height=source.height,
            sds=None if source.sds is None else tuple(map(float, source.sds)),
            xtilts_deg=None if source.xtilts_deg is None else tuple(map(float, source.xtilts_deg)),
            final=final,
            threads=threads,
        )
    )


def make_block(description: bytes, y0: int, rows: int, scaled: tuple[float, float]) -> NDArray[Any]:
    """Slices `y0` and on, `(nz, rows, nx)` in the tomogram's type; the stack stays in memory for the next block."""
    with _ONE:
        slabs, nz, nx, kind = _slabs(description)
        block = np.empty((nz, rows, nx), kind)
        slabs(y0, block.transpose(1, 0, 2), Scaled(*scaled))
    return block


@lru_cache(maxsize=1)
def _slabs(description: bytes) -> tuple[Slabs, int, int, str]:
    said = msgspec.json.decode(description, type=BlockSource)
    jit.use_threads(said.threads)
    source = said.source()
    return maker(source, said.final)[0], source.nz, source.stack.shape[2], said.final.volume_type
