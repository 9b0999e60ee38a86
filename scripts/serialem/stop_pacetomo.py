#!/usr/bin/env python3
"""One flag when every target of a PACEtomo run is rejected; a command for streamtomo's `judge.command`.

    [judge]
    action = "act"
    command = ["python3", "scripts/serialem/stop_pacetomo.py", "{flag}", "9"]

The second argument is the number of targets. When as many flags are there, `ALL.reject` is written beside them. To use
it, add to a copy of your PACEtomo script, between two tilts, the lines

    if os.path.exists(r"X:\\streamtomo\\judge\\ALL.reject"):
        sem.Exit()

and remove the file before the next run. A single target cannot be dropped this way: PACEtomo reads which targets to
skip when it starts or recovers.
"""

from __future__ import annotations

import sys
from pathlib import Path

ALL = "ALL.reject"


def main(flag: str, targets: str) -> int:
    """Write ALL.reject once all targets are rejected."""
    folder = Path(flag).parent
    rejected = sorted(path.stem for path in folder.glob("*.reject") if path.name != ALL)
    if len(rejected) >= int(targets):
        (folder / ALL).write_text("\n".join(rejected) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
