"""The camera, as its references and its own frames describe it. A shell: it reads the references."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.config import Settings
from streamtomo.correct.defects import Mask, Patches, defect_mask, parse_defects
from streamtomo.correct.gain import STRONG, FixedPattern, Gain, Orientation, make_gain
from streamtomo.errors import InputError
from streamtomo.model import RawImage
from streamtomo.sums import Warnings, stamp
from streamtomo.watch.images import IMAGE_SUFFIXES
from streamtomo.watch.movies import read_frames

LOOKS = 8
"""Exposures whose fixed pattern is compared with the gain; then all is said."""


class References(NamedTuple):
    """The references as they are laid on frames of one size, `(ny, nx)`."""

    factor: NDArray[np.float32]
    """What counts are multiplied with: 1 where there is no gain; bad pixels have that of their neighbours."""
    bad: Mask
    patches: Patches
    gain: str | None
    """The reference that is used."""
    reference: NDArray[Any] | None
    """The gain reference as read, fitting or not."""
    divide: bool
    warnings: Warnings


class ReferenceReader:
    """Reads gain and defects, again when their files change, and compares the gain with what the frames show."""

    def __init__(self, settings: Settings) -> None:
        self._movies, self._flip = settings.movies, settings.acquisition.flip_tiff_rows
        self._loaded: dict[object, References] = {}
        self._patterns: dict[object, FixedPattern] = {}

    def of(self, image: RawImage) -> References:
        """The references for an image; what is wrong with them is among the warnings, and they are not used."""
        camera = self._loaded.get(self._key(image))
        if camera is None:
            camera = self._load((image.ny, image.nx), eer=is_eer(image.path))
            self._loaded = {self._key(image): camera}
        gain, limit = self._movies.gain, self._movies.gain_max_days
        if gain and (age := _days_older(gain, image)) > limit:
            text = f"{gain}: the gain reference is more than {limit:g} days older than the images ({age:.0f})"
            camera = camera._replace(warnings=(*camera.warnings, ("gain.old", text)))
        return camera

    def look(self, image: RawImage, camera: References, counts: NDArray[Any]) -> Warnings:
        """What the fixed pattern of an exposure's counts `(ny, nx)`, before the gain, says about the gain."""
        key = self._key(image)
        pattern = self._patterns.setdefault(key, FixedPattern())
        if pattern.exposures >= LOOKS:
            return ()
        strength = pattern.add(counts, camera.bad)
        if camera.reference is None:
            text = f"the frames carry a fixed pattern of {100 * strength:.1f} % of the counts: set movies.gain"
            return (("gain.missing", text),) if strength > STRONG and not self._movies.gain else ()
        used = Orientation(self._movies.gain_rotate, self._movies.gain_flip)
        report = pattern.compare(camera.reference, counts.shape, used, divide=camera.divide)
        if report.rotated:
            text = f"{self._movies.gain}: is turned or mirrored against the frames ({used}); {report.best} fits"
            return (("gain.rotated", text),)
        if report.inverse:
            other = "multiply" if camera.divide else "divide"
            return (("gain.inverse", f'{self._movies.gain}: makes the pattern stronger; gain_apply = "{other}" fits'),)
        return ()

    def _key(self, image: RawImage) -> object:
        return image.ny, image.nx, is_eer(image.path), stamp(self._movies.gain), stamp(self._movies.defects)

    def _load(self, shape_yx: tuple[int, int], *, eer: bool) -> References:
        gain, reference, divide, warnings = self._load_gain(shape_yx, eer=eer)
        bad, more = self._load_defects(shape_yx)
        warnings += more
        bad = bad | gain.dead if gain else bad
        try:
            patches = Patches(bad)
        except ValueError as error:
            warnings += (("defects.unusable", f"defects are not repaired: what gain and list mark {error}"),)
            patches = Patches(np.zeros(shape_yx, np.bool_))
        factor = gain.factor if gain else np.ones(shape_yx, np.float32)
        patches.even_out(factor)
        return References(factor, bad, patches, self._movies.gain if gain else None, reference, divide, warnings)

    def _load_gain(
        self, shape_yx: tuple[int, int], *, eer: bool
    ) -> tuple[Gain | None, NDArray[Any] | None, bool, Warnings]:
        movies = self._movies
        divide = movies.gain_apply == "divide"
        if movies.gain is None:
            return None, None, divide, ()
        if movies.gain_apply == "auto":
            divide = eer and not movies.gain.lower().endswith(".gain")
        reference = None
        try:
            reference = self._first_image(movies.gain)
            orientation = Orientation(movies.gain_rotate, movies.gain_flip)
            return make_gain(reference, shape_yx, orientation, divide=divide), reference, divide, ()
        except (ValueError, InputError, OSError) as error:
            code = "gain.shape" if isinstance(error, ValueError) else "gain.unreadable"
            return None, reference, divide, ((code, f"{_why(movies.gain, error)}; images are summed without gain"),)

    def _load_defects(self, shape_yx: tuple[int, int]) -> tuple[Mask, Warnings]:
        none, path = np.zeros(shape_yx, np.bool_), self._movies.defects
        if path is None:
            return none, ()
        try:
            return self._read_defects(path, shape_yx), ()
        except (ValueError, InputError, OSError) as error:
            return none, (("defects.unusable", f"{_why(path, error)}; it is not used"),)

    def _read_defects(self, path: str, shape_yx: tuple[int, int]) -> Mask:
        if Path(path).suffix.lower() not in IMAGE_SUFFIXES:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
            return defect_mask(parse_defects(text), shape_yx, top_first=self._flip)
        marked: Mask = self._first_image(path) != 0
        if marked.shape != shape_yx:
            size, usual = (f"{nx} x {ny}" for ny, nx in (marked.shape, shape_yx))
            raise ValueError(f"has {size} pixels, the frames have {usual}")
        return marked

    def _first_image(self, path: str) -> NDArray[Any]:
        return next(read_frames(path, flip_tiff=self._flip))


def is_eer(path: str) -> bool:
    """Whether a file is a movie of electron events, by its name."""
    return path.lower().endswith(".eer")


def _why(path: str, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{path}: cannot be read ({error.strerror})"
    return str(error) if isinstance(error, InputError) else f"{path}: {error}"


def _days_older(path: str, image: RawImage) -> float:
    taken_s = image.acquired_s or image.written_s
    try:
        return (taken_s - os.stat(path).st_mtime) / 86400 if taken_s else 0.0
    except OSError:
        return 0.0
