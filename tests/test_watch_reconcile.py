"""Names are believed first; what the mdoc at the end tells otherwise is said of the whole series, once."""

import itertools

from microscopes import Disk, Shot, Watcher, frames_and_mdoc, rest, section, serialem_stack, shots, tomo5

from streamtomo.config import Settings
from streamtomo.messages import Warned
from streamtomo.series import Series

ANGLES = (0.0, 3.0, -3.0, -6.0, 6.0)


def play(*steps):
    watcher = Watcher(Disk())
    for step in itertools.chain(*steps):
        step(watcher.disk)
        watcher.wait(1.0)
    rest(watcher.disk)
    watcher.wait(90.0)
    return watcher


def warnings(watcher):
    return [remark for remark in watcher.remarks if isinstance(remark, Warned)]


def test_an_mdoc_that_agrees_is_silent():
    taken = shots("TS_01", ANGLES)
    assert warnings(play(tomo5("TS_01", taken))) == []
    [ignored] = warnings(play(tomo5("TS_01", taken, override=True)))
    assert ignored.code == "file.ignored"
    assert "(TS_01_override.mdoc)" in ignored.text
    assert warnings(play(frames_and_mdoc("TS_01", taken))) == []
    assert warnings(play(serialem_stack("TS_01", taken))) == []


def test_all_differences_of_a_series_are_one_warning_and_the_mdoc_is_believed():
    taken = shots("TS_01", ANGLES)
    steps = list(tomo5("TS_01", taken))
    files = {name: step for step in steps for name in [_written(step)]}
    never = next(name for name in files if "_002_" in name)
    steps = [step for step in steps if _written(step) != never]
    steps.append(lambda disk: disk.put("TS_01.mdoc", _with_other_values(disk.files["TS_01.mdoc"].content)))
    extra = [step for step in tomo5("TS_01", shots("TS_01", (*ANGLES, 9.0))) if "_006_" in _written(step)]
    watcher = play(steps[:-3], extra, steps[-3:])
    [warned] = warnings(watcher)
    assert (warned.code, warned.series) == ("mdoc.disagrees", "TS_01")
    assert "1 angle (of TS_01_004_-6.00_20260115_100100_fractions.tiff -8.50°, by its name -6.00°)" in warned.text
    assert "pixel size (3.1 Å, in the headers 2.5 Å)" in warned.text
    assert f"1 file that it names and that never came ({never})" in warned.text
    assert "1 file that it does not name (TS_01_006_9.00_" in warned.text
    assert sorted(image.angle_deg for image in watcher.images()) == [-8.5, -2.99, 0.01, 6.01, 9.0]
    assert {image.pixel_size_A for image in watcher.images() if image.angle_deg != 9.0} == {3.1}


def test_frames_that_a_serialem_mdoc_names_and_that_never_come_are_told_once():
    taken = shots("TS_01", ANGLES)
    steps = [step for step in frames_and_mdoc("TS_01", taken) if "003_-6.0" not in _written(step)]
    [warned] = warnings(play(steps))
    assert warned.code == "frames.missing"
    assert "1 file that it names and that never came (TS_01_003_-6.0.tif)" in warned.text


def test_frames_are_not_missed_where_their_stack_is_there():
    taken = shots("TS_01", ANGLES)
    text = "ImageFile = TS_01.mrc\r\n" + "".join(
        section(z, shot, f"TS_01_{shot.number:03d}.tif") for z, shot in enumerate(taken)
    )
    stack = [step for step in serialem_stack("TS_01", taken) if not _written(step).endswith(".mdoc")]
    assert warnings(play([lambda disk: disk.put("TS_01.mrc.mdoc", text)], stack)) == []


def test_a_retake_is_an_exposure_of_its_own_and_the_newest_counts():
    taken = [*shots("TS_01", ANGLES[:3]), Shot("TS_01", 3, -3.0), Shot("TS_01", 4, 6.0)]
    for write in (serialem_stack, frames_and_mdoc, tomo5):
        watcher = play(write("TS_01", taken))
        told = sorted(watcher.images(), key=lambda image: image.acquired_s or 0.0)
        assert [round(image.angle_deg) for image in told] == [0, 3, -3, -3, 6]
        assert warnings(watcher) == []
        series = Series("TS_01", Settings())
        for image in watcher.told.values():
            series.image(image, watcher.now)
        assert [state.excluded for state in series.tilts.values()] == [None, None, "taken again as tilt 3", None, None]


def _written(step):
    """The file that a step writes."""
    disk = Disk()
    disk.put("x", "")
    step(disk)
    return disk.touched[-1]


def _with_other_values(text):
    return text.replace("TiltAngle = -5.99", "TiltAngle = -8.5").replace("PixelSpacing = 2.5", "PixelSpacing = 3.1")
