"""What is known about an image and who says so: the one table of precedence.

           settings        mdoc                               beside     header                           name
angle                      `TiltAngle`                        `.rawtlt`  extended header, by section (*)  yes
tilt axis  tilt_axis_deg   title, else `RotationAngle`                   SerialEM's title
pixel size pixel_size_A    section, else head                            extended, cell, resolution
dose                       `ExposureDose`, `PriorRecordDose`
time                       `DateTime`                                                                     date
order                      `DateTime`, else as in the file                                                number (**)

The first to tell, from left to right, is believed; who agrees is not heard, who disagrees is named in a warning, once
for each series. (*) A `.tlt`, the angles that somebody solved, is believed only where there is no extended header.
(**) Else the file's own time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from msgspec import Struct

from streamtomo.geometry import wrap_angle
from streamtomo.model import RawImage
from streamtomo.watch.images import ImageInfo
from streamtomo.watch.mdoc import Mdoc, MdocSection
from streamtomo.watch.naming import ParsedName

Fact = Literal["tilt angle", "tilt axis", "pixel size"]
Witness = Literal["settings", "mdoc", "file beside", "header", "name"]
Statements = Mapping[Witness, float | None]
"""What each witness says, in order of precedence."""
Choose = Callable[[str, Fact, Statements], float | None]
"""Chooses the value of a fact for a series, and says where the statements disagree."""


class Kind(NamedTuple):
    """How one fact is compared and told."""

    code: str
    tolerance: float
    unit: str


KINDS: Mapping[Fact, Kind] = {
    "tilt angle": Kind("angle.disagrees", 1.0, "°"),
    "tilt axis": Kind("axis.disagrees", 1.0, "°"),
    "pixel size": Kind("pixel.disagrees", 0.01, " Å"),
}
"""Tolerances: nominal angles and those of the stage, rounded axes, pixel sizes with two decimals (a ratio)."""


class Sources(Struct, frozen=True, kw_only=True):
    """All that speak about one image."""

    mdoc: Mdoc | None = None
    section: MdocSection | None = None
    header: ImageInfo | None = None
    name: ParsedName | None = None
    reconciled: bool = False
    """Whether the mdoc came after names and headers were believed: where they differ is said of the whole series."""
    beside_deg: float | None = None
    """Its angle in a file of angles."""
    before: RawImage | None = None
    """The image as it was told of before, for what nobody says now."""


def disagreement(fact: Fact, statements: Statements) -> tuple[Witness, float, Witness, float] | None:
    """The first witness and the next that contradicts it, with their values."""
    said = [(witness, value) for witness, value in statements.items() if value is not None]
    if not said:
        return None
    first, *others = said
    return next(((*first, *other) for other in others if not _agree(fact, first[1], other[1])), None)


def build(series: str, path: str, section: int, sources: Sources, written_s: float | None, choose: Choose) -> RawImage:
    """The image as its sources describe it. Raises ValueError where none tells its angle or its size."""
    mdoc, part, header, name, before = sources.mdoc, sources.section, sources.header, sources.name, sources.before
    angle = choose(series, "tilt angle", angles_of(sources, section))
    size = header or before
    if angle is None or size is None:
        raise ValueError(f"{path}: neither angle nor size of section {section} are known")
    axis = choose(series, "tilt axis", _axes(mdoc, header))
    pixel = choose(series, "pixel size", _pixel_sizes(sources))
    acquired = _first(part.acquired_s if part else None, name.acquired_s if name else None)
    return RawImage(
        series=series,
        path=path,
        section=section,
        frames=size.frames,
        nx=size.nx,
        ny=size.ny,
        angle_deg=angle,
        acquired_s=acquired if acquired is not None or before is None else before.acquired_s,
        written_s=written_s,
        pixel_size_A=pixel if pixel is not None or before is None else before.pixel_size_A,
        tilt_axis_deg=axis if axis is not None or before is None else before.tilt_axis_deg,
        dose_e_A2=part.dose_e_A2 if part else None,
        prior_dose_e_A2=part.prior_dose_e_A2 if part else None,
        mdoc_section=part.z if part else None,
        exposure=before.exposure if before else None,
    )


def angles_of(sources: Sources, section: int) -> Statements:
    """What each witness says about the tilt angle; what was told before only where nobody else speaks."""
    header = sources.header.angles if sources.header else None
    found: Statements = {
        "mdoc": sources.section.angle_deg if sources.section else None,
        "file beside": sources.beside_deg,
        "header": header[section] if header and section < len(header) else None,
        "name": sources.name.angle_deg if sources.name else None,
    }
    if sources.reconciled and found["mdoc"] is not None:
        return {"mdoc": found["mdoc"]}
    nobody = all(value is None for value in found.values())
    return {"mdoc": sources.before.angle_deg} if nobody and sources.before else found


def _axes(mdoc: Mdoc | None, header: ImageInfo | None) -> Statements:
    return {"mdoc": mdoc.tilt_axis_deg if mdoc else None, "header": header.tilt_axis_deg if header else None}


def _pixel_sizes(sources: Sources) -> Statements:
    mdoc, section, header = sources.mdoc, sources.section, sources.header
    stated = _first(section.pixel_size_A if section else None, mdoc.pixel_size_A if mdoc else None)
    if sources.reconciled and stated is not None:
        return {"mdoc": stated}
    return {"mdoc": stated, "header": header.pixel_size_A if header else None}


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _agree(fact: Fact, one: float, other: float) -> bool:
    tolerance = KINDS[fact].tolerance
    if fact == "pixel size":
        return abs(one / other - 1) <= tolerance
    return abs(wrap_angle(one - other)) <= tolerance
