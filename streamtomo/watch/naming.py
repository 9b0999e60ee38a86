"""What the names of image files tell: series, order, tilt angle, time."""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from streamtomo.errors import SettingsError

_ANGLE = r"(?P<angle>[+-]?\d{1,2}[.,]\d{1,4})"
_LOOSE_ANGLE = r"(?P<angle>[+-]?\d{1,2}(?:[.,]\d{1,4})?)"
_SIGNED_ANGLE = r"(?P<angle>[+-]\d{1,2}(?:[.,]\d{1,4})?|\d{1,2}[.,]\d{1,4})"
_SERIES = r"(?P<series>.+?)"
_ORDER = r"_(?P<order>\d{2,5})"
_STAMP = r"[A-Z][a-z]{2}\d{2}_\d{2}\.\d{2}\.\d{2}"

TOMO5 = "Tomo5 (Position_1_001_0.00_20260115_101010)"
PATTERNS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        TOMO5: rf"{_SERIES}_(?P<order>\d{{3,4}})_{_ANGLE}_(?P<date>\d{{8}})_(?P<time>\d{{6}})",
        "Tomo4 (NAME_001[0.00]-42)": rf"{_SERIES}{_ORDER}\[{_LOOSE_ANGLE}\](?:-\d+)?",
        "SerialEM, date first (2026-01-15_10.10.10_NAME_001_0.0)": (
            rf"(?P<date>\d{{4}}-\d{{2}}-\d{{2}})_(?P<time>\d{{2}}\.\d{{2}}\.\d{{2}})_{_SERIES}(?:{_ORDER})?_{_SIGNED_ANGLE}"
        ),
        "SerialEM with date (NAME_001_0.0_Jan15_10.10.10)": rf"{_SERIES}(?:{_ORDER})?_{_ANGLE}_{_STAMP}",
        "SerialEM, PACEtomo (NAME_001_0.0)": rf"{_SERIES}{_ORDER}_{_SIGNED_ANGLE}",
        "order and angle with a unit (NAME_001_0deg)": rf"{_SERIES}{_ORDER}_{_LOOSE_ANGLE}deg",
        "angle (NAME_0.0, NAME_-60, NAME_60deg)": rf"{_SERIES}_(?:{_SIGNED_ANGLE}|(?P<degrees>\d{{1,2}})deg)",
    }.items()
}
"""Tried in this order on the name without its suffix. SerialEM writes the root of the frame file's name, then number,
angle and date as its "Frame File Options" ask for; PACEtomo sets that root to the series' (`L1_ts_001`), and its number
counts the images of all series together."""

GROUPS = ("series", "angle", "order", "date", "time")
"""What a pattern of the settings may name; the first two it must."""

_SUFFIX = re.compile(r"\.(?:mrcs?|st|tiff?|eer|gz|bz2)$", re.IGNORECASE)
_TAIL = re.compile(r"_(?:EER|fractions|frames|sum)$", re.IGNORECASE)
_SORTED = re.compile(r"(?<=.)[_-](?:un)?sorted$", re.IGNORECASE)
_UNWANTED = re.compile(r"[^\w.+-]+")
_BY_PRODUCTS = {
    what: re.compile(pattern, re.IGNORECASE)
    for what, pattern in {
        "copies by Tomography 5": r"_override$",
        "PACEtomo's pictures of targets": r"_tgt_\d+(?:_(?:view|search|preview))?$",
    }.items()
}
"""Endings of what looks like a tilt series of one image, and is none."""

_WHY_NOT = {
    reason: re.compile(pattern, re.IGNORECASE)
    for reason, pattern in {
        "Leginon's: its names tell no angle; give it an mdoc or a .rawtlt": r"\d\d[a-z]{3}\d\d[a-z]*_.*\d",
        "its angle would be beyond 90 degrees": r".*_[+-]?(?:9[1-9]|\d{3,})[.,]\d+.*",
        "number or angle? neither sign nor decimals": r".+[_-]\d{1,2}",
        "no number that could be an angle": r"\D*",
    }.items()
}
"""Why a name fits none of the patterns, the first that is true. Leginon: session, grid, square, hole, series, image."""


class ParsedName(Struct, frozen=True, kw_only=True):
    """What was read from a file's name."""

    series: str
    angle_deg: float
    """Never the negative zero that some writers have."""
    order: int | None = None
    acquired_s: float | None = None
    """Date and time in the name, read as if they were UTC."""
    tomo5: bool = False
    """Written by Tomo5, which writes its mdoc only at the end."""
    numbered: str | None = None
    """Series and number together: the series' name if the number counts series, not images (`TS_001_-51.0`)."""
    pattern: str = ""
    """The pattern that it fits, in words."""


class Names:
    """Reads names by the settings' patterns, then by those built in; learns from many names what one does not tell."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        """`patterns` as in `acquisition.name_patterns`; raises SettingsError for one that cannot be used."""
        self._own = {"": _compiled(patterns)}
        """Patterns of the settings, by the folder that they hold in."""
        self._angles: dict[tuple[str, str, int], float] = {}
        """Angle of each number in a series known by its names."""
        self._numbered: set[tuple[str, str]] = set()
        """Series whose images all have one number: it counts series, and belongs to the name."""

    def understand(self, folder: str, patterns: Sequence[str]) -> None:
        """The settings have these patterns for one folder; raises SettingsError as `Names` does."""
        self._own[os.path.join(folder, "")] = _compiled(patterns)

    def learn(self, paths: Iterable[str]) -> None:
        """These files are there: learn from all their names together which numbers count images."""
        for path in paths:
            if (name := self.parse(path)) and name.numbered is not None and name.order is not None:
                source = (os.path.dirname(path), name.series)
                if abs(self._angles.setdefault((*source, name.order), name.angle_deg) - name.angle_deg) > 0.1:
                    self._numbered.add(source)

    def read(self, path: str) -> ParsedName | None:
        """What the name of an image file tells, among the others that were learnt."""
        name = self.parse(path)
        if name is None or name.numbered is None or (os.path.dirname(path), name.series) not in self._numbered:
            return name
        return replace(name, series=name.numbered, order=None)

    def parse(self, path: str) -> ParsedName | None:
        """What the name of an image file tells by itself, or None when it fits no pattern."""
        stem = file_key(path)
        for words, pattern in self._settings_for(path).items():
            match = pattern.fullmatch(stem) or pattern.fullmatch(base_name(path) or "")
            if match and (name := _parsed(match, words)):
                return replace(name, numbered=None)  # who names a group `order` knows what it counts
        for words, pattern in PATTERNS.items():
            if (match := pattern.fullmatch(stem)) and (name := _parsed(match, words)):
                return name
        return None

    def tried(self, path: str) -> str:
        """The patterns for a file in words, for messages."""
        return "; ".join((*self._settings_for(path), *PATTERNS))

    def _settings_for(self, path: str) -> dict[str, re.Pattern[str]]:
        return self._own[max((folder for folder in self._own if path.startswith(folder)), key=len)]


def _compiled(patterns: Sequence[str]) -> dict[str, re.Pattern[str]]:
    """Patterns of the settings by their words."""
    return {f"yours: {pattern}": compile_pattern(pattern) for pattern in patterns}


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern of the settings: a regular expression with at least the groups `series` and `angle`.

    Raises SettingsError that says what it lacks.
    """
    about = f"acquisition.name_patterns: {pattern!r}"
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SettingsError(f"{about} is no regular expression ({error})") from None
    if missing := [name for name in GROUPS[:2] if name not in compiled.groupindex]:
        raise SettingsError(
            f"{about} lacks {' and '.join(f'(?P<{name}>...)' for name in missing)}; a pattern for NAME_001_-3.0.tif is "
            r"'(?P<series>.+)_(?P<order>\d+)_(?P<angle>[-+.\d]+)'"
        )
    if unknown := sorted(compiled.groupindex.keys() - set(GROUPS)):
        raise SettingsError(f"{about} has a group {unknown[0]!r}; known are {', '.join(GROUPS)}")
    return compiled


def why_not(path: str) -> str:
    """Why a name that fits no pattern does not."""
    stem = file_key(path)
    if is_by_product(path):
        return "a copy or a target picture, not a tilt"
    return next((reason for reason, pattern in _WHY_NOT.items() if pattern.fullmatch(stem)), "fits no pattern")


def _parsed(match: re.Match[str], words: str) -> ParsedName | None:
    """What a match tells; None where its angle is none, or its series has no name."""
    parts = match.groupdict()
    angle = _number(parts.get("angle") or parts.get("degrees"))
    series = (parts["series"] or "").rstrip("_-")
    if angle is None or not abs(angle) <= 90 or not series:
        return None
    order = parts.get("order")
    return ParsedName(
        series=series,
        angle_deg=angle,
        order=int(order) if order and order.isdecimal() else None,
        acquired_s=_seconds(parts.get("date"), parts.get("time")),
        tomo5=words == TOMO5,
        numbered=f"{parts['series']}_{order}" if order and words != TOMO5 else None,
        pattern=words,
    )


def _number(text: str | None) -> float | None:
    """A number with a decimal point or comma."""
    try:
        return float((text or "").replace(",", ".")) + 0.0  # -0.0 + 0.0 is 0.0
    except ValueError:
        return None


def _seconds(date: str | None, clock: str | None) -> float | None:
    """Year, month, day and the time of day, whatever stands between the digits; the year may have two."""
    day, hour = (re.sub(r"\D", "", text or "") for text in (date, clock))
    try:
        return float(calendar.timegm(time.strptime(day + hour, "%Y%m%d%H%M%S" if len(day) == 8 else "%y%m%d%H%M%S")))
    except ValueError:
        return None


def file_key(path: str) -> str:
    """Name of an exposure without folder, suffix and the writer's endings: the same for its movie and its sum."""
    stem = base_name(path) or ""
    while stem != (shorter := _TAIL.sub("", _SUFFIX.sub("", stem))):
        stem = shorter
    return stem


def stem_of(path: str) -> str:
    """Path without the suffixes of images and mdocs: `a/X.mrc.mdoc`, `a/X.mrc` and `a/X.rawtlt` all give `a/X`."""
    return _SUFFIX.sub("", re.sub(r"\.(?:mdoc|idoc|rawtlt|tlt)$", "", path))


def base_name(path: str) -> str | None:
    """Last part of a path of Windows or Unix; None for an empty one."""
    return re.split(r"[\\/]", path.strip())[-1] or None


def stack_series(path: str) -> str:
    """The name of a stack's series; a copy that was sorted, or made way for a sorted one, is no other series."""
    return _SORTED.sub("", os.path.basename(stem_of(path)))


def by_product(path: str) -> str | None:
    """What files of such a name are, in words, where they belong to no tilt series."""
    stem = stem_of(path)
    return next((what for what, ending in _BY_PRODUCTS.items() if ending.search(stem)), None)


def is_by_product(path: str) -> bool:
    """Whether the name marks a picture that belongs to no tilt series."""
    return by_product(path) is not None


def folder_name(name: str) -> str:
    """The name of a series as it may name a folder: letters, digits, `_ . + -`; never hidden, never empty."""
    return _UNWANTED.sub("_", name).strip("._ ")[:120] or "series"
