"""The command `average`: from finished series to a structure. It knows the order.

particles given or found -> cut out -> a first reference -> rounds of alignment in two halves -> classes -> files
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import averaging_results, jit
from streamtomo.average import match as matching
from streamtomo.average.classify import Classes, classify
from streamtomo.average.combine import add_up
from streamtomo.average.extract import Pile, inside
from streamtomo.average.fsc import crossing
from streamtomo.average.refine import Averaged, Plan, halves_of, refine
from streamtomo.average.search import Poses
from streamtomo.average.spectra import Array, Volume, components
from streamtomo.average.start import first_reference
from streamtomo.average.turns import distinct, even_turns, symmetry
from streamtomo.averaging_input import Cut, Series, fitted, from_tomogram, from_views, read_all, read_particles
from streamtomo.config import Average, Settings
from streamtomo.errors import InputError, OutputError, SettingsError
from streamtomo.export.particles import Picked

BOX = 1.7
"""Diameters along a side of a box."""
REACH = 1 / 6
"""Of the diameter, for particles that were picked."""
LEAST_PARTICLES = 8
"""Fewer have no two halves worth the name."""
MATCH_DIAMETER_PX = 8
"""Particles are looked for in a tomogram binned until they are hardly larger than this."""
MATCH_STEP_DEG = 30.0

Say = Callable[[str], None]


class Order(NamedTuple):
    """What is asked for."""

    series: tuple[Path, ...]
    """Folders of finished series, or of a session: all its finished series."""
    out: Path
    particles: tuple[Path, ...] = ()
    template: str | None = None
    """A volume, or "sphere", where particles are to be found."""
    most: int | None = None
    reference: Path | None = None


class Particles(NamedTuple):
    """All particles of a job."""

    series: NDArray[np.int64]
    """Number of its series, for each."""
    xyz: Array
    """Index in its tomogram, `(p, 3)`."""
    turns: Array | None
    left_out: int
    """Particles too near to a face of the tomogram."""


def average(order: Order, settings: Settings, known: dict[str, Picked] | None = None) -> int:
    """Do it, say it, write it; returns the exit status. Raises StreamtomoError.

    `known` has the particles that were found before, by series, and is added to.
    """
    start, wanted = time.monotonic(), settings.average
    if wanted.diameter_nm is None:
        raise SettingsError("average.diameter_nm is not set: the diameter of the particle; give --diameter-nm")
    jit.use_threads(settings.run.threads)
    series = read_all(order.series)
    plan, n = _plan(wanted, wanted.diameter_nm * 10 / series[0].voxel_A)
    _make_folder(order.out)
    picked = _picked(order, series, plan, n, wanted, {} if known is None else known)
    particles = _all(picked, series, n)
    _say(f"{len(particles.xyz)} particles of {len(series)} series in boxes of {n} voxels of {series[0].voxel_A:.2f} Å")
    with tempfile.TemporaryFile(dir=order.out) as room:
        cuts = [
            (from_views if wanted.source == "views" else from_tomogram)(one, n, plan.diameter / 2) for one in series
        ]
        pile, left = _pile(
            particles, cuts, series, n, np.memmap(room, np.float32, "w+", shape=(len(particles.xyz), n, n, n))
        )
        averaged = _averaged(order, pile, left, particles, cuts, plan, wanted, series)
        classes = _classes(averaged, plan, wanted)
        by_class = (
            [_of_class(averaged, plan, classes, number) for number in range(1, wanted.classes + 1)] if classes else []
        )
    # positions are those of the boxes that were cut first, moved on
    positions = np.rint(particles.xyz) + averaged.poses.shifts
    result = averaging_results.Result(
        series=series,
        owner=particles.series,
        xyz=positions,
        averaged=averaged,
        classes=classes,
        by_class=by_class,
        left_out=particles.left_out,
        plan=plan,
        settings=settings,
        seconds=time.monotonic() - start,
        limited=crossing(averaged.curve.corrected) < plan.radius(n) + 1,
    )
    for line in averaging_results.write(order.out, result):
        _say(line)
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _plan(wanted: Average, diameter_px: float) -> tuple[Plan, int]:
    """What is done, and the side of the boxes."""
    n = wanted.box_px or int(np.ceil(BOX * diameter_px))
    n = max(16, 2 * round(n / 2))
    if diameter_px > 0.95 * n:
        raise SettingsError(
            f"average.box_px = {n} is too small for particles of {diameter_px:.0f} voxels; "
            f"take {int(BOX * diameter_px)}"
        )
    if diameter_px < 5:
        raise SettingsError(
            f"average.diameter_nm = {wanted.diameter_nm:g} is {diameter_px:.1f} voxels: too small to tell its turn; "
            "finish the series with a smaller final.binning"
        )
    reach = (
        REACH * diameter_px if wanted.reach_nm is None else wanted.reach_nm / (wanted.diameter_nm or 1) * diameter_px
    )
    return Plan(diameter_px, symmetry(wanted.symmetry), wanted.rounds, max(reach, 1.0), wanted.seed), n


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror})") from None


# -- particles -------------------------------------------------------------------------------------------------------


def _picked(
    order: Order, series: Sequence[Series], plan: Plan, n: int, wanted: Average, found: dict[str, Picked]
) -> Mapping[str, Picked]:
    if order.template is None:
        return read_particles(order.particles, series)
    for one in series:
        if one.name in found:
            continue
        begun = time.monotonic()
        places = _matched(order, one, plan, n, wanted)
        found[one.name] = places
        _say(f"{one.name}: {len(places.xyz)} particles found in {time.monotonic() - begun:.0f} s")
    return found


def _matched(order: Order, series: Series, plan: Plan, n: int, wanted: Average) -> Picked:
    """Particles of a tomogram, found in a coarser one."""
    binning = max(1, int(plan.diameter / MATCH_DIAMETER_PX))
    side = max(12, 2 * int(np.ceil(0.65 * plan.diameter / binning + 2)))
    turns = distinct(even_turns(MATCH_STEP_DEG), plan.group)
    radius = plan.diameter / 2 / binning
    if order.template == "sphere":
        template = matching.sphere(side, radius, turns)
    else:
        box = fitted(Path(str(order.template)), side, series.voxel_A * binning, bright=wanted.bright_reference)
        template = matching.Template(box, radius, turns)
    coarse = _binned(series, binning)
    found = matching.match(coarse, template, series.wedge(side), order.most, lambda part: None)
    xyz = found.xyz * binning + (binning - 1) / 2
    return Picked(xyz, None if order.template == "sphere" else found.turns)


def _binned(series: Series, binning: int) -> Volume:
    """A tomogram `(nz, ny, nx)` of cubes' means, made section by section."""
    nz, ny, nx = (size // binning for size in series.tomogram.shape)
    out = np.empty((nz, ny, nx), np.float32)
    for z in range(nz):
        part = np.asarray(series.tomogram[z * binning : (z + 1) * binning, : ny * binning, : nx * binning], np.float32)
        out[z] = part.mean(axis=0).reshape(ny, binning, nx, binning).mean(axis=(1, 3))
    return out


def _all(picked: Mapping[str, Picked], series: Sequence[Series], n: int) -> Particles:
    """The particles whose boxes lie in their tomograms."""
    owners, places, turns, left_out = [], [], [], 0
    for number, one in enumerate(series):
        if one.name not in picked:
            continue
        found = picked[one.name]
        kept = inside(one.tomogram.shape, found.xyz, n)
        left_out += int((~kept).sum())
        owners.append(np.full(int(kept.sum()), number))
        places.append(found.xyz[kept])
        turns.append(None if found.turns is None else found.turns[kept])
    count = sum(len(part) for part in places)
    if count < LEAST_PARTICLES:
        raise InputError(
            f"{count} particles, and {left_out} too near to the faces of their tomograms: at least "
            f"{LEAST_PARTICLES} are needed for an average"
        )
    known = [part for part in turns if part is not None]
    whole = np.concatenate(known) if len(known) == len(turns) else None
    return Particles(np.concatenate(owners).astype(np.int64), np.concatenate(places), whole, left_out)


def _pile(
    particles: Particles, cuts: Sequence[Cut], series: Sequence[Series], n: int, boxes: NDArray[np.float32]
) -> tuple[Pile, Array]:
    """The boxes of all particles, and where each one's middle is from its box's, `(p, 3)`."""
    for row, (owner, xyz) in enumerate(zip(particles.series, particles.xyz, strict=True)):
        boxes[row] = cuts[owner](xyz)
    return Pile(boxes, particles.series, [one.wedge(n) for one in series]), particles.xyz - np.rint(particles.xyz)


# -- the average -----------------------------------------------------------------------------------------------------


def _averaged(
    order: Order, pile: Pile, left: Array, particles: Particles, cuts: Sequence[Cut], plan: Plan, wanted: Average,
    series: Sequence[Series],
) -> Averaged:  # fmt: skip
    of, half = components(pile.n, pile.n / 2 - 1), halves_of(len(particles.xyz), wanted.seed)
    if order.reference is not None:
        reference = fitted(order.reference, pile.n, series[0].voxel_A, bright=wanted.bright_reference)
    elif particles.turns is not None:
        count = len(particles.xyz)
        known = Poses(np.arange(count), particles.turns, left, np.ones(count))
        reference = add_up(pile, of, known, plan.group).volume()
    else:
        reference = first_reference(pile, plan, _say)

    def recut(moved: Array) -> tuple[Pile, Array]:
        at = particles._replace(xyz=np.rint(particles.xyz) + moved)
        return _pile(at, cuts, series, pile.n, pile.boxes)

    return refine(pile, plan, reference, half, _say, recut)


def _classes(averaged: Averaged, plan: Plan, wanted: Average) -> Classes | None:
    if wanted.classes < 2:
        return None
    pile = averaged.pile
    poses = averaged.poses._replace(shifts=averaged.left_over)
    radius = crossing(averaged.curve.corrected, 0.5)
    return classify(pile, poses, plan.mask(pile.n), radius, wanted.classes, wanted.seed)


def _of_class(averaged: Averaged, plan: Plan, classes: Classes, number: int) -> Volume:
    """The average of the particles of a class, damped as that of all is."""
    poses = averaged.poses._replace(shifts=averaged.left_over).at(classes.number == number)
    pile = averaged.pile
    total = add_up(pile, components(pile.n, pile.n / 2 - 1), poses, plan.group)
    return total.volume(np.sqrt(np.clip(averaged.curve.corrected, 0, 1)))
