"""Compiles every kernel before the first tilt comes, with the very types used later."""

from __future__ import annotations

import time
from collections.abc import Callable

from streamtomo import jit
from streamtomo.config import Settings


def warm_live(settings: Settings) -> None:
    """Load or compile what the live lane calls; a fraction of a second when the cache is filled."""
    from streamtomo.align import warmup as align
    from streamtomo.correct import warmup as correct
    from streamtomo.reconstruct import warmup as reconstruct
    from streamtomo.watch import warmup as watch

    jit.use_threads(settings.run.threads)
    for stage in (watch, correct, align, reconstruct):
        stage.warmup()


def warm_all(say: Callable[[str], None]) -> None:
    """Compile all kernels and keep them on disk (`streamtomo warmup`)."""
    from streamtomo.align import warmup_final
    from streamtomo.average import warmup as average
    from streamtomo.finish import warmup as finish
    from streamtomo.reconstruct.warmup import warmup_final as reconstruct_final
    from streamtomo.restore import warmup as restore

    start = time.perf_counter()
    warm_live(Settings())
    warmup_final.warmup()
    reconstruct_final()
    finish.warmup()
    restore.warmup()
    average.warmup()
    say(f"kernels are compiled ({time.perf_counter() - start:.0f} s, threads: {jit.threading_layer()})")
