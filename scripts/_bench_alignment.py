"""What the parts of the final alignment cost: beads found in a view, and bundle adjustments of made tracks."""

from __future__ import annotations

import numpy as np
from _bench_table import row, times_ms

from streamtomo.align import bundle
from streamtomo.align.basis import Freedoms
from streamtomo.align.beads import BeadShape, find_candidates
from streamtomo.align.bundle import Poses, Tracks
from streamtomo.align.freedoms import solve_freely

SIDE, SHAPE = 1024, BeadShape(4.6, -1.0)
FREEDOMS = {
    "shifts, one axis": Freedoms(),
    "tilt and mag smooth, too": Freedoms(axis="smooth", tilt="smooth", mag="smooth"),
}


def tracks(views: int, beads: int, seed: int = 1) -> tuple[Tracks, Poses]:
    """Positions with an error of 0.1 px, one in twenty far off and one in twenty missing; a start 3 px off."""
    rng, tilts = np.random.default_rng(seed), np.linspace(-60, 60, views)
    points = rng.uniform(-1, 1, (beads, 3)) * (0.45 * SIDE, 0.45 * SIDE, 75)
    shift = rng.normal(0, 20, (views, 2))
    truth = Poses(tilts, np.full(views, 12.0), np.ones(views), shift)
    view, point = (a.ravel() for a in np.meshgrid(np.arange(views), np.arange(beads), indexing="ij"))
    xy = bundle.predict(truth, points, view, point) + rng.normal(0, 0.1, (views * beads, 2))
    xy[rng.random(len(xy)) < 0.05] += 15.0
    kept = rng.random(len(xy)) > 0.05
    start = Poses(tilts, np.full(views, 11.0), np.ones(views), shift + rng.normal(0, 3, shift.shape))
    return bundle.make_tracks(view[kept], point[kept], xy[kept]), start


def bench(runs: int) -> None:
    """Print the table."""
    print("\nfinal alignment, ms                                           minimum    median")
    image = np.random.default_rng(1).normal(100, 10, (SIDE, SIDE)).astype(np.float32)
    row(f"bead candidates of one view, {SIDE} x {SIDE}", times_ms(lambda: find_candidates(image, SHAPE), runs))
    for views, beads in ((41, 30), (61, 30), (41, 120)):
        given = tracks(views, beads)
        for name, freedoms in FREEDOMS.items():
            figures = times_ms(lambda given=given, freedoms=freedoms: bundle.solve(*given, freedoms), runs)
            row(f"{views} views, {beads} beads: {name}", figures)
    given = tracks(41, 30)
    row(
        "41 views, 30 beads: freedoms chosen, error foretold", times_ms(lambda: solve_freely(*given), max(2, runs // 3))
    )
