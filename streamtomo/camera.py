"""The camera maps of a run: which tilts they learn from, when a new one comes into force, and how they are kept.

One map per camera set-up (size, pixel size, kind of file), learned over all series. A new one comes into force after
12, 24, 48 and 96 tilts, then after every 96, and each tilt's record tells which one it was corrected with: so a
restart corrects it the same way. Kept in `OUT/.live/.camera/SET-UP`:

    sums.0 or sums.1    what was learned, written in turns: a crash spoils the older one at most; `blocks` and
                        `recent` likewise
    state.json          which of them holds, and the tilts in it
    24.places           defects of the map after 24 tilts
    24.pattern          its residual gain; the last four are kept

and as a picture, `OUT/camera_SET-UP.png`: grey is right, white reads high, black reads low.
"""

from __future__ import annotations

import contextlib
import zlib
from collections import deque
from collections.abc import Sequence
from math import hypot
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo.config import Correct
from streamtomo.correct.camera_map import CameraMap, Learned, build, deviation, disagrees
from streamtomo.correct.prepare import Repaired
from streamtomo.errors import OutputError
from streamtomo.export.imod import write_bytes
from streamtomo.livecache import CAMERAS, FOLDER, digest, read_array, write_array
from streamtomo.messages import AlarmCleared, AlarmRaised, Event, Warned
from streamtomo.model import RawImage
from streamtomo.publish.pictures import write_png

FIRST, STEP = 12, 96
"""Tilts after which the first map comes into force, and each later one once there are as many."""
MOVED_PX = 3.0
"""Raw pixels that the specimen must have moved against all other tilts learned from its series ..."""
MOVED_EACH_PX = 1.5
"""... and along each axis."""
RECENT = 6
"""Tilts that tell whether the camera changed."""
SAVED_EVERY = 12
"""Tilts after which what was learned is written down; after a crash as many are learned again."""
PATTERNS_KEPT = 4
"""A series is corrected with as many at most."""
EASE = 1.25
"""An alarm is over when the gain is better than its limit by this factor."""
PICTURE_PX = 1024


class _Taken(Struct, frozen=True, array_like=True):
    """A tilt that was looked at: the half that it went to (-1: none), and where its specimen lay."""

    index: int
    half: int
    x: float
    y: float


class _State(Struct, forbid_unknown_fields=True):
    slot: int = 0
    seen: int = 0
    since: int = 0
    """Tilts seen before the camera changed last."""
    about: str = ""
    tilts: list[int] = []
    series: list[int] = []
    levels: list[int] = []
    taken: dict[str, list[_Taken]] = {}
    prints: list[int] = []
    """Fingerprints of the images learned: a copy has the same noise, which is not the camera's."""
    maps: dict[int, tuple[float | None, dict[str, int]]] = {}
    """Residual gain and defects of the maps, by the tilts that they were learned from."""


def set_up(image: RawImage, pixel_size_A: float | None) -> str:
    """Name of the camera set-up of an image."""
    kind = Path(image.path).suffix.lower().lstrip(".") or "raw"
    size = f"{pixel_size_A:.3g}A" if pixel_size_A else "noscale"
    return f"{image.nx}x{image.ny}_{size}_{kind}" + ("_movie" if image.frames > 1 else "")


class Camera:
    """One set-up: what was learned, and the map in force."""

    def __init__(self, name: str, shape_yx: tuple[int, int], out: Path | None, settings: Correct) -> None:
        """Takes up what an earlier run left in `out`; without a folder nothing is kept."""
        self.name, self._settings = name, settings
        self._out, self._folder = out, out / FOLDER / CAMERAS / name if out else None
        self._alarmed, self._is_due = False, False
        self._untold: list[Event] = []
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=RECENT)
        self._state, self._learned = _State(), Learned.empty(shape_yx)
        self._maps: dict[int, CameraMap] = {}
        if self._folder:
            self._recall(self._folder, shape_yx)

    def map(self, tilts: int | None = None) -> CameraMap | None:
        """The newest map, or the one after so many tilts (0: none); what is gone is replaced by the newest."""
        if tilts == 0 or not self._state.maps or not self._settings.camera_map:
            return None
        newest = max(self._state.maps)
        wanted = tilts if tilts in self._state.maps else newest
        if wanted not in self._maps:
            read = _read_map(self._folder, wanted, self._state) if self._folder else None
            self._maps[wanted] = read or CameraMap(wanted, np.zeros(0, np.int64))
        return self._maps[wanted]

    def news(self) -> list[Event]:
        """What there is to tell: that the camera changed; the gain alarm, when it is to be raised or is over."""
        untold, self._untold = self._untold, []
        current = self.map()
        return untold + (self._alarm(current) if current else [])

    def lacks(self, series: str, index: int) -> bool:
        """Whether a tilt was not looked at yet, and is to be."""
        return self._settings.camera_map and all(one.index != index for one in self._state.taken.get(series, ()))

    def learn(self, series: str, index: int, at: tuple[float, float], raw: NDArray[Any], repaired: Repaired) -> None:
        """Take in a tilt whose specimen lies `at`, once."""
        if not self.lacks(series, index) or repaired.statistics is None or repaired.model is None:
            return
        taken = self._state.taken.setdefault(series, [])
        used = [one for one in taken if one.half >= 0]
        moved = all(_has_moved((one.x, one.y), at) for one in used)
        mark = zlib.crc32(np.ascontiguousarray(raw[:: max(1, len(raw) // 64)]).data)
        first = used[0].half if used else sum(self._learned.series) % 2
        half = (first + len(used)) % 2 if moved and mark not in self._state.prints else -1
        taken.append(_Taken(index, half, *at))
        if half < 0:
            return
        self._state.prints.append(mark)
        about = (repaired.image, repaired.statistics, repaired.model)
        self._recent.append(self._learned.learn(raw, *about, half, new_series=not used))
        if self._changed():
            self._begin_anew()
        elif _is_due(self._learned.seen - self._state.since) and min(self._learned.tilts) > 0:
            self._publish()
        elif self._learned.seen - self._state.seen >= SAVED_EVERY:
            self._is_due = True

    def keep(self) -> None:
        """Write down what was learned where that is due; see `Cameras.keep`."""
        if self._is_due:
            self.save()

    def save(self) -> None:
        """Write down what was learned; where the disk does not take it, it is lost at the end of the run."""
        self._is_due = False
        if self._folder is None or self._learned.seen in (0, self._state.seen):
            return
        state, learned = self._state, self._learned
        state.slot, state.seen = 1 - state.slot, learned.seen
        state.tilts, state.series, state.levels = list(learned.tilts), list(learned.series), list(learned.levels)
        state.about = digest(state.seen, state.tilts, state.series, state.levels)
        with contextlib.suppress(OSError, OutputError):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_array(self._folder / f"sums.{state.slot}", np.stack(learned.sums), state.about)
            write_array(self._folder / f"blocks.{state.slot}", np.stack(learned.blocks), state.about)
            if self._recent:
                write_array(self._folder / f"recent.{state.slot}", np.stack(self._recent), state.about)
            write_bytes(self._folder / "state.json", msgspec.json.encode(state))

    def _changed(self) -> bool:
        """Whether the last tilts have another gain pattern than the map."""
        current = self.map()
        if current is None or len(self._recent) < RECENT:
            return False
        return disagrees(current, list(self._recent), self._learned.sums[0].size, self._settings.gain_percent)

    def _begin_anew(self) -> None:
        """The camera or its reference changed: nothing learned before holds."""
        seen = self._learned.seen
        self._learned = Learned.empty(self._learned.sums[0].shape)
        self._learned.seen = self._state.since = seen
        self._state.maps[seen] = (None, {})
        self._maps = {seen: CameraMap(seen, np.zeros(0, np.int64))}
        self._recent.clear()
        text = f"{self.name}: the camera or its gain reference changed; what stays in the images is learned anew"
        self._untold.append(Warned(code="camera.changed", text=text))
        self._is_due = True

    def _publish(self) -> None:
        """A new map comes into force."""
        current = build(self._learned)
        self._state.maps[current.tilts] = (current.gain_percent, current.counts)
        self._maps = {current.tilts: current}
        if self._folder and self._out:
            with contextlib.suppress(OSError, OutputError):
                self._folder.mkdir(parents=True, exist_ok=True)
                _write_map(self._folder, current)
                write_png(self._out / f"camera_{self.name}.png", picture(deviation(self._learned)))
        self._is_due = True

    def _alarm(self, current: CameraMap) -> list[Event]:
        limit = self._settings.gain_percent
        percent = current.gain_percent or 0.0
        if percent > limit and not self._alarmed:
            self._alarmed = True
            text = (
                f"{self.name}: the gain left in the images varies by {percent:.1f} % from pixel to pixel (over "
                f"{current.tilts} tilts): the gain reference is wrong, stale or missing; see camera_{self.name}.png"
            )
            return [AlarmRaised(code="camera.gain", text=text, about=self.name)]
        if percent < limit / EASE and self._alarmed:
            self._alarmed = False
            return [AlarmCleared(code="camera.gain", about=self.name)]
        return []

    def _recall(self, folder: Path, shape_yx: tuple[int, int]) -> None:
        """Take up what is on disk; what does not fit together is learned anew."""
        try:
            state = msgspec.json.decode((folder / "state.json").read_bytes(), type=_State)
        except (OSError, ValueError):
            return
        sums, blocks = (read_array(folder / f"{kind}.{state.slot}", state.about) for kind in ("sums", "blocks"))
        empty = self._learned
        if sums is None or blocks is None or sums.shape != (2, *shape_yx) or blocks[0].shape != empty.blocks[0].shape:
            newest = max(state.maps, default=0)
            self._state, self._learned.seen = _State(maps=state.maps, since=newest), newest
            return
        self._state = state
        recent = read_array(folder / f"recent.{state.slot}", state.about)
        self._recent.extend(recent if recent is not None else ())
        self._learned = Learned(
            (sums[0], sums[1]),
            (blocks[0], blocks[1]),
            list(state.tilts),
            list(state.series),
            list(state.levels),
            state.seen,
        )


class Cameras:
    """All camera set-ups of a run."""

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._known: dict[str, Camera] = {}

    def of(self, image: RawImage, pixel_size_A: float | None, settings: Correct) -> Camera:
        """The camera that took an image."""
        name = set_up(image, pixel_size_A)
        if name not in self._known:
            self._known[name] = Camera(name, (image.ny, image.nx), self._out, settings)
        return self._known[name]

    def keep(self) -> None:
        """Write down what was learned where that is due.

        To be called once the tilts learned from are in the journal: a state ahead of the journal would correct the
        same tilts in another way after a crash.
        """
        for camera in self._known.values():
            camera.keep()

    def save(self) -> None:
        """Write down what was learned."""
        for camera in self._known.values():
            camera.save()


def map_on_disk(out: Path, image: RawImage, pixel_size_A: float | None, tilts: int | None = None) -> CameraMap | None:
    """The map for an image as another process finds it: the one after so many tilts (0: none), else the newest."""
    folder = out / FOLDER / CAMERAS / set_up(image, pixel_size_A)
    try:
        state = msgspec.json.decode((folder / "state.json").read_bytes(), type=_State)
    except (OSError, ValueError):
        return None
    if tilts == 0 or not state.maps:
        return None
    return _read_map(folder, tilts if tilts in state.maps else max(state.maps), state)


def picture(deviations: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey values of a map of deviations `(ny, nx)`, no longer than PICTURE_PX: the greatest of each square is shown.

    128 is no deviation; black and white are 6 standard deviations (robust) of the map.
    """
    step = -(-max(deviations.shape) // PICTURE_PX)
    ny, nx = (side // step for side in deviations.shape)
    squares = deviations[: ny * step, : nx * step].reshape(ny, step, nx, step).swapaxes(1, 2).reshape(ny, nx, -1)
    most, least = squares.max(axis=2), squares.min(axis=2)
    shown = np.where(most > -least, most, least)
    spread = 1.4826 * float(np.median(np.abs(deviations[::step, ::step]))) or 1.0
    return np.asarray(np.clip(128 + shown * 127 / (6 * spread), 0, 255), np.uint8)


def _has_moved(here: tuple[float, float], there: tuple[float, float]) -> bool:
    """Far enough, and along both axes: an edge along one of them stays where it is when it moves along itself."""
    across, along = abs(here[0] - there[0]), abs(here[1] - there[1])
    return hypot(across, along) >= MOVED_PX and min(across, along) >= MOVED_EACH_PX


def _is_due(count: int) -> bool:
    doubled = count >= FIRST and count % FIRST == 0 and (count // FIRST).bit_count() == 1
    return count % STEP == 0 or (doubled and count < STEP)


def _write_map(folder: Path, one: CameraMap) -> None:
    write_array(folder / f"{one.tilts}.places", one.places, "places")
    if one.pattern is not None:
        write_array(folder / f"{one.tilts}.pattern", one.pattern, "pattern")
    for path in _newest(folder)[PATTERNS_KEPT:]:
        path.unlink()


def _newest(folder: Path) -> Sequence[Path]:
    return sorted(folder.glob("*.pattern"), key=lambda path: -int(path.stem))


def _read_map(folder: Path, tilts: int, state: _State) -> CameraMap | None:
    places, pattern = (read_array(folder / f"{tilts}.{kind}", kind) for kind in ("places", "pattern"))
    percent, counts = state.maps[tilts]
    return None if places is None else CameraMap(tilts, places, pattern, percent, counts)
