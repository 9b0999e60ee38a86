"""Simulated series with true alignment, the volume that their matter would give, and Fourier shell correlations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from streamtomo import geometry
from streamtomo.correct.prepare import prepare
from streamtomo.reconstruct.filters import Filtering
from streamtomo.reconstruct.wbp import reconstruct
from streamtomo.resample import warp
from streamtomo.simulate.series import Plan, Series, _field
from streamtomo.simulate.specimen import Specimen, grow, project

Image = NDArray[np.float32]
FILTERING = Filtering(0.45, 0.05)


@dataclass(frozen=True)
class Truth:
    """A series aligned by what is true of it, in ascending tilt."""

    series: Series
    stack: Image
    """`(n, ny, nx)` as the camera saw it, X-rays repaired."""
    matter: Image
    """`(n, ny, nx)`: the negative phase of all but gold, without noise and lens."""
    tilts_deg: list[float]
    order: list[int]

    @property
    def beads_px(self) -> NDArray[np.float64]:
        """True X, Y, Z from the centre, pixels."""
        return self.series.specimen.beads_nm * 10 / self.series.plan.pixel_size_A


def make(plan: Plan, specimen: Specimen | None = None) -> Truth:
    """Expose and align a series, of a specimen of its own or of this one."""
    series = Series(plan)
    if specimen is not None:
        series.specimen = specimen
    order = sorted(range(len(series.views)), key=lambda i: series.views[i].tilt_deg)
    shape = geometry.aligned_shape(plan.shape_yx, plan.axis_deg)
    stack, matter = (np.empty((len(order), *shape), np.float32) for _ in range(2))
    for row, index in enumerate(order):
        view = series.views[index]
        transform = geometry.raw_to_aligned(plan.axis_deg, view.shift_xy, view.mag)
        stack[row] = warp(prepare(series.expose(index).image, 1, 8.0)[0], transform, shape)
        seen = project(series.specimen, view, plan.shape_yx, plan.pixel_size_A / 10, 0)
        matter[row] = warp(-seen.phase[: plan.shape_yx[0], : plan.shape_yx[1]], transform, shape)
    return Truth(series, stack, matter, [series.views[i].tilt_deg for i in order], order)


def square_specimen(plan: Plan) -> Specimen:
    """A specimen that reaches far enough for series about any axis."""
    of = _field(plan, Series(plan).views)
    return grow(plan.recipe, replace(of, reach_nm=(max(of.reach_nm),) * 2), plan.seed)


def density(specimen: Specimen, shape: tuple[int, int, int], pixel_nm: float) -> Image:
    """The negative phase per voxel `(nz, ny, nx)` of all points: matter without gold and vesicles, no wedge missing."""
    total = np.zeros(shape)
    for kind in specimen.points:
        at = np.rint(kind.positions / pixel_nm + (np.array(shape[::-1]) - 1) / 2).astype(int)[:, ::-1]
        inside = ((at >= 0) & (at < shape)).all(axis=1)
        splats = np.zeros(shape)
        np.add.at(splats, tuple(at[inside].T), kind.masses[inside])
        total += gaussian_filter(splats, kind.sigma_nm / pixel_nm)
    return -total.astype(np.float32)


def volume_of(stack: Image, tilts_deg: list[float], nz: int) -> Image:
    """Back-projection `(nz, ny, nx)`."""
    slabs = [slab for _, slab in reconstruct(stack, tilts_deg, nz, filtering=FILTERING)]
    return np.ascontiguousarray(np.concatenate(slabs).transpose(1, 0, 2))


def shells(a: Image, b: Image, count: int = 16) -> NDArray[np.float64]:
    """Fourier shell correlation of two volumes in `count` shells up to Nyquist, centres at (i + 1/2) / count."""
    window = np.ones((1, 1, 1), np.float32)
    for axis, n in enumerate(a.shape):
        edge = np.clip(np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) / (0.08 * n), 0, 1)
        window = window * np.expand_dims(np.sin(np.pi / 2 * edge), [i for i in range(3) if i != axis]).astype(
            np.float32
        )
    fa, fb = (np.fft.rfftn((v - v.mean()) * window) for v in (a, b))
    frequencies = np.meshgrid(*(np.fft.fftfreq(n) for n in a.shape[:2]), np.fft.rfftfreq(a.shape[2]), indexing="ij")
    shell = (2 * count * np.sqrt(sum(f**2 for f in frequencies))).astype(int).ravel()
    cross, pa, pb = (
        np.bincount(shell, w.ravel(), minlength=count)[:count]
        for w in ((fa * fb.conj()).real, np.abs(fa) ** 2, np.abs(fb) ** 2)
    )
    return np.asarray(cross / np.sqrt(pa * pb))
