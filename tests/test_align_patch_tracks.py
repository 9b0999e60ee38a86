"""Patches followed live: against the truth of simulated series, in any order, with views taken back."""

import numpy as np
import pytest
from simulated import simulated

from streamtomo.align import bundle
from streamtomo.align.bundle import Poses
from streamtomo.align.live import LiveAligner
from streamtomo.config import Align

AXIS, SIZE, VIEWS = 20.0, 448, 31
MIDDLE_FIRST = sorted(range(VIEWS), key=lambda i: (abs(i - VIEWS // 2), i))
ORDERS = {"from the middle": MIDDLE_FIRST, "one way": list(range(VIEWS))}


def series():
    """Gold on both surfaces of a slab: whole views follow now one, now the other."""
    return simulated(beads=12, size=SIZE, error_px=0.0, seed=9)


def placed(aligner, sample, order):
    found = {}
    for i in order:
        view = sample.views[i]
        placement = aligner.place(i, view.angle_deg, view.image)
        aligner.accept(i, view.angle_deg, view.image, placement)
        found[i] = (placement.shift_x, placement.shift_y)
    return found


def error(found, sample):
    """RMS distance to the truth, raw pixels; where the specimen has its origin is free."""
    order = sorted(found)
    true = np.array([sample.true[i].shift_xy for i in order])
    n = len(order)
    tilts, shifts = np.array([sample.views[i].angle_deg for i in order]), np.array([found[i] for i in order])
    poses, views = Poses(tilts, np.full(n, AXIS), np.ones(n), shifts), np.arange(n)
    units = [bundle.predict(poses, unit[None], views, np.zeros(n, np.int64)) - shifts for unit in np.eye(3)]
    design, away = np.stack(units, axis=2).reshape(-1, 3), (true - shifts).ravel()
    left = away - design @ np.linalg.lstsq(design, away, rcond=None)[0]
    return float(np.sqrt(2 * (left**2).mean()))


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_the_drift_of_a_thick_specimen_is_taken_out(order, monkeypatch):
    sample = series()
    followed = error(placed(LiveAligner(Align(), AXIS, 1), sample, order), sample)
    monkeypatch.setattr("streamtomo.align.patch_tracks.LEAST_FOUND", 10_000)
    views_only = error(placed(LiveAligner(Align(), AXIS, 1), sample, order), sample)
    assert followed < 1.2
    assert followed < 0.7 * views_only


def test_a_restart_that_measures_again_goes_on_the_same():
    sample = series()
    through = placed(LiveAligner(Align(), AXIS, 1), sample, MIDDLE_FIRST)
    again = LiveAligner(Align(), AXIS, 1)
    for part in (MIDDLE_FIRST[:12], MIDDLE_FIRST[12:]):
        assert placed(again, sample, part) == {i: through[i] for i in part}


def test_a_view_that_was_not_accepted_leaves_no_trace():
    sample, order = series(), MIDDLE_FIRST[:9]
    expected = placed(LiveAligner(Align(), AXIS, 1), sample, order)
    other = LiveAligner(Align(), AXIS, 1)
    found = placed(other, sample, order[:5])
    other.place(99, 10.0, np.full((SIZE, SIZE), 3.0, np.float32))
    other.place(98, 12.0, sample.views[0].image)
    assert {**found, **placed(other, sample, order[5:])} == expected


def test_a_forgotten_view_is_measured_anew():
    sample, order = series(), MIDDLE_FIRST[:9]
    aligner = LiveAligner(Align(), AXIS, 1)
    found = placed(aligner, sample, order)
    aligner.forget(order[-1])
    view = sample.views[order[-1]]
    again = aligner.place(order[-1], view.angle_deg, view.image)
    assert (again.shift_x, again.shift_y) == pytest.approx(found[order[-1]], abs=0.3)
