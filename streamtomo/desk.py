"""Where people's orders come in: those for the run are carried out here, those for a series by its machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from streamtomo import messages, orders
from streamtomo.config import Settings
from streamtomo.errors import SettingsError
from streamtomo.folders import Folders
from streamtomo.lanes import FinishQueue, LiveQueue
from streamtomo.messages import FolderAdded
from streamtomo.outfolder import check_folder
from streamtomo.roster import Roster
from streamtomo.series import Command
from streamtomo.steady import now_s
from streamtomo.telling import Teller


class Desk:
    """Takes the orders of a run; only the dispatcher's thread calls it."""

    def __init__(
        self,
        out: Path,
        settings: Settings,
        series: Roster,
        folders: Folders,
        live: LiveQueue,
        finishing: FinishQueue,
        teller: Teller,
        *,
        perform: Callable[[Sequence[Command]], None],
        stop: Callable[[str], None],
    ) -> None:
        """`perform` does what a series' machine wants done, `stop` ends the run for a reason."""
        self._out, self._settings, self._series, self._folders = out, settings, series, folders
        self._live, self._finishing, self._teller, self._perform, self._stop = live, finishing, teller, perform, stop

    def obey(self, command: messages.Command, by: str) -> messages.Answer:
        """Carry out a command, and tell who gave it and what came of it."""
        try:
            answer = self._carry_out(command)
        except SettingsError as error:
            answer = messages.Answer(ok=False, text=str(error))
        order = msgspec.to_builtins(command)
        self._teller.say(messages.OrderGiven(by=by, order=order, ok=answer.ok, text=answer.text))
        return answer

    def add_folder(self, path: str, overrides: tuple[str, ...] = ()) -> None:
        """Watch a further folder, or one with other settings; raises SettingsError."""
        check_folder(Path(path), self._out)
        event = FolderAdded(path=path, overrides=overrides)
        self._folders.apply(event, self._settings)
        self._teller.say(event)

    def _carry_out(self, command: messages.Command) -> messages.Answer:
        """Raises SettingsError where its settings are wrong."""
        match command:
            case messages.StopRun():
                self._stop("stopped by command")
                return messages.Answer(ok=True, text="stopping")
            case messages.WatchFolder():
                self.add_folder(command.path, command.overrides)
                return messages.Answer(ok=True, text=f"watching {command.path}")
            case messages.PauseFinishing() | messages.ResumeFinishing():
                return self._pause(pause=isinstance(command, messages.PauseFinishing))
            case messages.SaveVolume():
                series = self._series.get(command.series)
                return self._unknown(command.series) if series is None else self._live.save(series)
            case messages.RetryFile():
                refused = self._teller.refused()
                return self._look_again([command.path] if command.path in refused else [], command.path)
            case _:
                return self._carry_out_on_series(command)

    def _carry_out_on_series(self, command: messages.SeriesOrder) -> messages.Answer:
        series = self._series.get(command.series)
        if isinstance(command, messages.RetrySeries):
            settings = series.settings if series else self._settings
            refused = orders.refused_of(command.series, settings, self._teller.refused())
            again = self._look_again(refused, command.series)
            if series is None and again.ok:
                return again
        if series is None:
            return self._unknown(command.series)
        commands, answer = orders.carry_out(command, series, now_s())
        self._perform(commands)
        return again if isinstance(command, messages.RetrySeries) and not answer.ok else answer

    def _unknown(self, series: str) -> messages.Answer:
        return messages.Answer(ok=False, text=f"no series {series}; known: {', '.join(self._series) or 'none yet'}")

    def _look_again(self, paths: Sequence[str], wanted: str) -> messages.Answer:
        """Look again at refused files; `wanted` names what was asked for."""
        for path in paths:
            self._teller.retried(path)
            self._folders.look_again(path)
        text = f"looking again at {', '.join(paths)}" if paths else f"nothing of {wanted} has failed or was refused"
        return messages.Answer(ok=bool(paths), text=text)

    def _pause(self, *, pause: bool) -> messages.Answer:
        if pause == self._finishing.paused:
            return messages.Answer(ok=False, text=f"finishing is {'paused' if pause else 'not paused'} already")
        self._teller.say(messages.FinishingPaused() if pause else messages.FinishingResumed())
        self._finishing.pause(pause=pause)
        return messages.Answer(ok=True, text="finishing pauses" if pause else "finishing goes on")
