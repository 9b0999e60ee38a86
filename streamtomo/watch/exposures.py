"""Where each exposure lies: one that was told of keeps its key when its file is renamed, copied, sorted or overwritten.

A file's place is not its identity. What identifies an exposure is the time and the angle it was taken at, with the mark
that an mdoc gives it; where nothing tells the time, the file's own modification time, which a rename leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from streamtomo.model import RawImage
from streamtomo.watch.mdoc import Mdoc, MdocSection
from streamtomo.watch.naming import file_key

ANGLE_TOLERANCE_DEG = 0.5
"""Angles of one exposure from two sources, as set and as read from the stage."""
REPEATED_DEG = 0.05
"""Angles of one exposure from two readings of the same source."""
DAY_S = 86400
MIN_ALIKE = 3
"""Angles that a file without times has in common with one that vanished, to be it."""


class Exposures:
    """All exposures that were told of, by key, by place and by what identifies them."""

    def __init__(self, known: Iterable[RawImage], exists: Callable[[str], bool]) -> None:
        self._exists = exists
        self._images: dict[str, RawImage] = {}
        self._files: dict[str, dict[int, RawImage]] = {}
        self._marks: dict[str, str] = {}
        self._by_time: dict[float, list[str]] = {}
        self._by_written: dict[float, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        self._rewritten: dict[float, str] = {}
        """By time: the file that was written anew then, whether its content changed or not."""
        self._rewritten_at: dict[str, float] = {}
        for image in known:
            self.put([image])

    def at(self, path: str, section: int) -> RawImage | None:
        """The exposure that lies there."""
        return self._files.get(path, {}).get(section)

    def of(self, path: str) -> Mapping[int, RawImage]:
        """Exposures in one file, by section."""
        return self._files.get(path, {})

    def put(self, images: Iterable[RawImage]) -> None:
        """Keep these as they are now; those that change places must come together."""
        images = list(images)
        for old in (self._images.get(image.key) for image in images):
            if old is not None and self.at(old.path, old.section) is old:
                del self._files[old.path][old.section]
        for image in images:
            self._index(image)

    def mark(self, image: RawImage, mark: str | None) -> None:
        """What the mdoc tells of its pixels and its place on the specimen, as text."""
        if mark is not None:
            self._marks[image.key] = mark

    def new_key(self, image: RawImage) -> str | None:
        """The `exposure` of an image that was never told of: None unless another one had its place before."""
        plain, number = f"{image.path}#{image.section}", 2
        if plain not in self._images:
            return None
        while f"{plain}#{number}" in self._images:
            number += 1
        return f"{plain}#{number}"

    def rewritten(self, path: str, written_s: float) -> None:
        """The file of some exposures has this time now: it is known by it if it is renamed before it is read again."""
        if self.of(path):
            self._rewritten.pop(self._rewritten_at.get(path, written_s), None)
            self._rewritten[written_s], self._rewritten_at[path] = path, written_s

    def left(self, path: str, written_s: float) -> str | None:
        """A file of exposures of that time, which is gone: where the file at `path` lay before, if it has none yet."""
        if self.of(path):
            return None
        places = (image.path for image in self._written_at(written_s))
        return next((place for place in places if not self._exists(place)), None)

    def moved_to(self, image: RawImage) -> RawImage | None:
        """The exposure as it was told of before its file was renamed to where `image` lies."""
        return next((twin for twin in self._twins(image) if not self._exists(twin.path)), None)

    def copied_to(self, image: RawImage) -> RawImage | None:
        """The exposure of the same name that is told of from another file, which is still there."""
        twins = (twin for twin in self._twins(image) if file_key(twin.path) == file_key(image.path))
        return next((twin for twin in twins if self._exists(twin.path)), None)

    def elsewhere(self, path: str, sections: Mapping[int, MdocSection]) -> Elsewhere:
        """Sections of a stack that lay in a file that is gone, or lie in another one too."""
        found = {z: twin for z, section in sections.items() if (twin := self._of_section(path, section))}
        moved = {z: image for z, image in found.items() if not self._exists(image.path)}
        moved |= self._timeless({z: section for z, section in sections.items() if z not in found}, moved)
        marked = {z: image for z, image in found.items() if self._is_marked(image, path, sections[z].mark)}
        copied = {z: image for z, image in marked.items() if z not in moved and sections[z].mark is not None}
        if not found and not any(section.acquired_s for section in sections.values()):
            moved = dict(self._alike(path, {z: s.angle_deg for z, s in sections.items()}))
        return Elsewhere(moved, copied)

    def vanished(self, path: str, written_s: float, count: int) -> str | None:
        """The series of a stack of so many images that was written at that time, and is gone from where it was."""
        for image in self._there(self._by_written.get(written_s, ())):
            if image.path != path and len(self.of(image.path)) == count and not self._exists(image.path):
                return image.series
        return None

    def _index(self, image: RawImage) -> None:
        key = image.key
        if key not in self._images:
            self._by_name.setdefault(file_key(image.path), []).append(key)
        self._images[key] = image
        if image.gone is None:
            self._files.setdefault(image.path, {})[image.section] = image
        for index, value in ((self._by_time, image.acquired_s), (self._by_written, image.written_s)):
            if value is not None and key not in index.setdefault(value, []):
                index[value].append(key)

    def _there(self, keys: Iterable[str]) -> Iterator[RawImage]:
        return (image for key in keys if (image := self._images[key]).gone is None)

    def _twins(self, image: RawImage) -> Iterator[RawImage]:
        """The same exposure in other files: by its name and time, or by the time when its file was written."""
        for twin in self._there(self._by_name.get(file_key(image.path), ())):
            if _is_close(twin, image) and image.acquired_s is not None and twin.acquired_s == image.acquired_s:
                yield twin
        for twin in self._written_at(image.written_s):
            same_size = (twin.nx, twin.ny) == (image.nx, image.ny)
            if _is_close(twin, image) and same_size and twin.acquired_s in (None, image.acquired_s):
                yield twin

    def _written_at(self, written_s: float | None) -> Iterator[RawImage]:
        if written_s is not None:
            yield from self._there(self._by_written.get(written_s, ()))
            yield from list(self.of(self._rewritten.get(written_s, "")).values())

    def _of_section(self, path: str, section: MdocSection) -> RawImage | None:
        if section.acquired_s is None:
            return None
        for image in self._there(self._by_time.get(section.acquired_s, ())):
            mark = self._marks.get(image.key)
            other = mark is not None and section.mark is not None and mark != section.mark
            if image.path != path and not other and is_angle_of(section, image.angle_deg):
                return image
        return None

    def _is_marked(self, image: RawImage, path: str, mark: str | None) -> bool:
        """Whether the mark is the image's; where nobody told one yet (after a restart), whether the names are akin."""
        stems = sorted((file_key(path), file_key(image.path)), key=len)
        return self._marks.get(image.key, mark if stems[1].startswith(stems[0]) else None) == mark

    def _timeless(self, sections: Mapping[int, MdocSection], moved: Mapping[int, RawImage]) -> Mapping[int, RawImage]:
        """Sections whose images were told of without a time, from the file that others moved away from."""
        left = [
            image
            for path in {image.path for image in moved.values()}
            for image in self.of(path).values()
            if image.acquired_s is None
        ]
        found: dict[int, RawImage] = {}
        for z, section in sections.items():
            if image := next((image for image in left if _is_repeated(section, image)), None):
                left.remove(image)
                found[z] = image
        return found

    def _alike(self, path: str, angles: Mapping[int, float | None]) -> Mapping[int, RawImage]:
        """Images of a file that is gone and had these angles in this order."""
        for other, images in self._files.items():
            if other == path or len(images) < MIN_ALIKE or not images.keys() <= angles.keys():
                continue
            off = [abs(image.angle_deg - angle) for z, image in images.items() if (angle := angles[z]) is not None]
            if len(off) == len(images) and max(off) <= REPEATED_DEG and not self._exists(other):
                return images
        return {}


class Elsewhere(NamedTuple):
    """Sections of one stack that are known from other files."""

    moved: dict[int, RawImage]
    """Their old file is gone."""
    copied: dict[int, RawImage]
    """Their old file is still there."""


class Recognised(NamedTuple):
    """What a stack holds now, against what was told of it."""

    stay: dict[int, RawImage]
    moved: dict[int, RawImage]
    """By their new section."""
    new: dict[int, MdocSection]
    lost: list[RawImage]
    """Another exposure has their section, and they have none."""


def recognise(sections: Mapping[int, MdocSection], here: Mapping[int, RawImage]) -> Recognised:
    """Find the images of one file again in its mdoc, after it may have been sorted, extended or overwritten."""
    stay = {z: image for z, image in here.items() if z in sections and is_section_of(sections[z], image)}
    displaced = [image for z, image in sorted(here.items()) if z not in stay]
    moved: dict[int, RawImage] = {}
    for z in sorted(sections.keys() - stay.keys()):
        if image := next((image for image in displaced if _is_repeated(sections[z], image)), None):
            displaced.remove(image)
            moved[z] = image
    new = {z: sections[z] for z in sections.keys() - stay.keys() - moved.keys()}
    lost = [image for image in displaced if image.section in sections]
    if lost and not stay and not moved:
        lost = displaced  # overwritten from its first image on: what lay behind is gone as well
    return Recognised(stay, moved, new, lost)


def found_in(mdoc: Mdoc, path: str, images: Iterable[RawImage]) -> list[RawImage]:
    """These images as they lie in another stack, as far as its mdoc tells of them."""
    sections = {section.z: section for section in mdoc.sections}
    found: list[RawImage] = []
    for image in images:
        z = next((z for z, section in sections.items() if _is_repeated(section, image)), None)
        if z is not None:
            del sections[z]
            found.append(replace(image, path=path, section=z, exposure=image.key))
    return found


def is_section_of(section: MdocSection, image: RawImage) -> bool:
    """Whether a section still describes the image that was taken in from it.

    Only the time of day is compared: how a date is read can change while the mdoc grows.
    """
    return _is_clock_of(section, image) and is_angle_of(section, image.angle_deg)


def is_angle_of(section: MdocSection, angle_deg: float, tolerance_deg: float = ANGLE_TOLERANCE_DEG) -> bool:
    """Whether the section has this angle, or none."""
    return section.angle_deg is None or abs(section.angle_deg - angle_deg) <= tolerance_deg


def _is_clock_of(section: MdocSection, image: RawImage) -> bool:
    times = section.acquired_s, image.acquired_s
    return None in times or (section.acquired_s or 0.0) % DAY_S == (image.acquired_s or 0.0) % DAY_S


def _is_repeated(section: MdocSection, image: RawImage) -> bool:
    return (
        _is_clock_of(section, image)
        and section.angle_deg is not None
        and is_angle_of(section, image.angle_deg, REPEATED_DEG)
    )


def _is_close(one: RawImage, other: RawImage) -> bool:
    apart = abs(one.angle_deg - other.angle_deg) <= ANGLE_TOLERANCE_DEG
    return apart and one.section == other.section and one.path != other.path
