"""What people who are not at the microscope are told, and when: a pure machine, events and times in, notes out.

Alarms are sent once they have stood for a while, the same one not again too soon. A series that the judge gives up is
sent at once. All else (series finished, failed, alarms that are over) waits for the next digest. In quiet hours only
alarms are sent. After a long time without a note, one says that all is fine.
"""

from __future__ import annotations

from typing import NamedTuple

from streamtomo.config_notify import Notify
from streamtomo.messages import (
    AlarmCleared,
    AlarmRaised,
    Envelope,
    FinishDone,
    FinishFailed,
    SeriesRejected,
    SeriesTooFew,
    SessionEnded,
    SessionStarted,
    TiltPlaced,
)

MOST_LINES = 40
"""Of a digest; what is more is counted."""
Key = tuple[str, str]


class Note(NamedTuple):
    """One message."""

    title: str
    text: str


class Notes:
    """What is still to be told of one session."""

    def __init__(self, settings: Notify, name: str, now: float) -> None:
        """`name` stands in each title: whose session it is."""
        self._settings, self._name = settings, name
        self._standing: dict[Key, tuple[float, str]] = {}
        self._sent: dict[Key, float] = {}
        """When each alarm was last sent."""
        self._told: set[Key] = set()
        """Alarms that stand and were sent."""
        self._urgent: list[str] = []
        self._lines: list[str] = []
        self._digested = self._noted = now
        self._tilts = 0
        self._series: set[str] = set()

    def take(self, envelope: Envelope) -> None:
        """Hear of an event."""
        match envelope.event:
            case AlarmRaised(code=code, about=about, text=text):
                self._standing.setdefault((code, about), (envelope.time_s, text))
            case AlarmCleared(code=code, about=about):
                self._over((code, about))
            case SeriesRejected(series=series, reasons=reasons, by="judge"):
                self._urgent.append(f"{series}: not worth more beam time: {'; '.join(reasons)}")
            case FinishDone(series=series, seconds=seconds, alignment=alignment):
                self._lines.append(f"{series}: finished in {seconds:.0f} s, {len(alignment.views)} views")
            case FinishFailed(series=series, reason=reason, final=True):
                self._lines.append(f"{series}: FAILED: {reason}")
            case SeriesTooFew(series=series, usable=usable, needed=needed):
                self._lines.append(f"{series}: {usable} usable tilts, {needed} are needed")
            case SessionStarted(watched=watched):
                self._lines.append(f"a run of {watched} began")
            case SessionEnded(reason=reason):
                self._lines.append(f"the run ended: {reason or 'no reason'}")
            case TiltPlaced(series=series):
                self._tilts += 1
                self._series.add(series)
            case _:
                pass

    def due(self, now: float, hour: float, *, last: bool = False) -> list[Note]:
        """What is to be sent now; `hour` is the local time of day, and `last` says that there is no later."""
        notes = [self._note("ALARM", text) for text in self._alarms(now)]
        if not _is_quiet(self._settings.quiet_hours, hour):
            notes += [self._note("series", text) for text in self._urgent]
            self._urgent = []
            notes += self._digest(now, last=last)
        if notes:
            self._noted = now
        return notes

    def _over(self, key: Key) -> None:
        _, text = self._standing.pop(key, (0.0, ""))
        if key in self._told:
            self._told.discard(key)
            self._lines.append(f"over: {text}")

    def _alarms(self, now: float) -> list[str]:
        settings, texts = self._settings, []
        for key, (since, text) in self._standing.items():
            waited = now - self._sent.get(key, float("-inf")) >= 60 * settings.repeat_min
            if key not in self._told and now - since >= settings.stand_s and waited:
                self._told.add(key)
                self._sent[key] = now
                texts.append(text)
        return texts

    def _digest(self, now: float, *, last: bool) -> list[Note]:
        if self._lines and (last or now - self._digested >= 60 * self._settings.digest_min):
            lines, more = self._lines[:MOST_LINES], len(self._lines) - MOST_LINES
            self._lines, self._digested = [], now
            return [self._note("news", "\n".join([*lines, *([f"and {more} more"] if more > 0 else []), self._count()]))]
        alive_h = self._settings.alive_h
        if alive_h is not None and not self._standing and not self._lines and now - self._noted >= 3600 * alive_h:
            return [self._note("all fine", self._count())]
        return []

    def _count(self) -> str:
        words = f"{self._tilts} tilts of {len(self._series)} series since the last note"
        self._tilts, self._series = 0, set()
        return words

    def _note(self, kind: str, text: str) -> Note:
        return Note(f"streamtomo {self._name}: {kind}", text)


def _is_quiet(hours: str | None, hour: float) -> bool:
    if hours is None:
        return False
    begin, end = map(float, hours.split("-"))
    return begin <= hour < end if begin <= end else hour >= begin or hour < end
