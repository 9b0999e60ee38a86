"""How well the correction finds and repairs defects of known place and strength, and what else it touches.

A hit is planted with a number of standard deviations above the electrons expected there, told by the tail's probability
(the deviance of Poisson's distribution), on top of what the pixel had by chance: the weakest of 8 in equal shares with
stronger ones. False repairs are groups of repaired pixels farther than 4 pixels from anything planted.
`away` is the share found farther than that from gold and crystals.
`error` is the root mean square distance of the expected value at repaired pixels from the noise-free truth, `median`
that of a 5 x 5 median, both in standard deviations of the noise; `spectrum` the power of the repaired noise in four
bands (single pixels to eight) relative to that around it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from streamtomo.correct import fill, noise
from streamtomo.correct.prepare import repair
from streamtomo.correct.ring import places_of
from streamtomo.jit import use_threads
from streamtomo.simulate import specimen as specimens
from streamtomo.simulate.camera import as_type
from streamtomo.simulate.series import Plan, Series
from streamtomo.simulate.specimen import Recipe

SIGMA = 8.0
NEAR = 4
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """Electrons expected at each pixel, and how the camera tells them."""

    name: str
    electrons: NDArray[np.float32]
    gain: float = 1.0
    read: float = 0.0
    """Read noise, counts."""
    pedestal: float = 0.0
    smear: float = 0.0
    """Sigma in pixels by which the camera (or an interpolation) smears what it has counted."""
    dtype: str = "int16"
    keep: NDArray[np.bool_] | None = None
    """What must not be touched."""


def excess(mean: Array, sigma: float) -> Array:
    """Electrons above a mean whose Poisson tail is as rare as `sigma` standard deviations."""

    def one(n: float) -> float:
        return float(optimize.brentq(lambda e: 2 * ((n + e) * np.log1p(e / n) - e) - sigma**2, 1e-9, 1e7))

    levels, index = np.unique(np.round(np.maximum(mean, 1e-3), 3), return_inverse=True)
    if len(levels) > 400:
        grid = np.geomspace(levels[0], levels[-1], 400)
        return np.asarray(np.interp(mean, grid, [one(n) for n in grid]))
    return np.array([one(n) for n in levels])[index].reshape(mean.shape)


def read_out(scene: Scene, rng: np.random.Generator) -> NDArray[np.float64]:
    """Counts without any defect."""
    counts = rng.poisson(scene.electrons).astype(np.float64)
    if scene.smear:
        counts = ndimage.gaussian_filter(counts, scene.smear, mode="mirror")
    return counts * scene.gain + scene.pedestal + rng.normal(0, max(scene.read, 1e-12), counts.shape)


def plant(scene: Scene, counts: Array, hits: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Add single pixels and blooms of 8 to 40 standard deviations; the pixels of their peaks."""
    ny, nx = counts.shape
    peaks = np.zeros(counts.shape, bool)
    for number, place in enumerate(rng.choice(counts.size, hits, replace=False)):
        y, x = divmod(int(place), nx)
        level = np.array(scene.electrons[y, x], np.float64) + (scene.read / scene.gain) ** 2
        strength = float(excess(level[None], 8.0 if number % 2 else float(rng.uniform(8, 40)))[0]) * scene.gain
        peaks[y, x] = True
        sigma = 0.0 if number % 3 else float(rng.uniform(0.4, 0.9))
        for dy in range(-3, 4):
            for dx in range(-3, 4):
                if 0 <= y + dy < ny and 0 <= x + dx < nx:
                    share = np.exp(-(dy * dy + dx * dx) / (2 * sigma**2)) if sigma else float(dy == dx == 0)
                    counts[y + dy, x + dx] += strength * share
    return peaks


def score(scene: Scene, hits: int, seed: int) -> dict[str, float]:
    """All figures of one scene."""
    rng = np.random.default_rng(seed)
    clean = read_out(scene, rng)
    counts = clean.copy()
    peaks = plant(scene, counts, hits, rng)
    image = np.ascontiguousarray(as_type(counts.astype(np.float32), np.dtype(scene.dtype)))
    untouched = np.ascontiguousarray(as_type(clean.astype(np.float32), np.dtype(scene.dtype)))
    found = repair(image, SIGMA)
    mask = np.zeros(image.shape, bool)
    mask.flat[found.places] = True
    near = ndimage.binary_dilation(peaks, np.ones((3, 3)), NEAR)
    false = ndimage.label(mask & ~near, np.ones((3, 3)))[1]
    false_clean = ndimage.label(mask_of(untouched), np.ones((3, 3)))[1]
    result = {
        "found": float(mask[peaks].mean()) if hits else float("nan"),
        "false": 1e6 * (false + false_clean) / (image.size + (~near).sum()),
        "pixels": mask.sum() / max(1, hits),
    }
    if scene.keep is not None:
        away = peaks & ~ndimage.binary_dilation(scene.keep, iterations=NEAR)
        result["away"] = 100 * float(mask[away].mean())
        result["kept"] = 1e6 * float((mask_of(untouched) & scene.keep).sum() / max(1, scene.keep.sum()))
    return {**result, **errors(scene, image, mask & near)}


def mask_of(image: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Pixels that the correction replaces."""
    mask = np.zeros(image.shape, bool)
    mask.flat[repair(image, SIGMA).places] = True
    return mask


def errors(scene: Scene, image: NDArray[np.generic], mask: NDArray[np.bool_]) -> dict[str, float]:
    """Distance of the expected values from the truth, ours and a median's, in the noise's standard deviations."""
    places = np.flatnonzero(mask)
    if not len(places):
        return {"error": float("nan"), "median": float("nan")}
    statistics = noise.measure(image)
    model = noise.fit_model(statistics.mean, statistics.variance, image.dtype.kind in "iu")
    expected, _ = fill.expectation(image, mask.astype(np.uint8), places, model)
    truth = ndimage.gaussian_filter(scene.electrons.astype(np.float64), scene.smear or 1e-6, mode="mirror")
    truth = truth * scene.gain + scene.pedestal
    sd = np.sqrt(scene.electrons.flat[places] * scene.gain**2 + scene.read**2)
    median = ndimage.median_filter(image.astype(np.float32), 5, mode="mirror").flat[places]
    rms = [float(np.sqrt((((one - truth.flat[places]) / sd) ** 2).mean())) for one in (expected, median)]
    return {"error": rms[0], "median": rms[1]}


def spectrum(scene: Scene, seed: int, every: int = 4) -> Array:
    """Power of repaired noise over true noise in four bands: one pixel in `every` squared is replaced, the rest stays.

    The replaced image differs from the other by those pixels only; equal power in all bands says that they have the
    variance and the correlation of their surroundings.
    """
    rng = np.random.default_rng(seed)
    image = np.ascontiguousarray(as_type(read_out(scene, rng).astype(np.float32), np.dtype(scene.dtype)))
    mask = np.zeros(image.shape, np.uint8)
    mask[every // 2 :: every, every // 2 :: every] = 1
    places = places_of(mask)
    statistics = noise.measure(image)
    model = noise.fit_model(statistics.mean, statistics.variance, image.dtype.kind in "iu")
    repaired = image.copy()
    fill.fill(repaired, mask, places, statistics, model)
    rows, columns = np.divmod(places, image.shape[1])
    inner = (rows > 4) & (rows < image.shape[0] - 5) & (columns > 4) & (columns < image.shape[1] - 5)
    before, after = (_products(one.astype(np.float64), rows[inner], columns[inner]) for one in (image, repaired))
    return np.asarray(after / before[0] - before / before[0])


def _products(image: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
    """Mean products of the pixels with themselves and their neighbours at (0, 1), (1, 1), (0, 2)."""
    flat = image - image.mean()
    here = flat[rows, columns]
    steps = ((0, 0), (0, 1), (1, 1), (0, 2))
    return np.array([(here * flat[rows + dy, columns + dx]).mean() for dy, dx in steps])


def flat(electrons: float, size: int = 1024) -> NDArray[np.float32]:
    """A field without structure."""
    return np.full((size, size), electrons, np.float32)


def simulated(
    dose: float, pixel_A: float = 10.8, bead_nm: float = 10.0, size: int = 768
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Electrons behind a specimen with many beads, and where the gold is (with its edge)."""
    recipe = Recipe(beads=40, bead_nm=bead_nm)
    plan = Plan((0.0, 40.0), (size, size), pixel_size_A=pixel_A, dose_e_A2=dose, recipe=recipe, seed=3)
    series = Series(plan)
    margin = plan.optics.margin(pixel_A)
    matter = specimens.project(series.specimen, series.views[0], plan.shape_yx, pixel_A / 10, margin)
    gold = matter.gold_nm[margin : margin + size, margin : margin + size] > 0
    return series.electrons(0), ndimage.binary_dilation(gold, iterations=2)


def crystals(electrons: float, contrast: float, size: int = 768) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Ice crystals: blobs of 3 to 20 pixels, round and hexagonal, sharp as the optics allow (0.8 pixels)."""
    rng = np.random.default_rng(8)
    field = np.zeros((size, size), np.float32)
    yy, xx = np.mgrid[:size, :size]
    for y, x in rng.uniform(20, size - 20, (120, 2)):
        radius, turn = rng.uniform(1.8, 10), rng.uniform(0, np.pi)
        part = np.s_[int(y) - 14 : int(y) + 15, int(x) - 14 : int(x) + 15]
        dy, dx = yy[part] - y, xx[part] - x
        if rng.random() < 0.5:
            inside = np.hypot(dy, dx) < radius
        else:
            turned = [abs(dx * np.cos(turn + k * np.pi / 3) + dy * np.sin(turn + k * np.pi / 3)) for k in range(3)]
            inside = np.max(turned, axis=0) < radius
        field[part] = np.maximum(field[part], inside)
    field = ndimage.gaussian_filter(field, 0.8)
    return (electrons * (1 + contrast * field)).astype(np.float32), field > 0.1


def scenes() -> Iterator[Scene]:
    """What is judged."""
    for electrons in (0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 50.0):
        yield Scene(f"counting, {electrons:g} e", flat(electrons), dtype="uint8")
    yield Scene("integrating, 350 e, gain 4", flat(350.0), gain=4.0)
    yield Scene("read noise 8, pedestal 200, 20 e", flat(20.0), gain=5.0, read=8.0, pedestal=200.0)
    yield Scene("float, 30 e", flat(30.0), gain=0.37, dtype="float32")
    yield Scene("smeared 0.5 px, 40 e", flat(40.0), gain=8.0, smear=0.5)
    yield Scene("smeared 0.8 px, 40 e", flat(40.0), gain=8.0, smear=0.8)
    for dose, pixel, bead in ((3.0, 10.8, 10.0), (1.0, 5.4, 10.0), (3.0, 13.5, 5.0), (2.0, 2.2, 10.0)):
        electrons, gold = simulated(dose, pixel, bead)
        yield Scene(f"specimen {dose:g} e/A2, {pixel:g} A, gold {bead:g} nm", electrons, gain=4.0, keep=gold)
    for contrast in (-0.6, 0.8):
        electrons, blobs = crystals(60.0, contrast)
        yield Scene(f"crystals, contrast {contrast:+g}, 60 e", electrons, gain=4.0, keep=blobs)
    electrons, blobs = crystals(60.0, 15.0)
    yield Scene("bright on dark, contrast +15", electrons, gain=4.0, keep=blobs)


def lines_found(electrons: float, strength: float, seed: int) -> tuple[float, float]:
    """Share found of eight columns and rows that read `strength` standard deviations more, and pixels marked wrongly.

    Negative strengths below what the light allows are dead lines.
    """
    rng = np.random.default_rng(seed)
    field, lines = flat(electrons), np.arange(100, 900, 100)
    level = max(0.0, electrons + strength * np.sqrt(electrons))
    field[:, lines], field[lines] = level, level
    image = rng.poisson(field).astype(np.int16)
    mask = mask_of(image)
    right = np.zeros(image.shape, bool)
    right[:, lines] = right[lines] = True
    found = [*(mask[:, lines].mean(axis=0) > 0.5), *(mask[lines].mean(axis=1) > 0.5)]
    return 100 * float(np.mean(found)), 1e6 * float((mask & ~right).mean())


def timings() -> Iterator[tuple[str, float]]:
    """Milliseconds of a repair, the least of many."""
    use_threads(2)
    for shape in ((1024, 1024), (4092, 5760)):
        rng = np.random.default_rng(3)
        image = rng.poisson(20.0, shape).astype(np.int16)
        image.flat[rng.choice(image.size, 300, replace=False)] += 400
        image[:, 77] = 0
        spent = []
        for _ in range(2 + 20_000_000 // image.size * 2 + 10):
            start = time.perf_counter()
            repair(image, SIGMA)
            spent.append(time.perf_counter() - start)
        yield f"{shape[1]} x {shape[0]} int16, two threads", 1000 * min(spent)


def print_hits(chosen: list[Scene], hits: int) -> None:
    """The table of scenes."""
    names = ("false", "pixels", "error", "median", "away", "kept")
    heads = ("found %", "false", "px/hit", "error", "median", "away %", "kept")
    print(f"{'scene':46s}" + "".join(f"{head:>9s}" for head in heads) + "  (false, kept: per million)")
    for scene in chosen:
        result = score(scene, hits, seed=1)
        cells = [f"{100 * result['found']:9.1f}"]
        cells += [f"{result[name]:9.2f}" if name in result else 9 * " " for name in names]
        print(f"{scene.name:46s}" + "".join(cells), flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hits", type=int, default=300, help="planted in each image (300)")
    parser.add_argument("--only", default="", help="scenes whose name holds this")
    options = parser.parse_args()
    chosen = [scene for scene in scenes() if options.only in scene.name]
    print_hits(chosen, options.hits)
    print("\nnoise put in, less than around it: variance, covariance at (0, 1), (1, 1), (0, 2), in variances")
    for scene in chosen:
        if scene.keep is None:
            print(f"{scene.name:46s}" + "".join(f"{one:+9.3f}" for one in spectrum(scene, 2)), flush=True)
    print(
        "\ncolumns and rows, 8 each: electrons, strength in standard deviations of a pixel, found %, false per million"
    )
    for electrons in (0.1, 1.0, 20.0):
        for strength in (-9.0, 0.3, 0.5, 1.0, 3.0):
            found, false = lines_found(electrons, strength, 5)
            print(f"{electrons:9g}{strength:9g}{found:9.0f}{false:9.2f}", flush=True)
    print("\nmilliseconds of a repair")
    for name, spent in timings():
        print(f"{name:46s}{spent:9.1f}")


if __name__ == "__main__":
    main()
