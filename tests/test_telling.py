"""Telling everybody, through a full disk and a restart."""

import msgspec

from streamtomo import messages
from streamtomo.errors import OutputError
from streamtomo.messages import (
    AlarmCleared,
    AlarmRaised,
    Heartbeat,
    Picture,
    SeriesJudged,
    TiltFailed,
    Warned,
)
from streamtomo.publish import journal
from streamtomo.publish.state import SessionState
from streamtomo.telling import Pictures, Teller


def warned(code):
    return Warned(code=code, text="x")


class FullDisk:
    """A journal that fails while `full`."""

    def __init__(self):
        self.full, self.kept = True, []

    def append(self, envelope):
        if self.full:
            raise OutputError("no space left")
        self.kept.append(envelope)

    def close(self):
        pass


def test_what_cannot_be_written_is_kept_and_written_when_there_is_room(tmp_path):
    heard = []
    teller = Teller(tmp_path, [heard.append])
    list(teller.open())
    teller.close()
    teller._journal = disk = FullDisk()
    teller.say(warned("a"))
    teller.say(warned("b"))
    assert [one.event.code for one in heard] == ["a", "journal.unwritable", "b"], "said once, and everything is heard"
    disk.full = False
    teller.say(Heartbeat(backlog=0))
    assert [type(one.event) for one in disk.kept] == [Warned, AlarmRaised, Warned, AlarmCleared]
    assert [one.seq for one in heard] == [1, 2, 3, 4, 5]


def test_a_warning_is_said_once_even_after_a_restart(tmp_path):
    for _ in range(2):
        teller = Teller(tmp_path, [])
        list(teller.open())
        teller.once(warned("axis.unknown"))
        teller.once(warned("axis.unknown"))
        teller.close()
    assert [one.event.code for one in journal.read(tmp_path / "journal.jsonl")] == ["axis.unknown"]


def test_the_state_lacks_nothing_when_the_journal_fails(tmp_path):
    """The warning about the journal comes after the event that could not be written, not in its place."""
    teller = Teller(tmp_path, [])
    teller._journal = FullDisk()
    for n in range(3):
        teller.say(TiltFailed(series="TS", index=n, reason="x"))
    state = msgspec.json.decode(teller.state(), type=SessionState)
    assert list(state.series["TS"].tilts) == [0, 1, 2]
    assert (state.seq, state.missed) == (4, 0)


def test_every_outage_of_the_journal_is_said_once(tmp_path):
    heard = []
    teller = Teller(tmp_path, [heard.append])
    teller._journal = disk = FullDisk()
    for full in (True, True, False, True, True):
        disk.full = full
        teller.say(warned("a"))
    alarms = [type(one.event) for one in heard if not isinstance(one.event, Warned)]
    assert alarms == [AlarmRaised, AlarmCleared, AlarmRaised]


def test_each_topic_counts_for_itself_and_what_others_wait_for_follows(tmp_path):
    heard = []
    teller = Teller(tmp_path, [heard.append])
    list(teller.open())
    teller.say(SeriesJudged(series="A", state="reject", reasons=("dark",)))
    teller.say(SeriesJudged(series="B", state="watch"))
    teller.say(messages.SeriesDropped(series="A", reason="ice"))
    teller.say(Heartbeat(backlog=0))
    teller.close()
    assert [(messages.topic(one.event), one.topic_seq) for one in heard] == [
        ("series.judged/A/", 1),
        ("series.rejected/A/", 1),
        ("series.judged/B/", 1),
        ("series.dropped/A/", 1),
        ("series.rejected/A/", 2),
        ("heartbeat/", 1),
    ]
    assert [one.event.by for one in heard if isinstance(one.event, messages.SeriesRejected)] == ["judge", "operator"]
    kept = [type(one.event) for one in journal.read(tmp_path / "journal.jsonl")]
    assert kept == [SeriesJudged, SeriesJudged, messages.SeriesDropped]


def test_pictures_are_told_once_a_second_and_the_last_one_always():
    pictures = Pictures()
    xy, xz = (
        [Picture(series="A", plane=plane, tilts=n, width=1, height=1, pixels=b"0") for n in range(5)]
        for plane in ("xy", "xz")
    )
    assert pictures.offer(xy[0], 10.0) == [xy[0]]
    assert pictures.offer(xz[0], 10.0) == [xz[0]]
    assert [pictures.offer(one, 10.1) for one in xy[1:]] == [[]] * 4
    assert pictures.due(10.9) == []
    assert pictures.due(11.0) == [xy[4]]
    assert pictures.due(99.0) == []
