"""The journal: one JSON line for everything that happened, on disk before anybody relies on it.

Append-only. A line cut off by a crash is dropped when the journal is read, and cut away when it is opened again;
nothing else is ever rewritten.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from streamtomo.errors import OutputError, StreamtomoError
from streamtomo.messages import VERSION, WIRE_ONLY, Envelope

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Envelope)
_MALFORMED = (ValueError, RecursionError)
"""What a decoder raises: wrong JSON, wrong fields (both `ValueError`), bytes that are no UTF-8, bottomless nesting."""


class _Head(msgspec.Struct):
    """What every version of an envelope has."""

    version: int


_HEAD = msgspec.json.Decoder(_Head)


class Journal:
    """Appends envelopes to a file; each is on disk when `append` returns."""

    def __init__(self, path: Path) -> None:
        """Open for appending. Raises OutputError if that cannot be."""
        self.path = path
        try:
            self._file: BinaryIO = path.open("ab", buffering=0)
            _cut_torn_tail(path)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be opened ({error.strerror}); mend the permissions or choose another --out"
            ) from error

    def append(self, *envelopes: Envelope) -> None:
        """Write and sync; several that come together cost one sync. Events that are wire only are left out.

        Raises OutputError if the disk is full; then nothing of these is in the journal.
        """
        lines = b"".join(
            _ENCODER.encode(envelope) + b"\n" for envelope in envelopes if not isinstance(envelope.event, WIRE_ONLY)
        )
        if not lines:
            return
        end = os.fstat(self._file.fileno()).st_size
        try:
            _write_all(self._file, lines)
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), end)
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}); make room on the disk") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _write_all(file: BinaryIO, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _cut_torn_tail(path: Path) -> None:
    """Cut away what follows the last newline."""
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
    journal of a newer version, or one with a line that is no envelope.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            if (envelope := _decode(line, f"{path}, line {number}")) is not None:
                yield envelope


def _decode(line: bytes, where: str) -> Envelope | None:
    try:
        return _DECODER.decode(line)
    except msgspec.DecodeError as error:
        version = _version(line)
        if version is None:
            raise StreamtomoError(
                f"{where}: is no record of streamtomo ({error}); move the journal away to start anew"
            ) from None
        if version > VERSION:
            raise StreamtomoError(f"{where}: was written by a newer streamtomo; use that one") from None
        return None


def _version(line: bytes) -> int | None:
    try:
        return _HEAD.decode(line).version
    except msgspec.DecodeError:
        return None
