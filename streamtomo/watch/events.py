"""What the operating system tells of changes in a folder."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from streamtomo.config import Watch
from streamtomo.watch.catalogue import is_wanted
from streamtomo.watch.mounts import Mount


def listen(events: Events, settings: Watch, mount: Mount | None) -> str | None:
    """Listen to events where they are wanted and come; the reason where not, in words that follow the folder's name."""
    if settings.events == "off":
        return "is not listened to (watch.events is off)"
    if settings.events == "auto" and mount and not mount.sends_events:
        return f"lies on {mount}, which sends no events"
    return events.listen()


class Events(FileSystemEventHandler):
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
        """Whether events come."""
        return self._observer is not None

    def listen(self) -> str | None:
        """Start listening; the reason, where the system cannot."""
        observer = Observer()
        try:
            observer.schedule(self, self._folder, recursive=True)
            observer.start()
        except OSError as error:
            return f"gets no events from the system ({error.strerror or error})"
        self._observer = observer
        return None

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Called by the observer's thread."""
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
        """Until something changes; whether it did within so many seconds."""
        return self._something.wait(timeout)

    def take(self) -> tuple[set[str], bool]:
        """Paths that changed since the last call, and whether folders came or went."""
        with self._lock:
            taken = (self._paths, self._structure)
            self._paths, self._structure = set(), False
            self._something.clear()
        return taken

    def close(self) -> None:
        """Stop listening."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

    def _is_hidden(self, path: str) -> bool:
        return any(part.startswith(".") for part in Path(os.path.relpath(path, self._folder)).parts)
