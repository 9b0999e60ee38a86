"""The headers of MRC files: 1024 bytes that everybody writes a little differently, and what vendors put behind them.

Layout of MRC2014: Cheng et al., J. Struct. Biol. 192 (2015) 146. Extended headers: SerialEM ("SERI", or older without a
name, told by the bits of `nreal`), FEI before 2012 (records of 32 floats), FEI1/FEI2 (Thermo Fisher, records with their
own length).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from msgspec import Struct

from streamtomo.errors import BadImage, NotReady

HEADER_BYTES = 1024
MAX_SIDE = 200_000
"""No camera is wider; a larger number is no header."""
MAX_SECTIONS = 1_000_000
MAX_EXTENDED_BYTES = 1 << 28

PACKED = 101
"""The mode of pixels of 4 bits (IMOD, SerialEM)."""
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", PACKED: "u1"}
"""Pixel types by MRC mode."""
OTHER_MODES = {3: "complex int16", 4: "complex float32", 16: "RGB"}

_READABLE = "write mode 0, 1, 2, 6, 12 or 101"
_IMOD_STAMP = 1146047817
_IMOD_SIGNED, _IMOD_PACKED = 1, 16
"""IMOD's flags: bytes are signed; bytes hold two pixels of 4 bits, and nx is half of the image's."""
_AXIS = re.compile(r"Tilt axis (?:rotation )?angle\s*=\s*([-+]?\d+(?:\.\d+)?)", re.IGNORECASE)
_SERIALEM_BYTES = {1: 2, 2: 6, 4: 4, 8: 2, 16: 2, 32: 4}
"""Bytes that each bit of `nreal` adds to a section's record in SerialEM's extended header; the angle comes first."""
_SAME_DEG = 0.05
"""A stage that stands still reads the same within this."""
_FEI_RECORD_BYTES = 128
_FEI_PIXEL_SIZE = 11
"""Index of the pixel size (metres) among the 32 floats of an old FEI record; the tilt angle is the first."""
_FEI1_ANGLE, _FEI1_PIXEL_SIZE = 100, 156
"""Offsets of the tilt angle and the pixel size (metres), both float64, in a record of FEI1 and FEI2."""


class MrcHeader(Struct, frozen=True, kw_only=True):
    """What the fixed header tells."""

    nx: int
    """Pixels in a row of the image, however they are packed."""
    ny: int
    sections: int
    dtype: str
    """numpy's type of a stored pixel, with byte order."""
    packed: bool = False
    """Two pixels of 4 bits in each byte."""
    extended_bytes: int
    pixel_size_A: float | None
    titles: tuple[str, ...]
    order: str
    """Byte order, `<` or `>`."""

    @property
    def data_offset(self) -> int:
        """Byte where the first image begins."""
        return HEADER_BYTES + self.extended_bytes

    @property
    def section_bytes(self) -> int:
        """Length of one image."""
        row = (self.nx + 1) // 2 if self.packed else self.nx * np.dtype(self.dtype).itemsize
        return self.ny * row


class Extended(NamedTuple):
    """What an extended header tells of the sections."""

    angles: tuple[float, ...] | None = None
    source: Literal["SerialEM", "FEI"] | None = None
    pixel_size_A: float | None = None


def parse_header(head: bytes, name: str) -> MrcHeader:
    """The fixed header from a file's first 1024 bytes; `name` is for the messages.

    Raises `NotReady` while there is no header yet and `BadImage` when these bytes are none.
    """
    if head and _is_text(head):
        raise BadImage(f"{name}: is text, not an image")
    if len(head) < HEADER_BYTES:
        raise NotReady(f"{name}: {len(head)} bytes, shorter than an MRC header")
    if not any(head[:16]):
        raise NotReady(f"{name}: its header is still empty")
    order = _byte_order(head)
    if order is None:
        raise BadImage(f"{name}: {_what_is_wrong(head)}")
    nx, ny, sections, mode = struct.unpack_from(order + "4i", head, 0)
    halved = mode == 0 and bool(_imod_flags(head, order) & _IMOD_PACKED)
    return MrcHeader(
        nx=2 * nx if halved else nx,
        ny=ny,
        sections=sections,
        dtype="|u1" if halved else _pixel_type(head, order, mode).str,
        packed=halved or mode == PACKED,
        extended_bytes=struct.unpack_from(order + "i", head, 92)[0],
        pixel_size_A=_pixel_size(head, order),
        titles=_titles(head, order),
        order=order,
    )


def parse_extended(head: bytes, extended: bytes, header: MrcHeader) -> Extended:
    """Angles and pixel size from the extended header; empty where its kind is not known or it is not whole."""
    name = head[104:108]
    record_bytes, flags = struct.unpack_from(header.order + "2h", head, 128)
    if name in (b"FEI1", b"FEI2"):
        return _parse_fei1(extended, header)
    if _is_serialem(record_bytes, flags):
        return _parse_serialem(extended, header, record_bytes, flags)
    if record_bytes == 0 and flags == 32:
        return _parse_fei(extended, header)
    return Extended()


def axis_from_titles(titles: Sequence[str]) -> float | None:
    """Tilt-axis angle from SerialEM's title line, `Tilt axis angle = 85.3`."""
    for title in titles:
        if match := _AXIS.search(title):
            return float(match.group(1))
    return None


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\n\r\f" or byte >= 32 for byte in head) and b"\0" not in head and len(head) >= 4


def _is_sane(head: bytes, order: str) -> bool:
    nx, ny, nz, mode = struct.unpack_from(order + "4i", head, 0)
    extended_bytes = struct.unpack_from(order + "i", head, 92)[0]
    return (
        0 < nx <= MAX_SIDE
        and 0 < ny <= MAX_SIDE
        and 0 <= nz <= MAX_SECTIONS  # 0: SerialEM opened the file and waits for the first image
        and mode in MODES
        and 0 <= extended_bytes <= MAX_EXTENDED_BYTES
    )


def _byte_order(head: bytes) -> str | None:
    """The byte order under which the numbers make sense; the machine stamp, often wrong, is only asked first."""
    orders = (">", "<") if head[212] == 0x11 else ("<", ">")
    return next((order for order in orders if _is_sane(head, order)), None)


def _what_is_wrong(head: bytes) -> str:
    order = ">" if head[212] == 0x11 else "<"
    nx, ny, nz, mode = struct.unpack_from(order + "4i", head, 0)
    if mode in OTHER_MODES and 0 < nx <= MAX_SIDE and 0 < ny <= MAX_SIDE:
        return f"mode {mode} ({OTHER_MODES[mode]}) is not read; {_READABLE}"
    if 0 < nx <= MAX_SIDE and 0 < ny <= MAX_SIDE and 0 <= nz <= MAX_SECTIONS and 0 <= mode < 200:
        if mode in MODES:
            extended_bytes = struct.unpack_from(order + "i", head, 92)[0]
            return f"its header says that {extended_bytes} bytes of extended header follow; write it anew (newstack)"
        return f"mode {mode} is no known pixel type; {_READABLE}"
    return f"is no MRC file (its header says {nx} x {ny} x {nz} pixels, mode {mode})"


def _pixel_type(head: bytes, order: str, mode: int) -> np.dtype[np.generic]:
    if mode == 0 and _bytes_are_unsigned(head, order):
        return np.dtype("u1")
    return np.dtype(order + MODES[mode])


def _bytes_are_unsigned(head: bytes, order: str) -> bool:
    """The standard has signed bytes; IMOD says in a flag what it wrote, others betray it by their maximum."""
    if _is_imods(head, order):
        return not _imod_flags(head, order) & _IMOD_SIGNED
    low, high = struct.unpack_from(order + "2f", head, 76)
    return bool(low >= 0 and 127 < high <= 255)


def _is_imods(head: bytes, order: str) -> bool:
    return bool(struct.unpack_from(order + "i", head, 152)[0] == _IMOD_STAMP)


def _imod_flags(head: bytes, order: str) -> int:
    return int(struct.unpack_from(order + "i", head, 156)[0]) if _is_imods(head, order) else 0


def _pixel_size(head: bytes, order: str) -> float | None:
    """Å per pixel along x; None where the header has none, or the 1.0 that writers put when they do not know."""
    mx = struct.unpack_from(order + "i", head, 28)[0]
    cell = struct.unpack_from(order + "f", head, 40)[0]
    if mx <= 0 or not math.isfinite(cell):
        return None
    size = _six_digits(abs(cell) / mx)
    return size if 1e-3 < size < 1e5 and size != 1.0 else None


def _titles(head: bytes, order: str) -> tuple[str, ...]:
    count = struct.unpack_from(order + "i", head, 220)[0]
    lines = (head[224 + 80 * i : 304 + 80 * i] for i in range(min(max(count, 0), 10)))
    texts = (line.split(b"\0")[0].decode("latin-1").strip() for line in lines)
    return tuple(text for text in texts if text)


def _is_serialem(record_bytes: int, flags: int) -> bool:
    if record_bytes <= 0 or not 0 < flags < 64:
        return False
    return record_bytes == sum(size for bit, size in _SERIALEM_BYTES.items() if flags & bit)


def _parse_serialem(extended: bytes, header: MrcHeader, record_bytes: int, flags: int) -> Extended:
    records = min(header.sections, len(extended) // record_bytes)
    if not flags & 1 or records < header.sections:
        return Extended()
    hundredths = (struct.unpack_from(header.order + "h", extended, i * record_bytes)[0] for i in range(records))
    return Extended(_plausible(tuple(value / 100 for value in hundredths)), "SerialEM")


def _parse_fei(extended: bytes, header: MrcHeader) -> Extended:
    records = len(extended) // _FEI_RECORD_BYTES
    if records < header.sections:
        return Extended()
    table = np.frombuffer(extended, header.order + "f4", records * 32).reshape(records, 32)[: header.sections]
    angles = _plausible(tuple(round(float(angle), 4) for angle in table[:, 0]))
    pixel_size = float(table[0, _FEI_PIXEL_SIZE]) if header.sections else 0.0
    return Extended(angles, "FEI", _from_metres(pixel_size))


def _parse_fei1(extended: bytes, header: MrcHeader) -> Extended:
    size = struct.unpack_from(header.order + "i", extended, 0)[0] if len(extended) >= 4 else 0
    if size < _FEI1_PIXEL_SIZE + 8 or len(extended) < size * header.sections or header.sections == 0:
        return Extended()
    double = struct.Struct(header.order + "d")
    angles = tuple(double.unpack_from(extended, i * size + _FEI1_ANGLE)[0] for i in range(header.sections))
    return Extended(_plausible(angles), "FEI", _from_metres(double.unpack_from(extended, _FEI1_PIXEL_SIZE)[0]))


def _from_metres(size: float) -> float | None:
    return _six_digits(size * 1e10) if math.isfinite(size) and 1e-13 < size < 1e-5 else None


def _six_digits(value: float) -> float:
    """What a float32 can hold, without the noise behind it."""
    return float(f"{value:.6g}")


def _plausible(angles: tuple[float, ...]) -> tuple[float, ...] | None:
    """The angles, unless they cannot be a tilt series' (out of range, or the same one for all: frames of a movie)."""
    if not angles or not all(math.isfinite(angle) and abs(angle) <= 90 for angle in angles):
        return None
    return angles if len(angles) == 1 or max(angles) - min(angles) > _SAME_DEG else None
