"""A folder in memory and the microscopes that write into it, in small steps that a test may interleave at will.

Each image knows which exposure it holds, so that a test can ask whether what was told is true.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from streamtomo.config import Acquisition
from streamtomo.errors import NoImageYet, NotReady
from streamtomo.model import RawImage
from streamtomo.watch.catalogue import Catalogue, is_wanted
from streamtomo.watch.images import ImageInfo
from streamtomo.watch.mdoc import is_mdoc
from streamtomo.watch.settle import Due, Seen, Settle
from streamtomo.watch.stacks import Readers, is_stack_name

SETTLE_S = 0.6
HALF = 60
"""Bytes of half an image."""
QUIET_S = 100.0
"""After so long nothing is waited for any more, unless nobody explains it."""


class Shot(NamedTuple):
    """One exposure, the `number`-th of the session."""

    series: str
    number: int
    angle: float

    @property
    def clock(self) -> str:
        minutes, seconds = divmod(20 * self.number, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{10 + hours:02d}:{minutes:02d}:{seconds:02d}"


class Pixels(NamedTuple):
    """Content of an image file."""

    shots: tuple[Shot, ...] = ()
    """What its sections hold."""
    whole: int = 0
    """Sections whose pixels are there."""
    angles: bool = False
    """Whether they are in the header, as SerialEM has them."""
    source: str = "SerialEM"
    kind: str = "mrc"
    frames: int = 1


class File(NamedTuple):
    """One file on the disk."""

    content: Pixels | str
    size: int
    mtime: float
    inode: int


class Disk:
    """Files by path."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.now = 5000.0
        """The file server's clock."""
        self.touched: list[str] = []
        self.inodes = itertools.count(1)

    def put(self, path: str, content: Pixels | str, size: int | None = None) -> None:
        """Write a file; no two writes have the same time."""
        self.now += 1e-3
        if size is None:
            size = len(content) if isinstance(content, str) else 1024 + 2 * HALF * content.whole
        inode = self.files[path].inode if path in self.files else next(self.inodes)
        self.files[path] = File(content, size, self.now, inode)
        self.touched.append(path)

    def add(self, path: str, text: str) -> None:
        """Append to a text."""
        before = self.files[path].content if path in self.files else ""
        self.put(path, before + text)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name; its time stays."""
        self.files[new] = self.files.pop(old)
        self.touched += [old, new]

    def copy(self, old: str, new: str, *, keep_time: bool = False) -> None:
        """A second file like this one."""
        self.put(new, self.files[old].content, self.files[old].size)
        if keep_time:
            self.files[new] = self.files[new]._replace(mtime=self.files[old].mtime)

    def remove(self, path: str) -> None:
        """Delete a file."""
        del self.files[path]
        self.touched.append(path)

    def touch(self, path: str) -> None:
        """A new time, the same content."""
        self.put(path, self.files[path].content, self.files[path].size)


class Watcher:
    """`FolderWatch` without a disk: listings, events that may be lost, and what was told at last of each exposure."""

    def __init__(self, disk: Disk, known=(), acquisition: Acquisition | None = None) -> None:
        self.disk, self.now = disk, 1000.0
        readers = Readers(self._probe, self._text, lambda path: path in disk.files, self._size, self._beside)
        self.settle, self.catalogue = Settle(SETTLE_S), Catalogue(acquisition or Acquisition(), readers, known)
        self.told: dict[str, RawImage] = {image.key: image for image in known}
        self.remarks: list = []
        self.opened: list[tuple[str, float]] = []
        self.unheard: dict[str, float] = {}
        """Files that no listing shows until then, and no event tells of."""

    def step(self, *, events_only: bool = False) -> None:
        """List the folder, or hear of what was touched, and look at what is due."""
        files, touched = self.disk.files, set(self.disk.touched)
        self.disk.touched.clear()
        for path in [path for path in (touched if events_only else files) if is_wanted(path)]:
            if self.now < self.unheard.get(path, 0.0):
                continue
            if path in files:
                self._saw(path)
            else:
                self._forget(path)
        if not events_only:
            for path in [path for path in self.settle.paths() if path not in files]:
                self._forget(path)
        dues = [due for due in self.settle.due(self.now, is_mdoc) if self._is_unchanged(due)]
        found = self.catalogue.look(dues, self.now, self.disk.now)
        for due in dues:
            (self.settle.peeked(due.seen.path, self.now) if due.why == "peek" else self.settle.done(due.seen.path))
        for path in found.unready:
            self.settle.retry(path, self.now)
        for sighting in [*found.sightings, *self.catalogue.tick(self.now)]:
            if isinstance(sighting, RawImage):
                self.told[sighting.key] = sighting
            else:
                self.remarks.append(sighting)

    def wait(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass."""
        for _ in range(round(seconds / step)):
            self.now += step
            self.disk.now += step
            self.step()

    def images(self) -> list[RawImage]:
        """All that can be read."""
        return [image for image in self.told.values() if image.gone is None]

    def _is_unchanged(self, due: Due) -> bool:
        file = self.disk.files.get(due.seen.path)
        if file is None:
            self._forget(due.seen.path)
            return False
        if (file.size, file.mtime) == (due.seen.size, due.seen.mtime) or due.why == "peek":
            return True
        self._saw(due.seen.path)
        return False

    def _saw(self, path: str) -> None:
        file = self.disk.files[path]
        seen = Seen(path, file.size, file.mtime, file.inode)
        if self.settle.observe(seen, self.now):
            self.catalogue.changed(seen, self.now)

    def _forget(self, path: str) -> None:
        self.settle.forget(path)
        self.catalogue.gone(path, self.now)

    def _file(self, path: str) -> File:
        if path not in self.disk.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.disk.files[path]

    def _size(self, path: str) -> int:
        return self._file(path).size

    def _beside(self, path: str) -> dict[str, float]:
        folder = os.path.dirname(path)
        stacks = [one for one in self.disk.files if os.path.dirname(one) == folder and is_stack_name(one)]
        return {one: self.disk.files[one].mtime for one in stacks if one != path}

    def _text(self, path: str) -> str:
        text = self._file(path).content
        assert isinstance(text, str)
        return text

    def _probe(self, path: str, *, growing: bool = False) -> ImageInfo:
        self.opened.append((path, self.now))
        pixels = self._file(path).content
        assert isinstance(pixels, Pixels)
        if not pixels.shots:
            raise NoImageYet(f"{path}: holds no image yet")
        if pixels.whole < len(pixels.shots) and not growing:
            raise NotReady(f"{path}: is short")
        angles = tuple(shot.angle for shot in pixels.shots) if pixels.angles else None
        return ImageInfo(
            kind=pixels.kind, nx=10, ny=10, sections=len(pixels.shots), frames=pixels.frames, dtype="<i2",
            data_offset=1024, whole_sections=pixels.whole, expected_bytes=1024 + 2 * HALF * len(pixels.shots),
            angles=angles,
            angles_from=pixels.source if angles else None, pixel_size_A=2.5,
        )  # fmt: skip


Step = Callable[[Disk], None]
"""One thing that a microscope does to the disk at once."""


def rest(disk: Disk) -> None:
    """Long enough for all that is there to be taken in: a pace has no shorter pause here."""


def shots(series: str, angles, first: int = 0, every: int = 1) -> list[Shot]:
    """Exposures of a series; `every` counts the series that are interleaved."""
    return [Shot(series, first + every * n, float(angle)) for n, angle in enumerate(angles)]


def head(image_file: str) -> str:
    """Of SerialEM's mdocs."""
    return f"PixelSpacing = 2.5\r\nImageFile = {image_file}\r\n\r\n[T =     Tilt axis angle = 85.3, binning = 1]\r\n"


def section(z: int | str, shot: Shot, frame: str = "") -> str:
    """Of SerialEM's mdocs; the blank line stands before it."""
    mark = f"MinMaxMean = {shot.number} {shot.number + 90} {shot.number + 0.5}\r\n"
    name = f"SubFramePath = D:\\FRAMES\\{frame}\r\n" if frame else ""
    key = f"Image = {z}" if isinstance(z, str) else f"ZValue = {z}"
    return (
        f"\r\n[{key}]\r\n{mark}TiltAngle = {shot.angle}\r\nStageZ = -2.5\r\n{name}"
        f"DateTime = 15-Jan-26  {shot.clock}\r\nFilterSlitAndLoss = 20 0\r\n"
    )


def in_pieces(text: str, cut: int) -> list[str]:
    """A text in two writes, cut anywhere."""
    cut %= max(1, len(text))
    return [text[:cut], text[cut:]] if cut else [text]


def grow(path: str, held: list[Shot], shot: Shot) -> Iterator[Step]:
    """SerialEM adds a section: pixels, header, angle."""
    before, after = tuple(held), (*held, shot)
    size = 1024 + 2 * HALF * len(before)
    for extra in (HALF, 2 * HALF):
        yield lambda disk, extra=extra: disk.put(path, Pixels(before, len(before), True), size + extra)
    yield lambda disk: disk.put(path, Pixels(after, len(after), True))


def serialem_stack(name: str, taken: list[Shot], cut: int = 7, *, rewrite: bool = False) -> Iterator[Step]:
    """A growing stack with its mdoc; `rewrite`: the mdoc is written whole each time."""
    path = f"{name}.mrc"
    yield lambda disk: disk.put(path, Pixels(), 1024)
    text = ""
    for z, shot in enumerate(taken):
        yield from grow(path, taken[:z], shot)
        new = (head(path) if z == 0 else "") + section(z, shot)
        if rewrite or z == 0:
            yield lambda disk: disk.put(f"{path}.mdoc", "")
        for piece in in_pieces(text + new if rewrite else new, cut * (z + 1)):
            yield lambda disk, piece=piece: disk.add(f"{path}.mdoc", piece)
        text += new


def rewritten(path: str, taken: list[Shot], cut: int = 7) -> Iterator[Step]:
    """A stack and its mdoc written anew under this name, section by section, the mdoc at the end."""
    for count in range(len(taken) + 1):
        yield lambda disk, count=count: disk.put(path, Pixels(tuple(taken[:count]), count, True))
    yield lambda disk: disk.put(f"{path}.mdoc", "")
    for piece in in_pieces(head(path) + "".join(section(z, shot) for z, shot in enumerate(taken)), cut * 31):
        yield lambda disk, piece=piece: disk.add(f"{path}.mdoc", piece)


def sorted_in_place(name: str, taken: list[Shot], cut: int = 7) -> Iterator[Step]:
    """The stack is overwritten by itself in ascending tilt, and its mdoc."""
    ordered = sorted(taken, key=lambda shot: shot.angle)
    path = f"{name}.mrc"
    for count in range(1, len(taken) + 1):
        mixed = tuple(ordered[:count]) + tuple(taken[count:])
        yield lambda disk, mixed=mixed: disk.put(path, Pixels(mixed, len(mixed), True))
    yield lambda disk: disk.put(f"{path}.mdoc", "")
    for piece in in_pieces(head(path) + "".join(section(z, shot) for z, shot in enumerate(ordered)), cut * 31):
        yield lambda disk, piece=piece: disk.add(f"{path}.mdoc", piece)


def sorted_aside(name: str, taken: list[Shot], cut: int = 7) -> Iterator[Step]:
    """As PACEtomo does: the unsorted files get another name, and sorted ones take theirs."""
    path = f"{name}.mrc"
    for suffix in ("", ".mdoc"):
        yield lambda disk, suffix=suffix: disk.rename(path + suffix, f"{name}_unsorted.mrc{suffix}")
    yield from rewritten(path, sorted(taken, key=lambda shot: shot.angle), cut)


def sorted_aside_by_section(name: str, taken: list[Shot], cut: int = 7) -> Iterator[Step]:
    """The same, by a program that writes the sorted stack as the microscope wrote the first one."""
    for suffix in ("", ".mdoc"):
        yield lambda disk, suffix=suffix: disk.rename(f"{name}.mrc{suffix}", f"{name}_unsorted.mrc{suffix}")
    yield from serialem_stack(name, sorted(taken, key=lambda shot: shot.angle), cut)


def sorted_then_renamed(name: str, taken: list[Shot], cut: int = 7) -> Iterator[Step]:
    """A sorted copy is written beside the stack, which is deleted, and gets its name."""
    path, other = f"{name}.mrc", f"{name}_sorted.mrc"
    yield from rewritten(other, sorted(taken, key=lambda shot: shot.angle), cut)
    for suffix in ("", ".mdoc"):
        yield lambda disk, suffix=suffix: disk.remove(path + suffix)
    for suffix in ("", ".mdoc"):
        yield lambda disk, suffix=suffix: disk.rename(other + suffix, path + suffix)


def renamed(name: str, taken: list[Shot], cut: int = 7, suffixes=("", ".mdoc")) -> Iterator[Step]:
    """The stack and its mdoc move to a folder when the series is over."""
    for suffix in suffixes:
        yield lambda disk, suffix=suffix: disk.rename(f"{name}.mrc{suffix}", f"done/{name}.mrc{suffix}")


class _Below:
    """A folder of a disk, to steps that know nothing of it."""

    def __init__(self, disk: Disk, folder: str) -> None:
        self._disk, self._folder = disk, folder

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*arguments: object, **options: object) -> None:
            paths = 2 if name in ("rename", "copy") else 1
            places = [f"{self._folder}/{argument}" for argument in arguments[:paths]]
            getattr(self._disk, name)(*places, *arguments[paths:], **options)

        return call


def below(folder: str, steps: Iterable[Step]) -> Iterator[Step]:
    """The same steps in a folder of their own."""
    for step in steps:
        yield lambda disk, step=step: step(_Below(disk, folder))


def paths_of(steps: Iterable[Step]) -> list[str]:
    """The files that are there after these steps, in the order they were written."""
    disk = Disk()
    for step in steps:
        step(disk)
    return list(disk.files)


def moved_away(steps: list[Step], folder: str = "done/") -> Iterator[Step]:
    """All that these steps wrote is moved to another folder, file by file."""
    for path in paths_of(steps):
        yield lambda disk, path=path: disk.rename(path, folder + os.path.basename(path))


def backed_up(steps: list[Step], folder: str = "backup/", *, keep_time: bool = True) -> Iterator[Step]:
    """All that these steps wrote is copied to another folder, file by file."""
    for path in paths_of(steps):
        new = folder + os.path.basename(path)
        yield lambda disk, path=path, new=new: disk.copy(path, new, keep_time=keep_time)


def exposure_file(path: str, shot: Shot, kind: str = "tiff", sections: int = 1, frames: int = 1) -> Iterator[Step]:
    """A file with one exposure, in two writes."""
    held = (shot,) * sections
    yield lambda disk: disk.put(path, Pixels(held, 0, kind=kind, frames=frames), HALF)
    yield lambda disk: disk.put(path, Pixels(held, sections, kind=kind, frames=frames))


def frames_and_mdoc(
    name: str, taken: list[Shot], cut: int = 7, *, folder: str = "frames/", root: str | None = None, idoc: bool = False
) -> Iterator[Step]:
    """SerialEM's frame files, and the mdoc or idoc that names them."""
    for z, shot in enumerate(taken):
        number = shot.number if root else z  # a root of several series counts the images of all
        frame = f"{root or name}_{number:03d}_{shot.angle:.1f}.tif"
        yield from exposure_file(folder + frame, shot, frames=8)
        new = (head(f"{name}.mrc") if z == 0 else "") + section(frame if idoc else z, shot, "" if idoc else frame)
        for piece in in_pieces(new, cut * (z + 1)):
            yield lambda disk, piece=piece: disk.add(f"{name}.{'idoc' if idoc else 'mrc.mdoc'}", piece)


def names_only(name: str, taken: list[Shot], cut: int = 7) -> Iterator[Step]:
    """Single files without an mdoc."""
    for z, shot in enumerate(taken):
        yield from exposure_file(f"{name}_{z:03d}_{shot.angle:.1f}.mrc", shot, "mrc")


def tomo5(
    name: str, taken: list[Shot], cut: int = 7, *, off: float = 0.01, stack: bool = False, override: bool = False
) -> Iterator[Step]:
    """Tomography 5: names first, the mdoc at the end, with `override` a copy of it; `stack`: the sums in one file."""
    text = f"ImageFile = {name}.mrc\r\nPixelSpacing = 2.5\r\n\r\n[T = TiltAxisAngle = 94.7 Binning = 1]\r\n"
    for z, shot in enumerate(taken):
        stamp = shot.clock.replace(":", "")
        frame = f"{name}_{z + 1:03d}_{shot.angle:.2f}_20260115_{stamp}_fractions.tiff"
        yield from exposure_file(frame, shot, frames=8)
        text += section(z, Shot(shot.series, shot.number, shot.angle + off), frame)
    copies = [name, f"{name}_override"] if override else [name]
    for copy in copies:
        for piece in in_pieces(text, cut * 31):
            yield lambda disk, piece=piece, copy=copy: disk.add(f"{copy}.mdoc", piece)
    if stack:
        yield lambda disk: disk.put(f"{name}.mrc", Pixels(tuple(taken), 1), 1024 + HALF)
        yield lambda disk: disk.put(f"{name}.mrc", Pixels(tuple(taken), len(taken)))


def finished(name: str, taken: list[Shot], cut: int = 7, *, angles: str = ".rawtlt") -> Iterator[Step]:
    """A whole stack with its angles in a file beside it, or in its header (`FEI`, `SerialEM`)."""
    pixels = Pixels(tuple(taken), len(taken), angles[0] != ".", angles)
    yield lambda disk: disk.put(f"{name}.mrc", pixels._replace(whole=len(taken) // 2))
    yield lambda disk: disk.put(f"{name}.mrc", pixels)
    if angles[0] == ".":
        for piece in in_pieces("".join(f"{shot.angle:7.2f}\n" for shot in taken), cut):
            yield lambda disk, piece=piece: disk.add(name + angles, piece)


def disagreements(watcher: Watcher, taken: list[Shot], tolerance: float = 0.02) -> list[str]:
    """In words, where what was told differs from what was taken: lost, doubled, mixed up, in a wrong place."""
    wrong: list[str] = []
    held: dict[Shot, list[RawImage]] = {shot: [] for shot in taken}
    for image in watcher.images():
        file = watcher.disk.files.get(image.path)
        if file is None:
            wrong.append(f"{image.key} should lie in {image.path}, which is gone")
        elif image.section >= _sections(watcher.disk, image.path) or file.content.shots[image.section] not in held:
            wrong.append(f"{image.key} lies in {image.path}, {image.section}, where no such exposure is")
        else:
            held[file.content.shots[image.section]].append(image)
    names: dict[str, set[str]] = {}
    for shot, found in held.items():
        names.setdefault(shot.series, set()).update(image.series for image in found)
        if len(found) != 1:
            wrong.append(f"{shot} was told {len(found)} times: {[image.key for image in found]}")
        wrong += [f"{shot}: {i.angle_deg}" for i in found if abs(i.angle_deg - shot.angle) > tolerance]
    wrong += [f"{name} became {found}" for name, found in names.items() if len(found) != 1]
    several = [found for found in names.values() if len(found) == 1]
    if len({next(iter(found)) for found in several}) != len(several):
        wrong.append(f"series share a name: {names}")
    return wrong + _order(watcher, taken)


def _order(watcher: Watcher, taken: list[Shot]) -> list[str]:
    """Where times tell another order than the true one."""
    number = {
        image.acquired_s: watcher.disk.files[image.path].content.shots[image.section].number
        for image in watcher.images()
        if image.acquired_s is not None and image.section < _sections(watcher.disk, image.path)
    }
    numbers = [number[time] for time in sorted(number)]
    return [] if numbers == sorted(numbers) else [f"order {numbers}"]


def _sections(disk: Disk, path: str) -> int:
    file = disk.files.get(path)
    return len(file.content.shots) if file else 0


def stem(path: str) -> str:
    """Name without folder and suffix."""
    return os.path.splitext(os.path.basename(path))[0]
