"""Watches a folder: here the watcher's machines meet the disk, the clock and the operating system's events.

Events only wake us up; a listing every `relist_s` is the truth, because network drives send no events. Nothing in the
folder is written, locked or renamed, and nothing is opened before it is settled. What cannot be listed for a while (a
mount that is gone) is not forgotten: it is taken up where it was left.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from streamtomo.config import Settings
from streamtomo.messages import Sighting, Warned
from streamtomo.model import RawImage
from streamtomo.watch.catalogue import DISK, Catalogue, is_wanted
from streamtomo.watch.claims import Claims
from streamtomo.watch.clocks import FileClock
from streamtomo.watch.events import Events, listen
from streamtomo.watch.mdoc import is_mdoc
from streamtomo.watch.mounts import Ground, is_bare
from streamtomo.watch.pulse import Pulse, clock
from streamtomo.watch.settle import Due, Seen, Settle
from streamtomo.watch.stacks import Readers
from streamtomo.watch.survey import survey

T = TypeVar("T")

CALM_S = 0.02
"""Events come in bursts: this long they are gathered."""
STOP_CHECK_S = 0.25
LISTING_SHARE = 0.1
"""Listing takes at most this share of the time."""
REST_S = 600.0
"""A file that was dealt with and has not changed for this long ..."""
REST_PASSES = 16
"""... is looked at in every such listing only: on a network drive each look is a question to the server."""


def watch(
    folder: str | Path,
    settings: Settings,
    stop: threading.Event,
    clock: Callable[[], float] = time.monotonic,
    *,
    known: Iterable[RawImage] = (),
    skip: Collection[str | Path] = (),
    pulse: Pulse | None = None,
    claims: Claims | None = None,
) -> Iterator[Sighting | None]:
    """Yield what is found in `folder` and its sub-folders until `stop` is set.

    None is yielded after every pass with nothing more to do, at least every `watch.relist_s`: the first one says that
    all that was there at the start has been worked through; later ones are good for the caller's own clockwork. `known`
    are images of an earlier run: they keep their series and are not yielded again unless something about them changed.
    `skip` are folders to stay out of, such as our own output. `clock` is one that nobody sets: the one on the wall may
    jump. Another thread may ask `pulse` how we are doing. Watchers that share their `claims` give no two series one
    name.
    """
    watcher = FolderWatch(folder, settings, known=known, skip=skip, pulse=pulse, claims=claims)
    try:
        while not stop.is_set():
            yield from watcher.step(clock())
            if watcher.caught_up:
                yield None
            watcher.wait(stop, clock)
    finally:
        watcher.close()


def list_files(
    folder: str,
    skip: Collection[str] = (),
    denied: Callable[[str, OSError], None] | None = None,
    known: Callable[[str], Seen | None] = lambda path: None,
) -> Iterator[Seen]:
    """Files of use in a folder and its sub-folders, hidden ones left out. Raises `OSError` for `folder` itself only.

    A file that is `known` is not looked at.
    """
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                if entry.path not in skip:
                    yield from list_files(entry.path, skip, denied, known)
            elif seen := known(entry.path):
                yield seen
            elif is_wanted(entry.name):
                status = entry.stat()
                yield _seen(entry.path, status)
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
        pulse: Pulse | None = None,
        claims: Claims | None = None,
    ) -> None:
        self._folder = os.path.abspath(folder)
        self._skip = frozenset(os.path.abspath(path) for path in skip)
        self._all_settings, self._settings = settings, settings.watch
        self._pulse = pulse or Pulse()
        self._settle = Settle(settings.watch.settle_s)
        self._catalogue = Catalogue(settings.acquisition, self._readers(), known, claims)
        self._clock = FileClock(settings.watch.settle_s)
        self._events, self._ground = Events(self._folder), Ground(self._folder)
        self._tuned: tuple[int, int] | None = None
        """The directory that events were asked of, by its device and inode."""
        self._no_events: str | None = None
        """Why there are none."""
        self._next_listing, self._soonest, self._listed_at, self._passes = 0.0, 0.0, 0.0, 0
        self._first: set[str] | None = None
        self._gone: dict[str, float] = {}
        """What cannot be listed, and since when."""
        self._complaints: list[Sighting] = []
        self._complained: set[str] = set()

    @property
    def caught_up(self) -> bool:
        """Whether everything that was there at the first listing has been looked at (or is still being written)."""
        if self._first is None:
            return self._folder in self._gone
        if self._first:
            self._first = {path for path in self._first if self._settle.undecided(path)}
        return not self._first

    def step(self, now: float) -> list[Sighting]:
        """List or look at what changed, and deal with every file that is due."""
        try:
            return self._step(now)
        finally:
            self._pulse.clock_s = self._clock.bounds()
            self._pulse.rest()

    def _step(self, now: float) -> list[Sighting]:
        self._complaints = []
        explained = [
            path
            for folder, patterns in self._pulse.take_patterns()
            for path in self._catalogue.understand(folder, patterns, self._settle.paths())
        ]
        for path in [*self._pulse.take_requests(), *explained]:
            self._catalogue.again(path)
            self._settle.again(path, now)
        touched, structure = self._events.take()
        if structure:
            self._next_listing = min(self._next_listing, self._soonest)
        if now >= self._next_listing:
            self._list(now)
        else:
            for path in touched:
                self._observe(path, now)
        if self._folder in self._gone:
            return self._complaints
        dues = [due for due in self._settle.due(now, is_mdoc) if self._is_unchanged(due, now)]
        found = self._catalogue.look(dues, now, time.time())
        for due in dues:
            self._answer(due, now)
        for path in found.unready:
            self._settle.retry(path, now)
        return [*self._complaints, *found.sightings, *self._catalogue.tick(now)]

    def wait(self, stop: threading.Event, clock: Callable[[], float]) -> None:
        """Sleep until an event comes, something is due, or `stop` is set."""
        due = self._settle.next_due()
        until = self._next_listing if due is None else min(due, self._next_listing)
        while not stop.is_set() and not self._pulse.asked and (left := until - clock()) > 0:
            if not self._events.listening:
                stop.wait(min(left, STOP_CHECK_S))
            elif self._events.wait(min(left, STOP_CHECK_S)):
                stop.wait(CALM_S)
                return

    def close(self) -> None:
        """Stop listening to events."""
        self._events.close()

    # -- listing -------------------------------------------------------------------------------------------------------

    def _list(self, now: float) -> None:
        began = time.perf_counter()
        self._passes += 1
        self._pulse.at("its listing", self._folder)
        gone = self._ground.lost()
        denied: set[str] = set()
        files = [] if self._folder in gone else self._read(gone, denied, now)
        present = {seen.path for seen in files}
        if not (present or gone or denied) and (held := len(self._settle.paths())) and is_bare(self._folder):
            gone[self._folder] = f"empty, though it held {held} files of use"
        self._tell_gone(gone, now)
        if self._folder not in gone:
            self._take_in(files, present, {*gone, *denied}, now)
        self._soonest = now + (time.perf_counter() - began) / LISTING_SHARE
        self._next_listing = max(now + self._settings.relist_s, self._soonest)

    def _read(self, gone: dict[str, str], denied: set[str], now: float) -> list[Seen]:
        """The files; adds to `gone` what cannot be listed for now, to `denied` what must not be read."""

        def refused(path: str, error: OSError) -> None:
            if isinstance(error, PermissionError):
                denied.add(path)
                self._denied(path, error)
            else:
                gone[path] = error.strerror or str(error)

        try:
            self._listen()
            return list(
                list_files(self._folder, self._skip | gone.keys(), refused, lambda path: self._known(path, now))
            )
        except OSError as error:
            gone[self._folder] = error.strerror or str(error)
            return []

    def _known(self, path: str, now: float) -> Seen | None:
        """What need not be looked at this time, as it was."""
        resting = (hash(path) + self._passes) % REST_PASSES and self._settle.at_rest(path, now - REST_S)
        if not resting:
            self._pulse.at("its listing", path)
        return resting or None

    def _take_in(self, files: list[Seen], present: set[str], unread: Collection[str], now: float) -> None:
        self._listed_at = now
        for seen in files:
            self._saw(seen, now)
        roots = tuple(path + os.sep for path in unread)
        for path in [path for path in self._settle.paths() if path not in present]:
            if path not in unread and not path.startswith(roots):
                self._forget(path, now)
        if self._first is None:
            self._first = present
            self._pulse.findings = survey(
                self._folder, files, self._all_settings, _on_the_wall(now),
                mount=self._ground.mount, no_events=self._no_events, denied=unread,
            )  # fmt: skip

    def _tell_gone(self, gone: dict[str, str], now: float) -> None:
        """Say what cannot be listed any more, and what can again; both name a time, so that each time is news."""
        for path in gone.keys() - self._gone.keys():
            seen = f", last at {clock(_on_the_wall(self._listed_at))}" if self._listed_at else ""
            text = f"{path}: cannot be listed{seen} ({gone[path]}); going on when it is back"
            self._complaints.append(Warned(code="folder.gone", text=text))
            self._pulse.gone = MappingProxyType({**self._pulse.gone, path: text})
        if self._folder in gone:
            self._events.close()
            self._tuned = None
        else:
            for path in self._gone.keys() - gone.keys():
                text = f"{path}: is back, after {now - self._gone.pop(path):.0f} s, at {clock(_on_the_wall(now))}"
                self._complaints.append(Warned(code="folder.back", text=text))
        self._gone = dict.fromkeys(gone, now) | self._gone
        self._pulse.gone = MappingProxyType({path: text for path, text in self._pulse.gone.items() if path in gone})

    def _listen(self) -> None:
        """Ask for events once for each directory that stands there, where they are wanted and come."""
        status = os.stat(self._folder)
        if self._tuned == (status.st_dev, status.st_ino):
            return
        self._tuned = (status.st_dev, status.st_ino)
        self._events.close()
        self._no_events = why = listen(self._events, self._settings, self._ground.mount)
        if why and self._settings.events != "off":
            every = f"it is listed every {self._settings.relist_s:g} s"
            self._complain("folder.polling", self._folder, f"{self._folder}: {why}; {every}")

    def _denied(self, path: str, error: OSError) -> None:
        self._complain("folder.denied", path, f"{path}: cannot be read ({error.strerror}); going on without it")

    def _complain(self, code: str, path: str, text: str) -> None:
        if path not in self._complained:
            self._complained.add(path)
            self._complaints.append(Warned(code=code, text=text))

    def _observe(self, path: str, now: float) -> None:
        self._pulse.at("a look at it", path)
        try:
            status = os.stat(path)
        except OSError:
            self._forget(path, now)
        else:
            self._saw(_seen(path, status), now)

    def _saw(self, seen: Seen, now: float) -> None:
        self._clock.saw(seen, _on_the_wall(now), new=self._first is not None)
        if self._settle.observe(seen, now):
            self._catalogue.changed(seen, now)

    def _forget(self, path: str, now: float) -> None:
        self._clock.forget(path)
        self._settle.forget(path)
        self._catalogue.gone(path, now)

    def _is_unchanged(self, due: Due, now: float) -> bool:
        """Whether a due file is as it was when it was listed; without events this is what notices that it grows."""
        self._pulse.at("a look at it", due.seen.path)
        try:
            status = os.stat(due.seen.path)
        except OSError:
            self._forget(due.seen.path, now)
            return False
        if (status.st_size, status.st_mtime) == (due.seen.size, due.seen.mtime) or due.why == "peek":
            return True
        self._saw(_seen(due.seen.path, status), now)
        return False

    def _readers(self) -> Readers:
        """The readers of files, which say what they are at."""

        def said(read: Callable[..., T]) -> Callable[..., T]:
            def reader(path: str, *args: object, **options: object) -> T:
                self._pulse.at("reading it", path)
                return read(path, *args, **options)

            return reader

        return Readers(probe=said(DISK.probe), text=said(DISK.text), exists=said(DISK.exists))

    def _answer(self, due: Due, now: float) -> None:
        if due.why == "peek":
            self._settle.peeked(due.seen.path, now)
        else:
            self._settle.done(due.seen.path)


def _seen(path: str, status: os.stat_result) -> Seen:
    return Seen(path, status.st_size, status.st_mtime, status.st_ino)


def _on_the_wall(steady_s: float) -> float:
    """Seconds since 1970 of a reading of the steady clock."""
    return steady_s + time.time() - time.monotonic()
