"""MRC files that appear whole or not at all: written under a temporary name, synced, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import mrcfile
import numpy as np
from numpy.typing import NDArray

from streamtomo.durable import sync_folder
from streamtomo.errors import OutputError

Kind = Literal["stack", "volume"]


@contextmanager
def new_mrc(
    path: Path, shape: tuple[int, int, int], dtype: str, *, pixel_size_A: float | None, kind: Kind, label: str
) -> Iterator[NDArray[Any]]:
    """Memory map `(nz, ny, nx)` to be filled; on leaving it becomes `path`, on an error nothing does.

    `dtype` is "int16" (mode 1) or "float32" (mode 2). Raises OutputError if the folder cannot be written.
    """
    part = path.with_name(path.name + ".part")
    mode = {"int16": 1, "float32": 2}[dtype]
    try:
        with mrcfile.new_mmap(part, shape=shape, mrc_mode=mode, overwrite=True) as mrc:
            if kind == "stack":
                mrc.set_image_stack()
            else:
                mrc.set_volume()
            _reserve(part)
            yield mrc.data
            mrc.update_header_stats()
            mrc.add_label(label)
            mrc.voxel_size = pixel_size_A or 1.0
            mrc.flush()
        _sync(part)
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); free space or mend the permissions"
        ) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _reserve(path: Path) -> None:
    """Take the room of a file on disk at once: a memory map on a disk that fills up would kill the process."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def check_mrc(path: Path, shape: tuple[int, int, int]) -> list[str]:
    """What is wrong with an MRC file of ours: shape, non-finite or constant values; empty if nothing is."""
    with mrcfile.mmap(path, mode="r") as mrc:
        data = mrc.data
        faults = [] if data.shape == shape else [f"{path.name}: shape {data.shape}, expected {shape}"]
        middle = np.asarray(data[data.shape[0] // 2], dtype=np.float32)
    if not np.isfinite(middle).all():
        faults.append(f"{path.name}: its central section holds values that are not finite")
    elif middle.min() == middle.max():
        faults.append(f"{path.name}: its central section is constant")
    return faults
