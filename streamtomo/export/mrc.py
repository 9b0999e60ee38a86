"""MRC files that appear whole or not at all: written under a temporary name, synced, renamed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import mrcfile
import numpy as np
from numpy.typing import NDArray

from streamtomo.durable import sync_folder
from streamtomo.errors import InputError, OutputError
from streamtomo.jit import parallel_kernel, prange

Kind = Literal["stack", "volume"]


class Statistics(NamedTuple):
    """What a header says of the values."""

    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    squares: float = 0.0
    """Sum of the squared distances from `about`."""
    number: int = 0
    about: float = 0.0

    @property
    def mean(self) -> float:
        """Mean value; 0 of nothing."""
        return self.total / self.number if self.number else 0.0

    @property
    def sd(self) -> float:
        """Standard deviation; 0 of nothing."""
        if not self.number:
            return 0.0
        return math.sqrt(max(0.0, self.squares / self.number - (self.mean - self.about) ** 2))

    def plus(self, values: NDArray[Any]) -> Statistics:
        """With these values `(n, ny, nx)` as well, int16 or float32; rows must be contiguous."""
        about = self.about if self.number else float(values[0, 0, 0])
        rows = _statistics(values, np.float64(about))
        return Statistics(
            low=min(self.low, float(rows[0].min())),
            high=max(self.high, float(rows[1].max())),
            total=self.total + float(rows[2].sum()),
            squares=self.squares + float(rows[3].sum()),
            number=self.number + values.size,
            about=about,
        )


@parallel_kernel
def _statistics(values: Any, about: Any) -> Any:
    """For each section of `(n, ny, nx)`: lowest, highest, sum, squared distances from `about`; `(4, n)`."""
    rows = np.empty((4, values.shape[0]), np.float64)
    for n in prange(values.shape[0]):
        low, high = values[n, 0, 0], values[n, 0, 0]
        total, squares = 0.0, 0.0
        for y in range(values.shape[1]):
            row = values[n, y]
            for x in range(row.shape[0]):
                low, high = min(low, row[x]), max(high, row[x])
                value = np.float64(row[x])
                total += value
                squares += (value - about) * (value - about)
        rows[0, n], rows[1, n], rows[2, n], rows[3, n] = low, high, total, squares
    return rows


class Blocks:
    """A file `(nz, ny, nx)` that is written block by block, from one buffer, and not through the memory's pages.

    A page that is new to a process costs more than what is written to it; and a disk that is full is an error here,
    not a signal that ends the process.
    """

    def __init__(self, file: int, offset: int, shape: tuple[int, int, int], dtype: str) -> None:
        self._file, self._offset, self._shape = file, offset, shape
        self.dtype = np.dtype(dtype)
        self.statistics = Statistics()

    def write(self, y0: int, block: NDArray[Any]) -> None:
        """Rows `y0` and on of all sections, `(nz, rows, nx)`, each section's rows contiguous."""
        _, ny, nx = self._shape
        if block.dtype != self.dtype:
            raise ValueError(f"a block is {block.dtype}, the file {self.dtype}")
        self.statistics = self.statistics.plus(block)
        for z, rows in enumerate(block):
            self._put(rows, self._offset + ((z * ny + y0) * nx) * self.dtype.itemsize)

    def read(self, y0: int, block: NDArray[Any]) -> None:
        """What was written by an earlier process, into a block as in `write`; it counts as written by this one."""
        _, ny, nx = self._shape
        for z, rows in enumerate(block):
            os.preadv(self._file, [rows.data], self._offset + ((z * ny + y0) * nx) * self.dtype.itemsize)
        self.statistics = self.statistics.plus(block)

    def sync(self) -> None:
        """Wait until all that was written is on disk."""
        os.fsync(self._file)

    def write_section(self, z: int, section: NDArray[Any]) -> None:
        """One whole section `(ny, nx)`."""
        _, ny, nx = self._shape
        if section.dtype != self.dtype:
            raise ValueError(f"a section is {section.dtype}, the file {self.dtype}")
        self.statistics = self.statistics.plus(section[None])
        self._put(section, self._offset + z * ny * nx * self.dtype.itemsize)

    def _put(self, rows: NDArray[Any], at: int) -> None:
        left = memoryview(rows.data).cast("B")
        while left:
            written = os.pwrite(self._file, left, at)
            left, at = left[written:], at + written


@contextmanager
def new_blocks(
    path: Path,
    shape: tuple[int, int, int],
    dtype: str,
    *,
    pixel_size_A: float | None,
    kind: Kind,
    label: str,
    resume: bool = False,
) -> Iterator[Blocks]:
    """A file `(nz, ny, nx)` to be filled; on leaving it becomes `path`, on an error nothing does.

    `dtype` is "int16" (mode 1) or "float32" (mode 2); with `resume` into what an earlier process left of the same file.
    Raises OutputError if the folder cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        if not resume:
            _start(part, shape, dtype, pixel_size_A, kind, label)
        with mrcfile.mmap(part, mode="r+") as mrc, part.open("r+b", buffering=0) as file:
            blocks = Blocks(file.fileno(), 1024 + int(mrc.header.nsymbt), shape, dtype)
            yield blocks
            _describe(mrc, blocks.statistics)
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


def _start(
    part: Path, shape: tuple[int, int, int], dtype: str, pixel_size_A: float | None, kind: Kind, label: str
) -> None:
    """A file of the size that it will have, with its header: another process can go on with it."""
    mode = {"int16": 1, "float32": 2}[dtype]
    with mrcfile.new_mmap(part, shape=shape, mrc_mode=mode, overwrite=True) as mrc:
        if kind == "stack":
            mrc.set_image_stack()
        else:
            mrc.set_volume()
        _reserve(part)
        mrc.add_label(label)
        mrc.voxel_size = pixel_size_A or 1.0


def _reserve(path: Path) -> None:
    """Take the room of a file on disk at once: a memory map on a disk that fills up would kill the process."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def _describe(mrc: Any, values: Statistics) -> None:
    header = mrc.header
    header.dmin, header.dmax, header.dmean, header.rms = values.low, values.high, values.mean, values.sd


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sections(path: Path) -> Iterator[NDArray[Any]]:
    """The sections `(ny, nx)` of a stack of ours, one after the other, each in memory. Raises OutputError."""
    try:
        with mrcfile.mmap(path, mode="r") as mrc:
            for section in mrc.data:
                yield np.array(section)
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{path}: cannot be read again ({error}); finish the series from the step that makes it"
        ) from None


def rows(path: Path, y0: int, count: int) -> NDArray[Any]:
    """Rows `y0` and on of all sections of a file, `(nz, count, nx)`, in memory. Raises OutputError."""
    with mapped(path) as voxels:
        return np.array(voxels[:, y0 : y0 + count])


@contextmanager
def mapped(path: Path) -> Iterator[NDArray[Any]]:
    """The voxels `(nz, ny, nx)` of a file of ours as a memory map, only to be read. Raises OutputError."""
    try:
        mrc = mrcfile.mmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{path}: cannot be read again ({error}); finish the series from the step that makes it"
        ) from None
    with mrc:
        yield mrc.data


def section(path: Path, z: int) -> NDArray[Any]:
    """One section `(ny, nx)` of a file of ours, in memory."""
    with mrcfile.mmap(path, mode="r") as mrc:
        return np.array(mrc.data[z])


def volume_of(path: Path) -> tuple[NDArray[Any], float | None]:
    """A file's values, memory-mapped, and its voxel size in Å, where it tells one. Raises InputError."""
    try:
        with mrcfile.mmap(path, mode="r") as mrc:
            voxel = float(mrc.voxel_size.x)
            return mrc.data, voxel if voxel > 0 else None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is no MRC file that can be read ({error})") from None


def shape_of(path: Path) -> tuple[int, int, int]:
    """`(nz, ny, nx)` of a file of ours."""
    with mrcfile.open(path, mode="r", header_only=True) as mrc:
        return int(mrc.header.nz), int(mrc.header.ny), int(mrc.header.nx)


def voxel_of(path: Path) -> float:
    """Size of a pixel or voxel of a file of ours along x, Å."""
    with mrcfile.open(path, mode="r", header_only=True) as mrc:
        return float(mrc.voxel_size.x)


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
