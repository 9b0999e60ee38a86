"""The least error of an alignment by beads that the electrons allow, for a simulated series: the Cramér-Rao bound.

Each electron that passes or misses a bead tells a little of where the bead is: the Fisher information of a bead's
position is the sum over the pixels of `(d rate / d x)^2 / rate`, the rate being what the simulated lens makes of one
bead in bare ice, in electrons. Positions known so well are carried through the true geometry to the probe points, the
free parameters being a shift a view, one axis angle, the beads' positions, and tilt angles and magnifications where the
microscope erred in them; the motion of the specimen as a whole is taken out, as it is of an error (`_truth`).
"""

from __future__ import annotations

import numpy as np
import scipy.fft as fft
from _truth import TrueView, probe_grid

from streamtomo.align.basis import Freedoms, basis_of
from streamtomo.align.expected import expected_errors, root_of_inverse
from streamtomo.align.poses import Poses, jacobian
from streamtomo.simulate.optics import Optics, exit_spectrum, intensity
from streamtomo.simulate.specimen import Projection, add_ball

Array = np.ndarray

CANVAS = 128
"""Pixels to a side of the image of one bead."""
OFFSETS = (0.0, 0.25, 0.5)
"""Where in a pixel a bead may lie: information is the mean over these."""


def bound(truth: dict, order: list[int], true: list[TrueView]) -> float | None:
    """RMS error of the probe points in the views `order`, raw pixels; None without gold, or if parts of it move."""
    if not truth["beads_px"] or truth.get("waves"):
        return None
    (ny, nx), views = truth["shape_yx"], [truth["views"][index] for index in order]
    beads, poses = np.array(truth["beads_px"]), poses_of(true, (nx, ny))
    free = Freedoms(
        tilt="each" if truth["motion"]["tilt_error_deg"] else "fixed",
        mag="each" if truth["motion"]["mag_change"] else "fixed",
        beam="one" if truth.get("beam_tilt_deg") else "fixed",
    )
    told = np.array([information(truth, view) for view in views])
    root = _root(beads, true, poses, free, told, np.array([nx, ny]) / 2 - _radius_px(truth))
    at = probe_grid(nx, ny, truth["specimen"]["thickness_nm"] * 10 / truth["pixel_size_A"])
    return expected_errors(poses, root, at, np.full(len(order), True)).rms


def poses_of(true: list[TrueView], field: tuple[int, int]) -> Poses:
    """The true views as the solver has them."""
    return Poses(
        tilt_deg=np.array([view.tilt_deg for view in true]),
        axis_deg=np.array([view.axis_deg for view in true]),
        mag=np.array([view.mag for view in true]),
        shift=np.array([(view.shift_x, view.shift_y) for view in true]),
        beam_deg=true[0].beam_deg,
        field=field,
    )


def _radius_px(truth: dict) -> float:
    return truth["specimen"]["bead_nm"] * 5 / truth["pixel_size_A"]


def information(truth: dict, view: dict) -> float:
    """Fisher information of one coordinate of a bead in one view, 1/px²."""
    if view["dark"]:
        return 0.0
    optics = Optics(**truth["optics"]).focused(view["underfocus_um"])
    electrons = truth["electrons_per_pixel"] * view["transmission"]
    seen = [_seen(truth, optics, offset) for offset in OFFSETS]
    return electrons * float(np.mean(seen))


def _seen(truth: dict, optics: Optics, offset: float) -> float:
    """Information of one electron a pixel: mean of x and y."""
    gold, middle = np.zeros((CANVAS, CANVAS), np.float32), CANVAS // 2 + offset
    add_ball(gold, middle, middle, _radius_px(truth), truth["pixel_size_A"] / 10)
    matter = Projection(np.zeros_like(gold), gold)
    rate = intensity(exit_spectrum(matter, optics), optics.transfer(gold.shape, truth["pixel_size_A"])).astype(float)
    spectrum, k = fft.fft2(rate), 2j * np.pi * fft.fftfreq(CANVAS)
    slopes = fft.ifft2(spectrum * k[None]).real ** 2 + fft.ifft2(spectrum * k[:, None]).real ** 2
    return float((slopes / 2 / np.maximum(rate, 1e-6)).sum())


def _root(beads: Array, true: list[TrueView], poses: Poses, free: Freedoms, told: Array, half: Array) -> Array:
    """Root of the covariance of the views' parameters, `(views, m, any)`."""
    n, count = len(true), len(beads)
    view, point = (index.ravel() for index in np.meshgrid(np.arange(n), np.arange(count), indexing="ij"))
    at = np.concatenate([one.raw(beads) for one in true])
    kept = (np.abs(at) < half).all(1) & (told[view] > 0)
    view, point = view[kept], point[kept]
    by_view, by_point = jacobian(poses, beads, view, point)
    basis = basis_of(free, n)
    rows = np.zeros((len(view), 2, n, by_view.shape[2]))
    rows[np.arange(len(view)), :, view] = by_view
    of_views = basis.from_views(rows.reshape(2 * len(view), n, -1).transpose(1, 2, 0)).T
    of_points = np.zeros((len(view), 2, count, 3))
    of_points[np.arange(len(view)), :, point] = by_point
    of_points = of_points.reshape(2 * len(view), -1)
    weight = np.repeat(told[view], 2)[:, None]
    views = of_views.T @ (weight * of_views) + np.diag(1 / basis.prior_sd**2)
    mixed, points = of_views.T @ (weight * of_points), of_points.T @ (weight * of_points) + 1e-8 * np.eye(3 * count)
    return basis.to_views(root_of_inverse(views - mixed @ np.linalg.solve(points, mixed.T)))
