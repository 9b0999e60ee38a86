"""What the live lane knows of a series, on disk: `OUT/.live/NAME`, so that it need not stay in memory or be made again.

    12.image   corrected, binned image of tilt 12
    12.view    the same as the live volume keeps it: aligned and filtered
    volume     voxels of the live volume
    volume.counts   what a unit of density is in them
    9.state    what the aligner knew when nine tilts were accepted, as JSON; the last two are kept

A cache, which may be removed at any time: each file says what it is, how long it is and its checksum, and what is
damaged, cut off by a crash or out of date is as good as not there. Nothing is synced: a lost file costs time only.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo.align.patch_tracks import Memory

FOLDER = ".live"
CAMERAS = ".camera"
"""In it: what `camera` learned over all series, which is no cache."""
VERSION = 2
"""Of the files' format and of what the numbers in them mean."""
RESERVE_BYTES = 2e9
"""Room on the disk that is left for results."""
STATES_KEPT = 2
"""A crash may leave the journal one tilt behind the newest state."""

Image = NDArray[np.float32]


class TiltKey(Struct, frozen=True, array_like=True):
    """An accepted tilt and a digest of what the lane made of it."""

    index: int
    digest: str


class Snapshot(NamedTuple):
    """A series as the lane knows it; arrays are not copied."""

    about: str
    """Digest of the settings and the geometry that everything here depends on."""
    tilts: tuple[TiltKey, ...]
    """Accepted tilts, in the order in which they were."""
    memory: Memory
    images: dict[int, Image]
    views: dict[int, Image]
    """Filtered views of the volume, of all tilts or of some."""
    voxels: NDArray[Any] | None
    """Of the volume of all these tilts; None where it is not kept."""
    counts: float = 1.0
    """What a unit of density is in them."""


class _State(Struct, frozen=True, forbid_unknown_fields=True):
    tilts: tuple[TiltKey, ...]
    memory: Memory


class _Head(Struct, frozen=True, forbid_unknown_fields=True):
    """First line of a file with an array."""

    version: int
    dtype: str
    shape: tuple[int, ...]
    checksum: int
    about: str


def digest(*of: Any) -> str:
    """Short digest of anything that can be written as JSON."""
    return hashlib.blake2b(msgspec.json.encode(of), digest_size=8).hexdigest()


class LiveCache:
    """The folder of all series of a run."""

    def __init__(self, out: Path) -> None:
        """Nothing is made before it is needed."""
        self._folder = out / FOLDER
        self._written: dict[str, dict[str, str]] = {}
        """By series the files that are up to date, and what each is about."""

    def sweep(self, keep: Collection[str]) -> None:
        """Remove what belongs to none of these series; what begins with a dot is no series."""
        with contextlib.suppress(OSError):
            for path in list(self._folder.iterdir()):
                if path.name not in keep and not path.name.startswith("."):
                    shutil.rmtree(path, ignore_errors=True)

    def forget(self, name: str) -> None:
        """Remove all files of a series."""
        self._written.pop(name, None)
        shutil.rmtree(self._folder / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def save(self, name: str, snapshot: Snapshot) -> bool:
        """Write what is not there yet; False, and nothing is kept, where the disk does not take it."""
        folder, written = self._folder / name, self._written.setdefault(name, {})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._check_room(snapshot)
            for file, array, about in _files(snapshot):
                if written.get(file) != about:
                    written.pop(file, None)
                    write_array(folder / file, array, about)
                    written[file] = about
            self._save_state(folder, written, snapshot)
        except OSError:  # full or gone: whoever writes results there will say so
            self.forget(name)
            return False
        return True

    def load(self, name: str, about: str, tilts: Sequence[TiltKey]) -> Snapshot | None:
        """The newest state that fits, with all its images; its tilts are the first of `tilts`, in their order.

        Where there is none, what is there is of no use, and removed.
        """
        folder = self._folder / name
        for state in _states(folder, about):
            fits = state.tilts == tuple(tilts[: len(state.tilts)])
            if fits and (snapshot := _read_snapshot(folder, state, about)) is not None:
                self._written[name] = {file: about for file, _, about in _files(snapshot)}
                return snapshot
        self.forget(name)
        return None

    def _check_room(self, snapshot: Snapshot) -> None:
        needed = sum(array.nbytes for _, array, _ in _files(snapshot))
        if shutil.disk_usage(self._folder).free < needed + RESERVE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _save_state(self, folder: Path, written: dict[str, str], snapshot: Snapshot) -> None:
        name, key = f"{len(snapshot.tilts)}.state", _volume_key(snapshot.about, snapshot.tilts)
        if written.get(name) == key:
            return
        state = msgspec.json.encode(_State(snapshot.tilts, snapshot.memory))
        write_array(folder / name, np.frombuffer(state, np.uint8), snapshot.about)
        written[name] = key
        for path in _state_files(folder)[STATES_KEPT:]:
            path.unlink()
            written.pop(path.name, None)


def _files(snapshot: Snapshot) -> list[tuple[str, NDArray[Any], str]]:
    """Name, array and key of each file that a snapshot consists of, but for its state."""
    keys = {tilt.index: tilt.digest for tilt in snapshot.tilts}
    files: list[tuple[str, NDArray[Any], str]]
    files = [(f"{index}.image", image, keys[index]) for index, image in snapshot.images.items()]
    files += [(f"{index}.view", view, keys[index]) for index, view in snapshot.views.items()]
    if snapshot.voxels is not None:
        key = _volume_key(snapshot.about, snapshot.tilts)
        files += [("volume", snapshot.voxels, key), ("volume.counts", np.array([snapshot.counts]), key)]
    return files


def _volume_key(about: str, tilts: Sequence[TiltKey]) -> str:
    return digest(about, tilts)


def _states(folder: Path, about: str) -> Iterator[_State]:
    """States about this that can be read, the newest first."""
    for path in _state_files(folder):
        content = read_array(path, about)
        with contextlib.suppress(ValueError):
            yield msgspec.json.decode(b"" if content is None else content.tobytes(), type=_State)


def _state_files(folder: Path) -> list[Path]:
    """The newest first."""
    files = [path for path in folder.glob("*.state") if path.stem.isdecimal()]
    return sorted(files, key=lambda path: -int(path.stem))


def _read_snapshot(folder: Path, state: _State, about: str) -> Snapshot | None:
    """A state with its arrays; None where an image is missing."""
    images, views = {}, {}
    for tilt in state.tilts:
        image, view = (read_array(folder / f"{tilt.index}.{kind}", tilt.digest) for kind in ("image", "view"))
        if image is None:
            return None
        images[tilt.index] = image
        if view is not None:
            views[tilt.index] = view
    key = _volume_key(about, state.tilts)
    voxels, counts = (read_array(folder / name, key) for name in ("volume", "volume.counts"))
    if voxels is None or counts is None:
        return Snapshot(about, state.tilts, state.memory, images, views, None)
    return Snapshot(about, state.tilts, state.memory, images, views, voxels, float(counts[0]))


def write_array(path: Path, array: NDArray[Any], about: str) -> None:
    """Write an array with its checksum and what it is about. Raises OSError."""
    data = np.ascontiguousarray(array)
    head = _Head(VERSION, data.dtype.str, data.shape, zlib.crc32(data.data), about)
    _write(path, [msgspec.json.encode(head) + b"\n", data.data])


def read_array(path: Path, about: str) -> NDArray[Any] | None:
    """The array about this; None where it is damaged, about something else, or not there."""
    try:
        with path.open("rb") as file:
            head = msgspec.json.decode(file.readline(1 << 12), type=_Head)
            if (head.version, head.about) != (VERSION, about):
                return None
            array = np.fromfile(file, np.dtype(head.dtype))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if array.size != np.prod(head.shape, dtype=np.int64) or zlib.crc32(array.data) != head.checksum:
        return None
    return array.reshape(head.shape)


def _write(path: Path, blocks: Sequence[bytes | memoryview]) -> None:
    """Write a file over the one before it, which is several times faster than a new one."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0) as file:
        for block in blocks:
            left = memoryview(block).cast("B")
            while left:
                left = left[file.write(left) :]
        file.truncate()
