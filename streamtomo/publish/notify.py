"""Sends notes by webhook and e-mail, from a thread of its own: whatever the network does, the run does not wait.

What cannot be sent is tried again with growing pauses, and warned of once. Secrets come from the environment or from
files, and are in no message: errors are told by their kind.
"""

from __future__ import annotations

import json
import os
import queue
import smtplib
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path

from streamtomo.config_notify import Notify
from streamtomo.errors import SettingsError
from streamtomo.messages import Envelope, Warned
from streamtomo.publish.notes import Note, Notes

LOOK_S = 1.0
TIMEOUT_S = 10.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 15.0, 900.0
MOST_KEPT = 50
"""Notes that wait while they cannot be sent; older ones are let go."""
Send = Callable[[Note], None]


def secret(place: str, setting: str) -> str:
    """What is kept at `env:VARIABLE` or in `file:PATH`. Raises SettingsError."""
    kind, _, where = place.partition(":")
    if kind == "env":
        found = os.environ.get(where, "")
    else:
        try:
            found = Path(where).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{setting}: {where} cannot be read ({type(error).__name__})") from None
    if not found.strip():
        raise SettingsError(f"{setting}: {place} is empty; put it there before the run begins")
    return found.strip()


def senders(settings: Notify) -> dict[str, Send]:
    """By the name of each way that is set up, what sends a note that way. Raises SettingsError."""
    found: dict[str, Send] = {}
    if settings.webhook is not None:
        url = secret(settings.webhook, "notify.webhook")
        if not url.startswith(("https://", "http://")):
            raise SettingsError("notify.webhook: what is kept there is no http(s) address")
        found["webhook"] = lambda note: _post(url, note)
    if settings.email_to is not None:
        login = secret(settings.smtp_login, "notify.smtp_login") if settings.smtp_login is not None else None
        if login is not None and ":" not in login:
            raise SettingsError("notify.smtp_login: what is kept there is not USER:PASSWORD")
        found["e-mail"] = lambda note: _mail(settings, login, note)
    return found


def _post(url: str, note: Note) -> None:
    body = json.dumps({"text": f"{note.title}\n{note.text}"}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S):
        pass


def _mail(settings: Notify, login: str | None, note: Note) -> None:
    message, to = EmailMessage(), (settings.email_to or "").split()
    message["Subject"], message["From"], message["To"] = note.title, settings.email_from, ", ".join(to)
    message.set_content(note.text)
    host, _, port = settings.smtp.rpartition(":")
    make = smtplib.SMTP_SSL if port == "465" else smtplib.SMTP
    with make(host, int(port), timeout=TIMEOUT_S) as server:
        if port == "587":
            server.starttls(context=ssl.create_default_context())
        if login is not None:
            user, _, password = login.partition(":")
            server.login(user, password)
        server.send_message(message, to_addrs=to)


class Notifier(threading.Thread):
    """Listens to a run, and sends what its people are to know."""

    def __init__(self, settings: Notify, ways: dict[str, Send], name: str, warn: Callable[[Warned], None]) -> None:
        super().__init__(name="notify", daemon=True)
        self._notes, self._ways, self._warn = Notes(settings, name, time.time()), ways, warn
        self._heard: queue.SimpleQueue[Envelope | None] = queue.SimpleQueue()
        self._waiting: dict[str, list[Note]] = {way: [] for way in ways}
        self._pause = dict.fromkeys(ways, 0.0)
        self._again = dict.fromkeys(ways, 0.0)

    def hear(self, envelope: Envelope) -> None:
        """Listener of the engine; returns at once."""
        self._heard.put(envelope)

    def stop(self) -> None:
        """Send what is left, and end."""
        self._heard.put(None)

    def run(self) -> None:
        """The thread."""
        going = True
        while going:
            going = self._hear()
            now = time.time()
            local = time.localtime(now)
            for note in self._notes.due(now, local.tm_hour + local.tm_min / 60, last=not going):
                for waiting in self._waiting.values():
                    waiting.append(note)
                    del waiting[:-MOST_KEPT]
            for way in self._ways:
                if not going or time.monotonic() >= self._again[way]:
                    self._send(way)

    def _hear(self) -> bool:
        """Take in what happened, or wait a little; whether the run goes on."""
        try:
            heard = self._heard.get(timeout=LOOK_S)
            while heard is not None:
                self._notes.take(heard)
                heard = self._heard.get_nowait()
        except queue.Empty:
            return True
        return False

    def _send(self, way: str) -> None:
        waiting = self._waiting[way]
        try:
            while waiting:
                self._ways[way](waiting[0])
                del waiting[0]
            self._pause[way] = 0.0
        except (OSError, smtplib.SMTPException, ValueError) as error:
            self._pause[way] = min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, 2 * self._pause[way]))
            self._again[way] = time.monotonic() + self._pause[way]
            text = f"notes by {way} cannot be sent ({kind_of(error)}); they are tried again"
            self._warn(Warned(code="notify.failed", text=text))


def kind_of(error: Exception) -> str:
    """An error in words that hold no address and no password."""
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return type(error.reason).__name__
    return type(error).__name__


@contextmanager
def notified(
    settings: Notify, name: str, warn: Callable[[Warned], None]
) -> Iterator[Callable[[Envelope], None] | None]:
    """What is to hear of all events while a run lasts; None where nobody is to be notified. Raises SettingsError."""
    ways = senders(settings)
    if not ways:
        yield None
        return
    notifier = Notifier(settings, ways, name, warn)
    notifier.start()
    try:
        yield notifier.hear
    finally:
        notifier.stop()
        notifier.join(2 * TIMEOUT_S)
