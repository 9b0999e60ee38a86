"""Which name a file had before: its number on the disk tells it, where its time was changed as well."""

from __future__ import annotations

from msgspec import Struct

from streamtomo.watch.settle import Seen

KEEP_S = 2.0
"""One listing may meet the new name a moment after the old one."""


class _Place(Struct):
    path: str
    size: int
    gone_at: float | None = None


class Renames:
    """Earlier names of files, found by their numbers on the disk.

    A number is free again when its file is deleted: a name that vanished over `KEEP_S` ago is nobody's earlier name.
    """

    def __init__(self) -> None:
        self._places: dict[int, _Place] = {}
        self._numbers: dict[str, int] = {}
        self._earlier: dict[str, str] = {}

    def earlier(self, path: str) -> str | None:
        """The name that the file had before."""
        return self._earlier.get(path)

    def learn(self, path: str, earlier: str) -> None:
        """Something else tells the earlier name."""
        self._earlier[path] = earlier

    def saw(self, seen: Seen, now: float) -> None:
        """A file is new, or is not as it was."""
        if not seen.inode:
            return
        before = self._places.get(seen.inode)
        self._places[seen.inode] = _Place(seen.path, seen.size)
        self._numbers[seen.path] = seen.inode
        if before is None or before.path == seen.path or before.size != seen.size:
            return
        if before.gone_at is None or now - before.gone_at <= KEEP_S:
            self._earlier[seen.path] = before.path

    def gone(self, path: str, now: float) -> None:
        """No file has this name any more."""
        place = self._places.get(self._numbers.pop(path, 0))
        if place is not None and place.path == path:
            place.gone_at = now
        self._earlier.pop(path, None)
