"""Where reconstruction is computed: by numba's kernels on the processor, or by an array library on a graphics device.

Decided once for the process, as the number of threads is (`jit.use_threads`); the functions that can use a device ask
`arrays` for it, and are called the same way.
"""

from __future__ import annotations

import importlib
from typing import Any, Literal

from streamtomo.errors import SettingsError

Device = Literal["auto", "cpu", "gpu"]
LIBRARY = "cupy"
ROWS = 256
"""Slices made at a time on a device, which needs larger pieces of work than a cache does."""

_chosen: list[Any] = []
"""The array library in use, if any."""
_told: list[str] = []
"""What is used, in words."""


def use(device: Device) -> str:
    """Compute there from now on; "auto": on a device where there is one. Returns what is used, in words.

    Raises SettingsError for "gpu" where there is none.
    """
    library, why = (None, "as set") if device == "cpu" else _library()
    if library is None and device == "gpu":
        raise SettingsError(
            f"run.device is gpu, but {why}; install cupy for its CUDA version (pip install 'streamtomo[gpu]'), or use "
            "--device cpu"
        )
    use_library(library)
    _told[:] = [f"processor ({why})" if library is None else why]
    return _told[0]


def in_words() -> str:
    """What is used, and why, as `use` said it; empty before."""
    return _told[0] if _told else ""


def use_library(library: Any) -> None:
    """Compute with this array library (numpy's interface), or None: with the kernels."""
    _chosen[:] = [] if library is None else [library]


def arrays() -> Any:
    """The array library in use; None where the kernels are."""
    return _chosen[0] if _chosen else None


def rows(on_processor: int) -> int:
    """Slices to make at a time."""
    return ROWS if _chosen else on_processor


def _library() -> tuple[Any, str]:
    """The library if it can compute, and on what, or why not."""
    try:
        library = importlib.import_module(LIBRARY)
    except ModuleNotFoundError:
        return None, f"{LIBRARY} is not installed"
    except ImportError as error:
        return None, f"{LIBRARY} cannot be imported ({error})"
    if not library.is_available():
        return None, f"{LIBRARY} finds no device"
    return library, f"graphics device ({_name(library)}{LIBRARY} {library.__version__})"


def _name(library: Any) -> str:
    try:
        return f"{library.cuda.runtime.getDeviceProperties(0)['name'].decode()}, "
    except (AttributeError, KeyError, RuntimeError):
        return ""
