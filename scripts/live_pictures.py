"""The live volume of the demo while it runs, as one picture: central sections after 5, 15, 30 and 41 tilts.

Above as it is (weighted back-projection, central xy and xz), below as it is iterated in idle time (SIRT).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from live_fsc import live
from numpy.typing import NDArray

from streamtomo.config import Settings
from streamtomo.liveseries import LiveSeries
from streamtomo.publish.pictures import thumbnail, write_png
from streamtomo.simulate import command
from streamtomo.simulate.series import Series

LOOKS = (5, 15, 30, 41)
SIDE, GAP = 170, 4


def demo_series(seed: int) -> Series:
    """What the demo's microscope takes."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    (plan,) = command.plans(parser.parse_args(["scope", "--seed", str(seed), "--name", "TS_01"])).values()
    return Series(plan)


def column(found: LiveSeries) -> NDArray[np.uint8]:
    """Four sections, one below the other."""
    iterated = found.iterated(lambda: False)
    assert iterated is not None
    parts = []
    for section in (*found.volume().central_slabs()[:2], *iterated.slabs[:2]):
        small = thumbnail(section, SIDE, SIDE)
        parts += [np.full((small.shape[0], SIDE), 255, np.uint8), np.full((GAP, SIDE), 255, np.uint8)]
        parts[-2][:, : small.shape[1]] = small
    return np.concatenate(parts)[:-GAP]


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("png", type=Path)
    parser.add_argument("--seed", type=int, default=1, help="of the simulated specimen (1)")
    args = parser.parse_args()
    columns: list[NDArray[np.uint8]] = []
    with tempfile.TemporaryDirectory() as folder:
        for tilts, found in live(demo_series(args.seed), Path(folder), LOOKS, Settings()):
            columns += [column(found), np.full((1, GAP), 255, np.uint8)]
            print(f"after {tilts} tilts", flush=True)
    columns = [np.broadcast_to(one, (len(columns[0]), one.shape[1])) for one in columns[:-1]]
    write_png(args.png, few_greys(np.concatenate(columns, axis=1))[::-1])


def few_greys(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """16 of them: a picture of noise is a large file otherwise."""
    return np.asarray(picture // 16 * 17, np.uint8)


if __name__ == "__main__":
    main()
