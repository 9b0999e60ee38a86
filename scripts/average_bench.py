"""How well particles are averaged: simulated ones of known pose, and whole simulated tilt series.

Boxes: lopsided particles at 10 Å a voxel, turned at random, with white noise and what views beyond +-60 degrees would
show missing. Their average is compared with that of the known poses. Series (`--series`): particles and gold in a slab,
as tilt series with electrons counted, are finished, their particles found or taken from where they are, and averaged.
Places (`--places`): tomograms of such series are searched with a ball and with the particle; what is found is counted.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import _particle_series
import mrcfile
from _particles import Array, Cloud, Simulated, cloud, drawn, simulated, symmetric
from _restoration_truth import volume_of
from scipy.spatial import cKDTree

from streamtomo import jit
from streamtomo.average.combine import add_up
from streamtomo.average.extract import Pile, box_masks, normalised
from streamtomo.average.fsc import Curve, agreement, shell_correlation
from streamtomo.average.match import Template, match, sphere
from streamtomo.average.refine import Averaged, Plan, halves_of, refine
from streamtomo.average.search import Poses
from streamtomo.average.spectra import Volume, components, levelled, resampled, wedge
from streamtomo.average.start import first_reference
from streamtomo.average.turns import angles_between_deg, even_turns, symmetry
from streamtomo.export import star

VOXEL_A = 10.0
BOX = 48
DIAMETER_A = 270.0
TILTS = np.arange(-60.0, 61.0, 3.0)


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--particles", type=int, default=300, help="(300)")
    parser.add_argument("--snr", type=float, nargs="+", default=[0.05], help="variance of signal over noise (0.05)")
    parser.add_argument("--seeds", type=int, default=1, help="so many particles of other shape (1)")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--series", type=int, default=0, help="whole tilt series besides, of 60 particles each (0)")
    parser.add_argument("--order", type=int, default=1, help="of the symmetry about z of the series' particles (1)")
    parser.add_argument(
        "--kinds", type=int, choices=(1, 2), default=1, help="of particles in the series; one lacks a part"
    )
    parser.add_argument(
        "--places", action="store_true", help="only how many particles are found, and how many are none"
    )
    args = parser.parse_args()
    jit.use_threads(None)
    if args.places:
        with tempfile.TemporaryDirectory() as folder:
            _places(Path(folder))
        return
    for seed in range(1, args.seeds + 1):
        for snr in args.snr:
            _boxes(seed, snr, args.particles, args.rounds)
    if args.series:
        with tempfile.TemporaryDirectory() as folder:
            _series(Path(folder), args.series, args.order, args.kinds)


# -- boxes -----------------------------------------------------------------------------------------------------------


def _boxes(seed: int, snr: float, count: int, rounds: int) -> None:
    particle = cloud(np.random.default_rng(seed), sigma_A=8.0)
    sim = simulated(particle, count, BOX, VOXEL_A, snr, seed + 100)
    whole, background = box_masks(BOX, DIAMETER_A / VOXEL_A / 2)
    boxes = np.stack([normalised(box, whole, background) for box in sim.boxes])
    pile = Pile(boxes, np.zeros(count, np.int64), [wedge(TILTS)])
    plan, half = Plan(DIAMETER_A / VOXEL_A, symmetry("C1"), rounds, 4.0), halves_of(count, 0)
    known = _known(pile, plan, sim, half)
    print(
        f"\nparticle {seed}, {count} of them, variance of signal over noise {snr:g}: Å at which halves agree by 0.143"
    )
    _row("started with", "resolution", "turn, °", "shift, voxels", "truth / mirror", "s")
    _row("known poses", _resolution(known))
    coarse = resampled(-drawn(particle, 16, VOXEL_A * BOX / 16, np.eye(3), np.zeros(3)), BOX)
    for name in ("a coarse reference", "no reference"):
        begun = time.perf_counter()
        reference = coarse if name != "no reference" else first_reference(pile, plan, lambda text: None)
        found = refine(pile, plan, reference, half, lambda text: None)
        seconds = time.perf_counter() - begun
        _row(name, _resolution(found.curve), *_errors(sim, found), _hand(particle, sim, found), f"{seconds:.0f}")


def _row(*cells: str) -> None:
    print("  " + "  ".join(f"{cell:20s}" for cell in cells).rstrip(), flush=True)


def _known(pile: Pile, plan: Plan, sim: Simulated, half: Array) -> Curve:
    of = components(BOX, BOX / 2 - 1)
    truth = Poses(np.arange(len(half)), sim.turns, sim.shifts, np.ones(len(half)))
    halves = [add_up(pile, of, truth.at(half == number), plan.group).volume() for number in (0, 1)]
    return agreement(halves[0], halves[1], plan.mask(BOX))


def _resolution(curve: Curve) -> str:
    return f"{curve.resolution(BOX * VOXEL_A):.1f}"


def _frame(truth: Array, found: Array) -> Array:
    """The turn of the average as a whole: the one that most particles agree on."""
    each = np.einsum("pij,pik->pjk", truth, found)
    errors = [np.median(angles_between_deg(each, np.broadcast_to(one, each.shape))) for one in each]
    best = each[int(np.argmin(errors))]
    near = each[angles_between_deg(each, np.broadcast_to(best, each.shape)) < 20]
    u, _, v = np.linalg.svd(near.mean(axis=0))
    return np.asarray(u @ v)


def _errors(sim: Simulated, found: Averaged) -> tuple[str, str]:
    """Medians of the errors, the average's own turn and place taken off; how many are far off."""
    frame = _frame(sim.turns, found.poses.turns)
    turn = angles_between_deg(sim.turns @ frame, found.poses.turns)
    off = np.einsum("pji,pj->pi", found.poses.turns, found.poses.shifts - sim.shifts)
    shift = np.linalg.norm(off - np.median(off, axis=0), axis=1)
    return f"{np.median(turn):.1f} ({100 * (turn > 20).mean():.0f} % over 20)", f"{np.median(shift):.2f}"


def _hand(particle: Cloud, sim: Simulated, found: Averaged) -> str:
    """Correlation of the average with the particle, and with its mirror image, at the best turn, 50 to 30 Å."""
    frame = _frame(sim.turns, found.poses.turns)
    off = np.einsum("pji,pj->pi", found.poses.turns, found.poses.shifts - sim.shifts)
    mask = Plan(DIAMETER_A / VOXEL_A, symmetry("C1"), 1, 1.0).mask(BOX)
    box = levelled(found.both, mask)
    told = []
    for mirror in (np.eye(3), np.diag([1.0, 1.0, -1.0])):
        one = particle._replace(xyz_A=particle.xyz_A @ mirror)
        truth = -drawn(one, BOX, VOXEL_A, frame.T, -np.median(off, axis=0))
        told.append(shell_correlation(box, levelled(truth, mask))[10:16].mean())
    return f"{told[0]:.2f} / {told[1]:.2f}"


# -- places ----------------------------------------------------------------------------------------------------------


def _places(folder: Path) -> None:
    """Tomograms of 512 x 512 x 120 at 10 Å a voxel with 14 beads, binned by 3 as the program does."""
    _row("particles, absorption", "template", "found", "of them false", "s")
    for seed, (count, contrast) in enumerate([(60, 0.015), (16, 0.015), (60, 0.006), (60, 0.01), (12, 0.01)]):
        tomogram, true = _tomogram(folder / "TS.mrc", count, contrast, (0, 1, 2, 4, 5)[seed])
        side, radius, turns = 16, DIAMETER_A / VOXEL_A / 6, even_turns(30.0)
        box = -drawn(cloud(np.random.default_rng(5), sigma_A=8.0), side, 3 * VOXEL_A, np.eye(3), np.zeros(3))
        for name, template in {"ball": sphere(side, radius, turns), "particle": Template(box, radius, turns)}.items():
            begun = time.perf_counter()
            found = match(tomogram, template, wedge(TILTS), None, lambda part: None)
            distance, which = cKDTree(true).query(found.xyz) if len(found.xyz) else (np.empty(0), np.empty(0, int))
            hits = len(np.unique(which[distance < 0.8 * radius]))
            told = f"{hits} of {count}", str(len(found.xyz) - hits), f"{time.perf_counter() - begun:.0f}"
            _row(f"{count}, {contrast}", name, *told)


def _tomogram(path: Path, count: int, contrast: float, seed: int) -> tuple[Volume, Array]:
    """A binned tomogram of a simulated series placed as it truly was, and where its particles are, indices."""
    particle = cloud(np.random.default_rng(5), sigma_A=8.0)
    truth = _particle_series.written(
        path, particle, count=count, size=512, pixel_A=VOXEL_A, dose=3.0, contrast=contrast, seed=seed, drift_px=0.0
    )
    stack = mrcfile.read(path).astype(np.float32)
    views = np.log(np.maximum(stack / stack.mean(axis=(1, 2), keepdims=True), 0.02))
    volume = volume_of(views, list(TILTS), 120)[:, :510, :510]
    binned = volume.reshape(40, 3, 170, 3, 170, 3).mean(axis=(1, 3, 5))
    return binned, (truth.xyz_px + np.array([255.5, 255.5, 59.5]) - 1) / 3


# -- series ----------------------------------------------------------------------------------------------------------


def _series(folder: Path, count: int, order: int, kinds: int) -> None:
    particle = symmetric(cloud(np.random.default_rng(5), points=90 // order, sigma_A=8.0), order)
    lacking = particle._replace(masses=np.where(particle.xyz_A[:, 2] > 25, 0.0, particle.masses))
    names, truths = [f"TS_{number}" for number in range(1, count + 1)], {}
    for number, name in enumerate(names):
        truths[name] = _particle_series.written(
            folder / f"{name}.mrc",
            particle,
            count=60,
            size=768,
            pixel_A=VOXEL_A,
            dose=3.0,
            contrast=0.015,
            seed=number,
            other=lacking if kinds == 2 else None,
        )
        own = ["--set", "acquisition.tilt_axis_deg=0", "--set", f"acquisition.pixel_size_A={VOXEL_A:g}"]
        _program("finish", "--stack", str(folder / f"{name}.mrc"), "--out", str(folder / "out"), *own)
    common = ["average", str(folder / "out"), "--diameter-nm", "25", "--symmetry", f"C{order}"]
    print(_program(*common, "--match", "sphere", "--most", "60", "--out", str(folder / "first")))
    template = str(folder / "first" / "average.mrc")
    more = ["--set", "average.source=views", "--set", f"average.classes={kinds}"]
    print(_program(*common, "--match", template, "--out", str(folder / "second"), *more))
    _told(folder / "second", truths)


def _told(folder: Path, truths: dict[str, _particle_series.Truth]) -> None:
    """How many of the particles are averaged, and how many are in the class of most of their kind."""
    table = star.read(folder / "particles.star")["particles"]
    xyz = np.array([star.numbers(table[f"rlnCenteredCoordinate{axis}Angst"]) for axis in "XYZ"]).T / VOXEL_A
    number, kinds, hits = np.array(star.numbers(table["rlnClassNumber"]), int), [], []
    for name, truth in truths.items():
        rows = np.flatnonzero(np.array(table["rlnTomoName"]) == name)
        near = cKDTree(truth.xyz_px).query(xyz[rows])[1]
        offset = np.median(xyz[rows] - truth.xyz_px[near], axis=0)  # where the series lies
        distance, near = cKDTree(truth.xyz_px + offset).query(xyz[rows])
        hits.append(rows[distance < DIAMETER_A / VOXEL_A / 4])
        kinds.append(near[distance < DIAMETER_A / VOXEL_A / 4] % 2)
    rows, kind = np.concatenate(hits), np.concatenate(kinds)
    print(f"{len(rows)} of {len(xyz)} are particles, of {60 * len(truths)} there are")
    if number.max() > 1:
        right = np.mean((number[rows] == 2) == kind)
        print(f"{100 * max(right, 1 - right):.0f} % of them are in the class of their kind")


def _program(*words: str) -> str:
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "streamtomo", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"streamtomo {' '.join(words)}:\n{done.stdout}{done.stderr}")
    return f"\nstreamtomo {words[0]}, {time.perf_counter() - begun:.0f} s\n{done.stdout}"


if __name__ == "__main__":
    main()
