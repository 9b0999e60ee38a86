"""The folder watcher on real files; the clock is the test's, except in one test of the thread and its events."""

import itertools
import os
import threading
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from streamtomo.config import Acquisition, Settings, Watch
from streamtomo.errors import InputError
from streamtomo.messages import FileRefused, SeriesDescribed, Warned
from streamtomo.model import RawImage
from streamtomo.watch.finished import read_series
from streamtomo.watch.folder import FolderWatch, list_files, watch
from streamtomo.watch.images import read_image
from streamtomo.watch.pulse import Pulse

SETTINGS = Settings(watch=Watch(settle_s=1.0, relist_s=1.0, events="off"))
HEAD = "PixelSpacing = 2.5\r\nImageFile = X.mrc\r\n\r\n[T = Tilt axis angle = 85.3, binning = 1]\r\n\r\n"


def write_mrc(path: Path, images: np.ndarray) -> None:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(images)
        file.set_image_stack()
        file.voxel_size = 2.5
    if images.shape[0] == 1:
        assert path.stat().st_size == 1024 + images.nbytes


def frame(value: int) -> np.ndarray:
    return np.full((1, 6, 8), value, np.int16)


def test_patterns_of_one_folder_come_in_force_while_it_is_watched(tmp_path):
    pulse, inner = Pulse(), tmp_path / "user2"
    inner.mkdir()
    watcher = FolderWatch(tmp_path, SETTINGS, pulse=pulse)
    for folder in (tmp_path, inner):
        for number, angle in enumerate((0.0, 3.0)):
            write_mrc(folder / f"Q#{number}#{angle}.mrc", frame(number))
    now = itertools.count(0.0, 0.5)
    assert not [one for _ in range(12) for one in watcher.step(next(now))]
    pulse.understand(str(inner), (r"(?P<series>.+)#(?P<order>\d+)#(?P<angle>[-+.\d]+)",))
    told = [one for _ in range(12) for one in watcher.step(next(now)) if isinstance(one, RawImage)]
    assert [(one.series, one.angle_deg, Path(one.path).parent) for one in told] == [("Q", 0, inner), ("Q", 3, inner)]


class SerialEM:
    """Writes a growing stack in SerialEM's order: pixels, header, then the mdoc's section."""

    def __init__(self, folder: Path, name: str = "X.mrc") -> None:
        self.stack, self.mdoc = folder / name, folder / f"{name}.mdoc"
        self.count = 0

    def open(self) -> None:
        write_mrc(self.stack, frame(0))
        with open(self.stack, "r+b") as file:
            file.truncate(1024)
            file.seek(8)
            file.write((0).to_bytes(4, "little"))
        self.mdoc.write_bytes(HEAD.encode())

    def pixels(self, value: int) -> None:
        with open(self.stack, "ab") as file:
            file.write(frame(value).tobytes())

    def header(self) -> None:
        self.count += 1
        with open(self.stack, "r+b") as file:
            file.seek(8)
            file.write(self.count.to_bytes(4, "little"))

    def section(self, angle: float) -> None:
        time = f"DateTime = 09-Mar-23  18:{self.count:02d}:00\r\n"
        with open(self.mdoc, "ab") as file:
            file.write(f"[ZValue = {self.count - 1}]\r\nTiltAngle = {angle}\r\nStageZ = 1\r\n{time}\r\n".encode())

    def tilt(self, angle: float, value: int = 0) -> None:
        self.pixels(value)
        self.header()
        self.section(angle)


class Story:
    """A watch over a folder, its time told by the test."""

    def __init__(self, folder: Path, settings: Settings = SETTINGS, **options) -> None:
        self.folder, self.now = folder, 1e6
        self.watch = FolderWatch(folder, settings, **options)

    def after(self, seconds: float, step: float = 0.5) -> list:
        """What is told while time passes."""
        told = list(self.watch.step(self.now))
        for _ in range(round(seconds / step)):
            self.now += step
            told += self.watch.step(self.now)
        return told


@pytest.fixture
def story(tmp_path):
    return Story(tmp_path)


def images(told):
    return [sighting for sighting in told if isinstance(sighting, RawImage)]


def test_a_serialem_series_comes_out_as_it_was_written(story, tmp_path):
    microscope = SerialEM(tmp_path)
    microscope.open()
    assert story.after(3.0) == []
    told = []
    for i, angle in enumerate((0.0, 3.0, -3.0)):
        microscope.tilt(angle, value=i)
        told += story.after(2.0)
    assert [type(sighting) for sighting in told] == [SeriesDescribed, RawImage, RawImage, RawImage]
    assert [image.angle_deg for image in images(told)] == [0.0, 3.0, -3.0]
    for value, image in enumerate(images(told)):
        assert np.all(read_image(image.path, image.section) == value)
        assert image.written_s is not None


def test_pixels_without_their_commit_are_not_looked_at(story, tmp_path):
    microscope = SerialEM(tmp_path)
    microscope.open()
    microscope.tilt(0.0)
    assert len(images(story.after(2.0))) == 1
    microscope.pixels(1)
    assert story.after(2.0) == []
    microscope.header()
    assert story.after(2.0) == []
    microscope.section(3.0)
    assert [image.angle_deg for image in images(story.after(2.0))] == [3.0]


def test_a_file_is_not_told_before_it_is_still(story, tmp_path):
    path = tmp_path / "a_001_0.0.mrc"
    write_mrc(path, frame(0))
    assert story.after(0.5) == []
    os.utime(path, (1, 1))
    assert story.after(1.0) == []
    assert len(images(story.after(1.0))) == 1
    assert story.after(5.0) == []


def test_a_series_that_is_there_already_is_told_in_order_then_the_watch_has_caught_up(story, tmp_path):
    for i, angle in ((3, -3.0), (1, 0.0), (2, 3.0)):
        write_mrc(tmp_path / f"a_{i:03d}_{angle}.mrc", frame(i))
    assert not story.watch.caught_up
    assert story.after(0.5) == []
    assert not story.watch.caught_up
    assert [image.angle_deg for image in images(story.after(1.0))] == [0.0, 3.0, -3.0]
    assert story.watch.caught_up


def test_an_empty_folder_has_caught_up_at_once(story):
    assert story.after(0.0) == []
    assert story.watch.caught_up


def test_bad_files_get_one_clear_message_each_and_the_watch_goes_on(story, tmp_path):
    (tmp_path / "empty_0.0.mrc").touch()
    (tmp_path / "note_3.0.mrc").write_text("remember the milk\n" * 9)
    (tmp_path / "dots.mdoc").write_text("remember the milk\n")
    write_mrc(tmp_path / "cut_6.0.mrc", frame(1))
    os.truncate(tmp_path / "cut_6.0.mrc", 1040)
    tifffile.imwrite(tmp_path / "half_9.0.tif", frame(1)[0])
    os.truncate(tmp_path / "half_9.0.tif", (tmp_path / "half_9.0.tif").stat().st_size - 20)
    (tmp_path / "X.mrc.mdoc").write_text(HEAD + "[ZValue = 0]\nTiltAngle = 1\n\n[ZValue = 1]\nStageZ")
    write_mrc(tmp_path / "X.mrc", frame(1))
    told = story.after(60.0)
    refused = {os.path.basename(s.path): s.reason for s in told if isinstance(s, FileRefused)}
    assert "shorter than an MRC header" in refused.pop("empty_0.0.mrc")
    assert "text" in refused.pop("note_3.0.mrc")
    assert "no mdoc" in refused.pop("dots.mdoc")
    assert "its headers demand" in refused.pop("cut_6.0.mrc")
    assert "headers demand" in refused.pop("half_9.0.tif")
    assert refused == {}
    assert [warned.code for warned in told if isinstance(warned, Warned)] == ["mdoc.incomplete"]
    assert [image.path for image in images(told)] == [str(tmp_path / "X.mrc")]
    write_mrc(tmp_path / "good_0.0.mrc", frame(1))
    assert len(images(story.after(2.5))) == 1


def test_a_folder_that_vanishes_is_said_once_and_taken_up_again(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    story = Story(folder)
    story.after(1.0)
    folder.rename(tmp_path / "away")
    told = story.after(5.0)
    assert [sighting.code for sighting in told] == ["folder.gone"]
    write_mrc(tmp_path / "away" / "a_0.0.mrc", frame(0))
    (tmp_path / "away").rename(folder)
    assert len(images(story.after(3.0))) == 1
    folder.rename(tmp_path / "away")
    assert [sighting.code for sighting in story.after(3.0)] == ["folder.gone"]


def test_sub_folders_are_listed_and_hidden_and_skipped_ones_are_not(tmp_path):
    for place in ("", "deep/er", ".hidden", "out"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        write_mrc(tmp_path / place / "a_0.0.mrc", frame(0))
    (tmp_path / ".b_0.0.mrc").touch()
    (tmp_path / "a.txt").touch()
    told = images(Story(tmp_path, skip=[tmp_path / "out"]).after(2.0))
    assert {image.path for image in told} == {str(tmp_path / "a_0.0.mrc"), str(tmp_path / "deep/er/a_0.0.mrc")}
    assert len({image.series for image in told}) == 2


def test_what_cannot_be_listed_is_said_and_the_rest_goes_on(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    write_mrc(tmp_path / "a_0.0.mrc", frame(0))
    scandir = os.scandir

    def deny(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    told = Story(tmp_path).after(3.0)
    assert [warned.code for warned in told if isinstance(warned, Warned)] == ["folder.denied"]
    assert len(images(told)) == 1


def test_nothing_in_the_folder_is_changed(story, tmp_path):
    microscope = SerialEM(tmp_path)
    microscope.open()
    microscope.tilt(0.0)
    before = {seen.path: (seen.size, seen.mtime) for seen in list_files(str(tmp_path))}
    assert len(images(story.after(3.0))) == 1
    assert {seen.path: (seen.size, seen.mtime) for seen in list_files(str(tmp_path))} == before
    assert sorted(os.listdir(tmp_path)) == ["X.mrc", "X.mrc.mdoc"]


def test_a_restart_tells_only_what_is_new(tmp_path):
    microscope = SerialEM(tmp_path)
    microscope.open()
    microscope.tilt(0.0)
    first = images(Story(tmp_path).after(2.0))
    microscope.tilt(3.0)
    again = images(Story(tmp_path, known=first).after(2.0))
    assert [image.angle_deg for image in again] == [3.0]


def test_the_thread_with_its_events_sees_a_series_while_it_grows(tmp_path):
    settings = Settings(watch=Watch(settle_s=0.05, relist_s=30.0))
    microscope, stop = SerialEM(tmp_path), threading.Event()
    microscope.open()
    angles, told = iter((0.0, 3.0, -3.0)), []
    for sighting in watch(tmp_path, settings, stop):
        if isinstance(sighting, RawImage):
            told.append(sighting.angle_deg)
        if sighting is None and len(told) == microscope.count:
            if (angle := next(angles, None)) is None:
                break
            microscope.tilt(angle)
    assert told == [0.0, 3.0, -3.0]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("inotify")]


def test_a_watch_that_is_stopped_ends(tmp_path):
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    assert set(watch(tmp_path, Settings(watch=Watch(relist_s=60.0)), stop)) == {None}


# -- finished series ---------------------------------------------------------------------------------------------------


def test_a_finished_series_is_read_from_its_stack_its_mdoc_or_its_folder(tmp_path):
    microscope = SerialEM(tmp_path)
    microscope.open()
    for angle in (0.0, 3.0, -3.0):
        microscope.tilt(angle)
    for path in (tmp_path, microscope.stack, microscope.mdoc):
        series = read_series(path, SETTINGS)
        assert [image.angle_deg for image in series.images] == [0.0, 3.0, -3.0]
        assert (series.described.series, series.described.planned_tilts) == ("X", 3)
        assert (series.described.pixel_size_A, series.described.tilt_axis_deg) == (2.5, 85.3)
        assert series.remarks == []


def test_a_finished_stack_with_angles_beside_and_settings_that_win(tmp_path):
    write_mrc(tmp_path / "N.mrc", np.zeros((3, 6, 8), np.int16))
    (tmp_path / "N.rawtlt").write_text(" -2.00\n  0.00\n  2.00\n")
    settings = Settings(acquisition=Acquisition(tilt_axis_deg=12.0))
    series = read_series(tmp_path / "N.mrc", settings)
    assert [image.angle_deg for image in series.images] == [-2.0, 0.0, 2.0]
    assert series.described.tilt_axis_deg == 12.0


def test_no_series_or_more_than_one_is_an_error_with_reasons(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_series(tmp_path / "nothing.mrc", SETTINGS)
    with pytest.raises(InputError, match="no image that can be used"):
        read_series(tmp_path, SETTINGS)
    (tmp_path / "a_0.0.mrc").write_text("remember the milk\n" * 9)
    with pytest.raises(InputError, match="is text"):
        read_series(tmp_path, SETTINGS)
    write_mrc(tmp_path / "b_0.0.mrc", frame(0))
    write_mrc(tmp_path / "c_0.0.mrc", frame(0))
    with pytest.raises(InputError, match="holds 2 series"):
        read_series(tmp_path, SETTINGS)


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the collection of real files is not here")
@pytest.mark.parametrize(
    ("name", "tilts", "first", "pixel"),
    [("needle-haadf/HAADF.mrc", 77, -76.0, 33.6), ("gold-spheres/N6_stack.mrc", 116, -46.0, 2.6)],
)
def test_real_series(name, tilts, first, pixel):
    series = read_series(SHARED / name, SETTINGS)
    assert (len(series.images), series.images[0].angle_deg, series.described.pixel_size_A) == (tilts, first, pixel)


@pytest.mark.parametrize("seed", range(4))
def test_however_the_writes_are_cut_every_image_is_told_once_and_right(tmp_path, seed):
    rng = np.random.default_rng(seed)
    microscope, source = SerialEM(tmp_path), tmp_path / "source"
    source.mkdir()
    original = SerialEM(source)
    original.open()
    microscope.open()
    story, told = Story(tmp_path, skip=[source]), []
    angles = [float(angle) for angle in rng.permutation(np.arange(-30, 31, 3))[:12]]
    for value, angle in enumerate(angles):
        microscope.pixels(value)
        told += story.after(rng.choice([0.0, 0.5, 2.0]))
        microscope.header()
        original.count += 1
        original.section(angle)
        text = original.mdoc.read_bytes()
        while (have := microscope.mdoc.stat().st_size) < len(text):
            with open(microscope.mdoc, "ab") as file:
                file.write(text[have : have + int(rng.integers(1, 40))])
            told += story.after(rng.choice([0.0, 0.0, 0.5, 0.5, 2.0]))
    told += story.after(5.0)
    unique = {(image.path, image.section): image for image in images(told)}
    assert [unique[str(microscope.stack), z].angle_deg for z in range(12)] == angles
    assert len(images(told)) == 12
    assert all(np.all(read_image(path, z) == z) for path, z in unique)
    assert not [sighting for sighting in told if isinstance(sighting, FileRefused | Warned)]
