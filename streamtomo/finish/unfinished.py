"""Tomograms that take long are gone on with where a process ended, block by block of slices."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import __version__


class Progress(Struct, frozen=True, forbid_unknown_fields=True):
    """What stands beside a file that is being written, once its first slices are on disk."""

    key: str
    """What the file is made of and how."""
    rows: int
    """Slices of y that are on disk, from the first on."""


def key_of(stack: NDArray[np.float32], *how: Any) -> str:
    """Of a tomogram made from these views in this way, by this version of the program."""
    content = zlib.crc32(np.ascontiguousarray(stack).data)
    return f"{__version__} {stack.shape} {content:08x} {zlib.crc32(msgspec.json.encode(how)):08x}"


def beside(path: Path) -> Path:
    """Where the progress of what becomes `path` stands."""
    return path.with_name(f"{path.name}.part.json")


def rows_done(path: Path, key: str) -> int:
    """Slices of a file of this key that are on disk; 0, and what stands there is forgotten, where nothing fits."""
    try:
        progress = msgspec.json.decode(beside(path).read_bytes(), type=Progress)
    except (OSError, ValueError):
        progress = Progress("", 0)
    if key and progress.key == key and path.with_name(path.name + ".part").exists():
        return progress.rows
    forget(path)
    return 0


def note(path: Path, key: str, rows: int) -> None:
    """So many slices are on disk now."""
    fresh = path.with_name(f"{path.name}.part.json.new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(Progress(key, rows)))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(beside(path))


def forget(path: Path) -> None:
    """The file is whole, or given up."""
    beside(path).unlink(missing_ok=True)
