"""A wrong tilt axis is noticed while the series runs, and the live placements follow the right one."""

import numpy as np
import pytest
from simulated import alignment_error, simulated

from streamtomo import geometry
from streamtomo.align.axis import axis_warning
from streamtomo.align.common_lines import View, better_axis
from streamtomo.align.live import LiveAligner
from streamtomo.config import Align
from streamtomo.model import AlignedView, Alignment

TRUE_DEG = 20.0
TILTS = tuple(range(-48, 49, 4))


def followed(nominal_deg, beads=0, size=512, tilts=TILTS):
    """The aligner after all tilts from the middle outwards, and its error in raw pixels."""
    sample = simulated(beads=beads, size=size, axis=TRUE_DEG, tilts=tilts, dose=4.0)
    aligner, places = LiveAligner(Align(), nominal_deg, 1), {}
    for row in sorted(range(len(tilts)), key=lambda one: abs(tilts[one])):
        view = sample.views[row]
        places[row] = aligner.place(row, view.angle_deg, view.image)
        aligner.accept(row, view.angle_deg, view.image, places[row])
    views = []
    for row in sorted(places):
        xf = geometry.raw_to_aligned(aligner.axis_deg, aligner.shift_of(row))
        flat = (*xf[:, :2].ravel(), *xf[:, 2])
        views.append(AlignedView(index=row, tilt_deg=sample.views[row].angle_deg, xf=flat))
    return aligner, alignment_error(Alignment(method="live", axis_deg=0.0, views=tuple(views)), sample.true)


@pytest.mark.parametrize("off_deg", [8.0, -40.0])
def test_a_wrong_axis_is_replaced_by_the_measured_one(off_deg):
    aligner, error_px = followed(TRUE_DEG + off_deg)
    assert aligner.axis_deg == pytest.approx(TRUE_DEG, abs=1.2)
    assert error_px < 1.5


def test_a_right_axis_stays_as_it_is():
    aligner, error_px = followed(TRUE_DEG)
    assert aligner.axis_deg == TRUE_DEG
    assert error_px < 1.0


def test_of_an_axis_and_its_opposite_the_one_nearer_to_the_nominal_is_told():
    aligner, _ = followed(TRUE_DEG + 172.0)
    assert aligner.axis_deg == pytest.approx(TRUE_DEG + 180.0, abs=1.2)


def test_noise_tells_no_axis():
    rng = np.random.default_rng(1)
    aligner = LiveAligner(Align(), 33.0, 1)
    for index, angle in enumerate(range(-40, 41, 5)):
        image = rng.normal(100, 10, (256, 256)).astype(np.float32)
        aligner.accept(index, float(angle), image, aligner.place(index, float(angle), image))
    assert aligner.axis_deg == 33.0


@pytest.fixture(scope="module")
def dim():
    """Few electrons, no gold, placements known to a few pixels: patches cannot be followed."""
    sample, rng = simulated(beads=0, size=384, axis=TRUE_DEG, tilts=TILTS, dose=0.8), np.random.default_rng(2)
    order = sorted(range(len(TILTS)), key=lambda row: abs(TILTS[row]))
    shifts = {row: np.array(sample.true[row].shift_xy) + rng.normal(0, 2, 2) for row in order}
    return [View(sample.views[row].angle_deg, sample.views[row].image, shifts[row]) for row in order]


@pytest.mark.parametrize("off_deg", [8.0, -8.0, -50.0])
def test_common_lines_tell_the_axis_where_patches_cannot(dim, off_deg):
    assert better_axis(dim, TRUE_DEG + off_deg) == pytest.approx(TRUE_DEG, abs=2.0)


def test_common_lines_say_nothing_against_a_right_axis_nor_of_few_views_or_noise(dim):
    assert [better_axis(dim[:n], TRUE_DEG) for n in (8, 14, 20, 25)] == [None] * 4
    assert better_axis(dim[:8], TRUE_DEG + 8.0) is None
    rng = np.random.default_rng(5)
    noise = [view._replace(image=rng.normal(0, 1, (320, 320)).astype(np.float32)) for view in dim]
    assert better_axis(noise, 33.0) is None


def test_a_nominal_axis_that_is_wrong_or_mirrored_is_told_in_words():
    assert axis_warning(86.5, 85.0) == ""
    assert axis_warning(-94.0, 85.0) == "", "the other end of the same line"
    assert "set acquisition.tilt_axis_deg" in axis_warning(77.0, 85.0)
    assert "mirrored" in axis_warning(12.3, -12.0)
    assert "mirrored" in axis_warning(95.4, 85.0)
