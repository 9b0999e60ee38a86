"""Watches a folder: here the watcher's machines meet the disk, the clock and the operating system's events.

Events only wake us up; a listing every `relist_s` is the truth, because network drives send no events. Nothing in the
folder is written, locked or renamed, and nothing is opened before it is settled.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from streamtomo.config import Settings
from streamtomo.messages import Sighting, Warned
from streamtomo.model import RawImage
from streamtomo.watch.catalogue import Catalogue, is_wanted
from streamtomo.watch.mdoc import is_mdoc
from streamtomo.watch.settle import Due, Seen, Settle

CALM_S = 0.02
"""Events come in bursts: this long they are gathered."""
STOP_CHECK_S = 0.25


def watch(
    folder: str | Path,
    settings: Settings,
    stop: threading.Event,
    clock: Callable[[], float] = time.time,
    *,
    known: Iterable[RawImage] = (),
    skip: Collection[str | Path] = (),
) -> Iterator[Sighting | None]:
    """Yield what is found in `folder` and its sub-folders until `stop` is set.

    None is yielded after every pass with nothing more to do, at least every `watch.relist_s`: the first one says that
    all that was there at the start has been worked through; later ones are good for the caller's own clockwork. `known`
    are images of an earlier run: they keep their series and are not yielded again unless something about them changed.
    `skip` are folders to stay out of, such as our own output.
    """
    watcher = FolderWatch(folder, settings, known=known, skip=skip)
    try:
        while not stop.is_set():
            yield from watcher.step(clock())
            if watcher.caught_up:
                yield None
            watcher.wait(stop, clock)
    finally:
        watcher.close()


def list_files(
    folder: str, skip: Collection[str] = (), denied: Callable[[str, OSError], None] | None = None
) -> Iterator[Seen]:
    """Files of use in a folder and its sub-folders, hidden ones left out. Raises `OSError` for `folder` itself only."""
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                if entry.path not in skip:
                    yield from list_files(entry.path, skip, denied)
            elif is_wanted(entry.name):
                status = entry.stat()
                yield Seen(entry.path, status.st_size, status.st_mtime)
        except FileNotFoundError:  # gone since the listing
            continue
        except OSError as error:
            if denied is not None:
                denied(entry.path, error)


class FolderWatch:
    """One watched folder: `step` does what is due now, `wait` sleeps until something may be."""

    def __init__(
        self,
        folder: str | Path,
        settings: Settings,
        *,
        known: Iterable[RawImage] = (),
        skip: Collection[str | Path] = (),
        use_events: bool = True,
    ) -> None:
        self._folder = os.path.abspath(folder)
        self._skip = frozenset(os.path.abspath(path) for path in skip)
        self._relist_s = settings.watch.relist_s
        self._settle = Settle(settings.watch.settle_s)
        self._catalogue = Catalogue(settings.acquisition, known=known)
        self._events = _Events(self._folder) if use_events else None
        self._next_listing = 0.0
        self._first: set[str] | None = None
        self._gone = False
        self._complaints: list[Sighting] = []
        self._complained: set[str] = set()

    @property
    def caught_up(self) -> bool:
        """Whether everything that was there at the first listing has been looked at (or is still being written)."""
        if self._first is None:
            return self._gone
        if self._first:
            self._first = {path for path in self._first if self._settle.undecided(path)}
        return not self._first

    def step(self, now: float) -> list[Sighting]:
        """List or look at what changed, and deal with every file that is due."""
        self._complaints = []
        touched, structure = self._events.take() if self._events else (set(), False)
        if structure or now >= self._next_listing:
            self._list(now)
        else:
            for path in touched:
                self._observe(path, now)
        if self._gone:
            return self._complaints
        dues = [due for due in self._settle.due(now, is_mdoc) if self._is_unchanged(due, now)]
        found = self._catalogue.look(dues, now)
        for due in dues:
            self._answer(due, now)
        for path in found.unready:
            self._settle.retry(path, now)
        return [*self._complaints, *found.sightings, *self._catalogue.tick(now)]

    def wait(self, stop: threading.Event, clock: Callable[[], float]) -> None:
        """Sleep until an event comes, something is due, or `stop` is set."""
        due = self._settle.next_due()
        until = self._next_listing if due is None else min(due, self._next_listing)
        while not stop.is_set() and (left := until - clock()) > 0:
            if self._events is None:
                stop.wait(left)
            elif self._events.wait(min(left, STOP_CHECK_S)):
                stop.wait(CALM_S)
                return

    def close(self) -> None:
        """Stop listening to events."""
        if self._events:
            self._events.close()

    def _list(self, now: float) -> None:
        self._next_listing = now + self._relist_s
        try:
            files = list(list_files(self._folder, self._skip, self._denied))
        except OSError as error:
            self._lost(error)
            return
        self._gone = False
        self._listen()
        present = set()
        for seen in files:
            present.add(seen.path)
            self._settle.observe(seen, now)
        for path in [path for path in self._settle.paths() if path not in present]:
            self._settle.forget(path)
        if self._first is None:
            self._first = present

    def _lost(self, error: OSError) -> None:
        """The folder itself cannot be listed; said once, until it is back."""
        if not self._gone:
            text = f"{self._folder}: cannot be listed ({error.strerror}); going on when it is back"
            self._complaints.append(Warned(code="folder.gone", text=text))
        self._gone = True
        if self._events:
            self._events.close()

    def _listen(self) -> None:
        if self._events and not self._events.listening and (trouble := self._events.listen()):
            text = f"{self._folder}: the system sends no events ({trouble}); listing every {self._relist_s:g} s instead"
            self._complain("folder.polling", self._folder, text)

    def _denied(self, path: str, error: OSError) -> None:
        self._complain("folder.denied", path, f"{path}: cannot be read ({error.strerror}); going on without it")

    def _complain(self, code: str, path: str, text: str) -> None:
        if path not in self._complained:
            self._complained.add(path)
            self._complaints.append(Warned(code=code, text=text))

    def _observe(self, path: str, now: float) -> None:
        try:
            status = os.stat(path)
        except OSError:
            self._settle.forget(path)
        else:
            self._settle.observe(Seen(path, status.st_size, status.st_mtime), now)

    def _is_unchanged(self, due: Due, now: float) -> bool:
        """Whether a due file is as it was when it was listed; without events this is what notices that it grows."""
        try:
            status = os.stat(due.seen.path)
        except OSError:
            self._settle.forget(due.seen.path)
            return False
        if (status.st_size, status.st_mtime) == (due.seen.size, due.seen.mtime) or due.why == "peek":
            return True
        self._settle.observe(Seen(due.seen.path, status.st_size, status.st_mtime), now)
        return False

    def _answer(self, due: Due, now: float) -> None:
        if due.why == "peek":
            self._settle.peeked(due.seen.path, now)
        else:
            self._settle.done(due.seen.path)


class _Events(FileSystemEventHandler):
    """Which paths the operating system says have changed."""

    KINDS = frozenset({"created", "modified", "moved", "closed", "deleted"})  # not "opened": we open files ourselves

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._observer: BaseObserver | None = None
        self._lock = threading.Lock()
        self._something = threading.Event()
        self._paths: set[str] = set()
        self._structure = False

    @property
    def listening(self) -> bool:
        return self._observer is not None

    def listen(self) -> str | None:
        """Start listening; the reason, where the system cannot."""
        observer = Observer()
        try:
            observer.schedule(self, self._folder, recursive=True)
            observer.start()
        except OSError as error:
            return error.strerror or str(error)
        self._observer = observer
        return None

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in self.KINDS or (event.is_directory and event.event_type == "modified"):
            return
        paths = {os.fsdecode(path) for path in (event.src_path, event.dest_path) if path}
        wanted = {path for path in paths if is_wanted(path) and not self._is_hidden(path)}
        if not wanted and not event.is_directory:
            return
        with self._lock:
            self._paths |= wanted
            self._structure |= event.is_directory
        self._something.set()

    def wait(self, timeout: float) -> bool:
        return self._something.wait(timeout)

    def take(self) -> tuple[set[str], bool]:
        """Paths that changed since the last call, and whether folders came or went."""
        with self._lock:
            taken = (self._paths, self._structure)
            self._paths, self._structure = set(), False
            self._something.clear()
        return taken

    def close(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

    def _is_hidden(self, path: str) -> bool:
        return any(part.startswith(".") for part in Path(os.path.relpath(path, self._folder)).parts)
