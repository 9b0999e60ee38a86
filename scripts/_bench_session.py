"""A session that is told to readers, made up."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec

from streamtomo import messages
from streamtomo.messages import VERSION, Answer, Envelope, TiltPlaced
from streamtomo.model import Correction, Placement, Verdict
from streamtomo.publish.bus import Publisher
from streamtomo.publish.state import SessionState

PORT = 5950


class Session:
    """A publisher with the state behind it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.seq, self.state = name, 0, SessionState()
        self.lock = threading.Lock()
        self.publisher = Publisher(
            session=name,
            bind="127.0.0.1",
            port=PORT,
            curve_keys=None,
            snapshot=self.snapshot,
            command=lambda command, by: Answer(ok=True, text="done"),
            command_socket=folder / ".command",
        )
        self.endpoint = self.publisher.endpoint

    def snapshot(self) -> bytes:
        with self.lock:
            return msgspec.json.encode(self.state)

    def say(self, event: messages.Event) -> None:
        self.seq += 1
        one = Envelope(version=VERSION, session=self.name, seq=self.seq, topic_seq=1, time_s=time.time(), event=event)
        with self.lock:
            self.state.apply(one)
        self.publisher.publish(one)


def placed(series: str, index: int, angle: float = 0.0) -> TiltPlaced:
    """As the live lane tells it."""
    return TiltPlaced(
        series=series,
        index=index,
        angle_deg=angle,
        correction=Correction(repaired=40 + index, binning=8, mean=100.0, sd=10.0),
        placement=Placement(shift_x=1.5 * index, shift_y=-2.5, score=90.0 - index, ambiguity=0.2, neighbour=0),
        verdict=Verdict(state="good"),
        in_volume=True,
        stage_ms={"wait": 5, "read": 16, "correct": 9, "align": 45, "reconstruct": 18, "show": 2, "total": 98},
    )
