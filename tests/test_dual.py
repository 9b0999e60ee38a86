"""Two series of one specimen become one tomogram: by name or stated, once both are finished, told and sound."""

import sys

import msgspec
import numpy as np
import pytest

from streamtomo import geometry
from streamtomo.cli import main
from streamtomo.errors import AlignmentError, InputError
from streamtomo.export import mrc
from streamtomo.export.check import check_series
from streamtomo.finish import dual, preview
from streamtomo.finish.dual_record import read_record
from streamtomo.finish.second import Second, seen_from_turned
from streamtomo.finish.state_file import read_state
from streamtomo.finish.steps_volume import lie_of
from streamtomo.finish.work import Work
from streamtomo.restore.match import Match

TURN = 88.0


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """An output folder with both series of a pair, the second of them finished with `dual.combine`."""
    place = tmp_path_factory.mktemp("dual")
    words = (
        f"simulate {place}/scope --dual {TURN} --interval 0 --size 160 --step 6 --tilts 19 --beads 12 --thickness 40"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["streamtomo", "simulate"])
        assert main([*words.split(), "--pitch", "2"]) == 0
    for name in ("TS_01a", "TS_01b"):
        stack = str(place / "scope" / f"{name}.mrc")
        told = ["--set", "acquisition.tilt_axis_deg=85.3", "--set", "dual.combine=auto"]
        assert main(["finish", "--stack", stack, "--out", str(place / "out"), *told]) == 0
    return place / "out"


def work_of(out, name):
    work = Work(dual.read_job(out, name), lambda _: None)
    work.state = read_state(work.folder, name)
    return work


def test_a_pair_is_combined_when_its_second_series_is_finished(out):
    made = read_record(out / "TS_01a", "TS_01a")
    assert (made.first, made.second, made.by) == ("TS_01a", "TS_01b", "beads")
    assert made.turn_deg == pytest.approx(-TURN, abs=0.2)
    assert made.residual_px < 0.3
    assert made.agreement[0] > 0.5
    path = out / "TS_01a" / "TS_01a_dual_rec.mrc"
    assert mrc.shape_of(path) == mrc.shape_of(out / "TS_01a" / "TS_01a_rec.mrc")
    assert check_series(out / "TS_01a", "TS_01a") == []
    assert "combined with TS_01b" in (out / "TS_01a" / "TS_01a_report.html").read_text()
    assert not list((out / "TS_01a").glob("*second*"))
    assert not (out / "TS_01b" / "TS_01b_dual_rec.mrc").exists()


def test_beads_are_dark_where_the_alignment_puts_them_and_where_both_see_them(out):
    a, b, made = work_of(out, "TS_01a"), work_of(out, "TS_01b"), read_record(out / "TS_01a", "TS_01a")
    volume = np.stack(list(mrc.sections(a.path("_dual_rec.mrc"))))
    ours = dual.flat_points(a)
    theirs = dual.flat_points(b) @ np.array(made.matrix).T + made.shift
    for points in (ours, theirs):
        at = np.rint(points[:, ::-1] + (np.array(volume.shape) - 1) / 2).astype(int)
        at = at[((at >= 4) & (at < np.array(volume.shape) - 4)).all(axis=1)]
        assert len(at) >= 6
        assert (volume[tuple(at.T)] < -3 * volume.std()).mean() > 0.9


def test_the_turned_box_is_seen_where_the_second_series_sees_it(out):
    b = work_of(out, "TS_01b")
    match = Match(np.array([[0.03, 1.0, 0.0], [-1.0, 0.03, 0.0], [0, 0, 1.0]]), np.array([4.0, -7, 2]), None, 0.0, 0.0)
    second, lie = Second(b, match, (30, 160, 160)), lie_of(b)
    matrices, middle = seen_from_turned(second, lie)
    point = np.array([11.0, -23.0, 5.0])
    in_first = np.linalg.matrix_power([[0, -1, 0], [1, 0, 0], [0, 0, 1]], second.quarter_turns) @ point
    in_second = np.linalg.solve(match.matrix, in_first - match.shift) + np.array([0, 0, lie.height])
    for matrix, tilt in zip(matrices, lie.tilts_deg, strict=True):
        assert matrix @ (point + middle) == pytest.approx(geometry.project(in_second, tilt, lie.pitch_deg)[0], abs=1e-9)
    volume = np.zeros((3, 5, 7))
    volume[1, 4, 2] = 1
    assert second.in_first(volume)[tuple(np.argwhere(second.in_first(volume))[0])] == 1


def test_names_tell_pairs(out):
    assert dual.partners("TS_01b", "a b") == dual.partners("TS_01a", "a b") == ("TS_01a", "TS_01b")
    assert dual.partners("TS_01", "a b") is None
    assert dual.partners("lam_x2", "_x1 _x2") == ("lam_x1", "lam_x2")
    assert dual.pairs_in(out, "a b") == [("TS_01a", "TS_01b")]


def test_the_verb_says_what_is_missing_and_what_was_stated_wrongly(out, capsys):
    assert main(["combine", "TS_09a", "--out", str(out)]) == 1
    assert main(["combine", "TS_01", "--out", str(out)]) == 1
    assert main(["combine", "TS_01a", "TS_01b", "--turn", "0", "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert all(words in said for words in ("TS_09a", "neither of the suffixes", "do not match", "dual.turn_deg"))
    job = dual.read_job(out, "TS_01b")
    absent = msgspec.structs.replace(job, folder=str(out / "TS_02a"), series="TS_02a")
    with pytest.raises(InputError, match="is not finished"):
        dual.combine(absent, job, lambda _: None)


def test_the_wrong_hand_of_one_axis_is_told(out):
    a, b = work_of(out, "TS_01a"), work_of(out, "TS_01b")
    solved = msgspec.json.decode(b.state["solve"].product)
    solved["points"] = (-np.array(solved["points"])).tolist()
    b.state["solve"] = msgspec.structs.replace(b.state["solve"], product=msgspec.Raw(msgspec.json.encode(solved)))
    with pytest.raises(AlignmentError, match="180° off"):
        dual.find_match(a, b)


def test_a_section_is_previewed(out, capsys):
    assert preview.show(out / "TS_01a", "TS_01a", (), (3, 6), None) == 0
    assert (out / "TS_01a" / "TS_01a_nad_preview.png").stat().st_size > 1000
    assert "the default K" in capsys.readouterr().out
    with pytest.raises(InputError, match="no such file"):
        preview.show(out / "none", "none", (), (3,), None)


def test_a_tomogram_that_is_made_again_takes_the_combined_one_with_it(out):
    assert (
        main(["finish", "TS_01a", "--out", str(out), "--set", "final.radial_cutoff=0.3", "--set", "dual.combine=off"])
        == 0
    )
    assert not list((out / "TS_01a").glob("*_dual*"))
    assert "combined with" not in (out / "TS_01a" / "TS_01a_report.html").read_text()
