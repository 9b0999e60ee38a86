"""Shared fixtures: no test may leave threads behind, and numba's kernels use few threads."""

import threading
import time

import pytest

pytest_plugins = ["runs"]


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
