"""TIFF images and movies; the pages are decoded by tifffile, whose errors become ours here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.errors import BadImage, InputError, NotReady
from streamtomo.watch.image_file import ImageInfo, unpacked
from streamtomo.watch.mrc_header import MAX_SIDE, axis_from_titles

_CENTIMETRE = 3


@contextmanager
def open_pages(path: str) -> Iterator[list[Any]]:
    """All pages of a file with their tags; raises `NotReady` while there is none, or one that cannot be understood."""
    import tifffile

    with directory_errors(path):
        tiff = tifffile.TiffFile(path)
    with tiff:
        with directory_errors(path):
            pages = [page.aspage() for page in tiff.pages]
        if not pages:
            raise NotReady(f"{path}: has no page yet")
        yield pages


@contextmanager
def directory_errors(path: str) -> Iterator[None]:
    """Take whatever a cut-off or damaged directory makes others stumble over as one that is not written yet."""
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:
        raise NotReady(f"{path}: its TIFF directory is not complete, or damaged ({error})") from error


def check_size(path: str, nx: int, ny: int) -> None:
    """Raise `BadImage` for a size that no camera has."""
    if not (0 < nx <= MAX_SIDE and 0 < ny <= MAX_SIDE):
        raise BadImage(f"{path}: its directory says {nx} x {ny} pixels, which no camera has")


def data_end(pages: list[Any]) -> int | None:
    """Byte behind the last of the pages' pixels; None where no page has any."""
    ends = [
        offset + count for page in pages for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    ]
    return max(ends, default=None)


def probe_tiff(path: str, pages: list[Any], size: int) -> ImageInfo:
    """What the directories tell of a file of `size` bytes; raises `BadImage` for other images than grey ones."""
    frames = _frames(pages, path)
    first = frames[0]
    titles = tuple(line.strip() for line in str(first.description or "").splitlines() if line.strip())
    packed = _is_packed(first, titles)
    check_size(path, first.shape[1], first.shape[0])
    expected = data_end(frames) or size + 1
    return ImageInfo(
        kind="tiff",
        nx=int(first.shape[1]) * (2 if packed else 1),
        ny=int(first.shape[0]),
        sections=1,
        frames=len(frames),
        dtype=first.dtype.str,
        packed=packed,
        whole_sections=int(expected <= size),
        expected_bytes=expected,
        pixel_size_A=_pixel_size(first),
        tilt_axis_deg=axis_from_titles(titles),
        titles=titles,
    )


def read_pages(path: str, info: ImageInfo) -> Iterator[NDArray[Any]]:
    """The frames, each `(ny, nx)`, in the file's order of rows, in a native type; half floats become float32.

    Raises `BadImage` for pixels that cannot be decoded.
    """
    with open_pages(path) as pages:
        for number, page in enumerate(_frames(pages, path)):
            yield _as_pixels(_decoded(page, f"{path}: frame {number}"), info)


def _frames(pages: list[Any], path: str) -> list[Any]:
    """The full-size pages; thumbnails and pages of another size are left out."""
    first = pages[0]
    if len(first.shape) != 2 or first.dtype is None or first.dtype.kind not in "iuf":
        raise BadImage(f"{path}: is no grey image (shape {first.shape}, type {first.dtype})")
    return [page for page in pages if page.shape == first.shape and page.dtype == first.dtype]


def _is_packed(page: Any, titles: tuple[str, ...]) -> bool:
    """SerialEM's frames of 4 bits: bytes with two pixels each, known by the title only."""
    return page.dtype.itemsize == 1 and any("SerialEM" in title and "4 bits packed" in title for title in titles)


def _pixel_size(page: Any) -> float | None:
    """Å per pixel, where the file states its resolution per centimetre, as microscopes do and cameras do not."""
    unit, resolution = page.tags.get("ResolutionUnit"), page.tags.get("XResolution")
    if unit is None or resolution is None or int(unit.value) != _CENTIMETRE:
        return None
    pixels, centimetres = resolution.value
    size = 1e8 * centimetres / pixels if pixels else 0.0
    return round(size, 6) if 1e-3 < size < 1e4 else None


def _decoded(page: Any, name: str) -> NDArray[Any]:
    try:
        image: NDArray[Any] = page.asarray()
    except OSError:
        raise
    except Exception as error:  # whatever codec the file names raises errors of its own
        raise BadImage(f"{name}: its pixels cannot be decoded ({error})") from error
    return image


def _as_pixels(image: NDArray[Any], info: ImageInfo) -> NDArray[Any]:
    if info.packed:
        return unpacked(image, info.nx)
    half = image.dtype.kind == "f" and image.dtype.itemsize == 2
    return image.astype(np.float32 if half else image.dtype.newbyteorder("="), copy=False)
