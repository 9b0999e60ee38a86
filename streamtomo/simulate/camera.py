"""The camera: Poisson electrons, counts, and everything that is wrong with a real sensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import DTypeLike, NDArray

from streamtomo.simulate.specimen import Map

DARK_ELECTRONS = 0.3
"""Electrons per pixel that a closed shutter lets through."""


@dataclass(frozen=True)
class Camera:
    """One sensor. Defects stay where they are for the whole session."""

    shape_yx: tuple[int, int]
    dtype: np.dtype[np.generic]
    gain: float = 4.0
    """Counts per electron."""
    xrays: float = 10.0
    """X-ray hits per image, on average."""
    hot: tuple[tuple[int, int], ...] = ()
    """x, y of pixels that always read high."""
    hot_electrons: tuple[float, ...] = ()
    """What each of them adds."""
    dead: tuple[tuple[int, int], ...] = ()
    """x, y of pixels that read 0."""
    dead_columns: tuple[int, ...] = ()
    dead_rows: tuple[int, ...] = ()
    sensitivity: Map | None = None
    """Share of the electrons that each pixel counts, about 1. Single images come corrected for it, movies do not."""
    residual: Map | None = None
    """Relative gain of the pixels `(ny, nx)` that the gain reference leaves in the images; None: 1 everywhere."""

    def gain_reference(self) -> Map:
        """What the counts of movies are to be multiplied with, mean 1; 0 where pixels are dead."""
        seen = np.ones(self.shape_yx, np.float32) if self.sensitivity is None else self.sensitivity
        reference = np.asarray(1 / seen, np.float32)
        self._deaden(reference)
        return np.asarray(reference / reference[reference > 0].mean(), np.float32)

    def _deaden(self, counts: Map) -> None:
        for x, y in self.dead:
            counts[y, x] = 0
        counts[:, list(self.dead_columns)] = 0
        counts[list(self.dead_rows)] = 0

    def defects(self) -> dict[str, object]:
        """For the truth file; all positions are array indices, y up."""
        return {
            "hot_pixels_xy": self.hot,
            "dead_pixels_xy": self.dead,
            "dead_columns_x": self.dead_columns,
            "dead_rows_y": self.dead_rows,
        }


@dataclass(frozen=True)
class Exposure:
    """One image, or the frames of a movie, as read out."""

    image: NDArray[np.generic]
    """`(ny, nx)`, or `(frames, ny, nx)`."""
    xrays: list[dict[str, float]] = field(default_factory=list)
    """Position (x, y), electrons, and width (sigma in pixels, 0 for a single pixel) of each X-ray hit."""


def make_camera(
    shape_yx: tuple[int, int],
    dtype: DTypeLike,
    rng: np.random.Generator,
    *,
    mean_electrons: float,
    gain: float | None = None,
    xrays: float = 10.0,
    hot: int = 0,
    dead: int = 0,
    dead_columns: int = 0,
    dead_rows: int = 0,
    gain_spread: float = 0.0,
) -> Camera:
    """A camera with so many random defects; without a gain, one that suits the pixel type and the exposure."""
    ny, nx = shape_yx
    pixels = [_somewhere(rng, shape_yx) for _ in range(hot + dead)]
    return Camera(
        shape_yx,
        np.dtype(dtype),
        gain=fitting_gain(np.dtype(dtype), mean_electrons) if gain is None else gain,
        xrays=xrays,
        hot=tuple(pixels[:hot]),
        hot_electrons=tuple(float(x) for x in mean_electrons * rng.uniform(0.5, 6.0, hot)),
        dead=tuple(pixels[hot:]),
        dead_columns=tuple(int(x) for x in rng.choice(nx, dead_columns, replace=False)),
        dead_rows=tuple(int(y) for y in rng.choice(ny, dead_rows, replace=False)),
        sensitivity=_sensitivity(shape_yx, gain_spread, rng) if gain_spread else None,
    )


def _sensitivity(shape_yx: tuple[int, int], spread: float, rng: np.random.Generator) -> Map:
    """Pixels of their own mind, columns of their own amplifier, and one corner that sees less."""
    ny, nx = shape_yx
    pixels = rng.normal(1, spread, shape_yx) * rng.normal(1, spread / 4, nx)
    corner = 1 - spread * np.linspace(0, 1, ny)[:, None] * np.linspace(0, 1, nx)
    return np.asarray(np.clip(pixels * corner, 0.3, 3.0), np.float32)


def fitting_gain(dtype: np.dtype[np.generic], mean_electrons: float) -> float:
    """4 counts per electron, or what keeps the mean within a quarter of a small integer type's range."""
    if dtype.kind == "f":
        return 4.0
    return min(4.0, int(np.iinfo(dtype.name).max) / 4 / max(mean_electrons, 1e-9))


def expose(camera: Camera, mean_electrons: Map, rng: np.random.Generator) -> Exposure:
    """Read out an image whose pixels expect so many electrons, `(ny, nx)`."""
    electrons = rng.poisson(mean_electrons).astype(np.float32)
    hits = _hit(electrons, camera.xrays, rng)
    for (x, y), level in zip(camera.hot, camera.hot_electrons, strict=True):
        electrons[y, x] += rng.poisson(level)
    counts = electrons * np.float32(camera.gain)
    if camera.residual is not None:
        counts *= camera.residual
    camera._deaden(counts)
    return Exposure(as_type(counts, camera.dtype), hits)


def expose_movie(camera: Camera, mean_electrons: Sequence[Map], rng: np.random.Generator) -> Exposure:
    """Read out frames whose pixels expect so many electrons, each `(ny, nx)`, uncorrected for the camera's gain."""
    seen = np.float32(1) if camera.sensitivity is None else camera.sensitivity
    share = replace(
        camera,
        xrays=camera.xrays / len(mean_electrons),
        hot_electrons=tuple(level / len(mean_electrons) for level in camera.hot_electrons),
    )
    exposures = [expose(share, frame * seen, rng) for frame in mean_electrons]
    return Exposure(np.stack([one.image for one in exposures]), [hit for one in exposures for hit in one.xrays])


def as_type(counts: Map, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Counts in the camera's pixel type: rounded, and cut at the type's ends as an overflowing pixel is."""
    if dtype.kind == "f":
        return counts.astype(dtype)
    ends = np.iinfo(dtype.name)
    return np.clip(np.rint(counts), ends.min, ends.max).astype(dtype)


def _hit(electrons: Map, rate: float, rng: np.random.Generator) -> list[dict[str, float]]:
    """Add X-rays: two thirds strike one pixel, the others bloom over a few."""
    hits = []
    for _ in range(rng.poisson(rate)):
        x, y = _somewhere(rng, electrons.shape)
        energy = float(500 * 10 ** rng.uniform(0, 1))
        sigma = 0.0 if rng.random() < 2 / 3 else float(rng.uniform(0.5, 1.2))
        _bloom(electrons, x, y, energy, sigma)
        hits.append({"x": x, "y": y, "electrons": round(energy, 1), "sigma_px": round(sigma, 2)})
    return hits


def _bloom(electrons: Map, x: int, y: int, energy: float, sigma: float) -> None:
    if sigma == 0:
        electrons[y, x] += energy
        return
    reach = 4
    ys, xs = (np.arange(max(0, c - reach), min(n, c + reach + 1)) for c, n in zip((y, x), electrons.shape, strict=True))
    spot = np.exp(-((ys[:, None] - y) ** 2 + (xs - x) ** 2) / (2 * sigma**2))
    electrons[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1] += (energy * spot / spot.sum()).astype(np.float32)


def _somewhere(rng: np.random.Generator, shape_yx: tuple[int, ...]) -> tuple[int, int]:
    return int(rng.integers(shape_yx[1])), int(rng.integers(shape_yx[0]))
