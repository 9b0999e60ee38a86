"""Decides what each settled file is, and to which series it belongs.

X.mrc + X.mrc.mdoc      a growing stack: the mdoc's section n commits image n
X.mrc + X.rawtlt        a finished stack; also with angles in its extended header
many files + X.mdoc     one file for each exposure, named by `SubFramePath`
names with angles       one file for each exposure, believed at once, told again when an mdoc comes
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from streamtomo.config import Acquisition
from streamtomo.errors import BadImage, NoImageYet, NotReady
from streamtomo.messages import Sighting
from streamtomo.model import RawImage
from streamtomo.watch.book import Book
from streamtomo.watch.claims import Claims
from streamtomo.watch.images import ImageInfo, is_eer, is_image, probe
from streamtomo.watch.mdoc import SUFFIXES as MDOC_SUFFIXES
from streamtomo.watch.mdoc import Mdoc, is_mdoc, parse
from streamtomo.watch.naming import Names, by_product, file_key, is_by_product, stem_of
from streamtomo.watch.renames import Renames
from streamtomo.watch.settle import Due, Seen
from streamtomo.watch.singles import ORPHAN_S, Singles
from streamtomo.watch.stacks import ANGLE_SUFFIXES, Readers, Stacks, stack_candidates

PATIENCE_S, LAST_PATIENCE_S = 60.0, 300.0
"""Where stacks have mdocs, one without waits so long for it after it has changed, and so long at most: a sorted or
renamed stack may come before its mdoc."""
USELESS = Mdoc(kind="frames")
"""Stands for an mdoc that cannot be read: its images go by their names."""


def read_text(path: str) -> str:
    """Text of a small file; bytes that are no UTF-8 are replaced."""
    with open(path, "rb") as file:
        return file.read().decode("utf-8", errors="replace")


DISK = Readers(probe=probe, text=read_text, exists=os.path.exists)


def is_wanted(path: str) -> bool:
    """Whether a file is of any use here, by its name."""
    return path.lower().endswith((*MDOC_SUFFIXES, *ANGLE_SUFFIXES)) or is_image(path)


class Pass(NamedTuple):
    """The outcome of looking at some files."""

    sightings: list[Sighting]
    unready: frozenset[str]
    """Paths that are to be looked at again after a pause."""


class Catalogue:
    """Everything known about a watched folder; gets the time with each call, touches disks through `readers` only."""

    def __init__(
        self,
        acquisition: Acquisition,
        readers: Readers = DISK,
        known: Iterable[RawImage] = (),
        claims: Claims | None = None,
    ) -> None:
        """`known` are images that an earlier run was told of: they keep their series, and are not told of again.

        `claims` are the names of series, where they are shared with other folders.
        """
        known = list(known)
        self._book = Book(acquisition, known, readers.exists, claims)
        self._read = readers
        self._stacks = Stacks(self._book, readers)
        self._names, self._renames = Names(acquisition.name_patterns), Renames()
        self._singles = Singles(self._book, self._names, readers.exists)
        self._mdocs: dict[str, Mdoc] = {}
        self._mdoc_of: dict[str, str] = {}
        """By stack, whether it is there or not: the mdoc that speaks for it."""
        self._serialem = any(image.mdoc_section is not None for image in known)
        """Whether SerialEM wrote an mdoc of a tilt series here, ever."""
        self._frames_in_mdocs = self._serialem
        """Whether such an mdoc named files with one exposure."""
        self._deferred: dict[str, set[str]] = {}
        """Images that wait for an mdoc to become readable."""
        self._anonymous: dict[str, float] = {}
        """Stacks without angles, and until when they wait for them."""
        self._reasons: dict[str, str] = {}
        self._ahead = 0.0
        """What the clock on the wall is ahead of the time that we are given."""
        self._patient: dict[str, tuple[float, float, Seen, ImageInfo]] = {}
        """Stacks with angles of their own that wait for their mdoc all the same: until when at most, until when."""
        self._again: set[str] = set()
        self._unborn: set[str] = set()
        """Stacks without an image."""
        self._keys: set[str] = set()
        """Names of all exposures seen."""
        self._sums: set[str] = set()
        """Names of those seen in another format than EER, whose movie is not wanted then."""
        self._spared: dict[str, str] = {}
        """By the name of an exposure: the EER movie that its sum stands for."""

    def look(self, dues: Sequence[Due], now: float, wall: float | None = None) -> Pass:
        """Look at files that are due, metadata first; `wall` is what times of files compare with, by default `now`."""
        self._ahead = 0.0 if wall is None else wall - now
        images = [due.seen.path for due in dues if is_image(due.seen.path)]
        self._keys |= {file_key(path) for path in images}
        self._sums |= {file_key(path) for path in images if not is_eer(path)}
        self._names.learn(images)
        self._singles.see(images)
        unready = {due.seen.path for due in sorted(dues, key=_rank) if not self._look(due, now)}
        self._again |= set(self._stacks.orphans())
        again, self._again = self._again, set()
        return Pass(self._book.drain(), frozenset(unready | again))

    def changed(self, seen: Seen, now: float) -> None:
        """A file is new, or not as it was when it was seen last."""
        exposures, renames = self._book.exposures, self._renames
        renames.saw(seen, now)
        if renames.earlier(seen.path) is None and (earlier := exposures.left(seen.path, seen.mtime)):
            renames.learn(seen.path, earlier)
        exposures.rewritten(seen.path, seen.mtime)
        if earlier := renames.earlier(seen.path):
            exposures.rewritten(earlier, seen.mtime)

    def gone(self, path: str, now: float) -> None:
        """No file has this name any more."""
        self._renames.gone(path, now)

    def again(self, path: str) -> None:
        """A file that was refused will be looked at as if it were new."""
        self._book.unsay(path)
        self._anonymous.pop(path, None)

    def understand(self, folder: str, patterns: Sequence[str], paths: Iterable[str]) -> list[str]:
        """Read names in a folder by these patterns of the settings; returns those of `paths` that they explain."""
        unread = [path for path in paths if is_image(path) and path not in self._book.paths]
        unread = [path for path in unread if self._names.parse(path) is None]
        self._names.understand(folder, patterns)
        return [path for path in unread if self._names.parse(path) is not None]

    def tick(self, now: float) -> list[Sighting]:
        """Decide about files that have waited long enough for their metadata; at infinity about all."""
        self._singles.tick(now)
        for path in [path for path, (_, until, *_) in self._patient.items() if now >= until]:
            *_, seen, info = self._patient.pop(path)
            if self._read.exists(path):
                self._take_alone(seen, info, now)
        for path in [path for path, until in self._anonymous.items() if now >= until]:
            self._anonymous[path] = math.inf
            self._book.refuse(path, self._reasons[path])
        return self._book.drain()

    def _look(self, due: Due, now: float) -> bool:
        """Whether the file is done with; expired ones always are."""
        path = due.seen.path
        if what := by_product(path):
            self._leave_out(path, what)
            return True
        try:
            if is_mdoc(path):
                self._look_at_mdoc(due)
            elif path.lower().endswith(ANGLE_SUFFIXES):
                self._again |= set(self._stacks.angles_settled(path))
            else:
                self._look_at_image(due, now)
        except BadImage as error:
            self._give_up_on(path, error)
        except (FileNotFoundError, NoImageYet):
            return True
        except (NotReady, OSError) as error:
            if due.why != "expired":
                return False
            self._give_up_on(path, error)
        return True

    def _leave_out(self, path: str, what: str) -> None:
        """Say once in a folder that such files belong to no tilt series."""
        folder, name = os.path.split(path)
        text = f"{folder}: {what} are no tilts and are left out ({name})"
        self._book.warn("file.ignored", text, about=f"{folder}: {what}")

    def _give_up_on(self, path: str, error: Exception) -> None:
        reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        again = "" if isinstance(error, BadImage) else "; it is looked at again when it changes"
        self._book.refuse(path, reason + again)
        if spared := self._spared.pop(file_key(path), None):
            self._sums.discard(file_key(path))
            self._again.add(spared)
        if self._is_unread(path):
            self._mdocs[path] = USELESS
            self._again |= self._deferred.pop(path, set())

    # -- mdoc ----------------------------------------------------------------------------------------------------------

    def _look_at_mdoc(self, due: Due) -> None:
        path = due.seen.path
        mdoc = self._parse(due)
        self._mdocs[path] = mdoc
        if mdoc.kind == "frames":
            self._leave_out(path, "mdocs of single movies")
        if mdoc.kind != "empty":
            self._again |= self._deferred.pop(path, set())
            self._mdoc_of |= {stack: path for stack in stack_candidates(path, mdoc) if self._prevails(path, stack)}
        if mdoc.kind == "tilt series":
            if mdoc.writer == "SerialEM":
                self._serialem = True
                self._frames_in_mdocs |= any(section.file_name for section in mdoc.sections)
            self._take_in(path, mdoc, due)
        if mdoc.unfinished and due.why == "settled":
            raise NotReady(f"{path}: {mdoc.unfinished}")

    def _parse(self, due: Due) -> Mdoc:
        path, text = due.seen.path, self._read.text(due.seen.path)
        mdoc = parse(text, settled=due.why != "peek")
        if due.why == "expired" and mdoc.unfinished:  # a file that stays without its last newline is one that ends so
            mdoc = parse(text + "\n", settled=True)
            if mdoc.unfinished:
                self._book.warn("mdoc.incomplete", f"{path}: {mdoc.unfinished}", about=path)
        if mdoc.kind == "empty" and text.strip() and "=" not in text:
            if "\n" not in text and due.why != "expired":
                raise NotReady(f"{path}: its first line has no end")
            raise BadImage(f"{path}: is no mdoc")
        return mdoc

    def _prevails(self, path: str, stack: str) -> bool:
        """Whether this mdoc may speak for a stack: where there are two, the one with the stack's whole name does."""
        owner = self._mdoc_of.get(stack)
        return owner is None or owner == path or path == f"{stack}.mdoc"

    def _take_in(self, path: str, mdoc: Mdoc, due: Due) -> None:
        """Tell of the images that a tilt series' mdoc describes, wherever they are."""
        if mdoc.axis_conflict:
            self._book.warn("axis.disagrees", f"{path}: {mdoc.axis_conflict}; the title is believed", about=path)
        stack = next((stack for stack in stack_candidates(path, mdoc) if self._read.exists(stack)), None)
        if stack is None or self._prefers_singles(path, stack, mdoc):
            self._singles.describe(path, mdoc)
            self._again |= {movie for movie in self._anonymous if self._singles.described(movie)}
            self._again |= self._singles.no_more_left_out(mdoc)
        elif self._mdoc_of[stack] == path:
            self._anonymous.pop(stack, None)
            self._patient.pop(stack, None)
            self._singles.leave_out(path, mdoc)
            self._again |= {movie for movie in self._anonymous if self._singles.left_out(movie)}
            self._follow(stack, mdoc, due)

    def _follow(self, stack: str, mdoc: Mdoc, due: Due) -> None:
        """Follow a stack; what is wrong with it is said of it, not of the mdoc that may have led here."""
        try:
            self._stacks.follow(stack, mdoc, due.seen.mtime, why=due.why)
        except BadImage as error:
            self._book.refuse(stack, str(error))
        except (NotReady, OSError) as error:
            if due.why != "expired":
                raise
            self._give_up_on(stack, error)

    def _prefers_singles(self, path: str, stack: str, mdoc: Mdoc) -> bool:
        """Whether single files count and the stack beside them (their sums, or Tomo5's copy at the end) does not.

        They do where they were told of already, or where Tomo5 wrote them first: so a restart decides as the first run.
        """
        if stack in self._book.paths:
            return False
        keys = {file_key(section.file_name) for section in mdoc.sections if section.file_name}
        return self._singles.told(path, mdoc) or (mdoc.writer == "Tomo5" and bool(keys & self._keys))

    # -- images --------------------------------------------------------------------------------------------------------

    def _look_at_image(self, due: Due, now: float) -> None:
        seen, path = due.seen, due.seen.path
        if self._is_spared(path) or self._is_left_to_mdoc(due):
            return
        if self._singles.left_out(path):  # a frame of a stack that is followed
            self._anonymous.pop(path, None)
            return
        info = self._probe(due)
        if info.sections > 1 and not self._singles.described(path):
            self._look_at_stack(seen, info, now)
        else:
            self._anonymous.pop(path, None)
            self._singles.add(seen, info, now, patient=self._mdocs_grow_here())

    def _is_spared(self, path: str) -> bool:
        """Whether this is an EER movie whose sum is there, too."""
        if spared := is_eer(path) and file_key(path) in self._sums:
            self._spared[file_key(path)] = path
        return spared

    def _probe(self, due: Due) -> ImageInfo:
        path = due.seen.path
        self._unborn.discard(path)
        try:
            return self._read.probe(path)
        except NoImageYet:
            if self._names.parse(path) is None:
                self._unborn.add(path)
            raise

    def _is_left_to_mdoc(self, due: Due) -> bool:
        """Whether an mdoc speaks for this file; one that cannot be read yet will."""
        path = due.seen.path
        owner = self._mdoc_of.get(path)
        if owner is not None and not self._read.exists(owner):  # what it said was of the file that had the name before
            owner = None
        if owner is None:
            beside = [base + suffix for base in (path, stem_of(path)) for suffix in MDOC_SUFFIXES]
            unread = next((m for m in beside if self._is_unread(m) and self._read.exists(m)), None)
            if unread is not None:
                self._deferred.setdefault(unread, set()).add(path)
            return unread is not None
        mdoc = self._mdocs[owner]
        if mdoc.kind == "montage":
            raise BadImage(f"{path}: is a montage, not a tilt series")
        if mdoc.kind == "tilt series":
            self._take_in(owner, mdoc, due)
        return mdoc.kind in ("tilt series", "empty")

    def _is_unread(self, mdoc_path: str) -> bool:
        mdoc = self._mdocs.get(mdoc_path)
        return is_mdoc(mdoc_path) and not is_by_product(mdoc_path) and (mdoc is None or mdoc.kind == "empty")

    def _look_at_stack(self, seen: Seen, info: ImageInfo, now: float) -> None:
        if self._expects_mdoc(seen.path, info):
            last, *_ = self._patient.get(seen.path, (now + LAST_PATIENCE_S,))
            self._patient[seen.path] = (last, min(last, now + PATIENCE_S), seen, info)
            return
        self._take_alone(seen, info, now)

    def _take_alone(self, seen: Seen, info: ImageInfo, now: float) -> None:
        """Take in a stack without an mdoc, or leave it until somebody tells its angles."""
        try:
            self._stacks.alone(seen, info, now + self._ahead)
            self._anonymous.pop(seen.path, None)
        except BadImage as error:
            self._book.refuse(seen.path, str(error))
        except NotReady as error:
            if self._names.parse(seen.path) is not None:  # with the name of one exposure: its frames
                self._singles.add(seen, info, now, patient=self._mdocs_grow_here())
                return
            self._anonymous.setdefault(seen.path, now + ORPHAN_S)
            self._reasons[seen.path] = str(error)

    def _expects_mdoc(self, stack: str, info: ImageInfo) -> bool:
        """Whether SerialEM's stacks have mdocs here, and this one, new or renamed, probably gets one, too."""
        if self._stacks.had_mdoc(stack) or stack in self._mdoc_of:
            return True
        return info.angles_from == "SerialEM" and stack not in self._book.paths and self._serialem

    def _mdocs_grow_here(self) -> bool:
        """Whether it pays to wait for a new image's section in an mdoc.

        It does where SerialEM writes mdocs that name single files, or where it opened a stack that has no image yet.
        """
        return self._frames_in_mdocs or any(self._read.exists(path) for path in self._unborn)


def _rank(due: Due) -> int:
    """Metadata before images, so that images are told of with all that is known."""
    path = due.seen.path
    return 0 if is_mdoc(path) else 1 if path.lower().endswith(ANGLE_SUFFIXES) else 2
