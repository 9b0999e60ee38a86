"""How the names of a folder's files are understood: `streamtomo names`. No file is opened."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from streamtomo.errors import InputError
from streamtomo.watch.folder import list_files
from streamtomo.watch.images import is_image
from streamtomo.watch.naming import Names
from streamtomo.watch.stacks import ANGLE_SUFFIXES
from streamtomo.watch.survey import Reading, readings

EXAMPLE = r"(?P<series>.+)_(?P<order>\d+)_(?P<angle>[-+.\d]+)"
WIDTHS = (31, 18, 5, 6, 8)
"""Columns of the table in 80: file, series, order, angle, time; the letter of the pattern has the rest."""


def show(folder: Path, patterns: Sequence[str], first: int) -> int:
    """Print how names parse, kind by kind; 0. Raises InputError if the folder cannot be listed, SettingsError."""
    names = Names(patterns)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print("\n".join(report(str(folder), _files(folder), names, first, width)))
    return 0


def _files(folder: Path) -> list[str]:
    try:
        return sorted(seen.path for seen in list_files(str(folder)))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from None


def report(folder: str, files: Sequence[str], names: Names, first: int, width: int | None) -> list[str]:
    """The whole answer in lines, cut to `width` columns; None: as long as they are."""
    images = [path for path in files if is_image(path)]
    others = [path for path in files if not is_image(path)]
    lines, letters = [f"{folder}: {len(images)} images, {len(others)} files that describe them"], dict[str, str]()
    for suffix in sorted({_suffix(path) for path in images}):
        group = [path for path in images if _suffix(path) == suffix]
        lines += ["", f"{suffix}: {len(group)}" + (f", the first {first}" if len(group) > first else "")]
        lines += table(readings(folder, group, others, names, first), letters, width)
    for suffix in (".mdoc", *ANGLE_SUFFIXES):
        group = [os.path.relpath(path, folder) for path in others if path.lower().endswith(suffix)]
        if group:
            lines += ["", f"{suffix}: {len(group)}" + (f", the first {first}" if len(group) > first else "")]
            lines += [f"  {_cut(path, width and width - 2)}" for path in group[:first]]
    return [*lines, "", *(f"{letter}  {pattern}" for pattern, letter in letters.items()), *_hint(folder)]


def table(rows: Sequence[Reading], letters: dict[str, str], width: int | None) -> list[str]:
    """One line a file; `letters` stand for the patterns and are added to."""
    head = ("file", "series", "order", "angle", "time", "by")
    cells = [_cells(row, letters) for row in rows]
    full = [max(len(row[i]) for row in (head, *cells) if i == 0 or row[5]) for i in range(5)]
    spare = 0 if width is None else width - 80
    widths = (
        full
        if width is None
        else [min(a, b + spare * (i == 0)) for i, (a, b) in enumerate(zip(full, WIDTHS, strict=True))]
    )
    return [_line(row, widths, width) for row in (head, *cells)]


def _cells(row: Reading, letters: dict[str, str]) -> tuple[str, str, str, str, str, str]:
    if (name := row.name) is None:
        return row.file, f"- {row.why_not}", "", "", "", ""
    letter = letters.setdefault(name.pattern, chr(ord("a") + len(letters) % 26))
    order = "" if name.order is None else str(name.order)
    clock = "" if name.acquired_s is None else time.strftime("%H:%M:%S", time.gmtime(name.acquired_s))
    return row.file, name.series, order, f"{name.angle_deg:.2f}", clock, letter


def _line(row: Sequence[str], widths: Sequence[int], width: int | None) -> str:
    file = _cut(row[0], None if width is None else widths[0]).ljust(widths[0])
    if not row[5]:
        return f"  {file}  {_cut(row[1], None if width is None else width - widths[0] - 4)}"
    series = _cut(row[1], None if width is None else widths[1]).ljust(widths[1])
    numbers = "  ".join(cell.rjust(size) for cell, size in zip(row[2:5], widths[2:], strict=True))
    return f"  {file}  {series}  {numbers}  {row[5]}"


def _cut(text: str, width: int | None) -> str:
    """The text, or its beginning and its end: the end of a name tells most."""
    if width is None or len(text) <= width:
        return text
    keep = (width - 1) // 3
    return f"{text[:keep]}…{text[len(text) - (width - keep - 1) :]}"


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _hint(folder: str) -> list[str]:
    return [
        "",
        "An mdoc that names an image, and a stack's own angles, tell more than its name.",
        "Where names are not understood, or wrongly, try a pattern:",
        f"  streamtomo names {folder} \\",
        f"    --pattern '{EXAMPLE}'",
        "and put it into the settings, [acquisition]:",
        f"  name_patterns = ['{EXAMPLE}']",
    ]
