"""Movies: the frames of one exposure, one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.watch.images import open_image, probe, read_stored, upward


def read_frames(path: str | Path, *, group: int = 1, flip_tiff: bool = True) -> Iterator[NDArray[Any]]:
    """Frames of one exposure's movie, one after the other, each `(ny, nx)`, y up, contiguous, in a native type.

    For EER each is the sum of `group` camera frames (a dose fraction, counts in an unsigned type) at the physical
    pixel; of other movies `group` frames are summed in float32 where there is more than one. The last sum has what is
    left. `flip_tiff` and the errors, which come with the first frame, are those of `read_image`.
    """
    if group < 1:
        raise ValueError(f"frames are summed in groups of 1 or more, not {group}")
    with open_image(path) as (file, info):
        frames = read_stored(os.fspath(path), file, info, group=group)
        for frame in frames if info.kind == "eer" or group == 1 else _summed(frames, group):
            yield upward(frame, info, flip_tiff=flip_tiff)


def frame_count(path: str | Path) -> int:
    """Camera frames in the file, from its headers; raises as `probe` does."""
    info = probe(path)
    return info.frames * info.sections


def _summed(frames: Iterator[NDArray[Any]], group: int) -> Iterator[NDArray[np.float32]]:
    for first in frames:
        total = first.astype(np.float32)
        for _, frame in zip(range(group - 1), frames, strict=False):
            total += frame
        yield total
