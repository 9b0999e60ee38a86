"""Tilt series in one file: growing stacks with their mdoc, and finished ones with their angles."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from streamtomo.errors import BadImage, NotReady
from streamtomo.model import RawImage
from streamtomo.watch.book import Book
from streamtomo.watch.images import MRC_SUFFIXES, ImageInfo
from streamtomo.watch.mdoc import Mdoc, MdocSection
from streamtomo.watch.naming import stem_of
from streamtomo.watch.settle import Seen

GROWN_UP_S = 60.0
"""A stack without an mdoc that was not written to for so long is taken as complete."""
ANGLE_TOLERANCE_DEG = 0.5
DAY_S = 86400
ANGLE_SUFFIXES = (".rawtlt", ".tlt")


class Readers(NamedTuple):
    """What touches the disk; tests put dictionaries here."""

    probe: Callable[..., ImageInfo]
    """`probe(path, growing=False)` as in `images`."""
    text: Callable[[str], str]
    """Text of a small file."""
    exists: Callable[[str], bool]


class Stacks:
    """Follows stacks section by section."""

    def __init__(self, book: Book, readers: Readers) -> None:
        self._book = book
        self._read = readers
        self._left_alone: set[str] = set()

    def follow(self, stack: str, mdoc: Mdoc, written_s: float) -> None:
        """Tell of the sections that the mdoc has committed and that were not told of.

        The stack is opened once if there are any. Raises `NotReady` when it lacks some, after telling of the others.
        """
        if stack in self._left_alone:
            return
        sections = {section.z: section for section in mdoc.sections}
        known = {z: image for z in sections if (image := self._book.images.get((stack, z)))}
        if not sections:
            return
        series = self._book.paths.get(stack) or self._book.name(stack, os.path.basename(stem_of(stack)))
        if any(_is_another(sections[z], image) for z, image in known.items()):
            self._leave_alone(stack, series)
            return
        for z, image in known.items():
            self._book.image(_image(series, stack, sections[z], mdoc, image, image.angle_deg, image.written_s))
        if len(known) == len(sections):
            return
        info = self._read.probe(stack, growing=True)
        self._describe(series, stack, mdoc, info)
        for z in sorted(sections.keys() - known.keys()):
            angle = _angle(sections[z], info)
            if z < info.whole_sections and angle is not None:
                self._book.image(_image(series, stack, sections[z], mdoc, info, angle, written_s))
        self._demand(stack, sections, info)

    def alone(self, seen: Seen, info: ImageInfo, now: float) -> None:
        """Tell of a whole stack that has no mdoc. Raises `NotReady` when no angles are found for it."""
        path, count = seen.path, info.sections
        angles, beside = self._angles(path, info)
        series = self._book.paths.get(path) or self._book.name(path, os.path.basename(stem_of(path)))
        complete = beside or info.angles_from == "FEI" or now - seen.mtime > GROWN_UP_S
        self._book.describe(
            series,
            path,
            planned=count if complete else None,
            pixel_size_A=info.pixel_size_A,
            axis_deg=info.tilt_axis_deg,
        )
        for z in range(count):
            self._book.image(
                RawImage(
                    series=series,
                    path=path,
                    section=z,
                    nx=info.nx,
                    ny=info.ny,
                    angle_deg=angles[z],
                    written_s=seen.mtime,
                    pixel_size_A=info.pixel_size_A,
                    tilt_axis_deg=info.tilt_axis_deg,
                )
            )

    def _describe(self, series: str, stack: str, mdoc: Mdoc, info: ImageInfo) -> None:
        axis = info.tilt_axis_deg if mdoc.tilt_axis_deg is None else mdoc.tilt_axis_deg
        self._book.describe(series, stack, pixel_size_A=mdoc.pixel_size_A or info.pixel_size_A, axis_deg=axis)

    def _demand(self, stack: str, sections: dict[int, MdocSection], info: ImageInfo) -> None:
        """Complain about sections that the mdoc has and that cannot be used."""
        if missing := [z for z in sections if z >= info.whole_sections]:
            raise NotReady(f"{stack}: has {info.whole_sections} whole images, its mdoc describes number {max(missing)}")
        if dumb := [z for z, section in sections.items() if _angle(section, info) is None]:
            raise NotReady(f"{stack}: no tilt angle for section {dumb[0]}, neither in the mdoc nor in the header")

    def _leave_alone(self, stack: str, series: str) -> None:
        self._left_alone.add(stack)
        text = (
            f"{stack}: was sorted or rewritten after its images were taken in; it is not followed any further. "
            "Finishing the series again reads wrong images: take it in anew under another name"
        )
        self._book.warn("stack.rewritten", text, about=stack, series=series)

    def _angles(self, path: str, info: ImageInfo) -> tuple[tuple[float, ...], bool]:
        """Angles of all sections, and whether they come from a file beside: nominal ones before solved ones."""
        stem, count = stem_of(path), info.sections
        for suffix in ANGLE_SUFFIXES:
            if suffix == ".tlt" and info.angles is not None:
                break
            if self._read.exists(stem + suffix):
                return parse_angles(self._read.text(stem + suffix), count, stem + suffix), True
        if info.angles is None:
            raise NotReady(
                f"{path}: {count} images without tilt angles; put {os.path.basename(stem)}.mdoc or .rawtlt beside it"
            )
        return info.angles, False


def stack_candidates(mdoc_path: str, mdoc: Mdoc) -> list[str]:
    """Stacks that an mdoc may describe: by the mdoc's name, by its `ImageFile`, by its stem."""
    folder, stem = os.path.dirname(mdoc_path), stem_of(mdoc_path)
    paths = [mdoc_path.removesuffix(".mdoc")]
    paths += [os.path.join(folder, mdoc.image_file)] if mdoc.image_file else []
    paths += [stem + suffix for suffix in sorted(MRC_SUFFIXES)]
    return [path for path in paths if os.path.splitext(path)[1].lower() in MRC_SUFFIXES]


def parse_angles(text: str, count: int, name: str) -> tuple[float, ...]:
    """Angles of a `.rawtlt` or `.tlt`. Raises `NotReady` unless there are `count`, `BadImage` for no numbers."""
    try:
        angles = tuple(float(word) for word in text.split())
    except ValueError as error:
        raise BadImage(f"{name}: holds something else than tilt angles ({error})") from error
    if len(angles) != count:
        raise NotReady(f"{name}: has {len(angles)} angles for {count} images")
    if not all(abs(angle) <= 180 for angle in angles):
        raise BadImage(f"{name}: holds numbers that are no tilt angles")
    return angles


def _angle(section: MdocSection, info: ImageInfo) -> float | None:
    if section.angle_deg is not None:
        return section.angle_deg
    return info.angles[section.z] if info.angles is not None and section.z < len(info.angles) else None


def _is_another(section: MdocSection, image: RawImage) -> bool:
    """Whether a section that was taken in now describes another exposure.

    Only the time of day is compared: how a date is read can change while the mdoc grows.
    """
    if (
        section.acquired_s is not None
        and image.acquired_s is not None
        and (section.acquired_s - image.acquired_s) % DAY_S
    ):
        return True
    return section.angle_deg is not None and abs(section.angle_deg - image.angle_deg) > ANGLE_TOLERANCE_DEG


def _image(
    series: str,
    path: str,
    section: MdocSection,
    mdoc: Mdoc,
    size: ImageInfo | RawImage,
    angle_deg: float,
    written_s: float | None,
) -> RawImage:
    """A stack's section as the mdoc describes it; what the mdoc does not know comes from the header."""
    return RawImage(
        series=series,
        path=path,
        section=section.z,
        nx=size.nx,
        ny=size.ny,
        angle_deg=angle_deg if section.angle_deg is None else section.angle_deg,
        acquired_s=section.acquired_s,
        written_s=written_s,
        pixel_size_A=section.pixel_size_A or mdoc.pixel_size_A or size.pixel_size_A,
        tilt_axis_deg=size.tilt_axis_deg if mdoc.tilt_axis_deg is None else mdoc.tilt_axis_deg,
        dose_e_A2=section.dose_e_A2,
        prior_dose_e_A2=section.prior_dose_e_A2,
        mdoc_section=section.z,
    )
