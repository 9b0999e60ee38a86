"""Compiles what the final alignment calls."""

from __future__ import annotations

import numpy as np

from streamtomo.align import bead_fit, beads, bundle, tracks


def warmup() -> None:
    """Find and fit one bead, and solve a handful of positions."""
    y, x = np.mgrid[:48, :48] - 23.5
    image = np.where(x**2 + y**2 < 9, 50, 100).astype(np.float32)
    shape = beads.BeadShape(3.0, -1.0)
    candidates = [beads.find_candidates(image, shape)] * 5
    profile = bead_fit.sphere_profile(shape.radius_px)
    fits = bead_fit.fit_beads(image, np.array([[23.0, 24.0]]), profile, shape.sign)
    bead_fit.average_profile([image], [fits], [np.array([True])], len(profile))
    views, points = np.divmod(np.arange(15), 3)
    start = bundle.Poses(np.linspace(-20, 20, 5), np.zeros(5), np.ones(5), np.zeros((5, 2)))
    measured = bundle.make_tracks(views, points, np.random.default_rng(0).normal(0, 9, (15, 2)))
    bundle.expected(measured, start, bundle.solve(measured, start))
    tracks.find_tracks(candidates, start, tracks.Search((48, 48), 3.0, 4.0, 10.0))
