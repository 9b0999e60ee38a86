"""From an aligned stack to the file: both methods, both types, halves; the pictures are the file's own sections."""

import mrcfile
import msgspec
import numpy as np
import pytest

from streamtomo import geometry
from streamtomo.config import Final
from streamtomo.errors import OutputError, SettingsError
from streamtomo.finish import unfinished
from streamtomo.finish.tomogram import INT16_SD, Source, logarithm, write_tomogram
from streamtomo.finish.worker import be_alone
from streamtomo.reconstruct import sirt
from streamtomo.reconstruct.filters import Filtering
from streamtomo.reconstruct.wbp import reconstruct

TILTS = [float(tilt) for tilt in range(-60, 61, 4)]
SHAPE = (24, 150, 90)
"""`(nz, ny, nx)`: the rows are no multiple of a slab's."""
BEADS = [(-20.0, 31.0, 5.0), (14.0, -40.0, -6.0), (25.0, 60.0, 2.0)]


@pytest.fixture(scope="module")
def source():
    """Dark beads at known places, in noise."""
    nz, ny, nx = SHAPE
    rows, columns = np.mgrid[:ny, :nx]
    stack = np.random.default_rng(1).normal(100, 1, (len(TILTS), ny, nx)).astype(np.float32)
    for view, tilt in zip(stack, TILTS, strict=True):
        for u, v in geometry.project(BEADS, tilt):
            dx, dy = columns - geometry.centre(nx) - u, rows - geometry.centre(ny) - v
            view -= 6 * np.exp(-(dx**2 + dy**2) / 8).astype(np.float32)
    return Source(stack, TILTS, nz, 2, 8.0)


def made(tmp_path, source, **settings):
    path, told = tmp_path / "a_rec.mrc", []
    tomogram, pictures, *_ = write_tomogram(path, source, msgspec.structs.replace(Final(), **settings), told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    with mrcfile.open(path) as file:
        data, label = file.data.copy(), bytes(file.header.label[1]).decode()
        assert file.voxel_size.x == pytest.approx(8.0)
        assert float(file.header.rms) == pytest.approx(float(data.std(dtype=np.float64)), rel=1e-3)
    assert data.shape == SHAPE
    assert tomogram.sd == pytest.approx(float(data.std(dtype=np.float64)), rel=1e-3, abs=1e-4)
    return data, pictures, label


@pytest.mark.parametrize("method", ["wbp", "sirt"])
@pytest.mark.parametrize("volume_type", ["int16", "float32"])
def test_beads_are_dark_and_where_they_are(tmp_path, source, method, volume_type):
    data, pictures, label = made(tmp_path, source, method=method, volume_type=volume_type)
    assert data.dtype == volume_type
    assert method.upper() in label
    for x, y, z in BEADS:
        at = np.rint(
            [z + geometry.centre(SHAPE[0]), y + geometry.centre(SHAPE[1]), x + geometry.centre(SHAPE[2])]
        ).astype(int)
        low = np.maximum(at - 4, 0)
        box = data[tuple(slice(a, b + 5) for a, b in zip(low, at, strict=True))]
        found = np.unravel_index(np.argmin(box), box.shape) + low
        assert np.abs(found - at).max() <= 1
    assert pictures["xy"] == pytest.approx(data[12:13].mean(axis=0), rel=1e-5, abs=1e-6)
    assert pictures["xz"] == pytest.approx(data[:, 75:76].mean(axis=1), rel=1e-5, abs=1e-6)
    assert pictures["yz"] == pytest.approx(data[:, :, 45:46].mean(axis=2), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("method", ["wbp", "sirt"])
def test_a_pitched_specimen_lies_flat(tmp_path, source, method):
    """Beads of a specimen that leans by 6° and lies above the tilt axis, at their places in the flat tomogram."""
    pitch, height, stack = 6.0, 4.0, np.full_like(source.stack, 100)
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]]
    for view, tilt in zip(stack, TILTS, strict=True):
        for u, v in geometry.project(np.add(BEADS, (0, 0, height)), tilt, pitch):
            dx, dy = columns - geometry.centre(SHAPE[2]) - u, rows - geometry.centre(SHAPE[1]) - v
            view -= 6 * np.exp(-(dx**2 + dy**2) / 8).astype(np.float32)
    leaning = source._replace(stack=stack, pitch_deg=pitch, height=height)
    data, *_ = made(tmp_path, leaning, method=method)
    for x, y, z in BEADS:
        at = np.array([z, y, x]) + [geometry.centre(side) for side in SHAPE]
        low = np.floor(at).astype(int) - 5
        box = np.clip(-1.0 * data[tuple(slice(a, a + 12) for a in low)], 0, None) ** 2
        found = [np.average(axis, weights=box) + first for axis, first in zip(np.indices(box.shape), low, strict=True)]
        assert np.abs(found - at).max() < 0.25, (method, found, at)


def test_integers_are_the_density_scaled_as_the_label_says(tmp_path, source):
    data, _, label = made(tmp_path, source)
    scale, offset = (float(part) for part in label.split("density *")[1].replace("\0", "").split("+"))
    density = reconstruct(source.stack, TILTS, SHAPE[0], filtering=Filtering(0.35, 0.05), exact=True)
    expected = np.concatenate([slab for _, slab in density]).transpose(1, 0, 2) * scale + offset
    assert np.abs(data - expected).std() < 0.02 * INT16_SD
    assert np.clip(np.abs(expected), 0, 32767).std() > INT16_SD / 4


def test_a_filter_as_of_sirt_smooths(tmp_path, source):
    sharp, _, _ = made(tmp_path, source, volume_type="float32")
    smooth, _, label = made(tmp_path, source, volume_type="float32", sirt_like=5)
    rough = [float(np.diff(one, axis=2).std() / one.std()) for one in (smooth, sharp)]
    assert rough[0] < 0.8 * rough[1]
    assert "WBP like SIRT 5" in label


def test_a_broken_tomogram_is_not_left_behind(tmp_path, source, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(OutputError, match="No space left"):
        write_tomogram(tmp_path / "a_rec.mrc", source, Final(), lambda done: None)
    assert list(tmp_path.iterdir()) == []


def test_the_logarithm_makes_absorption_add_up():
    once = np.exp(-np.random.default_rng(1).uniform(0, 2, (1, 5, 7))).astype(np.float32) * 100
    twice = once * once / 100
    assert 2 * (logarithm(once) - np.log(100)) == pytest.approx(logarithm(twice) - np.log(100), abs=1e-4)
    hole = once.copy()
    hole[0, 0, 0] = 0.0
    assert np.isfinite(logarithm(hole)).all()
    assert (logarithm(-once) == -once).all()


@pytest.mark.parametrize(("volume_type", "log"), [("int16", False), ("float32", False)])
def test_a_turned_specimen_comes_out_flat_and_in_the_middle(tmp_path, volume_type, log):
    """Views of a slab that is pitched, pre-tilted and lies high: the tomogram is that of the slab lying flat."""
    pitch, offset, height = 6.0, -9.0, 14.0
    nz, ny, nx = SHAPE
    rows, columns = np.mgrid[:ny, :nx]
    stack = np.random.default_rng(1).normal(100, 1, (len(TILTS), ny, nx)).astype(np.float32)
    holder = (np.array(BEADS) + np.array([0, 0, height])) @ (geometry.rotation_y(offset) @ geometry.rotation_x(pitch)).T
    for view, tilt in zip(stack, TILTS, strict=True):
        for u, v in geometry.project(holder, tilt):
            dx, dy = columns - geometry.centre(nx) - u, rows - geometry.centre(ny) - v
            view -= 6 * np.exp(-(dx**2 + dy**2) / 8).astype(np.float32)
    source = Source(stack, [tilt + offset for tilt in TILTS], nz, 2, 8.0, pitch_deg=pitch, height=height)
    data, _, _ = made(tmp_path, source, volume_type=volume_type, log=log)
    for x, y, z in BEADS:
        at = np.array([z + geometry.centre(nz), y + geometry.centre(ny), x + geometry.centre(nx)])
        low = np.maximum(np.rint(at).astype(int) - 4, 0)
        box = data[tuple(slice(a, b) for a, b in zip(low, low + 9, strict=True))].astype(float)
        found = np.unravel_index(np.argmin(box), box.shape) + low
        assert np.abs(found - at).max() <= 1.0


def test_views_that_are_given_their_noise_are_weighed_by_it(tmp_path, source):
    """A view that was smoothed keeps the weight that it had before."""
    quiet = source._replace(sds=[2.0 * float(view.std()) for view in source.stack])
    loud, _, _ = made(tmp_path, source, volume_type="float32")
    soft, _, _ = made(tmp_path, quiet, volume_type="float32")
    assert soft == pytest.approx(loud / 2, rel=1e-3, abs=1e-3 * float(loud.std()))


class Killed(BaseException):
    """The process is no more."""


def test_a_tomogram_by_sirt_goes_on_where_a_process_ended(tmp_path, source, monkeypatch):
    whole, pictures, _ = made(tmp_path, source, method="sirt")
    path, final = tmp_path / "b_rec.mrc", msgspec.structs.replace(Final(), method="sirt")

    def dies(done):
        if done > 0.5:
            raise Killed

    with monkeypatch.context() as crash:
        crash.setattr("pathlib.Path.unlink", lambda *_, **__: None)  # a process that is killed cleans nothing up
        with pytest.raises(Killed):
            write_tomogram(path, source, final, dies)
    be_alone(tmp_path, "b")
    slices, iterate = [], sirt.iterate
    monkeypatch.setattr(
        sirt, "iterate", lambda of, views, *a, **k: slices.append(views.shape[1]) or iterate(of, views, *a, **k)
    )
    again = write_tomogram(path, source, final, lambda done: None)
    assert 0 < sum(slices[2:]) < SHAPE[1], "beside the samples for plateau and scale, only what was missing"
    with mrcfile.open(path) as file:
        assert (file.data == whole).all()
        assert float(file.header.rms) == pytest.approx(float(whole.std(dtype=np.float64)), rel=1e-3)
    for plane, picture in again.sections.items():
        assert (picture == pictures[plane]).all()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a_rec.mrc", "b_rec.mrc"]


def test_what_is_left_of_something_else_is_made_anew(tmp_path):
    path = tmp_path / "b_rec.mrc"
    (tmp_path / "b_rec.mrc.part").touch()
    unfinished.note(path, "this", 64)
    assert unfinished.rows_done(path, "this") == 64
    assert unfinished.rows_done(path, "that") == 0
    assert unfinished.rows_done(path, "this") == 0, "it is forgotten"


def test_what_is_known_of_the_specimen_is_kept_to(tmp_path, source):
    """Beads only darker than their surroundings, and a mask."""
    data, _, _ = made(tmp_path, source, method="sirt", sirt_sign="dark", volume_type="float32", sirt_relaxation=1.3)
    assert data.max() == 0.0
    assert data.min() < -0.3
    mask = np.zeros(SHAPE, np.int8)
    mask[4:20, 10:140, 8:80] = 1
    mrcfile.write(tmp_path / "mask.mrc", mask)
    held, _, _ = made(tmp_path, source, method="sirt", sirt_mask=str(tmp_path / "mask.mrc"), volume_type="float32")
    assert (held[mask == 0] == 0).all()
    assert held[mask == 1].std() > 0
    mrcfile.write(tmp_path / "small.mrc", mask[:-2])
    with pytest.raises(SettingsError, match=r"is 90 x 150 x 22 voxels, the tomogram 90 x 150 x 24"):
        made(tmp_path, source, method="sirt", sirt_mask=str(tmp_path / "small.mrc"))
