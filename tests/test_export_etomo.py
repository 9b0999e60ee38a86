"""What etomo opens: keys and entries that its own files have, names and sizes that are ours."""

from pathlib import Path

import numpy as np
import pytest

from streamtomo.export import check_imod, etomo, fiducials, imod_coms

FORMATS = Path(__file__).parents[2] / "shared" / "data" / "formats"
SERIES = etomo.Etomo(
    name="TS_1", pixel_nm=0.27, axis_deg=85.3, method="beads", bead_nm=10.0, binning=4, size_xy=(1023, 1440),
    tilts_solved=True, axes_solved=False, mags_solved=False, surfaces=2,
)  # fmt: skip


@pytest.fixture
def written(tmp_path):
    etomo.write(tmp_path, SERIES)
    return tmp_path


def test_the_edf_says_what_the_series_is(written):
    said = check_imod.properties(written / "TS_1.edf")
    assert said["Setup.DatasetName"] == "TS_1"
    assert float(said["Setup.PixelSize"]) == 0.27
    assert float(said["Setup.ImageRotationA"]) == 85.3
    assert said["Setup.AxisA.ExcludeProjections"] == ""
    assert said["ProcessTrack.TomogramGeneration-A"] == said["ProcessTrack.PostProcessing"] == "Complete"


@pytest.mark.skipif(not FORMATS.exists(), reason="the files of other programs are not here")
def test_the_edf_has_keys_that_etomo_s_own_has(written):
    known = check_imod.properties(FORMATS / "etomo" / "TS_001.edf")
    assert set(check_imod.properties(written / "TS_1.edf")) <= set(known)


@pytest.mark.skipif(not FORMATS.exists(), reason="the files of other programs are not here")
def test_align_com_has_entries_that_tiltalign_s_log_names(written):
    words = {line.split("=")[0].strip() for line in (FORMATS / "etomo" / "align.log").read_text().splitlines()}
    ours = (written / "align.com").read_text().split("$xfproduct")[0].splitlines()
    known = words | {"ModelFile", "OutputLocalFile"}
    assert {line.split()[0] for line in ours if line[0] not in "#$"} <= known


def test_each_step_reads_what_the_one_before_it_makes(written):
    said = {path.stem: imod_coms.entries(path) for path in written.glob("*.com")}
    assert said["track"]["ImageFile"] == said["align"]["ImageFile"] == said["prenewst"]["OutputFile"]
    assert said["track"]["OutputModel"] == said["align"]["ModelFile"] == "TS_1.fid"
    assert said["align"]["OutputTransformFile"] == said["align"]["InputFile2"]
    assert float(said["track"]["BeadDiameter"]) == pytest.approx(10 / 0.27, abs=0.01)
    assert (said["align"]["TiltOption"], said["align"]["RotOption"], said["align"]["MagOption"]) == ("5", "-1", "0")


def test_names_that_are_no_ascii_are_written_as_java_reads_them():
    assert "Setup.DatasetName=M\\u00fcsli\n" in etomo.edf(SERIES._replace(name="Müsli"))


def test_a_seed_has_each_bead_once(tmp_path):
    imodmodel = pytest.importorskip("imodmodel")
    found = fiducials.Fiducials(
        view=np.array([0, 1, 1, 1, 2]), point=np.array([0, 0, 2, 1, 2]), xy=np.arange(10.0).reshape(5, 2),
        residual=np.zeros((5, 2)), points=np.zeros((3, 3)),
    )  # fmt: skip
    fiducials.write_seed(tmp_path / "a.seed", found, fiducials.Stack(100, 80, np.zeros((3, 2)), 5.4))
    table = imodmodel.read(tmp_path / "a.seed")
    assert table["z"].tolist() == [1, 1, 1]
    assert sorted(table["x"]) == [52.0, 54.0, 56.0]
    assert fiducials.read_model(tmp_path / "a.seed").size_xy == (100, 80)
