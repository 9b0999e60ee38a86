"""The bytes of an MRC file, packed by hand as SerialEM fills them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MODES: dict[str, int] = {"uint8": 0, "int16": 1, "float32": 2, "uint16": 6}
HEADER_BYTES = 1024
IMOD_STAMP = 1146047817
"""Says that the flags beside it count; with no flag set, bytes (mode 0) are unsigned."""
TILT, STAGE, MAGNIFICATION, INTENSITY = 1, 4, 8, 16
"""SerialEM's flags for what each section's record in the extended header holds."""
RECORD = struct.Struct("<hhhhh")
RECORD_FLAGS = TILT | STAGE | MAGNIFICATION | INTENSITY


@dataclass
class Statistics:
    """Least, largest and mean count of all sections so far."""

    least: float = 0.0
    largest: float = 0.0
    total: float = 0.0
    sections: int = 0

    def add(self, image: NDArray[np.generic]) -> None:
        """Take in one more section."""
        low, high = float(image.min()), float(image.max())
        self.least = min(self.least, low) if self.sections else low
        self.largest = max(self.largest, high) if self.sections else high
        self.total += float(image.mean(dtype=np.float64))
        self.sections += 1

    @property
    def mean(self) -> float:
        """Of all pixels of all sections."""
        return self.total / max(1, self.sections)


@dataclass
class Header:
    """What a stack's main header says; `pack` gives its 1024 bytes."""

    shape_yx: tuple[int, int]
    dtype: np.dtype[np.generic]
    pixel_size_A: float | None
    titles: list[str]
    sections: int = 0
    extended_bytes: int = 0
    statistics: Statistics = field(default_factory=Statistics)

    @property
    def section_bytes(self) -> int:
        """Of one image."""
        return self.shape_yx[0] * self.shape_yx[1] * self.dtype.itemsize

    def pack(self) -> bytes:
        """Little-endian, an image stack (space group 0), rows upward."""
        (ny, nx), nz = self.shape_yx, self.sections
        with_records = self.extended_bytes > 0
        head = bytearray(HEADER_BYTES)
        struct.pack_into("<4i", head, 0, nx, ny, nz, MODES[self.dtype.name])
        struct.pack_into("<3i", head, 28, nx, ny, nz)
        struct.pack_into("<3f", head, 40, *(n * (self.pixel_size_A or 1.0) for n in (nx, ny, nz)))
        struct.pack_into("<3f3i", head, 52, 90.0, 90.0, 90.0, 1, 2, 3)
        s = self.statistics
        struct.pack_into("<3f", head, 76, s.least, s.largest, s.mean)
        struct.pack_into("<2i", head, 88, 0, self.extended_bytes)
        struct.pack_into("<4si", head, 104, b"SERI" if with_records else b"\0\0\0\0", 20140)
        struct.pack_into("<2h", head, 128, *((RECORD.size, RECORD_FLAGS) if with_records else (0, 0)))
        struct.pack_into("<2i", head, 152, IMOD_STAMP, 0)
        struct.pack_into("<4s4s", head, 208, b"MAP ", b"\x44\x44\0\0")
        struct.pack_into("<fi", head, 216, -1.0, len(self.titles))
        for i, title in enumerate(self.titles[:10]):
            head[224 + 80 * i : 304 + 80 * i] = title.encode("ascii", "replace")[:80].ljust(80)
        return bytes(head)


def section_record(angle_deg: float, stage_um: tuple[float, float], magnification: float, intensity: float) -> bytes:
    """One section's record in the extended header."""
    return RECORD.pack(
        round(angle_deg * 100),
        round(stage_um[0] * 25),
        round(stage_um[1] * 25),
        round(magnification / 100),
        round(intensity * 25000),
    )
