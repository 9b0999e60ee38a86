"""Replay: an old session, or a finished stack, is written into a folder as if it were being acquired.

A shell between the readers and the simulated microscope's writers. Stacks are written anew as SerialEM's growing stack
with its mdoc; single files are copied as they are, byte for byte, each at its time, and their mdoc grows with them if
SerialEM wrote it, or comes at the end if Tomo5 did.
"""

from __future__ import annotations

import itertools
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from streamtomo.config import Settings
from streamtomo.errors import InputError, OutputError
from streamtomo.model import RawImage
from streamtomo.simulate.mdoc_text import Shot
from streamtomo.simulate.writers import Writer, open_writer
from streamtomo.watch.finished import read_all
from streamtomo.watch.images import read_image

UNKNOWN_INTERVAL_S = 10.0
"""Time between tilts where the data do not tell."""
LONGEST_PAUSE_S = 600.0
"""Longer pauses of the old session (a change of grid) are cut to this."""
_SECTION = re.compile(r"(?m)^\[ZValue = \d+\]")


class Due(Struct, frozen=True):
    """An image and when it is to be written, seconds from the start."""

    at_s: float
    image: RawImage


def replay(source: Path, into: Path, *, speed: float, interval_s: float | None) -> int:
    """Play `source` into the folder `into`; returns 0. Raises InputError, or OutputError if `into` is not empty."""
    images = read_all(str(source.absolute()), Settings()).images
    if not images:
        raise InputError(f"{source}: no tilt series found; give a folder, or a stack with its .rawtlt or mdoc")
    _make(into)
    schedule = plan(images, speed, interval_s)
    print(
        f"{len(schedule)} tilts of {len({d.image.series for d in schedule})} series, {schedule[-1].at_s:.0f} s",
        flush=True,
    )
    players = {series: _player(series, group, into) for series, group in _by_series(schedule).items()}
    start = time.monotonic()
    for due in schedule:
        time.sleep(max(0.0, start + due.at_s - time.monotonic()))
        players[due.image.series].play(due.image)
    for player in players.values():
        player.close()
    return 0


def _make(into: Path) -> None:
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{into}: cannot be made ({error.strerror})") from None
    if any(into.iterdir()):
        raise OutputError(f"{into}: is not empty; replay writes into a new or empty folder only")


def plan(images: Sequence[RawImage], speed: float, interval_s: float | None) -> list[Due]:
    """When each image is written: in the order and pace of the acquisition, `speed` times faster.

    `interval_s` (already in replay time) takes the place of the recorded pace.
    """
    stamps = [_stamp(image) for image in images]
    ordered = list(images)
    if all(stamp is not None for stamp in stamps):
        ordered = [image for _, image in sorted(zip(stamps, images, strict=True), key=lambda pair: pair[0] or 0.0)]
    pauses = [_pause(a, b) / speed if interval_s is None else interval_s for a, b in itertools.pairwise(ordered)]
    return [Due(at, image) for at, image in zip(itertools.accumulate(pauses, initial=0.0), ordered, strict=True)]


def _stamp(image: RawImage) -> float | None:
    return image.acquired_s


def _pause(before: RawImage, after: RawImage) -> float:
    first, then = _stamp(before), _stamp(after)
    if first is None or then is None:
        return UNKNOWN_INTERVAL_S
    return min(LONGEST_PAUSE_S, max(0.0, then - first))


def _by_series(schedule: Sequence[Due]) -> dict[str, list[RawImage]]:
    groups: dict[str, list[RawImage]] = {}
    for due in schedule:
        groups.setdefault(due.image.series, []).append(due.image)
    return groups


def _player(series: str, images: Sequence[RawImage], into: Path) -> StackPlayer | FilesPlayer:
    one_file = len({image.path for image in images}) == 1
    return StackPlayer(series, len(images), into) if one_file else FilesPlayer(images, into)


class StackPlayer:
    """Writes the sections of a stack as SerialEM would."""

    def __init__(self, series: str, sections: int, into: Path) -> None:
        self._series, self._into = series, into
        self._sections = sections
        self._writer: Writer | None = None

    def play(self, image: RawImage) -> None:
        """Write the next section."""
        pixels = read_image(image.path, image.section, frames=image.frames)
        if self._writer is None:
            self._writer = open_writer(
                "serialem-stack",
                self._into,
                self._series,
                shape_yx=(image.ny, image.nx),
                dtype=pixels.dtype,
                pixel_size_A=image.pixel_size_A,
                axis_deg=image.tilt_axis_deg,
                sections=self._sections,
            )
        shot = Shot(
            angle_deg=image.angle_deg,
            when=datetime.now(),
            dose_e_A2=image.dose_e_A2,
            prior_dose_e_A2=image.prior_dose_e_A2,
        )
        self._writer.write(pixels, shot)

    def close(self) -> None:
        """End the series."""
        if self._writer is not None:
            self._writer.close()


class FilesPlayer:
    """Copies single files, each at its time, and lets their mdoc come as it did."""

    def __init__(self, images: Sequence[RawImage], into: Path) -> None:
        self._into = into
        self._left = len(images)
        self._mdocs = [GrowingMdoc(path, into) for path in _mdocs_of(images)]

    def play(self, image: RawImage) -> None:
        """Copy one file, and the mdoc's section that describes it."""
        source = Path(image.path)
        shutil.copyfile(source, self._into / source.name)
        for mdoc in self._mdocs:
            mdoc.reveal(source.name)

    def close(self) -> None:
        """Write what is left of the mdocs."""
        for mdoc in self._mdocs:
            mdoc.complete()


def _mdocs_of(images: Sequence[RawImage]) -> Iterator[Path]:
    """Mdocs in the images' folders that name one of them."""
    names = {Path(image.path).stem for image in images}
    for folder in sorted({Path(image.path).parent for image in images}):
        for path in sorted(folder.glob("*.mdoc")):
            text = path.read_text(encoding="utf-8", errors="replace")
            if any(name in text for name in names):
                yield path


class GrowingMdoc:
    """An mdoc whose sections appear as the images do; one that was written at the end appears at the end."""

    def __init__(self, source: Path, into: Path) -> None:
        self._source, self._target = source, into / source.name
        text = source.read_bytes().decode("utf-8", errors="replace")
        starts = [match.start() for match in _SECTION.finditer(text)]
        self._head = text[: starts[0]] if starts else text
        ends = [*starts[1:], len(text)]
        self._sections = [text[a:b] for a, b in zip(starts, ends, strict=True)]
        self._grows = "SerialEM" in self._head
        self._shown = 0

    def reveal(self, name: str) -> None:
        """Append the sections up to the one that names this image."""
        if not self._grows:
            return
        stem = Path(name).stem
        last = next((n for n, section in enumerate(self._sections) if stem in section), None)
        if last is not None:
            self._show(last + 1)

    def complete(self) -> None:
        """The whole file, as it is."""
        if self._shown < len(self._sections) or not self._grows:
            shutil.copyfile(self._source, self._target)

    def _show(self, count: int) -> None:
        mode = "wb" if self._shown == 0 else "ab"
        new = self._sections[self._shown : count]
        with self._target.open(mode) as file:
            file.write(((self._head if self._shown == 0 else "") + "".join(new)).encode())
        self._shown = max(self._shown, count)
