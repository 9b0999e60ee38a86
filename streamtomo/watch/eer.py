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
from streamtomo.watch.tiff import all_pages, data_end, open_tiff

COMPRESSIONS = frozenset({65000, 65001, 65002})
_METADATA = 65001
_SKIP_BITS, _HORIZONTAL_BITS, _VERTICAL_BITS = 65007, 65008, 65009
_MAX_BITS = 25
"""What fits in a word of 32 bits wherever in a byte it begins."""
_SLACK = 4
"""Bytes that the kernel may look at behind a stream."""
BYTE_FRAMES = 255
"""The most camera frames whose counts fit in bytes: half the time of larger fractions, whose counts leave the cache."""


class _Coding(NamedTuple):
    """How the bits of a stream are shared out."""

    skip_bits: int
    place_bits: int
    wasteful: bool = False


def is_eer(pages: list[Any]) -> bool:
    """Whether these are the pages of an EER movie; the first may be the camera's own sum."""
    return any(int(page.compression) in COMPRESSIONS for page in pages[:2])


def probe_eer(path: str, pages: list[Any], size: int) -> ImageInfo:
    """What the directories tell of a file of `size` bytes; raises `BadImage` for codes that cannot be read."""
    frames = _camera_frames(pages)
    _coding(frames[0], path)
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
    with open_tiff(path) as tiff:
        frames = _camera_frames(all_pages(tiff, path))
    coding = _coding(frames[0], path)
    if coding.skip_bits == 8:
        coding = _dialect(_stream(path, file, frames[0]), coding, info)
    for start in range(0, len(frames), group):
        counts = np.zeros(info.nx * info.ny, np.min_scalar_type(min(group, len(frames))))
        for number, frame in enumerate(frames[start : start + group], start):
            if _add(_stream(path, file, frame), coding, counts) != counts.size:
                raise BadImage(f"{path}: camera frame {number} is damaged: its electrons end before its pixels do")
        yield counts.reshape(info.ny, info.nx)


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


def _dialect(stream: NDArray[np.uint8], coding: _Coding, info: ImageInfo) -> _Coding:
    """Codes of 8 bits come in two dialects, and the number of the compression does not tell which.

    The first cameras wrote an event's place behind a full run, too. Right is what ends at the last pixel.
    """
    wasteful = coding._replace(wasteful=True)
    pixels = info.nx * info.ny
    return wasteful if _add(stream, wasteful, np.zeros(pixels, np.uint8)) == pixels else coding


def _stream(path: str, file: FileIO, page: Any) -> NDArray[np.uint8]:
    """The bits of one camera frame, its strips one behind the other, with the slack that the kernel wants."""
    stream = np.zeros(sum(page.databytecounts) + _SLACK, np.uint8)
    at = 0
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(offset)
        fill(file, stream[at : at + count], path)
        at += count
    return stream


def _add(stream: NDArray[np.uint8], coding: _Coding, counts: NDArray[Any]) -> int:
    from streamtomo.watch.eer_kernels import add_events  # numba is only started by those who have such movies

    return add_events(stream, coding.skip_bits, coding.place_bits, coding.wasteful, counts)


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
