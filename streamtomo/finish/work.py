"""What passes between the steps of the recipe: the job, the products of the steps done, the series' folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import jit
from streamtomo.align.freedoms import Validated
from streamtomo.camera import map_on_disk, set_up
from streamtomo.config import Settings
from streamtomo.config_preset import with_preset
from streamtomo.correct.binning import bin_image
from streamtomo.correct.camera_map import CameraMap
from streamtomo.correct.prepare import repair
from streamtomo.errors import StreamtomoError
from streamtomo.export import mrc
from streamtomo.exposure import read_exposure
from streamtomo.finish.plan import State
from streamtomo.messages import Event, Warned
from streamtomo.model import LeftOut, Placement, RawImage, Tilt, Verdict

Image = NDArray[np.float32]
Say = Callable[[Event], None]
Progress = Callable[[float], None]
"""Is told what fraction of a step is done."""
Product = TypeVar("Product")

ALIGN_SIDE_PX = 1500
"""Images are aligned at the smallest binning that brings their longer side to this."""
KEEP_BYTES = 2 << 30
"""Repaired full-size views that take less together are kept in memory from the step that reads them on."""


class JobTilt(Struct, frozen=True, kw_only=True):
    """A tilt as the live lane left it."""

    tilt: Tilt
    placement: Placement | None = None
    verdict: Verdict | None = None
    failure: str | None = None
    """Why it could not be read."""


class FinishJob(Struct, frozen=True, kw_only=True):
    """All that the recipe needs to know."""

    series: str
    folder: str
    """Where the results go."""
    settings: Settings
    axis_deg: float
    pixel_size_A: float | None
    tilts: tuple[JobTilt, ...]
    fiducials: str | None = None
    """A bead model that takes the place of the tracking: corrected by hand, in pixels of the pre-aligned stack."""
    placed: bool = True
    """Whether the placements are known; else the step `coarse` finds them."""
    camera: int | None = None
    """Tilts from which the camera map was learned that counts, the newest one by which a tilt was corrected live: so
    what is made again, at any later time, is the same. None: the newest there is."""


class Collected(Struct, frozen=True, kw_only=True):
    """Product of `collect`: which tilts are to be used."""

    usable: tuple[int, ...]
    """Indices of the tilts, in ascending angle."""
    left_out: tuple[LeftOut, ...]


class Cleaned(Struct, frozen=True, kw_only=True):
    """Product of `clean`: the rows of the sorted stack."""

    rows: tuple[int, ...]
    """Indices of the tilts, in ascending angle; every file of the series has a row for each."""
    left_out: tuple[LeftOut, ...]
    nx: int
    ny: int
    """Of the raw images."""
    align_binning: int
    """Of the images that the alignment looks at."""
    stack_binning: int
    """Of the sorted stack `NAME.st`: 1, or as for the alignment where that would be too large."""
    means: tuple[float, ...]
    """Of each row's image, counts."""


class Coarse(Struct, frozen=True, kw_only=True):
    """Product of `coarse`: where the specimen lies in each row, raw pixels."""

    shifts: tuple[tuple[float, float], ...]
    axis_deg: float


class Work:
    """One series being finished."""

    def __init__(self, job: FinishJob, say: Say) -> None:
        self.job, self.say = job, say
        self.settings = with_preset(job.settings)
        self.folder, self.name = Path(job.folder), job.series
        self.state: State = {}
        self._cameras: dict[str, CameraMap | None] = {}
        self.progress: Progress = lambda done: None
        self.images: list[Image] | None = None
        """Views at the binning of the alignment, while a step that made them is followed by one that needs them."""
        self.full: list[NDArray[Any]] | None = None
        """Repaired full-size views, while they are kept."""
        self.solution: Validated | None = None
        """What the tracks were judged by, likewise."""
        self._aligned: tuple[str, Image] | None = None
        """The aligned stack as a step left it, likewise."""

    def path(self, suffix: str) -> Path:
        """A file of the series: its name with a suffix."""
        return self.folder / f"{self.name}{suffix}"

    def product(self, step: str, kind: type[Product]) -> Product:
        """What a step that is done left for later ones. Raises StreamtomoError where it cannot be read any more."""
        try:
            return msgspec.json.decode(self.state[step].product, type=kind)
        except msgspec.DecodeError as error:
            raise StreamtomoError(
                f"{self.name}: what the step {step} left cannot be read ({error}), as after a change of the program; "
                f"do it again: streamtomo finish {self.name} --from {step}"
            ) from None

    def warn(self, code: str, text: str) -> None:
        """Tell a person."""
        self.say(Warned(code=code, text=text, series=self.name))

    @property
    def by_index(self) -> dict[int, JobTilt]:
        """The job's tilts by their index."""
        return {one.tilt.index: one for one in self.job.tilts}

    @property
    def rows(self) -> list[JobTilt]:
        """The tilts of the sorted stack, row by row."""
        tilts = self.by_index
        return [tilts[index] for index in self.product("clean", Cleaned).rows]

    def align_images(self) -> list[Image]:
        """The views at the binning of the alignment, `(ny, nx)` each."""
        if self.images is None:
            cleaned = self.product("clean", Cleaned)
            factor = cleaned.align_binning // cleaned.stack_binning
            self.images = [bin_image(section, factor) for section in mrc.sections(self.path(".st"))]
        return self.images

    def full_views(self) -> Iterator[NDArray[Any]]:
        """The repaired views at full size, row by row, in the type they are stored in."""
        if self.full is not None:
            return iter(self.full)
        if self.product("clean", Cleaned).stack_binning == 1:
            return mrc.sections(self.path(".st"))
        return (image for image in one_ahead(lambda one: self.repaired(one.tilt), self.rows))

    def repaired(self, tilt: Tilt) -> NDArray[Any]:
        """The image of a tilt without outliers, full size. Raises InputError."""
        pixels, _ = read_exposure(tilt.image, self.settings, self.folder)
        camera = self._camera(tilt.image)
        image = repair(pixels, self.settings.correct.outlier_sigma, camera).image
        if camera is not None and camera.pattern is not None:
            image = image.astype(np.float32)
            camera.flatten(image, 1)
        return image

    def _camera(self, image: RawImage) -> CameraMap | None:
        """What the run knows of the camera that took an image."""
        if not self.settings.correct.camera_map:
            return None
        name = set_up(image, self.job.pixel_size_A)
        if name not in self._cameras:
            self._cameras[name] = map_on_disk(self.folder.parent, image, self.job.pixel_size_A, self.job.camera)
        return self._cameras[name]

    def aligned_stack(self, step: str) -> Image:
        """The aligned stack `(n, ny, nx)` that a step is to use: as the last one before it left it."""
        last = self.last_views(step)
        if self._aligned is None or self._aligned[0] != last:
            views = [section.astype(np.float32) for section in mrc.sections(self.path(VIEWS[last]))]
            self._aligned = last, np.stack(views)
        return self._aligned[1]

    def last_views(self, step: str = "reconstruct") -> str:
        """The last step before this one that makes aligned views."""
        wanted = {"stack": True, "erase": self.settings.erase.gold, "ctf": self.settings.ctf.correct != "off"}
        order = list(VIEWS)
        before = order[: order.index(step)] if step in VIEWS else order
        return [name for name in before if wanted[name]][-1]

    def keep_aligned(self, step: str, stack: Image | None) -> None:
        """Keep the stack that a step made, for the one that follows; None: no longer."""
        self._aligned = None if stack is None else (step, stack)


DUAL = "_dual"
"""Names of what is made of a series and of a second one about another axis go on like this."""
VIEWS = {"stack": "_ali.mrc", "erase": "_erase_ali.mrc", "ctf": "_ctf_ali.mrc"}
"""Files of the aligned stack, by the steps that make them, in order."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def one_ahead(make: Callable[[Item], Result], items: list[Item]) -> Iterator[Result]:
    """What is made of each item, the next one being made meanwhile by another thread."""
    with ThreadPoolExecutor(1, "ahead", initializer=jit.use_threads, initargs=(jit.threads(),)) as maker:
        coming = maker.submit(make, items[0]) if items else None
        for following in [*items[1:], None]:
            assert coming is not None
            result = coming.result()
            coming = maker.submit(make, following) if following is not None else None
            yield result
