"""The one module that imports numba: threading layer, cache and compiler options are decided here, once.

TBB is the layer of choice: it never spins, and lets two Python threads enter parallel kernels. In a virtual
environment numba does not find the library by itself, so it is loaded first. Where TBB is absent, OpenMP with passive
waiting is used.
`workqueue` is never used: it aborts the process when two threads enter it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _load_tbb() -> bool:
    for name in ("libtbb.so.12", "libtbb.so"):
        for candidate in (Path(sys.prefix) / "lib" / name, name):
            try:
                ctypes.CDLL(str(candidate), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
            return True
    return False


def _usable_cache_dir() -> None:
    """numba caches beside the source; where that is read-only, use the user's cache folder."""
    package = Path(__file__).parent
    if "NUMBA_CACHE_DIR" not in os.environ and not os.access(package, os.W_OK):
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        os.environ["NUMBA_CACHE_DIR"] = str(base / "streamtomo")


_usable_cache_dir()
os.environ.setdefault("NUMBA_THREADING_LAYER", "tbb" if _load_tbb() else "omp")

import numba as _typed_numba  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

# Its types describe dispatchers; kernels here keep the types of the plain functions.
numba: Any = _typed_numba

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])
_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

# No "nnan"/"ninf": kernels must see NaN as NaN.
_MATHS = {"reassoc", "contract", "nsz", "arcp", "afn"}

prange: Any = numba.prange


def kernel(function: _Kernel) -> _Kernel:
    """Compile a single-threaded kernel that releases the GIL and is cached on disk."""
    compiled: _Kernel = numba.njit(cache=True, nogil=True, fastmath=_MATHS, error_model="numpy")(function)
    return compiled


def parallel_kernel(function: _Kernel) -> _Kernel:
    """Compile a kernel whose `prange` loops run on all threads; it releases the GIL and is cached on disk."""
    compiled: _Kernel = numba.njit(cache=True, nogil=True, parallel=True, fastmath=_MATHS, error_model="numpy")(
        function
    )
    return compiled


def use_threads(count: int | None) -> int:
    """Limit the calling thread's kernels to `count` threads (None: all that numba started with); return the number.

    The linear algebra of the process gets one thread: its matrices are small, and where another program is busy a
    second thread waits for its core at each of them (a bundle adjustment of 41 views: 600 ms instead of 100).
    """
    threadpool_limits(1, user_api="blas")
    number = numba.config.NUMBA_NUM_THREADS if count is None else max(1, min(count, numba.config.NUMBA_NUM_THREADS))
    numba.set_num_threads(number)
    return int(number)


def threads() -> int:
    """How many threads the calling thread's kernels use."""
    return int(numba.get_num_threads())


def each(make: Callable[[_Item], _Made], items: Sequence[_Item]) -> list[_Made]:
    """What is made of each item, in their order, on all the calling thread's threads; kernels then have one each."""
    workers = min(threads(), len(items))
    if workers <= 1:
        return [make(item) for item in items]
    with ThreadPoolExecutor(workers, initializer=numba.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(make, items))


def in_turn(make: Callable[[_Item], _Made], items: Iterable[_Item]) -> Iterator[_Made]:
    """The same, one result after the other while the next ones are made; few more items are in hand than threads."""
    with ThreadPoolExecutor(threads(), initializer=numba.set_num_threads, initargs=(1,)) as pool:
        making: deque[Future[_Made]] = deque()
        for item in items:
            making.append(pool.submit(make, item))
            if len(making) > threads():
                yield making.popleft().result()
        while making:
            yield making.popleft().result()


def threading_layer() -> str:
    """Name of the layer in use ("tbb", "omp"), or the one asked for if no parallel kernel ran yet."""
    try:
        return str(numba.threading_layer())
    except ValueError:
        return str(numba.config.THREADING_LAYER)
