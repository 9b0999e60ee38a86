"""A movie through the sections of a tomogram, as a GIF: every program that shows slides plays it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from streamtomo.publish.pictures import area_means, to_grey

SIDE_PX = 384
FRAMES = 48
FRAME_MS = 100


def parts(sections: int) -> int:
    """How many neighbouring sections are averaged into a frame."""
    return max(1, -(-sections // FRAMES))


def frames(sections: Iterable[NDArray[np.generic]], number: int) -> list[NDArray[np.float32]]:
    """Means of every `parts(number)` of the sections `(ny, nx)`, no larger than SIDE_PX."""
    made: list[NDArray[np.float32]] = []
    held: list[NDArray[np.float32]] = []
    for section in sections:
        held.append(np.asarray(section, np.float32))
        if len(held) == parts(number):
            made.append(_small(np.mean(held, axis=0)))
            held = []
    return [*made, _small(np.mean(held, axis=0))] if held and not made else made


def _small(image: NDArray[np.float32]) -> NDArray[np.float32]:
    factor = max(1.0, max(image.shape) / SIDE_PX)
    ny, nx = (max(1, round(side / factor)) for side in image.shape)
    return area_means(area_means(image, ny, axis=0), nx, axis=1)


def gif(images: Sequence[NDArray[np.float32]]) -> bytes:
    """Frames `(ny, nx)`, y up, in one contrast, over and over."""
    from PIL import Image

    grey = to_grey(np.stack(images))[:, ::-1]
    first, *others = [Image.fromarray(np.ascontiguousarray(frame)) for frame in grey]
    made = io.BytesIO()
    first.save(made, "GIF", save_all=True, append_images=others, duration=FRAME_MS, loop=0, optimize=False)
    return made.getvalue()
