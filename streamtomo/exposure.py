"""From what the microscope wrote of one exposure to one image: frames, gain, defects, drift, sum.

A shell: it reads the frames and knows the order of the steps. The sum of a movie is kept as an MRC file, with a few
lines of JSON beside it, in the folder `sums` of its series: whoever reads the tilt again (the final alignment, the next
start) finds it there as long as the movie, the references and the settings are the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamtomo.config import Settings
from streamtomo.correct import drift, frames
from streamtomo.errors import BadImage
from streamtomo.model import RawImage
from streamtomo.references import ReferenceReader, References, is_eer
from streamtomo.sums import Done, Exposure, Pixels, Warnings, keep_sum, kept_sum, sum_path
from streamtomo.watch.images import read_image
from streamtomo.watch.movies import read_frames

KEEP_BYTES = 1 << 30
"""Frames that take less memory together, in the type they are stored in, are read once; larger movies twice."""
STILL_PX = 0.1
"""A specimen that never is further than this from its mean position has not moved."""
SHARE_OF_INTERVAL = 0.5
"""Drift is corrected live where a movie takes less than this share of the time between two tilts."""
FRACTION_DOSE_E_A2 = 0.25
LEAST_FRACTIONS, MOST_FRACTIONS = 12, 24
"""Dose fractions in which an EER movie is read where the settings do not say how many frames make one."""


class _Movie(NamedTuple):
    """One pass over a movie."""

    total: NDArray[np.float32]
    """Sum of the counts, bad pixels filled, before the gain."""
    frames: int
    """Frames, or dose fractions, that were summed."""
    path: drift.Array | None
    """Position (x, y) of the specimen in each of them, in pixels."""
    kept: list[Pixels]
    """All frames, where they are small enough to be kept."""


def read_exposure(image: RawImage, settings: Settings, cache: Path | None = None) -> Exposure:
    """The image of one exposure, whatever time it takes; `cache` is the folder of its series, where sums are kept.

    Raises InputError (or OSError) if it cannot be read.
    """
    return _reader(settings).read(image, cache)


class ExposureReader:
    """Reads exposures one after the other, and remembers what they say of the camera, and how long they take."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._cameras = ReferenceReader(settings)
        self._s_per_pixel: float | None = None
        """Time that a movie took, drift included, for each pixel of each frame."""

    def read(self, image: RawImage, cache: Path | None = None, *, interval_s: float | None = None) -> Exposure:
        """The image of one exposure; drift is left out if it is "auto" and takes too long for tilts every `interval_s`.

        Raises InputError (or OSError) if it cannot be read.
        """
        if image.frames <= 1:
            return self._single(image)
        with_drift, warnings = self._drift_wanted(image, interval_s)
        # A sum with drift corrected, from the finishing, is better than none; the other way round it is not.
        for good_enough in (True, False) if self.settings.movies.drift == "auto" and not with_drift else (with_drift,):
            if cache and (kept := kept_sum(sum_path(image, self.settings, cache, with_drift=good_enough), image)):
                return kept
        pixels, done = self._sum(image, with_drift=with_drift)
        done = msgspec.structs.replace(done, warnings=done.warnings + warnings)
        if cache:
            done = keep_sum(sum_path(image, self.settings, cache, with_drift=with_drift), image, pixels, done)
        return Exposure(pixels, done)

    def _single(self, image: RawImage) -> Exposure:
        raw = read_image(image.path, image.section, flip_tiff=self.settings.acquisition.flip_tiff_rows)
        movies = self.settings.movies
        if movies.apply_to == "movies" or not (movies.gain or movies.defects) or raw.shape != (image.ny, image.nx):
            return Exposure(raw, Done())
        camera, pixels = self._cameras.of(image), raw.astype(np.float32)
        camera.patches.mend(pixels)
        warnings = camera.warnings + self._cameras.look(image, camera, pixels)
        pixels *= camera.factor
        return Exposure(pixels, Done(gain=camera.gain, defects=camera.patches.at.size, warnings=warnings))

    def _drift_wanted(self, image: RawImage, interval_s: float | None) -> tuple[bool, Warnings]:
        setting = self.settings.movies.drift
        if setting != "auto" or interval_s is None or self._s_per_pixel is None:
            return setting != "off", ()
        cost_s = self._s_per_pixel * image.frames * image.nx * image.ny
        if cost_s <= SHARE_OF_INTERVAL * interval_s:
            return True, ()
        text = (
            f"correcting the drift of a movie takes about {cost_s:.1f} s, and tilts come every {interval_s:.1f} s: "
            "the live sums do without, the final ones do not"
        )
        return False, (("drift.skipped", text),)

    def _sum(self, image: RawImage, *, with_drift: bool) -> Exposure:
        start = time.perf_counter()
        camera = self._cameras.of(image)
        movie = self._first_pass(image, camera, with_drift=with_drift)
        warnings = camera.warnings + self._cameras.look(image, camera, movie.total)
        if movie.path is None or np.hypot(*movie.path.T).max() < STILL_PX:
            pixels = np.multiply(movie.total, camera.factor, out=movie.total)
        else:
            again = movie.kept or self._frames(image, camera, with_drift=with_drift)
            pixels = _moved_sum(again, movie.path, camera.factor)
        if with_drift:
            self._s_per_pixel = (time.perf_counter() - start) / (image.frames * pixels.size)
        return Exposure(
            pixels,
            Done(
                frames=movie.frames,
                gain=camera.gain,
                defects=camera.patches.at.size,
                drift_px=None if movie.path is None else tuple((float(x), float(y)) for x, y in movie.path.round(3)),
                warnings=warnings,
            ),
        )

    def _first_pass(self, image: RawImage, camera: References, *, with_drift: bool) -> _Movie:
        total = np.zeros((image.ny, image.nx), np.float32)
        binning = drift.drift_binning(image.nx, image.ny)
        spectra, kept, held, count = list[drift.Spectra](), list[Pixels](), 0, 0
        for frame in self._frames(image, camera, with_drift=with_drift):
            frames.add(total, frame)
            count += 1
            if not with_drift:
                continue
            spectra.append(drift.spectrum(frames.block_mean(frame, camera.factor, binning)))
            held += frame.nbytes
            if held <= KEEP_BYTES:
                kept.append(frame)
            else:
                kept.clear()
        found = drift.find_drift(spectra, (image.ny // binning, image.nx // binning)) if spectra else None
        return _Movie(total, count, found.path * binning if found else None, kept)

    def _frames(self, image: RawImage, camera: References, *, with_drift: bool) -> Iterator[Pixels]:
        """Frames `(ny, nx)` with their bad pixels filled, the next one being read meanwhile."""
        group = self._fraction(image, with_drift=with_drift) if is_eer(image.path) else 1
        flip = self.settings.acquisition.flip_tiff_rows
        for turn, frame in enumerate(_one_ahead(read_frames(image.path, group=group, flip_tiff=flip))):
            if frame.shape != (image.ny, image.nx):
                size, usual = f"{frame.shape[1]} x {frame.shape[0]}", f"{image.nx} x {image.ny}"
                raise BadImage(f"{image.path}: frame {turn} is {size} pixels, its exposure has {usual}")
            stored = frames.as_stored(frame)
            if camera.patches.at.size and not stored.flags.writeable:
                stored = stored.copy()
            camera.patches.mend(stored, turn)
            yield stored

    def _fraction(self, image: RawImage, *, with_drift: bool) -> int:
        """Camera frames of an EER movie that are read as one."""
        if not with_drift:
            return image.frames
        if self.settings.movies.eer_fraction:
            return self.settings.movies.eer_fraction
        wanted = round((image.dose_e_A2 or 0.0) / FRACTION_DOSE_E_A2)
        return -(-image.frames // min(max(wanted, LEAST_FRACTIONS), MOST_FRACTIONS))


@lru_cache(maxsize=1)
def _reader(settings: Settings) -> ExposureReader:
    return ExposureReader(settings)


def _moved_sum(again: Iterable[Pixels], path: drift.Array, factor: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of the frames, times the gain, each moved back by where the specimen was in it."""
    total = np.zeros(factor.shape, np.float32)
    for frame, (x, y) in zip(again, path, strict=True):
        frames.add_moved(total, frame, factor, (float(x), float(y)))
    return total


def _one_ahead(items: Iterator[Pixels]) -> Iterator[Pixels]:
    """The same items, each made by another thread while the one before is worked on."""
    with ThreadPoolExecutor(1, thread_name_prefix="frames") as reader:
        coming = reader.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = reader.submit(next, items, None)
            yield item
