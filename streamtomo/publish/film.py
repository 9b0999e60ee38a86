"""A journal shown as if it happened: the same states as then, in less time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from streamtomo.errors import StreamtomoError
from streamtomo.messages import Heartbeat
from streamtomo.publish import journal
from streamtomo.publish.dashboard import Known
from streamtomo.publish.lines import plain_line
from streamtomo.publish.state import SessionState

LONGEST_WAIT_S = 3.0
"""Between two events, by the clock on the wall: nobody wants to watch the night between two sessions."""


class Film:
    """A journal and where it stands."""

    def __init__(self, path: Path, speed: float) -> None:
        """Raises StreamtomoError for what is no journal."""
        self._name, self._speed = f"{path} x{speed:g}", speed
        self._envelopes = list(journal.read(path))
        if not self._envelopes:
            raise StreamtomoError(f"{path}: is no journal, or an empty one; it is OUT/journal.jsonl of a run")
        self._state, self._next, self._due_s = SessionState(), 0, 0.0

    def look(self, now: float) -> Known:
        """The state at the time `now` (seconds, steady); the first look begins it."""
        if self._next == 0:
            self._due_s = now
        while self._next < len(self._envelopes) and now >= self._due_s:
            self._step()
        ahead = max(0.0, self._due_s - now) * self._speed if self._next < len(self._envelopes) else 0.0
        return self._known(max(self._state.time_s, self._time_of_next() - ahead))

    def end(self) -> Known:
        """The state at its end."""
        while self._next < len(self._envelopes):
            self._step()
        return self._known(self._state.time_s)

    def lines(self) -> Iterator[str]:
        """All that happened, in lines of text."""
        return filter(None, map(plain_line, self._envelopes))

    def _step(self) -> None:
        self._state.apply(self._envelopes[self._next])
        self._next += 1
        wait = max(0.0, self._time_of_next() - self._state.time_s) / self._speed
        self._due_s += min(LONGEST_WAIT_S, wait)

    def _time_of_next(self) -> float:
        return self._envelopes[self._next].time_s if self._next < len(self._envelopes) else self._state.time_s

    def _known(self, now: float) -> Known:
        """With the heartbeat that the journal does not keep."""
        state = self._state
        waiting = sum(tilt.letter == "." for row in state.series.values() for tilt in row.tilts.values())
        finishing = tuple(row.name for row in state.series.values() if row.state == "finishing")
        state.heartbeat = Heartbeat(backlog=waiting, finishing=finishing, waiting_for=f"a recording, {self._name}")
        state.heartbeat_s = now
        return Known(self._name, state, now)
