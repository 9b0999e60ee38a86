"""What the readers of all formats share: the record of what the headers tell, and reading until a buffer is full."""

from __future__ import annotations

from io import FileIO
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo.errors import NotReady


class ImageInfo(Struct, frozen=True, kw_only=True):
    """What the headers of an image file tell."""

    kind: Literal["mrc", "tiff", "eer"]
    nx: int
    ny: int
    """Size in pixels; of an EER movie in those of the camera, whatever finer places its events have."""
    sections: int
    """Images in the file; for TIFF and EER always 1, their pages are the frames of one exposure."""
    frames: int = 1
    """Pages of a TIFF movie, camera frames of an EER movie; an MRC movie is told from a stack by its name only, and
    has its frames as sections."""
    dtype: str
    """numpy's type of a stored pixel, with byte order."""
    packed: bool = False
    """Two pixels of 4 bits in each byte, the left one in the low bits; a row begins with a new byte."""
    data_offset: int = 0
    """Byte where the first image of an MRC file begins."""
    whole_sections: int
    """Images whose pixels are all there."""
    expected_bytes: int
    """Length that the headers demand."""
    pixel_size_A: float | None = None
    tilt_axis_deg: float | None = None
    """From SerialEM's title line."""
    angles: tuple[float, ...] | None = None
    """Tilt angles of the sections, from the extended header."""
    angles_from: Literal["SerialEM", "FEI"] | None = None
    titles: tuple[str, ...] = ()


def fill(file: FileIO, array: NDArray[Any], path: str) -> None:
    """Read from where the file stands until a contiguous array is full.

    One call may deliver less on network drives and beyond 2 GiB. Raises `NotReady` when the file ends before.
    """
    buffer = array.reshape(-1).view(np.uint8).data
    while buffer:
        count = file.readinto(buffer)
        if not count:
            raise NotReady(f"{path}: became shorter while it was read")
        buffer = buffer[count:]


def unpacked(packed: NDArray[np.uint8], nx: int) -> NDArray[np.uint8]:
    """Pixels `(ny, nx)` of 4 bits from rows of bytes `(ny, (nx + 1) // 2)`, the left one in the low bits."""
    pixels = np.empty((packed.shape[0], 2 * packed.shape[1]), np.uint8)
    np.bitwise_and(packed, 15, out=pixels[:, ::2])
    np.right_shift(packed, 4, out=pixels[:, 1::2])
    return np.ascontiguousarray(pixels[:, :nx])
