"""The state of a series' recipe on disk: what was done, with what, and what it left."""

from __future__ import annotations

from pathlib import Path

import msgspec

from streamtomo.export.imod import write_text
from streamtomo.finish.plan import Stamp, State


def state_path(folder: Path, series: str) -> Path:
    """`NAME_recipe.json` in the series' folder."""
    return folder / f"{series}_recipe.json"


def read_state(folder: Path, series: str) -> State:
    """What was done before; nothing where there is no file, or none that can be read: then all is done anew."""
    try:
        return msgspec.json.decode(state_path(folder, series).read_bytes(), type=State)
    except (OSError, ValueError):
        return {}


def write_state(folder: Path, series: str, state: State) -> None:
    """Appears whole or not at all. Raises OutputError."""
    write_text(state_path(folder, series), msgspec.json.encode(state).decode())


def stamp(path: Path) -> Stamp | None:
    """Size and modification time (ns) of a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
