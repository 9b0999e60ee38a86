"""Which section of which mdoc describes a file: base names tell, and where two have the same name, their folders.

Microscopes name frames alike on each grid, and an mdoc names them without the folder that they lie in: of several mdocs
that name a file the nearest one means it, and of several files that it names, the nearest ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from streamtomo.watch.images import is_eer
from streamtomo.watch.mdoc import Mdoc, MdocSection
from streamtomo.watch.naming import file_key


class Named(NamedTuple):
    """A section that names a file."""

    mdoc_path: str
    mdoc: Mdoc
    section: MdocSection
    in_stack: bool
    """Whether the exposure is taken from the mdoc's stack, not from the file."""


class Sections:
    """What mdocs tell of files, by the names of exposures."""

    def __init__(self, exists: Callable[[str], bool]) -> None:
        self._exists = exists
        self._named: dict[str, dict[str, Named]] = {}
        """By the name of the exposure, then by the path of the mdoc."""
        self._files: dict[str, list[str]] = {}

    def add(self, path: str) -> None:
        """A file is there."""
        files = self._files.setdefault(file_key(path), [])
        if path not in files:
            files.append(path)

    def files(self, key: str) -> list[str]:
        """Files of an exposure."""
        return self._files.get(key, [])

    def put(self, mdoc_path: str, mdoc: Mdoc, *, in_stack: bool = False) -> None:
        """What an mdoc tells now."""
        for key, section in keys_of(mdoc).items():
            named = self._named.setdefault(key, {})
            named.pop(mdoc_path, None)  # the last one to tell comes last
            named[mdoc_path] = Named(mdoc_path, mdoc, section, in_stack)

    def repeated(self, mdoc: Mdoc) -> Iterator[str]:
        """Paths of the mdocs that tell the same of an exposure: copies of this one."""
        for key, section in keys_of(mdoc).items():
            for path, other in self._named.get(key, {}).items():
                if (other.section.acquired_s, other.section.angle_deg) == (section.acquired_s, section.angle_deg):
                    yield path

    def of(self, path: str) -> Named | None:
        """The section that describes a file."""
        key = file_key(path)
        if not (options := self._named.get(key)):
            return None
        best = max(reversed(options.values()), key=lambda one: _nearness(one.mdoc_path, path))
        common, _ = _nearness(best.mdoc_path, path)
        nearer = (
            other
            for other in self.files(key)
            if is_eer(other) == is_eer(path) and _nearness(best.mdoc_path, other)[0] > common and self._exists(other)
        )
        return best if next(nearer, None) is None else None

    def rivals(self, path: str) -> bool:
        """Whether an mdoc names such a file, and means another one."""
        return file_key(path) in self._named and self.of(path) is None

    def meant(self, mdoc_path: str, mdoc: Mdoc) -> list[str]:
        """Files that an mdoc, which may not have told of them yet, describes better than any other one."""
        paths = (path for key in keys_of(mdoc) for path in self.files(key))
        return [path for path in paths if (named := self.of(path)) is None or self._yields(named, mdoc_path, path)]

    def _yields(self, named: Named, mdoc_path: str, path: str) -> bool:
        return _nearness(named.mdoc_path, path) <= _nearness(mdoc_path, path)

    def owned(self, mdoc_path: str, mdoc: Mdoc) -> list[str]:
        """Files that an mdoc describes."""
        paths = (path for key in keys_of(mdoc) for path in self.files(key))
        return [path for path in paths if (named := self.of(path)) and named.mdoc_path == mdoc_path]


def keys_of(mdoc: Mdoc) -> dict[str, MdocSection]:
    """Sections that name a file, by the name of the exposure."""
    return {file_key(section.file_name): section for section in mdoc.sections if section.file_name}


def _nearness(mdoc_path: str, path: str) -> tuple[int, int]:
    """Folders in common, then those that are not, negative: more is nearer."""
    one, other = (set(filter(None, os.path.dirname(place).split(os.sep))) for place in (mdoc_path, path))
    return len(one & other), -len(one ^ other)
