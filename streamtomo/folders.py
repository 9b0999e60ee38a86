"""The watched folders of a run: each with the settings of its series and a thread that watches it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from streamtomo import config_file
from streamtomo.alarms import FolderFacts
from streamtomo.config import Settings
from streamtomo.errors import SettingsError
from streamtomo.messages import FileRefused, FolderAdded, FolderTested, Sighting
from streamtomo.model import RawImage
from streamtomo.outfolder import readable
from streamtomo.watch.claims import Claims
from streamtomo.watch.folder import watch
from streamtomo.watch.pulse import Pulse

Found = Sighting | FolderTested | None
Put = Callable[["Folder", Found], None]
"""Takes what a folder's watcher found; None: it has looked through everything."""
Guard = Callable[[Callable[[], None]], None]
"""Runs a thread's work, and makes its failure known."""


class Folder:
    """One watched folder."""

    def __init__(self, path: Path, settings: Settings, *, within: Folder | None = None) -> None:
        """A folder `within` another one is watched by that one's thread, and has only its own settings."""
        self.path, self.settings, self.within = path, settings, within
        self.pulse = Pulse()
        self._listed = False

    @property
    def listed(self) -> bool:
        """Whether it was looked through once."""
        return self.within.listed if self.within else self._listed

    def look(self, claims: Claims, known: Iterable[RawImage], stop: threading.Event) -> Iterator[Found]:
        """What is found in it, until `stop` is set: first of all what it is like."""
        told = False
        for sighting in watch(self.path, self.settings, stop, known=known, pulse=self.pulse, claims=claims):
            if not told and self.pulse.findings is not None:
                told = True
                yield FolderTested(path=str(self.path), findings=self.pulse.findings)
            self._listed |= sighting is None
            yield sighting

    def facts(self, *, collecting: bool) -> FolderFacts:
        """What the alarms need to know."""
        return FolderFacts(
            path=str(self.path),
            collecting=collecting,
            gone=readable("; ".join(self.pulse.gone.values())) or None,
            stuck=readable(self.pulse.stuck() or "") or None,
            clock_s=self.pulse.clock_s,
        )


class Folders:
    """All watched folders; only the dispatcher's thread adds to them."""

    def __init__(self, put: Put, stop: threading.Event, guard: Guard) -> None:
        self._put, self._stop, self._guard = put, stop, guard
        self._folders: dict[Path, Folder] = {}
        self.threads: list[threading.Thread] = []
        """They end once `stop` is set."""
        self._known: Sequence[RawImage] | None = None
        self._claims = Claims()

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
            _instruct(known)
            return known
        inner = next((other for other in self._folders if other.is_relative_to(path)), None)
        if inner is not None:
            raise SettingsError(f"{path}: holds {inner}, which is watched already; watch its other folders one by one")
        folder = self._folders[path] = Folder(path, settings, within=self._holding(path))
        if folder.within is not None:
            _instruct(folder)
        if self._known is not None:
            self._watch(folder)
        return folder

    def apply(self, event: FolderAdded, settings: Settings) -> Folder:
        """Do what the event says, in a run with these settings; raises SettingsError."""
        return self.add(Path(event.path), config_file.changed(settings, event.overrides))

    def take_up(self, event: FolderAdded, settings: Settings, out: Path) -> Folder:
        """The same for the journal's event; raises SettingsError with what to do where it is another version's."""
        try:
            return self.apply(event, settings)
        except SettingsError as error:
            text = f"{out}: its journal has settings for {event.path} that this version does not know ({error})"
            raise SettingsError(f"{text}; go on with the version that wrote it, or choose another --out") from None

    def of(self, path: str) -> Folder:
        """The folder whose settings hold for a file: the deepest that holds it, else the first."""
        return self._holding(Path(path)) or next(iter(self._folders.values()))

    def look_again(self, path: str) -> None:
        """Have a file looked at again that cannot be used."""
        _watcher(self.of(path)).pulse.look_again(path)

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
        for found in folder.look(self._claims, self._known or (), self._stop):
            self._put(folder, None if found is None else in_utf8(found))


def _watcher(folder: Folder) -> Folder:
    """The folder whose thread watches this one."""
    return _watcher(folder.within) if folder.within is not None else folder


def _instruct(folder: Folder) -> None:
    """Tell the thread that watches a folder how its files are named."""
    _watcher(folder).pulse.understand(str(folder.path), folder.settings.acquisition.name_patterns)


def in_utf8(sighting: Sighting | FolderTested) -> Sighting | FolderTested:
    """A sighting that can be written down: bytes in names that are no UTF-8 are shown as `\\xe9`, images refused."""
    if isinstance(sighting, FolderTested):
        findings = [msgspec.structs.replace(one, text=readable(one.text)) for one in sighting.findings]
        return FolderTested(path=readable(sighting.path), findings=tuple(findings))
    fields = msgspec.structs.asdict(sighting)
    odd = {name: readable(text) for name, text in fields.items() if isinstance(text, str) and readable(text) != text}
    if odd and isinstance(sighting, RawImage):
        return FileRefused(path=readable(sighting.path), reason="its name, or its folder's, is not UTF-8; rename it")
    return msgspec.structs.replace(sighting, **odd) if odd else sighting
