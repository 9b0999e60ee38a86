"""Compiles every kernel before the first tilt comes, with the very types used later."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from streamtomo import jit
from streamtomo.config import Settings

PROCESSES = 4
PARTS = ("live", "restore", "average", "final")


def warm_live(settings: Settings) -> None:
    """Load or compile what the live lane calls; a fraction of a second when the cache is filled."""
    from streamtomo import livefile
    from streamtomo.align import warmup as align
    from streamtomo.correct import warmup as correct
    from streamtomo.reconstruct import warmup as reconstruct
    from streamtomo.watch import warmup as watch

    jit.use_threads(settings.run.threads)
    for stage in (watch, correct, align, reconstruct, livefile):
        stage.warmup()


def warm_finishing(enough: Callable[[], bool]) -> None:
    """Load what the finishing of a series usually calls, until it is `enough`."""

    def imports() -> None:
        from streamtomo.finish import dual, recipe  # noqa: F401

    def correct() -> None:
        from streamtomo.correct import warmup

        warmup.warmup()

    def drawings() -> None:
        from streamtomo.publish.plots import Curve, curves

        curves([Curve("", [0.0, 1.0], [0.0, 1.0])], "", "")

    jit.use_threads(None)
    for load in (imports, correct, warm_final, drawings):
        if not enough():
            load()


def warm_final() -> None:
    """Load or compile what the final alignment and the final reconstruction call."""
    from streamtomo.align import warmup_final as align
    from streamtomo.finish import warmup as finish
    from streamtomo.reconstruct.warmup import warmup_final as reconstruct

    align.warmup()
    reconstruct()
    finish.warmup()


def warm_all(say: Callable[[str], None]) -> None:
    """Compile all kernels and keep them on disk (`streamtomo warmup`), the parts side by side.

    Two that compile the same kernel at once may lose one of the two on disk: the last pass makes up for that.
    """
    start = time.perf_counter()
    with ProcessPoolExecutor(min(PROCESSES, os.cpu_count() or 1), get_context("spawn")) as pool:
        list(pool.map(_warm, PARTS))
    for part in PARTS:
        _warm(part)
    say(f"kernels are compiled ({time.perf_counter() - start:.0f} s, threads: {jit.threading_layer()})")


def _warm(part: str) -> None:
    from streamtomo.average import warmup as average
    from streamtomo.restore import warmup as restore

    jit.use_threads(Settings().run.threads)
    match part:
        case "live":
            warm_live(Settings())
        case "restore":
            restore.warmup()
        case "average":
            average.warmup()
        case _:
            warm_final()
