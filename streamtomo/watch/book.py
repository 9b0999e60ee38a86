"""What the watcher has told so far: names of series, their images, what was said about them once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from streamtomo.config import Acquisition
from streamtomo.geometry import wrap_angle
from streamtomo.messages import FileRefused, SeriesDescribed, Sighting, Warned
from streamtomo.model import RawImage
from streamtomo.watch.naming import folder_name

AXIS_TOLERANCE_DEG = 1.0
PIXEL_TOLERANCE = 0.01


class Book:
    """Turns findings into sightings, each only once, and lets the settings win over the metadata."""

    def __init__(self, acquisition: Acquisition, known: Iterable[RawImage] = ()) -> None:
        self._acquisition = acquisition
        self._out: list[Sighting] = []
        self._names: dict[str, str] = {}
        self._sources: dict[str, str] = {}
        self._described: dict[str, SeriesDescribed] = {}
        self._said: set[tuple[str, str]] = set()
        self._order: dict[tuple[str, int], int] = {}
        self.images = {(image.path, image.section): image for image in known}
        self.paths = {image.path: image.series for image in self.images.values()}
        """Series of each file that was told of."""

    def name(self, source: str, wanted: str) -> str:
        """Name of the series that comes from `source` (a file, or a folder and a prefix); no two sources share one."""
        if source not in self._names:
            name = folder_name(wanted)
            if self._sources.get(name, source) != source:
                name = folder_name(f"{os.path.basename(os.path.dirname(source))}_{wanted}")
            number, base = 2, name
            while self._sources.get(name, source) != source:
                name, number = f"{base}_{number}", number + 1
            self.adopt(source, name)
        return self._names[source]

    def adopt(self, source: str, name: str) -> None:
        """The series that comes from `source` is one that has a name already."""
        self._names[source] = name
        self._sources.setdefault(name, source)

    def image(self, image: RawImage, order: int | None = None) -> None:
        """Tell of an image, unless nothing about it is new."""
        image = self._with_overrides(image)
        key = (image.path, image.section)
        known = self.images.get(key)
        if known is not None and replace(known, written_s=image.written_s) == image:
            return
        self.images[key] = image
        self.paths[image.path] = image.series
        if order is not None:
            self._order[key] = order
        self._out.append(image)

    def describe(
        self,
        series: str,
        source: str,
        *,
        planned: int | None = None,
        pixel_size_A: float | None = None,
        axis_deg: float | None = None,
    ) -> None:
        """Tell what is known of a series, where that is anything and new; what was known before stays known."""
        if before := self._described.get(series):
            planned = before.planned_tilts if planned is None else planned
            pixel_size_A = before.pixel_size_A if pixel_size_A is None else pixel_size_A
            axis_deg = before.tilt_axis_deg if axis_deg is None else axis_deg
            source = before.source
        pixel_size_A = self._override(series, "pixel size", self._acquisition.pixel_size_A, pixel_size_A)
        axis_deg = self._override(series, "tilt axis", self._acquisition.tilt_axis_deg, axis_deg)
        if planned is None and pixel_size_A is None and axis_deg is None:
            return
        event = SeriesDescribed(
            series=series, source=source, planned_tilts=planned, pixel_size_A=pixel_size_A, tilt_axis_deg=axis_deg
        )
        if self._described.get(series) != event:
            self._described[series] = event
            self._out.append(event)

    def refuse(self, path: str, reason: str) -> None:
        """Say once why a file cannot be used."""
        if ("refused", path) not in self._said:
            self._said.add(("refused", path))
            self._out.append(FileRefused(path=path, reason=reason.removeprefix(f"{path}: ")))

    def warn(self, code: str, text: str, *, about: str, series: str | None = None) -> None:
        """Warn once of one kind of trouble with one file or series."""
        if (code, about) not in self._said:
            self._said.add((code, about))
            self._out.append(Warned(code=code, text=text, series=series))

    def drain(self) -> list[Sighting]:
        """What is to be told now: words first, then the images of each series in the order they were acquired."""
        words = [sighting for sighting in self._out if not isinstance(sighting, RawImage)]
        groups: dict[str, list[RawImage]] = {}
        for sighting in self._out:
            if isinstance(sighting, RawImage):
                groups.setdefault(sighting.series, []).append(sighting)
        self._out = []
        return [*words, *(image for group in groups.values() for image in self._in_order(group))]

    def _in_order(self, images: list[RawImage]) -> list[RawImage]:
        """Sorted by the first of these that all have: the microscope's time, the order in the name, the file's time."""
        keys: tuple[Callable[[RawImage], float | None], ...] = (
            lambda image: image.acquired_s,
            lambda image: self._order.get((image.path, image.section)),
            lambda image: image.written_s,
        )
        for key in keys:
            values = {id(image): value for image in images if (value := key(image)) is not None}
            if len(values) == len(images):
                return sorted(images, key=lambda image: (values[id(image)], image.path, image.section))
        return images

    def _with_overrides(self, image: RawImage) -> RawImage:
        pixel, axis = self._acquisition.pixel_size_A, self._acquisition.tilt_axis_deg
        return replace(
            image,
            pixel_size_A=self._override(image.series, "pixel size", pixel, image.pixel_size_A),
            tilt_axis_deg=self._override(image.series, "tilt axis", axis, image.tilt_axis_deg),
        )

    def _override(self, series: str, what: str, setting: float | None, metadata: float | None) -> float | None:
        """The setting where there is one, else the metadata; a disagreement is said once for each series."""
        if setting is None or metadata is None:
            return metadata if setting is None else setting
        if what == "tilt axis" and abs(wrap_angle(setting - metadata)) > AXIS_TOLERANCE_DEG:
            text = f"{series}: the settings' tilt axis of {setting:.1f}° is used, the metadata say {metadata:.1f}°"
            self.warn("axis.disagrees", text, about=series, series=series)
        if what == "pixel size" and abs(setting / metadata - 1) > PIXEL_TOLERANCE:
            text = f"{series}: the settings' pixel size of {setting:g} Å is used, the metadata say {metadata:g} Å"
            self.warn("pixel.disagrees", text, about=series, series=series)
        return setting
