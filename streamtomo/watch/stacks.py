"""Tilt series in one file: growing stacks with their mdoc, and finished ones with their angles."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from streamtomo.errors import BadImage, NotReady
from streamtomo.model import RawImage
from streamtomo.watch.book import Book
from streamtomo.watch.continued import begun_as, continues
from streamtomo.watch.exposures import Elsewhere, Recognised, found_in, is_angle_of, recognise
from streamtomo.watch.images import MRC_SUFFIXES, ImageInfo
from streamtomo.watch.mdoc import Mdoc, MdocSection
from streamtomo.watch.naming import is_by_product, stack_series, stem_of
from streamtomo.watch.settle import Seen, Why
from streamtomo.watch.sources import Sources, build

GROWN_UP_S = 60.0
"""A stack without an mdoc that was not written to for so long is taken as complete."""
ANGLE_SUFFIXES = (".rawtlt", ".tlt")


def stacks_beside(path: str) -> dict[str, float]:
    """The other stacks in the folder of one, and when each was written, in seconds since 1970."""
    with os.scandir(os.path.dirname(path) or ".") as entries:
        stacks = [one for one in entries if is_stack_name(one.name) and one.name != os.path.basename(path)]
        return {one.path: one.stat().st_mtime for one in stacks}


def is_stack_name(path: str) -> bool:
    """Whether a file of this name can be a stack of tilts."""
    return os.path.splitext(path)[1].lower() in MRC_SUFFIXES and not is_by_product(path)


class Readers(NamedTuple):
    """What touches the disk; tests put dictionaries here."""

    probe: Callable[..., ImageInfo]
    """`probe(path, growing=False)` as in `images`."""
    text: Callable[[str], str]
    """Text of a small file."""
    exists: Callable[[str], bool]
    size: Callable[[str], int] = os.path.getsize
    beside: Callable[[str], Mapping[str, float]] = stacks_beside
    """Other stacks in a stack's folder, with the times when they were written."""


class Stacks:
    """Follows stacks section by section."""

    def __init__(self, book: Book, readers: Readers) -> None:
        self._book = book
        self._read = readers
        self._originals: dict[str, str] = {}
        """By stack that only repeats exposures: the file that they are taken from."""
        self._infos: dict[str, ImageInfo] = {}
        """What the headers of growing stacks told when they were opened."""
        self._mdocs: dict[str, Mdoc] = {}
        """The mdocs of stacks that are followed, by stem."""
        self._settled: set[str] = set()
        """Files of angles that may be read."""

    def follow(self, stack: str, mdoc: Mdoc, written_s: float, *, why: Why) -> None:
        """Tell of the sections that the mdoc has committed and that were not told of.

        The stack is opened for the first of them, and where something contradicts what is known of it. Raises
        `NotReady` when it lacks some, after telling of the others, and while it is being sorted or overwritten, before
        telling of any.
        """
        sections = {section.z: section for section in mdoc.sections}
        if not sections:
            return
        found = self._recognise(stack, sections)
        if found.lost and self._set_aside(stack, found.lost, why):
            found = self._recognise(stack, sections)
        elsewhere = self._book.exposures.elsewhere(stack, found.new)
        new = found.new.keys() - elsewhere.moved.keys() - elsewhere.copied.keys()
        info = None
        if found.moved or found.lost or elsewhere.moved:
            info = self._infos[stack] = self._read.probe(stack, growing=True)
        elif new:
            info = self._grown(stack, [sections[z] for z in new])
        if info is not None and (found.moved or found.lost):
            _demand_whole(stack, sections, found, info, why)
        series = self._series(stack, mdoc, found, elsewhere)
        self._mdocs[stem_of(stack)] = mdoc
        self._move(stack, series, mdoc, found, elsewhere.moved, sections)
        for z, image in found.stay.items():
            sources = Sources(mdoc=mdoc, section=sections[z], before=image)
            self._tell(series, stack, z, sources, image.written_s)
        self._leave_out(stack, elsewhere.copied)
        if info is None:
            return
        self._describe(series, stack, mdoc, info)
        for z in sorted(new):
            sources = Sources(mdoc=mdoc, section=sections[z], header=info)
            if z < info.whole_sections and _has_angle(sections[z], info):
                self._tell(series, stack, z, sources, written_s)
        self._demand(stack, sections, info)

    def alone(self, seen: Seen, info: ImageInfo, now: float) -> None:
        """Tell of a whole stack that has no mdoc. Raises `NotReady` when no angles are found for it."""
        path, count = seen.path, info.sections
        beside, solved = self._angles(path, info)
        old = self._book.exposures.vanished(path, seen.mtime, count)
        wanted = stack_series(path)
        series = self._book.paths.get(path) or (self._book.name(path, wanted) if old is None else old)
        complete = beside is not None or info.angles_from == "FEI" or now - seen.mtime > GROWN_UP_S
        self._book.describe(
            series,
            path,
            planned=count if complete else None,
            pixel_size_A=info.pixel_size_A,
            axis_deg=info.tilt_axis_deg,
        )
        header = replace(info, angles=None) if solved else info
        for z in range(count):
            told = self._book.exposures.at(path, z)
            if told is not None and told.mdoc_section is not None:  # which knew more
                continue
            sources = Sources(header=header, beside_deg=None if beside is None else beside[z])
            self._tell(series, path, z, sources, seen.mtime)

    def had_mdoc(self, stack: str) -> bool:
        """Whether an mdoc told of a stack's images before."""
        return any(image.mdoc_section is not None for image in self._book.exposures.of(stack).values())

    def angles_settled(self, path: str) -> list[str]:
        """A file of angles may be read; the stacks that it may belong to."""
        self._settled.add(path)
        stacks = [stem_of(path) + suffix for suffix in sorted(MRC_SUFFIXES)]
        return [stack for stack in stacks if self._read.exists(stack)]

    def repeats(self, stack: str) -> str | None:
        """The file that the exposures of a stack that is left out are taken from."""
        return self._originals.get(stack)

    def orphans(self) -> list[str]:
        """Stacks that repeat what a file held that is gone now."""
        return [stack for stack, original in self._originals.items() if not self._read.exists(original)]

    def _grown(self, stack: str, new: Sequence[MdocSection]) -> ImageInfo:
        """What a stack holds now that its mdoc tells of new sections; how many, its length tells without opening it.

        Opening it is left to whoever reads the pixels: each time may be one in which the microscope cannot write.
        """
        before = self._infos.get(stack)
        if before is not None and all(section.angle_deg is not None for section in new):
            section_bytes = (before.expected_bytes - before.data_offset) // before.sections
            whole = (self._read.size(stack) - before.data_offset) // section_bytes
            if whole >= before.whole_sections:
                return replace(before, sections=max(whole, before.sections), whole_sections=whole)
        info = self._infos[stack] = self._read.probe(stack, growing=True)
        return info

    def _recognise(self, stack: str, sections: Mapping[int, MdocSection]) -> Recognised:
        """What the stack holds; first withdraws what was told of it without a time and is known from another file."""
        found = recognise(sections, self._book.exposures.of(stack))
        timeless = {z: sections[z] for z, image in found.stay.items() if image.acquired_s is None}
        moved, copied = self._book.exposures.elsewhere(stack, timeless)
        if not (twins := copied | moved):
            return found
        self._book.withdraw(
            [
                replace(found.stay[z], gone=f"it is the exposure that was taken from {twin.path}")
                for z, twin in twins.items()
            ]
        )
        return recognise(sections, self._book.exposures.of(stack))

    def _set_aside(self, stack: str, lost: Sequence[RawImage], why: Why) -> bool:
        """Whether images that are not in a stack any more lie in another one, which had its name before; tells it.

        Raises `NotReady` while there is one that may hold them and was not looked at yet.
        """
        for other in [other for other, original in self._originals.items() if original == stack]:
            if renamed := found_in(self._mdocs[stem_of(other)], other, lost):
                del self._originals[other]
                self._book.adopt(other, self._book.paths[stack])
                self._book.tell(renamed)
                return True
        if why == "expired":
            return False
        since = min((image.written_s for image in lost if image.written_s is not None), default=math.inf)
        for other, written_s in self._read.beside(stack).items():
            if written_s >= since and other not in self._book.paths and other not in self._originals:
                raise NotReady(f"{stack}: is being sorted or overwritten; {other} may hold what lay in it")
        return False

    def _series(self, stack: str, mdoc: Mdoc, found: Recognised, elsewhere: Elsewhere) -> str:
        """The series that a stack belongs to now; overwritten from its first image on, it holds another one."""
        known = self._book.paths.get(stack)
        wanted = stack_series(stack)
        if known is not None and found.lost and not found.stay and not found.moved:
            return self._book.renew(stack, wanted)
        images = [*elsewhere.moved.values(), *elsewhere.copied.values()]
        if known is None and images:
            known = images[0].series
        if known is None:
            known = self._continued(stack, mdoc)
        if known is not None:
            self._book.adopt(stack, known)
        return known or self._book.name(stack, wanted)

    def _continued(self, stack: str, mdoc: Mdoc) -> str | None:
        """The series of another stack that goes on in this one."""
        stem = begun_as(stem_of(stack))
        first = self._mdocs.get(stem) if stem else None
        beside = (f"{stem}{suffix}" for suffix in MRC_SUFFIXES)
        series = next((self._book.paths[path] for path in beside if path in self._book.paths), None)
        if series is None or first is None or not continues(first, mdoc):
            return None
        self._book.warn("series.continued", f"{series}: goes on in {stack}", about=stack, series=series)
        return series

    def _tell(self, series: str, stack: str, z: int, sources: Sources, written_s: float | None) -> None:
        image = build(series, stack, z, sources, written_s, self._book.choose)
        self._book.image(image, mark=sources.section.mark if sources.section else None)

    def _move(
        self,
        stack: str,
        series: str,
        mdoc: Mdoc,
        found: Recognised,
        renamed: Mapping[int, RawImage],
        sections: Mapping[int, MdocSection],
    ) -> None:
        """Tell where images lie now that their file was sorted or renamed, and which were overwritten."""
        images = [
            replace(
                build(image.series, stack, z, Sources(mdoc=mdoc, section=sections[z], before=image), image.written_s,
                      self._book.choose),
                exposure=image.key,
            )
            for z, image in [*found.moved.items(), *renamed.items()]
        ]  # fmt: skip
        gone = [
            replace(image, exposure=image.key, gone=f"another exposure lies in its place in {stack}")
            for image in found.lost
        ]
        if gone:
            text = f"{stack}: {len(gone)} images were overwritten after they were taken in; they are left out"
            self._book.warn("image.overwritten", text, about=stack, series=series)
        if images or gone:
            self._book.tell([*gone, *images])

    def _leave_out(self, stack: str, copied: Mapping[int, RawImage]) -> None:
        self._originals.pop(stack, None)
        if not copied:
            return
        original = next(iter(copied.values())).path
        self._originals[stack] = original
        text = f"is left out: it holds {len(copied)} exposures again that are taken from {original}"
        self._book.refuse(stack, text)

    def _describe(self, series: str, stack: str, mdoc: Mdoc, info: ImageInfo) -> None:
        axis = info.tilt_axis_deg if mdoc.tilt_axis_deg is None else mdoc.tilt_axis_deg
        self._book.describe(series, stack, pixel_size_A=mdoc.pixel_size_A or info.pixel_size_A, axis_deg=axis)

    def _demand(self, stack: str, sections: dict[int, MdocSection], info: ImageInfo) -> None:
        """Complain about sections that the mdoc has and that cannot be used."""
        if missing := [z for z in sections if z >= info.whole_sections]:
            raise NotReady(f"{stack}: has {info.whole_sections} whole images, its mdoc describes number {max(missing)}")
        if dumb := [z for z, section in sections.items() if not _has_angle(section, info)]:
            raise NotReady(f"{stack}: no tilt angle for section {dumb[0]}, neither in the mdoc nor in the header")

    def _angles(self, path: str, info: ImageInfo) -> tuple[tuple[float, ...] | None, bool]:
        """Angles from a file beside, if one is believed, and whether somebody solved them: nominal ones come first."""
        stem, count = stem_of(path), info.sections
        for suffix in ANGLE_SUFFIXES:
            if suffix == ".tlt" and info.angles is not None:
                break
            if self._read.exists(stem + suffix):
                if stem + suffix not in self._settled:
                    raise NotReady(f"{stem}{suffix}: is still being written")
                return parse_angles(self._read.text(stem + suffix), count, stem + suffix), suffix == ".tlt"
        if info.angles is None:
            raise NotReady(
                f"{path}: {count} images without tilt angles; put {os.path.basename(stem)}.mdoc or .rawtlt beside it"
            )
        return None, False


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
        if not text.endswith("\n"):
            raise NotReady(f"{name}: its last line has no end") from error
        raise BadImage(f"{name}: holds something else than tilt angles ({error})") from error
    if len(angles) != count:
        raise NotReady(f"{name}: has {len(angles)} angles for {count} images")
    if not all(abs(angle) <= 180 for angle in angles):
        raise BadImage(f"{name}: holds numbers that are no tilt angles")
    return angles


def _demand_whole(
    stack: str, sections: Mapping[int, MdocSection], found: Recognised, info: ImageInfo, why: Why
) -> None:
    """An mdoc that contradicts what was taken in is believed when it is still, and agrees with the stack itself.

    Raises `NotReady` else; at the last chance it is believed as it is.
    """
    if why == "expired":
        return
    before = len(found.stay) + len(found.moved) + len(found.lost)
    fewer = bool(found.lost) and bool(found.stay or found.moved) and len(sections) < before
    if why == "peek" or fewer or info.whole_sections < info.sections or len(sections) < info.sections:
        raise NotReady(
            f"{stack}: is being sorted or overwritten ({len(sections)} sections of {info.sections} in its mdoc)"
        )
    angles = info.angles if info.angles_from == "SerialEM" else None
    if angles and not all(is_angle_of(sections[z], angles[z]) for z in sections if z < len(angles)):
        raise NotReady(f"{stack}: is being sorted (the angles in its header are in another order than its mdoc's)")


def _has_angle(section: MdocSection, info: ImageInfo) -> bool:
    return section.angle_deg is not None or (info.angles is not None and section.z < len(info.angles))
