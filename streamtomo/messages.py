"""Everything that can happen, one tagged record each.

The same record is a line of the journal, a message on the wire, the dashboard's input and what a restart replays.
Readers tolerate fields they do not know; `VERSION` says which meaning the fields have. Events marked *wire only* are
not kept in the journal. The records are in modules by what they are about; all others import them from here.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from streamtomo.commands import Answer as Answer
from streamtomo.commands import CloseSeries as CloseSeries
from streamtomo.commands import Command as Command
from streamtomo.commands import ExcludeTilts as ExcludeTilts
from streamtomo.commands import FinishSeries as FinishSeries
from streamtomo.commands import PauseFinishing as PauseFinishing
from streamtomo.commands import RejectSeries as RejectSeries
from streamtomo.commands import ReopenSeries as ReopenSeries
from streamtomo.commands import Request as Request
from streamtomo.commands import RestoreTilts as RestoreTilts
from streamtomo.commands import ResumeFinishing as ResumeFinishing
from streamtomo.commands import RetryFile as RetryFile
from streamtomo.commands import RetrySeries as RetrySeries
from streamtomo.commands import SaveVolume as SaveVolume
from streamtomo.commands import SeriesOrder as SeriesOrder
from streamtomo.commands import StopRun as StopRun
from streamtomo.commands import WatchFolder as WatchFolder
from streamtomo.events_run import AlarmCleared as AlarmCleared
from streamtomo.events_run import AlarmRaised as AlarmRaised
from streamtomo.events_run import FileRefused as FileRefused
from streamtomo.events_run import FileRetried as FileRetried
from streamtomo.events_run import Finding as Finding
from streamtomo.events_run import FinishingPaused as FinishingPaused
from streamtomo.events_run import FinishingResumed as FinishingResumed
from streamtomo.events_run import FolderAdded as FolderAdded
from streamtomo.events_run import FolderTested as FolderTested
from streamtomo.events_run import Heartbeat as Heartbeat
from streamtomo.events_run import OrderGiven as OrderGiven
from streamtomo.events_run import SessionEnded as SessionEnded
from streamtomo.events_run import SessionStarted as SessionStarted
from streamtomo.events_run import Warned as Warned
from streamtomo.events_series import AxisMeasured as AxisMeasured
from streamtomo.events_series import FinishAsked as FinishAsked
from streamtomo.events_series import FinishDone as FinishDone
from streamtomo.events_series import FinishFailed as FinishFailed
from streamtomo.events_series import FinishStarted as FinishStarted
from streamtomo.events_series import FinishStep as FinishStep
from streamtomo.events_series import Picture as Picture
from streamtomo.events_series import SeriesCompleted as SeriesCompleted
from streamtomo.events_series import SeriesDescribed as SeriesDescribed
from streamtomo.events_series import SeriesDropped as SeriesDropped
from streamtomo.events_series import SeriesJudged as SeriesJudged
from streamtomo.events_series import SeriesOpened as SeriesOpened
from streamtomo.events_series import SeriesRejected as SeriesRejected
from streamtomo.events_series import SeriesReopened as SeriesReopened
from streamtomo.events_series import SeriesState as SeriesState
from streamtomo.events_series import SeriesTooFew as SeriesTooFew
from streamtomo.events_series import SeriesVerdict as SeriesVerdict
from streamtomo.events_series import TomogramReady as TomogramReady
from streamtomo.events_series import Witness as Witness
from streamtomo.events_tilt import TiltExcluded as TiltExcluded
from streamtomo.events_tilt import TiltFailed as TiltFailed
from streamtomo.events_tilt import TiltPlaced as TiltPlaced
from streamtomo.events_tilt import TiltReceived as TiltReceived
from streamtomo.events_tilt import TiltRestored as TiltRestored
from streamtomo.events_tilt import TiltRetried as TiltRetried
from streamtomo.events_tilt import TiltScored as TiltScored
from streamtomo.events_tilt import TiltUpdated as TiltUpdated
from streamtomo.events_volume import TiltRealigned as TiltRealigned
from streamtomo.events_volume import VolumeIterated as VolumeIterated
from streamtomo.events_volume import VolumeRebuilt as VolumeRebuilt
from streamtomo.events_volume import VolumeSaved as VolumeSaved
from streamtomo.happening import Happening as Happening
from streamtomo.model import RawImage

VERSION = 1

Event = (
    SessionStarted
    | SessionEnded
    | FolderAdded
    | FolderTested
    | SeriesOpened
    | SeriesDescribed
    | TiltReceived
    | TiltUpdated
    | TiltPlaced
    | TiltScored
    | TiltRealigned
    | VolumeRebuilt
    | VolumeIterated
    | VolumeSaved
    | TiltFailed
    | TiltRetried
    | TiltExcluded
    | TiltRestored
    | FileRefused
    | FileRetried
    | Warned
    | AlarmRaised
    | AlarmCleared
    | SeriesJudged
    | AxisMeasured
    | SeriesCompleted
    | SeriesTooFew
    | SeriesReopened
    | SeriesDropped
    | FinishAsked
    | FinishingPaused
    | FinishingResumed
    | FinishStarted
    | FinishStep
    | FinishDone
    | FinishFailed
    | TomogramReady
    | SeriesRejected
    | OrderGiven
    | Heartbeat
    | Picture
)

WIRE_ONLY = (Heartbeat, Picture, TomogramReady, SeriesRejected)

Sighting = RawImage | SeriesDescribed | FileRefused | Warned
"""What the folder watcher yields."""


class Envelope(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """An event with its place in the stream."""

    version: int
    session: str
    """Identifies one start of the program."""
    seq: int
    """Counts all envelopes of the session from 1, without gaps."""
    topic_seq: int = 0
    """Counts those of the same topic from 1, for who subscribes to a few; 0 in journals older than the count."""
    time_s: float
    """When it happened, seconds since 1970 (UTC)."""
    event: Event


def topic(event: Event) -> str:
    """`kind/series/`, or `kind/` for events of no series: it ends in a slash, so that TS_1 never matches TS_10."""
    kind = event.__struct_config__.tag
    series = getattr(event, "series", None)
    return f"{kind}/{series}/" if series else f"{kind}/"


_ENCODER, _EVENTS = msgspec.json.Encoder(), msgspec.json.Decoder(Event)


def can_be_read(event: Event) -> bool:
    """Whether its readers will take it: a number that is none is written as nothing, which passes for no number."""
    try:
        _EVENTS.decode(_ENCODER.encode(event))
    except msgspec.ValidationError:
        return False
    return True
