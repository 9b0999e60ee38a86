"""How the benchmarks time and print."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def times_ms(work: Callable[[], object], runs: int) -> tuple[float, float]:
    """Minimum and median of `runs` calls, after one that is not counted."""
    work()
    spent = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        spent.append(1000 * (time.perf_counter() - start))
    return min(spent), statistics.median(spent)


def row(name: str, figures: tuple[float, float]) -> None:
    """One line of the table."""
    print(f"  {name:52s} {figures[0]:9.1f} {figures[1]:9.1f}", flush=True)
