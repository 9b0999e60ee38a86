"""Views of a specimen that is a slab, as samples of one random density: what they should have in common.

A view at tilt `t` is a section through the specimen's spectrum. Stretched to the slab's own plane, views of different
tilt show the same frequencies (KX, KY) of it at different KZ, and a slab of thickness T is correlated over such a
distance by `sinc(T KX (tan t - tan u))`: along the tilt axis' own line fully, across it the less the further apart the
views are. With the spectra of signal and noise, both found from the views, that is the covariance of all views at
each frequency, and so the likelihood of where they lie (as interferograms are linked: Guarnieri and Tebaldini 2008,
IEEE TGRS 46, 3458). No view is a reference, nothing is reconstructed, and no error adds up from view to view.

Lengths are pixels of the images given, frequencies cycles per pixel.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from streamtomo import geometry, jit
from streamtomo.align.correlate import taper
from streamtomo.resample import warp

Image = NDArray[np.float32]
Array = NDArray[np.float64]
Spectra = NDArray[np.complex64]

FADE = 0.25
"""Share of that side over which it fades at each edge."""
LOWEST = 0.008
"""Frequencies below this are shading."""
LEAST_SCALE = 0.1
"""A view that sees the slab more nearly from its edge is looked at as if it were this one."""
SAMPLING = 1.3
"""Nyquist's frequency of the samples, in the highest frequency that is looked at."""
GROUP = 4
"""Neighbouring frequencies along the axis share one covariance."""
RINGS = 24
"""Frequencies at which the spectra of signal and noise are told."""
LEAST_NOISE = 0.1
"""Of the power that is seen."""
SILENT = 0.2
"""A view that has less than this share of the usual in common with its neighbours shows something else."""
BLUR = 0.4
"""Of the images before they are sampled, in samples."""
REACH = 1.5
"""Views of high tilt are looked at beyond the highest frequency, in units of it."""
SMOOTH_RINGS, FEW = 1.2, 5
"""Rings over which the spectra are smoothed; a ring with fewer frequencies tells nothing."""


class Slab(NamedTuple):
    """How the specimen lies."""

    thickness: float
    tilt_deg: float = 0.0
    """Slope of its plane across the tilt axis, z over x ..."""
    pitch_deg: float = 0.0
    """... and along it, z over y."""


class Seen(NamedTuple):
    """How the slab's plane is seen in the views, `(views,)` each: X and Y lie at `x = scale X + shear Y`."""

    scale: Array
    shear: Array
    rise: Array
    """How far X seems to move with height above the plane: the tangent of the tilt against it."""


def seen(slab: Slab, tilt_deg: Array) -> Seen:
    """The views of a slab at these tilts."""
    tilt = geometry.tilt_terms(tilt_deg)
    across, along = (geometry.tilt_terms(angle) for angle in (slab.tilt_deg, slab.pitch_deg))
    scale = np.maximum(tilt.cos + tilt.sin * across.sin / across.cos, LEAST_SCALE)
    return Seen(scale, tilt.sin * along.sin / along.cos, tilt.sin / scale)


class Frequencies(NamedTuple):
    """A block of them `(i, g, m)`: across the axis, groups along it, members of a group with either sign."""

    side: float
    """Of the square in pixels."""
    samples: int
    """Along it."""
    x: Array
    """`(i,)`"""
    y: Array
    """`(g, m)`"""
    counts: NDArray[np.bool_]
    """Which are within the band, each once, `(i, g, m)`."""
    columns: NDArray[np.int64]
    """Where in a transform they are, `(g, m)`."""

    @property
    def rows(self) -> Array:
        """How many count in each group, `(i, g)`."""
        number: Array = self.counts.sum(-1).astype(np.float64)
        return number


def frequencies(side: float, high: float) -> Frequencies:
    """Those up to `high` of a square of this side."""
    samples = fft.next_fast_len(int(np.ceil(2 * SAMPLING * high * side)), real=True)
    most = int(high * side)
    groups = most // GROUP + 1
    order = np.arange(groups * GROUP).reshape(groups, GROUP)
    order = np.concatenate([order, -order], axis=1)
    x, y = np.arange(most + 1) / side, order / side
    radius = np.hypot(x[:, None, None], y)
    counts = (radius > LOWEST) & (radius < high)
    counts[:, 0, GROUP] = False  # y = 0 once
    counts[0, :, GROUP:] = False  # x = 0: the other half is the same
    return Frequencies(side, samples, x, y, counts, np.where(counts.any(0), order, 0) % samples)


def blurred(images: Sequence[Image], at: Frequencies) -> list[Image]:
    """The images without what the samples cannot tell from lower frequencies."""
    sigma = BLUR * at.side / at.samples
    return jit.each(lambda image: np.asarray(ndimage.gaussian_filter(image, sigma), np.float32), images)


def spectra(images: Sequence[Image], shift: Array, axis_deg: float, view: Seen, at: Frequencies) -> Spectra:
    """Spectra of the slab's plane about the specimen's origin in each view, blurred before, `(i, g, m, views)`."""
    n, step = at.samples, at.side / at.samples
    fade, rim = window(n), taper(*images[0].shape)
    centred = np.exp(2j * np.pi * geometry.centre(n) * step * (at.x[:, None, None] + at.y)).astype(np.complex64)
    out = np.empty((*at.counts.shape, len(images)), np.complex64)
    for v, image in enumerate(images):
        plane = np.array([[view.scale[v] * step, view.shear[v] * step, 0.0], [0.0, step, 0.0]])
        to_plane = geometry.invert(geometry.compose(plane, geometry.aligned_to_raw(axis_deg, shift[v])))
        inside = fade * warp(rim, to_plane, (n, n), fill=0.0)
        square = warp(image, to_plane, (n, n))
        square -= np.float32(np.vdot(square, inside) / max(float(inside.sum()), 1e-9))
        square *= inside / np.float32(np.sqrt(max(float((inside**2).sum()), 1e-9)))
        found = fft.rfft2(square)[at.columns[None], np.arange(len(at.x))[:, None, None]]
        out[..., v] = np.where(at.counts, found * centred, 0)
    return out


def window(n: int) -> Image:
    """Of the square `(n, n)`: 1 inside, falling to 0 at the edges like a cosine."""
    edge = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) / (FADE * n)
    side = 0.5 - 0.5 * np.cos(np.pi * np.minimum(edge, 1.0))
    return np.outer(side, side).astype(np.float32)


def independent(n: int) -> float:
    """How many independent frequencies one of them is worth, as the square fades at its edges."""
    power = window(n).astype(np.float64) ** 2
    return float(power.sum() ** 2 / (power**2).sum() / power.size)


class Powers(NamedTuple):
    """What the views show, by the frequency in their own plane, `(rings,)`."""

    radius: Array
    signal: Array
    noise: Array
    """Of each view, `(views, rings)`."""
    heard: NDArray[np.bool_]
    """Views that show what their neighbours do, `(views,)`; of the others there is only noise."""


def powers(found: Spectra, slab: Slab, view: Seen, tilt_deg: Array, at: Frequencies) -> Powers:
    """Signal from what neighbours in tilt have in common, as far as they should; noise from the rest of each."""
    edges = np.linspace(LOWEST, REACH * float(at.x[-1]), int(REACH * RINGS) + 1)
    rings, n = len(edges) - 1, found.shape[-1]
    ring = [_ring(radius(view, v, at)[at.counts], edges) for v in range(n)]
    values, x = found[at.counts], np.broadcast_to(at.x[:, None, None], at.counts.shape)[at.counts]
    order = np.argsort(tilt_deg, kind="stable").tolist()
    pairs = [*itertools.pairwise(order), *zip(order, order[2:], strict=False)]
    common, expected = np.zeros((len(pairs), rings)), np.zeros((len(pairs), rings))
    for k, (u, v) in enumerate(pairs):
        alike = shared(slab, x, view.rise[u] - view.rise[v])
        both = np.real(values[:, u] * np.conj(values[:, v]))
        common[k] = np.bincount(ring[u], alike * both, rings)
        expected[k] = np.bincount(ring[u], alike**2, rings)
    signal = common[: n - 1].sum(0) / np.maximum(expected[: n - 1].sum(0), 1e-9)
    signal = np.maximum(ndimage.gaussian_filter1d(signal, SMOOTH_RINGS), 0)
    total = np.stack([_mean_power(values[:, v], ring[v], rings) for v in range(n)])
    least = np.maximum(LEAST_NOISE * total, LEAST_NOISE * np.median(total, axis=0) * SILENT + 1e-12)
    noise = ndimage.gaussian_filter1d(np.maximum(total - signal, least), SMOOTH_RINGS, axis=1)
    return Powers((edges[1:] + edges[:-1]) / 2, signal, noise, _heard(pairs, common, expected, signal, n))


def _mean_power(values: Spectra, ring: NDArray[np.int64], rings: int) -> Array:
    """Of a view in each ring; where a ring has hardly a frequency, that of the nearest one that has."""
    number = np.bincount(ring, minlength=rings)
    power = np.bincount(ring, np.abs(values) ** 2, rings) / np.maximum(number, 1)
    told = np.flatnonzero(number > min(FEW, int(number.max()) - 1))
    return np.interp(np.arange(rings), told, power[told])


def _heard(
    pairs: Sequence[tuple[int, int]], common: Array, expected: Array, signal: Array, n: int
) -> NDArray[np.bool_]:
    """Which views have, with one of the two next to them on a side, a fair share of what neighbours have in common."""
    share = common @ signal / np.maximum(expected @ signal**2, 1e-30)
    best = np.zeros(n)
    np.maximum.at(best, np.array(pairs).ravel(), np.repeat(share, 2))
    return best > SILENT


def shared(slab: Slab, x: Array, rise: Array | float) -> Array:
    """How far two views show the same at frequencies across the axis, for a difference of their rise."""
    return np.sinc(slab.thickness * x * rise)


def radius(view: Seen, v: int, at: Frequencies) -> Array:
    """Frequency in the plane of one view, `(i, g, m)`."""
    x = at.x[:, None, None] / view.scale[v]
    radius: Array = np.hypot(x, at.y - view.shear[v] * x)
    return radius


def _ring(radius: Array, edges: Array) -> NDArray[np.int64]:
    return np.clip(np.digitize(radius, edges) - 1, 0, len(edges) - 2)
