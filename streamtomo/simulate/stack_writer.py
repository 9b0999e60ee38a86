"""SerialEM's growing stack, how it is sorted at the end, and what all writers share."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamtomo.simulate import mdoc_text
from streamtomo.simulate.mdoc_text import Shot, Titles
from streamtomo.simulate.mrc import HEADER_BYTES, RECORD, Header, section_record

PIECES = 4
"""Writes in which one image reaches the disk."""


@dataclass(frozen=True)
class Written:
    """Where one image went."""

    path: Path
    section: int


class StackWriter:
    """Pixels, main header, extended header, mdoc, for each image."""

    def __init__(self, folder: Path, titles: Titles, sections: int, write_s: float, ending: str = "none") -> None:
        self._folder, self._titles, self._write_s, self._ending = folder, titles, write_s, ending
        self._path = folder / titles.image_file
        self._mdoc = folder / f"{titles.image_file}.mdoc"
        self._room = sections
        self._shots: list[Shot] = []
        extended = -(-sections * RECORD.size // HEADER_BYTES) * HEADER_BYTES
        self._header = Header(titles.shape_yx, titles.dtype, titles.pixel_size_A, titles.labels(), 0, extended)
        self._file = self._path.open("wb")

    def write(self, image: NDArray[np.generic], shot: Shot) -> Written:
        """Add the next image."""
        check(image, self._titles)
        if image.ndim == 3:
            raise ValueError("a growing stack holds no movies; they are in files of their own (serialem-frames)")
        head, z = self._header, self._header.sections
        if z == self._room:
            raise ValueError(f"{self._path}: no room for more than {z} sections; open the writer with more")
        self._file.seek(HEADER_BYTES + head.extended_bytes + z * head.section_bytes)
        write_slowly(self._file, image.tobytes(), self._write_s)
        head.statistics.add(image)
        head.sections += 1
        self._put(0, head.pack())
        record = section_record(shot.angle_deg, shot.stage_um, mdoc_text.MAGNIFICATION, 0.115275)
        self._put(HEADER_BYTES + z * RECORD.size, record)
        add_section(self._mdoc, z, mdoc_text.serialem_section(z, shot, self._titles, image), self._titles)
        self._shots.append(shot)
        return Written(self._path, z)

    def close(self) -> dict[Written, Written]:
        """End the series, and sort it if that is its ending; returns where each image lies then."""
        self._file.close()
        if self._ending == "none" or not self._shots:
            return {}
        return self._sort_aside() if self._ending == "sort-aside" else self._sort()

    def _sort(self) -> dict[Written, Written]:
        """A sorted copy is written beside, and takes the place of the stack."""
        order = self._copy_sorted(self._path, f"{self._path.stem}_sorted{self._path.suffix}")
        copy = self._path.with_stem(f"{self._path.stem}_sorted")
        for suffix in ("", ".mdoc"):
            Path(f"{self._path}{suffix}").unlink()
        for suffix in ("", ".mdoc"):
            Path(f"{copy}{suffix}").rename(f"{self._path}{suffix}")
        return self._places(order)

    def _sort_aside(self) -> dict[Written, Written]:
        """The stack gets another name, and a sorted copy is written under its own."""
        aside = self._path.with_stem(f"{self._path.stem}_unsorted")
        for suffix in ("", ".mdoc"):
            Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
        return self._places(self._copy_sorted(aside, self._path.name))

    def _copy_sorted(self, source: Path, name: str) -> list[int]:
        """Write the sections of a stack in ascending tilt under another name; returns their order."""
        order = sorted(range(len(self._shots)), key=lambda z: self._shots[z].angle_deg)
        offset = HEADER_BYTES + self._header.extended_bytes
        images = np.fromfile(source, self._titles.dtype, offset=offset).reshape(-1, *self._titles.shape_yx)
        writer = StackWriter(self._folder, replace(self._titles, image_file=name), self._room, 0.0)
        for z in order:
            writer.write(images[z], self._shots[z])
        writer.close()
        return order

    def _places(self, order: list[int]) -> dict[Written, Written]:
        return {Written(self._path, z): Written(self._path, place) for place, z in enumerate(order)}

    def _put(self, offset: int, data: bytes) -> None:
        self._file.seek(offset)
        self._file.write(data)
        self._file.flush()


def check(image: NDArray[np.generic], titles: Titles) -> None:
    """Raises ValueError for an image that the file was not opened for."""
    if image.shape[-2:] != titles.shape_yx or image.dtype != titles.dtype:
        raise ValueError(
            f"{titles.image_file}: opened for {titles.dtype.name} images of {titles.shape_yx}, "
            f"given {image.dtype.name} of {image.shape}"
        )


def write_slowly(file: io.BufferedWriter, data: bytes, write_s: float) -> None:
    """Several writes, so that a reader can meet a file that is not whole."""
    size = -(-len(data) // PIECES)
    for start in range(0, len(data), size):
        file.write(data[start : start + size])
        file.flush()
        time.sleep(write_s / PIECES)


def add_section(path: Path, z: int, lines: list[str], titles: Titles) -> None:
    """Whole for the first section, appended for the others; every line ends in CRLF."""
    if z == 0:
        lines = [*mdoc_text.serialem_head(titles), *lines]
    with path.open("wb" if z == 0 else "ab") as file:
        file.write("".join(line + "\r\n" for line in lines).encode("ascii"))
