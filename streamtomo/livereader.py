"""Reads exposures for the live lane, with one reader for each folder's settings; what they warn of is said once."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo.config import Settings
from streamtomo.errors import BadImage, InputError
from streamtomo.exposure import ExposureReader
from streamtomo.liveseries import LiveSeries
from streamtomo.messages import Warned
from streamtomo.model import RawImage


class Read(NamedTuple):
    """An exposure that was read."""

    pixels: NDArray[Any]
    """`(ny, nx)`"""
    drift_px: float | None
    """Way of the specimen through a movie, raw pixels; None where it was not measured."""
    warnings: list[Warned]
    """New ones."""


class LiveReader:
    """Exposures of all series, one after the other."""

    def __init__(self) -> None:
        self._readers: dict[Settings, ExposureReader] = {}
        self._taken_s: deque[float] = deque(maxlen=12)
        """When the last tilts were taken, of whatever series."""
        self._warned: set[tuple[str, str]] = set()

    def read(self, image: RawImage, live: LiveSeries, folder: str | None) -> Read:
        """A tilt's exposure; sums of movies are kept below `folder`.

        Raises InputError if it cannot be read, or has another size than its series.
        """
        if live.settings not in self._readers:
            self._readers[live.settings] = ExposureReader(live.settings)
        reader = self._readers[live.settings]
        try:
            raw, done = reader.read(image, Path(folder) if folder else None, interval_s=self._interval(image))
        except OSError as error:
            raise InputError(f"{image.path}: cannot be read ({error.strerror})") from error
        if raw.shape[::-1] != live.field_px:
            size, usual = (f"{nx} x {ny}" for nx, ny in (raw.shape[::-1], live.field_px))
            raise BadImage(f"{image.path}: is {size} pixels, its series has {usual}")
        new = [(code, text) for code, text in done.warnings if (image.series, code) not in self._warned]
        self._warned |= {(image.series, code) for code, _ in new}
        warnings = [Warned(code=code, text=text, series=image.series) for code, text in new]
        return Read(raw, round(done.travel_px, 3) if done.drift_px else None, warnings)

    def _interval(self, image: RawImage) -> float | None:
        """Usual time between two tilts of the microscope, whatever their series; None while it is not known."""
        if (taken := image.acquired_s or image.written_s) is not None:
            self._taken_s.append(taken)
        steps = np.diff(np.unique(self._taken_s))
        return float(np.median(steps)) if len(steps) > 1 else None
