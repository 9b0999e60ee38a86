"""Whether a TIFF file is all there, by its chain of directories; the reading itself is tifffile's.

tifffile ends its list of pages quietly where the chain leads out of the file, so that a movie half written would pass.
Layout: TIFF 6.0 (Adobe, 1992) and BigTIFF.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import FileIO
from typing import NamedTuple

from streamtomo.errors import NotReady

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BIG = (b"II+\0", b"MM\0+")
_TYPE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
"""Length of a value by the code of its type."""


class _Layout(NamedTuple):
    """Where things stand in a directory."""

    first: int
    """Byte of the offset of the first directory."""
    offset: str
    number: str
    entry: str
    """A tag: code, type, number of values, and the values or their offset."""


_CLASSIC = _Layout(first=4, offset="I", number="H", entry="HHII")
_BIG_TIFF = _Layout(first=8, offset="Q", number="Q", entry="HHQQ")


def check_directories(file: FileIO, head: bytes, size: int, name: str) -> None:
    """Raise `NotReady` unless all directories, and the values that they point to, lie within the file.

    `head` is the file's beginning, `size` its length.
    """
    order = "<" if head[:2] == b"II" else ">"
    layout = _BIG_TIFF if head[:4] in _BIG else _CLASSIC
    try:
        ends = max(_ends(file, order, layout))
    except (struct.error, ValueError, OverflowError) as error:
        raise NotReady(f"{name}: its TIFF directory is not complete") from error
    if ends > size:
        raise NotReady(f"{name}: its TIFF directory is not complete")


def _ends(file: FileIO, order: str, layout: _Layout) -> Iterator[int]:
    """Byte behind everything that the directories of all pages hold or point to, pixels excepted."""
    offset = _unpack(file, layout.first, order + layout.offset)[0]
    if offset == 0:
        raise ValueError("no directory yet")
    seen = set[int]()
    while offset:
        if offset in seen:
            raise ValueError("the directories run in a circle")
        seen.add(offset)
        (tags,) = _unpack(file, offset, order + layout.number)
        start = offset + struct.calcsize(order + layout.number)
        entry = struct.Struct(order + layout.entry)
        block = _read(file, start, tags * entry.size)
        if tags == 0 or any(kind == 0 for _, kind, _, _ in entry.iter_unpack(block)):
            raise ValueError("a directory holds zeros")  # a copy may have its full length before its content
        inline = struct.calcsize(layout.offset)
        yield from (_value_end(kind, count, at, inline) for _, kind, count, at in entry.iter_unpack(block))
        yield start + len(block)
        offset = _unpack(file, start + len(block), order + layout.offset)[0]


def _value_end(kind: int, count: int, offset: int, inline: int) -> int:
    length = count * (_TYPE_BYTES[kind] if kind < len(_TYPE_BYTES) else 0)
    return offset + length if length > inline else 0


def _unpack(file: FileIO, place: int, form: str) -> tuple[int, ...]:
    return struct.unpack(form, _read(file, place, struct.calcsize(form)))


def _read(file: FileIO, place: int, length: int) -> bytes:
    inside = place <= os.fstat(file.fileno()).st_size and length < 1 << 24  # systems refuse to seek much further
    file.seek(place if inside else 0)
    data = file.read(length) if inside else b""
    if len(data) != length:
        raise ValueError("the file ends before its directory")
    return data
