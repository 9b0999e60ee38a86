"""Points of a specimen, reprojected through each export as its program would, land where the microscope saw them.

The programs' own formulae are written down here again, and the truth is the simulated microscope's.
"""

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from streamtomo import geometry
from streamtomo.export import aretomo, imod, imod_coms, relion, warp
from streamtomo.export.views import Exports, view_of
from streamtomo.model import RawImage
from streamtomo.simulate.pose import View, slab_turn

FORMATS = Path(__file__).parents[2] / "shared" / "data" / "formats"
TILTS = np.arange(-60.0, 61.0, 5.0)
PITCH, OFFSET, HEIGHT = 4.0, -8.0, 13.0
PIXEL_A, AXIS = 2.7, 85.3
POINTS = np.random.default_rng(2).uniform(-1, 1, (25, 3)) * (400, 450, 60)
"""From the tomogram's middle, in the specimen lying flat."""


def raw_truth(points=POINTS):
    """Where the microscope sees them, from the image's middle, `(views, points, 2)`."""
    flat = points + np.array([0, 0, HEIGHT])
    holder = flat @ slab_turn(PITCH, OFFSET).T
    return np.array([microscope(row).raw(holder) for row in range(len(TILTS))])


def microscope(row):
    drift = np.random.default_rng(row).uniform(-40, 40, 2)
    return View(tilt_deg=float(TILTS[row]), axis_deg=AXIS, shift_xy=tuple(drift))


def exports(nx, ny):
    views = []
    for row, tilt in enumerate(TILTS):
        image = RawImage(
            series="TS 1", path=f"/data/some where/tilt_{row}.mrc", nx=nx, ny=ny, angle_deg=float(tilt),
            prior_dose_e_A2=3.0 * row, dose_e_A2=3.0,
        )  # fmt: skip
        xf = geometry.raw_to_aligned(AXIS, microscope(row).shift_xy)
        views.append(view_of(image, xf, float(tilt), offset_deg=OFFSET, pitch_deg=PITCH, height_px=HEIGHT))
    return Exports(
        name="TS_1", views=views, nx=nx, ny=ny, pixel_size_A=PIXEL_A, stack_binning=1, stack="/out/TS_1/TS_1.st",
        tomogram="/out/TS_1/TS_1_rec.mrc", halves=(), tomogram_binning=4.0, size_xyz=(240, 256, 80), voltage_kV=300.0,
        cs_mm=2.7, amplitude_contrast=0.07, thickness_px=222.0, offset_deg=OFFSET, means=[100.0] * len(TILTS),
    )  # fmt: skip


def level(exported):
    return exported._replace(views=[view.level() for view in exported.views])


def turned(points):
    """For programs without an x-axis tilt the specimen keeps its pitch."""
    return points @ geometry.rotation_x(PITCH).T


def loop(path):
    """Rows of the last loop of a star file, by label."""
    labels, rows = [], []
    for line in path.read_text().splitlines():
        if line.startswith("_"):
            labels.append(line.split()[0][1:])
        elif line.strip() and labels and not line.startswith(("#", "data_", "loop_")):
            quoted = line.split('"')
            rows.append([*quoted[0].split(), quoted[1], *quoted[2].split()] if len(quoted) > 1 else line.split())
    return [dict(zip(labels, row, strict=True)) for row in rows]


def about(axis, angle_deg):
    """A right-handed rotation as 4x4."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    matrix = np.eye(4)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def moved(x, y, z=0.0):
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


@pytest.mark.parametrize(("nx", "ny"), [(1024, 960), (1023, 961)])
def test_relion_sees_them_where_they_are(tmp_path, nx, ny):
    """s2 s1 Rz Ry Rx of a centred point, the image's middle being the pixel n // 2."""
    relion.write(tmp_path, exports(nx, ny))
    rows = loop(tmp_path / "relion5" / "tilt_series" / "TS_1.star")
    for row, seen in zip(rows, raw_truth(), strict=True):
        shift = [float(row[f"rlnTomo{axis}ShiftAngst"]) / PIXEL_A for axis in "XY"]
        turn = about("z", float(row["rlnTomoZRot"])) @ about("y", float(row["rlnTomoYTilt"]))
        matrix = moved(nx // 2, ny // 2) @ moved(*shift) @ turn @ about("x", float(row["rlnTomoXTilt"]))
        index = (np.column_stack([POINTS, np.ones(len(POINTS))]) @ matrix.T)[:, :2]
        assert np.abs(index - (seen + np.array([nx - 1, ny - 1]) / 2)).max() < 0.02


def test_relion_is_told_all_it_asks_for(tmp_path):
    relion.write(tmp_path, exports(1024, 960))
    (tomogram,) = loop(tmp_path / "relion5" / "tomograms.star")
    assert tomogram["rlnTomoName"] == "TS_1"
    assert float(tomogram["rlnTomoTiltSeriesPixelSize"]) == PIXEL_A
    assert (int(tomogram["rlnTomoSizeX"]), int(tomogram["rlnTomoSizeZ"])) == (960, 320)
    series = Path(tomogram["rlnTomoTiltSeriesStarFile"])
    assert series == tmp_path / "relion5" / "tilt_series" / "TS_1.star"
    (imported,) = loop(tmp_path / "relion5" / "import" / "tilt_series.star")
    assert len(loop(Path(imported["rlnTomoTiltSeriesStarFile"]))) == len(TILTS)
    rows = loop(series)
    assert rows[3]["rlnMicrographMovieName"] == "/data/some where/tilt_3.mrc"
    assert rows[3]["rlnMicrographName"] == "000004@/out/TS_1/TS_1.st:mrcs"
    assert float(rows[3]["rlnMicrographPreExposure"]) == 9.0


@pytest.mark.skipif(not FORMATS.exists(), reason="the files of other programs are not here")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("import/tilt_series/TS_1.star", "import_TS_01.star"), ("tilt_series/TS_1.star", "aligned_TS_01.star")],
)
def test_relion_s_own_files_have_the_labels_that_we_write(tmp_path, ours, theirs):
    relion.write(tmp_path, exports(1024, 960))
    labels = set(loop(tmp_path / "relion5" / ours)[0])
    known = set(loop(FORMATS / "relion5" / theirs)[0]) | {"rlnMicrographName"}
    assert labels <= known


@pytest.mark.parametrize(("nx", "ny"), [(1024, 960), (1023, 961)])
def test_warp_sees_them_where_they_are(tmp_path, nx, ny):
    """Euler(0, angle, -axis) as RELION defines it, offsets and the image's middle n / 2 in Å."""
    warp.write(tmp_path, level(exports(nx, ny)))
    root = ElementTree.fromstring((tmp_path / "warp" / "TS_1.xml").read_bytes())
    tags = ("Angles", "AxisAngle", "AxisOffsetX", "AxisOffsetY")
    columns = [[float(word) for word in root.find(tag).text.split()] for tag in tags]
    stars = loop(tmp_path / "warp" / "TS_1.tomostar")
    for row, (seen, values) in enumerate(zip(raw_truth(), zip(*columns, strict=True), strict=True)):
        angle, axis, x, y = values
        tilt, psi = math.radians(angle), math.radians(-axis)
        matrix = np.array(
            [
                [math.cos(psi) * math.cos(tilt), math.sin(psi), -math.cos(psi) * math.sin(tilt)],
                [-math.sin(psi) * math.cos(tilt), math.cos(psi), math.sin(psi) * math.sin(tilt)],
            ]
        )
        position_A = PIXEL_A * turned(POINTS) @ matrix.T + (x, y) + PIXEL_A * np.array([nx, ny]) / 2
        assert np.abs(position_A / PIXEL_A - (seen + np.array([nx - 1, ny - 1]) / 2)).max() < 0.02
        assert float(stars[row]["wrpAngleTilt"]) == pytest.approx(-(TILTS[row] + OFFSET), abs=1e-3)
        assert float(stars[row]["wrpAxisOffsetX"]) == pytest.approx(x, abs=1e-3)
    assert len(root.find("MoviePath").text.splitlines()) == len(TILTS)


@pytest.mark.parametrize(("nx", "ny"), [(1024, 960), (1023, 961)])
def test_aretomo_sees_them_where_they_are(tmp_path, nx, ny):
    aretomo.write(tmp_path, level(exports(nx, ny)))
    lines = [line for line in (tmp_path / "TS_1.aln").read_text().splitlines() if not line.startswith("#")]
    for row, (line, seen) in enumerate(zip(lines, raw_truth(), strict=True), start=1):
        section, axis, _, x, y, *_, tilt = (float(word) for word in line.split())
        assert section == row
        t, a = math.radians(tilt), math.radians(axis)
        points = turned(POINTS)
        aligned = np.column_stack([points[:, 0] * math.cos(t) + points[:, 2] * math.sin(t), points[:, 1]])
        turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
        assert np.abs(aligned @ turn.T + (x, y) - seen).max() < 0.1


@pytest.mark.skipif(not FORMATS.exists(), reason="the files of other programs are not here")
def test_an_aln_of_aretomo_s_own_is_read():
    rows = aretomo.read(FORMATS / "aretomo" / "global_no_local.aln")
    assert [row.tilt_deg for row in rows] == pytest.approx(
        list(imod.read_angles(FORMATS / "aretomo" / "global_no_local.tlt")), abs=0.011
    )
    assert rows[0].axis_deg == -95.404
    assert rows[0].shift.tolist() == [9.22, 103.933]


def imod_files(folder, exported, binning=2):
    xfs = [geometry.raw_to_aligned(AXIS, microscope(row).shift_xy) for row in range(len(TILTS))]
    imod.write_transforms(folder / "TS_1.xf", xfs)
    imod.write_angles(folder / "TS_1.tlt", TILTS)
    imod.write_angles(folder / "TS_1.xtilt", [0.0] * len(TILTS))
    tilting = imod_coms.Tilting(
        binning=binning, size_xy=(exported.ny // binning, exported.nx // binning), thickness=200, xaxis_tilt_deg=-PITCH,
        offset_deg=OFFSET, shift_z=HEIGHT, radial=(0.35, 0.05), log=False, sirt_like=0, float_voxels=False,
    )  # fmt: skip
    imod_coms.write(folder, "TS_1", tilting)


def test_imod_sees_them_where_they_are(tmp_path):
    """P_rec = Rx(XAXISTILT) Ry(-OFFSET) P + (SHIFT_x, 0, -SHIFT_z), and the `.xf` from raw to aligned."""
    imod_files(tmp_path, exports(1024, 960))
    said = imod_coms.entries(tmp_path / "tilt.com")
    x, z = (float(word) for word in said["SHIFT"].split())
    there = POINTS - np.array([x, 0, -z])
    specimen = there @ (about("x", float(said["XAXISTILT"])) @ about("y", -float(said["OFFSET"])))[:3, :3]
    for row, seen in enumerate(raw_truth()):
        t = math.radians(np.loadtxt(tmp_path / "TS_1.tlt")[row])
        aligned = np.column_stack([specimen[:, 0] * math.cos(t) + specimen[:, 2] * math.sin(t), specimen[:, 1]])
        a11, a12, a21, a22, dx, dy = np.loadtxt(tmp_path / "TS_1.xf")[row]
        assert np.abs(seen @ np.array([[a11, a12], [a21, a22]]).T + (dx, dy) - aligned).max() < 0.1


def test_all_readers_of_ours_agree(tmp_path):
    exported = exports(1024, 960)
    relion.write(tmp_path, exported)
    warp.write(tmp_path, level(exported))
    aretomo.write(tmp_path, level(exported))
    imod_files(tmp_path, exported)
    by_relion = relion.read(tmp_path / "relion5" / "tilt_series" / "TS_1.star", PIXEL_A, 1024, 960)
    by_warp = warp.read(tmp_path / "warp" / "TS_1.xml", PIXEL_A)
    by_aretomo = aretomo.read(tmp_path / "TS_1.aln")
    by_imod = imod_coms.Projector(tmp_path, "TS_1")
    for row, seen in enumerate(raw_truth()):
        assert np.abs(by_relion[row].project(POINTS) - seen).max() < 0.02
        assert np.abs(by_warp[row].project(turned(POINTS)) - seen).max() < 0.02
        assert np.abs(by_aretomo[row].project(turned(POINTS)) - seen).max() < 0.1
        assert np.abs(by_imod.project(row, POINTS) - seen).max() < 0.1
        assert np.abs(exported.views[row].project(POINTS) - seen).max() < 1e-6
