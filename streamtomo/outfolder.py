"""The output folder: made, locked against a second run, its disk watched."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import IO

from streamtomo.errors import OutputError, SettingsError

LOW_DISK_GB = 5.0
ENOUGH_DISK_GB = 6.0
"""Free space above which the next shortage is worth a new warning."""


def lock_out(watched: Path, out: Path) -> IO[str]:
    """Make and lock the output folder; the lock ends with the process, however it ends.

    Raises SettingsError if the two folders cannot go together, OutputError if `out` cannot be written or is in use.
    """
    if not watched.is_dir():
        raise SettingsError(f"{watched}: is no folder; give the folder that the microscope writes to")
    for path in (watched, out):
        if readable(str(path)) != str(path):
            raise SettingsError(f"{readable(str(path))}: its name is not UTF-8; rename the folder")
    if out.resolve().is_relative_to(watched.resolve()):
        raise SettingsError(f"{out}: lies in the watched folder, where nothing is ever written; choose another")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); choose another --out or mend the permissions"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise OutputError(f"{out}: another run writes there; stop it or choose another --out") from None
    except OSError as error:
        lock.close()
        raise OutputError(f"{out}: cannot be locked ({error.strerror}); choose an --out elsewhere") from None
    return lock


def readable(text: str) -> str:
    """A name with bytes that are no UTF-8 shown as `\\xe9`."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


class Disk:
    """Free space where the results go."""

    def __init__(self, out: Path) -> None:
        self._out, self._low = out, False

    def look(self) -> tuple[float | None, str | None]:
        """Free GB, None where it cannot be told; and a warning at the beginning of each shortage."""
        try:
            free_GB = shutil.disk_usage(self._out).free / 1e9
        except OSError:  # a network drive out of reach: whoever writes there will say so
            return None, None
        warning = None
        if free_GB < LOW_DISK_GB and not self._low:
            warning = f"{self._out}: less than {LOW_DISK_GB:.0f} GB are free; make room before outputs fail"
        self._low = free_GB < (ENOUGH_DISK_GB if self._low else LOW_DISK_GB)
        return round(free_GB, 1), warning


def memory_GB() -> float | None:
    """Resident memory of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e9, 2)
