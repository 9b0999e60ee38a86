"""What an mdoc tells against what was taken in by names and headers: the differences of a whole series in one text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from streamtomo.watch.mdoc import Mdoc
from streamtomo.watch.naming import file_key
from streamtomo.watch.sources import disagreement

SHOWN = 3
"""Files named in a text; of more their number is told."""


class Taken(Struct, frozen=True, kw_only=True):
    """What is known of one file without the mdoc."""

    file: str
    """Its base name."""
    angle_deg: float | None = None
    """By its name."""
    pixel_size_A: float | None = None
    """By its header."""


def differences(mdoc: Mdoc, taken: Mapping[str, Taken], strangers: Sequence[str]) -> list[str]:
    """In words, where the mdoc and the files (by the key of their exposure) differ; `strangers` it does not name."""
    named = {file_key(section.file_name): section for section in mdoc.sections if section.file_name}
    found: list[str] = []
    angles = {
        one.file: (section.angle_deg, one.angle_deg)
        for key, section in named.items()
        if (one := taken.get(key)) and disagreement("tilt angle", {"mdoc": section.angle_deg, "name": one.angle_deg})
    }
    if angles:
        file, (angle, by_name) = next(iter(angles.items()))
        found.append(f"{_count(angles, 'angle')} (of {file} {angle:.2f}°, by its name {by_name:.2f}°)")
    sizes = {one.pixel_size_A for key in named if (one := taken.get(key))}
    stated = mdoc.pixel_size_A
    if other := next((size for size in sizes if disagreement("pixel size", {"mdoc": stated, "header": size})), None):
        found.append(f"pixel size ({stated:.4g} Å, in the headers {other:.4g} Å)")
    if missing := [section.file_name or "" for key, section in named.items() if key not in taken]:
        found.append(f"{_count(missing, 'file')} that it names and that never came ({_some(missing)})")
    if strangers:
        found.append(f"{_count(strangers, 'file')} that it does not name ({_some(strangers)})")
    return found


def _count(things: Sequence[str] | Mapping[str, object], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def _some(files: Sequence[str]) -> str:
    return ", ".join(files[:SHOWN]) + (", ..." if len(files) > SHOWN else "")
