"""The simulated microscope against fixed numbers, its own truth, and the readers of others."""

import argparse
import json

import numpy as np
import pytest
import tifffile
from scipy.spatial.transform import Rotation

from streamtomo import geometry
from streamtomo.correct import defects, gain
from streamtomo.simulate import command, references
from streamtomo.simulate.creep import crept
from streamtomo.simulate.mdoc_text import Shot, rotation_angle, tomo5_axis
from streamtomo.simulate.optics import Optics, graded_intensity, intensity
from streamtomo.simulate.pose import View, path_factor, slab_turn, slope
from streamtomo.simulate.schemes import bidirectional, dose_symmetric, tilt_angles, unidirectional
from streamtomo.simulate.series import Motion, Plan, Series
from streamtomo.simulate.specimen import Recipe
from streamtomo.simulate.writers import CONTAINERS, PATTERNS, open_writer
from streamtomo.watch.images import read_image
from streamtomo.watch.movies import read_frames

SHAPE = (96, 128)
RESTLESS = Motion(beam_tilt_deg=2.0, local_px=4.0, dome_px=10.0)


# -- schemes -------------------------------------------------------------------------------------------------------


def test_dose_symmetric_goes_outward_on_both_sides():
    assert dose_symmetric(tilt_angles(0, 3, 7), 0, 1) == [0, 3, -3, -6, 6, 9, -9]
    assert dose_symmetric(tilt_angles(0, 2, 9), 0, 2) == [0, 2, 4, -2, -4, -6, -8, 6, 8]


def test_bidirectional_and_unidirectional():
    angles = tilt_angles(0, 20, 5)
    assert bidirectional(angles, 0, 1) == [0, 20, 40, -20, -40]
    assert unidirectional(angles, 0, 1) == [-40, -20, 0, 20, 40]


def test_angles_by_count_or_by_limit():
    assert tilt_angles(0, 3, 41) == [float(a) for a in range(-60, 61, 3)]
    assert tilt_angles(10, 30, 99, max_deg=60) == [-50, -20, 10, 40]
    with pytest.raises(ValueError, match="above 0"):
        tilt_angles(0, 0, 5)


# -- geometry: code of its own, the same conventions ---------------------------------------------------------------


@pytest.mark.parametrize("axis", [0.0, 85.3, -12.0, 175.0])
@pytest.mark.parametrize("tilt", [-60.0, 0.0, 35.0])
def test_its_geometry_agrees_with_the_packages(axis, tilt):
    points = np.random.default_rng(1).normal(0, 50, (9, 3))
    here = View(tilt, axis, (4.0, -7.0), 1.02).raw(points)
    there = geometry.apply(geometry.aligned_to_raw(axis, (4.0, -7.0), 1.02), geometry.project(points, tilt))
    assert here == pytest.approx(there)


def test_a_leaning_beam_sees_what_the_package_says():
    points = np.random.default_rng(1).normal(0, 50, (9, 3))
    here = View(35.0, 85.3, (4.0, -7.0), beam_tilt_deg=1.5).raw(points)
    tilt, xtilt, transform = geometry.without_beam_tilt(geometry.aligned_to_raw(85.3, (4.0, -7.0)), 35.0, 1.5)
    assert here == pytest.approx(geometry.apply(transform, geometry.project(points, tilt, xtilt)))


def test_ice_creeps_and_bends_up_with_exposure():
    views = Series(plan(motion=Motion(drift_px=0.0, local_px=3.0, dome_px=8.0))).views
    points = np.random.default_rng(1).uniform(-60, 60, (200, 3))
    still = [View(view.tilt_deg, view.axis_deg) for view in views]
    moved = [np.hypot(*(view.raw(points) - at.raw(points)).T).mean() for view, at in zip(views, still, strict=True)]
    assert moved[0] == 0
    assert 0.1 < moved[1] < moved[3]
    middle = crept(np.zeros((1, 3)), views[3].waves, views[3].settled)[0, 2]
    edge = crept(np.array([[64.0, 64.0, 0.0]]), views[3].waves, views[3].settled)[0, 2]
    assert middle == pytest.approx(8.0 * views[3].settled)
    assert edge == pytest.approx(0.0, abs=1e-6)
    truth = Series(plan(motion=RESTLESS)).truth()
    assert len(truth["waves"]) == len(views[0].waves)


def test_signs_are_those_of_the_conventions():
    assert View(30.0).raw([[0, 0, 10.0]])[0] == pytest.approx((5.0, 0.0)), "what is up goes to +x at positive tilt"
    assert View(0.0, 90.0).raw([[0, 10.0, 0]])[0] == pytest.approx((-10.0, 0.0)), "counter-clockwise"
    assert slab_turn(0, 8)[:, 2] == pytest.approx((np.sin(np.radians(8)), 0, np.cos(np.radians(8))))
    assert path_factor(52.0, 0.0, 8.0) == pytest.approx(2.0), "a pre-tilt adds to the tilt"


def test_axes_in_the_senses_of_the_files():
    assert rotation_angle(85.3) == pytest.approx(175.3)
    assert rotation_angle(175.0) == pytest.approx(-95.0)
    assert tomo5_axis(-5.77) == pytest.approx(-174.23)
    assert rotation_angle(None) is None


# -- images and truth ----------------------------------------------------------------------------------------------


def plan(**changes):
    recipe = changes.pop("recipe", Recipe(thickness_nm=60.0, beads=4))
    defaults = {"angles_deg": (0.0, 30.0, -30.0, 60.0), "shape_yx": SHAPE, "dose_e_A2": 20.0, "recipe": recipe}
    return Plan(**{**defaults, "xrays": 0.0, "hot": 0, "seed": 3, **changes})


def test_the_same_seed_is_the_same_image_whenever_asked():
    first, second = Series(plan()), Series(plan())
    expected = [first.expose(i).image for i in (0, 2)]
    assert (second.expose(2).image == expected[1]).all()
    assert (second.expose(0).image == expected[0]).all()
    assert (Series(plan(seed=4)).expose(0).image != expected[0]).any()


@pytest.mark.parametrize(("axis", "motion"), [(85.3, Motion()), (-12.0, Motion()), (85.3, RESTLESS)])
def test_beads_are_dark_where_the_truth_puts_them(axis, motion):
    series = Series(plan(axis_deg=axis, motion=motion))
    for index, view in enumerate(series.views):
        image = series.electrons(index)
        places = view.raw(series.specimen.beads_nm * 10 / series.plan.pixel_size_A)
        inside = places[(np.abs(places) < np.array(SHAPE[::-1]) / 2 - 6).all(1)]
        assert len(inside)
        for x, y in np.rint(inside + (np.array(SHAPE[::-1]) - 1) / 2).astype(int):
            assert image[y, x] < 0.6 * np.median(image)


def test_electrons_follow_dose_and_path():
    series = Series(plan(recipe=Recipe(thickness_nm=100.0, beads=0, vesicles_per_um2=0.0)))
    beam = 20.0 * 10.8**2
    for index, view in enumerate(series.views):
        expected = beam * np.exp(-100.0 / 320.0 / np.cos(np.radians(view.tilt_deg)))
        assert series.electrons(index).mean() == pytest.approx(expected, rel=0.05)


def test_a_closed_shutter_and_a_grid_bar():
    assert Series(plan(dark=(1,))).electrons(1).max() < 1
    image = Series(plan(axis_deg=0.0, grid_bar_nm=20.0, motion=Motion(drift_px=0.0))).electrons(0)
    assert image[:, :60].mean() > 10 * image[:, 110:].mean()


def test_jumps_last():
    moved = Series(plan(motion=Motion(drift_px=0.0, jumps=((2, 50.0),))))
    shifts = np.array([view.shift_xy for view in moved.views])
    assert np.hypot(*shifts.T) == pytest.approx([0, 0, 50, 50], abs=1e-3)


def test_defects_stay_where_they_are_and_are_in_the_truth():
    series = Series(plan(hot=5, dead=4, dead_columns=1, dead_rows=1, xrays=3.0))
    defects = series.truth()["camera"]
    exposures = [series.expose(index) for index in range(4)]
    for exposure in exposures:
        image = exposure.image
        assert (image[:, list(defects["dead_columns_x"])] == 0).all()
        assert (image[list(defects["dead_rows_y"])] == 0).all()
        assert all(image[y, x] == 0 for x, y in defects["dead_pixels_xy"])
    hits = [hit for exposure in exposures for hit in exposure.xrays if hit["sigma_px"] == 0]
    assert hits


# -- writers -------------------------------------------------------------------------------------------------------


EVERY = [(pattern, kind) for pattern in PATTERNS for kind in CONTAINERS[pattern] if kind != "eer"]


def written(folder, pattern, container, known=True, tilts=3):
    from datetime import datetime

    rng = np.random.default_rng(2)
    images = rng.integers(0, 1000, (tilts, *SHAPE)).astype(np.int16)
    size, axis = (10.8, 85.3) if known else (None, None)
    writer = open_writer(
        pattern, folder, "TS_7", shape_yx=SHAPE, dtype="int16", pixel_size_A=size, axis_deg=axis, container=container
    )
    places = []
    for n, image in enumerate(images):
        shot = Shot(3.0 * n - 3, datetime(2026, 1, 15, 10, 10, n), 3.0 if known else None, 3.0 * n if known else None)
        places.append(writer.write(image, shot))
    writer.close()
    return images, places


@pytest.mark.parametrize(("pattern", "container"), EVERY)
def test_what_is_written_is_read_back(tmp_path, pattern, container):
    images, places = written(tmp_path, pattern, container)
    for image, place in zip(images, places, strict=True):
        assert (read_image(str(place.path), place.section) == image).all()


def test_tiff_has_the_top_row_first(tmp_path):
    images, places = written(tmp_path, "serialem-frames", "tif")
    assert (tifffile.imread(places[0].path) == images[0][::-1]).all()


@pytest.mark.parametrize(("pattern", "name"), [("serialem-stack", "TS_7.mrc.mdoc"), ("tomo5", "TS_7.mdoc")])
def test_mdocfile_reads_the_mdoc(tmp_path, pattern, name):
    mdocfile = pytest.importorskip("mdocfile")
    written(tmp_path, pattern, None)
    table = mdocfile.read(tmp_path / name)
    assert table["TiltAngle"].tolist() == [-3.0, 0.0, 3.0]
    assert table["ExposureDose"].tolist() == [3.0] * 3
    assert table["RotationAngle"].tolist() == pytest.approx([175.3] * 3)


def test_what_is_not_known_is_in_no_file(tmp_path):
    for pattern in PATTERNS:
        folder = tmp_path / pattern
        folder.mkdir()
        written(folder, pattern, None, known=False)
        for path in folder.glob("*.mdoc"):
            text = path.read_text()
            assert "None" not in text
            assert not any(key in text for key in ("PixelSpacing", "RotationAngle", "ExposureDose", "axis angle"))


def test_a_stack_is_committed_by_its_mdoc(tmp_path, monkeypatch):
    """Pixels, main header, extended header, mdoc: in this order for every image."""
    order = []
    writer = open_writer("serialem-stack", tmp_path, "a", shape_yx=SHAPE, dtype="int16", pixel_size_A=1.0, axis_deg=0.0)
    real = writer._put
    monkeypatch.setattr(writer, "_put", lambda offset, data: (order.append(("put", offset)), real(offset, data)))
    monkeypatch.setattr(
        "streamtomo.simulate.stack_writer.add_section", lambda path, z, lines, titles: order.append(("mdoc", z))
    )
    monkeypatch.setattr(
        "streamtomo.simulate.stack_writer.write_slowly", lambda file, data, write_s: order.append(("pixels", len(data)))
    )
    from datetime import datetime

    for _ in range(2):
        writer.write(np.zeros(SHAPE, np.int16), Shot(0.0, datetime(2026, 1, 1)))
    writer.close()
    size = 2 * SHAPE[0] * SHAPE[1]
    assert order == [
        ("pixels", size), ("put", 0), ("put", 1024), ("mdoc", 0),
        ("pixels", size), ("put", 0), ("put", 1034), ("mdoc", 1),
    ]  # fmt: skip


def test_a_serialem_mdoc_has_crlf(tmp_path):
    written(tmp_path, "serialem-stack", "mrc")
    content = (tmp_path / "TS_7.mrc.mdoc").read_bytes()
    assert content.count(b"\n") == content.count(b"\r\n") > 30


def test_what_no_microscope_writes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="mrc or st"):
        written(tmp_path, "serialem-stack", "eer")
    with pytest.raises(ValueError, match="complex64"):
        open_writer("plain", tmp_path, "a", shape_yx=SHAPE, dtype="complex64", pixel_size_A=1.0, axis_deg=0.0)


# -- the command ---------------------------------------------------------------------------------------------------


def parsed(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_series_count_on_and_share_the_camera(tmp_path):
    plans = command.plans(parsed(tmp_path, "--series", 3, "--name", "TS_09", "--tilts", 5))
    assert list(plans) == ["TS_09", "TS_10", "TS_11"]
    assert len({one.seed for one in plans.values()}) == 3
    assert len({one.camera_seed for one in plans.values()}) == 1
    assert command.order(["a", "b"], 2, interleaved=True) == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert command.order(["a", "b"], 2, interleaved=False) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_two_axes_see_one_specimen_turned_in_its_holder(tmp_path):
    planned = command.plans(parsed(tmp_path, "--dual", 88, "--size", 64, "--tilts", 5, "--pitch", 4, "--beads", 1))
    assert list(planned) == ["TS_01a", "TS_01b"]
    a, b = (Series(plan) for plan in planned.values())
    turn = Rotation.from_euler("z", 88, degrees=True).as_matrix()
    assert b.specimen.beads_nm == pytest.approx(a.specimen.beads_nm @ turn.T + b.plan.move_nm, abs=1e-6)
    assert [view.shift_xy for view in a.views] != [view.shift_xy for view in b.views]
    assert b.truth()["turn_deg"] == 88.0
    # What is a pitch about the first axis is a pre-tilt about the second.
    assert slope(0, 4, 0, 90) == pytest.approx(slope(0, 0, 4)[::1], abs=1e-9)
    assert path_factor(30, 4, 0, 90) == pytest.approx(path_factor(30, 0, 4), abs=1e-9)


def test_it_writes_in_pace_with_the_truth_beside(tmp_path):
    waits = []
    options = ("--size", "96x64", "--tilts", 3, "--series", 2, "--interleaved", "--interval", 50, "--dark", "1")
    command.simulate(parsed(tmp_path / "scope", *options), waits.append)
    assert len(waits) == 6
    assert waits[5] == pytest.approx(250, abs=20)
    truth = json.loads((tmp_path / "scope-truth" / "TS_02.json").read_text())
    assert [view["dark"] for view in truth["views"]] == [False, True, False]
    assert truth["views"][2]["file"] == "TS_02.mrc"
    assert [view["section"] for view in truth["views"]] == [0, 1, 2]
    assert truth["shape_yx"] == [64, 96]


@pytest.mark.parametrize("wrong", [("--dark", "9"), ("--step", "0"), ("--container", "eer"), ("--jump", "7:50")])
def test_what_cannot_be_is_told_in_one_line(tmp_path, capsys, wrong):
    assert command.main(parsed(tmp_path / "scope", "--tilts", 5, "--size", "64", *wrong)) == 1
    told = capsys.readouterr().err
    assert told.startswith("streamtomo simulate: ")
    assert len(told.splitlines()) == 1


# -- movies --------------------------------------------------------------------------------------------------------


def test_the_frames_of_a_movie_add_up_to_its_image():
    one = plan(frames=6, hot=0, xrays=0, motion=Motion(drift_px=0.0, frame_drift_px=0.0), gain_spread=0.0)
    series = Series(one)
    frames = np.array(list(series.frame_electrons(1)))
    assert np.allclose(frames.sum(axis=0), series.electrons(1), rtol=2e-3)
    movie = series.expose(1).image
    assert movie.shape == (6, *one.shape_yx)
    assert movie.sum() == pytest.approx(float(frames.sum()), rel=0.01)


def test_the_specimen_moves_through_a_movie():
    series = Series(plan(frames=5, motion=Motion(drift_px=0.0, frame_drift_px=4.0)))
    shifts = series.frame_shifts(0)
    assert np.allclose(shifts.mean(axis=0), 0)
    assert np.hypot(*(shifts[-1] - shifts[0])) == pytest.approx(4.0, abs=1e-6)
    assert series.view_truth(0)["frame_shifts_xy"] == shifts.round(4).tolist()


def test_the_gain_reference_flattens_the_camera():
    one = plan(frames=2, dead_columns=1, dead_rows=1, dead=3, gain_spread=0.1)
    camera = Series(one).camera
    reference = camera.gain_reference()
    assert (reference[:, camera.dead_columns[0]] == 0).all()
    good = reference > 0
    flat = reference[good] * camera.sensitivity[good]
    assert flat.std() < 1e-5 * flat.mean()
    assert reference[good].mean() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", references.GAIN_FILES)
@pytest.mark.parametrize("flip", ["none", "x", "y"])
def test_a_stored_reference_fits_when_it_is_turned_and_mirrored(tmp_path, kind, flip):
    camera = Series(plan(frames=2, gain_spread=0.1)).camera
    references.write_references(tmp_path, camera, kind=kind, rotate=1, flip=flip)
    stored = read_image(tmp_path / f"gain.{kind}")
    turned = gain.orient(stored, gain.Orientation(1, flip))
    assert np.array_equal(turned, camera.gain_reference())


def test_the_defect_list_counts_rows_from_the_top(tmp_path):
    camera = Series(plan(frames=2, dead_columns=2, dead_rows=1, dead=3, hot=2)).camera
    mask = defects.defect_mask(defects.parse_defects(references.defect_list(camera)), camera.shape_yx)
    expected = np.zeros(camera.shape_yx, bool)
    for x, y in (*camera.dead, *camera.hot):
        expected[y, x] = True
    expected[:, list(camera.dead_columns)] = True
    expected[list(camera.dead_rows)] = True
    assert np.array_equal(mask, expected)


def test_movies_go_into_files_of_their_own(tmp_path):
    with pytest.raises(ValueError, match="serialem-frames"):
        command.plans(parsed(tmp_path, "--frames", 4))
    with pytest.raises(ValueError, match="--frames"):
        command.plans(parsed(tmp_path, "--pattern", "tomo5", "--container", "eer"))


@pytest.mark.parametrize("container", ["tif", "mrc"])
def test_a_movie_is_read_back_frame_by_frame(tmp_path, container):
    command.simulate(
        parsed(tmp_path / "out", "--pattern", "serialem-frames", "--container", container, "--frames", 3, "--size", 64,
               "--tilts", 2, "--beads", 0, "--interval", 0, "--gain-file", "tif", "--compression", "zstd"),
        lambda seconds: None,
    )  # fmt: skip
    (first,) = (tmp_path / "out").glob(f"TS_01_000_*.{container}")
    truth = json.loads((tmp_path / "out-truth" / "TS_01.json").read_text())
    frames = np.array(list(read_frames(first)))
    assert frames.shape == (3, 64, 64)
    assert frames.dtype == np.uint8
    electrons = truth["electrons_per_pixel"] * truth["views"][0]["transmission"]
    assert frames.sum(axis=0).mean() == pytest.approx(electrons, rel=0.2)
    mdoc = (tmp_path / "out" / "TS_01.mrc.mdoc").read_text()
    assert "NumSubFrames = 3" in mdoc
    assert {path.name for path in (tmp_path / "out-references").iterdir()} == {"gain.tif", "defects.txt"}


@pytest.mark.parametrize("hand", [1, -1])
def test_what_is_higher_is_less_underfocused(hand):
    optics = Optics(underfocus_um=3.0, gradient=hand)
    rng = np.random.default_rng(0)
    spectrum = np.fft.fft2(np.exp(0.1j * rng.normal(size=(64, 96)))).astype(np.complex64)
    heights = np.tile(np.linspace(-0.8, 0.8, 96).astype(np.float32), (64, 1))
    graded = graded_intensity(spectrum, optics, 6.0, heights)
    for column in (5, 40, 90):
        local = optics.focused(3.0 - hand * float(heights[0, column]))
        expected = intensity(spectrum, local.transfer(spectrum.shape, 6.0))
        assert np.corrcoef(graded[:, column], expected[:, column])[0, 1] > 0.99


def test_a_tilt_of_the_slab_lifts_its_left_side():
    assert slope(30.0, 0.0, 0.0) == pytest.approx((-np.tan(np.radians(30)), 0.0))
    assert slope(10.0, 0.0, 20.0) == pytest.approx(slope(30.0, 0.0, 0.0))
    assert slope(0.0, 15.0, 0.0) == pytest.approx((0.0, np.tan(np.radians(15))))


def test_heights_follow_axis_and_shift():
    plan = Plan((40.0,), (60, 80), axis_deg=90.0, recipe=Recipe(beads=0, scatterers_per_um3=0, proteins_per_um3=0))
    heights = Series(plan)._heights_um(0, (60, 80))
    # The tilt axis lies along -x: across it is along y, and what lies at larger y sinks.
    assert np.ptp(heights, axis=1).max() < 1e-6
    assert np.all(np.diff(heights[:, 0]) < 0)


def test_astigmatism_and_phase_plate_bend_the_rings():
    plain, bent = Optics(cs_mm=0), Optics(cs_mm=0, astigmatism_um=0.5, astigmatism_deg=90.0)
    phases = [np.angle(o.transfer((64, 64), 10.0)) for o in (plain, bent, Optics(cs_mm=0, phase_shift_deg=50.0))]
    k2 = np.fft.fftfreq(64, 10.0) ** 2
    extra = np.pi * plain.wavelength_A * 5000 * k2
    assert np.allclose(np.exp(1j * (phases[1][:, 0] - phases[0][:, 0])), np.exp(1j * extra), atol=1e-3)
    assert np.allclose(np.exp(1j * (phases[1][0] - phases[0][0])), np.exp(-1j * extra), atol=1e-3)
    assert np.allclose(np.exp(1j * (phases[2] - phases[0]))[3, 4:], np.exp(1j * np.radians(50)), atol=1e-3)


def test_the_focus_errs_from_tilt_to_tilt_and_the_truth_tells():
    plan = Plan((0.0, 3.0, 6.0), (32, 32), optics=Optics(focus_error_um=0.3), recipe=Recipe(beads=0))
    series = Series(plan)
    told = [view["underfocus_um"] for view in series.truth()["views"]]
    assert len(set(told)) == 3
    assert told == [series.optics(i).underfocus_um for i in range(3)]
