"""What happens is told once, in one order: to the journal, the state, the wire, and whoever listens in this process."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from streamtomo import messages
from streamtomo.config import Publish
from streamtomo.errors import OutputError
from streamtomo.export.imod import write_text
from streamtomo.messages import (
    AlarmCleared,
    AlarmRaised,
    Envelope,
    Event,
    FileRefused,
    FileRetried,
    FinishDone,
    Picture,
    SeriesDropped,
    SeriesJudged,
    SeriesRejected,
    TomogramReady,
    Warned,
)
from streamtomo.publish import journal as journals
from streamtomo.publish.bus import Publisher
from streamtomo.publish.endpoints import RunAddress, command_socket
from streamtomo.publish.state import SessionState

Listener = Callable[[Envelope], None]
PICTURE_S = 1.0
"""Between two pictures of one plane."""


class Teller:
    """Only the dispatcher's thread tells; the state may be asked for from any thread."""

    def __init__(self, out: Path, listeners: list[Listener]) -> None:
        """Nothing is opened before `open`."""
        self.session = uuid.uuid4().hex[:12]
        self._path, self._listeners = out / "journal.jsonl", listeners
        self._journal: journals.Journal | None = None
        self._publisher: Publisher | None = None
        self._state, self._lock = SessionState(), threading.Lock()
        self._seq = 0
        self._topics: Counter[str] = Counter()
        self._unwritten: list[Envelope] = []
        self.unwritable = False
        """Whether the journal cannot be written: then nothing new is begun that would have to be in it."""
        self._told: set[FileRefused | Warned] = set()

    def open(self) -> Iterator[Envelope]:
        """Open the journal, and take in what it holds; yields it. Raises OutputError or StreamtomoError."""
        self._journal = journals.Journal(self._path)
        for envelope in journals.read(self._path):
            with self._lock:
                self._state.apply(envelope)
            match envelope.event:
                case FileRefused() | Warned():
                    self._told.add(envelope.event)
                case FileRetried():
                    self._forget(envelope.event.path)
            yield envelope

    def close(self) -> None:
        """Close the journal, if it was opened."""
        if self._journal is not None:
            self._journal.close()

    def open_bus(self, settings: Publish, command: Callable[[messages.Command, str], messages.Answer]) -> Publisher:
        """Open the sockets, and say in the output folder where; events go there, too. Raises BusError or OutputError.

        `command` answers orders from outside.
        """
        keys = Path(settings.curve_keys) if settings.curve_keys else None
        publisher = Publisher(
            session=self.session,
            bind=settings.bind,
            port=settings.port,
            curve_keys=keys,
            snapshot=self.state,
            command=command,
            command_socket=command_socket(self._path.parent),
        )
        address = RunAddress(publisher.endpoint, self.session, str(keys.absolute()) if keys else None)
        try:
            write_text(self._path.with_name("endpoint.json"), msgspec.json.encode(address).decode() + "\n")
        except OutputError:
            publisher.close()
            raise
        self._publisher = publisher
        return publisher

    def state(self) -> bytes:
        """The session's state as JSON."""
        with self._lock:
            return msgspec.json.encode(self._state)

    def why_missing(self, series: str, index: int) -> str:
        """Why a tilt was not placed."""
        failure = self._state.series[series].tilts[index].failure
        return failure or "was not processed yet when the series was closed"

    def say(self, event: Event) -> None:
        """Tell everybody."""
        envelope = self._envelope(event)
        change = self._keep(envelope)
        with self._lock:
            self._state.apply(envelope)
        if self._publisher is not None:
            self._publisher.publish(envelope)
        for listener in self._listeners:
            listener(envelope)
        for more in (change, _follows(event)):
            if more is not None:
                self.say(more)

    def _envelope(self, event: Event) -> Envelope:
        topic = messages.topic(event)
        self._seq += 1
        self._topics[topic] += 1
        return Envelope(
            version=messages.VERSION,
            session=self.session,
            seq=self._seq,
            topic_seq=self._topics[topic],
            time_s=time.time(),
            event=event,
        )

    def once(self, event: FileRefused | Warned) -> None:
        """Say it, unless it was said before in this or an earlier run with the same output folder."""
        if event not in self._told:
            self._told.add(event)
            self.say(event)

    def refused(self) -> list[str]:
        """Files that were refused, but for those that were looked at again since."""
        return sorted(told.path for told in self._told if isinstance(told, FileRefused))

    def retried(self, path: str) -> None:
        """A refused file is looked at again: what is said of it then is said once more."""
        self._forget(path)
        self.say(FileRetried(path=path))

    def _forget(self, path: str) -> None:
        self._told -= {told for told in self._told if isinstance(told, FileRefused) and told.path == path}

    def _keep(self, envelope: Envelope) -> AlarmRaised | AlarmCleared | None:
        """Write to the journal; while that fails (disk full), keep what is unwritten and try again with every event.

        The alarm when it begins to fail, and its end.
        """
        if not isinstance(envelope.event, messages.WIRE_ONLY):
            self._unwritten.append(envelope)
        before, self.unwritable = self.unwritable, False
        assert self._journal is not None, "open() comes first"
        try:
            while self._unwritten:
                self._journal.append(self._unwritten[0])
                self._unwritten.pop(0)
        except OutputError as error:
            self.unwritable = True
            return None if before else AlarmRaised(code="journal.unwritable", text=str(error))
        return AlarmCleared(code="journal.unwritable") if before else None


class Pictures:
    """Lets through one picture of each plane of a series a second: the first at once, of the others the last."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], Picture] = {}
        self._shown_s: dict[tuple[str, str], float] = {}

    def offer(self, picture: Picture, now: float) -> list[Picture]:
        """There is a picture at the time `now` (seconds, steady); those to be shown now."""
        self._waiting[picture.series, picture.plane] = picture
        return self.due(now)

    def due(self, now: float) -> list[Picture]:
        """Those that have waited for long enough."""
        never = -PICTURE_S
        keys = [key for key in self._waiting if now - self._shown_s.get(key, never) >= PICTURE_S]
        self._shown_s.update(dict.fromkeys(keys, now))
        return [self._waiting.pop(key) for key in keys]


def _follows(event: Event) -> TomogramReady | SeriesRejected | None:
    """What other programs wait for, where an event means it."""
    match event:
        case FinishDone():
            return TomogramReady(
                series=event.series,
                path=event.tomogram.path,
                pixel_size_A=event.tomogram.pixel_size_A,
                residual_px=event.alignment.residual_px,
                tilts=len(event.alignment.views),
            )
        case SeriesDropped():
            return SeriesRejected(series=event.series, by="operator", reasons=(event.reason,))
        case SeriesJudged(state="reject"):
            return SeriesRejected(series=event.series, by="judge", reasons=event.reasons)
        case _:
            return None
