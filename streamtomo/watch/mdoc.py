"""Reader of SerialEM's `.mdoc` and `.idoc` files, and of those that Tomo5 writes in the same form.

The file may still be growing: what the last line lacks is never guessed, and the last section counts only when it
cannot grow any more. Keys come in any order, lines end in CRLF or LF, blanks do not matter, unknown keys are ignored.
An `.idoc` describes files of one image each, in sections `[Image = NAME.tif]` (SerialEM's help, "File Formats").
"""

from __future__ import annotations

import calendar
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from streamtomo.geometry import axis_from_rotation_angle, wrap_angle
from streamtomo.watch.mrc_header import axis_from_titles
from streamtomo.watch.naming import base_name

AXIS_TOLERANCE_DEG = 1.0
"""Axis angles from the title and from the sections differ by rounding only."""

SUFFIXES = (".mdoc", ".idoc")

_SECTION = re.compile(r"\[\s*(?:(ZValue|FrameSet|MontSection)\s*=\s*(\d+)|Image\s*=\s*(.*?\S))\s*\]")
_TITLE = re.compile(r"\[?\s*T\s*=\s*(.*?)\s*\]?")
_PAIR = re.compile(r"(\w+)\s*=\s*(.*)")
_DATE_TIME = re.compile(r"(\d{2,4})-([A-Za-z]{3})-(\d{2,4})\s+(\d{1,2}):(\d{2}):(\d{2})")
_READ = ("TiltAngle", "DateTime", "StagePosition", "RotationAngle", "PixelSpacing", "SubFramePath")
_DOSES = ("ExposureDose", "PriorRecordDose")
_MONTHS = {
    name: i
    for i, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}


MdocKind = Literal["tilt series", "frames", "montage", "empty"]
"""Only the first describes tilts; `frames` is one movie's own mdoc, `empty` has no section yet."""


class MdocSection(Struct, frozen=True, kw_only=True):
    """What one section tells of one exposure; None where it does not."""

    z: int
    """`ZValue`: the section of the stack; in an `.idoc` the place of the section in the file, from 0."""
    angle_deg: float | None = None
    acquired_s: float | None = None
    """`DateTime`, the microscope's clock read as if it were UTC: good for order and intervals."""
    pixel_size_A: float | None = None
    rotation_deg: float | None = None
    """`RotationAngle`, from the image's X axis."""
    dose_e_A2: float | None = None
    """`ExposureDose`; a dose of 0 means that it was not measured."""
    prior_dose_e_A2: float | None = None
    """`PriorRecordDose`, else the sum of the doses of the exposures before."""
    file_name: str | None = None
    """Base name of `SubFramePath`, or in an `.idoc` of the image itself."""
    stage_um: tuple[float, float] | None = None
    """`StagePosition`, x and y."""
    mark: str | None = None
    """`MinMaxMean` as text: hardly another exposure has the same."""


class Mdoc(Struct, frozen=True, kw_only=True):
    """What a whole mdoc tells."""

    kind: MdocKind
    sections: tuple[MdocSection, ...] = ()
    """The whole ones, in the order of the file."""
    writer: Literal["SerialEM", "Tomo5"] = "SerialEM"
    image_file: str | None = None
    """Base name of `ImageFile`, the stack."""
    pixel_size_A: float | None = None
    tilt_axis_deg: float | None = None
    """From the image's Y axis, counter-clockwise positive."""
    axis_conflict: str | None = None
    """In words, where the sources of the axis disagree by more than half a turn explains."""
    unfinished: str | None = None
    """What is missing at the end, in words; None if the text ends as a finished file does."""


class _Block(Struct):
    """One section as text."""

    kind: str
    value: int
    fields: dict[str, str]
    image: str = ""
    """The name of an `Image` section."""


def is_mdoc(path: str) -> bool:
    """Whether the name is that of an mdoc or an idoc."""
    return path.lower().endswith(SUFFIXES)


def parse(text: str, *, settled: bool, final: bool = False) -> Mdoc:
    """Read the text of an mdoc, complete or not; never raises.

    The last section counts only where another one follows, or where the text ends in a newline, the file is settled
    and the section tells everything that all others tell. `final`: what is missing there will never come.
    """
    whole, _, rest = text.rpartition("\n")
    head, titles, blocks = _split(whole)
    kind = _classify(head, blocks)
    unfinished = "its last line has no end" if rest.strip("\r\n\t \0") else None
    if kind != "tilt series":
        return Mdoc(kind=kind, unfinished=unfinished)
    if not settled or unfinished is not None:
        blocks = blocks[:-1]
    elif lacking := _lacking(blocks):
        unfinished = f"section {blocks[-1].value} has no {', '.join(lacking)}"
        if len(blocks) > 1 and not (final and "TiltAngle" not in lacking):  # a single one has its angle in the header
            blocks = blocks[:-1]
    sections = _sections(blocks)
    axis, conflict = _axis(titles, sections)
    return Mdoc(
        kind=kind,
        sections=sections,
        writer="Tomo5" if any("TiltAxisAngle" in t or t.startswith("Tomography") for t in titles) else "SerialEM",
        image_file=base_name(head.get("ImageFile", "")),
        pixel_size_A=_positive(head, "PixelSpacing")
        or next((s.pixel_size_A for s in sections if s.pixel_size_A), None),
        tilt_axis_deg=axis,
        axis_conflict=conflict,
        unfinished=unfinished,
    )


def _split(text: str) -> tuple[dict[str, str], list[str], list[_Block]]:
    """Global keys, titles and sections of complete lines."""
    head: dict[str, str] = {}
    titles: list[str] = []
    blocks: list[_Block] = []
    for raw in text.split("\n"):
        line = raw.strip("\r\t \0\ufeff")
        if section := _SECTION.fullmatch(line):
            kind, value, image = section.groups()
            blocks.append(_Block(kind, int(value), {}) if kind else _Block("Image", len(blocks), {}, image))
        elif title := _TITLE.fullmatch(line):
            titles.append(title[1])
        elif pair := _PAIR.fullmatch(line):
            (blocks[-1].fields if blocks else head)[pair[1]] = pair[2]
    return head, titles, blocks


def _classify(head: Mapping[str, str], blocks: Sequence[_Block]) -> MdocKind:
    kinds = {block.kind for block in blocks}
    pieces = any("PieceCoordinates" in block.fields for block in blocks)
    if "MontSection" in kinds or pieces or head.get("Montage", "0") not in ("", "0"):
        return "montage"
    if "FrameSet" in kinds:
        return "frames"
    return "tilt series" if blocks else "empty"


def _lacking(blocks: Sequence[_Block]) -> list[str]:
    """What the last section does not tell and all others do; of a single one only its angle is demanded.

    SerialEM writes the same keys for every image, the time last: a section without them is still being written.
    """
    if not blocks:
        return []
    *others, last = blocks
    demanded = set(_READ + _DOSES).intersection(*(block.fields for block in others)) if others else {"TiltAngle"}
    return [key for key in _READ + _DOSES if key in demanded and key not in last.fields]


def _sections(blocks: Sequence[_Block]) -> tuple[MdocSection, ...]:
    times = _times([block.fields.get("DateTime", "") for block in blocks])
    sections = [_section(block, acquired) for block, acquired in zip(blocks, times, strict=True)]
    return tuple(_with_prior_dose(sections, [_number(block.fields, "PriorRecordDose") for block in blocks]))


def _section(block: _Block, acquired_s: float | None) -> MdocSection:
    angle = _number(block.fields, "TiltAngle")
    return MdocSection(
        z=block.value,
        angle_deg=angle if angle is not None and abs(angle) <= 180 else None,
        acquired_s=acquired_s,
        pixel_size_A=_positive(block.fields, "PixelSpacing"),
        rotation_deg=_number(block.fields, "RotationAngle"),
        dose_e_A2=_positive(block.fields, "ExposureDose"),
        file_name=base_name(block.image or block.fields.get("SubFramePath", "")),
        stage_um=_pair(block.fields, "StagePosition"),
        mark=" ".join(block.fields.get("MinMaxMean", "").split()) or None,
    )


def acquisition_order(sections: Sequence[MdocSection]) -> list[int]:
    """Indices of the sections in the order they were taken: by time where every one has it, else as in the file."""
    times = [section.acquired_s for section in sections]
    known = [time for time in times if time is not None]
    order = range(len(sections))
    return sorted(order, key=known.__getitem__) if len(known) == len(sections) else list(order)


def _with_prior_dose(sections: Sequence[MdocSection], stated: Sequence[float | None]) -> list[MdocSection]:
    """Fill in the dose before each exposure: as stated, else the sum of those before, while none is missing."""
    done = list(sections)
    total: float | None = 0.0
    for i in acquisition_order(sections):
        dose, prior = sections[i].dose_e_A2, stated[i]
        if prior is None or (prior == 0 and dose is None):  # both 0: the dose was not measured at all
            prior = total if dose is not None else None
        done[i] = replace(sections[i], prior_dose_e_A2=prior)
        total = total + dose if total is not None and dose is not None else None
    return done


def _axis(titles: Sequence[str], sections: Sequence[MdocSection]) -> tuple[float | None, str | None]:
    """The tilt axis, from SerialEM's title or from the sections' RotationAngle, and their disagreement in words.

    A camera set-up can turn the second by 180°, so half a turn is no disagreement, and the title decides.
    """
    title = axis_from_titles(titles)
    rotation = next((s.rotation_deg for s in sections if s.rotation_deg is not None), None)
    section = None if rotation is None else round(axis_from_rotation_angle(rotation), 4)
    if title is None or section is None:
        return (section if title is None else title), None
    off = abs(wrap_angle(2 * (title - section))) / 2
    if off <= AXIS_TOLERANCE_DEG:
        return title, None
    return title, f"its title says a tilt axis of {title:.1f}°, its sections' RotationAngle {section:.1f}°"


# -- values ------------------------------------------------------------------------------------------------------------


def _number(fields: Mapping[str, str], key: str) -> float | None:
    try:
        value = float(fields.get(key, ""))
    except ValueError:
        return None
    return value + 0.0 if math.isfinite(value) else None  # -0.0 becomes 0.0


def _pair(fields: Mapping[str, str], key: str) -> tuple[float, float] | None:
    words = fields.get(key, "").split()
    x, y = (_number({key: word}, key) for word in words) if len(words) == 2 else (None, None)
    return None if x is None or y is None else (x, y)


def _positive(fields: Mapping[str, str], key: str) -> float | None:
    value = _number(fields, key)
    return value if value is not None and value > 0 else None


def _times(texts: Sequence[str]) -> list[float | None]:
    """Seconds since 1970 of the DateTime texts of one file, None where a text is none.

    Two-digit years leave open whether a date is day-month-year or year-month-day: the reading under which the file
    covers the shorter time is taken, day first where both do.
    """
    readings = [[_seconds(text, order) for text in texts] for order in (_day_first, _year_first)]

    def badness(times: list[float | None]) -> tuple[int, float]:
        known = [time for time in times if time is not None]
        return -len(known), sum(abs(b - a) for a, b in pairwise(known))

    return min(readings, key=badness)


def _day_first(first: str, last: str) -> tuple[str, str]:
    return first, last


def _year_first(first: str, last: str) -> tuple[str, str]:
    return last, first


def _seconds(text: str, order: Callable[[str, str], tuple[str, str]]) -> float | None:
    match = _DATE_TIME.fullmatch(text.strip())
    month = _MONTHS.get(match[2].lower()) if match else None
    if match is None or month is None:
        return None
    day, year = order(match[1], match[3])
    if len(day) != 2 or len(year) == 3:
        return None
    full_year = int(year) + (2000 if len(year) == 2 else 0)
    try:
        parsed = time.strptime(f"{full_year}-{month}-{day} {match[4]}:{match[5]}:{match[6]}", "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return None
    return float(calendar.timegm(parsed))
