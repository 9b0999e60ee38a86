"""One simulated tilt series: what happens at each tilt, and the image that comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from math import ceil, cos, hypot, radians, sin, sqrt

import numpy as np
import scipy.fft as fft
from numpy.typing import DTypeLike, NDArray

from streamtomo.simulate import camera as cameras
from streamtomo.simulate import optics as opticses
from streamtomo.simulate import specimen as specimens
from streamtomo.simulate.camera import Camera, Exposure
from streamtomo.simulate.creep import make_waves, settled
from streamtomo.simulate.optics import Optics
from streamtomo.simulate.pose import View, path_factor, slope
from streamtomo.simulate.specimen import Field, Map, Projection, Recipe, Specimen

STEEPEST_DEG = 75.0
"""Matter reaches as far as an image tilted so can see."""
GRID_BAR_TRANSMISSION = 0.02
STAGE_NOISE_DEG = 0.005
SECOND = 10_000
"""Seeds of second series are so much higher than those of the first."""


@dataclass(frozen=True)
class Motion:
    """How badly the stage and the lenses behave."""

    drift_px: float = 6.0
    """Root mean square shift from one tilt to the next."""
    jumps: tuple[tuple[int, float], ...] = ()
    """Tilt (from 0, in order of acquisition) and size in pixels of sudden shifts that last."""
    tilt_error_deg: float = 0.0
    """Standard deviation of the true angle about the one the stage reads."""
    frame_drift_px: float = 2.0
    """Way of the specimen while one movie is exposed."""
    mag_change: float = 0.0
    """Relative change of magnification from the first tilt to the last."""
    beam_tilt_deg: float = 0.0
    """The beam leans along the tilt axis by this."""
    local_px: float = 0.0
    """Root mean square way in the plane that parts of the specimen creep against each other in the whole series."""
    dome_px: float = 0.0
    """Height of the dome that the specimen bends up into."""
    path_px: tuple[tuple[float, float], ...] | None = None
    """Shift `(x, y)` of each tilt in order of acquisition, instead of a random walk with jumps."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides a series."""

    angles_deg: tuple[float, ...]
    """Nominal, in order of acquisition."""
    shape_yx: tuple[int, int] = (1024, 1024)
    pixel_size_A: float = 10.8
    axis_deg: float = 85.3
    dose_e_A2: float = 3.0
    """Per tilt."""
    dtype: DTypeLike = "int16"
    gain: float | None = None
    """Counts per electron; None: what suits the pixel type."""
    recipe: Recipe = field(default_factory=Recipe)
    optics: Optics = field(default_factory=Optics)
    motion: Motion = field(default_factory=Motion)
    underfocus_um: tuple[float, ...] | None = None
    """Of each tilt, in order of acquisition; None: that of the optics throughout."""
    dark: tuple[int, ...] = ()
    """Tilts whose shutter stays closed."""
    grid_bar_nm: float | None = None
    """Distance across the tilt axis from the specimen's centre to an opaque grid bar."""
    xrays: float = 10.0
    hot: int = 20
    dead: int = 0
    dead_columns: int = 0
    dead_rows: int = 0
    frames: int = 0
    """Frames of each exposure; 0: single images."""
    gain_spread: float = 0.0
    """Standard deviation of the sensitivity of the camera's pixels; in movies only."""
    seed: int = 1
    camera_seed: int | None = None
    """Seed of the camera's defects; None: the series' own."""
    specimen_seed: int | None = None
    """Likewise of the specimen."""
    turn_deg: float = 0.0
    """How far the holder was turned about Z since the specimen was grown: a second tilt axis."""
    move_nm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """... and then moved."""
    reach_nm: float | None = None
    """Half the extent of the matter on all sides; None: as far as this series can see."""

    @property
    def electrons_per_pixel(self) -> float:
        """Of the bare beam."""
        return self.dose_e_A2 * self.pixel_size_A**2


class Series:
    """A series in which everything but the images is decided at once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        defects = np.random.SeedSequence(plan.seed).spawn(2)[1]
        self.read_deg, self.views = _stage(plan)
        """What the stage says, and where it is."""
        self.camera: Camera = cameras.make_camera(
            plan.shape_yx,
            plan.dtype,
            np.random.default_rng(defects if plan.camera_seed is None else plan.camera_seed),
            mean_electrons=plan.electrons_per_pixel,
            gain=1.0 if plan.frames and plan.gain is None else plan.gain,
            xrays=plan.xrays,
            hot=plan.hot,
            dead=plan.dead,
            dead_columns=plan.dead_columns,
            dead_rows=plan.dead_rows,
            gain_spread=plan.gain_spread if plan.frames else 0.0,
        )
        field = _field(plan, self.views)
        if plan.reach_nm is not None:
            field = replace(field, reach_nm=(plan.reach_nm, plan.reach_nm))
        grown = specimens.grow(plan.recipe, field, plan.seed if plan.specimen_seed is None else plan.specimen_seed)
        self.specimen: Specimen = specimens.turned(grown, plan.turn_deg, plan.move_nm)
        self._transfer: tuple[Optics, NDArray[np.complex64]] | None = None

    def electrons(self, index: int) -> Map:
        """Mean electrons per pixel `(ny, nx)` at one tilt, before the camera."""
        margin = self.plan.optics.margin(self.plan.pixel_size_A)
        ny, nx = self.plan.shape_yx
        return self._canvas(index, margin)[margin : margin + ny, margin : margin + nx]

    def frame_electrons(self, index: int) -> Iterator[Map]:
        """Mean electrons per pixel `(ny, nx)` of the frames of one tilt, one after the other."""
        plan = self.plan
        margin = plan.optics.margin(plan.pixel_size_A) + ceil(plan.motion.frame_drift_px)
        spectrum = fft.rfft2(self._canvas(index, margin) / np.float32(plan.frames))
        (rows, columns), (ny, nx) = (n + 2 * margin for n in plan.shape_yx), plan.shape_yx
        fy, fx = fft.fftfreq(rows)[:, None], fft.rfftfreq(columns)
        for x, y in self.frame_shifts(index):
            moved = fft.irfft2(spectrum * np.exp(-2j * np.pi * (fx * x + fy * y)), s=(rows, columns))
            yield np.maximum(moved[margin : margin + ny, margin : margin + nx], 0).astype(np.float32)

    def frame_shifts(self, index: int) -> NDArray[np.float64]:
        """Where the specimen is in each frame of one tilt, `(frames, 2)` as x, y, relative to their mean.

        It starts fast and calms down, in a direction of its own for each tilt, and wavers a little.
        """
        rng = np.random.default_rng((self.plan.seed, 2**21 + index))
        t = np.linspace(0, 1, max(1, self.plan.frames))
        along = (1 - np.exp(-2.5 * t)) / (1 - np.exp(-2.5))
        aside = 0.05 * np.sin(2 * np.pi * (t + rng.random()))
        a = rng.uniform(0, 2 * np.pi)
        way = np.stack([along * cos(a) - aside * sin(a), along * sin(a) + aside * cos(a)], axis=1)
        return np.asarray(self.plan.motion.frame_drift_px * (way - way.mean(axis=0)))

    def _canvas(self, index: int, margin: int) -> Map:
        """Mean electrons per pixel at one tilt in the field and a margin around it."""
        plan, view = self.plan, self.views[index]
        shape = (plan.shape_yx[0] + 2 * margin, plan.shape_yx[1] + 2 * margin)
        if index in plan.dark:
            return np.full(shape, cameras.DARK_ELECTRONS, np.float32)
        pixel_nm = plan.pixel_size_A / 10
        matter = specimens.project(self.specimen, view, plan.shape_yx, pixel_nm, margin)
        seen = self._through_lens(index, matter, shape)
        image = np.float32(plan.electrons_per_pixel * self.transmission(index)) * seen
        return image if plan.grid_bar_nm is None else image * self._past_grid_bar(view, shape)

    def _through_lens(self, index: int, matter: Projection, shape_yx: tuple[int, int]) -> Map:
        """Intensity relative to the beam behind bare ice, `(ny, nx)`, at the focus of one tilt."""
        plan, canvas = self.plan, matter.phase.shape
        optics, spectrum = self.optics(index), opticses.exit_spectrum(matter, self.plan.optics)
        if optics.gradient:
            return opticses.graded_intensity(spectrum, optics, plan.pixel_size_A, self._heights_um(index, shape_yx))
        if self._transfer is None or self._transfer[0] != optics or self._transfer[1].shape != canvas:
            self._transfer = optics, optics.transfer((canvas[0], canvas[1]), plan.pixel_size_A)
        return opticses.intensity(spectrum, self._transfer[1])[: shape_yx[0], : shape_yx[1]]

    def optics(self, index: int) -> Optics:
        """The column at one tilt."""
        optics, planned = self.plan.optics, self.plan.underfocus_um
        if planned is not None:
            optics = replace(optics, underfocus_um=planned[index])
        if not optics.focus_error_um:
            return optics
        rng = np.random.default_rng((self.plan.seed, 2**22 + index))
        return optics.focused(round(optics.underfocus_um + float(rng.normal(0, optics.focus_error_um)), 6))

    def _heights_um(self, index: int, shape_yx: tuple[int, int]) -> Map:
        """Height of the slab's middle above the tilt axis, `(ny, nx)`, the field in the middle."""
        view, recipe, pixel_um = self.views[index], self.plan.recipe, self.plan.pixel_size_A / 1e4
        across, up = slope(view.tilt_deg, recipe.pitch_deg, recipe.pretilt_deg, self.plan.turn_deg)
        a = radians(view.axis_deg)
        on_x, on_y = cos(a) * across - sin(a) * up, sin(a) * across + cos(a) * up
        x = np.arange(shape_yx[1]) - (shape_yx[1] - 1) / 2 - view.shift_xy[0]
        y = np.arange(shape_yx[0]) - (shape_yx[0] - 1) / 2 - view.shift_xy[1]
        return np.asarray((on_y * y[:, None] + on_x * x) * pixel_um / view.mag, np.float32)

    def expose(self, index: int) -> Exposure:
        """The image or the frames of one tilt as read out; the same whenever they are asked for."""
        rng = np.random.default_rng((self.plan.seed, 2**20 + index))
        if self.plan.frames:
            return cameras.expose_movie(self.camera, list(self.frame_electrons(index)), rng)
        return cameras.expose(self.camera, self.electrons(index), rng)

    def transmission(self, index: int) -> float:
        """Share of the beam behind the bare ice of one tilt."""
        recipe = self.plan.recipe
        factor = path_factor(self.views[index].tilt_deg, recipe.pitch_deg, recipe.pretilt_deg, self.plan.turn_deg)
        return self.plan.optics.ice_transmission(recipe.thickness_nm * factor)

    def _past_grid_bar(self, view: View, shape_yx: tuple[int, int]) -> Map:
        """What a bar that covers all beyond its edge lets through, `(ny, nx)`, the field in the middle."""
        assert self.plan.grid_bar_nm is not None
        edge = np.array([[self.plan.grid_bar_nm * 10 / self.plan.pixel_size_A, 0.0, 0.0]])
        (x, y), normal = view.raw(edge)[0], View(0.0, view.axis_deg).matrix()[:, 0]
        ny, nx = shape_yx
        across = normal[0] * (np.arange(nx) - (nx - 1) / 2 - x)
        along = normal[1] * (np.arange(ny) - (ny - 1) / 2 - y)
        beyond = np.sign(self.plan.grid_bar_nm) * (along[:, None] + across)
        share = GRID_BAR_TRANSMISSION + (1 - GRID_BAR_TRANSMISSION) / (1 + np.exp(np.clip(beyond / 3, -50, 50)))
        return np.asarray(share, np.float32)

    def truth(self) -> dict[str, object]:
        """All that a test can ask, but for what the camera and the writer add tilt by tilt."""
        plan = self.plan
        beads_px = self.specimen.beads_nm * 10 / plan.pixel_size_A
        return {
            "seed": plan.seed,
            "pixel_size_A": plan.pixel_size_A,
            "shape_yx": plan.shape_yx,
            "dtype": np.dtype(plan.dtype).name,
            "axis_deg": plan.axis_deg,
            "dose_e_A2": plan.dose_e_A2,
            "electrons_per_pixel": plan.electrons_per_pixel,
            "counts_per_electron": self.camera.gain,
            "specimen": asdict(plan.recipe),
            "turn_deg": plan.turn_deg,
            "move_nm": plan.move_nm,
            "optics": asdict(plan.optics),
            "motion": asdict(plan.motion),
            "beam_tilt_deg": plan.motion.beam_tilt_deg,
            "waves": [asdict(wave) for wave in self.views[0].waves],
            "grid_bar_nm": plan.grid_bar_nm,
            "beads_nm": np.round(self.specimen.beads_nm, 4).tolist(),
            "beads_px": np.round(beads_px, 4).tolist(),
            "vesicles_nm": np.round(self.specimen.vesicles_nm, 3).tolist(),
            "vesicle_radii_nm": np.round(self.specimen.vesicle_radii_nm, 3).tolist(),
            "camera": self.camera.defects(),
            "views": [self.view_truth(i) for i in range(len(self.views))],
        }

    def view_truth(self, index: int) -> dict[str, object]:
        """One tilt; `index` counts in order of acquisition."""
        view = self.views[index]
        return {
            "index": index,
            "nominal_deg": self.plan.angles_deg[index],
            "read_deg": round(float(self.read_deg[index]), 6),
            "tilt_deg": view.tilt_deg,
            "axis_deg": view.axis_deg,
            "shift_xy": view.shift_xy,
            "mag": view.mag,
            "settled": view.settled,
            "transmission": round(self.transmission(index), 6),
            "underfocus_um": self.optics(index).underfocus_um,
            "dark": index in self.plan.dark,
            **({"frame_shifts_xy": self.frame_shifts(index).round(4).tolist()} if self.plan.frames else {}),
        }


def second_axis(plan: Plan, turn_deg: float) -> tuple[Plan, Plan]:
    """Plans of two series of one specimen, the holder being turned about Z in between and put back nearly in place."""
    rng = np.random.default_rng((plan.seed, 2**23))
    field_nm = min(plan.shape_yx) * plan.pixel_size_A / 10
    x, y, z = (round(float(v), 3) for v in rng.normal(0, (0.02 * field_nm, 0.02 * field_nm, 10.0)))
    second = replace(plan, seed=plan.seed + SECOND, specimen_seed=plan.seed, turn_deg=turn_deg, move_nm=(x, y, z))
    reach = max(max(_field(one, _stage(one)[1]).reach_nm) for one in (plan, second)) + hypot(x, y)
    return replace(plan, reach_nm=reach), replace(second, reach_nm=reach)


def _stage(plan: Plan) -> tuple[NDArray[np.float64], list[View]]:
    """Angles as they are read, and all views."""
    rng = np.random.default_rng(np.random.SeedSequence(plan.seed).spawn(2)[0])
    nominal = np.asarray(plan.angles_deg)
    read_deg = nominal + rng.normal(0, STAGE_NOISE_DEG, len(nominal))
    return read_deg, _views(plan, read_deg, rng)


def _views(plan: Plan, read_deg: NDArray[np.float64], rng: np.random.Generator) -> list[View]:
    """Angles, random walk with jumps, and magnification of every tilt."""
    count, motion = len(read_deg), plan.motion
    steps = rng.normal(0, motion.drift_px / sqrt(2), (count, 2))
    errors = rng.normal(0, 1, count) * motion.tilt_error_deg
    directions = rng.uniform(0, 2 * np.pi, count)
    for index, size in motion.jumps:
        steps[index] += size * np.array([np.cos(directions[index]), np.sin(directions[index])])
    shifts = np.cumsum(steps, axis=0) if motion.path_px is None else np.asarray(motion.path_px, dtype=np.float64)
    mags = 1 + motion.mag_change * np.linspace(0, 1, count)
    waves = make_waves(max(plan.shape_yx), motion.local_px, motion.dome_px, np.random.default_rng((plan.seed, 2**24)))
    return [
        View(
            tilt_deg=round(float(read_deg[i] + errors[i]), 6),
            axis_deg=plan.axis_deg,
            shift_xy=(float(sx), float(sy)),
            mag=float(mags[i]),
            beam_tilt_deg=motion.beam_tilt_deg,
            waves=waves,
            settled=round(settled(i), 6),
        )
        for i, (sx, sy) in enumerate(np.round(shifts, 4))
    ]


def _field(plan: Plan, views: list[View]) -> Field:
    """How much specimen the series can see."""
    ny, nx = plan.shape_yx
    pixel_nm, margin = plan.pixel_size_A / 10, plan.optics.margin(plan.pixel_size_A)
    smallest = min(view.mag for view in views)
    moved = max(hypot(*view.shift_xy) for view in views)
    moved += ceil(plan.motion.frame_drift_px) if plan.frames else 0
    slack = (margin + moved) * pixel_nm + plan.recipe.thickness_nm
    a = radians(plan.axis_deg)
    across = (nx * abs(cos(a)) + ny * abs(sin(a))) / 2 * pixel_nm
    along = (nx * abs(sin(a)) + ny * abs(cos(a))) / 2 * pixel_nm
    steepest = min(STEEPEST_DEG, max(abs(view.tilt_deg + plan.recipe.pretilt_deg) for view in views))
    widest = cos(radians(steepest)) * smallest
    lean = abs(cos(radians(plan.recipe.pitch_deg)))
    return Field(
        nx * pixel_nm, ny * pixel_nm, plan.axis_deg, ((across + slack) / widest, (along + slack) / smallest / lean)
    )
