"""The journal: one JSON line for everything that happened, on disk before anybody relies on it.

Append-only. A line cut off by a crash is dropped when the journal is read, and cut away when it is opened again;
nothing else is ever rewritten.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, get_args

import msgspec

from streamtomo.durable import sync_folder
from streamtomo.errors import OutputError, StreamtomoError
from streamtomo.messages import VERSION, WIRE_ONLY, Envelope, Event

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Envelope)
_MALFORMED = (ValueError, RecursionError)
"""What a decoder raises: wrong JSON, wrong fields (both `ValueError`), bytes that are no UTF-8, bottomless nesting."""


class _Head(msgspec.Struct):
    """What every version of an envelope has."""

    version: int
    event: object = None

    @property
    def kind(self) -> object:
        return self.event.get("kind") if isinstance(self.event, dict) else None


_HEAD = msgspec.json.Decoder(_Head)
_KINDS = frozenset(kind.__struct_config__.tag for kind in get_args(Event))


class Journal:
    """Appends envelopes to a file; each is on disk when `append` returns."""

    def __init__(self, path: Path) -> None:
        """Open for appending; that the file is there is on disk, too. Raises OutputError if that cannot be."""
        self.path = path
        try:
            _cut_torn_tail(path)
            self._file: BinaryIO = path.open("ab", buffering=0)
            sync_folder(path.parent)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be opened ({error.strerror}); mend the permissions or choose another --out"
            ) from error
        self._end = os.fstat(self._file.fileno()).st_size
        self._torn = False
        """Whether something may lie behind the end."""

    def append(self, *envelopes: Envelope) -> None:
        """Write and sync; several that come together cost one sync. Events that are wire only are left out.

        Raises OutputError if the disk is full; then nothing of these is in the journal.
        """
        lines = b"".join(
            _ENCODER.encode(envelope) + b"\n" for envelope in envelopes if not isinstance(envelope.event, WIRE_ONLY)
        )
        if not lines:
            return
        try:
            self._mend()
            self._torn = True
            _write_all(self._file, lines)
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # else before the next attempt
                self._mend()
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}); make room on the disk") from error
        self._end, self._torn = self._end + len(lines), False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _mend(self) -> None:
        """Cut away what an append that failed left behind."""
        if self._torn:
            os.ftruncate(self._file.fileno(), self._end)
            self._torn = False


def _write_all(file: BinaryIO, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _cut_torn_tail(path: Path) -> None:
    """Cut away what follows the last newline; an empty file is made where there is none."""
    path.open("ab").close()
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        keep, block = size, 1 << 16
        while keep > 0:
            start = max(0, keep - block)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < size:
            file.truncate(keep)


def read(path: Path) -> Iterator[Envelope]:
    """All envelopes of a journal in order; none if there is no journal.

    A torn last line and kinds of events that this version does not know are left out. Raises StreamtomoError for a
    journal of a newer version, one with a damaged line, or one that cannot be opened.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise StreamtomoError(f"{path}: cannot be read ({error.strerror}); mend the permissions") from None
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            if (envelope := _decode(line, f"{path}, line {number}")) is not None:
                yield envelope


def _decode(line: bytes, where: str) -> Envelope | None:
    try:
        return _DECODER.decode(line)
    except _MALFORMED as error:
        head = _head(line)
        if head is not None and head.version > VERSION:
            raise StreamtomoError(f"{where}: was written by a newer streamtomo; use that one") from None
        if head is None or head.kind is None or head.kind in _KINDS:  # without it the others would not fit together
            raise StreamtomoError(f"{where}: is damaged ({error}); move the journal away to start anew") from None
        return None


def _head(line: bytes) -> _Head | None:
    try:
        return _HEAD.decode(line)
    except _MALFORMED:
        return None
