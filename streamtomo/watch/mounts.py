"""Which file system a folder lies on, and whether that one tells of changes made by other machines.

Linux lists its mounts in /proc/self/mountinfo (`man 5 proc`); elsewhere nothing is known and events are tried.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

TABLE = Path("/proc/self/mountinfo")

SILENT = re.compile(
    r"nfs4?|cifs|smb(?:3|fs)?|ncpfs|9p|v9fs|virtiofs|vboxsf|vmhgfs|prl_fs|drvfs|fuse(?:\..+)?|afs|coda|lustre|beegfs|gpfs|"
    r"mmfs|ceph|glusterfs|orangefs|pvfs2|panfs|wekafs|davfs|autofs|ocfs2|gfs2"
)
"""inotify sees what this kernel does; on these somebody else writes. (`fuseblk` is a local disk.)"""

FAMILIES = {"NFS": ("nfs", "nfs4"), "SMB": ("cifs", "smb3", "smbfs", "smb")}
"""Names that people know better than the kernel's."""


class Mount(Struct, frozen=True):
    """A mounted file system."""

    point: str
    """Where it is mounted."""
    kind: str
    """Its type as the kernel calls it, for example `nfs4` or `fuse.sshfs`."""
    source: str
    """What is mounted: a device, `server:/export`."""

    @property
    def sends_events(self) -> bool:
        """Whether inotify tells of every change."""
        return SILENT.fullmatch(self.kind) is None

    def __str__(self) -> str:
        """In words, with its source where that says more than its type."""
        family = next((name for name, kinds in FAMILIES.items() if self.kind in kinds), None)
        words = f"{family} ({self.kind})" if family else self.kind
        return f"{words}, {self.source} at {self.point}" if self.source not in ("none", self.kind) else words


def read_table() -> str:
    """The kernel's list of mounts, empty where there is none."""
    try:
        return TABLE.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def parse(table: str) -> list[Mount]:
    """The mounts in a mountinfo, in the order they were made; lines that are none are left out."""
    found = []
    for line in table.splitlines():
        place, _, what = line.partition(" - ")
        fields, kinds = place.split(" "), what.split(" ")
        if len(fields) >= 5 and len(kinds) >= 2:
            found.append(Mount(_plain(fields[4]), kinds[0], _plain(kinds[1])))
    return found


def covering(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that holds an absolute path without links: the longest point above it, the last one made there."""
    above = [mount for mount in mounts if _is_below(path, mount.point)]
    return max(reversed(above), key=lambda mount: len(mount.point), default=None)


def below(path: str, mounts: Sequence[Mount]) -> list[Mount]:
    """The mounts inside a folder."""
    return [mount for mount in mounts if mount.point != path and _is_below(mount.point, path)]


def mount_of(path: str | Path) -> Mount | None:
    """The mount that holds a file or folder, which need not exist; None where the system does not tell."""
    return covering(os.path.realpath(path), parse(read_table()))


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _plain(text: str) -> str:
    r"""Blanks and such are written as `\040`."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


class Ground:
    """What a folder stands on; notices a mount that vanishes and leaves an empty directory, where no call fails."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._known: dict[str, Mount] = {}
        self.mount: Mount | None = None
        """The mount that holds the folder, as of the last look."""

    def lost(self) -> dict[str, str]:
        """Folders, the folder itself or inside it, whose mount is there no more, each with the reason in words.

        One that holds files all the same stands on other ground now, and is not lost.
        """
        real, mounts = os.path.realpath(self._folder), parse(read_table())
        points = {mount.point for mount in mounts}
        lost = {
            point: mount
            for point, mount in self._known.items()
            if point not in points and is_bare(real if _is_below(real, point) else point)
        }
        self.mount = covering(real, mounts)
        here = [self.mount] if self.mount else []
        self._known = {mount.point: mount for mount in (*here, *below(real, mounts))} | lost
        return {self._as_seen(point, real): f"no longer mounted: {mount}" for point, mount in lost.items()}

    def _as_seen(self, point: str, real: str) -> str:
        if _is_below(real, point):
            return self._folder
        return os.path.join(self._folder, os.path.relpath(point, real))


def is_bare(folder: str) -> bool:
    """Whether there is nothing in a folder, not even a hidden file, or it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True
