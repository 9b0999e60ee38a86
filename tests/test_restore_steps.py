"""The steps as the recipe takes them: settings in, records out, trouble is told and nothing lost."""

import numpy as np
import pytest
from test_restore_ctf import PIXEL_A, flat_focus, series, true_defocus
from test_restore_erase import RADIUS, within
from test_restore_erase import series as gold_series
from test_restore_erase import volume as gold_volume

from streamtomo.config import Ctf, Denoise, Erase
from streamtomo.lens import Microscope
from streamtomo.restore import steps
from streamtomo.restore.denoise import diffuse


def test_the_lens_is_found_and_corrected():
    truth = series(1)
    settings = Ctf(correct="flip", astigmatism=False)
    stack, focus, warnings = steps.lens_step(truth.stack, truth.tilts_deg, PIXEL_A, settings, Microscope())
    assert warnings == ()
    assert np.abs([view.defocus_um for view in focus.views] - true_defocus(truth)).max() < 0.1
    assert stack is not truth.stack
    assert not np.array_equal(stack, truth.stack)


def test_off_only_looks():
    truth = series(1)
    stack, focus, _ = steps.lens_step(truth.stack, truth.tilts_deg, PIXEL_A, Ctf(astigmatism=False), Microscope())
    assert stack is truth.stack
    assert focus is not None


@pytest.mark.parametrize(
    ("setting", "told"), [("auto", ("180 degrees off",)), ("normal", ("ctf.hand = normal, but",)), ("inverted", ())]
)
def test_the_wrong_hand_is_a_warning(setting, told):
    truth = series(-1, astigmatism=0.25)
    _, focus, warnings = steps.lens_step(truth.stack, truth.tilts_deg, PIXEL_A, Ctf(hand=setting), Microscope())
    assert len(warnings) == len(told)
    assert all(words in warning for words, warning in zip(told, warnings, strict=True))
    assert focus.hand == (1 if setting == "normal" else -1)


@pytest.mark.parametrize(
    ("pixel_A", "settings", "told"),
    [
        (40.0, Ctf(correct="flip"), "show no rings of the lens"),
        (5.4, Ctf(correct="flip"), "no rings that tell"),
        (5.4, Ctf(lowest_um=5, highest_um=3), "is not below"),
    ],
)
def test_what_cannot_be_corrected_stays_and_is_told(pixel_A, settings, told):
    stack = np.random.default_rng(0).normal(100, 10, (5, 192, 192)).astype(np.float32)
    result = steps.lens_step(stack, [-20, -10, 0, 10, 20], pixel_A, settings, Microscope())
    assert result.stack is stack
    assert told in result.warnings[0]


def test_gold_that_served_no_alignment_goes_as_well():
    truth = gold_series()
    true = within(truth.beads_px, 2)
    erased, beads = steps.gold_step(
        truth.stack, truth.tilts_deg, 10.8, Erase(), radius_px=RADIUS, solved_xyz=true[:4], volume=gold_volume()
    )
    assert len(beads) == len(true)
    middle = len(truth.stack) // 2
    assert erased.stack[middle].min() > 1.5 * truth.stack[middle].min()
    wide, _ = steps.gold_step(
        truth.stack, truth.tilts_deg, 10.8, Erase(edge_nm=16.2), radius_px=RADIUS, solved_xyz=true
    )
    assert wide.radius_px == pytest.approx(15)


def test_no_gold_at_all_changes_nothing():
    stack = np.random.default_rng(0).normal(100, 10, (3, 64, 64)).astype(np.float32)
    volume = np.random.default_rng(1).normal(size=(20, 64, 64))
    erased, beads = steps.gold_step(
        stack, [-5, 0, 5], None, Erase(), radius_px=4.0, solved_xyz=np.empty((0, 3)), volume=volume
    )
    assert len(beads) == 0
    assert np.array_equal(erased.stack, stack)


def test_diffusion_takes_k_from_the_noise_or_the_settings():
    volume = np.random.default_rng(0).normal(0, 100, (20, 40, 30)).astype(np.int16)
    how, slabs = steps.diffusion_step(volume, Denoise(iterations=6))
    assert np.array_equal(np.concatenate([slab for _, slab in slabs], axis=1), diffuse(volume, how))
    assert steps.diffusion_step(volume, Denoise(iterations=6, k=12.0))[0].k == 12.0


def test_a_focus_is_a_record_that_can_be_written():
    import msgspec

    from streamtomo.restore.ctf import Focus

    focus = flat_focus(3)
    assert msgspec.json.decode(msgspec.json.encode(focus), type=Focus) == focus
