"""MRC files, all their dialects; the headers themselves are taken apart in `mrc_header`.

MRC is parsed here instead of by a library: half of the files in the wild break the standard somewhere, and one
read into a fresh array is several times faster. Reads go through `readinto`, not through a memory map: a file that is
cut short meanwhile raises an error instead of killing the process.
"""

from __future__ import annotations

from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.errors import NotReady
from streamtomo.watch.image_file import ImageInfo, fill, unpacked
from streamtomo.watch.mrc_header import axis_from_titles, parse_extended, parse_header


def probe_mrc(path: str, file: FileIO, head: bytes, size: int) -> ImageInfo:
    """What the headers tell; `file` stands behind `head`, the first 1024 bytes of `size`.

    Raises `NotReady` for a file shorter than its headers and `BadImage` for one that is no MRC file.
    """
    header = parse_header(head, path)
    if size < header.data_offset:
        raise NotReady(f"{path}: {size} bytes, shorter than its headers ({header.data_offset})")
    extended = parse_extended(head, file.read(header.extended_bytes), header)
    return ImageInfo(
        kind="mrc",
        nx=header.nx,
        ny=header.ny,
        sections=header.sections,
        dtype=header.dtype,
        packed=header.packed,
        data_offset=header.data_offset,
        whole_sections=min(header.sections, (size - header.data_offset) // header.section_bytes),
        expected_bytes=header.data_offset + header.sections * header.section_bytes,
        pixel_size_A=extended.pixel_size_A or header.pixel_size_A,
        tilt_axis_deg=axis_from_titles(header.titles),
        angles=extended.angles,
        angles_from=extended.source,
        titles=header.titles,
    )


def read_section(path: str, file: FileIO, info: ImageInfo, section: int) -> NDArray[Any]:
    """One section, `(ny, nx)`, y up, in native byte order; half floats become float32, 4 bits become bytes."""
    stored = np.empty((info.ny, (info.nx + 1) // 2 if info.packed else info.nx), dtype=info.dtype)
    file.seek(info.data_offset + section * stored.nbytes)
    fill(file, stored, path)
    if info.packed:
        return unpacked(stored, info.nx)
    if stored.dtype.itemsize == 2 and stored.dtype.kind == "f":
        return stored.astype(np.float32)
    return stored if stored.dtype.isnative else stored.byteswap(inplace=True).view(stored.dtype.newbyteorder())
