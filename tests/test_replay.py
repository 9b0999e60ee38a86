"""Old sessions and finished stacks played as if they were being acquired: pixels, angles, order, pace, metadata."""

import struct
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from streamtomo import replay
from streamtomo.config import Settings
from streamtomo.errors import InputError, OutputError
from streamtomo.simulate.command import main as simulate
from streamtomo.watch.finished import read_all
from streamtomo.watch.images import read_image

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
ANGLES = [-40.0, -20.0, 0.0, 20.0, 40.0]


def play(source, into, speed=1.0, interval_s=0.001):
    assert replay.replay(source, into, speed=speed, interval_s=interval_s) == 0
    return read_all(str(into), Settings()).images


def same_pixels(images, others):
    for image, other in zip(images, others, strict=True):
        assert (read_image(image.path, image.section) == read_image(other.path, other.section)).all()


def finished_stack(folder, dtype=np.int16):
    rng = np.random.default_rng(1)
    with mrcfile.new(folder / "old.mrc") as file:
        file.set_data(rng.integers(0, 100, (5, 24, 32)).astype(dtype))
        file.set_image_stack()
        file.voxel_size = 5.4
    (folder / "old.rawtlt").write_text("".join(f"{angle:7.2f}\n" for angle in ANGLES))
    return folder / "old.mrc"


def session(folder, *options):
    from test_simulate import parsed

    words = (
        folder,
        "--size",
        "64x48",
        "--beads",
        1,
        "--interval",
        0,
        "--tilts",
        5,
        "--step",
        20,
        "--truth",
        folder.parent / "truth",
    )
    assert simulate(parsed(*words, *options)) == 0
    return folder


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint16])
def test_a_finished_stack_with_its_angles(tmp_path, dtype):
    (tmp_path / "old").mkdir()
    source = finished_stack(tmp_path / "old", dtype)
    images = play(source, tmp_path / "new")
    assert [image.angle_deg for image in images] == pytest.approx(ANGLES)
    assert [image.pixel_size_A for image in images] == pytest.approx([5.4] * 5)
    assert {image.tilt_axis_deg for image in images} == {None}, "what is not known is not made up"
    same_pixels(images, read_all(str(source), Settings()).images)


@pytest.mark.parametrize("pattern", ["serialem-stack", "serialem-frames", "tomo5", "plain"])
def test_an_old_session_of_each_writer(tmp_path, pattern):
    source = session(tmp_path / "old", "--pattern", pattern)
    before = read_all(str(source), Settings()).images
    images = play(source, tmp_path / "new")
    assert [image.angle_deg for image in images] == pytest.approx([image.angle_deg for image in before], abs=0.01)
    assert [image.dose_e_A2 for image in images] == [image.dose_e_A2 for image in before]
    assert [image.tilt_axis_deg for image in images] == [image.tilt_axis_deg for image in before]
    same_pixels(images, before)


def test_it_plays_in_the_order_and_pace_of_the_acquisition(tmp_path):
    source = session(tmp_path / "old")
    images = read_all(str(source), Settings()).images
    shuffled = [images[k] for k in (3, 0, 4, 1, 2)]
    schedule = replay.plan(shuffled, 10.0, None)
    assert [due.image.angle_deg for due in schedule] == [image.angle_deg for image in images]
    assert [due.at_s for due in schedule] == pytest.approx([0, 2, 4, 6, 8]), "20 s apart, ten times faster"
    assert [due.at_s for due in replay.plan(images, 1.0, 0.5)] == pytest.approx([0, 0.5, 1, 1.5, 2])


def test_the_mdoc_of_tomography_5_comes_last(tmp_path):
    source = session(tmp_path / "old", "--pattern", "tomo5")
    (tmp_path / "new").mkdir()
    images = read_all(str(source), Settings()).images
    player = replay.FilesPlayer(images, tmp_path / "new")
    for image in images:
        player.play(image)
    assert not list((tmp_path / "new").glob("*.mdoc"))
    player.close()
    assert (tmp_path / "new" / "TS_01.mdoc").read_bytes() == (source / "TS_01.mdoc").read_bytes()


def test_the_mdoc_of_serialem_grows_with_the_files(tmp_path):
    source = session(tmp_path / "old", "--pattern", "serialem-frames")
    (tmp_path / "new").mkdir()
    images = read_all(str(source), Settings()).images
    player = replay.FilesPlayer(images, tmp_path / "new")
    target = tmp_path / "new" / "TS_01.mrc.mdoc"
    for number, image in enumerate(images, start=1):
        player.play(image)
        assert target.read_text().count("[ZValue") == number
    player.close()
    assert target.read_bytes() == (source / "TS_01.mrc.mdoc").read_bytes()


def test_angles_in_the_extended_header_alone(tmp_path):
    """As SerialEM leaves them: records of 2 bytes, hundredths of a degree."""
    (tmp_path / "old").mkdir()
    source = finished_stack(tmp_path / "old")
    (tmp_path / "old" / "old.rawtlt").unlink()
    content = bytearray(source.read_bytes())
    records = struct.pack("<5h", *(round(100 * angle) for angle in ANGLES)).ljust(1024, b"\0")
    struct.pack_into("<i", content, 92, 1024)
    struct.pack_into("<4s", content, 104, b"SERI")
    struct.pack_into("<2h", content, 128, 2, 1)
    source.write_bytes(bytes(content[:1024]) + records + bytes(content[1024:]))
    assert [image.angle_deg for image in play(source, tmp_path / "new")] == pytest.approx(ANGLES)


def test_it_writes_into_empty_folders_only_and_needs_a_series(tmp_path):
    (tmp_path / "old").mkdir()
    source = finished_stack(tmp_path / "old")
    with pytest.raises(OutputError, match="not empty"):
        replay.replay(source, tmp_path / "old", speed=1.0, interval_s=0.001)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no tilt series"):
        replay.replay(tmp_path / "nothing", tmp_path / "new", speed=1.0, interval_s=0.001)


@pytest.mark.parametrize(
    ("name", "views", "angles"),
    [("needle-haadf/HAADF.mrc", 77, (-76.0, 76.0)), ("gold-spheres/N6_stack.mrc", 116, (-46.0, 44.0))],
)
def test_real_series(tmp_path, name, views, angles):
    if not (SHARED / name).exists():
        pytest.skip("the real data are not here")
    before = read_all(str(SHARED / name), Settings()).images
    images = play(SHARED / name, tmp_path / "new")
    assert len(images) == views
    assert (images[0].angle_deg, images[-1].angle_deg) == pytest.approx(angles)
    same_pixels(images[::25], before[::25])
