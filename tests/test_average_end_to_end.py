"""`streamtomo average` as a user runs it: from a simulated tilt series to a structure and what others take over."""

import json
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from _particle_series import written
from _particles import cloud, drawn, symmetric

from streamtomo import averaging_session
from streamtomo.average.turns import angles_between_deg, symmetry
from streamtomo.averaging import Order
from streamtomo.cli import main
from streamtomo.config import Settings
from streamtomo.errors import InputError
from streamtomo.export import star
from streamtomo.export.fiducials import read_model
from streamtomo.export.particles import from_peet_angles, from_relion_angles

PIXEL_A, SIZE, COUNT = 20.0, 224, 16
PARTICLE = symmetric(cloud(np.random.default_rng(5), 260.0, points=45, sigma_A=14.0), 2)
OTHER = PARTICLE._replace(masses=np.where(PARTICLE.xyz_A[:, 2] > 25, 0.0, PARTICLE.masses))
"""It lacks a domain."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished series, the truth about it, and a reference."""
    folder = tmp_path_factory.mktemp("average")
    truth = written(
        folder / "TS_1.mrc",
        PARTICLE,
        count=COUNT,
        size=SIZE,
        pixel_A=PIXEL_A,
        dose=3.0,
        contrast=0.1,
        seed=4,
        drift_px=0.3,
        other=OTHER,
    )
    settings = ["--set", "acquisition.tilt_axis_deg=0", "--set", f"acquisition.pixel_size_A={PIXEL_A}"]
    more = ["--set", "final.position=off", "--set", "specimen.thickness_nm=120"]
    assert main(["finish", "--stack", str(folder / "TS_1.mrc"), "--out", str(folder / "out"), *settings, *more]) == 0
    with mrcfile.new(folder / "reference.mrc") as file:
        file.set_data(drawn(PARTICLE, 32, 15.0, np.eye(3), np.zeros(3)))
        file.voxel_size = 15.0
    return folder, truth


@pytest.fixture(scope="module")
def averaged(finished):
    """The average from particles picked by hand, not very well."""
    folder, truth = finished
    summary = json.loads((folder / "out/TS_1/TS_1_summary.json").read_text())["tomogram"]
    middle = (np.array([summary["nx"], summary["ny"], summary["nz"]]) - 1) / 2
    picks = truth.xyz_px + middle + np.random.default_rng(0).uniform(-1, 1, truth.xyz_px.shape)
    (folder / "picks.csv").write_text("x,y,z\n" + "".join(",".join(map(str, row)) + "\n" for row in picks))
    # the folder of the session stands for its series
    command = ["average", str(folder / "out"), "--out", str(folder / "sta"), "--diameter-nm", "26", "--symmetry", "C2"]
    begin = ["--particles", str(folder / "picks.csv"), "--reference", str(folder / "reference.mrc")]
    options = ["--set", "average.bright_reference=true", "--set", "average.rounds=2", "--set", "average.reach_nm=6"]
    options += ["--set", "average.classes=2"]
    assert main([*command, *begin, *options]) == 0
    return folder / "sta", truth, middle


def test_halves_agree_and_files_tell(averaged):
    folder, _, _ = averaged
    summary = json.loads((folder / "average.json").read_text())
    assert summary["resolution_A"] < 65
    assert summary["warnings"] == []
    with mrcfile.open(folder / "average.mrc") as file:
        assert file.voxel_size.x == pytest.approx(PIXEL_A)
        assert file.data[11, 11, 11] < -0.5 * file.data.std()
    curve = np.loadtxt(folder / "fsc.txt")
    assert curve[0, 2] > 0.95
    assert not list(folder.glob("*.part"))
    assert "Å (0.143)" in (folder / "average_report.html").read_text()


def test_relion_is_told_the_true_poses(averaged):
    folder, truth, _ = averaged
    table = star.read(folder / "particles.star")["particles"]
    xyz = np.stack([star.numbers(table[f"rlnCenteredCoordinate{axis}Angst"]) for axis in "XYZ"], axis=1) / PIXEL_A
    turns = from_relion_angles(np.stack([star.numbers(table[f"rlnAngle{a}"]) for a in ("Rot", "Tilt", "Psi")], axis=1))
    offset = np.median(xyz - truth.xyz_px[cKDTree(truth.xyz_px).query(xyz)[1]], axis=0)  # where the series lies
    distance, which = cKDTree(truth.xyz_px + offset).query(xyz)
    assert np.median(distance) < 1.5
    off = np.min([angles_between_deg(turns, truth.turns[which] @ twin) for twin in symmetry("C2")], axis=0)
    assert np.median(off) < 6  # handed, and in the reference's own frame
    assert star.read(folder / "tomograms.star")["global"]["rlnTomoName"] == ["TS_1"]
    assert star.read(folder / "optimisation_set.star")[""]["rlnTomoParticlesFile"] == [str(folder / "particles.star")]


def test_classes_are_the_two_kinds_that_there_are(averaged):
    folder, truth, _ = averaged
    table = star.read(folder / "particles.star")["particles"]
    xyz = np.stack([star.numbers(table[f"rlnCenteredCoordinate{axis}Angst"]) for axis in "XYZ"], axis=1) / PIXEL_A
    kind = cKDTree(truth.xyz_px).query(xyz)[1] % 2
    found = np.array(star.numbers(table["rlnClassNumber"])) == 2
    assert max(np.mean(found == kind), np.mean(found != kind)) > 0.85
    assert all((folder / f"class{number}.mrc").exists() for number in (1, 2))


def test_an_average_follows_a_session(finished, tmp_path, monkeypatch, capsys):
    folder, _ = finished
    orders, looks = [], iter([[], [Path("a")], [Path("a")], [Path("a"), Path("b")]])

    def averaged(order, settings, known):
        if not (found := averaging_session.series_in(order.series)):
            raise InputError("no particles")
        known["a"] = orders.append(order)
        (tmp_path / "average.mrc").touch()
        told = {"resolution_A": 30.0, "particles": dict.fromkeys(map(str, found), 9), "more": 1}
        (tmp_path / "average.json").write_text(json.dumps(told))

    seen: list[list[Path]] = [[]]
    monkeypatch.setattr(averaging_session, "average", averaged)
    monkeypatch.setattr(averaging_session, "series_in", lambda _: seen[-1])
    with pytest.raises(StopIteration):
        averaging_session.follow(
            Order((folder,), tmp_path, template="sphere"), Settings(), lambda _: seen.append(next(looks))
        )
    assert [order.reference for order in orders] == [None, tmp_path / "average.mrc"]
    assert [line.split()[1:] for line in (tmp_path / "average_history.txt").read_text().splitlines()] == [
        ["1", "9", "30.00"],
        ["2", "18", "30.00"],
    ]


def test_peet_is_told_the_same(averaged):
    folder, _, middle = averaged
    table = star.read(folder / "particles.star")["particles"]
    xyz = np.stack([star.numbers(table[f"rlnCenteredCoordinate{axis}Angst"]) for axis in "XYZ"], axis=1) / PIXEL_A
    assert read_model(folder / "TS_1.mod").xyz == pytest.approx(xyz + middle + [0.5, 0.5, 0.0], abs=1e-3)
    angles = np.loadtxt(folder / "TS_1_MOTL.csv", delimiter=",", skiprows=1, usecols=(16, 17, 18))
    turns = from_relion_angles(np.stack([star.numbers(table[f"rlnAngle{a}"]) for a in ("Rot", "Tilt", "Psi")], axis=1))
    assert from_peet_angles(angles) == pytest.approx(turns, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--particles", "none.mod", "--diameter-nm", "26"], "none.mod"),
        (["--match", "sphere"], "average.diameter_nm is not set"),
        (["--match", "sphere", "--diameter-nm", "5"], "too small to tell its turn"),
        (
            ["--match", "sphere", "--diameter-nm", "40", "--set", "average.box_px=16"],
            "average.box_px = 16 is too small",
        ),
    ],
)
def test_what_cannot_be_done_is_named(finished, tmp_path, capsys, arguments, told):
    folder, _ = finished
    assert main(["average", str(folder / "out/TS_1"), "--out", str(tmp_path / "sta"), *arguments]) == 1
    assert told in capsys.readouterr().err


def test_a_folder_that_is_no_series_is_named(tmp_path, capsys):
    assert main(["average", str(tmp_path / "TS_9"), "--out", str(tmp_path / "a"), "--match", "sphere"]) == 1
    assert "average.diameter_nm" in capsys.readouterr().err
    arguments = ["--match", "sphere", "--diameter-nm", "20"]
    assert main(["average", str(tmp_path / "TS_9"), "--out", str(tmp_path / "a"), *arguments]) == 1
    assert "TS_9_job.json" in capsys.readouterr().err


def test_particles_are_made_from_the_views_as_they_are_in_the_tomogram(finished):
    from streamtomo.averaging_input import from_tomogram, from_views, read_series

    folder, truth = finished
    series = read_series(folder / "out/TS_1")
    middle = (np.array(series.volume.size_xyz) - 1) / 2
    at = truth.xyz_px[np.linalg.norm(truth.xyz_px, axis=1).argmin()] + middle
    one, other = from_tomogram(series, 24, 6.5)(at), from_views(series, 24, 6.5)(at)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95
