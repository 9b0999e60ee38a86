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
from _particles import cloud, drawn

from streamtomo.average.turns import angles_between_deg
from streamtomo.cli import main
from streamtomo.export import star
from streamtomo.export.fiducials import read_model
from streamtomo.export.particles import from_peet_angles, from_relion_angles

PIXEL_A, SIZE, COUNT = 20.0, 224, 16
PARTICLE = cloud(np.random.default_rng(5), 260.0, sigma_A=14.0)


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
    command = ["average", str(folder / "out/TS_1"), "--out", str(folder / "sta"), "--diameter-nm", "26"]
    begin = ["--particles", str(folder / "picks.csv"), "--reference", str(folder / "reference.mrc")]
    options = ["--set", "average.bright_reference=true", "--set", "average.rounds=2", "--set", "average.reach_nm=6"]
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
    assert np.median(angles_between_deg(turns, truth.turns[which])) < 6  # handed, and in the reference's own frame
    assert star.read(folder / "tomograms.star")["global"]["rlnTomoName"] == ["TS_1"]
    assert star.read(folder / "optimisation_set.star")[""]["rlnTomoParticlesFile"] == [str(folder / "particles.star")]


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
