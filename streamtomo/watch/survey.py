"""What a watched folder is like at first sight: no file in it is opened."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence

from msgspec import Struct

from streamtomo.config import Movies, Settings
from streamtomo.messages import Finding
from streamtomo.watch.images import is_image
from streamtomo.watch.mounts import Mount
from streamtomo.watch.naming import Names, ParsedName, stem_of, why_not
from streamtomo.watch.settle import Seen

FIRST = 5
"""Images whose names are looked at."""
DAY_S = 86400


class Reading(Struct, frozen=True, kw_only=True):
    """What one image file's name tells."""

    file: str
    """Relative to the folder."""
    name: ParsedName | None
    why_not: str = ""

    def __str__(self) -> str:
        """In a few words."""
        told = f"{self.name.series} at {self.name.angle_deg:g}°" if self.name else self.why_not
        return f"{self.file}: {told}"


def readings(folder: str, images: Sequence[str], others: Iterable[str], names: Names, first: int) -> list[Reading]:
    """How the first of `images` are read, as a run would that saw them all; `others` are metadata files."""
    names.learn(images)
    beside = {stem_of(path): os.path.basename(path) for path in others}
    return [
        Reading(
            file=os.path.relpath(path, folder),
            name=(name := names.read(path)),
            why_not="" if name else f"told by {beside[stem_of(path)]}" if stem_of(path) in beside else why_not(path),
        )
        for path in images[:first]
    ]


def survey(
    folder: str,
    files: Sequence[Seen],
    settings: Settings,
    now: float,
    *,
    mount: Mount | None,
    no_events: str | None,
    denied: Collection[str] = (),
) -> tuple[Finding, ...]:
    """What there is to say about a folder, from one listing; `no_events`: why events of the file system do not come."""
    newest = max(files, key=lambda seen: seen.mtime, default=None)
    return (
        Finding(about="mount", text=str(mount or "not known on this system")),
        changes(no_events, settings.watch.relist_s),
        contents(folder, files, settings.acquisition.name_patterns),
        *refused_places(denied),
        clock(newest, now, settings.watch.settle_s),
        *references(settings.movies, newest.mtime if newest else now),
    )


def changes(no_events: str | None, relist_s: float) -> Finding:
    """How changes are noticed."""
    why = f" only: it {no_events}" if no_events else ", and events of the file system in between"
    return Finding(about="changes", text=f"by a listing every {relist_s:g} s{why}")


def contents(folder: str, files: Iterable[Seen], patterns: Sequence[str]) -> Finding:
    """How many files there are, and how the names of the first images are understood."""
    paths = sorted(seen.path for seen in files)
    images = [path for path in paths if is_image(path)]
    others = [path for path in paths if not is_image(path)]
    first = readings(folder, images, others, Names(patterns), FIRST)
    text = f"{len(images)} images, {len(others)} files that describe them" if paths else "nothing there yet"
    unknown = [one for one in first if one.name is None and not one.why_not.startswith("told by")]
    if unknown:
        text += f"; of the first {len(first)} {len(unknown)} tell no angle by name ({unknown[0]})"
    elif first:
        text += f"; {first[0]}"
    return Finding(about="files", text=text)


def refused_places(denied: Collection[str]) -> list[Finding]:
    """What must not be read."""
    if not denied:
        return []
    text = f"{len(denied)} files or folders must not be read, such as {min(denied)}; let this user read them"
    return [Finding(about="rights", text=text, level="warning")]


def clock(newest: Seen | None, now: float, settle_s: float) -> Finding:
    """What the newest file's time proves: only that a clock is ahead, or how far behind it is at most."""
    if newest is None:
        return Finding(about="clock", text="no file whose time could be compared")
    ahead = newest.mtime - now
    if ahead > settle_s:
        text = f"{newest.path} will be written in {span(ahead)}: the files' clock is ahead by this or more"
        return Finding(about="clock", text=text, level="warning")
    text = f"the newest file is {span(-ahead)} old by its own time: the files' clock is behind by this or less"
    return Finding(about="clock", text=f"{text} (only a file that grows can tell more)")


def references(movies: Movies, newest_s: float) -> list[Finding]:
    """Whether the gain reference and the defect list are there, and how old they are."""
    found = []
    for about, path, limit in (("gain", movies.gain, movies.gain_max_days), ("defects", movies.defects, None)):
        if path is None:
            continue
        try:
            age_s = newest_s - os.stat(path).st_mtime
        except OSError as error:
            text = f"{path}: cannot be read ({error.strerror}); movies will be summed without"
            found.append(Finding(about=about, text=text, level="warning"))
            continue
        old = limit is not None and age_s > limit * DAY_S
        words = f"{span(abs(age_s))} {'older' if age_s >= 0 else 'newer'} than the newest file"
        text = f"{path}: {words}" + (f", more than {limit:g} days (movies.gain_max_days)" if old else "")
        found.append(Finding(about=about, text=text, level="warning" if old else "ok"))
    return found


def span(seconds: float) -> str:
    """A time span in words, with a unit that fits."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if abs(seconds) < 10 else f"{seconds:.0f} s"
