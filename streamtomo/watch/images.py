"""Readers of the images that microscopes write: MRC (all its dialects), TIFF and EER."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.errors import BadImage, NoImageYet, NotReady
from streamtomo.watch import eer, mrc, tiff, tiff_header
from streamtomo.watch.image_file import ImageInfo as ImageInfo
from streamtomo.watch.mrc_header import HEADER_BYTES

MRC_SUFFIXES = frozenset({".mrc", ".mrcs", ".st"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
EER_SUFFIXES = frozenset({".eer"})
IMAGE_SUFFIXES = MRC_SUFFIXES | TIFF_SUFFIXES | EER_SUFFIXES
COMPRESSED_SUFFIXES = frozenset({".gz", ".bz2"})


def is_image(path: str | Path) -> bool:
    """Whether the name is that of an image, or of one that we should refuse by name (compressed)."""
    stem, suffix = os.path.splitext(os.fspath(path).lower())
    if suffix in COMPRESSED_SUFFIXES:
        suffix = os.path.splitext(stem)[1]
    return suffix in IMAGE_SUFFIXES


def is_eer(path: str | Path) -> bool:
    """Whether the name is that of an EER movie."""
    return os.path.splitext(os.fspath(path))[1].lower() in EER_SUFFIXES


def probe(path: str | Path, *, growing: bool = False) -> ImageInfo:
    """Read the headers of an image file.

    `growing` accepts an MRC stack whose last images are missing (see `whole_sections`). Raises `NotReady` for a file
    shorter than its headers demand, `BadImage` for one that never will be an image, `OSError` as the system does.
    """
    with open_image(path, growing=growing) as (_, info):
        return info


def read_image(path: str | Path, section: int = 0, *, frames: int = 1, flip_tiff: bool = True) -> NDArray[Any]:
    """One image, `(ny, nx)`, y up, contiguous, in native byte order and the type it is stored in.

    Half floats become float32. The frames of a movie are summed in float32; an MRC movie is one where `frames`, as in
    `RawImage`, says that the file's sections are that. TIFF and EER store the top row first and are flipped unless
    told otherwise. Raises as `probe` does.
    """
    path = os.fspath(path)
    with open_image(path, growing=True) as (file, info):
        movie = max(frames, info.frames) > 1
        _check_section(path, info, info.sections - 1 if movie else section)
        if movie:
            image = np.zeros((info.ny, info.nx), np.float32)
            for frame in read_stored(path, file, info, group=info.frames):
                image += frame
        else:
            image = next(read_stored(path, file, info, section=section))
    return upward(image, info, flip_tiff=flip_tiff)


@contextmanager
def open_image(path: str | Path, *, growing: bool = False) -> Iterator[tuple[FileIO, ImageInfo]]:
    """An open file and what its headers tell; `growing` and the errors are those of `probe`."""
    path = os.fspath(path)
    if os.path.splitext(path)[1].lower() in COMPRESSED_SUFFIXES:
        raise BadImage(f"{path}: compressed files are not read; unpack it")
    with FileIO(path) as file:
        size = os.fstat(file.fileno()).st_size
        info = _headers(path, file, size)
        if info.sections == 0:
            raise NoImageYet(f"{path}: holds no image yet")
        if info.whole_sections < info.sections and not growing:
            raise NotReady(f"{path}: {size} bytes, but its headers demand {info.expected_bytes}")
        yield file, info


def read_stored(
    path: str, file: FileIO, info: ImageInfo, *, section: int | None = None, group: int = 1
) -> Iterator[NDArray[Any]]:
    """All frames of a movie, or one section of an MRC stack, with the rows in the file's order, in native types.

    `group` camera frames of an EER movie are summed into one.
    """
    if info.kind == "eer":
        yield from eer.read_fractions(path, file, info, group)
    elif info.kind == "tiff":
        yield from tiff.read_pages(path, info)
    else:
        for number in range(info.sections) if section is None else (section,):
            yield mrc.read_section(path, file, info, number)


def upward(image: NDArray[Any], info: ImageInfo, *, flip_tiff: bool) -> NDArray[Any]:
    """An image as it was stored, contiguous and y up: TIFF and EER have the top row first."""
    return np.ascontiguousarray(image[::-1] if flip_tiff and info.kind != "mrc" else image)


def _check_section(path: str, info: ImageInfo, section: int) -> None:
    if not 0 <= section < info.sections:
        raise BadImage(f"{path}: has no section {section}, only {info.sections}")
    if section >= info.whole_sections:
        raise NotReady(f"{path}: section {section} is not complete yet")


def _headers(path: str, file: FileIO, size: int) -> ImageInfo:
    head = file.read(HEADER_BYTES)
    if head[:4] in tiff_header.MAGIC:
        tiff_header.check_directories(file, head, size, path)
        with tiff.open_pages(path) as pages, tiff.directory_errors(path):
            return (
                eer.probe_eer(path, pages, size) if eer.holds_electrons(pages) else tiff.probe_tiff(path, pages, size)
            )
    suffix = os.path.splitext(path)[1].lower()
    if suffix in TIFF_SUFFIXES | EER_SUFFIXES:
        raise _no_tiff(path, head, suffix)
    return mrc.probe_mrc(path, file, head, size)


def _no_tiff(path: str, head: bytes, suffix: str) -> NotReady | BadImage:
    kind = "EER" if suffix in EER_SUFFIXES else "TIFF"
    if len(head) < 8 or not any(head[:8]):
        return NotReady(f"{path}: has no TIFF header yet")
    return BadImage(f"{path}: is no {kind} file (it begins with {head[:4]!r})")
