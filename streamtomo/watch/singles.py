"""Tilt series with one file for each exposure, described by their names, by an mdoc, or by one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from streamtomo.model import RawImage
from streamtomo.watch.book import Book
from streamtomo.watch.images import ImageInfo, is_eer
from streamtomo.watch.mdoc import Mdoc, MdocSection
from streamtomo.watch.naming import ParsedName, file_key, folder_name, parse_name, stem_of, tried
from streamtomo.watch.settle import Seen

HOLD_S = 10.0
"""Where mdocs grow beside the images, a new image waits so long for its section before its name is believed."""
ORPHAN_S = 600.0
"""An image whose tilt angle nobody tells is refused after so long."""


class _Single(Struct, frozen=True):
    """A readable file with one exposure."""

    seen: Seen
    info: ImageInfo
    name: ParsedName | None
    since: float


class Singles:
    """Gives each file with one exposure its series and its angle."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._files: dict[str, _Single] = {}
        """All readable files by path."""
        self._by_key: dict[str, list[str]] = {}
        """Paths by the name of the exposure."""
        self._waiting: dict[str, float] = {}
        """Paths that nobody was told of yet, and until when they wait."""
        self._sections: dict[str, tuple[str, Mdoc, MdocSection]] = {}
        """By the name of the exposure: its mdoc's path, the mdoc, the section."""
        self._left_out: set[str] = set()
        self._unexplained: set[str] = set()
        """Series that waited in vain for an mdoc."""
        self._angles: dict[tuple[str, int], float] = {}
        """Angle of each number in a series known by its names."""
        self._numbered: set[str] = set()
        """Series whose images all have one number: it counts series, and belongs to the name."""
        for path in book.paths:
            self._by_key.setdefault(file_key(path), []).append(path)

    def leave_out(self, mdoc: Mdoc) -> None:
        """The mdoc's images are taken from its stack: the single files behind them are not told of."""
        self._left_out |= {file_key(section.file_name) for section in mdoc.sections if section.file_name}
        for path in [path for path in self._waiting if self.left_out(path)]:
            del self._waiting[path]

    def left_out(self, path: str) -> bool:
        """Whether the file holds the frames of an image that is told of as a stack's."""
        return file_key(path) in self._left_out

    def described(self, path: str) -> bool:
        """Whether an mdoc knows this file."""
        return file_key(path) in self._sections

    def told(self, mdoc: Mdoc) -> bool:
        """Whether any exposure of the mdoc was told of as a single file."""
        return any(
            path in self._book.paths
            for section in mdoc.sections
            if section.file_name
            for path in self._by_key.get(file_key(section.file_name), ())
        )

    def describe(self, mdoc_path: str, mdoc: Mdoc) -> None:
        """An mdoc describes these files; what was told of them is told again where it knows better."""
        keys = {file_key(s.file_name): s for s in mdoc.sections if s.file_name}
        self._sections |= {key: (mdoc_path, mdoc, section) for key, section in keys.items()}
        paths = [path for key in keys for path in self._by_key.get(key, ())]
        if told := next((self._book.paths[path] for path in paths if path in self._book.paths), None):
            self._book.adopt(stem_of(mdoc_path), told)
        if paths:
            self._describe(self._series_of(mdoc_path), mdoc_path, mdoc)
        for path in paths:
            if single := self._files.get(path):
                self._tell(single)

    def expect(self, paths: Iterable[str]) -> None:
        """These files are there: learn from all their names together which numbers count images."""
        for path in paths:
            if (name := parse_name(path)) and name.order is not None and not name.tomo5:
                source, key = _source(path, name), (_source(path, name), name.order)
                if abs(self._angles.setdefault(key, name.angle_deg) - name.angle_deg) > 0.1:
                    self._numbered.add(source)

    def _name(self, path: str) -> ParsedName | None:
        name = parse_name(path)
        if name is None or name.numbered is None or _source(path, name) not in self._numbered:
            return name
        return replace(name, series=name.numbered, order=None)

    def add(self, seen: Seen, info: ImageInfo, now: float, *, patient: bool) -> None:
        """A readable file with one exposure; a `patient` one waits a little for its mdoc before its name is believed.

        An MRC file with more sections is a movie here.
        """
        if (before := self._files.get(seen.path)) and before.seen.size != seen.size and seen.path in self._book.paths:
            text = f"{seen.path}: changed after it was taken in; finish the series again to make use of it"
            self._book.warn("image.changed", text, about=seen.path, series=self._book.paths[seen.path])
        name = self._name(seen.path)
        single = self._files[seen.path] = _Single(seen, info, name, now)
        paths = self._by_key.setdefault(file_key(seen.path), [])
        if seen.path not in paths:
            paths.append(seen.path)
        known = self.described(seen.path) or seen.path in self._book.paths
        if name is not None and (name.tomo5 or _source(seen.path, name) in self._unexplained):
            patient = False
        if known or (name is not None and not patient):
            self._tell(single)
        else:
            self._waiting[seen.path] = now + (HOLD_S if name else ORPHAN_S)

    def tick(self, now: float) -> None:
        """Believe the names of those that waited long enough, and refuse those without."""
        for path in [path for path, until in self._waiting.items() if now >= until]:
            if (name := self._files[path].name) is not None:
                self._unexplained.add(_source(path, name))
                self._tell(self._files[path])
            else:
                del self._waiting[path]
                reason = f"its tilt angle is not known: no mdoc names it, and its name fits none of {tried()}"
                self._book.refuse(path, reason)

    def _series_of(self, mdoc_path: str) -> str:
        """The name under which images of this mdoc were told of already, else the mdoc's own."""
        return self._book.name(stem_of(mdoc_path), os.path.basename(stem_of(mdoc_path)))

    def _describe(self, series: str, mdoc_path: str, mdoc: Mdoc) -> None:
        """Tell of the series; Tomo5 writes its mdoc when the series is over, so its sections are all there will be."""
        planned = len(mdoc.sections) if mdoc.writer == "Tomo5" and mdoc.unfinished is None else None
        self._book.describe(
            series, mdoc_path, planned=planned, pixel_size_A=mdoc.pixel_size_A, axis_deg=mdoc.tilt_axis_deg
        )

    def _tell(self, single: _Single) -> None:
        if self._twin(single.seen.path):
            self._waiting.pop(single.seen.path, None)
            return
        described = self._sections.get(file_key(single.seen.path))
        if described is not None and (described[2].angle_deg is not None or single.name is not None):
            self._tell_by_mdoc(single, *described)
        elif single.name is not None:
            self._tell_by_name(single, single.name)

    def _twin(self, path: str) -> str | None:
        """Another file of the same exposure, its movie or its sum, that was told of: the first one counts.

        They lie in one folder; an EER movie may lie in another one than its sum.
        """
        if path in self._book.paths:
            return None
        return next((other for other in self._by_key[file_key(path)] if self._is_told_as(path, other)), None)

    def _is_told_as(self, path: str, other: str) -> bool:
        near = os.path.dirname(path) == os.path.dirname(other) or is_eer(path) != is_eer(other)
        return near and other != path and other in self._book.paths

    def _tell_by_mdoc(self, single: _Single, mdoc_path: str, mdoc: Mdoc, section: MdocSection) -> None:
        info, path = single.info, single.seen.path
        angle = section.angle_deg
        if angle is None and single.name is not None:
            angle = single.name.angle_deg
        assert angle is not None
        series = self._book.paths.get(path) or self._series_of(mdoc_path)
        if single.name is not None and folder_name(single.name.series) == series:  # the same series by name, too
            self._book.adopt(_source(path, single.name), series)
        self._describe(series, mdoc_path, mdoc)
        self._waiting.pop(path, None)
        self._book.image(
            RawImage(
                series=series,
                path=path,
                frames=info.sections * info.frames,
                nx=info.nx,
                ny=info.ny,
                angle_deg=angle,
                acquired_s=section.acquired_s or (single.name.acquired_s if single.name else None),
                written_s=single.seen.mtime,
                pixel_size_A=section.pixel_size_A or mdoc.pixel_size_A or info.pixel_size_A,
                tilt_axis_deg=info.tilt_axis_deg if mdoc.tilt_axis_deg is None else mdoc.tilt_axis_deg,
                dose_e_A2=section.dose_e_A2,
                prior_dose_e_A2=section.prior_dose_e_A2,
                mdoc_section=section.z,
            ),
            order=single.name.order if single.name else None,
        )

    def _tell_by_name(self, single: _Single, name: ParsedName) -> None:
        info, path = single.info, single.seen.path
        series = self._book.paths.get(path) or self._book.name(_source(path, name), name.series)
        self._waiting.pop(path, None)
        self._book.image(
            RawImage(
                series=series,
                path=path,
                frames=info.sections * info.frames,
                nx=info.nx,
                ny=info.ny,
                angle_deg=name.angle_deg,
                acquired_s=name.acquired_s,
                written_s=single.seen.mtime,
                pixel_size_A=info.pixel_size_A,
                tilt_axis_deg=info.tilt_axis_deg,
            ),
            order=name.order,
        )


def _source(path: str, name: ParsedName) -> str:
    """Where a series comes from that is known by its files' names only."""
    return os.path.join(os.path.dirname(path), name.series)
