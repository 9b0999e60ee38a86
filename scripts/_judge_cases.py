"""Labelled series for the judge's benchmark: what a case is, and the good ones with all that is odd and harmless.

Everything follows from a seed. The images are the simulated microscope's; what its plan has no word for (a beam that is
cut at a corner, a carbon edge) is done here to the electrons, before the camera counts them. The faulty ones are in
`_judge_faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamtomo.simulate import camera as cameras
from streamtomo.simulate import schemes
from streamtomo.simulate.optics import Optics
from streamtomo.simulate.series import Motion, Plan, Series
from streamtomo.simulate.specimen import Recipe

Map = NDArray[np.float32]
Effect = Callable[[int, Map], Map]

SIZE = 256
GRAIN = 300_000.0
"""Scatterers in a cubic micrometre: fewer than in life, which costs time, and no less contrast at this pixel size."""
ODDITIES = (
    "plain",
    "dark image",
    "jump and back",
    "few beads",
    "lamella",
    "STEM",
    "thick",
    "low dose",
    "carbon edge",
    "beam step",
    "corner",
    "drift",
)


@dataclass
class Case:
    """One series, and what is true of it."""

    name: str
    kind: str
    """A fault, or what is odd about a good series."""
    onset: int | None
    """The first tilt at fault, in order of acquisition; None for a good series."""
    series: Series
    other: Series | None = None
    """The specimen that is seen from the onset on, if that is another one."""
    effects: list[Effect] = field(default_factory=list)

    def images(self) -> Iterator[NDArray[np.generic]]:
        """The images `(SIZE, SIZE)` int16 in order of acquisition."""
        for index in range(len(self.series.plan.angles_deg)):
            source = self.series
            if self.other is not None and self.onset is not None and index >= self.onset:
                source = self.other
            electrons = source.electrons(index)
            for effect in self.effects:
                electrons = effect(index, electrons)
            rng = np.random.default_rng((self.series.plan.seed, 2**20 + index))
            yield cameras.expose(self.series.camera, np.maximum(electrons, 0), rng).image


def good(seed: int) -> Case:
    """A good series; the seed decides what is odd about it."""
    kind = ODDITIES[seed % len(ODDITIES)]
    return series_of_kind(f"good-{seed}", kind, np.random.default_rng((1, seed)), seed)


def series_of_kind(name: str, kind: str, rng: np.random.Generator, seed: int) -> Case:
    """A good series with this oddity."""
    angles = _angles(rng)
    drift = rng.uniform(8, 15) if kind == "drift" else rng.uniform(0.5, 6)
    path = _tracked(rng, len(angles), drift)
    if kind == "jump and back":
        at = int(rng.integers(3, len(angles) - 2))
        path[at : at + int(rng.integers(1, 3))] += rng.uniform(0.12, 0.4) * SIZE * direction(rng)
    recipe = Recipe(
        thickness_nm=rng.uniform(200, 250) if kind == "thick" else rng.uniform(80, 200),
        pitch_deg=rng.uniform(-4, 4),
        pretilt_deg=float(rng.choice([-1, 1]) * rng.uniform(7, 13)) if kind == "lamella" else rng.uniform(-3, 3),
        beads=int(rng.integers(0, 4)) if kind in ("few beads", "lamella") else int(rng.integers(4, 15)),
        scatterers_per_um3=GRAIN,
    )
    plan = Plan(
        tuple(angles),
        (SIZE, SIZE),
        pixel_size_A=rng.uniform(16, 24),
        axis_deg=rng.uniform(-180, 180),
        dose_e_A2=rng.uniform(0.6, 1.2) if kind == "low dose" else rng.uniform(1.5, 5),
        recipe=recipe,
        optics=Optics(underfocus_um=rng.uniform(2, 7)),
        motion=Motion(path_px=as_path(path), tilt_error_deg=0.1, mag_change=rng.uniform(-0.003, 0.003)),
        dark=(int(rng.integers(2, len(angles))),) if kind == "dark image" else (),
        hot=int(rng.integers(0, 12)),
        dead=int(rng.integers(0, 4)),
        dead_columns=int(rng.integers(0, 2)),
        xrays=rng.uniform(0, 10),
        seed=seed + 1,
    )
    case = Case(name, kind, None, Series(plan))
    flicker = rng.normal(1, rng.uniform(0.002, 0.03), len(angles)).astype(np.float32)
    case.effects.append(lambda i, image: image * flicker[i])
    if kind in GOOD_EFFECTS:
        case.effects.insert(0, GOOD_EFFECTS[kind](case, rng))
    return case


def _angles(rng: np.random.Generator) -> list[float]:
    step, reach = float(rng.choice([4, 5, 6])), float(rng.choice([45, 50, 54, 60]))
    start = float(rng.choice([0, 0, 0, -8, 10]))
    angles = schemes.tilt_angles(start, step, 0, reach)
    scheme = rng.choice(["dose-symmetric", "dose-symmetric", "bidirectional", "unidirectional"])
    if scheme == "unidirectional":
        return schemes.unidirectional(angles, start, 1)
    if scheme == "bidirectional":
        return schemes.bidirectional(angles, start, 1)
    return schemes.dose_symmetric(angles, start, int(rng.choice([1, 2])))


def _tracked(rng: np.random.Generator, count: int, step_px: float) -> NDArray[np.float64]:
    """Shifts `(count, 2)` of a stage that is brought back towards the target again and again."""
    path = np.zeros((count, 2))
    for i in range(1, count):
        path[i] = 0.6 * path[i - 1] + rng.normal(0, step_px / np.sqrt(2), 2)
    return path


def as_path(path: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """Shifts `(count, 2)` as the plan has them."""
    return tuple((float(x), float(y)) for x, y in path)


def direction(rng: np.random.Generator) -> NDArray[np.float64]:
    """A unit vector, any way."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _dark_field(case: Case, _rng: np.random.Generator) -> Effect:
    """Annular dark field: what is scattered instead of what is not, on a dark current."""
    beam = case.series.plan.electrons_per_pixel

    def effect(index: int, image: Map) -> Map:
        if index in case.series.plan.dark:
            return image
        return np.asarray(0.02 * beam + 0.5 * np.maximum(0, beam - image), np.float32)

    return effect


def _carbon_edge(case: Case, rng: np.random.Generator) -> Effect:
    """Half of the field lies on carbon film."""
    towards, level = direction(rng), rng.uniform(0.65, 0.85)
    shifts = case.series.plan.motion.path_px or ()

    def effect(index: int, image: Map) -> Map:
        return image * np.where(along(towards, shifts[index]) > 0, 1.0, level).astype(np.float32)

    return effect


def _beam_step(case: Case, rng: np.random.Generator) -> Effect:
    """The beam is 10 % weaker or stronger from some tilt on."""
    at, level = int(rng.integers(4, 12)), np.float32(rng.choice([0.9, 1.1]))
    return lambda index, image: image * level if index >= at else image


def _corner(case: Case, rng: np.random.Generator) -> Effect:
    """The condenser's aperture cuts a corner of the field."""
    corner = rng.choice([-1.0, 1.0], 2)
    lit = 1 / (1 + np.exp((along(corner / np.sqrt(2), (0, 0)) - rng.uniform(0.5, 0.58) * SIZE) / 4))
    return lambda _, image: np.asarray(image * lit, np.float32)


GOOD_EFFECTS = {"STEM": _dark_field, "carbon edge": _carbon_edge, "beam step": _beam_step, "corner": _corner}


def along(towards: NDArray[np.float64], from_xy: tuple[float, float]) -> NDArray[np.float64]:
    """Distance in pixels along a direction from a point given from the image's centre, `(SIZE, SIZE)`."""
    at = np.arange(SIZE) - (SIZE - 1) / 2
    grid: NDArray[np.float64] = towards[0] * (at[None, :] - from_xy[0]) + towards[1] * (at[:, None] - from_xy[1])
    return grid
