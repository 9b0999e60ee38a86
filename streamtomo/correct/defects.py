"""Pixels that are known to be bad: SerialEM's defect lists, and what is put in their place.

A list counts rows from the top, columns from the left, from 0; a line is a keyword and whole numbers:

    CameraSizeX 5760                 size that the coordinates are meant for
    BadColumns 12 13                 whole columns; BadRows likewise
    PartialBadColumn 70 1 10 50      first column, how many, first and last row; PartialBadRow likewise
    BadPixels 5 7 60 61              x y x y ...
    UsableArea 0 4 4091 5755         top, left, bottom, right of what can be used; all 0: everything

(SerialEM's camera properties file, and `CorrectDefects.cpp`, which SerialEM and IMOD share.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Mask = NDArray[np.bool_]

SOURCES = 8
"""Good pixels that stand in for a bad one, in turn."""
REACHES = (2, 4, 8, 16, 32)
"""Distances, in pixels, within which they are looked for: the nearest where there are enough."""
OTHER_KEYWORDS = frozenset({"RotationAndFlip", "WasScaled", "K2Type", "FalconType", "NumAvgSuperRes"})
"""How the list came to be; its coordinates are what they are, whatever these say."""


class DefectList(NamedTuple):
    """A defect list as it was written; rows from the top."""

    camera_yx: tuple[int, int] | None
    """Size of the camera in the units of the list."""
    areas: tuple[tuple[int, int, int, int], ...]
    """First and last row, first and last column of each bad area; -1 for the last of the camera."""
    usable: tuple[int, int, int, int] | None
    """First and last row, first and last column of what can be used."""


def parse_defects(text: str) -> DefectList:
    """Read a list; raises ValueError with the line that is none."""
    size: dict[str, int] = {}
    areas: list[tuple[int, int, int, int]] = []
    usable: tuple[int, int, int, int] | None = None
    for line in text.removeprefix("\ufeff").splitlines():  # editors of Windows put that before everything
        words = line.split()
        if not words or line.startswith("#"):
            continue
        try:
            keyword, values = words[0], [int(word) for word in words[1:]]
            if any(value < 0 for value in values) and keyword not in OTHER_KEYWORDS:
                raise ValueError("counts from 0")
            if keyword in ("CameraSizeX", "CameraSizeY"):
                (size[keyword],) = values
            elif keyword == "UsableArea":
                top, left, bottom, right = values
                usable = (top, bottom, left, right) if any(values) else None
            elif keyword not in OTHER_KEYWORDS:
                areas += _areas(keyword, values)
        except ValueError as error:
            raise ValueError(f"the line {line.strip()!r} is not one of a defect list") from error
    camera = (size["CameraSizeY"], size["CameraSizeX"]) if len(size) == 2 else None
    return DefectList(camera, tuple(areas), usable)


def _areas(keyword: str, values: list[int]) -> list[tuple[int, int, int, int]]:
    match keyword:
        case "BadColumns":
            return [(0, -1, x, x) for x in values]
        case "BadRows":
            return [(y, y, 0, -1) for y in values]
        case "PartialBadColumn":
            x, width, first, last = values
            return [(first, last, x, x + width - 1)]
        case "PartialBadRow":
            y, height, first, last = values
            return [(y, y + height - 1, first, last)]
        case "BadPixels":
            return [(y, y, x, x) for x, y in zip(values[::2], values[1::2], strict=True)]
    raise ValueError(f"unknown keyword {keyword}")


def defect_mask(defects: DefectList, shape_yx: tuple[int, int], *, top_first: bool = True) -> Mask:
    """True where a pixel of frames of `shape_yx` is bad; row 0 is the bottom, unless the frames are not turned over.

    Frames may have 2 to 8 times more or fewer pixels along each side than the list's camera (super-resolution,
    binning). Raises ValueError if the sizes do not go together.
    """
    camera = defects.camera_yx or shape_yx
    up, down = _scales(camera, shape_yx)
    bad = np.zeros((camera[0] * up, camera[1] * up), np.bool_)
    if defects.usable is not None:
        bad[:] = True
        bad[_slices(defects.usable, camera, up)] = False
    for area in defects.areas:
        bad[_slices(area, camera, up)] = True
    rows = bad.reshape(shape_yx[0], down, shape_yx[1], down)
    marked: Mask = np.asarray(rows.any(axis=(1, 3)))
    return marked[::-1].copy() if top_first else marked


def _scales(camera: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """How many pixels of the frames make one of the list, and the other way round."""
    for scale in (1, 2, 3, 4, 8):
        if shape == (camera[0] * scale, camera[1] * scale):
            return scale, 1
        if camera == (shape[0] * scale, shape[1] * scale):
            return 1, scale
    text = f"is for {camera[1]} x {camera[0]} pixels, the frames have {shape[1]} x {shape[0]}"
    turned = camera == shape[::-1]
    raise ValueError(text + ("; it fits when turned by 90°: save it in the frames' orientation" if turned else ""))


def _slices(area: tuple[int, int, int, int], camera: tuple[int, int], scale: int) -> tuple[slice, slice]:
    first_y, last_y, first_x, last_x = area
    last_y = last_y if last_y >= 0 else camera[0] - 1
    last_x = last_x if last_x >= 0 else camera[1] - 1
    return slice(first_y * scale, (last_y + 1) * scale), slice(first_x * scale, (last_x + 1) * scale)


class Patches:
    """Bad pixels, and the good ones that stand in for them.

    A bad pixel is given the counts of one of its good neighbours, another one in each frame: the noise is that of a
    single pixel, the mean over frames that of the surroundings.
    """

    def __init__(self, bad: Mask) -> None:
        """`bad` is `(ny, nx)`; raises ValueError if nearly all is."""
        if bad.mean() > 0.9:
            raise ValueError(f"leaves {100 * (1 - bad.mean()):.0f} % of the camera")
        self.at = np.flatnonzero(bad)
        self.sources = _sources(bad, self.at)

    def mend(self, frame: NDArray[Any], turn: int = 0) -> None:
        """Fill the bad pixels of a writable frame `(ny, nx)`; `turn` counts the frames."""
        if self.at.size:
            chosen = (np.arange(self.at.size) + turn) % SOURCES
            frame.flat[self.at] = frame.flat[self.sources[np.arange(self.at.size), chosen]]

    def even_out(self, factor: NDArray[np.float32]) -> None:
        """Give the bad pixels the gain of those that stand in for them."""
        if self.at.size:
            factor.flat[self.at] = factor.ravel()[self.sources].mean(axis=1)


def _sources(bad: Mask, at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Flat indices `(n, SOURCES)` of good pixels near each bad one, the same for the same mask."""
    sources = np.full((at.size, SOURCES), -1)
    if not at.size:
        return sources
    ny, nx = bad.shape
    rng = np.random.default_rng(at.size)
    missing = np.arange(at.size)
    for reach in REACHES:
        y, x = np.divmod(at[missing], nx)
        dy, dx = rng.integers(-reach, reach + 1, (2, missing.size, 8 * SOURCES))
        sy, sx = y[:, None] + dy, x[:, None] + dx
        inside = (sy >= 0) & (sy < ny) & (sx >= 0) & (sx < nx)
        flat = np.where(inside, sy * nx + sx, at[missing][:, None])
        usable = ~bad.ravel()[flat]
        first = np.argsort(~usable, axis=1, kind="stable")[:, :SOURCES]
        enough = usable.sum(axis=1) >= SOURCES
        sources[missing[enough]] = np.take_along_axis(flat, first, axis=1)[enough]
        missing = missing[~enough]
        if not missing.size:
            return sources
    nearest = distance_transform_edt(bad, return_distances=False, return_indices=True)
    y, x = np.divmod(at[missing], nx)
    sources[missing] = (nearest[0][y, x] * nx + nearest[1][y, x])[:, None]
    return sources
