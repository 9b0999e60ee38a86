"""The microscopes of `microscopes` on a real disk, watched by the real watcher with the test's clock."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import tifffile
from microscopes import SETTLE_S, Disk, Pixels, Watcher
from msgspec.structs import replace

from streamtomo.config import Settings, Watch
from streamtomo.model import RawImage
from streamtomo.simulate.mrc import RECORD, Header, section_record
from streamtomo.watch.folder import FolderWatch

SHAPE = (10, 6)
ROOM = 1024
"""Bytes of the extended header."""


class RealDisk(Disk):
    """Keeps its record in memory, and has the files of it below a folder; every pixel is the number of its exposure."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def put(self, path: str, content: Pixels | str, size: int | None = None) -> None:
        """Write a file, truncated or longer as `size` says."""
        super().put(path, content, size)
        where = self.root / path
        where.parent.mkdir(exist_ok=True)
        data = content.encode() if isinstance(content, str) else _image_file(content, self.files[path].size)
        where.write_bytes(data)
        self._stamp(path)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        super().rename(old, new)
        (self.root / new).parent.mkdir(exist_ok=True)
        (self.root / old).rename(self.root / new)

    def remove(self, path: str) -> None:
        """Delete a file."""
        super().remove(path)
        (self.root / path).unlink()

    def copy(self, old: str, new: str, *, keep_time: bool = False) -> None:
        """A second file like this one."""
        super().copy(old, new, keep_time=keep_time)
        self._stamp(new)

    def _stamp(self, path: str) -> None:
        os.utime(self.root / path, (self.files[path].mtime,) * 2)


class RealWatcher(Watcher):
    """The folder watcher itself, its paths told relative to the folder."""

    def __init__(self, disk: RealDisk, known=()) -> None:
        super().__init__(disk, known)
        settings = Settings(watch=Watch(settle_s=SETTLE_S, relist_s=0.5, events="off"))
        self.root = f"{disk.root}{os.sep}"
        self.folder = FolderWatch(disk.root, settings, known=[self._there(image) for image in known])

    def step(self, *, events_only: bool = False) -> None:
        """One pass of the watcher."""
        for sighting in self.folder.step(self.now):
            if isinstance(sighting, RawImage):
                image = self._here(sighting)
                self.told[image.key] = image
            else:
                self.remarks.append(sighting)

    def _here(self, image: RawImage) -> RawImage:
        exposure = image.exposure and image.exposure.removeprefix(self.root)
        return replace(image, path=image.path.removeprefix(self.root), exposure=exposure)

    def _there(self, image: RawImage) -> RawImage:
        exposure = image.exposure and self.root + image.exposure
        return replace(image, path=self.root + image.path, exposure=exposure)


def _image_file(pixels: Pixels, size: int) -> bytes:
    values = [np.full(SHAPE, shot.number, np.int16) for shot in pixels.shots[: pixels.whole]]
    if pixels.kind == "tiff":
        memory = io.BytesIO()
        frames = np.repeat(values or [np.zeros(SHAPE, np.int16)], pixels.frames, axis=0)
        tifffile.imwrite(memory, frames, photometric="minisblack")
        return memory.getvalue() if values else memory.getvalue()[:size]
    header = Header(SHAPE, np.dtype(np.int16), 2.5, [], len(pixels.shots), ROOM if pixels.angles else 0)
    records = b"".join(section_record(shot.angle, (0.0, 0.0), 33000, 0.1) for shot in pixels.shots)
    extended = records.ljust(header.extended_bytes, b"\0")[: header.extended_bytes]
    assert len(records) <= ROOM or not pixels.angles, RECORD
    data = header.pack() + extended + b"".join(value.tobytes() for value in values)
    wanted = size + header.extended_bytes if size >= 1024 else size
    return data[:wanted].ljust(wanted, b"\0")
