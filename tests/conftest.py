"""Shared fixtures: no test may leave threads behind, and numba's kernels use few threads."""

import os
import threading
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in a run: see `jit.use_threads`

import pytest

pytest_plugins = ["runs"]


LONG = ("end_to_end", "crash", "patch_tracks", "finish_recipe", "dual", "cluster", "publish_processes", "finish_refine")
"""Parts of the names of modules that take long: they are begun first, so that none is waited for at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not any(part in item.path.stem for part in LONG))


@pytest.fixture(autouse=True)
def _no_leftover_threads():
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = [t for t in threading.enumerate() if t not in before and t.is_alive() and not t.daemon]
        if not left:
            return
        time.sleep(0.05)
    pytest.fail(f"threads left behind: {', '.join(t.name for t in left)}")
