"""A random specimen made of balls and points, so that its projection is exact at every tilt.

Gold beads are spheres, vesicles are differences of two spheres, everything else (proteins, small scatterers) is made of
points that carry mass and are blurred by a Gaussian: a sphere and a Gaussian look the same from every side.
Lengths are in nm from the specimen's centre; phases are in radians at 300 kV.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import scipy.fft as fft
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from streamtomo.simulate.creep import crept
from streamtomo.simulate.pose import Array, View, centred_grid, holder_turn, slab_turn

Map = NDArray[np.float32]

PROTEIN_PHASE_PER_NM = 0.016
"""Phase that protein adds to vitreous ice, rad/nm: some 2.4 V of inner potential."""
MEMBRANE_PHASE_PER_NM = 0.02
MEMBRANE_NM = 4.5
ATOM_PHASE_NM2 = 0.03
PROTEIN_KINDS = 4
BLOBS_PER_PROTEIN = 24


@dataclass(frozen=True)
class Recipe:
    """What the specimen is made of."""

    thickness_nm: float = 150.0
    pitch_deg: float = 0.0
    """Turn of the slab about X, across the tilt axis."""
    pretilt_deg: float = 0.0
    """Turn of the slab about the tilt axis."""
    beads: int = 14
    """Gold beads within the image at zero tilt; as densely sown outside it."""
    bead_nm: float = 10.0
    bead_surface: str = "both"
    """`both`, `top` or `bottom` of the slab."""
    vesicles_per_um2: float = 6.0
    proteins_per_um3: float = 8000.0
    """Complexes of some 10 nm."""
    scatterers_per_um3: float = 900_000.0
    """Small molecules, the grain of the specimen."""
    atoms_per_um3: float = 0.0
    """Knots of density, as fine as atoms and either dark or bright: what shows the rings of the lens up to high
    frequencies. A million of them give spectra a signal of some 0.15 of the noise at 3 e/Å² and 150 nm."""


@dataclass(frozen=True)
class Points:
    """Scatterers that share one width."""

    positions: NDArray[np.float32]
    """`(n, 3)`, nm."""
    masses: NDArray[np.float32]
    """`(n,)`, rad nm²: integral of the phase."""
    sigma_nm: float


@dataclass(frozen=True)
class Specimen:
    """All matter, in the holder's frame (pitch and pre-tilt applied)."""

    recipe: Recipe
    beads_nm: Array
    """`(n, 3)`."""
    vesicles_nm: Array
    """`(n, 3)`."""
    vesicle_radii_nm: Array
    points: tuple[Points, ...]


@dataclass(frozen=True)
class Field:
    """The part of the specimen that a series can see."""

    width_nm: float
    """Of the image, along its X."""
    height_nm: float
    axis_deg: float
    reach_nm: tuple[float, float]
    """Half the extent of the matter, across the tilt axis and along it."""


def grow(recipe: Recipe, field: Field, seed: int) -> Specimen:
    """A specimen from a seed; each kind of matter has random numbers of its own, so that none changes another."""
    gold, fat, protein, grain, fine = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5))
    turn = slab_turn(recipe.pitch_deg, recipe.pretilt_deg)
    centres, radii = _vesicles(recipe, field, fat)
    matter = [_proteins(recipe, field, protein), _scatterers(recipe, field, grain)]
    if recipe.atoms_per_um3:
        matter.append(_atoms(recipe, field, fine))
    return Specimen(
        recipe,
        beads_nm=_beads(recipe, field, gold) @ turn.T,
        vesicles_nm=centres @ turn.T,
        vesicle_radii_nm=radii,
        points=tuple(Points((p.positions @ turn.T).astype(np.float32), p.masses, p.sigma_nm) for p in matter),
    )


def turned(specimen: Specimen, turn_deg: float, move_nm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Specimen:
    """The same matter after the holder was turned about Z and moved, as for a second tilt axis."""
    if not turn_deg and not any(move_nm):
        return specimen
    turn = holder_turn(turn_deg)

    def moved(points: NDArray[np.floating]) -> Array:
        return np.asarray(points @ turn.T + move_nm)

    return replace(
        specimen,
        beads_nm=moved(specimen.beads_nm),
        vesicles_nm=moved(specimen.vesicles_nm),
        points=tuple(replace(kind, positions=moved(kind.positions).astype(np.float32)) for kind in specimen.points),
    )


def _beads(recipe: Recipe, field: Field, rng: np.random.Generator) -> Array:
    """Exactly `recipe.beads` in the image at zero tilt, and as dense a sowing around it, none touching another."""
    if not recipe.beads:
        return np.zeros((0, 3))
    inner = View(0.0, field.axis_deg).matrix()[:, :2].T
    reach_x, reach_y = field.reach_nm
    area = field.width_nm * field.height_nm
    total = recipe.beads * 4 * reach_x * reach_y / area
    chosen: list[Array] = []
    half = np.array([field.width_nm, field.height_nm]) / 2
    _sow(chosen, recipe.beads, 2 * recipe.bead_nm, lambda: inner @ rng.uniform(-0.93 * half, 0.93 * half))

    def outside() -> Array:
        while True:
            spot = rng.uniform((-reach_x, -reach_y), (reach_x, reach_y))
            if (np.abs(inner.T @ spot) > half).any():
                return spot

    _sow(chosen, round(max(0.0, total - recipe.beads)), 2 * recipe.bead_nm, outside)
    sides = {"both": (-0.5, 0.5), "top": (0.5, 0.5), "bottom": (-0.5, -0.5)}[recipe.bead_surface]
    z = rng.choice(sides, len(chosen)) * recipe.thickness_nm
    return np.column_stack([np.array(chosen), z])


def _sow(chosen: list[Array], count: int, apart: float, draw: object, tries: int = 200) -> None:
    """Add `count` spots that keep apart; in a crowd the last try stays where it fell."""
    assert callable(draw)
    for _ in range(count):
        for _ in range(tries):
            spot = draw()
            if not chosen or np.min(np.sum((np.array(chosen) - spot) ** 2, axis=1)) > apart**2:
                break
        chosen.append(spot)


def _vesicles(recipe: Recipe, field: Field, rng: np.random.Generator) -> tuple[Array, Array]:
    """Centres `(n, 3)` and outer radii of vesicles that lie within the slab."""
    largest = min(60.0, 0.45 * recipe.thickness_nm)
    count = rng.poisson(recipe.vesicles_per_um2 * _area_um2(field)) if largest > 2 * MEMBRANE_NM else 0
    radii = rng.uniform(min(20.0, largest), largest, count)
    xy = rng.uniform(-1, 1, (count, 2)) * field.reach_nm
    z = rng.uniform(-1, 1, count) * (recipe.thickness_nm / 2 - radii)
    return np.column_stack([xy, z]), radii


def _proteins(recipe: Recipe, field: Field, rng: np.random.Generator) -> Points:
    """A few kinds of complexes, each a cloud of blobs, in random places and orientations."""
    kinds = rng.normal(0, 1, (PROTEIN_KINDS, BLOBS_PER_PROTEIN, 3)) * rng.uniform(2.5, 4.5, (PROTEIN_KINDS, 1, 3))
    centres = _through_slab(recipe, field, recipe.proteins_per_um3, rng, inset_nm=5.0)
    count = len(centres)
    turns = Rotation.random(count, random_state=rng).as_matrix() if count else np.zeros((0, 3, 3))
    blobs = np.einsum("nij,nbj->nbi", turns, kinds[rng.integers(0, PROTEIN_KINDS, count)]) + centres[:, None]
    volume_nm3 = 30.0
    masses = np.full(count * BLOBS_PER_PROTEIN, volume_nm3 * PROTEIN_PHASE_PER_NM, np.float32)
    return Points(blobs.reshape(-1, 3).astype(np.float32), masses, sigma_nm=1.4)


def _scatterers(recipe: Recipe, field: Field, rng: np.random.Generator) -> Points:
    """Molecules of 20 to 80 kDa everywhere in the slab."""
    positions = _through_slab(recipe, field, recipe.scatterers_per_um3, rng)
    masses = rng.uniform(24, 97, len(positions)) * PROTEIN_PHASE_PER_NM
    return Points(positions.astype(np.float32), masses.astype(np.float32), sigma_nm=2.0)


def _atoms(recipe: Recipe, field: Field, rng: np.random.Generator) -> Points:
    """Knots of density everywhere in the slab."""
    positions = _through_slab(recipe, field, recipe.atoms_per_um3, rng)
    masses = rng.normal(0, ATOM_PHASE_NM2, len(positions))
    return Points(positions.astype(np.float32), masses.astype(np.float32), sigma_nm=0.12)


def _through_slab(
    recipe: Recipe, field: Field, per_um3: float, rng: np.random.Generator, inset_nm: float = 0.0
) -> Array:
    depth = max(0.0, recipe.thickness_nm - 2 * inset_nm)
    count = rng.poisson(per_um3 * _area_um2(field) * depth / 1000)
    return rng.uniform(-1, 1, (count, 3)) * (*field.reach_nm, depth / 2)


def _area_um2(field: Field) -> float:
    return 4 * field.reach_nm[0] * field.reach_nm[1] / 1e6


# -- projection --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Projection:
    """Matter along the beam, on the canvas (the image with a margin all round)."""

    phase: Map
    """rad, `(ny, nx)`, of all but the gold."""
    gold_nm: Map
    """Path through gold, nm."""


def project(specimen: Specimen, view: View, shape_yx: tuple[int, int], pixel_nm: float, margin: int) -> Projection:
    """What lies along the beam of each pixel of an image of `shape_yx` and `margin` pixels around it."""
    ny, nx = (fft.next_fast_len(n + 2 * margin, real=False) for n in shape_yx)
    centre = np.add(centred_grid(shape_yx), margin)
    scale = view.mag / pixel_nm

    def on_canvas(points_nm: NDArray[np.floating]) -> NDArray[np.floating]:
        moved = np.asarray(view.shift_xy) + centre
        there = crept(points_nm / points_nm.dtype.type(pixel_nm), view.waves, view.settled)
        seen: NDArray[np.floating] = there @ view.matrix().T.astype(there.dtype) + moved.astype(there.dtype)
        return seen

    spectrum = np.zeros((ny, nx // 2 + 1), np.complex64)
    for kind in specimen.points:
        mass_per_pixel = kind.masses * np.float32(scale**2)
        splats = splat(on_canvas(kind.positions), mass_per_pixel, (ny, nx))
        spectrum += fft.rfft2(splats) * gaussian_spectrum((ny, nx), kind.sigma_nm * scale)
    phase = fft.irfft2(spectrum, (ny, nx)).astype(np.float32, copy=False)
    for (x, y), radius in zip(on_canvas(specimen.vesicles_nm), specimen.vesicle_radii_nm * scale, strict=True):
        nm = MEMBRANE_PHASE_PER_NM / scale
        add_ball(phase, x, y, radius, nm)
        add_ball(phase, x, y, radius - MEMBRANE_NM * scale, -nm)
    gold = np.zeros((ny, nx), np.float32)
    for x, y in on_canvas(specimen.beads_nm):
        add_ball(gold, x, y, specimen.recipe.bead_nm / 2 * scale, 1 / scale)
    return Projection(phase, gold)


def splat(spots_xy: NDArray[np.floating], masses: Map, shape_yx: tuple[int, int]) -> Map:
    """Spread point masses over the four pixels around each, which keeps their mass and their centre of mass."""
    ny, nx = shape_yx
    x, y = spots_xy[:, 0], spots_xy[:, 1]
    inside = (x >= 0) & (x < nx - 1) & (y >= 0) & (y < ny - 1)
    x, y, masses = x[inside], y[inside], masses[inside]
    column, row = x.astype(np.int64), y.astype(np.int64)
    fx, fy = x - column, y - row
    corner = row * nx + column
    total = np.zeros(ny * nx)
    for step, share in ((0, (1 - fx) * (1 - fy)), (1, fx * (1 - fy)), (nx, (1 - fx) * fy), (nx + 1, fx * fy)):
        total += np.bincount(corner + step, masses * share, ny * nx)
    return total.reshape(ny, nx).astype(np.float32)


def gaussian_spectrum(shape_yx: tuple[int, int], sigma_px: float) -> Map:
    """Transfer function `(ny, nx // 2 + 1)` of a blur by a Gaussian of unit sum."""
    ny, nx = shape_yx
    across = np.exp(-2 * (np.pi * sigma_px * np.fft.rfftfreq(nx)) ** 2)
    along = np.exp(-2 * (np.pi * sigma_px * np.fft.fftfreq(ny)) ** 2)
    return np.asarray(along[:, None] * across, np.float32)


def add_ball(image: Map, x: float, y: float, radius: float, value: float, oversample: int = 3) -> None:
    """Add `value` times the chord through a ball (pixels) to the image, averaged over each pixel."""
    ny, nx = image.shape
    left, right = max(0, ceil(x - radius - 0.5)), min(nx, ceil(x + radius + 0.5))
    low, high = max(0, ceil(y - radius - 0.5)), min(ny, ceil(y + radius + 0.5))
    if radius <= 0 or left >= right or low >= high:
        return
    sub = (np.arange(oversample) + 0.5) / oversample - 0.5
    across = ((np.arange(left, right)[:, None] + sub).ravel() - x).astype(np.float32) ** 2
    along = ((np.arange(low, high)[:, None] + sub).ravel() - y).astype(np.float32) ** 2
    chord = 2 * np.sqrt(np.maximum(0, np.float32(radius) ** 2 - along[:, None] - across))
    means = chord.reshape(high - low, oversample, right - left, oversample).mean(axis=(1, 3))
    image[low:high, left:right] += np.float32(value) * means
