"""All series of a run, each with the folder it comes from and what its plan probably is."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from streamtomo.folders import Folder, Folders
from streamtomo.series import Series


class Roster(dict[str, Series]):
    """Series by name."""

    def __init__(self, folders: Folders) -> None:
        super().__init__()
        self._folders = folders
        self._home: dict[str, Folder] = {}
        self._plans: dict[Folder, tuple[float, ...]] = {}
        """Angles of the last complete series from each folder."""

    def of(self, name: str, source: str = "") -> Series:
        """The series of this name; a new one has the settings, and the probable plan, of the folder of `source`."""
        if name not in self:
            home = self._home[name] = self._folders.of(source)
            self[name] = Series(name, home.settings)
            self[name].like = self._plans.get(home, ())
        return self[name]

    def completed(self, name: str) -> None:
        """The angles of a complete series are probably those of the others from its folder."""
        home = self._home[name]
        self._plans[home] = tuple(state.tilt.image.angle_deg for state in self[name].kept())
        for other, series in self.items():
            if series.state == "collecting" and self._home[other] is home:
                series.like = self._plans[home]

    def observed(self) -> list[Series]:
        """Those whose folder was seen: before, silence means nothing."""
        return [series for series in self.values() if self._home[series.name].listed]

    def begun(self) -> list[Series]:
        """Those of which an image was seen; the others are known from metadata only."""
        return [series for series in self.values() if series.tilts]

    def collecting_from(self) -> AbstractSet[Folder]:
        """Folders with a series that is not complete."""
        return {self._home[series.name] for series in self.begun() if series.state == "collecting"}
