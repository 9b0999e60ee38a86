"""A pyramid of a tomogram, read back as other programs do: shapes, values, and where each voxel lies."""

import numpy as np
import pytest

from streamtomo.export import mrc, omezarr

zarr = pytest.importorskip("zarr")
SHAPE = (37, 300, 521)


@pytest.fixture
def written(tmp_path):
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    volume = (3 * x + 2 * y - 5 * z).astype(np.int16)  # linear: a mean is the value at the middle of what it is of
    path = tmp_path / "TS_rec.mrc"
    with mrc.new_blocks(path, SHAPE, "int16", pixel_size_A=7.5, kind="volume", label="made by a test") as file:
        file.write(0, volume)
    return omezarr.write(path, voxel_A=7.5, black=-10.0, white=90.0), volume


def test_levels_halve_and_lie_where_they_say(written):
    path, volume = written
    group = zarr.open_group(path, mode="r")
    (scales,) = group.attrs["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == ["z", "y", "x"]
    assert {axis["unit"] for axis in scales["axes"]} == {"angstrom"}
    levels = [group[one["path"]] for one in scales["datasets"]]
    assert [level.shape for level in levels] == [SHAPE, (18, 150, 260), (9, 75, 130)]
    assert np.array_equal(levels[0][:], volume)
    assert {level.dtype for level in levels} == {np.dtype("int16")}
    for one, level in zip(scales["datasets"], levels, strict=True):
        scale, move = (np.array(list(step.values())[1]) for step in one["coordinateTransformations"])
        at = np.array([5, 40, 99])
        z, y, x = (at * scale + move) / 7.5
        assert level[tuple(at)] == pytest.approx(3 * x + 2 * y - 5 * z, abs=1.01)
    assert group.attrs["omero"]["channels"][0]["window"]["end"] == 90.0
    assert list(path.glob("0/*/*/*")), "chunks are in folders, as viewers on the web ask for them"


def test_a_pyramid_of_another_tomogram_is_a_fault(written):
    path, volume = written
    source = path.with_name("TS_rec.mrc")
    assert omezarr.check(path, source) == []
    with mrc.new_blocks(source, SHAPE, "int16", pixel_size_A=7.5, kind="volume", label="another") as file:
        file.write(0, volume + np.int16(1))
    assert "is not that of TS_rec.mrc" in omezarr.check(path, source)[0]
    (path / ".zattrs").write_text("{}")
    assert "cannot be read" in omezarr.check(path, source)[0]
    assert not list(path.parent.glob("*.part"))


def test_a_single_section_stays_one():
    block = np.arange(30, dtype=np.float32).reshape(1, 5, 6)
    assert omezarr.halved(block).shape == (1, 2, 3)
    assert omezarr.halved(block)[0, 0, 0] == pytest.approx((0 + 1 + 6 + 7) / 4)
