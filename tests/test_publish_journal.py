"""The journal: what is written is read again; what a crash or a full disk leaves behind does no harm."""

import errno
import os

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamtomo.errors import OutputError, StreamtomoError
from streamtomo.messages import (
    VERSION,
    Envelope,
    FileRefused,
    Heartbeat,
    Picture,
    SessionEnded,
    TiltFailed,
    Warned,
)
from streamtomo.publish import journal
from streamtomo.publish.journal import Journal


def envelope(seq, event=None):
    event = event or Warned(code="test", text=f"number {seq}")
    return Envelope(version=VERSION, session="s1", seq=seq, time_s=1000.0 + seq, event=event)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


@pytest.fixture
def book(path):
    opened = Journal(path)
    yield opened
    opened.close()


def write(path, *envelopes):
    book = Journal(path)
    book.append(*envelopes)
    book.close()


def line(version=VERSION, **event):
    head = {"version": version, "session": "s1", "seq": 9, "time_s": 1.0}
    return msgspec.json.encode({**head, "event": event}) + b"\n"


def test_what_was_written_is_read_again(path):
    told = [envelope(1), envelope(2, TiltFailed(series="TS", index=0, reason="é µ °")), envelope(3)]
    write(path, told[0])
    write(path, *told[1:])
    assert list(journal.read(path)) == told
    assert path.read_bytes().count(b"\n") == 3


def test_no_journal_is_an_empty_one(path):
    assert list(journal.read(path)) == []


def test_what_is_for_the_wire_only_is_left_out(path, book):
    picture = Picture(series="TS", plane="xy", tilts=1, width=1, height=1, pixels=b"\0")
    book.append(envelope(1, Heartbeat(backlog=0)), envelope(2, picture))
    assert path.read_bytes() == b""
    book.append(envelope(3), envelope(4, Heartbeat(backlog=0)))
    assert [one.seq for one in journal.read(path)] == [3]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_journal_cut_anywhere_loses_no_whole_line(path, data):
    path.unlink(missing_ok=True)
    write(path, *(envelope(n, FileRefused(path=f"/data/ß_{n}", reason="x" * 40 * n)) for n in range(1, 5)))
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    assert [one.seq for one in journal.read(path)] == list(range(1, kept + 1))
    write(path, envelope(9))
    assert [one.seq for one in journal.read(path)] == [*range(1, kept + 1), 9], (
        "the new line is not glued to the torn one"
    )


def test_a_torn_line_longer_than_a_block_is_cut(path):
    write(path, envelope(1))
    with path.open("ab") as file:
        file.write(b"\0" * 200_000)
    write(path, envelope(2))
    assert [one.seq for one in journal.read(path)] == [1, 2]


def test_a_file_that_is_all_torn_is_emptied(path):
    path.write_bytes(b"{" * 100_000)
    write(path, envelope(1))
    assert [one.seq for one in journal.read(path)] == [1]


def test_kinds_and_fields_of_later_versions_are_tolerated(path):
    write(path, envelope(1))
    with path.open("ab") as file:
        file.write(line(kind="tilt.dreamt", of="sheep"))
        file.write(line(kind="warning", code="c", text="t", mood="new field"))
    write(path, envelope(10))
    assert [one.seq for one in journal.read(path)] == [1, 9, 10]


@pytest.mark.parametrize("event", [{"kind": "warning"}, {"kind": "tilt.dreamt"}, {}])
def test_another_meaning_of_the_fields_is_refused(path, event):
    path.write_bytes(line(version=VERSION + 1, **event))
    with pytest.raises(StreamtomoError, match="line 1: was written by a newer streamtomo"):
        list(journal.read(path))


@pytest.mark.parametrize(
    "bad",
    [
        b"shopping list\n",
        b"\n",
        b"\0\0\0\n",
        b'{"version": 1}\n',
        b'{"version": 1, "event": {"kind": "\xff"}}\n',
        b'{"version": 1, "event": ' + b"[" * 50_000 + b"\n",
        line(kind="warning", code="c", text=None),
        line(kind="tilt.failed", series="TS", index="one", reason="r"),
    ],
)
def test_a_damaged_line_is_named_and_not_passed_over(path, bad):
    """Without a line that counted, the others would not fit together."""
    write(path, envelope(1))
    with path.open("ab") as file:
        file.write(bad)
    write(path, envelope(2))
    lines = journal.read(path)
    assert next(lines).seq == 1
    with pytest.raises(StreamtomoError, match=r"journal.jsonl, line 2: is damaged .* move the journal away"):
        next(lines)


def test_a_full_disk_leaves_the_journal_as_it_was(path, book, monkeypatch):
    book.append(envelope(1))

    def half(file, content):
        file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(journal, "_write_all", half)
        with pytest.raises(OutputError, match="No space left on device"):
            book.append(envelope(2), envelope(3))
    assert [one.seq for one in journal.read(path)] == [1]
    book.append(envelope(2), envelope(3))
    assert [one.seq for one in journal.read(path)] == [1, 2, 3]


def test_what_could_not_even_be_cut_away_is_cut_before_the_next_line(path, book, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as bad:
        bad.setattr(os, "fsync", broken)
        bad.setattr(os, "ftruncate", broken)
        for _ in range(2):
            with pytest.raises(OutputError, match="Input/output error"):
                book.append(envelope(1))
    book.append(envelope(2))
    assert [one.seq for one in journal.read(path)] == [2]


def test_every_line_is_synced(book, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    book.append(envelope(1))
    book.append(envelope(2), envelope(3))
    assert len(synced) == 2, "those that come together cost one"


def test_that_a_new_journal_is_there_is_on_disk_before_it_is_used(path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    Journal(path).close()
    assert synced == [str(path.parent)]


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    with pytest.raises(OutputError, match="cannot be opened"):
        Journal(tmp_path)
    with pytest.raises(OutputError, match="cannot be opened"):
        Journal(tmp_path / "nowhere" / "journal.jsonl")
    with pytest.raises(StreamtomoError, match="cannot be read"):
        list(journal.read(tmp_path))


def test_the_last_words_of_a_session_are_there(path):
    write(path, envelope(1), envelope(2, SessionEnded(reason="Ctrl-C")))
    *_, last = journal.read(path)
    assert last.event.reason == "Ctrl-C"
