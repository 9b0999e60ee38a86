"""The life of one series: a pure machine. What happens goes in with its time, what is to be done comes out.

Its methods answer with commands and never change the state by themselves: every change is an event (`Say`), applied
at once through `apply`. So a restart that applies the journal's events stands where the crash left it.

    collecting ──(a witness)──> complete ──> finishing ──> finished
        ^                        |  |            |             |
        └────── a late tilt ─────┴──│────────────┴─────────────┘
                                    └──> too few

The operator may give a series up (`rejected`) or open it again, whatever its state. A complete series is finished as
soon as no tilt of it waits for the live lane. A finishing that fails is `complete` again, until it is `failed` for
good.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from streamtomo import completion, config_file, retakes, unplaced
from streamtomo.messages import (
    AxisMeasured,
    Event,
    FinishAsked,
    FinishDone,
    FinishFailed,
    FinishStarted,
    SeriesCompleted,
    SeriesDescribed,
    SeriesDropped,
    SeriesJudged,
    SeriesOpened,
    SeriesReopened,
    SeriesTooFew,
    TiltExcluded,
    TiltFailed,
    TiltPlaced,
    TiltReceived,
    TiltRestored,
    TiltRetried,
    TiltUpdated,
    Witness,
)
from streamtomo.model import RawImage, Tilt
from streamtomo.series_record import SeriesRecord

MAX_ATTEMPTS = 4
"""How often a tilt that fails is tried before it is given up."""


class Say(Struct, frozen=True):
    """Write this event to the journal and tell everybody."""

    event: Event


class Process(Struct, frozen=True):
    """Send a tilt through the live lane."""

    series: str
    index: int


class Finish(Struct, frozen=True):
    """Queue the series for the finishing lane."""

    series: str


Command = Say | Process | Finish


class Series(SeriesRecord):
    """One tilt series, from its first image to its tomogram."""

    # -- what happened -------------------------------------------------------------------------------------------

    def image(self, image: RawImage, now: float, *, live: bool = True) -> list[Command]:
        """A settled image of this series was found."""
        known = self._index_of.get(image.key)
        if known is not None:
            return self._metadata(known, image, now)
        if image.gone is not None:
            return []
        events: list[Event] = []
        if self.opened is None:
            events.append(self._opening(image))
        if self.state not in ("collecting", "rejected"):
            events.append(SeriesReopened(series=self.name, reason=f"a tilt at {image.angle_deg:.1f}° came late"))
        tilt = Tilt(index=len(self.tilts), image=image)
        events.append(TiltReceived(series=self.name, tilt=tilt, live=live))
        commands = self._say(events, now)
        commands += self._say(retakes.after(self, tilt.index), now)
        return commands if self.state == "rejected" else [*commands, Process(self.name, tilt.index)]

    def described(self, event: SeriesDescribed, now: float) -> list[Command]:
        """Metadata told something about the series."""
        news = (
            (event.planned_tilts is not None and event.planned_tilts != self.planned)
            or (event.pixel_size_A is not None and event.pixel_size_A != self.pixel_size_A)
            or (event.tilt_axis_deg is not None and event.tilt_axis_deg != self.axis_deg)
        )
        return self._say([event], now) if news else []

    def processed(self, event: TiltPlaced | TiltFailed | SeriesJudged | AxisMeasured, now: float) -> list[Command]:
        """The live lane is done with a tilt."""
        if isinstance(event, TiltPlaced | TiltFailed) and self.tilts[event.index].tilt.image.gone is not None:
            return self.tick(now)  # whatever was read may be another exposure
        commands = self._say([event], now)
        if isinstance(event, TiltPlaced) and self.state != "rejected":
            commands += self._try_again(unplaced.after(self, event.index), now)
        return [*commands, *self.tick(now)]

    def finishing(self, event: FinishStarted | FinishDone | FinishFailed, now: float) -> list[Command]:
        """The finishing lane has news."""
        if self.state in ("collecting", "rejected"):  # meanwhile: whatever was finished is out of date
            return []
        if isinstance(event, FinishFailed):
            self._finish_asked = False
        return [*self._say([event], now), *self._finish_if_due(now)]

    def close(self, now: float, witness: Literal["operator", "silence"], text: str) -> list[Command]:
        """Somebody says that no more tilts will come; it is finished when those that are here are placed."""
        if self.state != "collecting" or not self.tilts:
            return []
        return [*self._complete(witness, text, now), *self._finish_if_due(now)]

    def retry(self, now: float) -> list[Command]:
        """What failed is tried again: tilts, and the finishing."""
        if self.state == "rejected":
            return []
        failed = [index for index, state in self.tilts.items() if state.status == "failed"]
        commands = self._try_again([TiltRetried(series=self.name, index=index) for index in failed], now)
        if self.state == "failed" or (failed and self.state != "collecting"):
            commands += self._again("tried again by the operator", now)
        return commands

    def exclude(self, indices: Iterable[int], reason: str, now: float) -> list[Command]:
        """These tilts are left out from now on; those that are already, or that there are not, change nothing."""
        found = [i for i in indices if i in self.tilts and self.tilts[i].excluded is None]
        commands = self._say([TiltExcluded(series=self.name, index=i, reason=reason) for i in found], now)
        return commands + self._changed(found, now)

    def restore(self, indices: Iterable[int], now: float) -> list[Command]:
        """These tilts count again, also where they were judged bad."""
        found = [i for i in indices if i in self.tilts and not self.tilts[i].usable]
        commands = self._say([TiltRestored(series=self.name, index=i) for i in found], now)
        return commands + self._changed(found, now)

    def reject(self, reason: str, now: float) -> list[Command]:
        """Nothing more is made of it; tilts that come are noted, and wait until it is opened again."""
        if self.state == "rejected":
            return []
        return self._say([SeriesDropped(series=self.name, reason=reason)], now)

    def reopen(self, now: float) -> list[Command]:
        """More tilts are expected: it is closed by silence or the operator, whatever the plan says."""
        if self.state == "collecting":
            return []
        event = SeriesReopened(series=self.name, reason="by the operator, for more tilts", by_operator=True)
        return [*self._say([event], now), *self._waiting()]

    def finish_again(self, overrides: tuple[str, ...], now: float) -> list[Command]:
        """It is finished with changed settings, at once if its tilts are placed. Raises SettingsError."""
        if not self.tilts:
            return []
        config_file.changed(self.settings, overrides)
        commands = self._say([FinishAsked(series=self.name, overrides=overrides)], now) if overrides else []
        waiting = self._waiting() if self.state == "rejected" else []
        return [*commands, *self._again("finished by the operator's order", now), *waiting]

    def tick(self, now: float) -> list[Command]:
        """Time has passed: try failed tilts again, see whether the series is complete, and finish it."""
        commands: list[Command] = []
        if self._last_activity is not None:  # a journal from before the clock was set back is ahead
            self._last_activity = min(self._last_activity, now)
        if self.state == "rejected":
            return commands
        for state in self.tilts.values():
            if state.retry_at is not None and state.retry_at <= now:
                state.status, state.retry_at = "waiting", None
                commands.append(Process(self.name, state.tilt.index))
        if self.state == "collecting" and self.tilts and not self.busy:
            seen = completion.witness(self, now)
            commands += self._complete(*seen, now) if seen else []
        return commands + self._finish_if_due(now)

    def resume(self) -> list[Command]:
        """What is still to be done after a restart."""
        self._finish_at = None
        if self.state == "finishing":  # by a process that is no more
            self.state = "complete"
        return [] if self.state == "rejected" else self._waiting()

    # -- decisions -----------------------------------------------------------------------------------------------

    def _waiting(self) -> list[Command]:
        return [Process(self.name, state.tilt.index) for state in self.tilts.values() if state.status == "waiting"]

    def _say(self, events: Sequence[Event], now: float) -> list[Command]:
        for event in events:
            self.apply(event, now)
        return [Say(event) for event in events]

    def _try_again(self, events: Sequence[TiltRetried], now: float) -> list[Command]:
        return [*self._say(events, now), *(Process(self.name, event.index) for event in events)]

    def _opening(self, image: RawImage) -> SeriesOpened:
        return SeriesOpened(
            series=self.name,
            source=image.path,
            nx=image.nx,
            ny=image.ny,
            pixel_size_A=self.pixel_size_A or image.pixel_size_A,
            tilt_axis_deg=self.axis_deg if self.axis_deg is not None else image.tilt_axis_deg,
            planned_tilts=self.planned,
        )

    def _metadata(self, index: int, image: RawImage, now: float) -> list[Command]:
        """Something about a known image is new: what is known of it, where it lies, or that it is gone."""
        known = self.tilts[index].tilt.image
        if known == image:
            return []
        events: list[Event] = []
        if (known.path, known.section) != (image.path, image.section) and self.state != "collecting":
            events.append(SeriesReopened(series=self.name, reason="its images lie elsewhere now (sorted or renamed)"))
        events.append(TiltUpdated(series=self.name, tilt=Tilt(index=index, image=image)))
        if image.gone is not None and known.gone is None:
            events.append(TiltFailed(series=self.name, index=index, reason=image.gone, final=True))
        return self._say(events, now)

    def _complete(self, witness: Witness, text: str, now: float) -> list[Command]:
        return self._say([SeriesCompleted(series=self.name, witness=witness, text=text, tilts=len(self.kept()))], now)

    def _changed(self, indices: Sequence[int], now: float) -> list[Command]:
        """Which tilts count was changed by hand: what was made of them is out of date."""
        if not indices or self.state in ("collecting", "rejected"):
            return []
        return self._again("the choice of tilts was changed", now)

    def _again(self, text: str, now: float) -> list[Command]:
        return [*self._complete("operator", text, now), *self._finish_if_due(now)]

    def _finish_if_due(self, now: float) -> list[Command]:
        """Finish a complete series, once, when none of its tilts waits any more."""
        waits = self._finish_at is not None and now < self._finish_at
        if self.state != "complete" or self.busy or self._finish_asked or waits:
            return []
        usable, least = len(self.usable()), self.settings.watch.min_tilts
        if usable < least:
            return self._say([SeriesTooFew(series=self.name, usable=usable, needed=least)], now)
        self._finish_asked = True
        return [Finish(self.name)]
