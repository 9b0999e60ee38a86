"""What the watcher has told so far: names of series, their images, what was said about them once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from streamtomo.config import Acquisition
from streamtomo.messages import FileRefused, SeriesDescribed, Sighting, Warned
from streamtomo.model import RawImage
from streamtomo.watch.claims import Claims
from streamtomo.watch.exposures import Exposures
from streamtomo.watch.naming import folder_name
from streamtomo.watch.sources import KINDS, Fact, Statements, disagreement

PRIOR_DOSE_TOLERANCE_e_A2 = 0.01


class _Stamp(NamedTuple):
    """What tells the order of an image in its series."""

    acquired_s: float | None
    number: int | None
    prior_dose_e_A2: float | None


class Book:
    """Turns findings into sightings, each only once, and lets the settings win over the metadata."""

    def __init__(
        self,
        acquisition: Acquisition,
        known: Iterable[RawImage] = (),
        exists: Callable[[str], bool] = os.path.exists,
        claims: Claims | None = None,
    ) -> None:
        """`known` are images of an earlier run, whose series keep their names; `claims` are shared within a run."""
        self._acquisition = acquisition
        self._out: list[Sighting] = []
        self._names: dict[str, str] = {}
        self._claims = claims or Claims()
        self._described: dict[str, SeriesDescribed] = {}
        self._said: set[tuple[str, str]] = set()
        self._order: dict[str, int] = {}
        self._stamps: dict[str, dict[str, _Stamp]] = {}
        known = list(known)
        self.exposures = Exposures(known, exists)
        self.paths = {image.path: image.series for image in known if image.gone is None}
        """Series of each file that was told of."""
        for image in known:
            self._claims.take(image.series, image.path)

    def name(self, source: str, wanted: str) -> str:
        """Name of the series that comes from `source` (a file, or a folder and a prefix); no two sources share one."""
        if source not in self._names:
            name = folder_name(wanted)
            base, number = _longer_name(source, wanted), 2
            if not self._claims.take(name, source):
                name = base
            while not self._claims.take(name, source):
                name, number = f"{base}_{number}", number + 1
            self._names[source] = name
        return self._names[source]

    def adopt(self, source: str, name: str) -> None:
        """The series that comes from `source` is one that has a name already."""
        self._names[source] = name
        self._claims.take(name, source)

    def renew(self, source: str, wanted: str) -> str:
        """A new name for `source`: what comes from it now is another series than before."""
        number = 2
        while not self._claims.take(name := f"{folder_name(wanted)}_{number}", source, anew=True):
            number += 1
        self._names[source] = name
        return name

    def image(self, image: RawImage, order: int | None = None, mark: str | None = None) -> str:
        """Tell of an image, unless nothing about it is new; `mark` is what its mdoc tells of its pixels.

        Returns the series that it belongs to. One that was told of from another file keeps its series and its key
        where that file is gone, and is left out where it is still there.
        """
        known = self.exposures.at(image.path, image.section)
        if known is not None:
            image = replace(image, exposure=known.exposure)
        elif old := self.exposures.moved_to(image):
            image = replace(image, series=old.series, exposure=old.key)
        elif twin := self.exposures.copied_to(image):
            self.refuse(image.path, f"is left out: it holds the exposure that is taken from {twin.path}")
            return twin.series
        else:
            image = replace(image, exposure=self.exposures.new_key(image))
        self.tell([image], order, mark)
        return image.series

    def withdraw(self, images: Sequence[RawImage]) -> None:
        """These, all `gone`, are no exposures of their own; their file may belong to another series."""
        for path in {image.path for image in images}:
            self.paths.pop(path, None)
        self.tell(images)

    def tell(self, images: Sequence[RawImage], order: int | None = None, mark: str | None = None) -> None:
        """Tell of images that are known by their keys, all together where they change places."""
        images = [self._with_overrides(image) for image in images]
        known = [self.exposures.at(image.path, image.section) for image in images]
        self.exposures.put(images)
        for image, before in zip(images, known, strict=True):
            self.exposures.mark(image, mark)
            if image.gone is None:
                self.paths[image.path] = image.series
            if before is not None and _same(before, image):
                continue
            if order is not None:
                self._order[image.key] = order
            self._out.append(image)
            self._check_order(image)

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
        pixel_size_A = self.choose(series, "pixel size", {"mdoc": pixel_size_A})
        axis_deg = self.choose(series, "tilt axis", {"mdoc": axis_deg})
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

    def unsay(self, path: str) -> None:
        """What was said of a file that cannot be used may be said again."""
        self._said.discard(("refused", path))

    def warn(self, code: str, text: str, *, about: str, series: str | None = None) -> None:
        """Warn once of one kind of trouble with one file or series."""
        if (code, about) not in self._said:
            self._said.add((code, about))
            self._out.append(Warned(code=code, text=text, series=series))

    def drain(self) -> list[Sighting]:
        """What is to be told now: words first, then the images of each series in the order they were acquired.

        Of one exposure only the last that was found out is told.
        """
        last = {sighting.key: sighting for sighting in self._out if isinstance(sighting, RawImage)}
        words = [sighting for sighting in self._out if not isinstance(sighting, RawImage)]
        groups: dict[str, list[RawImage]] = {}
        for image in last.values():
            groups.setdefault(image.series, []).append(image)
        self._out = []
        return [*words, *(one for group in groups.values() for one in self._in_order(group))]

    def _in_order(self, images: list[RawImage]) -> list[RawImage]:
        """Sorted by the first of these that all have: the microscope's time, the order in the name, the file's time."""
        keys: tuple[Callable[[RawImage], float | None], ...] = (
            lambda image: image.acquired_s,
            lambda image: self._order.get(image.key),
            lambda image: image.written_s,
        )
        for key in keys:
            values = {id(image): value for image in images if (value := key(image)) is not None}
            if len(values) == len(images):
                return sorted(images, key=lambda image: (values[id(image)], image.path, image.section))
        return images

    def choose(self, series: str, fact: Fact, statements: Statements) -> float | None:
        """The setting where there is one, else what the first witness says; a disagreement is said once a series."""
        setting = {"tilt axis": self._acquisition.tilt_axis_deg, "pixel size": self._acquisition.pixel_size_A}.get(fact)
        statements = {"settings": setting, **statements}
        if contradiction := disagreement(fact, statements):
            believed, value, doubted, other = contradiction
            kind = KINDS[fact]
            text = (
                f"{series}: {fact} {value:.6g}{kind.unit} by the {believed} is used, "
                f"by the {doubted} it is {other:.6g}{kind.unit}"
            )
            self.warn(kind.code, text, about=series, series=series)
        return next((value for value in statements.values() if value is not None), None)

    def _with_overrides(self, image: RawImage) -> RawImage:
        return replace(
            image,
            angle_deg=image.angle_deg + 0.0,  # -0.0 becomes 0.0
            pixel_size_A=self.choose(image.series, "pixel size", {"mdoc": image.pixel_size_A}),
            tilt_axis_deg=self.choose(image.series, "tilt axis", {"mdoc": image.tilt_axis_deg}),
        )

    def _check_order(self, image: RawImage) -> None:
        """Say where a series has no times, and where numbers or doses contradict them."""
        series, stamps = image.series, self._stamps.setdefault(image.series, {})
        new = _Stamp(image.acquired_s, self._order.get(image.key), image.prior_dose_e_A2)
        others = [stamp for key, stamp in stamps.items() if key != image.key]
        wrong = next((what for other in others if (what := _contradiction(new, other))), None)
        if wrong:
            text = f"{series}: {wrong} contradict the times of acquisition, and the times are believed"
            self.warn("order.disagrees", text, about=series, series=series)
        if others and image.acquired_s is None and (image.mdoc_section is not None or new.number is None):
            if image.mdoc_section is None and image.section:
                return  # a finished stack, in the order it lies in
            instead = "the order of its sections" if image.mdoc_section is not None else "the times of its files"
            text = f"{series}: nothing tells when its images were taken; {instead} is used instead"
            self.warn("time.missing", text, about=series, series=series)
        stamps[image.key] = new


def _longer_name(source: str, wanted: str) -> str:
    """What a series is called whose name another one has."""
    return folder_name(f"{os.path.basename(os.path.dirname(source))}_{wanted}")


def _contradiction(one: _Stamp, other: _Stamp) -> str | None:
    if one.acquired_s is None or other.acquired_s is None or one.acquired_s == other.acquired_s:
        return None
    first, last = (one, other) if one.acquired_s < other.acquired_s else (other, one)
    if first.number is not None and last.number is not None and first.number > last.number:
        return "the numbers in the names"
    if first.prior_dose_e_A2 is not None and last.prior_dose_e_A2 is not None:
        return "the doses" if first.prior_dose_e_A2 > last.prior_dose_e_A2 + PRIOR_DOSE_TOLERANCE_e_A2 else None
    return None


def _same(before: RawImage, image: RawImage) -> bool:
    """Whether there is nothing new; the time of its file is, where nothing else tells when the image was taken."""
    if image.acquired_s is not None:
        before = replace(before, written_s=image.written_s)
    return before == image
