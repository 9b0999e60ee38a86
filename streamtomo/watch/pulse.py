"""How a watcher is doing, for other threads to see; and what they ask of it."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TypeVar

from streamtomo.messages import Finding

T = TypeVar("T")

STUCK_S = 60.0
"""A call that takes longer does not come back: a server that died leaves whoever asks it waiting for ever."""


class Pulse:
    """Written by the watcher's thread, read by any."""

    def __init__(self) -> None:
        self._deed: tuple[str, str, float] | None = None
        self._began_s = time.time() - time.monotonic()
        """When the steady clock showed 0."""
        self._requests: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._patterns: queue.SimpleQueue[tuple[str, Sequence[str]]] = queue.SimpleQueue()
        self.gone: Mapping[str, str] = MappingProxyType({})
        """By folder that cannot be listed for now: why, in words."""
        self.clock_s: tuple[float, float] | None = None
        """Bounds of how far the files' times are ahead of this machine's clock; None while nothing proves any."""
        self.findings: tuple[Finding, ...] | None = None
        """What the folder is like; None before it was listed."""

    def at(self, what: str, path: str) -> None:
        """The watcher asks the disk for something."""
        self._deed = (what, path, time.monotonic())

    def rest(self) -> None:
        """It is done."""
        self._deed = None

    def stuck(self, limit_s: float = STUCK_S) -> str | None:
        """In words what has not come back for longer than the limit, the same words each time; None if all is well."""
        if (deed := self._deed) is None or time.monotonic() - deed[2] < limit_s:
            return None
        what, path, since = deed
        words = f"{path}: {what} has not come back since {clock(self._began_s + since)}"
        return f"{words}: is its file server alive? Nothing new is seen"

    def look_again(self, path: str) -> None:
        """Ask the watcher to look again at a file that it gave up."""
        self._requests.put(path)

    def understand(self, folder: str, patterns: Sequence[str]) -> None:
        """Ask the watcher to read the names in a folder by these patterns of the settings."""
        self._patterns.put((folder, patterns))

    @property
    def asked(self) -> bool:
        """Whether it is asked for anything."""
        return not (self._requests.empty() and self._patterns.empty())

    def take_requests(self) -> list[str]:
        """What it is to look at again."""
        return _taken(self._requests)

    def take_patterns(self) -> list[tuple[str, Sequence[str]]]:
        """Folders, and the patterns that hold in them."""
        return _taken(self._patterns)


def _taken(requests: queue.SimpleQueue[T]) -> list[T]:
    taken = []
    with suppress(queue.Empty):
        while True:
            taken.append(requests.get_nowait())
    return taken


def clock(seconds: float) -> str:
    """Time of the day, for messages."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))
