"""Where the specimen lies in each view, by the likelihood of all views at once (`slab`), and how it lies itself.

For given spectra and slab the likelihood is that of a Gaussian field, `sum of z* A z` over the frequencies, with the
views' whitened spectra z, and A the inverse of their covariance C. A shift turns phases. Its Fisher information,
`2 (2 pi k)^2 (C o A - 1)`, does not depend on the data, so that a step costs no more than the sum. The slab's
thickness and slopes and the tilt axis are those for which the views tell most of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.align import slab as slabs
from streamtomo.align.slab import Frequencies, Powers, Seen, Slab, Spectra

Image = NDArray[np.float32]
Array = NDArray[np.float64]

SHIFT_PRIOR_PX = 10.0
STEPS, TRIAL_STEPS = 12, 5
"""At most; and in a search, each of whose trials begins where the last one ended."""
AT_REST_PX = 0.01


class Linked(NamedTuple):
    """Views as they are linked."""

    shift: Array
    """`(views, 2)`."""
    axis_deg: float
    slab: Slab
    gain: float
    """Logarithm of how much likelier the views are as views of one slab than each for itself."""
    information: Array
    """Of the shifts in the slab's plane, `(2, views, views)`: along X and along Y."""
    powers: Powers


class _Model(NamedTuple):
    """Whitened spectra `(i g, m, views)` and their covariances."""

    spectra: Spectra
    inverse: NDArray[np.float32]
    """`(i g, views, views)`"""
    x: Array
    """Frequencies `(i g, m)`."""
    y: Array
    information: Array
    baseline: float
    """The cost of views that have nothing in common, less the determinants."""
    worth: float
    """Independent frequencies in one."""


def link(
    images: Sequence[Image],
    tilt_deg: Array,
    shift: Array,
    axis_deg: float,
    slab: Slab,
    at: Frequencies,
    powers: Powers | None = None,
) -> Linked:
    """The likeliest shifts near those given, for this axis and slab; `images` `(ny, nx)` are blurred for `at`.

    `powers` of the views where they are known; what is to be compared must have the same.
    """
    view = slabs.seen(slab, tilt_deg)
    found = slabs.spectra(images, shift, axis_deg, view, at)
    steps = TRIAL_STEPS if powers else STEPS
    powers = powers or slabs.powers(found, slab, view, tilt_deg, at)
    model = _modelled(found, slab, view, powers, at)
    moved, cost = _minimised(model, steps)
    there = np.stack([view.scale * moved[:, 0] + view.shear * moved[:, 1], moved[:, 1]], axis=1)
    shift = shift + there @ geometry.rotation(axis_deg).T
    return Linked(shift, axis_deg, slab, model.worth * (model.baseline - cost), model.worth * model.information, powers)


def _modelled(found: Spectra, slab: Slab, view: Seen, power: Powers, at: Frequencies) -> _Model:
    n = found.shape[-1]
    noise, ratio = np.empty(found.shape, np.float32), np.empty((*at.rows.shape, n))
    for v in range(n):
        radius = slabs.radius(view, v, at)
        noise[..., v] = np.interp(radius, power.radius, power.noise[v])
        middle = radius[..., : radius.shape[2] // 2].mean(-1)
        told = np.interp(middle, power.radius, power.noise[v])
        ratio[..., v] = np.interp(middle, power.radius, power.heard[v] * power.signal) * (middle < at.x[-1]) / told
    covariance = _covariance(ratio, slab, view, at)
    inverse = np.linalg.inv(covariance)
    rows = at.rows.ravel()
    spectra = np.asarray(found / np.sqrt(noise), np.complex64).reshape(-1, found.shape[2], n)
    snr = ratio.reshape(-1, n)
    alone = float(((np.abs(spectra) ** 2).sum(1) / (1 + snr)).sum() + rows @ np.log1p(snr).sum(1))
    determinants = float(rows @ np.linalg.slogdet(covariance)[1])
    x = np.broadcast_to(at.x[:, None, None], at.counts.shape).reshape(-1, found.shape[2])
    y = np.broadcast_to(at.y, at.counts.shape).reshape(x.shape)
    counts = at.counts.reshape(x.shape)
    shared = covariance * inverse - np.eye(n, dtype=np.float32)
    information = [2 * np.tensordot(((2 * np.pi * k) ** 2 * counts).sum(1), shared, 1) for k in (x, y)]
    worth = slabs.independent(at.samples)
    return _Model(spectra, inverse, x, y, np.array(information), alone - determinants, worth)


def _covariance(ratio: Array, slab: Slab, view: Seen, at: Frequencies) -> NDArray[np.float32]:
    """Of the whitened views at each group of frequencies, `(i g, views, views)`."""
    n = ratio.shape[-1]
    alike = slabs.shared(slab, at.x[:, None, None], view.rise[:, None] - view.rise).astype(np.float32)
    root = np.sqrt(ratio).astype(np.float32)
    covariance = root[..., :, None] * alike[:, None] * root[..., None, :]
    covariance[..., np.arange(n), np.arange(n)] += 1
    return np.asarray(covariance.reshape(-1, n, n), np.float32)


def _minimised(model: _Model, steps: int) -> tuple[Array, float]:
    """Fisher scoring: shifts in the slab's plane `(views, 2)`, and the cost there."""
    n = model.inverse.shape[-1]
    prior = np.eye(n) / SHIFT_PRIOR_PX**2
    best, at, step = np.zeros((n, 2)), np.zeros((n, 2)), np.zeros((n, 2))
    lowest, told = np.inf, np.inf
    for _ in range(steps):
        cost, slope = _cost(model, at)
        penalised = cost + float((at**2).sum()) / SHIFT_PRIOR_PX**2
        if penalised < lowest:
            best, lowest, told = at, penalised, cost
            pull = slope + 2 * at / SHIFT_PRIOR_PX**2
            step = -np.stack([np.linalg.solve(i + prior, p) for i, p in zip(model.information, pull.T, strict=True)], 1)
        else:
            step = step / 2
        if float(np.abs(step).max()) < AT_REST_PX:
            break
        at = best + step
    return best, told


def _cost(model: _Model, at: Array) -> tuple[float, Array]:
    """`sum of z* A z` for shifts `(views, 2)`, and its slopes."""
    turned = model.x[..., None] * at[:, 0] + model.y[..., None] * at[:, 1]
    z = model.spectra * np.exp(2j * np.pi * turned).astype(np.complex64)
    parts = np.concatenate([z.real, z.imag], axis=1)  # (i g, 2 m, views)
    linked = parts @ model.inverse
    m = z.shape[1]
    cost = float(np.einsum("kmv,kmv->", parts, linked, dtype=np.float64))
    twist = linked[:, :m] * z.imag - linked[:, m:] * z.real
    slopes = [-4 * np.pi * np.einsum("kmv,km->v", twist, k, dtype=np.float64) for k in (model.x, model.y)]
    return cost, np.stack(slopes, axis=1)


# ------------------------------------------------------------------------------------------------------- the specimen


class _Trial(NamedTuple):
    """Logarithm of the thickness, slopes across and along, axis; and what came of them."""

    numbers: Array
    linked: Linked


FIRST_STEPS = np.array([0.35, 5.0, 1.5, 3.0])
"""Of the search: logarithm of the thickness, slope across the axis, axis angle, slope along it."""
FURTHEST = 8
"""Steps of a search in one direction."""


def search(
    images: Sequence[Image],
    tilt_deg: Array,
    shift: Array,
    axis_deg: float,
    slab: Slab,
    at: Frequencies,
    steps: Array = FIRST_STEPS,
    rounds: int = 2,
) -> Linked:
    """The slab and the axis, one of their numbers after the other, for which the views gain most."""

    def tried(numbers: Array, shift: Array, powers: Powers | None = None) -> _Trial:
        thickness, tilt, axis, pitch = numbers.tolist()
        there = Slab(float(np.exp(thickness)), tilt, pitch)
        return _Trial(numbers, link(images, tilt_deg, shift, axis, there, at, powers))

    best = tried(np.array([np.log(slab.thickness), slab.tilt_deg, axis_deg, slab.pitch_deg]), shift)
    for scale in 0.5 ** np.arange(rounds):
        for direction in np.diag(scale * steps):
            best = _highest(tried, tried(best.numbers, best.linked.shift), direction)
    return best.linked


def _highest(tried: Callable[[Array, Array, Powers], _Trial], best: _Trial, step: Array) -> _Trial:
    """The best of trials in a row, then of the parabola through the three highest."""
    trials, powers = {0: best}, best.linked.powers
    for side in (1, -1):
        for number in range(side, side * FURTHEST, side):
            before = trials[number - side]
            trials[number] = tried(best.numbers + number * step, before.linked.shift, powers)
            if trials[number].linked.gain < before.linked.gain:
                break
        if 1 in trials and trials[1].linked.gain > best.linked.gain:
            break
    top = max(trials, key=lambda number: trials[number].linked.gain)
    if top - 1 in trials and top + 1 in trials:
        low, middle, high = (trials[top + k].linked.gain for k in (-1, 0, 1))
        away = 0.5 * (low - high) / min(low - 2 * middle + high, -1e-9)
        refined = tried(trials[top].numbers + away * step, trials[top].linked.shift, powers)
        return max(refined, trials[top], key=lambda trial: trial.linked.gain)
    return trials[top]
