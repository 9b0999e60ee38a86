"""The recipe on a small series: what it leaves, what it does again, what it does after a crash."""

import json
from functools import lru_cache

import mrcfile
import msgspec
import numpy as np
import pytest
from PIL import Image

from streamtomo.cli import main
from streamtomo.config import Ctf, Denoise, Erase, Export, Final, Settings
from streamtomo.errors import AlignmentError, InputError, SettingsError
from streamtomo.export import check_imod, directives, imod, imod_coms, relion
from streamtomo.finish import command, recipe, steps_views, steps_volume
from streamtomo.finish.pages import write_session
from streamtomo.finish.recipe import ALL, FinishJob, JobTilt, Order
from streamtomo.messages import FinishStep
from streamtomo.model import Placement, RawImage, Tilt
from streamtomo.publish import movie
from streamtomo.simulate.series import Motion, Plan, Series
from streamtomo.simulate.specimen import Recipe

TILTS = tuple(float(tilt) for tilt in range(-54, 55, 6))
SIDE, AXIS = 256, 85.3


@lru_cache(maxsize=1)
def exposures():
    """Images `(n, ny, nx)` in an order of acquisition, angles, where the specimen is in each."""
    plan = Plan(
        TILTS[::-1], (SIDE, SIDE), axis_deg=AXIS, recipe=Recipe(thickness_nm=80.0, beads=8, pitch_deg=3.0),
        motion=Motion(drift_px=2.0), seed=4, hot=3, xrays=2,
    )  # fmt: skip
    series = Series(plan)
    images = np.stack([series.expose(index).image for index in range(len(TILTS))])
    return images, series.read_deg, [view.shift_xy for view in series.views]


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "scope" / "TS.mrc"
    path.parent.mkdir()
    with mrcfile.new(path) as file:
        file.set_data(exposures()[0])
        file.set_image_stack()
        file.voxel_size = 10.8
    return path


def job_of(stack, out, settings=None, **fields):
    _, angles, shifts = exposures()
    tilts = [
        JobTilt(
            tilt=Tilt(
                index=n,
                image=RawImage(
                    series="TS", path=str(stack), section=n, nx=SIDE, ny=SIDE, angle_deg=float(angle),
                    dose_e_A2=3.0, prior_dose_e_A2=3.0 * n,
                ),
            ),
            placement=Placement(shift_x=x + 0.5, shift_y=y - 0.3, score=20.0, ambiguity=0.2),
        )
        for n, (angle, (x, y)) in enumerate(zip(angles, shifts, strict=True))
    ]  # fmt: skip
    values = {
        "series": "TS", "folder": str(out), "settings": settings or Settings(), "axis_deg": AXIS, "pixel_size_A": 10.8,
        "tilts": tuple(tilts),
    }  # fmt: skip
    return FinishJob(**{**values, **fields})


def run(job, order=ALL):
    """The result, and the steps that were done."""
    said = []
    done = recipe.run(job, said.append, order)
    steps = [event for event in said if isinstance(event, FinishStep)]
    assert [event.fraction for event in steps] == sorted(event.fraction for event in steps)
    return done, [event.step for event in steps if not event.part and not event.skipped]


def test_a_series_becomes_files_and_is_not_done_twice(tmp_path, stack):
    out = tmp_path / "out" / "TS"
    done, steps = run(job_of(stack, out))
    assert steps == [step.name for step in recipe.STEPS if step.wanted(Settings())]
    assert done.alignment.method == "beads"
    for name in done.files:
        assert (out / name).exists(), name
    assert imod.check_rows(out, "TS", len(TILTS)) == []
    with mrcfile.open(out / "TS.st") as sorted_stack, mrcfile.open(out / "TS_rec.mrc") as volume:
        assert sorted_stack.data.shape == (len(TILTS), SIDE, SIDE)
        assert sorted_stack.data.dtype == np.int16
        assert volume.voxel_size.x == pytest.approx(10.8)
        assert volume.data.shape == (done.tomogram.nz, done.tomogram.ny, done.tomogram.nx)
        assert 80 / 1.08 < done.tomogram.nz < 1.5 * 80 / 1.08
        assert float(volume.data.std()) > 100
    summary = json.loads((out / "TS_summary.json").read_text())
    assert summary["position"]["pitch_deg"] == pytest.approx(3.0, abs=0.5)
    assert summary["dose"].startswith("weighted by dose, up to 56")
    assert summary["contrast"]["black"] < summary["contrast"]["white"]
    again, steps = run(job_of(stack, out))
    assert steps == []
    assert again.alignment == done.alignment
    assert set(again.files) == set(done.files)


def test_the_exports_agree_and_say_what_was_done(tmp_path, stack):
    out = tmp_path / "TS"
    done, _ = run(job_of(stack, out))
    by_imod = imod_coms.Projector(out, "TS")
    by_relion = relion.read(out / "relion5" / "tilt_series" / "TS.star", 10.8, SIDE, SIDE)
    points = np.random.default_rng(1).uniform(-100, 100, (20, 3))
    for row in range(len(by_imod)):
        assert np.abs(by_imod.project(row, points) - by_relion[row].project(points)).max() < 0.1
    said = imod_coms.entries(out / "tilt.com")
    assert int(said["THICKNESS"]) == done.tomogram.nz
    assert float(said["XAXISTILT"]) == pytest.approx(-3.0, abs=0.5)
    found = directives.read(out / "TS.adoc")
    assert "final.align=beads" in found.overrides
    assert "acquisition.pixel_size_A=10.8" in found.overrides
    (gold,) = (float(one.partition("=")[2]) for one in found.overrides if one.startswith("specimen.bead_nm="))
    assert gold == pytest.approx(10, rel=0.25), "found from the data, or IMOD could not repeat it"
    etomofiles = pytest.importorskip("etomofiles")
    table = etomofiles.read(out)
    assert len(table) == len(TILTS)
    assert not table["excluded"].any()
    assert table["image_path"][3] == "TS.st[3]"
    assert table["tlt"].to_numpy() == pytest.approx([view.tilt_deg for view in done.alignment.views], abs=0.006)
    assert table["xaxistilt"][0] == float(said["XAXISTILT"])
    assert table["tilt_axis_angle"][0] == pytest.approx(AXIS, abs=0.1)


def test_a_changed_setting_redoes_just_what_depends_on_it(tmp_path, stack):
    out = tmp_path / "TS"
    first, _ = run(job_of(stack, out))
    kept = (out / "TS_ali.mrc").stat().st_mtime_ns
    job = job_of(stack, out, Settings(final=Final(volume_type="float32", halves=True)))
    assert {step.name: step.why for step in recipe.planned(job)}["reconstruct"] == (
        "changed: final.halves, final.volume_type"
    )
    done, steps = run(job)
    assert steps == ["reconstruct", "trim", "export", "report"]
    assert (out / "TS_ali.mrc").stat().st_mtime_ns == kept
    assert done.alignment == first.alignment
    with mrcfile.open(out / "TS_rec.mrc") as whole, mrcfile.open(out / "TS_odd_rec.mrc") as half:
        assert whole.data.dtype == np.float32
        assert half.data.shape == whole.data.shape
    _, steps = run(job_of(stack, out))
    assert steps == ["reconstruct", "trim", "export", "report"]
    assert not (out / "TS_odd_rec.mrc").exists()


def test_a_crash_goes_on_where_the_files_are_good(tmp_path, stack, monkeypatch):
    out, plain = tmp_path / "TS", tmp_path / "plain" / "TS"
    expected, _ = run(job_of(stack, plain))

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as crash:
        crash.setattr(steps_volume, "write_tomogram", dies)
        with pytest.raises(KeyboardInterrupt):
            run(job_of(stack, out))
    assert not (out / "TS_rec.mrc").exists()
    done, steps = run(job_of(stack, out))
    assert steps == ["reconstruct", "trim", "export", "report"]
    assert done.alignment == expected.alignment
    with mrcfile.open(out / "TS_rec.mrc") as one, mrcfile.open(plain / "TS_rec.mrc") as other:
        assert (one.data == other.data).all()


def test_what_was_deleted_is_made_again_only_where_it_is_needed(tmp_path, stack):
    out = tmp_path / "TS"
    run(job_of(stack, out))
    (out / "TS.st").unlink()
    (out / "TS_ali.mrc").unlink()
    assert run(job_of(stack, out))[1] == []
    job = job_of(stack, out, Settings(final=Final(sirt_like=5)))
    assert run(job)[1] == ["clean", "stack", "reconstruct", "trim", "export", "report"]
    (out / "TS.xf").unlink()
    assert "solve" in run(job)[1]


def test_raw_files_may_be_gone_once_they_were_read(tmp_path, stack):
    out = tmp_path / "TS"
    run(job_of(stack, out))
    stack.unlink()
    assert run(job_of(stack, out))[1] == []
    job = job_of(stack, out, Settings(final=Final(align="patches", sirt_like=5)))
    assert run(job)[1][0] == "track"
    (out / "TS.st").unlink()
    with pytest.raises(AlignmentError, match=r"no usable tilt .*TS\.mrc"):
        run(job_of(stack, out))


def test_a_range_of_steps_can_be_done(tmp_path, stack):
    out = tmp_path / "TS"
    done, steps = run(job_of(stack, out), Order(last="solve"))
    assert done is None
    assert steps == ["collect", "clean", "coarse", "track", "solve"]
    assert not (out / "TS_ali.mrc").exists()
    _, steps = run(job_of(stack, out), Order(first="track", last="position"))
    assert steps == ["track", "solve", "position"]
    with pytest.raises(SettingsError, match="polish is no step"):
        run(job_of(stack, out), Order(first="polish"))


def test_views_that_cannot_be_used_are_missing_from_every_file(tmp_path, stack):
    job = job_of(stack, tmp_path / "TS")
    tilts = list(job.tilts)
    gone = msgspec.structs.replace(tilts[2].tilt.image, path=str(tmp_path / "gone.mrc"))
    tilts[2] = msgspec.structs.replace(tilts[2], tilt=Tilt(index=2, image=gone))
    tilts[5] = msgspec.structs.replace(tilts[5], failure="ice")
    done, _ = run(msgspec.structs.replace(job, tilts=tuple(tilts)))
    table = json.loads((tmp_path / "TS" / "TS_views.json").read_text())
    assert [view["acquired"] for view in table["left_out"]] == [5, 2]
    assert table["left_out"][0]["reason"] == "ice"
    assert "gone.mrc" in table["left_out"][1]["reason"]
    assert imod.check_rows(tmp_path / "TS", "TS", len(TILTS) - 2) == []
    assert len(done.alignment.views) == len(TILTS) - 2
    with mrcfile.open(tmp_path / "TS" / "TS.st", header_only=True) as file:
        assert file.header.nz == len(TILTS) - 2
    empty = tuple(msgspec.structs.replace(one, failure="ice") for one in tilts)
    with pytest.raises(AlignmentError, match="TS: no usable tilt"):
        run(msgspec.structs.replace(job, folder=str(tmp_path / "none"), tilts=empty))


def test_a_large_stack_is_binned_and_its_files_are_in_its_pixels(tmp_path, stack, monkeypatch):
    monkeypatch.setattr(steps_views, "ALIGN_SIDE_PX", 128)
    full, binned = tmp_path / "full" / "TS", tmp_path / "binned" / "TS"
    run(job_of(stack, full))
    done, _ = run(job_of(stack, binned, Settings(final=Final(stack_GB=0.0, binning=2))))
    with mrcfile.open(binned / "TS.st") as file:
        assert file.data.shape == (len(TILTS), 128, 128)
        assert file.voxel_size.x == pytest.approx(21.6)
    for suffix in (".xf", ".prexg"):
        pairs = [imod.read_transforms(folder / f"TS{suffix}") for folder in (full, binned)]
        assert pairs[0][:, :, :2] == pytest.approx(pairs[1][:, :, :2], abs=1e-6)
        assert pairs[0][:, :, 2] / 2 == pytest.approx(pairs[1][:, :, 2], abs=2e-3)
    assert imod_coms.entries(binned / "newst.com")["BinByFactor"] == "1"
    assert done.tomogram.binning == 2
    points = np.random.default_rng(1).uniform(-50, 50, (20, 3))
    by_imod = imod_coms.Projector(binned, "TS")
    assert float(check_imod.properties(binned / "TS.edf")["Setup.PixelSize"]) == pytest.approx(2.16)
    by_relion = relion.read(binned / "relion5" / "tilt_series" / "TS.star", 21.6, 128, 128)
    for row in range(len(by_imod)):
        assert np.abs(by_imod.project(row, points) - by_relion[row].project(points)).max() < 0.1
    run(job_of(stack, binned, Settings(final=Final(stack_GB=0.0, binning=3))))
    assert not (binned / "tilt.com").exists(), "IMOD cannot make it from a stack that is binned by 2"
    assert not (binned / "TS.edf").exists()


# -- by hand -------------------------------------------------------------------------------------------------------


def test_data_collected_elsewhere_are_finished(tmp_path, stack, capsys):
    tilts = tmp_path / "angles.rawtlt"
    tilts.write_text("".join(f"{angle:.2f}\n" for angle in exposures()[1]))
    settings = (f"acquisition.tilt_axis_deg={AXIS}",)
    job = command.job_of_stack(stack, tilts, tmp_path / "out", settings)
    assert (job.series, job.pixel_size_A, job.placed) == ("TS", pytest.approx(10.8), False)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in stack.parent.iterdir())
    assert command.finish(job, ALL, dry_run=True) == 0
    assert not (tmp_path / "out").exists()
    assert command.finish(job, ALL, dry_run=False) == 0
    assert sorted((path.name, path.stat().st_mtime_ns) for path in stack.parent.iterdir()) == before
    assert "FINISHED" in capsys.readouterr().out
    shifts = np.array(exposures()[2])[::-1]
    found = -imod.read_transforms(tmp_path / "out" / "TS" / "TS.prexg")[:, :, 2]
    assert np.abs((found - found[9]) - (shifts - shifts[9])).max() < 8
    again = command.job_of_run(tmp_path / "out", "TS", ("final.log=true",))
    assert {step.name for step in recipe.planned(again) if step.why} == {"reconstruct", "trim", "export", "report"}


def test_a_bead_model_that_was_corrected_is_solved_again(tmp_path, stack):
    out = tmp_path / "TS"
    done, _ = run(job_of(stack, out))
    model = (out / "TS.fid").read_bytes()
    (out / "TS.fid").write_bytes(
        model[: model.rindex(b"CONT")] + model[model.index(b"MINX") :]
    )  # the last bead is no bead
    job = command.with_fiducials(job_of(stack, out), out / "TS.fid")
    again, steps = run(job)
    assert steps[0] == "track"
    assert again.alignment.note == f"{_beads(done) - 1} beads of TS_edited.fid"
    assert len((out / "TSfid.xyz").read_text().splitlines()) == _beads(done) - 1
    for one, other in zip(done.alignment.views, again.alignment.views, strict=True):
        assert one.xf == pytest.approx(other.xf, abs=0.2)
    assert run(job)[1] == []
    assert "track" in run(job_of(stack, out))[1]
    (tmp_path / "no.fid").write_bytes(b"IMOD")
    with pytest.raises(InputError, match="is no binary IMOD model"):
        command.with_fiducials(job, tmp_path / "no.fid")


def _beads(done):
    return int(done.alignment.note.split()[0])


def test_the_command_line_reaches_it_all(tmp_path, stack, capsys):
    out, adoc = tmp_path / "out", tmp_path / "a.adoc"
    adoc.write_text(f"setupset.copyarg.rotation = {AXIS}\ncomparam.align.tiltalign.RotOption = 1\n")
    tilts = tmp_path / "TS.rawtlt"
    tilts.write_text("".join(f"{angle:.2f}\n" for angle in exposures()[1]))
    arguments = ["finish", "--stack", str(stack), "--tilts", str(tilts), "--directives", str(adoc), "--out", str(out)]
    assert main([*arguments, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "collect      to do: not done yet" in said.out
    assert "RotOption is not known here" in said.err
    assert not out.exists()
    assert main([*arguments, "--to", "coarse"]) == 0
    assert (out / "TS" / "TS.prexg").exists()
    assert main(["report", str(out)]) == 0
    assert "begun" in (out / "report.html").read_text()
    assert main(["check", str(out)]) == 1
    assert main(["finish", "--out", str(out)]) == 1
    assert "give the name of a series, or --stack" in capsys.readouterr().err


def test_what_cannot_be_finished_is_said(tmp_path, stack):
    few = tmp_path / "few.rawtlt"
    few.write_text("1\n2\n")
    with pytest.raises(InputError, match="2 angles for 19 sections"):
        command.job_of_stack(stack, few, tmp_path / "out", ())
    few.write_text("one\n")
    with pytest.raises(InputError, match="is no list of angles"):
        command.job_of_stack(stack, few, tmp_path / "out", ())
    with pytest.raises(SettingsError, match="nothing is written"):
        command.job_of_stack(stack, few, stack.parent, ())
    with pytest.raises(InputError, match=r"streamtomo close TS_9"):
        command.job_of_run(tmp_path, "TS_9", ())


def test_a_fault_in_any_export_is_found(tmp_path, stack, capsys):
    out = tmp_path / "out" / "TS"
    run(job_of(stack, out))
    assert command.check(out.parent) == command.check(out) == 0
    for file, old, new in (
        ("TS.aln", " -60", " -61"),
        ("relion5/tilt_series/TS.star", " -54.", " -53."),
        ("warp/TS.xml", "AxisAngle>85", "AxisAngle>84"),
        ("TS.xtilt", "   0.00\n", ""),
        ("TS.rawtlt", "-54", " 54"),
        ("TS.prexg", "1.0000000", "1.1000000"),
        ("TS.tltxf", "\n", " 1\n"),
        ("TSfid.xyz", "\n", "\n   9 1 1 1 1 9\n"),
        ("TS.edf", "PixelSize=1.08", "PixelSize=0.54"),
        ("tilt.com", "IMAGEBINNED\t1", "IMAGEBINNED\t2"),
        ("align.com", "TS.rawtlt", "TS_1.rawtlt"),
        ("TS_views.json", '"row": 1,', '"row": 2,'),
    ):
        path = out / file
        text = path.read_bytes()
        coding = "utf-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        changed = text.decode(coding).replace(old, new, 1)
        if file == "TS.aln":
            changed = changed.replace("   85.", "   84.", 1)
        assert changed != text.decode(coding), file
        path.write_bytes(changed.encode(coding))
        capsys.readouterr()
        assert command.check(out) == 1, file
        assert path.name in capsys.readouterr().out
        path.write_bytes(text)
    assert command.check(out) == 0


def test_pages_are_whole_and_need_nothing_else(tmp_path, stack):
    out = tmp_path / "out"
    run(job_of(stack, out / "TS"))
    (out / "TS_2").mkdir()
    page = (out / "TS" / "TS_report.html").read_text()
    session = write_session(out).read_text()
    for text in (page, session):
        assert text.startswith("<!DOCTYPE html>")
        assert 'src="http' not in text
        assert "<script" not in text
        assert ">nan" not in text
    assert page.count("<figure><img") == 4
    assert page.count('<figure class="plot">') >= 5
    assert "Residuals in the field of view" in page
    assert 'href="TS/TS_report.html"' in session
    assert "finished" in session


def test_a_pyramid_and_a_movie_are_made_on_request_and_go_with_it(tmp_path, stack):
    pytest.importorskip("zarr")
    out = tmp_path / "TS"
    run(job_of(stack, out))
    done, steps = run(job_of(stack, out, Settings(export=Export(ome_zarr=True, movie=True))))
    assert steps == ["export", "report"]
    assert str(out / "TS_rec.ome.zarr" / ".zattrs") in done.files
    with Image.open(out / "TS_rec.gif") as film, mrcfile.open(out / "TS_rec.mrc") as volume:
        assert film.size == volume.data.shape[:0:-1]
        assert film.n_frames == volume.data.shape[0] // movie.parts(volume.data.shape[0])
    (out / "TS_rec.ome.zarr" / ".zattrs").unlink()
    assert command.check(out) == 1
    run(job_of(stack, out))
    assert not list(out.glob("*.gif"))
    assert not list(out.glob("*.zarr*"))


def test_lens_gold_and_noise_are_dealt_with_on_request_and_nothing_before_them_is_done_again(tmp_path, stack):
    out = tmp_path / "out" / "TS"
    job = job_of(stack, out)
    run(job)
    settings = msgspec.structs.replace(
        job.settings, ctf=Ctf(correct="flip"), erase=Erase(gold=True), denoise=Denoise(iterations=2)
    )
    done, steps = run(msgspec.structs.replace(job, settings=settings))
    assert steps == ["erase", "ctf", "reconstruct", "trim", "denoise", "export", "report"]
    shapes = []
    for suffix in ("_ali", "_ctf_ali", "_erase_ali", "_rec", "_nad"):
        with mrcfile.open(out / f"TS{suffix}.mrc") as file:
            shapes.append(file.data.shape)
    assert shapes[0] == shapes[1] == shapes[2]
    assert shapes[3] == shapes[4]
    with mrcfile.open(out / "TS_rec.mrc") as volume, mrcfile.open(out / "TS_nad.mrc") as smooth:
        assert 0.1 < smooth.data.std() / volume.data.std() < 0.9
    assert not (out / "TS_find.mrc").exists()
    assert run(msgspec.structs.replace(job, settings=settings))[1] == []
    assert done.alignment.method == "beads"
