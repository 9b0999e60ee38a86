"""SerialEM's defect lists, and what stands in for bad pixels."""

import numpy as np
import pytest

from streamtomo.correct.defects import SOURCES, Patches, defect_mask, parse_defects

LIST = """CameraSizeX 40
CameraSizeY 30
RotationAndFlip 3
K2Type 1
# a remark
BadColumns 7 8
BadRows 2
PartialBadColumn 20 2 5 9
PartialBadRow 25 1 30 33
BadPixels 1 0 12 29\r
"""


def expected(top_first_rows=30, scale=1):
    mask = np.zeros((30, 40), bool)
    mask[:, 7:9] = True
    mask[2] = True
    mask[5:10, 20:22] = True
    mask[25, 30:34] = True
    mask[0, 1] = mask[29, 12] = True
    return mask


def test_a_list_is_read_and_turned_over():
    defects = parse_defects(LIST)
    assert defects.camera_yx == (30, 40)
    assert parse_defects("\ufeff" + LIST.replace("\n", "\r\n")) == defects
    assert np.array_equal(defect_mask(defects, (30, 40)), expected()[::-1])
    assert np.array_equal(defect_mask(defects, (30, 40), top_first=False), expected())


def test_frames_may_be_finer_or_coarser_than_the_list():
    defects = parse_defects(LIST)
    finer = np.repeat(np.repeat(expected(), 2, axis=0), 2, axis=1)
    assert np.array_equal(defect_mask(defects, (60, 80), top_first=False), finer)
    coarser = expected().reshape(15, 2, 20, 2).any(axis=(1, 3))
    assert np.array_equal(defect_mask(defects, (15, 20), top_first=False), coarser)


def test_what_is_outside_the_usable_area_is_bad():
    defects = parse_defects("CameraSizeX 40\nCameraSizeY 30\nUsableArea 2 3 27 38\n")
    mask = defect_mask(defects, (30, 40), top_first=False)
    assert not mask[2:28, 3:39].any()
    assert (~mask).sum() == 26 * 36
    assert not defect_mask(parse_defects("UsableArea 0 0 0 0\n"), (30, 40)).any()


@pytest.mark.parametrize(
    "line", ["BadPixels 1 2 3", "BadColumns x", "Nonsense 3", "PartialBadRow 1 2 3", "CameraSizeX", "BadRows -2"]
)
def test_a_line_that_is_none_is_named(line):
    with pytest.raises(ValueError, match=line):
        parse_defects(LIST + line)


def test_another_camera_is_refused():
    with pytest.raises(ValueError, match="40 x 30 pixels, the frames have 41 x 30"):
        defect_mask(parse_defects(LIST), (30, 41))
    with pytest.raises(ValueError, match="90"):
        defect_mask(parse_defects(LIST), (40, 30))


def test_stand_ins_are_good_near_and_have_the_noise_of_their_surroundings():
    rng = np.random.default_rng(0)
    mask = defect_mask(parse_defects(LIST), (30, 40))
    mask[10:20, 0:4] = True
    patches = Patches(mask)
    assert patches.sources.shape == (mask.sum(), SOURCES)
    assert not mask.ravel()[patches.sources].any()
    ramp = 100 + 2.0 * np.arange(40)
    total = np.zeros((30, 40))
    noise = []
    for turn in range(64):
        frame = rng.poisson(ramp, (30, 40)).astype(np.float32)
        frame[mask] = 60000
        patches.mend(frame, turn)
        total += frame
        noise.append(frame[mask].std())
    assert np.mean(noise) == pytest.approx(
        np.sqrt(ramp[np.nonzero(mask)[1]].mean() + ramp[np.nonzero(mask)[1]].var()), rel=0.1
    )
    column = total[:, 7].mean() / 64
    assert column == pytest.approx(ramp[7], abs=1.5)


def test_a_wide_band_is_filled_and_a_dead_camera_refused():
    mask = np.zeros((100, 300), bool)
    mask[:, 100:200] = True
    frame = np.ones((100, 300), np.float32)
    frame[mask] = 0
    Patches(mask).mend(frame)
    assert (frame == 1).all()
    with pytest.raises(ValueError, match="% of the camera"):
        Patches(np.ones((10, 10), bool))
    Patches(np.zeros((10, 10), bool)).mend(frame)
