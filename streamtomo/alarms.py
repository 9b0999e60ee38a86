"""Alarms: what a person must look at now. A pure machine: facts and the time go in, alarms raised and cleared come out.

An alarm stands until what it is about is over. Where a number decides, the limit for clearing is further away than the
one for raising, so that an alarm does not flicker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median, quantiles

from msgspec import Struct

from streamtomo.config import Settings
from streamtomo.messages import AlarmCleared, AlarmRaised
from streamtomo.model import RawImage

SHORTEST_LATE_S = 10.0
"""No tilt is called late before this."""
ARRIVALS_KEPT = 20
ARRIVALS_NEEDED = 4
AT_ONCE_S = 0.2
"""Tilts that come closer together were not taken so: a finished stack, or files that were copied."""
CLOCK_TILTS = 5
"""Files whose times are compared with this machine's clock, the last ones."""
CLOCK_SLACK_S = 2.0
"""Files are found so much later than they ought to be when the machine is busy."""
BEHIND_S = 20.0
STUCK_S = 30.0
"""A folder that has not been listed for so long, or ten times its interval, hangs."""
LOW_DISK_GB = 5.0
RATE_SAMPLE_S = 60.0
RATE_SAMPLES = 60
RATE_SHORTEST_S = 600.0
"""Free space is watched at least so long before it is foretold when it will be used up."""
EASE = 1.25
"""An alarm that a number raised is cleared when that is better by this factor."""

Key = tuple[str, str]


class FolderFacts(Struct, frozen=True, kw_only=True):
    """What is known of a watched folder."""

    path: str
    collecting: bool
    """Whether a series from it is not complete."""
    listed_s: float | None
    """When it was looked through last; None before the first time."""
    gone: str | None = None
    """Why it cannot be listed."""


class Facts(Struct, frozen=True, kw_only=True):
    """What is known of the run."""

    backlog: int
    """Tilts that came while the run watched and wait for the live lane."""
    free_GB: float | None
    folders: Sequence[FolderFacts]


class Alarms:
    """Which alarms stand."""

    def __init__(self, settings: Settings) -> None:
        self._limits, self._watch = settings.alarms, settings.watch
        self._standing: dict[Key, str] = {}
        self._arrivals: dict[str, deque[float]] = {}
        self._lags: dict[str, deque[float]] = {}
        self._backlogs: deque[tuple[float, int]] = deque()
        self._free: deque[tuple[float, float]] = deque(maxlen=RATE_SAMPLES)

    def arrived(self, folder: str, image: RawImage, now: float) -> None:
        """A tilt came while the run watched."""
        arrivals = self._arrivals.setdefault(folder, deque(maxlen=ARRIVALS_KEPT))
        at_once = bool(arrivals) and now - arrivals[-1] < AT_ONCE_S
        if at_once:
            arrivals.pop()
        arrivals.append(now)
        if at_once:
            return
        if image.written_s is not None:
            self._lags.setdefault(folder, deque(maxlen=CLOCK_TILTS)).append(now - image.written_s)

    def stands(self, code: str, about: str = "") -> bool:
        """Whether an alarm stands."""
        return (code, about) in self._standing

    def look(self, facts: Facts, now: float) -> list[AlarmRaised | AlarmCleared]:
        """What changed: alarms that are raised, and those that are over."""
        due = dict(self._due(facts, now))
        news: list[AlarmRaised | AlarmCleared] = [
            AlarmRaised(code=code, text=text, about=about)
            for (code, about), text in due.items()
            if (code, about) not in self._standing
        ]
        news += [AlarmCleared(code=code, about=about) for code, about in self._standing if (code, about) not in due]
        self._standing = due
        return news

    def _due(self, facts: Facts, now: float) -> Iterator[tuple[Key, str]]:
        for folder in facts.folders:
            for code, text in (
                ("folder.gone", folder.gone),
                ("folder.stuck", self._stuck(folder, now)),
                ("tilt.late", self._late(folder, now)),
                ("clock.differs", self._clock(folder)),
            ):
                if text:
                    yield (code, folder.path), text
        for code, text in (("behind", self._behind(facts.backlog, now)), *self._disk(facts.free_GB, now)):
            if text:
                yield (code, ""), text

    def _stuck(self, folder: FolderFacts, now: float) -> str | None:
        if folder.listed_s is None or folder.gone:
            return None
        silent = now - folder.listed_s
        if silent < max(STUCK_S, 10 * self._watch.relist_s):
            return None
        return f"{folder.path}: has not answered for {STUCK_S:.0f} s and more; is its server alive?"

    def _late(self, folder: FolderFacts, now: float) -> str | None:
        arrivals = self._arrivals.get(folder.path, deque())
        if not folder.collecting or folder.gone or len(arrivals) < ARRIVALS_NEEDED:
            return None
        steps = [after - before for before, after in pairwise(arrivals)]
        usual = quantiles(steps, n=5)[
            -1
        ]  # of five steps one may be a long one: focusing, or a batch that comes at once
        if now - arrivals[-1] < max(SHORTEST_LATE_S, self._limits.late_factor * usual):
            return None
        return f"{folder.path}: no new tilt for {self._limits.late_factor:g} times the usual {usual:.0f} s"

    def _clock(self, folder: FolderFacts) -> str | None:
        lags = self._lags.get(folder.path, ())
        if len(lags) < CLOCK_TILTS:
            return None
        ahead, behind = -median(lags), min(lags)
        if ahead > self._watch.settle_s:
            return f"{folder.path}: the files' times are {ahead:.0f} s ahead of this machine's clock"
        if behind > 2 * self._watch.settle_s + self._watch.relist_s + CLOCK_SLACK_S:
            return (
                f"{folder.path}: the files' times are {behind:.0f} s behind this machine's clock "
                "(or they are copies that keep their old times)"
            )
        return None

    def _behind(self, backlog: int, now: float) -> str | None:
        """Many wait, and in a while they did not become fewer: a stack that comes all at once is no trouble."""
        self._backlogs.append((now, backlog))
        while len(self._backlogs) > 1 and now - self._backlogs[1][0] >= BEHIND_S:
            self._backlogs.popleft()
        if self.stands("behind"):
            return self._words_behind() if backlog >= self._limits.backlog / 2 else None
        since, before = self._backlogs[0]
        lasting = now - since >= BEHIND_S and min(number for _, number in self._backlogs) >= self._limits.backlog
        return self._words_behind() if lasting and backlog >= before else None

    def _words_behind(self) -> str:
        return f"{self._limits.backlog} images and more wait to be processed, and they do not become fewer"

    def _disk(self, free_GB: float | None, now: float) -> Iterator[tuple[str, str | None]]:
        if free_GB is None:
            return
        for code, limit, text in (
            ("disk.full", self._limits.reserve_GB, "processing waits until there is room; images are still taken in"),
            ("disk.low", LOW_DISK_GB, "make room before outputs fail"),
        ):
            if free_GB < limit * (EASE if self.stands(code) else 1):
                yield code, f"less than {limit:g} GB are free for the results: {text}"
        yield "disk.soon", self._soon(free_GB, now)

    def _soon(self, free_GB: float, now: float) -> str | None:
        if not self._free or now - self._free[-1][0] >= RATE_SAMPLE_S:
            self._free.append((now, free_GB))
        since, before_GB = self._free[0]
        if now - since < RATE_SHORTEST_S or before_GB <= free_GB:
            return None
        hours = free_GB / (before_GB - free_GB) * (now - since) / 3600
        limit = self._limits.disk_hours
        if hours > limit * (EASE if self.stands("disk.soon") else 1):
            return None
        return f"the disk of the results will be full in {limit:g} hours or less at this rate"
