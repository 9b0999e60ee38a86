"""When a file may be looked at: a pure machine over listings and time.

changing ──(still for settle_s)──> due ──taken──> done ──(changes)──> changing
                                    |  ^
                              retry |  | (a pause, longer each time)
                                    v  |
                                  waiting ──(still for stall_s)──> due for the last time ──> done
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

from msgspec import Struct

STALL_FACTOR = 30.0
MIN_STALL_S = 20.0
PEEK_FACTOR = 3.0


class Seen(Struct, frozen=True):
    """A file as the listing shows it."""

    path: str
    size: int
    mtime: float
    inode: int = 0
    """The file's number on its disk, which a rename leaves alone; 0 where there is none."""


Why = Literal["settled", "peek", "expired"]


class Due(Struct, frozen=True):
    """A file to look at now."""

    seen: Seen
    why: Why
    """`peek`: it has been changing for long, and may be looked at meanwhile; `expired`: its last chance."""


class _Entry(Struct):
    seen: Seen
    changed_at: float
    looked_at: float
    """When it was last handed out, or first seen."""
    state: Literal["changing", "waiting", "done"] = "changing"
    retry_at: float = 0.0
    pause: float = 0.0


class Settle:
    """Tells which files are due. Every call gets the time; nothing here reads a clock or a disk."""

    def __init__(self, settle_s: float) -> None:
        self.settle_s = settle_s
        self.stall_s = max(MIN_STALL_S, STALL_FACTOR * settle_s)
        self._entries: dict[str, _Entry] = {}
        self._open: dict[str, _Entry] = {}  # those not done, so that a thousand old files cost nothing

    def observe(self, seen: Seen, now: float) -> bool:
        """A listing shows the file like this; whether that is news."""
        entry = self._entries.get(seen.path)
        if entry is None:
            entry = self._entries[seen.path] = _Entry(seen, now, now)
        elif (entry.seen.size, entry.seen.mtime) == (seen.size, seen.mtime):
            return False
        else:
            if entry.state == "done":
                entry.looked_at = now
            entry.seen, entry.changed_at, entry.state, entry.pause = seen, now, "changing", 0.0
        self._open[seen.path] = entry
        return True

    def forget(self, path: str) -> None:
        """The file is gone."""
        self._entries.pop(path, None)
        self._open.pop(path, None)

    def paths(self) -> Collection[str]:
        """All files known."""
        return self._entries.keys()

    def at_rest(self, path: str, since: float) -> Seen | None:
        """The file as it was last seen, if it was dealt with and has not changed after `since`."""
        entry = self._entries.get(path)
        return entry.seen if entry and entry.state == "done" and entry.changed_at <= since else None

    def done(self, path: str) -> None:
        """The file was dealt with; it is looked at again only when it changes."""
        if entry := self._open.pop(path, None):
            entry.state = "done"

    def peeked(self, path: str, now: float) -> None:
        """The file was looked at while it changes; it will be due again."""
        if entry := self._open.get(path):
            entry.looked_at = now

    def retry(self, path: str, now: float) -> None:
        """The file was not ready: it is due again after a pause that grows."""
        if entry := self._entries.get(path):
            self._open[path] = entry
            entry.pause = min(max(self.settle_s, 2 * entry.pause), self.stall_s / 4)
            entry.state, entry.retry_at = "waiting", now + entry.pause

    def again(self, path: str, now: float) -> None:
        """The file is due at once, unless it changes, and has the time to become ready that a new one has."""
        if (entry := self._entries.get(path)) and entry.state != "changing":
            self._open[path] = entry
            entry.state, entry.changed_at, entry.retry_at, entry.pause = "waiting", now, now, 0.0

    def due(self, now: float, peekable: Callable[[str], bool]) -> list[Due]:
        """Files to be looked at now, in the order they last changed; answer each with `done`, `retry` or `peeked`."""
        found = [Due(entry.seen, why) for entry in self._open.values() if (why := self._why(entry, now, peekable))]
        return sorted(found, key=lambda due: (due.seen.mtime, due.seen.path))

    def next_due(self) -> float | None:
        """The earliest time at which a file can become due if nothing changes; None if none waits."""
        return min((self._due_at(entry) for entry in self._open.values()), default=None)

    def undecided(self, path: str) -> bool:
        """Whether the file has neither been looked at nor changed since it was first seen."""
        entry = self._open.get(path)
        return entry is not None and entry.state == "changing" and entry.changed_at == entry.looked_at

    def _due_at(self, entry: _Entry) -> float:
        if entry.state == "changing":
            return entry.changed_at + self.settle_s
        return entry.retry_at

    def _why(self, entry: _Entry, now: float, peekable: Callable[[str], bool]) -> Why | None:
        if now >= self._due_at(entry):
            stalled = entry.state == "waiting" and now - entry.changed_at >= self.stall_s
            return "expired" if stalled else "settled"
        restless = entry.state == "changing" and now - entry.looked_at >= PEEK_FACTOR * self.settle_s
        return "peek" if restless and peekable(entry.seen.path) else None
