"""Movies in Thermo Fisher's electron-event representation: where each electron struck, camera frame by camera frame.

A BigTIFF whose pages are the camera's frames, top row first. A page's one strip is a stream of bits, least significant
first: the number of empty pixels up to the next event (all bits set: as many, and no event yet), then the event's place
inside its pixel. Format: EER File Format Documentation 3.0 (Thermo Fisher Scientific, 2023).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Coding:
    """How many bits a code has, and the number that TIFF knows this by."""

    compression: int = 65001
    skip_bits: int = 7
    horizontal_bits: int = 2
    vertical_bits: int = 2
    wasteful: bool = False
    """Whether a full run is followed by the bits of a place too, as the first cameras had it."""

    @property
    def event_bits(self) -> int:
        """Length of the code of one event."""
        return self.skip_bits + self.horizontal_bits + self.vertical_bits


FALCON_4 = Coding()
PROTOTYPE = Coding(65000, 8, wasteful=True)


def write_eer(
    path: Path,
    frames: Iterable[NDArray[np.generic]],
    pixel_size_A: float | None,
    *,
    coding: Coding = FALCON_4,
    exposure_s: float = 1.0,
    rng: np.random.Generator | None = None,
) -> None:
    """Write camera frames, each `(ny, nx)`, y up, with 0 or 1 events a pixel; no pixel size writes none.

    `rng` draws the places inside the pixels. Raises ValueError for a pixel with more events, which no camera tells.
    """
    rng = rng or np.random.default_rng(0)
    strips, shape = [], (0, 0)
    for number, frame in enumerate(frames):
        if ((frame != 0) & (frame != 1)).any():
            raise ValueError(f"{path}: camera frame {number} has a pixel with more than one event; see spread_events")
        shape = frame.shape
        strips.append(encode_frame(frame[::-1], coding, rng))
    with path.open("wb") as file:
        _write_pages(file, strips, (shape[0], shape[1]), coding, _metadata(len(strips), pixel_size_A, exposure_s))


def spread_events(counts: NDArray[np.generic], frames: int, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Events of an exposure `(ny, nx)` dealt to so many camera frames at random, no two of a pixel to the same frame.

    Raises ValueError where a pixel has more events than there are frames.
    """
    if counts.min() < 0 or counts.max() > frames:
        raise ValueError(f"{frames} camera frames cannot hold {counts.min()} to {counts.max()} events a pixel")
    out = [np.zeros(counts.shape, np.uint8) for _ in range(frames)]
    left = counts.astype(np.int64)
    for i, frame in enumerate(out):
        frame[...] = rng.random(counts.shape) * (frames - i) < left
        left -= frame
    return out


def encode_frame(events: NDArray[np.generic], coding: Coding, rng: np.random.Generator) -> bytes:
    """The stream of one camera frame, first row first, filled up to whole words of 8 bytes."""
    struck = np.flatnonzero(events)
    runs = np.diff(np.concatenate([struck, [events.size]]), prepend=-1) - 1
    full = (1 << coding.skip_bits) - 1
    place_bits = coding.horizontal_bits + coding.vertical_bits
    last = np.cumsum(runs // full + 1) - 1
    codes = np.full(last[-1] + 1, full, np.int64)
    lengths = np.full(codes.size, coding.event_bits if coding.wasteful else coding.skip_bits)
    codes[last] = runs % full | rng.integers(1 << place_bits, size=runs.size) << coding.skip_bits
    lengths[last] = coding.event_bits
    return _pack(codes, lengths)


def _pack(codes: NDArray[np.int64], lengths: NDArray[np.int64]) -> bytes:
    """Codes of different lengths one behind the other, the least significant bit first."""
    starts = np.cumsum(lengths) - lengths
    bits = np.zeros(-(-int(lengths.sum()) // 64) * 64, np.uint8)
    for bit in range(int(lengths.max())):
        has = lengths > bit
        bits[starts[has] + bit] = codes[has] >> bit & 1
    return np.packbits(bits, bitorder="little").tobytes()


# -- BigTIFF -----------------------------------------------------------------------------------------------------------

_SHORT, _LONG, _UNDEFINED, _LONG8 = 3, 4, 7, 16


def _metadata(frames: int, pixel_size_A: float | None, exposure_s: float) -> bytes:
    items = [("commercialName", "", "Falcon 4i"), ("exposureTime", "s", f"{exposure_s:g}")]
    items += [("numberOfFrames", "", str(frames))]
    if pixel_size_A:
        items += [(f"sensorPixelSize.{side}", "m", f"{pixel_size_A * 1e-10:.6g}") for side in ("width", "height")]
    text = "".join(
        f'<item name="{name}"' + (f' unit="{unit}"' if unit else "") + f">{value}</item>" for name, unit, value in items
    )
    return f"<metadata>{text}</metadata>".encode()


def _write_pages(
    file: BufferedWriter, strips: list[bytes], shape_yx: tuple[int, int], coding: Coding, metadata: bytes
) -> None:
    """A page after the other: its directory, what does not fit in there, its strip."""
    file.write(b"II" + struct.pack("<HHHQ", 43, 8, 0, 16))
    start = 16
    for number, strip in enumerate(strips):
        notes = metadata if number == 0 else b""
        tags = _tags(shape_yx, coding, notes)
        size = 8 + 20 * len(tags) + 8
        strip_at = start + size + -(-len(notes) // 8) * 8
        values = {273: strip_at, 279: len(strip), 65001: start + size}
        end = strip_at + len(strip)
        entries = [struct.pack("<HHQQ", tag, kind, n, values.get(tag, value)) for tag, kind, n, value in tags]
        file.write(struct.pack("<Q", len(tags)) + b"".join(entries))
        file.write(struct.pack("<Q", end if number + 1 < len(strips) else 0))
        file.write(notes.ljust(strip_at - start - size, b"\0") + strip)
        start = end


def _tags(shape_yx: tuple[int, int], coding: Coding, notes: bytes) -> list[tuple[int, int, int, int]]:
    """Code, type, number of values and value of each tag; those that are places are filled in later."""
    ny, nx = shape_yx
    tags = [
        (256, _LONG, 1, nx),
        (257, _LONG, 1, ny),
        (259, _SHORT, 1, coding.compression),
        (262, _SHORT, 1, 1),
        (273, _LONG8, 1, 0),
        (278, _LONG, 1, ny),
        (279, _LONG8, 1, 0),
    ]
    if notes:
        tags.append((65001, _UNDEFINED, len(notes), 0))
    if coding.compression == 65002:
        sizes = (coding.skip_bits, coding.horizontal_bits, coding.vertical_bits)
        tags += [(65007 + i, _SHORT, 1, bits) for i, bits in enumerate(sizes)]
    return tags
