"""Pictures for people: contrast, thumbnails, PNG files. Arrays have y up, pictures have the top row first."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamtomo.durable import sync_folder
from streamtomo.errors import OutputError

CONTRAST = (0.5, 99.5)
"""Percentiles of the pixels that become black and white."""
SMALL_CONTRAST = (3.0, 97.0)
"""The same for small pictures on a terminal, where gold must not leave the specimen three greys."""
SAMPLES = 200_000
"""Pixels that the percentiles are taken from."""


def to_grey(image: NDArray[np.float32], percentiles: tuple[float, float] = CONTRAST) -> NDArray[np.uint8]:
    """Grey values 0 to 255 of an image `(ny, nx)`, rows in the same order; what is not finite becomes black."""
    known = np.isfinite(image)
    finite = image[known]
    if finite.size == 0:
        return np.zeros(image.shape, np.uint8)
    low, high = np.percentile(finite[:: max(1, finite.size // SAMPLES)], percentiles)
    scale = 255.0 / (high - low) if high > low else 0.0
    grey = (np.where(known, image, low) - low) * scale
    pixels: NDArray[np.uint8] = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return pixels


def thumbnail(image: NDArray[np.float32], max_width: int, max_height: int) -> NDArray[np.uint8]:
    """A small grey picture, top row first, with the image's proportions; each pixel is the mean of an area."""
    ny, nx = image.shape
    factor = max(nx / max_width, ny / max_height, 1.0)
    width, height = max(1, round(nx / factor)), max(1, round(ny / factor))
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is drawn black
        means = area_means(area_means(image, height, axis=0), width, axis=1)
    return np.ascontiguousarray(to_grey(means, SMALL_CONTRAST)[::-1])


def area_means(image: NDArray[np.float32], count: int, axis: int) -> NDArray[np.float32]:
    """An image with `count` pixels along an axis, each the mean of as many as there are."""
    edges = np.linspace(0, image.shape[axis], count + 1).round().astype(np.int64)
    sums = np.add.reduceat(image, edges[:-1], axis=axis, dtype=np.float32)
    sizes = np.diff(edges).astype(np.float32)
    return np.asarray(sums / (sizes[:, None] if axis == 0 else sizes[None, :]), np.float32)


def write_png(path: Path, grey: NDArray[np.uint8]) -> None:
    """Write grey values `(ny, nx)`, y up, as a PNG that appears whole or not at all. Raises OutputError."""
    import imagecodecs

    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(imagecodecs.png_encode(np.ascontiguousarray(grey[::-1])))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); free space or mend the permissions"
        ) from error
