"""The watched folders of a run: each with the settings of its series and a thread that watches it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from streamtomo.alarms import FolderFacts
from streamtomo.config import Settings
from streamtomo.errors import SettingsError
from streamtomo.messages import FileRefused, Sighting, Warned
from streamtomo.model import RawImage
from streamtomo.outfolder import readable
from streamtomo.watch.folder import watch

Put = Callable[["Folder", Sighting | None], None]
"""Takes what a folder's watcher found; None: it has looked through everything."""
Guard = Callable[[Callable[[], None]], None]
"""Runs a thread's work, and makes its failure known."""


class Folder:
    """One watched folder."""

    def __init__(self, path: Path, settings: Settings, *, within: Folder | None = None) -> None:
        """A folder `within` another one is watched by that one's thread, and has only its own settings."""
        self.path, self.settings, self.within = path, settings, within
        self.listed_s: float | None = None
        self.gone: str | None = None

    @property
    def listed(self) -> bool:
        """Whether it was looked through once."""
        return self.within.listed if self.within else self.listed_s is not None

    def saw(self, sighting: Sighting | None, now: float) -> None:
        """The watcher found something, or nothing more."""
        if isinstance(sighting, Warned) and sighting.code == "folder.gone":
            self.gone = sighting.text
        elif sighting is not None or self.gone is None:
            self.gone = None
        if sighting is None:
            self.listed_s = now

    def facts(self, *, collecting: bool) -> FolderFacts:
        """What the alarms need to know."""
        return FolderFacts(path=str(self.path), collecting=collecting, listed_s=self.listed_s, gone=self.gone)


class Folders:
    """All watched folders; only the dispatcher's thread adds to them."""

    def __init__(self, put: Put, stop: threading.Event, guard: Guard) -> None:
        self._put, self._stop, self._guard = put, stop, guard
        self._folders: dict[Path, Folder] = {}
        self.threads: list[threading.Thread] = []
        """They end once `stop` is set."""
        self._known: Sequence[RawImage] | None = None

    def __iter__(self) -> Iterator[Folder]:
        """All folders, in the order they were added."""
        return iter(self._folders.values())

    @property
    def listed(self) -> bool:
        """Whether each was looked through once."""
        return all(folder.listed for folder in self._folders.values())

    def add(self, path: Path, settings: Settings) -> Folder:
        """Watch a folder, or give one that is watched other settings.

        Raises SettingsError for one that holds a watched one.
        """
        if (known := self._folders.get(path)) is not None:
            known.settings = settings
            return known
        inner = next((other for other in self._folders if other.is_relative_to(path)), None)
        if inner is not None:
            raise SettingsError(f"{path}: holds {inner}, which is watched already; watch its other folders one by one")
        folder = self._folders[path] = Folder(path, settings, within=self._holding(path))
        if self._known is not None:
            self._watch(folder)
        return folder

    def of(self, path: str) -> Folder:
        """The folder whose settings hold for a file: the deepest that holds it, else the first."""
        return self._holding(Path(path)) or next(iter(self._folders.values()))

    def start(self, known: Sequence[RawImage]) -> None:
        """Begin to watch; `known` are the images of an earlier run."""
        self._known = known
        for folder in self._folders.values():
            self._watch(folder)

    def _holding(self, path: Path) -> Folder | None:
        holders = [folder for known, folder in self._folders.items() if path.is_relative_to(known)]
        return max(holders, key=lambda folder: len(folder.path.parts), default=None)

    def _watch(self, folder: Folder) -> None:
        if folder.within is not None:
            return
        name = f"watch {folder.path.name}"
        thread = threading.Thread(target=self._guard, args=(lambda: self._follow(folder),), name=name, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _follow(self, folder: Folder) -> None:
        for sighting in watch(folder.path, folder.settings, self._stop, known=self._known or ()):
            folder.saw(sighting, time.time())
            self._put(folder, None if sighting is None else in_utf8(sighting))


def in_utf8(sighting: Sighting) -> Sighting:
    """A sighting that can be written down: bytes in names that are no UTF-8 are shown as `\\xe9`, images refused."""
    fields = msgspec.structs.asdict(sighting)
    odd = {name: readable(text) for name, text in fields.items() if isinstance(text, str) and readable(text) != text}
    if odd and isinstance(sighting, RawImage):
        return FileRefused(path=readable(sighting.path), reason="its name, or its folder's, is not UTF-8; rename it")
    return msgspec.structs.replace(sighting, **odd) if odd else sighting
