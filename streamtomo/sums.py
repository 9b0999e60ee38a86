"""Sums of movies that are kept, so that nobody has to sum them again."""

from __future__ import annotations

import glob
import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import __version__
from streamtomo.config import Settings
from streamtomo.errors import InputError, OutputError
from streamtomo.export.imod import write_text
from streamtomo.export.mrc import new_blocks
from streamtomo.model import RawImage
from streamtomo.watch.images import read_image

FOLDER = "sums"
"""In the folder of the series."""
DIGITS = 8
"""Letters of a sum's name that tell how it was made."""
Pixels = NDArray[Any]
Warnings = tuple[tuple[str, str], ...]
"""Code and text of each."""


class Done(Struct, frozen=True, kw_only=True):
    """What was done to make one image of an exposure; kept beside the sum."""

    frames: int = 1
    """Frames, or dose fractions of an EER movie, that were summed."""
    gain: str | None = None
    """The gain reference used."""
    defects: int = 0
    """Bad pixels filled."""
    drift_px: tuple[tuple[float, float], ...] | None = None
    """Position (x, y) of the specimen in each frame relative to the mean; None where it was not corrected."""
    warnings: Warnings = ()
    """Codes and texts."""

    @property
    def travel_px(self) -> float:
        """Length of the specimen's way through the movie."""
        path = np.array(self.drift_px or ((0.0, 0.0),))
        return float(np.hypot(*np.diff(path, axis=0).T).sum())


class Exposure(NamedTuple):
    """One image, and what was done to make it."""

    pixels: Pixels
    """`(ny, nx)`, y up."""
    done: Done


def stamp(path: str | None) -> tuple[str, int, int] | None:
    """A file's path, size and time; size and time are 0 if it is not there."""
    if path is None:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return path, 0, 0
    return path, status.st_size, status.st_mtime_ns


def sum_path(image: RawImage, settings: Settings, cache: Path, *, with_drift: bool) -> Path:
    """Where the sum of a movie is kept; another name for other frames, references or settings."""
    movies = settings.movies
    matters = (
        stamp(image.path),
        image.section,
        settings.acquisition.flip_tiff_rows,
        stamp(movies.gain),
        (movies.gain_rotate, movies.gain_flip, movies.gain_apply),
        stamp(movies.defects),
        movies.eer_fraction if with_drift else None,
        with_drift,
    )
    return cache / FOLDER / f"{name_of(image)}{_digest(msgspec.json.encode(matters), DIGITS)}.mrc"


def movie_of(file: str) -> str:
    """The `name_of` the movie whose sum, or what stands beside it, has this file name."""
    return file.partition(".part")[0].rpartition(".")[0][:-DIGITS]


def name_of(image: RawImage) -> str:
    """What all sums of one movie, however made, have in their names, and no other movie's."""
    return f"{Path(image.path).stem}_{_digest(image.path.encode(), 4)}"


def _digest(content: bytes, length: int) -> str:
    return hashlib.blake2b(content).hexdigest()[:length]


def kept_sum(path: Path, image: RawImage) -> Exposure | None:
    """A sum that was kept, if it is whole."""
    try:
        done = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=Done)
        pixels = read_image(path)
    except (OSError, InputError, msgspec.MsgspecError):
        return None
    return Exposure(pixels, done) if pixels.shape == (image.ny, image.nx) else None


def keep_sum(path: Path, image: RawImage, pixels: Pixels, done: Done) -> Done:
    """Keep a sum in place of others of the same movie; what was done, with a warning if there is no room for it."""
    label = f"streamtomo {__version__}: sum of {done.frames} frames, drift {done.travel_px:.1f} px"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_blocks(
            path, (1, *pixels.shape), "float32", pixel_size_A=image.pixel_size_A, kind="stack", label=label
        ) as file:
            file.write_section(0, np.ascontiguousarray(pixels, np.float32))
        write_text(path.with_suffix(".json"), msgspec.json.encode(done).decode() + "\n")
        for other in path.parent.glob(f"{glob.escape(name_of(image))}*"):
            if other.stem != path.stem and other.suffix in (".mrc", ".json"):
                other.unlink(missing_ok=True)
    except (OSError, OutputError) as error:
        text = f"{path.parent}: sums of movies cannot be kept ({error}); movies are summed again when they are needed"
        return msgspec.structs.replace(done, warnings=(*done.warnings, ("sums.unkept", text)))
    return done
