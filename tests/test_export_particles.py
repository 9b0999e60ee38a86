"""Particles for PEET and RELION-5: angles pinned to numbers worked out by hand, positions to corners and middles."""

import numpy as np
import pytest

from streamtomo.errors import InputError
from streamtomo.export import star
from streamtomo.export.fiducials import read_model
from streamtomo.export.particles import (
    MOTL_COLUMNS,
    Aligned,
    Volume,
    from_peet_angles,
    from_relion_angles,
    joined_star,
    model_bytes,
    motive_list,
    particles_star,
    peet_angles,
    read_picks,
    relion_angles,
)

VOLUME = Volume((200, 100, 60), 10.0, 2.0)
XYZ = np.array([(12.25, 30.0, 7.5), (150.0, 80.5, 40.0)])
CORNER = np.array([0.5, 0.5, 0.0])
ANGLES = np.array([(30.0, 20.0, 60.0), (-100.0, 15.0, 90.0)])
OPTICS = {"rlnVoltage": 300.0, "rlnSphericalAberration": 2.7, "rlnAmplitudeContrast": 0.07}


def about(axis, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(3)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    turn[i, i], turn[j, j], turn[i, j], turn[j, i] = c, c, -s, s
    return turn


@pytest.fixture
def aligned():
    return Aligned(XYZ, from_relion_angles(ANGLES), np.array([0.5, 0.25]), np.array([0, 1]), np.array([2, 1]))


def test_peet_turns_the_reference_by_phi_then_theta_then_psi():
    """A quarter about z takes x to y; a quarter about x then takes y to z: phi 90, theta 90 takes x to z."""
    (turn,) = from_peet_angles(np.array([(90.0, 0.0, 90.0)]))
    assert turn @ [1, 0, 0] == pytest.approx([0, 0, 1], abs=1e-12)
    phi, psi, theta = 20.0, -35.0, 50.0
    (turn,) = from_peet_angles(np.array([(phi, psi, theta)]))
    assert turn == pytest.approx(about(2, psi) @ about(0, theta) @ about(2, phi))
    assert peet_angles(turn[None])[0] == pytest.approx([phi, psi, theta])


def test_relion_sees_the_reference_along_rot_and_tilt():
    """Third row of RELION's matrix: the beam is `(sin tilt cos rot, sin tilt sin rot, cos tilt)` in the reference."""
    rot, tilt, psi = 30.0, 60.0, 45.0
    (turn,) = from_relion_angles(np.array([(rot, tilt, psi)]))
    assert turn[2] == pytest.approx([0.75, 0.4330127, 0.5])
    assert turn[0, 2] == pytest.approx(-0.6123724)  # -cos psi sin tilt
    assert turn[1, 2] == pytest.approx(0.6123724)  # sin psi sin tilt
    assert relion_angles(turn[None])[0] == pytest.approx([rot, tilt, psi])
    assert np.linalg.det(turn) == pytest.approx(1)


def test_a_model_counts_from_the_corner_and_comes_back(tmp_path, aligned):
    path = tmp_path / "a.mod"
    path.write_bytes(model_bytes(XYZ, VOLUME, 12.0))
    assert read_model(path).xyz == pytest.approx(XYZ + CORNER)
    (tmp_path / "a_MOTL.csv").write_text(motive_list(aligned))
    picked = read_picks(path, {"TS_1": VOLUME}, only="TS_1")["TS_1"]
    assert picked.xyz == pytest.approx(XYZ)
    assert picked.turns == pytest.approx(aligned.turns, abs=1e-5)


def test_imodmodel_reads_the_model(tmp_path):
    imodmodel = pytest.importorskip("imodmodel")
    path = tmp_path / "a.mod"
    path.write_bytes(model_bytes(XYZ, VOLUME, 12.0))
    assert imodmodel.read(path)[["x", "y", "z"]].to_numpy() == pytest.approx(XYZ + CORNER)
    assert imodmodel.ImodModel.from_file(path).minx.cscale == pytest.approx((10, 10, 10))


def test_a_motive_list_has_its_20_columns(aligned):
    rows = [line.split(",") for line in motive_list(aligned).splitlines()]
    assert rows[0] == list(MOTL_COLUMNS)
    assert all(len(row) == 20 for row in rows)
    assert [rows[2][column] for column in (0, 3, 4, 10, 11, 12, 19)] == ["0.250000", "2", "1", "0", "0", "0", "1"]
    assert [float(rows[1][column]) for column in (16, 17, 18)] == pytest.approx(peet_angles(aligned.turns)[0], abs=1e-4)


def test_relions_positions_count_from_the_middle_in_angstroms(tmp_path, aligned):
    path = tmp_path / "particles.star"
    path.write_text(particles_star({"TS_1": aligned}, {"TS_1": VOLUME}, OPTICS, 5.0))
    table = star.read(path)["particles"]
    assert star.numbers(table["rlnCenteredCoordinateXAngst"])[0] == pytest.approx((12.25 - 99.5) * 10)
    assert star.numbers(table["rlnCenteredCoordinateZAngst"])[1] == pytest.approx((40 - 29.5) * 10)
    assert table["rlnRandomSubset"] == ["1", "2"]
    assert table["rlnClassNumber"] == ["2", "1"]
    picked = read_picks(path, {"TS_1": VOLUME, "TS_2": VOLUME})
    assert list(picked) == ["TS_1"]
    assert picked["TS_1"].xyz == pytest.approx(XYZ)
    assert picked["TS_1"].turns == pytest.approx(aligned.turns, abs=1e-5)


def test_starfile_reads_the_particles(tmp_path, aligned):
    starfile = pytest.importorskip("starfile")
    path = tmp_path / "particles.star"
    path.write_text(particles_star({"TS_1": aligned}, {"TS_1": VOLUME}, OPTICS, 5.0))
    tables = starfile.read(path, always_dict=True)
    assert tables["particles"]["rlnAngleTilt"].tolist() == pytest.approx(ANGLES[:, 1])
    assert float(tables["optics"]["rlnTomoTiltSeriesPixelSize"].iloc[0]) == 5.0


def test_relion_4s_positions_count_pixels_of_the_series(tmp_path):
    path = tmp_path / "a.star"
    columns = {"rlnTomoName": ["TS_1"], "rlnCoordinateX": [200.0], "rlnCoordinateY": [100.0], "rlnCoordinateZ": [60.0]}
    path.write_text(star.render({"": columns}))
    assert read_picks(path, {"TS_1": VOLUME})["TS_1"].xyz[0] == pytest.approx([99.5, 49.5, 29.5])


@pytest.mark.parametrize(
    ("content", "found"),
    [("1,2,3\n4,5,6\n", {"TS_1": 2}), ("series,z,y,x\nTS_2,3,2,1\nTS_1,6,5,4\n", {"TS_1": 1, "TS_2": 1})],
)
def test_tables_are_read_with_and_without_a_head(tmp_path, content, found):
    path = tmp_path / "a.csv"
    path.write_text(content)
    picked = read_picks(path, {"TS_1": VOLUME, "TS_2": VOLUME}, only="TS_1")
    assert {name: len(one.xyz) for name, one in picked.items()} == found
    assert np.concatenate([one.xyz for one in picked.values()])[-1].sum() in (15, 6)


@pytest.mark.parametrize(("name", "content"), [("a.csv", "a,b\n"), ("a.star", "data_\n\nloop_\n_rlnX #1\n1\n")])
def test_what_cannot_be_read_is_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=name):
        read_picks(path, {"TS_1": VOLUME}, only="TS_1")


def test_star_files_are_joined(tmp_path):
    for name in ("TS_1", "TS_2"):
        (tmp_path / name).write_text(star.render({"global": {"rlnTomoName": [name], "rlnTomoSizeX": [4]}}))
    (tmp_path / "both").write_text(joined_star([tmp_path / "TS_1", tmp_path / "TS_2"]))
    assert star.read(tmp_path / "both")["global"]["rlnTomoName"] == ["TS_1", "TS_2"]
