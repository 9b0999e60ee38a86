"""Tilt series with one file for each exposure, described by their names, by an mdoc, or by one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from streamtomo.watch.book import Book
from streamtomo.watch.continued import begun_as, continues
from streamtomo.watch.images import ImageInfo, is_eer
from streamtomo.watch.mdoc import Mdoc, MdocSection
from streamtomo.watch.naming import Names, ParsedName, file_key, folder_name, stem_of
from streamtomo.watch.reconcile import Taken, differences
from streamtomo.watch.sections import Sections, keys_of
from streamtomo.watch.settle import Seen
from streamtomo.watch.sources import Sources, build

HOLD_S = 10.0
"""Where mdocs grow beside the images, a new image waits so long for its section before its name is believed."""
ROOT_HOLD_S = 120.0
"""The same for one whose name begins like others that an mdoc names under another name: it tells no series."""
RECONCILE_S = 60.0
"""An mdoc at rest for so long is compared with the files."""
ORPHAN_S = 600.0
"""An image whose tilt angle nobody tells is refused after so long."""


class _Single(Struct, frozen=True):
    """A readable file with one exposure."""

    seen: Seen
    info: ImageInfo
    name: ParsedName | None
    since: float

    @property
    def header(self) -> ImageInfo:
        """What its header says; all sections of an MRC file are frames here."""
        return replace(self.info, sections=1, frames=self.info.sections * self.info.frames)


class Singles:
    """Gives each file with one exposure its series and its angle."""

    def __init__(self, book: Book, names: Names, exists: Callable[[str], bool]) -> None:
        self._book, self._names, self._exists = book, names, exists
        self._files: dict[str, _Single] = {}
        """All readable files by path."""
        self._waiting: dict[str, float] = {}
        """Paths that nobody was told of yet, and since when they wait."""
        self._sections = Sections(exists)
        self._skipped: set[str] = set()
        """Files that are left out because their stack is there."""
        self._mdocs: dict[str, tuple[str, Mdoc]] = {}
        """All mdocs with their paths, by stem."""
        self._unreconciled: dict[str, float | None] = {}
        """Mdocs that have not been compared with the files, by stem, and since when they are at rest."""
        self._goes_on: dict[str, str] = {}
        """By stem of an mdoc: the path of the one whose series it takes up."""
        self._owners: dict[str, set[str]] = {}
        """By series: stems of the mdocs that its images belong to."""
        self._owned: dict[str, str] = {}
        """By stem of an mdoc: its series."""
        self._foreign: set[str] = set()
        """Series by name whose images belong to an mdoc of another name."""
        self._unexplained: set[str] = set()
        """Series that waited in vain for an mdoc."""
        for path in book.paths:
            self._sections.add(path)
        self._remember(book.paths)

    def _remember(self, known: Mapping[str, str]) -> None:
        """Files of an earlier run and their series tell which series new files beside them belong to."""
        self._names.learn(known)
        found: dict[str, set[str]] = {}
        for path, series in known.items():
            name = self._names.read(path)
            found.setdefault(_source(path, name) if name else path, set()).add(series)
        for source, names in found.items():
            if len(names) == 1:
                self._book.adopt(source, names.pop())
            else:
                self._foreign.add(source)

    def see(self, paths: Iterable[str]) -> None:
        """These files are there, readable or not: of several with one name the nearest to an mdoc is meant."""
        for path in paths:
            self._sections.add(path)

    def leave_out(self, mdoc_path: str, mdoc: Mdoc) -> None:
        """The mdoc's images are taken from its stack: the single files behind them are not told of."""
        self._sections.put(mdoc_path, mdoc, in_stack=True)
        self._unreconciled.pop(stem_of(mdoc_path), None)
        for path in [path for path in self._waiting if self.left_out(path)]:
            del self._waiting[path]

    def left_out(self, path: str) -> bool:
        """Whether the file holds the frames of an image that is told of as a stack's."""
        named = self._sections.of(path)
        if named is None or not named.in_stack:
            return False
        self._sections.add(path)
        self._skipped.add(path)
        return True

    def no_more_left_out(self, mdoc: Mdoc) -> set[str]:
        """Files that were left out until this mdoc of their own came."""
        named = {path for key in keys_of(mdoc) for path in self._sections.files(key)}
        freed = {path for path in named & self._skipped if not self.left_out(path)}
        self._skipped -= freed
        return freed

    def described(self, path: str) -> bool:
        """Whether an mdoc knows this file."""
        named = self._sections.of(path)
        return named is not None and not named.in_stack

    def told(self, mdoc_path: str, mdoc: Mdoc) -> bool:
        """Whether any exposure of the mdoc was told of as a single file."""
        return any(path in self._book.paths for path in self._sections.meant(mdoc_path, mdoc))

    def describe(self, mdoc_path: str, mdoc: Mdoc) -> None:
        """An mdoc describes these files; what was told of them is told again where it knows better."""
        self._note(mdoc_path, mdoc)
        self._sections.put(mdoc_path, mdoc)
        paths = self._sections.owned(mdoc_path, mdoc)
        series = (self._book.paths[path] for path in paths if path in self._book.paths)
        if told := next((one for one in series if self._claims(mdoc_path, mdoc, one)), None):
            self._book.adopt(stem_of(mdoc_path), told)
        if paths:
            self._describe(self._series_of(mdoc_path), mdoc_path, mdoc)
        for path in paths:
            if single := self._files.get(path):
                self._tell(single)

    def _note(self, mdoc_path: str, mdoc: Mdoc) -> None:
        """See whether a new mdoc takes up the series of another one."""
        stem = stem_of(mdoc_path)
        if stem not in self._mdocs and (first := self._mdocs.get(begun_as(stem) or "")) and continues(first[1], mdoc):
            self._goes_on[stem] = first[0]
            series = self._series_of(mdoc_path)
            self._book.warn("series.continued", f"{series}: goes on in {mdoc_path}", about=stem, series=series)
        if mdoc.sections:
            self._mdocs[stem] = mdoc_path, mdoc
            self._unreconciled[stem] = None

    def _claims(self, mdoc_path: str, mdoc: Mdoc, series: str) -> bool:
        """Whether a series' images belong to this mdoc: to no other one, or to a copy.

        The mdocs of series that are taken in turns may name files of one root, which then tells no series.
        """
        stem, owners = stem_of(mdoc_path), self._owners.setdefault(series, set())
        if stem in self._goes_on:
            return series == self._series_of(mdoc_path)
        if self._owned.setdefault(stem, series) != series:
            return False
        akin = not owners or stem in owners or any(stem_of(other) in owners for other in self._sections.repeated(mdoc))
        if akin:
            owners.add(stem)
        else:
            del self._owned[stem]
        return akin

    def add(self, seen: Seen, info: ImageInfo, now: float, *, patient: bool) -> None:
        """A readable file with one exposure; a `patient` one waits a little for its mdoc before its name is believed.

        An MRC file with more sections is a movie here.
        """
        if (before := self._files.get(seen.path)) and before.seen.size != seen.size and seen.path in self._book.paths:
            text = f"{seen.path}: changed after it was taken in; finish the series again to make use of it"
            self._book.warn("image.changed", text, about=seen.path, series=self._book.paths[seen.path])
        name = self._names.read(seen.path)
        single = self._files[seen.path] = _Single(seen, info, name, now)
        self._sections.add(seen.path)
        known = self.described(seen.path) or seen.path in self._book.paths
        if name is not None and (name.tomo5 or _source(seen.path, name) in self._unexplained):
            patient = False
        if known or (name is not None and not patient):
            self._tell(single)
        else:
            self._waiting.setdefault(seen.path, now)

    def _hold_s(self, path: str) -> float:
        if (name := self._files[path].name) is None:
            return ORPHAN_S
        return ROOT_HOLD_S if _source(path, name) in self._foreign or self._sections.rivals(path) else HOLD_S

    def tick(self, now: float) -> None:
        """Believe the names of those that waited long enough, refuse those without, and say where an mdoc differs."""
        for stem, since in list(self._unreconciled.items()):
            if since is None:
                self._unreconciled[stem] = now
            elif now >= since + RECONCILE_S:
                del self._unreconciled[stem]
                self._reconcile(stem)
        for path in [path for path, since in self._waiting.items() if now >= since + self._hold_s(path)]:
            if not self._exists(path):  # it was renamed or deleted before anybody was told
                del self._waiting[path]
            elif (name := self._files[path].name) is not None:
                self._unexplained.add(_source(path, name))
                self._tell(self._files[path])
            else:
                del self._waiting[path]
                tried = self._names.tried(path)
                reason = f"its tilt angle is not known: no mdoc names it, and its name fits none of {tried}"
                self._book.refuse(path, reason)

    def _reconcile(self, stem: str) -> None:
        """Say where an mdoc that has come to rest differs from the files."""
        mdoc_path, mdoc = self._mdocs[stem]
        series = self._series_of(mdoc_path)
        keys = keys_of(mdoc)
        singles = {
            key: single for key in keys for path in self._sections.files(key) if (single := self._files.get(path))
        }
        gone = {
            key: Taken(file=key) for key in keys if any(path in self._book.paths for path in self._sections.files(key))
        }
        late = mdoc.writer == "Tomo5"  # then the names were believed first, and all files have come
        strangers = [
            os.path.basename(path)
            for path, known in self._book.paths.items()
            if late and known == series and not self.described(path)
        ]
        found = differences(mdoc, gone | {key: _taken(one, late) for key, one in singles.items()}, strangers)
        if found:
            text = f"{series}: {mdoc_path} differs in {', '.join(found)}; it is believed where it tells something"
            self._book.warn("mdoc.disagrees" if late else "frames.missing", text, about=text, series=series)

    def _series_of(self, mdoc_path: str) -> str:
        """The name under which images of this mdoc were told of already, else the mdoc's own."""
        stem = stem_of(mdoc_path)
        if first := self._goes_on.get(stem):
            return self._series_of(first)
        return self._owned.setdefault(stem, self._book.name(stem, os.path.basename(stem)))

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
        named = self._sections.of(single.seen.path)
        if named is not None and (named.section.angle_deg is not None or single.name is not None):
            self._tell_by_mdoc(single, named.mdoc_path, named.mdoc, named.section)
        elif single.name is not None and not self._knows_more(single.seen.path):
            self._tell_by_name(single, single.name)

    def _knows_more(self, path: str) -> bool:
        """Whether an mdoc, which may not be readable now, told of the file before."""
        told = self._book.exposures.at(path, 0)
        if known := told is not None and told.mdoc_section is not None:
            self._waiting.pop(path, None)
        return known

    def _twin(self, path: str) -> str | None:
        """Another file of the same exposure, its movie or its sum, that was told of: the first one counts.

        They lie in one folder; an EER movie may lie in another one than its sum.
        """
        if path in self._book.paths:
            return None
        return next((other for other in self._sections.files(file_key(path)) if self._is_told_as(path, other)), None)

    def _is_told_as(self, path: str, other: str) -> bool:
        near = os.path.dirname(path) == os.path.dirname(other) or is_eer(path) != is_eer(other)
        return near and other != path and other in self._book.paths

    def _tell_by_mdoc(self, single: _Single, mdoc_path: str, mdoc: Mdoc, section: MdocSection) -> None:
        path = single.seen.path
        series = self._book.paths.get(path)
        if series is None or not self._claims(mdoc_path, mdoc, series):
            series = self._take_over(path, mdoc_path)
        if single.name is not None:
            if folder_name(single.name.series) == series:  # the same series by name, too
                self._book.adopt(_source(path, single.name), series)
            else:
                self._foreign.add(_source(path, single.name))
        self._describe(series, mdoc_path, mdoc)
        known = self._tell_from(
            series,
            single,
            Sources(
                mdoc=mdoc,
                section=section,
                header=single.header,
                name=single.name,
                reconciled=mdoc.writer == "Tomo5",
            ),
        )
        if known != series:  # moved or copied, as its image
            self._owned[stem_of(mdoc_path)] = known
            self._owners.setdefault(known, set()).add(stem_of(mdoc_path))
            self._book.adopt(stem_of(mdoc_path), known)

    def _take_over(self, path: str, mdoc_path: str) -> str:
        """The mdoc's own series; what was told of the file as an image of another one is withdrawn."""
        series = self._series_of(mdoc_path)
        told = self._book.exposures.at(path, 0)
        if told is not None and told.series != series:
            self._book.withdraw([replace(told, exposure=told.key, gone=f"belongs to {series}, as {mdoc_path} tells")])
        return series

    def _tell_by_name(self, single: _Single, name: ParsedName) -> None:
        path = single.seen.path
        series = self._book.paths.get(path) or self._book.name(_source(path, name), name.series)
        self._tell_from(series, single, Sources(header=single.header, name=name))

    def _tell_from(self, series: str, single: _Single, sources: Sources) -> str:
        """Tell of the image; returns the series that it belongs to."""
        path, order = single.seen.path, single.name.order if single.name else None
        self._waiting.pop(path, None)
        image = build(series, path, 0, sources, single.seen.mtime, self._book.choose)
        known = self._book.image(image, order, sources.section.mark if sources.section else None)
        if known != series and single.name is not None:  # moved or copied, and those that follow it, too
            self._book.adopt(_source(path, single.name), known)
        return known


def _taken(single: _Single, with_name: bool) -> Taken:
    name = single.name if with_name else None
    pixel_size_A = single.info.pixel_size_A if with_name else None
    return Taken(
        file=os.path.basename(single.seen.path), angle_deg=name.angle_deg if name else None, pixel_size_A=pixel_size_A
    )


def _source(path: str, name: ParsedName) -> str:
    """Where a series comes from that is known by its files' names only."""
    return os.path.join(os.path.dirname(path), name.series)
