"""Movies: the frames of one exposure, one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.errors import BadImage, NotReady
from streamtomo.watch.images import _fill, _frames, _headers, _open, _open_tiff


def read_frames(path: str | Path, *, group: int = 1, flip_tiff: bool = True) -> Iterator[NDArray[Any]]:
    """Frames of a movie in TIFF or MRC format, each `(ny, nx)`, y up; `group` of them are summed in float32."""
    path = os.fspath(path)
    with _open(path) as file:
        info = _headers(path, file)
        if info.whole_sections < info.sections:
            raise NotReady(f"{path}: {info.whole_sections} of {info.sections} frames are there")
        if info.kind == "tiff":
            yield from _summed(_tiff_frames(path, flip_tiff=flip_tiff), group)
            return
        file.seek(info.data_offset)
        yield from _summed((_mrc_frame(file, path, info) for _ in range(info.sections)), group)


def _mrc_frame(file: Any, path: str, info: Any) -> NDArray[Any]:
    frame = np.empty((info.ny, info.nx), dtype=info.dtype)
    _fill(file, frame.reshape(-1).view(np.uint8).data, path)
    return frame.astype(frame.dtype.newbyteorder("="), copy=False)


def _tiff_frames(path: str, *, flip_tiff: bool) -> Iterator[NDArray[Any]]:
    with _open_tiff(path) as tiff:
        for page in _frames(tiff, path):
            try:
                frame = page.asarray()
            except Exception as error:  # whatever codec the file names raises errors of its own
                raise BadImage(f"{path}: its pixels cannot be decoded ({error})") from error
            yield np.ascontiguousarray(frame[::-1] if flip_tiff else frame)


def _summed(frames: Iterator[NDArray[Any]], group: int) -> Iterator[NDArray[Any]]:
    if group == 1:
        yield from frames
        return
    for first in frames:
        total = first.astype(np.float32)
        for _, frame in zip(range(group - 1), frames, strict=False):
            total += frame
        yield total


def frame_count(path: str | Path) -> int:
    """Frames in the file, from its headers."""
    from streamtomo.watch.images import probe

    info = probe(path)
    return info.frames * info.sections
