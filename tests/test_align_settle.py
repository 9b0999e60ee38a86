"""The same tilts end at the same places, whatever order they came in."""

import itertools

import numpy as np
import pytest
from simulated import simulated

from streamtomo.align.live import LiveAligner
from streamtomo.align.places import in_frame, own_order
from streamtomo.align.settle import Settling
from streamtomo.config import Align

AXIS, SIZE, N = 20.0, 256, 15
TILTS = tuple(float(t) for t in np.linspace(-48, 48, N))
SYMMETRIC = sorted(range(N), key=lambda i: (abs(TILTS[i]), -TILTS[i]))
ORDERS = {
    "dose-symmetric": SYMMETRIC,
    "reversed": SYMMETRIC[::-1],
    "shuffled": np.random.default_rng(3).permutation(N).tolist(),
}


@pytest.fixture(scope="module")
def views():
    sample = simulated(beads=6, size=SIZE, error_px=0.0, seed=9, tilts=TILTS, dose=4.0)
    return {i: (view.angle_deg, view.image) for i, view in enumerate(sample.views)}


def never():
    return False


def streamed(views, order):
    """Placed as they come, renumbered in that order; then settled, in the frame of what was known."""
    aligner, come = LiveAligner(Align(), AXIS, 1), {}
    for number, i in enumerate(order):
        come[number] = views[i]
        aligner.accept(number, *views[i], aligner.place(number, *views[i]))
    known = {number: aligner.shift_of(number) for number in come}
    found = Settling(Align(), AXIS, 1).shifts(come, never)
    angles = {number: angle for number, (angle, _) in come.items()}
    settled = in_frame(found, known, angles, AXIS)
    return {order[number]: at for number, at in settled.items()}, {order[number]: at for number, at in known.items()}


def apart(one, other):
    """Largest distance of two sets of places in pixels, once the specimen's origin is the same in both."""
    angles = {i: TILTS[i] for i in one}
    for _ in range(3):
        one = in_frame(one, other, angles, AXIS)
    return max(np.hypot(*np.subtract(one[i], other[i])) for i in one)


def test_in_any_order_they_end_at_the_same_places(views):
    settled, known = zip(*(streamed(views, order) for order in ORDERS.values()), strict=True)
    assert all(len(one) == N for one in settled)
    assert max(apart(settled[0], other) for other in settled[1:]) < 0.3
    assert max(apart(known[0], other) for other in known[1:]) > 1.0, "as they came they were not"


def test_stream_is_batch_and_it_may_be_left_at_any_time(views):
    growing, come = Settling(Align(), AXIS, 1), {}
    looks = itertools.cycle([False] * 6 + [True])
    for number, i in enumerate(ORDERS["shuffled"]):
        come[i] = views[i]
        if number % 5 == 0:
            growing.shifts(come, lambda: next(looks))
    assert growing.shifts(come, never) == Settling(Align(), AXIS, 1).shifts(views, never)


def test_a_view_that_nothing_recognises_is_told_nowhere_and_moves_no_other(views):
    noise = np.random.default_rng(1).normal(100, 10, (SIZE, SIZE)).astype(np.float32)
    some = {i: views[i] for i in SYMMETRIC[:7]}
    found = Settling(Align(), AXIS, 1).shifts({**some, 99: (1.0, noise)}, never)
    assert found == Settling(Align(), AXIS, 1).shifts(some, never)


def test_repeated_angles_keep_the_order_in_which_they_came():
    assert own_order({7: 3.0, 2: 0.0, 5: -3.0, 4: 3.0, 9: 0.0}) == [2, 9, 5, 4, 7]


def test_where_the_lowest_tilt_is_the_odd_one_the_others_begin_without_it(views):
    lowest = own_order({i: angle for i, (angle, _) in views.items()})[0]
    rng = np.random.default_rng(2)
    image = rng.normal(100, 10, (SIZE, SIZE)).astype(np.float32)
    strange = {**views, lowest: (views[lowest][0], image)}
    found = Settling(Align(), AXIS, 1).shifts(strange, never)
    assert set(found) == set(views) - {lowest}
    alone = Settling(Align(), AXIS, 1).shifts({i: view for i, view in views.items() if i != lowest}, never)
    assert apart(found, alone) < 0.01
