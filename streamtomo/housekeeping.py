"""What an output folder keeps, and what of it can be deleted: `streamtomo clean`.

| what | can be deleted |
|---|---|
| files that a run that was killed left half written (`*.part`) | always |
| the live lane's cache (`.live/NAME`) | when the series has ended |
| sums of movies (`NAME/sums`) | when the series has ended, and the movies are there to make them again |
| the aligned stack (`NAME_ali.mrc`) | with --all-intermediate, when the series is finished |
| all else, such as what was learned of the camera over all series (`.live/.camera`) | never |
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

from streamtomo.errors import OutputError
from streamtomo.finish.work import VIEWS
from streamtomo.livecache import CAMERAS
from streamtomo.livecache import FOLDER as LIVE
from streamtomo.messages import TiltReceived, TiltUpdated
from streamtomo.model import RawImage
from streamtomo.outfolder import lock_out
from streamtomo.publish import journal
from streamtomo.publish.endpoints import is_running
from streamtomo.publish.lines import printable
from streamtomo.publish.state import SessionState
from streamtomo.sums import FOLDER as SUMS
from streamtomo.sums import movie_of, name_of

Fate = Literal["kept", "loose", "intermediate"]
"""`loose`: nothing is lost with it."""
SAME_S = 2.0
"""Copies on some file systems have times that are so much coarser."""
COLUMNS = ("tomograms", "aligned stack", "movie sums", "live cache", "other")


class Item(NamedTuple):
    """A file in the output folder."""

    path: Path
    size: int
    series: str
    """Empty for what belongs to the run."""
    kind: str
    fate: Fate
    why: str = ""


class Books(NamedTuple):
    """What the journal tells of the series."""

    state: dict[str, str]
    """Of each series."""
    movies: dict[str, set[str]]
    """By series the names of its movies that are still there, as their sums bear them."""


def clean(out: Path, *, delete: bool, all_intermediate: bool) -> int:
    """Print what is there and what can go, and delete that if told to; 0, or 1 if something could not be deleted.

    Raises OutputError for a folder that is none of a run's, or where a run is at work and something is to be deleted.
    """
    if not (out / "journal.jsonl").is_file():
        raise OutputError(f"{out}: holds no results of a run (no journal.jsonl); give the folder of a run's --out")
    if not delete:
        items = take_stock(out)
        _print([*_table(out, items), *_plan(items, all_intermediate=all_intermediate), *_hint(out, items)])
        return 0
    if is_running(out):
        raise OutputError(f"{out}: a run is at work there; nothing is deleted before it has ended (streamtomo stop)")
    with lock_out((), out):
        items = take_stock(out)
        doomed = [item for item in items if item.fate == "loose" or (all_intermediate and item.fate == "intermediate")]
        _print([f"{out}: {_GB(items)}", *_plan(items, all_intermediate=all_intermediate), ""])
        failures = remove(out, doomed)
    _print([f"deleted: {_GB(doomed) if not failures else 'not all'}", *failures])
    return 1 if failures else 0


def take_stock(out: Path) -> list[Item]:
    """Every file in the output folder, links not followed."""
    books = read_books(out)
    return [_item(out, entry, books) for entry in _files(out)]


def read_books(out: Path) -> Books:
    """What the journal tells; raises StreamtomoError where it cannot be read."""
    state, images = SessionState(), {}
    for envelope in journal.read(out / "journal.jsonl"):
        state.apply(envelope)
        if isinstance(event := envelope.event, TiltReceived | TiltUpdated) and event.tilt.image.frames > 1:
            images[event.series, event.tilt.index] = event.tilt.image
    movies: dict[str, set[str]] = {name: set() for name in state.series}
    for (series, _), image in images.items():
        if _is_there(image):
            movies[series].add(name_of(image))
    return Books({name: row.state for name, row in state.series.items()}, movies)


def _is_there(image: RawImage) -> bool:
    """Whether a movie lies where it was taken in, and is no other one."""
    try:
        written_s = os.stat(image.path).st_mtime
    except OSError:
        return False
    return image.gone is None and (image.written_s is None or abs(written_s - image.written_s) < SAME_S)


def remove(out: Path, items: Iterable[Item]) -> list[str]:
    """Delete these files and the folders that are empty then; what could not be deleted, in words."""
    failures, folders = [], set()
    for item in items:
        try:
            item.path.unlink(missing_ok=True)
        except OSError as error:
            failures.append(f"{item.path}: cannot be deleted ({error.strerror})")
        if item.kind in ("movie sums", "live cache"):
            folders.add(item.path.parent)
    for folder in (*folders, out / LIVE):
        with suppress(OSError):  # not empty
            folder.rmdir()
    return failures


# -- taking stock ------------------------------------------------------------------------------------------------------


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield entry


def _item(out: Path, entry: os.DirEntry[str], books: Books) -> Item:
    path, size = Path(entry.path), entry.stat(follow_symlinks=False).st_size
    *folders, name = path.relative_to(out).parts
    live = folders[:1] == [LIVE] and folders[1:2] != [CAMERAS]
    series = (folders[1] if live and len(folders) > 1 else folders[0]) if folders else ""
    if not live and series not in books.state:
        series = ""
    kind, fate, why = _judge(folders, name, series, books)
    return Item(path, size, series, kind, fate, why)


def _judge(folders: Sequence[str], name: str, series: str, books: Books) -> tuple[str, Fate, str]:
    """Kind, fate and the reason."""
    state = books.state.get(series)
    ended = state in ("finished", "too few")
    if folders[:2] == [LIVE, CAMERAS]:
        return "other", "kept", ""
    if folders[:1] == [LIVE]:
        over = ended or state in (None, "failed")
        return "live cache", "loose" if over else "kept", f"the series is {state or 'not known'}"
    if name.endswith(".part") and (series or not folders):
        return "other", "loose", "left half written by a run that was killed"
    if state is None:
        return "other", "kept", ""
    if folders[1:] == [SUMS]:
        if movie_of(name) not in books.movies[series]:
            return "movie sums", "kept", "their movies are not there any more"
        return "movie sums", "loose" if ended else "kept", f"made again from the movies; the series is {state}"
    if name in {f"{series}{suffix}" for suffix in VIEWS.values()}:
        fate: Fate = "intermediate" if state == "finished" else "kept"
        return "aligned stack", fate, "made again when the series is finished again"
    return ("tomograms" if name.endswith(("_rec.mrc", "_nad.mrc")) else "other"), "kept", ""


# -- words -------------------------------------------------------------------------------------------------------------


def _GB(items: Iterable[Item]) -> str:
    return f"{sum(item.size for item in items) / 1e9:.3f} GB"


def _table(out: Path, items: Sequence[Item]) -> list[str]:
    names = sorted({item.series for item in items} - {""})
    width = max([6, *map(len, names)])
    head = "GB".ljust(width) + "".join(f"  {title:>13}" for title in COLUMNS)
    rows = [head, *(_row(name, [item for item in items if item.series == name], width) for name in names)]
    run = [item for item in items if not item.series]
    return [f"{out}: {_GB(items)} in {len(names)} series", "", *rows, "", f"journal, log and others: {_GB(run)}"]


def _row(name: str, items: Sequence[Item], width: int) -> str:
    sizes = [sum(item.size for item in items if item.kind == kind) for kind in COLUMNS]
    return name.ljust(width) + "".join(f"  {f'{size / 1e9:.3f}' if size else '-':>13}" for size in sizes)


def _plan(items: Sequence[Item], *, all_intermediate: bool) -> list[str]:
    """What is or would be deleted, and what of its kind is not, each with the reason."""
    lines = []
    for title, fates in (
        ("can be deleted, nothing is lost:", {"loose"}),
        (f"{'can be deleted' if all_intermediate else 'only with --all-intermediate'}:", {"intermediate"}),
        ("stays:", {"kept"}),
    ):
        about = sorted((i.kind, i.series, i.why, i) for i in items if i.fate in fates and i.why)
        groups = [(key, [one[3] for one in group]) for key, group in groupby(about, key=lambda one: one[:3])]
        if groups:
            lines += ["", title, *(_group(key, group) for key, group in groups)]
    return lines


def _group(about: tuple[str, str, str], items: Sequence[Item]) -> str:
    kind, series, why = about
    what = kind if kind != "other" else "files"
    return f"  {_GB(items)}  {what}{f' of {series}' if series else ''}: {why}"


def _hint(out: Path, items: Sequence[Item]) -> list[str]:
    if is_running(out):
        return ["", "A run is at work there: nothing can be deleted before it has ended."]
    if any(item.fate == "loose" for item in items):
        return ["", f"Nothing was deleted; to do it: streamtomo clean {out} --yes"]
    return ["", "There is nothing that could be deleted without a loss of time."]


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(printable(line))
