"""Names of series, each claimed by where it comes from; shared by all that watch for one run."""

from __future__ import annotations

import threading


class Claims:
    """Who has which name. Watchers of several folders claim from threads of their own."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._lock = threading.Lock()

    def take(self, name: str, source: str, *, anew: bool = False) -> bool:
        """Claim a name for `source` (a file, or a folder and a prefix); False if another source has it.

        `anew`: False also if the source itself has it.
        """
        with self._lock:
            if anew and name in self._owners:
                return False
            return self._owners.setdefault(name, source) == source
