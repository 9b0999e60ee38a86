"""The bundle adjustment on positions measured in real series, beside IMOD's solution of the same positions."""

from pathlib import Path

import numpy as np
import pytest

from streamtomo.align import bundle
from streamtomo.align.freedoms import solve_freely

MEASURED = Path(__file__).parents[2] / "shared" / "data" / "bead-tracks"

pytestmark = pytest.mark.skipif(not MEASURED.is_dir(), reason="the measured bead tracks are not on this machine")


def load(name, nx, ny):
    """Tracks, and a start that knows only the nominal angles, a rough axis, and the middle of each view's beads."""
    rows = np.loadtxt(MEASURED / f"{name}_tracks.tsv", skiprows=2)
    angles, xf = np.loadtxt(MEASURED / f"{name}.rawtlt"), np.loadtxt(MEASURED / f"{name}.xf")
    view, point = rows[:, 1].astype(int), np.unique(rows[:, 0], return_inverse=True)[1]
    tracks = bundle.make_tracks(view, point, rows[:, 5:7] - 0.5 - (np.array([nx, ny]) - 1) / 2)
    middle = np.array([np.median(tracks.xy[view == i], axis=0) for i in range(len(angles))])
    axis = np.degrees(np.arctan2(xf[:, 1], xf[:, 0])).mean()
    start = bundle.Poses(angles, np.full(len(angles), round(axis)), np.ones(len(angles)), middle)
    return tracks, start, axis, np.loadtxt(MEASURED / f"{name}.tlt"), np.hypot(rows[:, 7], rows[:, 8]).mean()


@pytest.mark.parametrize(
    ("name", "nx", "ny", "axis_within", "tilt_within"),
    [("BBa", 512, 512, 0.5, 0.15), ("midzone2a", 1950, 1024, 0.5, 0.4)],
)
def test_comes_near_the_reference_solution(name, nx, ny, axis_within, tilt_within):
    tracks, start, axis, tilts, reference = load(name, nx, ny)
    solution = solve_freely(tracks, start).solution
    assert np.hypot(*solution.residuals.T).mean() < reference + 0.01
    assert solution.poses.axis_deg.mean() == pytest.approx(axis, abs=axis_within)
    assert (solution.poses.tilt_deg - tilts).std() < tilt_within
