"""Readers of the images that microscopes write: MRC (all its dialects) and TIFF.

MRC is parsed here instead of by a library: half of the files in the wild break the standard somewhere, and one
read into a fresh array is several times faster. Reads go through `readinto`, not through a memory map: a file that is
cut short meanwhile raises an error instead of killing the process.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo.errors import BadImage, NotReady
from streamtomo.watch import tiff_header
from streamtomo.watch.mrc_header import HEADER_BYTES, axis_from_titles, parse_extended, parse_header

MRC_SUFFIXES = frozenset({".mrc", ".mrcs", ".st"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
UNSUPPORTED = {
    ".gz": "compressed files are not read; unpack it",
    ".bz2": "compressed files are not read; unpack it",
    ".eer": "EER movies are not read; let the microscope write summed images (MRC or TIFF) too",
}
IMAGE_SUFFIXES = MRC_SUFFIXES | TIFF_SUFFIXES | {".eer"}

_TIFF_CENTIMETRE = 3


class ImageInfo(Struct, frozen=True, kw_only=True):
    """What the headers of an image file tell."""

    kind: Literal["mrc", "tiff"]
    nx: int
    ny: int
    sections: int
    """Images in the file; for TIFF always 1, its pages are the frames of one exposure."""
    frames: int = 1
    dtype: str
    """numpy's type of a stored pixel, with byte order."""
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


def is_image(path: str | Path) -> bool:
    """Whether the name is that of an image, or of one that we should refuse by name (compressed, EER)."""
    stem, suffix = os.path.splitext(os.fspath(path).lower())
    if suffix in (".gz", ".bz2"):
        suffix = os.path.splitext(stem)[1]
    return suffix in IMAGE_SUFFIXES


def probe(path: str | Path, *, growing: bool = False) -> ImageInfo:
    """Read the headers of an image file.

    `growing` accepts an MRC stack whose last images are missing (see `whole_sections`). Raises `NotReady` for a file
    shorter than its headers demand, `BadImage` for one that never will be an image, `OSError` as the system does.
    """
    path = os.fspath(path)
    with _open(path) as file:
        info = _headers(path, file)
    if info.sections == 0:
        raise NotReady(f"{path}: holds no image yet")
    if info.whole_sections < info.sections and not growing:
        size = os.stat(path).st_size
        raise NotReady(f"{path}: {size} bytes, but its headers demand {info.expected_bytes}")
    return info


def read_image(path: str | Path, section: int = 0, *, flip_tiff: bool = True) -> NDArray[Any]:
    """One image, `(ny, nx)`, y up, contiguous, in native byte order and the type it is stored in.

    float16 becomes float32; the frames of a multi-page TIFF are summed in float32. TIFF stores the top row first and is
    flipped unless told otherwise. Raises as `probe` does.
    """
    path = os.fspath(path)
    with _open(path) as file:
        info = _headers(path, file)
        if not 0 <= section < info.sections:
            raise BadImage(f"{path}: has no section {section}, only {info.sections}")
        if section >= info.whole_sections:
            raise NotReady(f"{path}: section {section} is not complete yet")
        return _read_tiff(path, flip=flip_tiff) if info.kind == "tiff" else _read_mrc(path, file, info, section)


def _open(path: str) -> FileIO:
    suffix = os.path.splitext(path)[1].lower()
    if suffix in UNSUPPORTED:
        raise BadImage(f"{path}: {UNSUPPORTED[suffix]}")
    return FileIO(path)


def _headers(path: str, file: FileIO) -> ImageInfo:
    head, size = file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size
    if head[:4] in tiff_header.MAGIC:
        tiff_header.check_directories(file, head, size, path)
        return _probe_tiff(path, size)
    if os.path.splitext(path)[1].lower() in TIFF_SUFFIXES:
        raise _no_tiff(path, head)
    return _probe_mrc(path, head, size, file)


def _probe_mrc(path: str, head: bytes, size: int, file: FileIO) -> ImageInfo:
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
        data_offset=header.data_offset,
        whole_sections=min(header.sections, (size - header.data_offset) // header.section_bytes),
        expected_bytes=header.data_offset + header.sections * header.section_bytes,
        pixel_size_A=extended.pixel_size_A or header.pixel_size_A,
        tilt_axis_deg=axis_from_titles(header.titles),
        angles=extended.angles,
        angles_from=extended.source,
        titles=header.titles,
    )


def _read_mrc(path: str, file: FileIO, info: ImageInfo, section: int) -> NDArray[Any]:
    image = np.empty((info.ny, info.nx), dtype=info.dtype)
    file.seek(info.data_offset + section * image.nbytes)
    _fill(file, image.reshape(-1).view(np.uint8).data, path)
    if image.dtype.itemsize == 2 and image.dtype.kind == "f":
        return image.astype(np.float32)
    if not image.dtype.isnative:
        image = image.byteswap(inplace=True).view(image.dtype.newbyteorder())
    return image


def _fill(file: FileIO, buffer: memoryview, path: str) -> None:
    """Read until the buffer is full; one call may deliver less on network drives and beyond 2 GiB."""
    while buffer:
        count = file.readinto(buffer)
        if not count:
            raise NotReady(f"{path}: became shorter while it was read")
        buffer = buffer[count:]


# -- TIFF --------------------------------------------------------------------------------------------------------------


def _no_tiff(path: str, head: bytes) -> NotReady | BadImage:
    if len(head) < 8 or not any(head[:8]):
        return NotReady(f"{path}: has no TIFF header yet")
    return BadImage(f"{path}: is no TIFF file (it begins with {head[:4]!r})")


def _open_tiff(path: str) -> Any:
    """A `tifffile.TiffFile`; a directory that cannot be read is taken as not written yet."""
    import tifffile

    try:
        return tifffile.TiffFile(path)
    except OSError:
        raise
    except Exception as error:  # tifffile raises whatever a cut-off directory makes it stumble over
        raise NotReady(f"{path}: its TIFF directory is not complete ({error})") from error


def _frames(tiff: Any, path: str) -> list[Any]:
    """The full-size pages; thumbnails and pages of another size are left out."""
    try:
        pages = [page.aspage() for page in tiff.pages]
    except Exception as error:  # tifffile raises whatever a cut-off directory makes it stumble over
        raise NotReady(f"{path}: its TIFF directory is not complete ({error})") from error
    if not pages:
        raise NotReady(f"{path}: has no page yet")
    if len(pages[0].shape) != 2 or pages[0].dtype is None or pages[0].dtype.kind not in "iuf":
        raise BadImage(f"{path}: is no grey image (shape {pages[0].shape}, type {pages[0].dtype})")
    return [page for page in pages if page.shape == pages[0].shape and page.dtype == pages[0].dtype]


def _probe_tiff(path: str, size: int) -> ImageInfo:
    with _open_tiff(path) as tiff:
        frames = _frames(tiff, path)
        first = frames[0]
        ends = [
            offset + count
            for frame in frames
            for offset, count in zip(frame.dataoffsets, frame.databytecounts, strict=True)
        ]
        titles = tuple(line.strip() for line in str(first.description or "").splitlines() if line.strip())
        expected = max(ends, default=size + 1)
        return ImageInfo(
            kind="tiff",
            nx=int(first.shape[1]),
            ny=int(first.shape[0]),
            sections=1,
            frames=len(frames),
            dtype=first.dtype.str,
            whole_sections=int(expected <= size),
            expected_bytes=expected,
            pixel_size_A=_tiff_pixel_size(first),
            tilt_axis_deg=axis_from_titles(titles),
            titles=titles,
        )


def _tiff_pixel_size(page: Any) -> float | None:
    """Å per pixel, where the file states its resolution per centimetre, as microscopes do and cameras do not."""
    unit, resolution = page.tags.get("ResolutionUnit"), page.tags.get("XResolution")
    if unit is None or resolution is None or int(unit.value) != _TIFF_CENTIMETRE:
        return None
    pixels, centimetres = resolution.value
    size = 1e8 * centimetres / pixels if pixels else 0.0
    return round(size, 6) if 1e-3 < size < 1e4 else None


def _read_tiff(path: str, *, flip: bool) -> NDArray[Any]:
    with _open_tiff(path) as tiff:
        frames = _frames(tiff, path)
        try:
            image = _sum_frames(frames)
        except Exception as error:  # whatever codec the file names raises errors of its own
            raise BadImage(f"{path}: its pixels cannot be decoded ({error})") from error
    if flip:
        image = image[::-1]
    return np.ascontiguousarray(image)


def _sum_frames(frames: list[Any]) -> NDArray[Any]:
    first: NDArray[Any] = frames[0].asarray()
    if len(frames) == 1:
        return first.astype(np.float32 if first.dtype == np.float16 else first.dtype.newbyteorder("="), copy=False)
    total = first.astype(np.float32)
    for frame in frames[1:]:
        total += frame.asarray()
    return total
