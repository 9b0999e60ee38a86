"""What restoration does for simulated series: Fourier shell correlations with the truth, before and after; pictures.

The matter of the specimen without gold, noise and lens is the truth; for the lens and for gold it is seen through the
same tilts, for two axes nothing is missing in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import _dual_fsc
import numpy as np
from _restoration_truth import Image, Truth, make, shells, volume_of
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from streamtomo.lens import Microscope
from streamtomo.publish.pictures import to_grey, write_png
from streamtomo.restore.beads3d import find_beads_3d
from streamtomo.restore.ctf import Focus
from streamtomo.restore.denoise import Diffusion, default_k, diffuse, preview
from streamtomo.restore.erase import erase_gold
from streamtomo.restore.focus import Search, estimate_focus
from streamtomo.restore.transfer import corrected
from streamtomo.simulate.optics import Optics
from streamtomo.simulate.series import Plan
from streamtomo.simulate.specimen import Recipe

MICROSCOPE = Microscope()


def tilts(step: float) -> tuple[float, ...]:
    return tuple(float(t) for t in np.arange(-60, 61, step))


def table(pixel_A: float, rows: dict[str, Sequence[float]]) -> None:
    """Correlations, a column for each shell."""
    count = len(next(iter(rows.values())))
    print(f"  {'Å':18s}" + "".join(f"{2 * pixel_A * count / (i + 0.5):7.1f}" for i in range(count)))
    for name, values in rows.items():
        print(f"  {name:18s}" + "".join(f"{value:7.3f}" for value in values))


def picture(folder: Path, name: str, parts: Sequence[Image]) -> None:
    """Images of one height side by side."""
    write_png(folder / f"{name}.png", np.hstack([to_grey(part) for part in parts]))


def _lens_series(size: int, step: float, pixel: float, atoms: float) -> tuple[Truth, Focus]:
    """A series of faint rings at 3 e/Å², and what is found of its focus, told."""
    recipe = Recipe(thickness_nm=100, beads=4, atoms_per_um3=atoms)
    optics = Optics(
        underfocus_um=3.5, gradient=-1, focus_error_um=0.1, astigmatism_um=0.15, astigmatism_deg=30, b_factor_A2=150
    )
    truth = make(Plan(tilts(step), (size, size), pixel, 0.0, recipe=recipe, optics=optics, hot=0, xrays=0, seed=11))
    start = time.perf_counter()
    focus = estimate_focus(truth.stack, truth.tilts_deg, pixel, MICROSCOPE, Search(astigmatism=True))
    spent = time.perf_counter() - start
    true = np.array([truth.series.optics(i).underfocus_um for i in truth.order])
    error = 1000 * (np.array([view.defocus_um for view in focus.views]) - true)
    within = np.mean(np.abs(error) < np.maximum(100, 20 * true))
    print(f"\nlens: {len(true)} views of {size} x {size}, {pixel} Å, 3 e/Å², {atoms:.0e} atoms per µm³, {spent:.1f} s")
    print(f"  defocus error, nm: mean {error.mean():+.0f}, rms {np.sqrt((error**2).mean()):.0f}, "
          f"most {np.abs(error).max():.0f}; {within:.0%} within 2 % or 100 nm")  # fmt: skip
    print(f"  hand {focus.hand} (true -1, odds e^{focus.hand_odds:.0f}); astigmatism {focus.astigmatism_um:.2f} µm at "
          f"{focus.astigmatism_deg:.0f}° (true 0.15 at 30)")  # fmt: skip
    return truth, focus


def focus(_: Path, size: int, step: float) -> None:
    """Focus found from fine and coarse pixels, where rings are faint and where they are hardly there."""
    for pixel in (5.4, 8.0):
        for atoms in (1e7, 3e6, 1e6):
            _lens_series(size, step, pixel, atoms)


def lens(folder: Path, size: int, step: float) -> None:
    """Focus found, phases flipped, amplitudes restored."""
    pixel = 5.4
    truth, found = _lens_series(size, step, pixel, 3e6)
    bead_free = _erased(truth, 50.0 / pixel)
    views = {"as taken": bead_free}
    for how in ("flip", "wiener"):
        views[how] = corrected(bead_free, truth.tilts_deg, pixel, found, MICROSCOPE, how)
    whole = volume_of(truth.matter, truth.tilts_deg, 200)
    volumes = {name: volume_of(stack, truth.tilts_deg, 200) for name, stack in views.items()}
    table(pixel, {name: shells(volume, whole) for name, volume in volumes.items()})
    picture(folder, "lens", [gaussian_filter(v[90:110].mean(axis=0), 1.0) for v in (*volumes.values(), whole)])


def _erased(truth: Truth, radius_px: float) -> Image:
    return erase_gold(truth.stack, truth.tilts_deg, truth.beads_px, radius_px).stack


def gold(folder: Path, size: int, step: float) -> None:
    """Beads found in the volume, erased from the views; then diffusion."""
    truth = make(Plan(tilts(step), (size, size), axis_deg=0.0, recipe=Recipe(beads=30), hot=0, xrays=0, seed=5))
    volume = volume_of(truth.stack, truth.tilts_deg, 200)
    start = time.perf_counter()
    beads = find_beads_3d(volume, 4.63)
    found = time.perf_counter()
    erased = erase_gold(truth.stack, truth.tilts_deg, beads.xyz, 4.63)
    spent = time.perf_counter() - found
    true = truth.beads_px[(np.abs(truth.beads_px[:, :2]) < size / 2 - 1).all(axis=1)]
    hits = int((cKDTree(beads.xyz).query(true)[0] < 3).sum())
    strays = int((cKDTree(truth.beads_px).query(beads.xyz)[0] > 3).sum())
    print(f"\ngold: {hits} of {len(true)} beads found, {strays} false, {found - start:.2f} s; erased in {spent:.1f} s, "
          f"radius {erased.radius_px:.1f} of 4.6 px")  # fmt: skip
    after = volume_of(erased.stack, truth.tilts_deg, 200)
    whole = volume_of(truth.matter, truth.tilts_deg, 200)
    table(10.8, {"with gold": shells(volume, whole), "erased": shells(after, whole)})
    picture(folder, "gold-views", [truth.stack[len(truth.stack) // 2], erased.stack[len(truth.stack) // 2]])
    picture(folder, "gold-xz", [v[:, size // 2 - 10 : size // 2 + 10].mean(axis=1) for v in (volume, after)])
    diffusion(folder, after, whole)


BEADS = {
    "30 of 10 nm, 150 nm of ice": (Recipe(beads=30), 3.0),
    "60 of 10 nm, 1 e/Å²": (Recipe(beads=60), 1.0),
    "30 of 10 nm on top, 4° and -8° turned": (Recipe(beads=30, bead_surface="top", pitch_deg=4, pretilt_deg=-8), 3.0),
    "40 of 15 nm, 250 nm of ice": (Recipe(beads=40, bead_nm=15, thickness_nm=250), 3.0),
    "40 of 5 nm, 100 nm of ice": (Recipe(beads=40, bead_nm=5, thickness_nm=100), 3.0),
    "none": (Recipe(beads=0), 3.0),
}


def beads(_: Path, size: int, step: float) -> None:
    """Beads found in the volume, of all that lie within it by more than their radius."""
    pixel, hits, there, strays = 10.8, 0, 0, 0
    print("\nbeads in the volume                       there   found   false       s")
    for number, (name, (recipe, dose)) in enumerate(BEADS.items()):
        truth = make(
            Plan(
                tilts(step), (size, size), axis_deg=0.0, dose_e_A2=dose, recipe=recipe, hot=0, xrays=0, seed=40 + number
            )
        )
        radius = recipe.bead_nm * 5 / pixel
        volume = volume_of(truth.stack, truth.tilts_deg, 300)
        start = time.perf_counter()
        found = find_beads_3d(volume, radius).xyz
        spent = time.perf_counter() - start
        true = truth.beads_px[(np.abs(truth.beads_px[:, :2]) < size / 2 - radius).all(axis=1)].reshape(-1, 3)
        seen = int((cKDTree(found).query(true)[0] < 3).sum()) if len(found) and len(true) else 0
        false = int((cKDTree(truth.beads_px).query(found)[0] > 3).sum()) if len(true) else len(found)
        print(f"  {name:38s}{len(true):7d}{seen:8d}{false:8d}{spent:8.2f}")
        hits, there, strays = hits + seen, there + len(true), strays + false
    print(f"  all: {hits / there:.1%} found, {strays / max(1, hits + strays):.1%} of those told are false")


def diffusion(folder: Path, volume: Image, whole: Image) -> None:
    """Against the best that Gaussians do."""
    k = default_k(volume)
    start = time.perf_counter()
    smooth = diffuse(volume, Diffusion(k))
    rate = volume.size * Diffusion(k).iterations / (time.perf_counter() - start) / 1e6
    print(f"\ndiffusion: K {k:.3g}, {rate:.0f} million voxel-iterations a second; correlation with the truth")
    likeness = lambda v: float(np.corrcoef(v[40:-40].ravel(), whole[40:-40].ravel())[0, 1])  # noqa: E731
    for sigma in (1.0, 1.5, 2.0, 2.5):
        print(f"  Gaussian {sigma:3.1f} voxels  {likeness(gaussian_filter(volume, sigma)):.3f}")
    print(f"  as it is {likeness(volume):18.3f}\n  diffused {likeness(smooth):18.3f}")
    table(10.8, {"as it is": shells(volume, whole), "diffused": shells(smooth, whole)})
    middle = len(volume) // 2
    picture(folder, "diffusion", [volume[middle], smooth[middle], whole[middle]])
    shown = preview(volume, (0.3 * k, k, 3 * k), (9, 21, 39))
    side = slice(volume.shape[1] // 4, volume.shape[1] // 2)
    rows = [np.hstack([to_grey(shown[f * k, n][side, side]) for n in (9, 21, 39)]) for f in (0.3, 1, 3)]
    write_png(folder / "diffusion-preview.png", np.vstack(rows))


def axes(folder: Path, size: int, step: float) -> None:
    """Two tilt axes."""
    _dual_fsc.axes(folder, size, step, table, picture)


def main() -> None:
    """Print the tables, write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="side of the views, pixels (512)")
    parser.add_argument("--step", type=float, default=3.0, help="of the tilts, degrees (3)")
    parser.add_argument("--pictures", type=Path, default=Path("restore-pictures"), help="folder (restore-pictures)")
    parser.add_argument("--only", choices=("focus", "lens", "beads", "gold", "axes"), help="one part of it")
    args = parser.parse_args()
    args.pictures.mkdir(parents=True, exist_ok=True)
    for part in (focus, lens, beads, gold, axes):
        if args.only in (None, part.__name__):
            part(args.pictures, args.size, args.step)


if __name__ == "__main__":
    main()
