"""Boxes of voxels and their Fourier components.

A box is a cube `(n, n, n)` of z, y, x with an even side, its middle the voxel `n // 2` of each axis. Components count
cycles per box, so that they stay the same when a box is sampled more coarsely.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamtomo import geometry
from streamtomo.average.kernels import ANGLES, PAD, wedge_of
from streamtomo.jit import threads

Array = NDArray[np.float64]
Volume = NDArray[np.float32]
Complex = NDArray[np.complex64]

REGULAR = 1.5
"""Steps between views up to this part of the usual one leave no gap."""
SOFT_PX = 3.0
"""Width of a mask's edge."""


class Components(NamedTuple):
    """The Fourier components of a box up to a radius, half of them, from low to high."""

    n: int
    k: NDArray[np.float32]
    """`(m, 3)`, x, y, z."""
    shell: NDArray[np.int64]
    """`(m,)`, radius rounded."""
    at: NDArray[np.int64]
    """`(m,)`, index in the flattened `rfftn` of a box."""

    def upto(self, radius: float) -> int:
        """How many are within a radius; they come first."""
        return int(np.searchsorted(np.linalg.norm(self.k, axis=1), radius + 1e-6, side="right"))


def components(n: int, radius: float) -> Components:
    """Of boxes of side `n`, without the mean; `radius` below n / 2."""
    z, y = (fft.fftfreq(n, 1 / n) for _ in range(2))
    x = np.arange(n // 2 + 1)
    k = np.stack(np.broadcast_arrays(x, y[:, None], z[:, None, None]), axis=-1).reshape(-1, 3)
    length = np.linalg.norm(k, axis=1)
    twin = (k[:, 0] == 0) & ((k[:, 1] < 0) | ((k[:, 1] == 0) & (k[:, 2] < 0)))  # its conjugate is there, too
    inside = np.flatnonzero((length > 0) & (length <= min(radius, n / 2 - 1)) & ~twin)
    order = inside[np.argsort(length[inside], kind="stable")]
    return Components(n, k[order].astype(np.float32), np.rint(length[order]).astype(np.int64), order)


def transform(box: Volume) -> Complex:
    """`rfftn` of a box about its middle."""
    return np.asarray(fft.rfftn(fft.ifftshift(box), workers=threads()), np.complex64)


def back(spectrum: Complex, n: int) -> Volume:
    """The box of a spectrum, its middle at `n // 2`."""
    return np.asarray(fft.fftshift(fft.irfftn(spectrum, (n, n, n), workers=threads())), np.float32)


def spread(values: Complex, of: Components) -> Complex:
    """The spectrum `(n, n, n // 2 + 1)` that has these components, `(m,)`, and no others."""
    n = of.n
    spectrum = np.zeros(n * n * (n // 2 + 1), np.complex64)
    spectrum[of.at] = values
    flat = of.k[:, 0] == 0  # both halves of the plane x = 0 are stored
    mirror = np.mod(-of.k[flat][:, [2, 1]].astype(np.int64), n)
    spectrum[(mirror[:, 0] * n + mirror[:, 1]) * (n // 2 + 1)] = np.conj(values[flat])
    return spectrum.reshape(n, n, n // 2 + 1)


def resampled(box: Volume, n: int) -> Volume:
    """A box sampled more coarsely or finely, `(n, n, n)`: its low frequencies, or all with zeros beyond."""
    side, low = box.shape[0], min(box.shape[0], n) // 2
    if n == side:
        return box
    here, there = (np.r_[0:low, size - low + 1 : size] for size in (side, n))
    spectrum = transform(box)
    other = np.zeros((n, n, n // 2 + 1), np.complex64)
    other[np.ix_(there, there, np.arange(low))] = spectrum[np.ix_(here, here, np.arange(low))]
    return back(other * np.float32((n / side) ** 3), n)


def padded(box: Volume) -> Complex:
    """The padded spectrum of a box: made so that linear interpolation in it gives the box, not its blurred edges."""
    n = box.shape[0]
    x = np.sinc((np.arange(n) - n // 2) / (PAD * n)) ** 2
    wide = np.zeros((PAD * n,) * 3, np.float32)
    start = PAD * n // 2 - n // 2
    part = slice(start, start + n)
    wide[part, part, part] = box / (x[:, None, None] * x[:, None] * x)
    return np.asarray(fft.rfftn(fft.ifftshift(wide), workers=threads()), np.complex64)


def ball(n: int, radius_px: float, soft_px: float = SOFT_PX) -> Volume:
    """A round mask `(n, n, n)` about the middle: 1 up to the radius, then falling off like half a cosine."""
    at = np.arange(n) - n // 2
    distance = np.sqrt(at[:, None, None] ** 2 + at[:, None] ** 2 + at**2)
    edge = np.clip((distance - radius_px) / soft_px, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * edge), np.float32)


def levelled(box: Volume, mask: Volume) -> Volume:
    """A box times a mask, its mean within the mask taken off first."""
    return np.asarray((box - np.average(box, weights=mask)) * mask, np.float32)


class Wedge(NamedTuple):
    """What the views of a tomogram sampled, as the kernels take it."""

    frame: Array
    """`(3, 3)`: how the views' tilt axis sees the tomogram."""
    gap: NDArray[np.float32]
    nearest: NDArray[np.int64]
    left: NDArray[np.float32]
    """`(views, shells)`: signal in the tomogram over that in the specimen, by cycles per box."""

    def at(self, k: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """How far components `(m, 3)` were sampled, and what is left of their signal, `(m,)` each."""
        share, factor = np.empty(len(k), np.float32), np.empty(len(k), np.float32)
        wedge_of(self.gap, self.nearest, self.left, self.frame, k, share, factor)
        return share, factor


def wedge(tilts_deg: Array, pitch_deg: float = 0.0, left: NDArray[np.float32] | None = None) -> Wedge:
    """Of a tomogram from views at these tilts that was turned flat by `pitch_deg` about x.

    A view at tilt t samples the plane of direction `(cos t, 0, sin t)` and the y axis, and next to it what lies nearer
    than a component, the less the further. Between views that follow each other as most do nothing is missing.
    """
    tilts = np.sort(np.asarray(tilts_deg, np.float64))
    directions = np.arange(ANGLES) * 180.0 / ANGLES
    apart = np.abs((directions[:, None] - tilts + 90) % 180 - 90)
    nearest = np.argmin(apart, axis=1)
    gap = geometry.tilt_terms(apart[np.arange(ANGLES), nearest]).sin
    steps = np.diff(tilts)
    for first, step in zip(tilts, steps, strict=False):
        if step <= REGULAR * np.median(steps):
            gap[(directions - first) % 180 <= step] = 0.0
    if left is None:
        left = np.ones((len(tilts), 1), np.float32)
    return Wedge(geometry.rotation_x(pitch_deg), gap.astype(np.float32), nearest.astype(np.int64), left)
