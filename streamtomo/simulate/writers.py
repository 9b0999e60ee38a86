"""Writers that leave files as real microscopes do: in place, growing, in the real order.

    writer = open_writer("serialem-stack", folder, "TS_01", shape_yx=(1024, 1024), dtype="int16", pixel_size_A=10.8,
                         axis_deg=85.3)
    written = writer.write(image, Shot(angle_deg=0.0, when=datetime.now()))
    writer.close()

Images are `(ny, nx)`, movies `(frames, ny, nx)`, y up, of the writer's pixel type. MRC keeps the rows so; TIFF and EER
store the top row first.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray

from streamtomo.simulate import mdoc_text
from streamtomo.simulate.eer import spread_events, write_eer
from streamtomo.simulate.mdoc_text import Shot, Titles
from streamtomo.simulate.mrc import MODES, Header
from streamtomo.simulate.stack_writer import StackWriter, Written, add_section, check, write_slowly

PATTERNS = ("serialem-stack", "serialem-frames", "serialem-idoc", "tomo5", "plain")
CONTAINERS = {
    "serialem-stack": ("mrc", "st"),
    "serialem-frames": ("tif", "mrc", "eer"),
    "serialem-idoc": ("tif", "mrc"),
    "tomo5": ("mrc", "tiff", "eer"),
    "plain": ("mrc", "tif", "eer"),
}
"""Kinds of image file that each pattern can write, the default first."""
ENDINGS = {"serialem-stack": ("sort", "sort-aside"), "tomo5": ("override",)}
"""What each pattern can do when a series is over, beside nothing: a sorted copy takes the stack's place, or the stack
makes way for it as in PACEtomo; a second mdoc, `NAME_override.mdoc`."""
COMPRESSIONS = ("none", "lzw", "zstd", "deflate")
"""Of TIFF files."""


class Writer(Protocol):
    """One series being written."""

    def write(self, image: NDArray[np.generic], shot: Shot) -> Written:
        """Add the next image."""
        ...

    def close(self) -> dict[Written, Written]:
        """End the series; nothing of it stays open. Returns where images lie now that were moved at the end."""
        ...


def open_writer(
    pattern: str,
    folder: Path,
    name: str,
    *,
    shape_yx: tuple[int, int],
    dtype: DTypeLike,
    pixel_size_A: float | None,
    axis_deg: float | None,
    started: datetime | None = None,
    voltage_kV: float = 300.0,
    container: str | None = None,
    sections: int = 256,
    write_s: float = 0.0,
    compression: str = "none",
    ending: str = "none",
    restart_after: int | None = None,
) -> Writer:
    """A writer of one series.

    A pixel size or an axis of None is in no file. `started` defaults to now; `container` to the first of the pattern's
    CONTAINERS; `sections` is the room that a stack keeps in its extended header; `write_s` is the time over which the
    pixels of one image arrive; `compression` is that of TIFF files; `ending` is "none" or one of the pattern's ENDINGS;
    after so many images as `restart_after` says the series goes on under another name, `NAME_01`.
    Raises ValueError for a pattern, container or pixel type that no such microscope writes.
    """
    if pattern not in PATTERNS:
        raise ValueError(f"no writer is called {pattern!r}: choose one of {', '.join(PATTERNS)}")
    container = container or CONTAINERS[pattern][0]
    if container not in CONTAINERS[pattern]:
        raise ValueError(f"{pattern} writes {' or '.join(CONTAINERS[pattern])}, not {container}")
    if ending not in ("none", *ENDINGS.get(pattern, ())):
        raise ValueError(f"{pattern} has no ending {ending!r}")
    kind = np.dtype(dtype)
    if kind.name not in MODES:
        raise ValueError(f"pixels of {kind.name} are written by no microscope: choose one of {', '.join(MODES)}")
    begun = started or datetime.now()

    def writer(name: str) -> Writer:
        titles = Titles(f"{name}.{container}", shape_yx, kind, pixel_size_A, axis_deg, begun, voltage_kV)
        if pattern == "serialem-stack":
            return StackWriter(folder, titles, sections, write_s, ending)
        writers = {"serialem-frames": _FramesWriter, "serialem-idoc": _IdocWriter, "plain": _PlainWriter}
        if pattern == "tomo5":
            return _Tomo5Writer(folder, name, container, titles, write_s, compression, ending)
        return writers[pattern](folder, name, container, titles, write_s, compression)

    return writer(name) if restart_after is None else _RestartedWriter(writer, name, restart_after)


class _RestartedWriter:
    """A series that goes on under another name after some images."""

    def __init__(self, writer: Callable[[str], Writer], name: str, after: int) -> None:
        self._open, self._name, self._left = writer, name, after
        self._writer = writer(name)
        self._moved: dict[Written, Written] = {}

    def write(self, image: NDArray[np.generic], shot: Shot) -> Written:
        if self._left == 0:
            self._moved |= self._writer.close()
            self._writer = self._open(f"{self._name}_01")
        self._left -= 1
        return self._writer.write(image, shot)

    def close(self) -> dict[Written, Written]:
        return self._moved | self._writer.close()


class _SinglesWriter:
    """One file a tilt; what else is written is the subclass's."""

    def __init__(
        self, folder: Path, name: str, container: str, titles: Titles, write_s: float, compression: str
    ) -> None:
        self._folder, self._name, self._container = folder, name, container
        self._titles, self._write_s, self._compression = titles, write_s, compression
        self._count = 0

    def write(self, image: NDArray[np.generic], shot: Shot) -> Written:
        check(image, self._titles)
        path = self._folder / self._file_name(shot)
        frames = len(image) if image.ndim == 3 else 1
        if self._container == "mrc":
            _write_mrc(path, image, self._titles, self._write_s)
        elif self._container == "eer":
            frames = _write_eer(path, image, self._titles, self._write_s)
        else:
            _write_tiff(path, image, self._titles, self._write_s, self._compression)
        self._note(image, replace(shot, frame_path=self._windows_path(path), frames=frames))
        self._count += 1
        return Written(path, 0)

    def close(self) -> dict[Written, Written]:
        """Nothing is open between images."""
        return {}

    def _file_name(self, shot: Shot) -> str:
        return f"{self._name}_{self._count:03d}_{shot.angle_deg + 0.0:.1f}.{self._container}"

    def _windows_path(self, path: Path) -> str:
        return f"X:\\frames\\{path.name}"

    def _note(self, image: NDArray[np.generic], shot: Shot) -> None:
        """Write down what was taken."""


class _PlainWriter(_SinglesWriter):
    """The names alone tell order and angle."""


class _FramesWriter(_SinglesWriter):
    """SerialEM's frame files, and the mdoc that names them."""

    def _note(self, image: NDArray[np.generic], shot: Shot) -> None:
        titles = replace(self._titles, image_file=f"{self._name}.mrc")
        lines = mdoc_text.serialem_section(self._count, shot, titles, image)
        add_section(self._folder / f"{titles.image_file}.mdoc", self._count, lines, titles)


class _IdocWriter(_SinglesWriter):
    """SerialEM's series of single images with one `.idoc` for all."""

    def _note(self, image: NDArray[np.generic], shot: Shot) -> None:
        lines = mdoc_text.serialem_section(self._count, replace(shot, frame_path=None), self._titles, image)
        lines[1] = f"[Image = {self._file_name(shot)}]"
        add_section(self._folder / f"{self._name}.idoc", self._count, lines, self._titles)


class _Tomo5Writer(_SinglesWriter):
    """Tomography 5: order, angle and time in the names, the mdoc only at the end."""

    def __init__(
        self, folder: Path, name: str, container: str, titles: Titles, write_s: float, compression: str, ending: str
    ) -> None:
        super().__init__(folder, name, container, replace(titles, image_file=f"{name}.mrc"), write_s, compression)
        self._copies = ("", "_override") if ending == "override" else ("",)
        self._lines = mdoc_text.tomo5_head(self._titles)

    def close(self) -> dict[Written, Written]:
        text = "\n".join(self._lines) + "\n"
        for suffix in self._copies if self._count else ():
            _write_in_place(self._folder / f"{self._name}{suffix}.mdoc", text.encode("ascii"), 0.0)
        return {}

    def _file_name(self, shot: Shot) -> str:
        angle = f"{round(shot.angle_deg, 2) + 0.0:.2f}"
        stamp = f"{shot.when:%Y%m%d_%H%M%S}"
        kind = "EER" if self._container == "eer" else "fractions"
        return f"{self._name}_{self._count + 1:03d}_{angle}_{stamp}_{kind}.{self._container}"

    def _windows_path(self, path: Path) -> str:
        return f"\\\\192.168.10.81\\StorageServer\\{path.name}"

    def _note(self, image: NDArray[np.generic], shot: Shot) -> None:
        self._lines += mdoc_text.tomo5_section(self._count, shot, self._titles, image)


# -- bytes to disk -----------------------------------------------------------------------------------------------------


def _write_mrc(path: Path, image: NDArray[np.generic], titles: Titles, write_s: float) -> None:
    head = Header(titles.shape_yx, titles.dtype, titles.pixel_size_A, titles.labels())
    head.sections = image.size // (titles.shape_yx[0] * titles.shape_yx[1])
    head.statistics.add(image)
    _write_in_place(path, head.pack() + image.tobytes(), write_s)


def _write_eer(path: Path, image: NDArray[np.generic], titles: Titles, write_s: float) -> int:
    """Deal the counts of each frame to camera frames that hold one event a pixel; what is too many for them is lost.

    Returns the number of camera frames.
    """
    rng = np.random.default_rng(image.size)
    fractions = image.reshape(-1, *titles.shape_yx).astype(np.int64)
    each = max(4, int(np.quantile(fractions, 0.999)) + 1)
    frames = [frame for one in fractions for frame in spread_events(np.clip(one, 0, each), each, rng)]
    with TemporaryDirectory() as elsewhere:
        whole = Path(elsewhere) / path.name
        write_eer(whole, frames, titles.pixel_size_A, rng=rng)
        _write_in_place(path, whole.read_bytes(), write_s)
    return len(frames)


def _write_tiff(path: Path, image: NDArray[np.generic], titles: Titles, write_s: float, compression: str) -> None:
    per_cm = 1e8 / titles.pixel_size_A if titles.pixel_size_A else None
    memory = io.BytesIO()
    tifffile.imwrite(
        memory,
        image[..., ::-1, :],
        photometric="minisblack",
        compression=None if compression == "none" else compression,
        description="\n".join(titles.labels()),
        metadata=None,
        resolution=(per_cm, per_cm) if per_cm else None,
        resolutionunit="CENTIMETER" if per_cm else None,
    )
    _write_in_place(path, memory.getvalue(), write_s)


def _write_in_place(path: Path, data: bytes, write_s: float) -> None:
    with path.open("wb") as file:
        write_slowly(file, data, write_s)
