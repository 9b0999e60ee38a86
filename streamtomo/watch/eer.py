"""EER movies (Thermo Fisher's Falcon cameras): lists of electrons, summed into dose fractions at the physical pixel.

A BigTIFF whose pages are the camera's frames, some hundreds of them; the places of the electrons inside a pixel are not
used. Format: EER File Format Documentation 3.0 (Thermo Fisher Scientific, 2023). The streams are decoded by a kernel of
ours instead of imagecodecs: it finds a frame whose bits do not end at its last pixel (a file made to its full length
before it is copied holds zeros, which would pass for electrons), and adds to the fraction's counts straight away.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from io import FileIO
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from streamtomo.errors import BadImage
from streamtomo.watch.image_file import ImageInfo, fill
from streamtomo.watch.tiff import check_size, data_end, open_pages

COMPRESSIONS = frozenset({65000, 65001, 65002})
_METADATA = 65001
_SKIP_BITS, _HORIZONTAL_BITS, _VERTICAL_BITS = 65007, 65008, 65009
_MAX_BITS = 25
"""What fits in a word of 32 bits wherever in a byte it begins."""
_SLACK = 4
"""Bytes that the kernel may look at behind a stream."""
BYTE_FRAMES = 255
"""So many camera frames are counted in bytes, more of them in portions: counting in words takes twice the time."""


class _Coding(NamedTuple):
    """How the bits of a stream are shared out."""

    skip_bits: int
    place_bits: int
    wasteful: bool = False


def holds_electrons(pages: list[Any]) -> bool:
    """Whether these are the pages of an EER movie; the first may be the camera's own sum."""
    return any(int(page.compression) in COMPRESSIONS for page in pages[:2])


def probe_eer(path: str, pages: list[Any], size: int) -> ImageInfo:
    """What the directories tell of a file of `size` bytes; raises `BadImage` for codes that cannot be read."""
    frames = _camera_frames(pages)
    _coding(frames[0], path)
    check_size(path, frames[0].imagewidth, frames[0].imagelength)
    expected = data_end(frames) or size + 1
    return ImageInfo(
        kind="eer",
        nx=int(frames[0].imagewidth),
        ny=int(frames[0].imagelength),
        sections=1,
        frames=len(frames),
        dtype="|u1",
        whole_sections=int(expected <= size),
        expected_bytes=expected,
        pixel_size_A=_pixel_size(pages[0]) or _pixel_size(frames[0]),
    )


def read_fractions(path: str, file: FileIO, info: ImageInfo, group: int) -> Iterator[NDArray[Any]]:
    """Sums of `group` camera frames each, `(ny, nx)`, in the file's order of rows, in the smallest unsigned type.

    The last one has what is left. Raises `BadImage` for a damaged frame.
    """
    with open_pages(path) as pages:
        frames = _camera_frames(pages)
    movie = _Movie(path, file, frames, info.nx * info.ny)
    coding = movie.coding()
    kind = np.min_scalar_type(min(group, len(frames)))
    for start in range(0, len(frames), group):
        counts = movie.events(range(start, min(start + group, len(frames))), coding)
        yield counts.astype(kind, copy=False).reshape(info.ny, info.nx)


class _Movie(NamedTuple):
    """An open movie: the pages of its camera frames, and the number of their pixels."""

    path: str
    file: FileIO
    frames: list[Any]
    pixels: int

    def coding(self) -> _Coding:
        """How its streams are coded. Codes of 8 bits come in two dialects, and no header tells which.

        The first cameras wrote an event's place behind a full run, too. Right is what ends at the last pixel.
        """
        coding = _coding(self.frames[0], self.path)
        wasteful = coding._replace(wasteful=True)
        if coding.skip_bits == 8 and self._add(0, wasteful, np.zeros(self.pixels, np.uint8)) == self.pixels:
            return wasteful
        return coding

    def events(self, numbers: range, coding: _Coding) -> NDArray[Any]:
        """Events of these frames at each pixel."""
        if len(numbers) > BYTE_FRAMES:
            total = np.zeros(self.pixels, np.min_scalar_type(len(numbers)))
            for turn in range(0, len(numbers), BYTE_FRAMES):
                total += self.events(numbers[turn : turn + BYTE_FRAMES], coding)
            return total
        counts = np.zeros(self.pixels, np.uint8)
        for number in numbers:
            if self._add(number, coding, counts) != self.pixels:
                text = f"{self.path}: camera frame {number} is damaged: its electrons end before its pixels do"
                raise BadImage(text + "; copy the file again")
        return counts

    def _add(self, number: int, coding: _Coding, counts: NDArray[np.uint8]) -> int:
        from streamtomo.watch.eer_kernels import add_events  # numba is only started by those who have such movies

        return add_events(self._stream(number), coding.skip_bits, coding.place_bits, coding.wasteful, counts)

    def _stream(self, number: int) -> NDArray[np.uint8]:
        """The bits of one camera frame, its strips one behind the other, with the slack that the kernel wants."""
        page = self.frames[number]
        stream = np.zeros(sum(page.databytecounts) + _SLACK, np.uint8)
        at = 0
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            self.file.seek(offset)
            fill(self.file, stream[at : at + count], self.path)
            at += count
        return stream


def _camera_frames(pages: list[Any]) -> list[Any]:
    events = [page for page in pages if int(page.compression) in COMPRESSIONS]
    size = (events[0].imagewidth, events[0].imagelength, events[0].compression)
    return [page for page in events if (page.imagewidth, page.imagelength, page.compression) == size]


def _coding(page: Any, path: str) -> _Coding:
    if int(page.compression) != 65002:
        return _Coding(8 if int(page.compression) == 65000 else 7, 4)
    skip, across, up = (
        int(page.tags.valueof(tag, default))
        for tag, default in ((_SKIP_BITS, 7), (_HORIZONTAL_BITS, 2), (_VERTICAL_BITS, 2))
    )
    if not (1 < skip <= 16 and across >= 0 and up >= 0 and skip + across + up <= _MAX_BITS):
        raise BadImage(f"{path}: is an EER movie with codes of {skip} + {across} + {up} bits, which are not read")
    return _Coding(skip, across + up)


def _pixel_size(page: Any) -> float | None:
    """Å per physical pixel at the specimen, from the metadata of the acquisition; None where they do not have it."""
    block = page.tags.valueof(_METADATA)
    found = re.search(rb"<metadata.*</metadata>", block, re.DOTALL) if isinstance(block, bytes) else None
    if found is None:
        return None
    try:
        item = ElementTree.fromstring(found[0]).find("./item[@name='sensorPixelSize.width']")
        metres = float(item.text or "") if item is not None and item.get("unit", "m") == "m" else math.nan
    except (ElementTree.ParseError, ValueError):
        return None
    return float(f"{1e10 * metres:.6g}") if 1e-13 < metres < 1e-6 else None
