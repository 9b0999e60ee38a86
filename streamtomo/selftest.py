"""What a run would find: `streamtomo selftest`. Nothing is written in the watched folder, nothing unsettled opened."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from msgspec import Struct

from streamtomo.config import Settings
from streamtomo.errors import InputError, SettingsError, StreamtomoError
from streamtomo.footprint import series_bytes
from streamtomo.messages import Finding, SessionStarted
from streamtomo.model import RawImage
from streamtomo.names import table
from streamtomo.outfolder import check_folder, free_GB, readable
from streamtomo.plan import planned_angles
from streamtomo.publish import journal
from streamtomo.publish.endpoints import command_socket, is_running
from streamtomo.publish.lines import printable
from streamtomo.references import ReferenceReader
from streamtomo.watch.events import Events, listen
from streamtomo.watch.folder import list_files
from streamtomo.watch.image_file import ImageInfo
from streamtomo.watch.images import is_image, probe
from streamtomo.watch.mounts import mount_of
from streamtomo.watch.naming import Names
from streamtomo.watch.settle import Seen
from streamtomo.watch.survey import FIRST, Reading, readings, span, survey

USUAL_TILTS = 41
"""Where nothing tells how many tilts a series has."""
WIDTH = 100
"""Of the text where there is no terminal."""


class Report(Struct, frozen=True, kw_only=True):
    """Everything found."""

    watched: str
    out: str | None
    findings: tuple[Finding, ...]
    names: tuple[Reading, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether a run could not work."""
        return any(one.level == "failed" for one in self.findings)


def show(watched: Path, out: Path | None, settings: Settings, *, json: bool) -> int:
    """Print what a run of `watched` would find, its results going to `out`; 0, or 1 where it could not work."""
    report = examine(watched.absolute(), out.absolute() if out else None, settings)
    if json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    else:
        for line in _lines(report):
            print(printable(line))
    return 1 if report.failed else 0


def examine(watched: Path, out: Path | None, settings: Settings) -> Report:
    """Look at both folders."""
    findings, names, need = list[Finding](), tuple[Reading, ...](), None
    try:
        check_folder(watched, out or Path("/"))
        look = Look(watched, settings)
        findings += look.findings()
        names, need = look.readings(), look.series_GB()
    except SettingsError as error:
        findings.append(Finding(about="folder", text=str(error), level="failed"))
    except OSError as error:
        text = f"{watched}: cannot be listed ({error.strerror}); let this user read it"
        findings.append(Finding(about="rights", text=text, level="failed"))
    findings += examine_out(watched, out, settings, need)
    clean = [msgspec.structs.replace(one, text=readable(one.text)) for one in findings]
    files = tuple(msgspec.structs.replace(one, file=readable(one.file)) for one in names)
    goal = readable(str(out)) if out else None
    return Report(watched=readable(str(watched)), out=goal, findings=tuple(clean), names=files)


# -- the watched folder ------------------------------------------------------------------------------------------------


class Look:
    """A look at the watched folder: two listings, and the headers of a few files that rested between them."""

    def __init__(self, watched: Path, settings: Settings) -> None:
        """Raises OSError if the folder cannot be listed."""
        self._folder, self._settings = str(watched), settings
        self._denied: set[str] = set()
        began = time.perf_counter()
        first = {seen.path: seen for seen in self._list()}
        self._listing_s = time.perf_counter() - began
        time.sleep(settings.watch.settle_s)
        self._files = sorted(self._list(), key=lambda seen: seen.path)
        self._still = {seen.path for seen in self._files if first.get(seen.path) == seen}
        self._images = [seen.path for seen in self._files if is_image(seen.path)]
        self._faults: list[str] = []
        self._image = next(self._probed(), None)

    def _list(self) -> list[Seen]:
        return list(list_files(self._folder, denied=lambda path, error: self._denied.add(path)))

    def _probed(self) -> Iterator[tuple[str, ImageInfo]]:
        for path in [path for path in self._images if path in self._still][:FIRST]:
            try:
                yield path, probe(path)
            except (InputError, OSError) as error:
                self._faults.append(str(error))

    def findings(self) -> Iterator[Finding]:
        """In the order in which they matter."""
        mount = mount_of(self._folder)
        events = Events(self._folder)
        no_events = listen(events, self._settings.watch, mount)
        events.close()
        denied = self._denied | {seen.path for seen in self._files if not os.access(seen.path, os.R_OK)}
        yield from survey(
            self._folder, self._files, self._settings, time.time(), mount=mount, no_events=no_events, denied=denied
        )
        moving = len(self._files) - len(self._still)
        text = f"{len(self._files)} files of use in {1000 * self._listing_s:.1f} ms; {moving} changed meanwhile"
        yield Finding(about="listing", text=text)
        for fault in self._faults:
            yield Finding(about="image", text=fault, level="warning")
        if self._image is not None:
            yield Finding(about="image", text=_described(*self._image))
            yield from self._camera(*self._image)

    def _camera(self, path: str, info: ImageInfo) -> Iterator[Finding]:
        """Whether gain and defects can be read, and fit."""
        movies = self._settings.movies
        if not (movies.gain or movies.defects):
            return
        image = RawImage(series="", path=path, nx=info.nx, ny=info.ny, angle_deg=0.0)
        camera = ReferenceReader(self._settings).of(image)
        for code, text in camera.warnings:
            yield Finding(about=code, text=text, level="warning")
        if not camera.warnings:
            text = f"gain and defects fit images of {info.nx} x {info.ny}, {int(camera.bad.sum())} bad pixels"
            yield Finding(about="gain", text=text)

    def readings(self) -> tuple[Reading, ...]:
        """How the names of the first images are understood."""
        others = [seen.path for seen in self._files if not is_image(seen.path)]
        names = Names(self._settings.acquisition.name_patterns)
        return tuple(readings(self._folder, self._images, others, names, FIRST))

    def series_GB(self) -> tuple[float, int] | None:
        """What the results of a series like these will take, and of how many tilts; None before the first image."""
        if self._image is None:
            return None
        path, info = self._image
        acquisition = self._settings.acquisition
        names = Names(acquisition.name_patterns)
        by_name = Counter(name.series for one in self._images if (name := names.parse(one)))
        stack = 0 if names.parse(path) else info.sections
        seen = max([stack, *by_name.values()])
        tilts = acquisition.planned_tilts or len(planned_angles(acquisition.planned_angles))
        tilts = tilts or (seen if seen >= self._settings.watch.min_tilts else USUAL_TILTS)
        movies = info.frames > 1 or (info.sections > 1 and not stack)
        needed = series_bytes(
            (info.ny, info.nx), tilts, self._settings, movies=movies, axis_deg=info.tilt_axis_deg or 0.0,
            pixel_size_A=acquisition.pixel_size_A or info.pixel_size_A,
        )  # fmt: skip
        return needed / 1e9, tilts


def _described(path: str, info: ImageInfo) -> str:
    """What the headers of an image tell."""
    words = [f"{info.nx} x {info.ny} {info.dtype.lstrip('<>|=')}"]
    words += [f"{info.sections} sections"] if info.sections > 1 else []
    words += [f"{info.frames} frames"] if info.frames > 1 else []
    words.append(f"pixel {info.pixel_size_A:g} Å" if info.pixel_size_A else "pixel size not told")
    words += [f"axis {info.tilt_axis_deg:g}°"] if info.tilt_axis_deg is not None else []
    return f"{os.path.basename(path)}: {', '.join(words)}"


# -- the output folder -------------------------------------------------------------------------------------------------


def examine_out(
    watched: Path, out: Path | None, settings: Settings, need: tuple[float, int] | None
) -> Iterator[Finding]:
    """Whether results can go there, and how many; `need` is GB and tilts of a series."""
    if out is None:
        yield Finding(about="out", text="rights and space were not tried: give --out")
        return
    if is_running(out):
        yield Finding(about="out", text=f"{out}: a run is at work there, a second one could not be", level="warning")
    else:
        yield from _earlier(watched, out)
        yield _trial(out)
    yield _room(out, settings, need)


def _earlier(watched: Path, out: Path) -> Iterator[Finding]:
    """What an earlier run left there."""
    if not out.is_dir():
        return
    try:
        first = next(journal.read(out / "journal.jsonl"), None)
    except StreamtomoError as error:
        yield Finding(about="out", text=str(error), level="failed")
        return
    if first is not None and isinstance(first.event, SessionStarted):
        if Path(first.event.watched) != watched:
            text = f"{out}: holds results of {first.event.watched}; choose another --out"
            yield Finding(about="out", text=text, level="failed")
        else:
            yield Finding(about="out", text="holds results of this folder: a run would go on with them")


def _trial(out: Path) -> Finding:
    """Write, rename and lock a file there, open a socket, and leave everything as it was."""
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    part, whole = out / ".selftest.part", out / ".selftest"
    try:
        with ExitStack() as undo:
            for folder in reversed(missing):
                folder.mkdir()
                undo.callback(folder.rmdir)
            for path in (part, whole):
                undo.callback(path.unlink, missing_ok=True)
            with part.open("wb") as file:
                file.write(b"x")
                os.fsync(file.fileno())
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.replace(whole)
            ahead = whole.stat().st_mtime - time.time()
            _bind(command_socket(out))
    except OSError as error:
        text = f"{out}: cannot be written, locked or hold a socket ({error.strerror}); choose another --out"
        return Finding(about="out", text=text, level="failed")
    text = f"{out}: can be written, renamed in and locked"
    if abs(ahead) > 1.0:
        side = "ahead of" if ahead > 0 else "behind"
        text += f"; its clock is {span(abs(ahead))} {side} this machine's"
        return Finding(about="out", text=text, level="warning")
    return Finding(about="out", text=text)


def _bind(path: Path) -> None:
    """Open the socket for commands, and close it again; one that is there already is somebody's."""
    if path.exists():
        return
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.bind(str(path))
        finally:
            path.unlink(missing_ok=True)


def _room(out: Path, settings: Settings, need: tuple[float, int] | None) -> Finding:
    """How many series there is room for."""
    free = free_GB(next((folder for folder in (out, *out.parents) if folder.exists()), out))
    if free is None:
        return Finding(about="space", text="the free space cannot be told", level="warning")
    reserve = settings.alarms.reserve_GB
    if free < reserve:
        text = f"{free:g} GB free, less than {reserve:g} (alarms.reserve_GB): nothing would be processed"
        return Finding(about="space", text=text, level="failed")
    if need is None:
        return Finding(about="space", text=f"{free:g} GB free; what a series takes is known from its first image on")
    each, tilts = need
    fit = int((free - reserve) / each)
    text = f"{free:g} GB free, about {each:.3g} GB for a series of {tilts} tilts: room for {fit}"
    return Finding(about="space", text=text, level="ok" if fit else "warning")


# -- words -------------------------------------------------------------------------------------------------------------


def _lines(report: Report) -> Iterator[str]:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    yield f"{report.watched}: what a run would find"
    for one in report.findings:
        yield from _wrapped(f"{one.level:8} {one.about:9} ", one.text, width)
    if report.names:
        yield ""
        yield "how the names of the first images are understood (more with: streamtomo names):"
        letters: dict[str, str] = {}
        yield from table(report.names, letters, width)
        yield from (f"{letter}  {pattern}" for pattern, letter in letters.items())
    yield ""
    yield _verdict(report.findings)


def _wrapped(head: str, text: str, width: int) -> Sequence[str]:
    return textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _verdict(findings: Iterable[Finding]) -> str:
    levels = Counter(one.level for one in findings)
    if levels["failed"]:
        return "A run could not work."
    return f"A run would work, {levels['warning']} warnings." if levels["warning"] else "A run would work."
