"""What we write is what others read: mrcfile and etomofiles are the oracles."""

import errno
import os

import mrcfile
import numpy as np
import pytest

from streamtomo import geometry
from streamtomo.errors import OutputError
from streamtomo.export import imod, mrc


def test_volume_has_its_voxel_size_and_statistics(tmp_path):
    path = tmp_path / "a_rec.mrc"
    with mrc.new_blocks(path, (3, 4, 5), "int16", pixel_size_A=10.8, kind="volume", label="made by a test") as file:
        file.write(0, np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    assert mrcfile.validate(path)
    with mrcfile.open(path) as file:
        assert file.is_volume()
        assert file.voxel_size.z == pytest.approx(10.8)
        assert float(file.header.dmean) == pytest.approx(29.5)
    assert mrc.check_mrc(path, (3, 4, 5)) == []


def test_stack_is_a_stack(tmp_path):
    path = tmp_path / "a_ali.mrc"
    with mrc.new_blocks(path, (3, 4, 5), "float32", pixel_size_A=2.0, kind="stack", label="made by a test") as file:
        file.write(0, np.ones((3, 4, 5), np.float32))
    with mrcfile.open(path) as file:
        assert file.is_image_stack()
    assert "constant" in mrc.check_mrc(path, (3, 4, 5))[0]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    path = tmp_path / "a_rec.mrc"
    with (
        pytest.raises(KeyboardInterrupt),
        mrc.new_blocks(path, (3, 4, 5), "int16", pixel_size_A=1.0, kind="volume", label="x"),
    ):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_named(tmp_path):
    path = tmp_path / "missing" / "a.xf"
    with pytest.raises(OutputError, match=r"a\.xf"):
        imod.write_transforms(path, [geometry.IDENTITY])


def test_transforms_survive_the_round_trip(tmp_path):
    rng = np.random.default_rng(1)
    transforms = [geometry.raw_to_aligned(rng.uniform(-180, 180), rng.normal(0, 50, 2)) for _ in range(5)]
    imod.write_transforms(tmp_path / "a.xf", transforms)
    assert imod.read_transforms(tmp_path / "a.xf") == pytest.approx(np.array(transforms), abs=6e-4)
    assert len((tmp_path / "a.xf").read_text().splitlines()[0]) == 72


def test_etomofiles_reads_our_files(tmp_path):
    etomofiles = pytest.importorskip("etomofiles")
    angles = [-60.0, 0.0, 60.0]
    imod.write_angles(tmp_path / "a.tlt", angles)
    imod.write_transforms(tmp_path / "a.xf", [geometry.raw_to_aligned(85.3, (10.0, -20.0))] * 3)
    assert np.ravel(etomofiles.read_tlt(tmp_path / "a.tlt")) == pytest.approx(angles)
    read = etomofiles.read_xf(tmp_path / "a.xf")
    assert np.asarray(read).reshape(3, -1)[0][-2:] == pytest.approx(
        geometry.raw_to_aligned(85.3, (10.0, -20.0))[:, 2], abs=1e-3
    )


def test_missing_rows_are_found(tmp_path):
    for suffix in (".rawtlt", ".tlt"):
        imod.write_angles(tmp_path / f"a{suffix}", [1.0, 2.0])
    for suffix in (".prexg", ".xf"):
        imod.write_transforms(tmp_path / f"a{suffix}", [geometry.IDENTITY])
    assert imod.check_rows(tmp_path, "a", 2) == ["a.prexg: 1 rows for 2 views", "a.xf: 1 rows for 2 views"]


def test_a_volume_takes_its_room_before_it_is_filled(tmp_path, monkeypatch):
    """On a disk that fills up a memory map would kill the process instead of raising an error."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (
        pytest.raises(OutputError, match="No space left on device"),
        mrc.new_blocks(tmp_path / "v.mrc", (2, 8, 8), "int16", pixel_size_A=1.0, kind="volume", label="x"),
    ):
        pytest.fail("nothing is to be written")


@pytest.mark.parametrize(("dtype", "values"), [("int16", (0, 900)), ("float32", (3e4, 2.0))])
def test_a_volume_written_in_blocks_is_the_volume(tmp_path, dtype, values):
    volume = np.random.default_rng(4).normal(*values, (6, 11, 9)).astype(dtype)
    path = tmp_path / "a_rec.mrc"
    with mrc.new_blocks(path, volume.shape, dtype, pixel_size_A=7.5, kind="volume", label="made by a test") as blocks:
        buffer = np.empty((6, 4, 9), dtype)
        for y0 in (8, 0, 4):
            rows = min(4, 11 - y0)
            buffer[:, :rows] = volume[:, y0 : y0 + rows]
            blocks.write(y0, buffer[:, :rows])
    assert mrcfile.validate(path)
    with mrcfile.open(path) as file:
        assert (file.data == volume).all()
        assert file.voxel_size.x == pytest.approx(7.5)
        assert float(file.header.dmin) == pytest.approx(float(volume.min()))
        assert float(file.header.dmax) == pytest.approx(float(volume.max()))
        assert float(file.header.dmean) == pytest.approx(float(volume.mean(dtype=np.float64)), rel=1e-6)
        assert float(file.header.rms) == pytest.approx(float(volume.std(dtype=np.float64)), rel=1e-4)


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    path = tmp_path / "a_rec.mrc"
    with (
        pytest.raises(OutputError, match="No space left"),
        mrc.new_blocks(path, (3, 4, 5), "int16", pixel_size_A=1.0, kind="volume", label="x") as blocks,
    ):
        blocks.write(0, np.zeros((3, 4, 5), np.int16))
    assert list(tmp_path.iterdir()) == []
