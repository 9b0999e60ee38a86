"""What a verdict on a series leads to: nothing, advice, or a flag file and a command of the user's.

The flag is for whoever drives the microscope (`scripts/serialem`); it is there as long as the series is rejected. The
command is started without a shell, ended after a time limit, and never waited for. Both are the run's own settings:
what is set for one folder, which anybody who may send commands can do, does not count.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from streamtomo.config_judge import Judge
from streamtomo.errors import OutputError
from streamtomo.export.imod import write_text
from streamtomo.messages import Event, SeriesJudged, Warned

FOLDER = "judge"
"""Below the output folder, for the flags."""
LAST_WORDS = 300
"""Characters of what a command wrote that a warning quotes."""


class Actor:
    """Acts on verdicts on series."""

    def __init__(self, settings: Judge, out: Path, tell: Callable[[list[Event]], None]) -> None:
        """`tell` is called from another thread with what became of a command."""
        self._settings, self._folder, self._tell = settings, out / FOLDER, tell
        self._advised: set[str] = set()

    def flag(self, series: str) -> Path:
        """The file that is there while a series is rejected."""
        return self._folder / f"{series}.reject"

    def judged(self, event: SeriesJudged) -> Sequence[Event]:
        """Act on a verdict; what people should know of it."""
        if self._settings.action == "off":
            return []
        if event.state != "reject":
            return self._take_back(event)
        if event.series in self._advised:  # only its reasons have changed
            return []
        self._advised.add(event.series)
        news: list[Event] = [Warned(code="series.reject", text=advice(event), series=event.series)]
        return [*news, *self._act(event)] if self._settings.action == "act" else news

    def _take_back(self, event: SeriesJudged) -> Sequence[Event]:
        there = self.flag(event.series).exists()
        if not there and event.series not in self._advised:
            return []
        self._advised.discard(event.series)
        self.flag(event.series).unlink(missing_ok=True)
        text = f"{event.series}: the rejection is taken back{', its flag removed' if there else ''}"
        return [Warned(code="series.reject", text=text, series=event.series)]

    def _act(self, event: SeriesJudged) -> Sequence[Event]:
        flag = self.flag(event.series)
        try:
            self._folder.mkdir(exist_ok=True)
            write_text(flag, flag_text(event))
        except (OSError, OutputError) as error:
            text = f"{event.series}: its flag cannot be written ({error})"
            return [Warned(code="series.reject", text=text, series=event.series)]
        if self._settings.command:
            places = {"{series}": event.series, "{reason}": "; ".join(event.reasons), "{flag}": str(flag)}
            command = [_filled(part, places) for part in self._settings.command]
            threading.Thread(target=self._run, args=(event.series, command), daemon=True, name="command").start()
        return []

    def _run(self, series: str, command: Sequence[str]) -> None:
        text = run_command(command, self._settings.command_limit_s)
        self._tell([Warned(code="judge.command", text=f"{series}: {command[0]} {text}", series=series)])


def advice(event: SeriesJudged) -> str:
    """What to do about a rejected series, and why."""
    parts = [f"{event.series}: end this series ({'; '.join(event.reasons)})"]
    parts += [f"first tilt at fault: {event.first_fault}"] if event.first_fault is not None else []
    parts += [f"usable: {event.usable}"] if event.usable else []
    return "; ".join(parts)


def flag_text(event: SeriesJudged) -> str:
    """The flag's lines: the series' name, and then what is known, one `key: value` a line."""
    known = {
        "verdict": event.state,
        "reason": "; ".join(event.reasons),
        "first tilt at fault": event.first_fault,
        "usable": event.usable,
        "forecast": event.forecast,
        "confidence": event.confidence,
    }
    lines = [event.series, *(f"{key}: {value}" for key, value in known.items() if value not in (None, ""))]
    return "\n".join(lines) + "\n"


def run_command(command: Sequence[str], limit_s: float) -> str:
    """Run a program without a shell and without input; how it ended, in words."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return f"was ended after {limit_s:g} s"
    except OSError as error:
        return f"cannot be started ({error.strerror})"
    said = " ".join((done.stdout + done.stderr).split())[-LAST_WORDS:]
    return f"ended with status {done.returncode}{f': {said}' if said else ''}"


def _filled(part: str, places: dict[str, str]) -> str:
    """The argument with the places filled once: what is filled in is not looked at again."""
    head = [(part.find(place), place) for place in places if place in part]
    if not head:
        return part
    at, place = min(head)
    return part[:at] + places[place] + _filled(part[at + len(place) :], places)
