"""The dispatcher's inbox: everything that happens comes through it, from whatever thread."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from contextlib import suppress

from msgspec import Struct

from streamtomo.finish.recipe import FinishJob
from streamtomo.folders import Folder, Found
from streamtomo.messages import Answer, Command, Event, StopRun

ANSWER_S = 5.0


class Sighted(Struct, frozen=True):
    """What the watcher of a folder found; None: it has worked through everything that is there."""

    folder: Folder
    sighting: Found


class Done(Struct, frozen=True):
    """The live lane is done with a tilt."""

    events: list[Event]


class Idle(Struct, frozen=True):
    """What the live lane did while no tilt waited."""

    events: list[Event]


class Finishing(Struct, frozen=True):
    """News from the finishing lane."""

    job: FinishJob
    event: Event


class Asked(Struct, frozen=True):
    """A command from outside, who gave it, and where its answer goes."""

    command: Command
    by: str
    answer: Future[Answer]


class Stop(Struct, frozen=True):
    """Wakes the dispatcher: the run is to end."""


Item = Sighted | Done | Idle | Finishing | Asked | Stop


class Inbox:
    """A queue that may be filled from any thread, and from a signal handler."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()  # the only kind that a signal handler may use
        self._closed = threading.Event()

    def put(self, item: Item) -> None:
        """Something happened."""
        self._queue.put(item)

    def get(self, timeout_s: float) -> Item | None:
        """What happened next; None if nothing did for so long."""
        with suppress(queue.Empty):
            return self._queue.get(timeout=timeout_s)
        return None

    def ask(self, command: Command, by: str) -> Answer:
        """Have the dispatcher carry out a command, and wait for its answer."""
        if self._closed.is_set():
            return _too_late(command)
        answer: Future[Answer] = Future()
        self.put(Asked(command, by, answer))
        try:
            return answer.result(timeout=ANSWER_S)
        except NoAnswer:
            return Answer(ok=False, text=f"the run did not answer within {ANSWER_S:g} s")

    def close(self) -> None:
        """Answer commands that nobody will carry out any more, those to come included."""
        self._closed.set()
        with suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if isinstance(item, Asked):
                    item.answer.set_result(_too_late(item.command))


def _too_late(command: Command) -> Answer:
    return Answer(ok=isinstance(command, StopRun), text="the run is ending")
