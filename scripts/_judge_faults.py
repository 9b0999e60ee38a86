"""Faulty series for the judge's benchmark: a good one in which something begins at one tilt, the onset, and goes on.

What the simulated microscope's plan has no word for (a blocked beam, a blur, a blob of ice) is done to the electrons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from _judge_cases import GRAIN, SIZE, Case, Map, along, as_path, direction, series_of_kind
from numpy.typing import NDArray
from scipy import ndimage

from streamtomo.simulate import camera as cameras
from streamtomo.simulate.series import Plan, Series

TUNED = (
    "runaway stage",
    "slow drift out",
    "grid bar",
    "beam lost",
    "beam drifting",
    "ice thick",
    "charging blur",
    "defocus run-away",
    "wrong area",
    "contamination",
    "camera dying",
    "film torn",
    "emission fading",
    "shaken",
)
UNSEEN = ("beam flickering", "double image", "bubbling")
"""Kinds that no threshold was set by."""
LEAST_IN_SHADOW = 5
"""Tilts that a grid bar spoils, at least."""


def faulty(kind: str, seed: int) -> Case:
    """A series with a fault of this kind."""
    rng = np.random.default_rng((2, seed, *kind.encode()))
    case = series_of_kind(f"{kind}-{seed}", "plain", rng, seed)
    count = len(case.series.plan.angles_deg)
    onset = int(rng.integers(round(0.2 * count), round(0.5 * count)))
    case.kind, case.onset = kind, onset
    FAULTS[kind](case, onset, rng)
    return case


def _again(case: Case, plan: Plan) -> None:
    """The same series with another plan."""
    case.series = Series(plan)


def _moved(case: Case, added: NDArray[np.float64]) -> None:
    plan = case.series.plan
    path = np.asarray(plan.motion.path_px) + added
    _again(case, replace(plan, motion=replace(plan.motion, path_px=as_path(path))))


def _runaway(case: Case, onset: int, rng: np.random.Generator) -> None:
    away = np.maximum(0, np.arange(len(case.series.plan.angles_deg)) - onset + 1.0)
    distance = np.minimum(rng.uniform(0.25, 0.4) * SIZE * away**1.3, 1.3 * SIZE)
    _moved(case, distance[:, None] * direction(rng))


def _slow_drift(case: Case, onset: int, rng: np.random.Generator) -> None:
    away = np.maximum(0, np.arange(len(case.series.plan.angles_deg)) - onset + 1.0)
    _moved(case, np.minimum(rng.uniform(0.05, 0.1) * SIZE * away, 1.3 * SIZE)[:, None] * direction(rng))


def _edge(towards: NDArray[np.float64], reach_px: float, through: float) -> Map:
    """1 up to `reach_px` along a direction, `through` beyond it."""
    beyond = 1 / (1 + np.exp(-np.clip((along(towards, (0, 0)) - reach_px) / 2.5, -50, 50)))
    return np.asarray(1 - (1 - through) * beyond, np.float32)


def _grid_bar(case: Case, onset: int, rng: np.random.Generator) -> None:
    """A bar comes in on one side as the tilt grows, on the branch of the onset."""
    angles = case.series.plan.angles_deg
    towards, speed = direction(rng), rng.uniform(0.06, 0.14) * SIZE
    sides = np.sign(np.array(angles) - angles[0])
    left = [int((sides[i:] == sides[i]).sum()) if sides[i] else 0 for i in range(len(angles))]
    while onset > 1 and left[onset] < LEAST_IN_SHADOW:  # near the end of a branch nobody would mind
        onset -= 1
    case.onset = onset
    same = [i for i in range(onset, len(angles)) if sides[i] == sides[onset]]
    steps = {index: number + 1 for number, index in enumerate(same)}

    def effect(index: int, image: Map) -> Map:
        if index not in steps:
            return image
        return image * _edge(towards, SIZE / 2 - speed * steps[index], 0.02)

    case.effects.insert(0, effect)


def _beam_lost(case: Case, onset: int, rng: np.random.Generator) -> None:
    level = np.float32(rng.choice([0.0, 0.01, 0.04]))

    def effect(index: int, image: Map) -> Map:
        return image * level + np.float32(cameras.DARK_ELECTRONS) if index >= onset else image

    case.effects.append(effect)


def _beam_drifting(case: Case, onset: int, rng: np.random.Generator) -> None:
    """The lit disc wanders off the camera."""
    towards, speed, radius = direction(rng), rng.uniform(0.05, 0.12) * SIZE, rng.uniform(0.75, 1.0) * SIZE

    def effect(index: int, image: Map) -> Map:
        if index < onset:
            return image
        moved = (radius - 0.5 * SIZE + speed * (index - onset + 1)) * towards
        at = np.arange(SIZE) - (SIZE - 1) / 2
        away = np.hypot(at[None, :] + moved[0], at[:, None] + moved[1])
        return np.asarray(image / (1 + np.exp(np.clip((away - radius) / 4, -50, 50))), np.float32)

    case.effects.insert(0, effect)


def _ice_thick(case: Case, _onset: int, rng: np.random.Generator) -> None:
    plan = case.series.plan
    recipe = replace(plan.recipe, thickness_nm=rng.uniform(650, 1100), scatterers_per_um3=GRAIN / 3)
    _again(case, replace(plan, recipe=recipe))
    case.onset = 0


def _blur(case: Case, onset: int, rng: np.random.Generator) -> None:
    """Charging: the image is smeared by another width at each tilt."""
    widths = rng.uniform(2.0, 4.5, len(case.series.plan.angles_deg))

    def effect(index: int, image: Map) -> Map:
        return ndimage.gaussian_filter(image, widths[index], mode="reflect") if index >= onset else image

    case.effects.insert(0, effect)


def _defocus(case: Case, onset: int, rng: np.random.Generator) -> None:
    plan = case.series.plan
    away = np.maximum(0, np.arange(len(plan.angles_deg)) - onset + 1.0)
    run = plan.optics.underfocus_um + rng.uniform(3, 6) * rng.choice([1.0, 1.0, -1.0]) * away
    _again(case, replace(plan, underfocus_um=tuple(float(one) for one in run)))


def _wrong_area(case: Case, onset: int, rng: np.random.Generator) -> None:
    case.other = Series(replace(case.series.plan, seed=case.series.plan.seed + 7_000_000))


def _contamination(case: Case, onset: int, rng: np.random.Generator) -> None:
    """Ice grows on the specimen, most of it in one place."""
    plan = case.series.plan
    spot, width = rng.uniform(-0.3, 0.3, 2) * SIZE, rng.uniform(0.15, 0.3) * SIZE
    everywhere, there = rng.uniform(8, 25), rng.uniform(60, 140)
    at = np.arange(SIZE) - (SIZE - 1) / 2
    away2 = (at[None, :] - spot[0]) ** 2 + (at[:, None] - spot[1]) ** 2
    blob = np.exp(-0.5 * (away2 / width**2) ** 2)

    def effect(index: int, image: Map) -> Map:
        if index < onset:
            return image
        nm = (index - onset + 1) * (everywhere + there * blob)
        return np.asarray(image * np.exp(-nm / plan.optics.ice_mean_free_path_nm), np.float32)

    case.effects.insert(0, effect)


def _camera(case: Case, onset: int, rng: np.random.Generator) -> None:
    """More and more rows are dead; or a quadrant is; or the read-out adds noise."""
    way = str(rng.choice(["rows", "quadrant", "noise"]))
    order, rate = rng.permutation(SIZE), int(rng.integers(6, 16))
    level = rng.uniform(1.5, 3)
    corner = rng.integers(0, 2, 2) * SIZE // 2

    def effect(index: int, image: Map) -> Map:
        if index < onset:
            return image
        image = image.copy()
        if way == "rows":
            image[order[: rate * (index - onset + 1)]] = 0
        elif way == "quadrant":
            image[corner[0] : corner[0] + SIZE // 2, corner[1] : corner[1] + SIZE // 2] *= 0.0
        else:
            noise = np.random.default_rng((case.series.plan.seed, index)).normal(
                0, level * np.sqrt(image.mean()), image.shape
            )
            image += noise.astype(np.float32)
        return image

    case.effects.append(effect)


def _torn(case: Case, onset: int, rng: np.random.Generator) -> None:
    """The film tears: a growing part of the field is a hole, and what is left moves."""
    towards, speed = direction(rng), rng.uniform(0.1, 0.2) * SIZE
    plan = case.series.plan
    empty = plan.electrons_per_pixel

    def effect(index: int, image: Map) -> Map:
        if index < onset:
            return image
        hole = 1 - _edge(towards, SIZE / 2 - speed * (index - onset + 1), 0.0)
        return np.asarray(image * (1 - hole) + empty * hole, np.float32)

    away = np.maximum(0, np.arange(len(plan.angles_deg)) - onset + 1.0)
    _moved(case, (0.03 * SIZE * away)[:, None] * -towards)
    case.effects.insert(0, effect)


def _fading(case: Case, onset: int, rng: np.random.Generator) -> None:
    left = rng.uniform(0.85, 0.93)

    def effect(index: int, image: Map) -> Map:
        return np.asarray(image * left ** max(0, index - onset + 1), np.float32)

    case.effects.append(effect)


def _shaken(case: Case, onset: int, rng: np.random.Generator) -> None:
    """The stage moves one way during the exposure."""
    lengths = rng.uniform(10, 25, len(case.series.plan.angles_deg))
    towards = direction(rng)

    def effect(index: int, image: Map) -> Map:
        if index < onset:
            return image
        ky, kx = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None, :]
        smear = np.sinc(lengths[index] * (towards[0] * kx + towards[1] * ky))
        return np.asarray(np.fft.irfft2(np.fft.rfft2(image) * smear, image.shape), np.float32)

    case.effects.insert(0, effect)


def _flickering(case: Case, onset: int, rng: np.random.Generator) -> None:
    """The emission is unsteady: another part of the electrons arrives at each tilt."""
    levels = rng.uniform(0.15, 0.9, len(case.series.plan.angles_deg)).astype(np.float32)
    case.effects.append(lambda index, image: image * levels[index] if index >= onset else image)


def _double(case: Case, onset: int, rng: np.random.Generator) -> None:
    """The stage jumps in the middle of each exposure: everything is seen twice."""
    count = len(case.series.plan.angles_deg)
    jumps = [rng.uniform(0.04, 0.15) * SIZE * direction(rng) for _ in range(count)]

    def effect(index: int, image: Map) -> Map:
        if index < onset:
            return image
        x, y = jumps[index]
        return np.asarray((image + ndimage.shift(image, (y, x), order=1, mode="reflect")) / 2, np.float32)

    case.effects.insert(0, effect)


def _bubbling(case: Case, onset: int, rng: np.random.Generator) -> None:
    """The beam boils the specimen: more and more bubbles, and each of them grows."""
    count = len(case.series.plan.angles_deg)
    each, empty = int(rng.integers(4, 10)), case.series.plan.electrons_per_pixel
    born = np.repeat(np.arange(onset, count), each)
    at = rng.uniform(-0.5, 0.5, (len(born), 2)) * SIZE
    growth = rng.uniform(0.008, 0.02, len(born)) * SIZE
    grid = np.arange(SIZE) - (SIZE - 1) / 2

    def effect(index: int, image: Map) -> Map:
        full = np.ones((SIZE, SIZE), np.float32)
        for (x, y), step, first in zip(at, growth, born, strict=True):
            radius = step * (index - first + 1)
            if radius > 0:
                away = np.hypot(grid[None, :] - x, grid[:, None] - y)
                full *= 1 - 0.6 / (1 + np.exp(np.clip(away - radius, -50, 50))).astype(np.float32)
        return np.asarray(image * full + empty * (1 - full), np.float32)

    case.effects.insert(0, effect)


FAULTS: dict[str, Callable[[Case, int, np.random.Generator], None]] = {
    "runaway stage": _runaway,
    "slow drift out": _slow_drift,
    "grid bar": _grid_bar,
    "beam lost": _beam_lost,
    "beam drifting": _beam_drifting,
    "ice thick": _ice_thick,
    "charging blur": _blur,
    "defocus run-away": _defocus,
    "wrong area": _wrong_area,
    "contamination": _contamination,
    "camera dying": _camera,
    "film torn": _torn,
    "emission fading": _fading,
    "shaken": _shaken,
    "beam flickering": _flickering,
    "double image": _double,
    "bubbling": _bubbling,
}
