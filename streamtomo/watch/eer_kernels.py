"""The kernel that reads electron-event streams."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamtomo.jit import kernel


@kernel
def add_events(
    stream: NDArray[np.uint8],
    skip_bits: int,
    place_bits: int,
    wasteful: bool,
    counts: NDArray[np.uint8],
) -> int:
    """Add the events of one camera frame to `counts`, all its pixels in one row; return the pixel reached.

    The stream is one of bits, the least significant first: a run of `skip_bits` bits tells the empty pixels up to the
    next event, `place_bits` bits the event's place inside its pixel, which is not used. A run of all ones is followed
    by another run, and by an event's place before that where the coding is `wasteful`. A whole frame's last run ends at
    the last pixel: any other number returned than that of the pixels means damage. 4 bytes behind the stream's end
    belong to the array and are not read as a part of it.
    """
    pixels = counts.size
    bits = 8 * (stream.size - 4)
    full = (1 << skip_bits) - 1
    at, pixel = 0, 0
    while pixel < pixels and at + skip_bits <= bits:
        byte = at >> 3
        word = (
            np.uint32(stream[byte])
            | np.uint32(stream[byte + 1]) << np.uint32(8)
            | np.uint32(stream[byte + 2]) << np.uint32(16)
            | np.uint32(stream[byte + 3]) << np.uint32(24)
        )
        run = int(word >> np.uint32(at & 7)) & full
        pixel += run
        at += skip_bits
        if run == full:
            at += place_bits if wasteful else 0
        elif pixel < pixels:
            counts[pixel] += 1
            pixel += 1
            at += place_bits
    return pixel
