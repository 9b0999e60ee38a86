"""Bead files against imodmodel and the conventions: corners, signs, columns."""

import numpy as np
import pytest

from streamtomo.export.fiducials import Fiducials, Stack, write_fiducials


@pytest.fixture
def written(tmp_path):
    """Two beads in three views of 200 x 100 pixels; the second is missing from the middle one."""
    found = Fiducials(
        view=np.array([2, 0, 1, 0, 2]),
        point=np.array([0, 0, 0, 1, 1]),
        xy=np.array([(12.0, 3.0), (10.0, 1.0), (11.0, 2.0), (-20.5, 30.0), (-22.5, 31.0)]),
        residual=np.array([(0.1, -0.2), (0.0, 0.3), (-0.1, 0.0), (0.25, 0.5), (1.0, 0.0)]),
        points=np.array([(10.5, 2.0, -7.0), (-21.0, 30.5, 8.25)]),
    )
    shifts = np.array([(1.0, 0.0), (2.0, 0.5), (3.0, 1.0)])
    write_fiducials(tmp_path, "a", found, Stack(200, 100, shifts, 10.8))
    return tmp_path


def test_imodmodel_reads_the_model(written):
    imodmodel = pytest.importorskip("imodmodel")
    table = imodmodel.read(written / "a.fid")
    first = table[table["contour_id"] == 0]
    assert first[["x", "y", "z"]].to_numpy() == pytest.approx(
        np.array([(111.0, 51.0, 0), (113.0, 52.5, 1), (115.0, 54.0, 2)])
    )
    assert table[table["contour_id"] == 1]["z"].tolist() == [0, 2]


def test_the_models_transform_has_the_spacing(written):
    imodmodel = pytest.importorskip("imodmodel")
    model = imodmodel.ImodModel.from_file(written / "a.fid")
    assert (model.header.xmax, model.header.ymax, model.header.zmax) == (200, 100, 3)
    assert model.minx.cscale == pytest.approx((10.8, 10.8, 10.8), rel=1e-5)
    assert len(model.objects) == 1


def test_positions_and_residuals_are_columns(written):
    first, second = (written / "afid.xyz").read_text().splitlines()
    assert first.split()[:6] == ["1", "110.50", "52.00", "-7.00", "1", "1"]
    assert "Pix:    10.80000 Dim:   200   100" in first
    assert second.split() == ["2", "79.00", "80.50", "8.25", "1", "2"]
    head, *rows = (written / "a.resid").read_text().splitlines()
    assert head == "5 residuals"
    assert rows[0].split() == ["115.00", "54.00", "2", "0.10", "-0.20"]
    assert not list(written.glob("*.part"))
