"""What the names of image files tell: series, order, tilt angle, time."""

from __future__ import annotations

import calendar
import re
import time

from msgspec import Struct

from streamtomo.watch.mdoc import base_name

_ANGLE = r"(?P<angle>[+-]?\d{1,2}\.\d{1,4})"
_LOOSE_ANGLE = r"(?P<angle>[+-]?\d{1,2}(?:\.\d{1,4})?)"
_SIGNED_ANGLE = r"(?P<angle>[+-]\d{1,2}(?:\.\d{1,4})?|\d{1,2}\.\d{1,4})"

PATTERNS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "Tomo5 (Position_1_001_0.00_20260115_101010)": (
            rf"(?P<series>.+?)_(?P<order>\d{{3,4}})_{_ANGLE}_(?P<date>\d{{8}})_(?P<time>\d{{6}})"
        ),
        "Tomo4 (NAME_001[0.00]-42)": rf"(?P<series>.+?)_(?P<order>\d{{2,5}})\[{_LOOSE_ANGLE}\](?:-\d+)?",
        "SerialEM with date (NAME_001_0.0_Jan15_10.10.10)": (
            rf"(?P<series>.+?)_(?P<order>\d{{2,5}})_{_ANGLE}_[A-Z][a-z]{{2}}\d{{2}}_\d{{2}}\.\d{{2}}\.\d{{2}}"
        ),
        "SerialEM (NAME_001_0.0)": rf"(?P<series>.+?)_(?P<order>\d{{2,5}})_{_SIGNED_ANGLE}",
        "order and angle with a unit (NAME_001_0deg)": rf"(?P<series>.+?)_(?P<order>\d{{2,5}})_{_LOOSE_ANGLE}deg",
        "angle (NAME_0.0, NAME_-60, NAME_60deg)": rf"(?P<series>.+?)_(?:{_SIGNED_ANGLE}|(?P<degrees>\d{{1,2}})deg)",
    }.items()
}
"""Tried in this order on the name without its suffix."""

_SUFFIX = re.compile(r"\.(?:mrcs?|st|tiff?|eer|gz|bz2)$", re.IGNORECASE)
_TAIL = re.compile(r"_(?:EER|fractions|frames|sum)$", re.IGNORECASE)
_UNWANTED = re.compile(r"[^\w.+-]+")
_NOT_TILTS = re.compile(r"_override$|_tgt_\d+(?:_(?:view|search|preview))?$", re.IGNORECASE)
"""Copies by Tomo5, and PACEtomo's target pictures: both look like tilt series of one image."""


class ParsedName(Struct, frozen=True, kw_only=True):
    """What was read from a file's name."""

    series: str
    angle_deg: float
    order: int | None = None
    acquired_s: float | None = None
    """Date and time in the name, read as if they were UTC."""
    tomo5: bool = False
    """Written by Tomo5, which writes its mdoc only at the end."""
    numbered: str | None = None
    """Series and number together: the series' name if the number counts series, not images (`TS_001_-51.0`)."""


def parse_name(path: str) -> ParsedName | None:
    """What the name of an image file tells, or None when it fits no pattern."""
    stem = file_key(path)
    for pattern in PATTERNS.values():
        if match := pattern.fullmatch(stem):
            parts = match.groupdict()
            angle = float(parts.get("angle") or parts["degrees"])
            if abs(angle) > 90:
                continue
            return ParsedName(
                series=parts["series"].rstrip("_-"),
                angle_deg=angle,
                order=int(parts["order"]) if parts.get("order") else None,
                acquired_s=_seconds(parts["date"] + parts["time"]) if parts.get("date") else None,
                tomo5=parts.get("date") is not None,
                numbered=f"{parts['series']}_{parts['order']}" if parts.get("order") else None,
            )
    return None


def tried() -> str:
    """The patterns in words, for messages."""
    return "; ".join(PATTERNS)


def file_key(path: str) -> str:
    """Name of an exposure without folder, suffix and the writer's endings: the same for its movie and its sum."""
    stem = base_name(path) or ""
    while stem != (shorter := _TAIL.sub("", _SUFFIX.sub("", stem))):
        stem = shorter
    return stem


def stem_of(path: str) -> str:
    """Path without the suffixes of images and mdocs: `a/X.mrc.mdoc`, `a/X.mrc` and `a/X.rawtlt` all give `a/X`."""
    return _SUFFIX.sub("", re.sub(r"\.(?:mdoc|idoc|rawtlt|tlt)$", "", path))


def is_by_product(path: str) -> bool:
    """Whether the name marks a picture that belongs to no tilt series."""
    return _NOT_TILTS.search(stem_of(path)) is not None


def folder_name(name: str) -> str:
    """The name of a series as it may name a folder: letters, digits, `_ . + -`; never hidden, never empty."""
    return _UNWANTED.sub("_", name).strip("._ ")[:120] or "series"


def _seconds(digits: str) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(digits, "%Y%m%d%H%M%S")))
    except ValueError:
        return None
