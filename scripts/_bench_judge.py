"""What judging a tilt costs beside aligning it: processor time of all threads, part by part."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec
from numpy.typing import NDArray

from streamtomo.align.live import LiveAligner
from streamtomo.config import Settings
from streamtomo.correct.prepare import live_binning, prepare
from streamtomo.judge.look import look_at
from streamtomo.judge.place import Field
from streamtomo.judge.policy import SeriesJudge
from streamtomo.judge.record import fresh
from streamtomo.livelook import Recogniser, defocus_of
from streamtomo.model import Placement, RawImage, Tilt

AXIS_DEG, PIXEL_A, STEP_DEG = 85.3, 2.0, 3.0
BEFORE = 8
"""Tilts that come before the first one that counts: from then on all is measured."""

Row = Callable[[str, tuple[float, float]], None]
Spent = dict[str, list[float]]


def bench(raws: list[NDArray[Any]], row: Row, runs: int) -> None:
    """Processor milliseconds of judging a tilt like these raw images `(ny, nx)`, minimum and median."""
    spent: Spent = defaultdict(list)
    series = _Series(raws[0], spent)
    for n in range(BEFORE + runs):
        if n == BEFORE:
            spent.clear()
        series.take(n, raws[n % len(raws)])
    for name, each in spent.items():
        row(name, (min(each), statistics.median(each)))
    totals = [sum(parts) for parts in zip(*spent.values(), strict=True)]
    row("all of it", (min(totals), statistics.median(totals)))


class _Series:
    """A series as the live lane judges it, without a volume."""

    def __init__(self, raw: NDArray[Any], spent: Spent) -> None:
        ny, nx = raw.shape
        self.settings, self.spent, self.size = Settings(), spent, (nx, ny)
        self.binning = live_binning(nx, ny, self.settings.live.size_px)
        self.aligner = LiveAligner(self.settings.align, AXIS_DEG, self.binning, measure_axis=False)
        self.images: dict[int, NDArray[Any]] = {}
        self.views: dict[int, tuple[float, Placement]] = {}
        self.recogniser = Recogniser(self.aligner, self.images, self.views, None)
        self.judge = SeriesJudge(self.settings.judge, Field(nx, ny, PIXEL_A))

    def take(self, index: int, raw: NDArray[Any]) -> None:
        """Judge one tilt, and take it in."""
        nx, ny = self.size
        angle = STEP_DEG * index
        tilt = Tilt(index=index, image=RawImage(series="bench", path="", nx=nx, ny=ny, angle_deg=angle))
        image, correction = prepare(raw, self.binning, self.settings.correct.outlier_sigma)
        scope = self.settings.acquisition
        focus = self._timed("defocus", lambda: defocus_of(raw, angle, AXIS_DEG, PIXEL_A, scope))
        look = self._timed("look", lambda: look_at(raw, image, correction.repaired, focus))
        placed = self.aligner.place(index, angle, image)
        again = (self.judge.strangers, self.judge.altered)
        placed = self._timed("recognise", lambda: self.recogniser.recognised(tilt, image, placed, *again))
        new = msgspec.structs.replace(fresh(tilt, correction, look), placement=placed)
        self._timed("verdicts", lambda: self._judged(new))
        self.aligner.accept(index, angle, image, placed)
        self.images[index], self.views[index] = image, (angle, placed)

    def _judged(self, new: Any) -> None:
        self.judge.image(new)
        self.judge.add(msgspec.structs.replace(new, verdict=self.judge.placement(new)))

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        self.spent[name].append(1000 * (time.process_time() - start))
        return result
