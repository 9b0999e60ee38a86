"""The simulated specimen as a volume, and how well a reconstruction agrees with it, frequency by frequency."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo.simulate.specimen import MEMBRANE_NM, MEMBRANE_PHASE_PER_NM, Specimen

Array = NDArray[np.float64]
Volume = NDArray[np.float32]

GOLD_PHASE_PER_NM = 0.12
SHELL = 0.02
"""Width of a shell, cycles per pixel."""


def phantom(specimen: Specimen, shape_zyx: tuple[int, int, int], pixel_nm: float, move_px: Array) -> Volume:
    """Phase a voxel, `(nz, ny, nx)`: points, membranes and gold, each moved by `move_px` (x, y, z)."""
    spectrum = np.zeros((*shape_zyx[:2], shape_zyx[2] // 2 + 1), np.complex64)
    for kind in specimen.points:
        blurred = _splat(kind.positions / pixel_nm + move_px, kind.masses, shape_zyx)
        spectrum += fft.rfftn(blurred) * _gaussian(shape_zyx, kind.sigma_nm / pixel_nm)
    volume = fft.irfftn(spectrum, shape_zyx).astype(np.float32) / np.float32(pixel_nm**2)
    balls = [
        *((centre, radius, MEMBRANE_PHASE_PER_NM) for centre, radius in _vesicles(specimen)),
        *((centre, radius - MEMBRANE_NM, -MEMBRANE_PHASE_PER_NM) for centre, radius in _vesicles(specimen)),
        *((centre, specimen.recipe.bead_nm / 2, GOLD_PHASE_PER_NM) for centre in specimen.beads_nm),
    ]
    for centre, radius, phase in balls:
        _add_ball(volume, centre / pixel_nm + move_px, radius / pixel_nm, phase * pixel_nm)
    return volume


def _vesicles(specimen: Specimen) -> list[tuple[Array, float]]:
    return list(zip(specimen.vesicles_nm, specimen.vesicle_radii_nm.tolist(), strict=True))


def _splat(xyz: Array, masses: NDArray[np.float32], shape_zyx: tuple[int, int, int]) -> Volume:
    """Masses shared between the eight voxels around each point; points outside are left out."""
    at = xyz[:, ::-1] + (np.array(shape_zyx) - 1) / 2
    low = np.floor(at).astype(np.int64)
    share = at - low
    inside = ((low >= 0) & (low < np.array(shape_zyx) - 1)).all(1)
    low, share, masses = low[inside], share[inside], masses[inside]
    volume = np.zeros(shape_zyx, np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, share, 1 - share), axis=1)
        np.add.at(volume, tuple((low + corner).T), (masses * weight).astype(np.float32))
    return volume


def _gaussian(shape_zyx: tuple[int, int, int], sigma_px: float) -> Volume:
    z, y, x = np.meshgrid(*_frequencies(shape_zyx), indexing="ij", sparse=True)
    return np.exp(-2 * (np.pi * sigma_px) ** 2 * (x * x + y * y + z * z)).astype(np.float32)


def _frequencies(shape_zyx: tuple[int, int, int]) -> tuple[Array, Array, Array]:
    nz, ny, nx = shape_zyx
    return fft.fftfreq(nz), fft.fftfreq(ny), fft.rfftfreq(nx)


def _add_ball(volume: Volume, centre_xyz: Array, radius: float, value: float) -> None:
    at = centre_xyz[::-1] + (np.array(volume.shape) - 1) / 2
    low = np.maximum(np.floor(at - radius - 1).astype(int), 0)
    high = np.minimum(np.ceil(at + radius + 2).astype(int), volume.shape)
    if (low >= high).any():
        return
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    z, y, x = np.ogrid[part]
    distance = np.sqrt((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2)
    volume[part] += np.float32(value) * np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)


def shell_correlation(one: Volume, other: Volume, max_tilt_deg: float, steepest_deg: float = 88.0) -> Array:
    """Fourier shell correlation of two volumes `(nz, ny, nx)` where views up to a tilt about Y sample it, by shell."""
    a, b = (fft.rfftn(volume - volume.mean()) for volume in (one, other))
    z, y, x = np.meshgrid(*_frequencies(one.shape), indexing="ij", sparse=True)
    sampled = np.abs(z) <= np.abs(x) * np.tan(np.radians(min(max_tilt_deg, steepest_deg)))
    shell = (np.sqrt(x * x + y * y + z * z) / SHELL).astype(int)
    count = round(0.5 / SHELL)
    keep = sampled & (shell < count)

    def summed(values: NDArray[np.floating]) -> Array:
        return np.bincount(shell[keep], values[keep], minlength=count)

    norm = np.sqrt(summed(np.abs(a) ** 2) * summed(np.abs(b) ** 2))
    return np.asarray(summed((a * b.conj()).real) / np.maximum(norm, 1e-30))
