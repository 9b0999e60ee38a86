"""The output folder: made, locked against a second run, its disk watched."""

from __future__ import annotations

import fcntl
import grp
import os
import shutil
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from streamtomo.errors import OutputError, SettingsError
from streamtomo.messages import Finding, FolderTested

LIVE_SUFFIX = "_live.mrc"
"""Of the file of a series' live volume; the run writes it, whoever else is at work in the folder."""


def lock_out(watched: Sequence[Path], out: Path) -> IO[str]:
    """Make and lock the output folder; the lock ends with the process, however it ends.

    Raises SettingsError if the folders cannot go together, OutputError if `out` cannot be written or is in use.
    """
    if readable(str(out)) != str(out):
        raise _not_utf8(out)
    for path in watched:
        check_folder(path, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); choose another --out or mend the permissions"
        ) from error
    try:
        _lock(lock)
    except BlockingIOError:
        lock.close()
        raise OutputError(f"{out}: another run writes there; stop it or choose another --out") from None
    except OSError as error:
        lock.close()
        raise OutputError(f"{out}: cannot be locked ({error.strerror}); choose an --out elsewhere") from None
    return lock


def _lock(file: IO[str]) -> None:
    """Lock a file; a viewer that just looks whether it is locked holds it for an instant."""
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    time.sleep(0.2)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_folder(watched: Path, out: Path) -> None:
    """Raises SettingsError for a folder that cannot be watched, or into which results would be written."""
    if readable(str(watched)) != str(watched):
        raise _not_utf8(watched)
    if not watched.is_dir():
        raise SettingsError(f"{watched}: is no folder; give the folder that the microscope writes to")
    if out.resolve().is_relative_to(watched.resolve()):
        raise SettingsError(f"{out}: lies in the watched folder, where nothing is ever written; choose another")


def _not_utf8(path: Path) -> SettingsError:
    return SettingsError(f"{readable(str(path))}: its name is not UTF-8; rename the folder")


def readable(text: str) -> str:
    """A name with bytes that are no UTF-8 shown as `\\xe9`."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def free_GB(out: Path) -> float | None:
    """Free space where the results go; None where it cannot be told, as on a network drive out of reach."""
    try:
        return round(shutil.disk_usage(out).free / 1e9, 2)
    except OSError:
        return None


def with_room(tested: FolderTested, out: Path) -> FolderTested:
    """What a watched folder is like, and how much room there is for its results."""
    free = free_GB(out)
    text = f"{free:g} GB free for the results" if free is not None else "free space cannot be told"
    return FolderTested(path=tested.path, findings=(*tested.findings, Finding(about="space", text=text)))


def leave_away(umask: str | None) -> None:
    """Leave some permissions away of everything made from now on; to be called before the output folder is made."""
    if umask is not None:
        os.umask(int(umask, 8))


def share(out: Path, group: str | None) -> None:
    """Let the results belong to a group; it holds for everything made from now on.

    Raises SettingsError for a group that there is not, or that the user does not belong to.
    """
    if group is None:
        return
    try:
        os.chown(out, -1, grp.getgrnam(group).gr_gid)
        out.chmod(out.stat().st_mode | stat.S_ISGID)  # what is made in it inherits the group
    except KeyError:
        raise SettingsError(f"run.group = {group!r}: this machine has no such group") from None
    except OSError as error:
        raise SettingsError(f"run.group = {group!r}: {out} cannot be given to it ({error.strerror})") from None


def memory_GB() -> float | None:
    """Resident memory of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e9, 2)
