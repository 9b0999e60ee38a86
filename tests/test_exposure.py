"""From movies to images: gain, defects, drift and sum, from files; what is kept, and what is warned of."""

import os

import numpy as np
import pytest
import tifffile
from msgspec.structs import replace

from streamtomo import exposure
from streamtomo.config import Acquisition, Movies, Settings
from streamtomo.errors import BadImage, InputError
from streamtomo.exposure import ExposureReader, read_exposure
from streamtomo.model import RawImage
from streamtomo.simulate.mrc import Header
from streamtomo.simulate.references import write_references
from streamtomo.simulate.series import Motion, Plan, Series

NX, NY = 320, 256


@pytest.fixture(scope="module")
def scene():
    """A simulated camera with a pattern, a dead column and dead pixels, and one tilt of a drifting specimen."""
    plan = Plan(
        (0.0, 3.0), (NY, NX), dose_e_A2=0.6, frames=8, gain_spread=0.08, dead_columns=1, dead=4, hot=0, xrays=0,
        dtype="uint8", motion=Motion(frame_drift_px=5.0),
    )  # fmt: skip
    series = Series(plan)
    return series, series.expose(0).image


@pytest.fixture
def folder(tmp_path, scene):
    series, frames = scene
    write_mrc(tmp_path / "a.mrc", frames)
    tifffile.imwrite(tmp_path / "a.tif", frames[:, ::-1], photometric="minisblack", compression="lzw", metadata=None)
    write_references(tmp_path, series.camera)
    return tmp_path


def write_mrc(path, frames):
    head = Header(frames.shape[1:], frames.dtype, 2.0, [], len(frames)).pack()
    path.write_bytes(head + frames.tobytes())


def raw_image(path, frames=8, **more):
    return RawImage(series="a", path=str(path), frames=frames, nx=NX, ny=NY, angle_deg=0.0, pixel_size_A=2.0, **more)


def settings(folder=None, **movies):
    given = {"gain": str(folder / "gain.mrc"), "defects": str(folder / "defects.txt")} if folder else {}
    return Settings(movies=Movies(**{**given, **movies}))


def codes(done):
    return [code for code, _ in done.warnings]


def test_a_movie_becomes_a_flat_and_sharp_image(folder, scene):
    series, frames = scene
    pixels, done = read_exposure(raw_image(folder / "a.tif"), settings(folder))
    assert pixels.shape == (NY, NX)
    assert pixels.dtype == np.float32
    assert (done.frames, done.gain, done.warnings) == (8, str(folder / "gain.mrc"), ())
    true = series.frame_shifts(0)
    assert np.sqrt(((np.array(done.drift_px) - true) ** 2).sum(axis=1).mean()) < 0.35
    assert done.travel_px == pytest.approx(5.0, abs=1.0)
    clean = series.electrons(0)
    ours, plain = (np.abs(one / one.mean() - clean / clean.mean())[8:-8, 8:-8].std() for one in (pixels, frames.sum(0)))
    assert ours < 0.8 * plain


def test_a_tiff_and_an_mrc_of_one_exposure_are_the_same_image(folder):
    one, other = (read_exposure(raw_image(folder / name), settings(folder)).pixels for name in ("a.tif", "a.mrc"))
    assert np.array_equal(one, other)
    upside_down = replace(settings(folder, defects=None), acquisition=Acquisition(flip_tiff_rows=False))
    turned = read_exposure(raw_image(folder / "a.tif"), replace(upside_down, movies=Movies(drift="off")))
    straight = read_exposure(raw_image(folder / "a.tif"), settings(drift="off"))
    assert np.array_equal(turned.pixels, straight.pixels[::-1])


def test_without_drift_it_is_the_plain_sum_times_the_gain(folder, scene):
    series, frames = scene
    pixels, done = read_exposure(raw_image(folder / "a.mrc"), settings(folder, drift="off", defects=None))
    good = series.camera.gain_reference() > 0
    expected = frames.sum(axis=0) * series.camera.gain_reference()
    assert done.drift_px is None
    assert np.allclose(pixels[good], expected[good], rtol=1e-4)
    assert (pixels[~good] > 0).all()  # the zeros of the gain are filled


def test_movies_too_large_to_be_kept_are_read_twice(folder, monkeypatch):
    once = read_exposure(raw_image(folder / "a.tif"), settings(folder))
    monkeypatch.setattr(exposure, "KEEP_BYTES", 3 * NX * NY)
    twice = read_exposure(raw_image(folder / "a.tif"), settings(folder))
    assert np.array_equal(once.pixels, twice.pixels)
    assert once.done == twice.done


# -- sums that are kept ------------------------------------------------------------------------------------------------


def test_a_sum_is_made_once(folder, monkeypatch):
    image, out = raw_image(folder / "a.tif"), folder / "out"
    first = read_exposure(image, settings(folder), out)
    assert len(list((out / "sums").iterdir())) == 2
    monkeypatch.setattr(exposure, "read_frames", None)  # whoever reads frames now fails
    again = read_exposure(image, settings(folder), out)
    assert np.array_equal(first.pixels, again.pixels)
    assert first.done == again.done


@pytest.mark.parametrize("change", ["movie", "gain", "setting", "torn"])
def test_a_sum_is_made_again_when_what_it_is_made_of_changes(folder, change, monkeypatch):
    image, out = raw_image(folder / "a.tif"), folder / "out"
    read_exposure(image, settings(folder), out)
    if change == "torn":
        next((out / "sums").glob("*.json")).write_text("{")
    elif change != "setting":
        os.utime(folder / {"movie": "a.tif", "gain": "gain.mrc"}[change], (1, 1))
    counted = []
    monkeypatch.setattr(exposure.frames, "add", lambda total, frame: counted.append(frame))
    read_exposure(image, settings(folder, gain_apply="multiply") if change == "setting" else settings(folder), out)
    assert len(counted) == 8
    assert len(list((out / "sums").iterdir())) == 2  # what is out of date is gone


def test_where_sums_cannot_be_kept_the_image_is_there_all_the_same(folder):
    (folder / "out").write_text("in the way")
    pixels, done = read_exposure(raw_image(folder / "a.tif"), settings(folder), folder / "out")
    assert pixels.shape == (NY, NX)
    assert codes(done) == ["sums.unkept"]


# -- time --------------------------------------------------------------------------------------------------------------


def test_drift_is_left_out_live_where_tilts_come_too_fast(folder):
    reader, image = ExposureReader(settings(folder)), raw_image(folder / "a.tif")
    assert reader.read(image, interval_s=1e-6).done.drift_px is not None  # the first one tells how long it takes
    hurried = reader.read(image, folder / "out", interval_s=1e-6).done
    assert (hurried.drift_px, codes(hurried)) == (None, ["drift.skipped"])
    assert reader.read(image, interval_s=1000).done.drift_px is not None
    assert read_exposure(image, settings(folder), folder / "out").done.drift_px is not None  # for the final alignment
    assert reader.read(image, folder / "out", interval_s=1e-6).done.drift_px is not None  # which is kept now
    insisting = ExposureReader(settings(folder, drift="on"))
    assert all(insisting.read(image, interval_s=1e-6).done.drift_px for _ in range(2))


# -- what can be wrong -------------------------------------------------------------------------------------------------


def test_what_is_wrong_with_the_references_is_told_and_the_movie_summed(folder):
    image = raw_image(folder / "a.tif")
    tifffile.imwrite(folder / "turned.tif", np.ones((NX, NY), np.float32))
    (folder / "notes.txt").write_text("dear diary\n")
    for given, expected in (
        ({"gain": str(folder / "turned.tif")}, "gain.shape"),
        ({"gain": str(folder / "absent.mrc")}, "gain.unreadable"),
        ({"gain": str(folder / "notes.txt")}, "gain.unreadable"),
        ({"defects": str(folder / "notes.txt")}, "defects.unusable"),
        ({"defects": str(folder / "absent.txt")}, "defects.unusable"),
    ):
        pixels, done = read_exposure(image, settings(folder, drift="off", **given))
        assert pixels.mean() > 1
        assert expected in codes(done)
        assert all(str(folder) in text for _, text in done.warnings)


def test_an_old_gain_is_told(folder):
    os.utime(folder / "gain.mrc", (1e9, 1e9))
    taken = raw_image(folder / "a.tif", acquired_s=1e9 + 40 * 86400.0)
    assert codes(read_exposure(taken, settings(folder)).done) == ["gain.old"]
    assert codes(read_exposure(taken, settings(folder, gain_max_days=50.0)).done) == []


def test_a_turned_gain_is_told_with_what_fits(folder, scene):
    series, _ = scene
    (folder / "b").mkdir()
    write_references(folder / "b", series.camera, rotate=2, kind="gain")
    wrong = settings(folder, gain=str(folder / "b" / "gain.gain"))
    reader = ExposureReader(wrong)
    told = [warning for _ in range(3) for warning in reader.read(raw_image(folder / "a.tif")).done.warnings]
    assert {code for code, _ in told} == {"gain.rotated"}
    assert 'gain_rotate = 2, gain_flip = "none" fits' in told[0][1]
    right = settings(folder, gain=str(folder / "b" / "gain.gain"), gain_rotate=2)
    expected = read_exposure(raw_image(folder / "a.tif"), settings(folder)).pixels
    assert np.array_equal(read_exposure(raw_image(folder / "a.tif"), right).pixels, expected)


def test_a_map_of_defects_will_do(folder, scene):
    series, _ = scene
    mask = (series.camera.gain_reference() == 0).astype(np.uint8)
    tifffile.imwrite(folder / "map.tif", mask[::-1])
    pixels, done = read_exposure(
        raw_image(folder / "a.mrc"), settings(folder, gain=None, defects=str(folder / "map.tif"))
    )
    assert done.defects == mask.sum()
    assert (pixels[mask > 0] > 0).all()


def test_single_images_are_as_they_are_unless_told_otherwise(folder, scene):
    _, frames = scene
    write_mrc(folder / "one.mrc", frames[:1])
    image = raw_image(folder / "one.mrc", frames=1)
    pixels, done = read_exposure(image, settings(folder))
    assert np.array_equal(pixels, frames[0])
    assert (done.gain, done.frames) == (None, 1)
    pixels, done = read_exposure(image, settings(folder, apply_to="all"))
    assert done.gain
    assert pixels.std() < frames[0].std()


def test_a_movie_that_cannot_be_read_is_an_input_error(folder):
    with pytest.raises(BadImage, match="frame 0 is 320 x 256 pixels, its exposure has 256 x 256"):
        read_exposure(replace(raw_image(folder / "a.tif"), nx=NY), settings(folder, gain=None, defects=None))
    whole = (folder / "a.mrc").read_bytes()
    (folder / "a.mrc").write_bytes(whole[:-1000])
    with pytest.raises(InputError):
        read_exposure(raw_image(folder / "a.mrc"), settings(folder))
