"""Readers of movies, against what the simulated microscope, tifffile and mrcfile write."""

import contextlib
import struct

import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtomo.errors import BadImage, NotReady
from streamtomo.simulate.eer import FALCON_4, PROTOTYPE, Coding, write_eer
from streamtomo.watch.images import probe, read_image
from streamtomo.watch.movies import frame_count, read_frames

SHAPE = (24, 40)
CODINGS = [
    FALCON_4,
    PROTOTYPE,
    Coding(65000, 8),
    Coding(65002, 9, 3, 1),
    Coding(65002, 5, 2, 2),
    Coding(65002, 7, 2, 3),
]


def electrons(number=7, shape=SHAPE, rate=0.05):
    rng = np.random.default_rng(11)
    return (rng.random((number, *shape)) < rate).astype(np.uint8)


def write_tiff(path, frames, **options):
    tifffile.imwrite(path, frames[:, ::-1], photometric="minisblack", **options)


def write_mrc(path, frames):
    with mrcfile.new(path, frames) as file:
        file.set_image_stack()


# -- EER ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", CODINGS)
def test_every_coding_of_eer_gives_its_electrons(tmp_path, coding):
    frames = electrons(rate=0.003)
    write_eer(tmp_path / "a.eer", frames, 1.5, coding=coding)
    read = list(read_frames(tmp_path / "a.eer"))
    np.testing.assert_array_equal(read, frames)
    assert all(frame.flags.c_contiguous and frame.dtype == np.uint8 for frame in read)


def test_what_the_headers_of_an_eer_movie_tell(tmp_path):
    write_eer(tmp_path / "a.eer", electrons(), 1.908)
    info = probe(tmp_path / "a.eer")
    assert (info.kind, info.nx, info.ny, info.sections, info.frames) == ("eer", 40, 24, 1, 7)
    assert info.pixel_size_A == 1.908
    assert info.expected_bytes == (tmp_path / "a.eer").stat().st_size
    assert frame_count(tmp_path / "a.eer") == 7
    write_eer(tmp_path / "b.eer", electrons(), None)
    assert probe(tmp_path / "b.eer").pixel_size_A is None


@pytest.mark.parametrize("group", [1, 3, 7, 100])
def test_fractions_hold_all_frames_in_order(tmp_path, group):
    frames = electrons()
    write_eer(tmp_path / "a.eer", frames, 1.5)
    read = list(read_frames(tmp_path / "a.eer", group=group))
    np.testing.assert_array_equal(read, [frames[i : i + group].sum(axis=0) for i in range(0, 7, group)])


def test_more_frames_than_a_byte_counts(tmp_path):
    frames = np.zeros((600, 4, 6), np.uint8)
    frames[:, 1, 2], frames[::2, 3, 5], frames[299, 0, 0] = 1, 1, 1
    write_eer(tmp_path / "a.eer", frames, 1.5)
    first, second, rest = read_frames(tmp_path / "a.eer", group=290)
    assert (first[1, 2], second[1, 2], rest[1, 2]) == (290, 290, 20)
    assert (first[3, 5], second[0, 0]) == (145, 1)
    assert first.dtype == rest.dtype == np.uint16
    np.testing.assert_array_equal(read_image(tmp_path / "a.eer"), frames.sum(axis=0))


def test_eer_frames_equal_those_of_tifffile(tmp_path):
    write_eer(tmp_path / "a.eer", electrons(rate=0.4), 1.5)
    theirs = tifffile.imread(tmp_path / "a.eer").sum(axis=0)
    np.testing.assert_array_equal(read_image(tmp_path / "a.eer"), theirs[::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.eer", flip_tiff=False), theirs)


def test_a_sum_in_front_of_the_frames_is_no_frame(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.eer", bigtiff=True) as file:
        block = b'<metadata><item name="sensorPixelSize.width" unit="m">2e-10</item></metadata>'
        file.write(np.zeros(SHAPE, "u2"), extratags=[(65001, 7, len(block), block, True)], metadata=None)
    frames = electrons(3)
    write_eer(tmp_path / "b.eer", frames, None)
    (tmp_path / "a.eer").write_bytes(chained((tmp_path / "a.eer").read_bytes(), (tmp_path / "b.eer").read_bytes()))
    np.testing.assert_array_equal(list(read_frames(tmp_path / "a.eer")), frames)
    assert (frame_count(tmp_path / "a.eer"), probe(tmp_path / "a.eer").pixel_size_A) == (3, 2.0)


def chained(first, second):
    """The pages of one BigTIFF behind those of another one: all places are moved, and the chain is mended."""
    base = -(-len(first) // 8) * 8
    joined = bytearray(first.ljust(base, b"\0") + second)

    def moved(at):
        while at:
            (tags,) = struct.unpack_from("<Q", joined, at)
            for entry in range(at + 8, at + 8 + 20 * tags, 20):
                tag, kind, count, value = struct.unpack_from("<HHQQ", joined, entry)
                if tag == 273 or (kind == 7 and count > 8):
                    struct.pack_into("<Q", joined, entry + 12, value + base)
            link = at + 8 + 20 * tags
            (following,) = struct.unpack_from("<Q", joined, link)
            at = following + base if following else 0
            struct.pack_into("<Q", joined, link, at)

    (page,) = struct.unpack_from("<Q", first, 8)
    (tags,) = struct.unpack_from("<Q", first, page)
    moved(base + 16)
    struct.pack_into("<Q", joined, page + 8 + 20 * tags, base + 16)
    return bytes(joined)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_frame_that_was_not_copied_yet_is_no_rain_of_electrons(tmp_path, coding):
    """A copy may have its full length before its content: zeros, which are runs of no pixel and an electron each."""
    write_eer(tmp_path / "a.eer", electrons(), 1.5, coding=coding)
    data = bytearray((tmp_path / "a.eer").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.eer") as file:
        page = file.pages[5]
    data[page.dataoffsets[0] : page.dataoffsets[0] + page.databytecounts[0]] = bytes(page.databytecounts[0])
    (tmp_path / "a.eer").write_bytes(data)
    with pytest.raises(BadImage, match=r"a\.eer: camera frame 5 is damaged"):
        list(read_frames(tmp_path / "a.eer", group=2))


def test_codes_that_do_not_fit_are_refused_by_their_sizes(tmp_path):
    write_eer(tmp_path / "a.eer", electrons(1), 1.5, coding=Coding(65002, 14, 8, 8))
    with pytest.raises(BadImage, match=r"14 \+ 8 \+ 8 bits"):
        probe(tmp_path / "a.eer")


def test_an_eer_file_of_the_first_cameras_is_no_tiff(tmp_path):
    (tmp_path / "a.eer").write_bytes(b"\x12\x34\x56\x78" * 9 + b"ThermoFisherECComprOK000")
    with pytest.raises(BadImage, match="is no EER file"):
        probe(tmp_path / "a.eer")


# -- TIFF and MRC ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f4"])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd"])
def test_frames_of_tiff_movies(tmp_path, compression, dtype):
    frames = np.random.default_rng(5).integers(0, 120, (5, *SHAPE)).astype(dtype)
    write_tiff(tmp_path / "a.tif", frames, compression=compression)
    read = list(read_frames(tmp_path / "a.tif"))
    np.testing.assert_array_equal(read, frames)
    assert all(frame.dtype == np.dtype(dtype) and frame.flags.c_contiguous for frame in read)
    np.testing.assert_array_equal(list(read_frames(tmp_path / "a.tif", flip_tiff=False)), frames[:, ::-1])
    pairs = list(read_frames(tmp_path / "a.tif", group=2))
    np.testing.assert_array_equal(pairs, [frames[:2].sum(axis=0), frames[2:4].sum(axis=0), frames[4]])
    assert frame_count(tmp_path / "a.tif") == 5


def test_pixels_of_4_bits_in_tiff_have_the_left_one_in_the_high_bits(tmp_path):
    pixels = np.random.default_rng(6).integers(0, 16, (5, 7), dtype="u1")
    padded = np.pad(pixels, ((0, 0), (0, 1)))[::-1]
    (tmp_path / "a.tif").write_bytes(tiff_bytes(7, 5, 4, (padded[:, ::2] << 4 | padded[:, 1::2]).tobytes()))
    assert probe(tmp_path / "a.tif").nx == 7
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), pixels)


def test_pixels_that_serialem_packed_into_bytes_are_known_by_its_title(tmp_path):
    frames = np.random.default_rng(6).integers(0, 16, (3, 6, 8), dtype="u1")
    packed = frames[..., ::2] | frames[..., 1::2] << 4
    title = "SerialEMCCD: Dose frac. image, 4 bits packed  r/f 0"
    write_tiff(tmp_path / "a.tif", packed, compression="lzw", description=title, metadata=None)
    assert (probe(tmp_path / "a.tif").nx, probe(tmp_path / "a.tif").frames) == (8, 3)
    np.testing.assert_array_equal(list(read_frames(tmp_path / "a.tif")), frames)


def tiff_bytes(nx, ny, bits, data):
    """A TIFF of one strip behind its directory."""
    tags = [(256, nx), (257, ny), (258, bits), (259, 1), (262, 1), (273, 0), (277, 1), (278, ny), (279, len(data))]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


@pytest.mark.parametrize("name", ["a.mrc", "a.mrcs"])
def test_sections_of_an_mrc_movie_are_its_frames_where_one_says_so(tmp_path, name):
    frames = np.random.default_rng(5).integers(0, 99, (5, *SHAPE)).astype("i2")
    write_mrc(tmp_path / name, frames)
    np.testing.assert_array_equal(list(read_frames(tmp_path / name)), frames)
    np.testing.assert_array_equal(list(read_frames(tmp_path / name, group=5)), [frames.sum(axis=0)])
    assert frame_count(tmp_path / name) == 5
    np.testing.assert_array_equal(read_image(tmp_path / name, 2), frames[2])
    image = read_image(tmp_path / name, frames=5)
    np.testing.assert_array_equal(image, frames.sum(axis=0))
    assert image.dtype == np.float32


def test_one_exposure_reads_the_same_from_every_format(tmp_path):
    frames = electrons()
    write_eer(tmp_path / "a.eer", frames, 1.5)
    write_tiff(tmp_path / "a.tif", frames, compression="lzw")
    write_mrc(tmp_path / "a.mrc", frames.astype("i2"))
    write_tiff(tmp_path / "sum.tif", frames.sum(axis=0)[None].astype("i2"))
    write_mrc(tmp_path / "sum.mrc", frames.sum(axis=0)[None].astype("f4"))
    for name in ("a.eer", "a.tif", "a.mrc", "sum.tif", "sum.mrc"):
        image = read_image(tmp_path / name, frames=7 if name == "a.mrc" else 1)
        np.testing.assert_array_equal(image, frames.sum(axis=0), err_msg=name)


def test_a_reader_that_stops_early_leaves_nothing_open(tmp_path):
    write_eer(tmp_path / "a.eer", electrons(), 1.5)
    frames = read_frames(tmp_path / "a.eer")
    next(frames)
    frames.close()
    with pytest.raises(ValueError, match="1 or more"):
        next(read_frames(tmp_path / "a.eer", group=0))


# -- parts of files ----------------------------------------------------------------------------------------------------


def small_files(folder):
    frames = electrons(3, (8, 10), 0.2)
    write_eer(folder / "a.eer", frames, 1.5)
    for name, options in (("a", {}), ("lzw", {"compression": "lzw"}), ("big", {"bigtiff": True})):
        write_tiff(folder / f"{name}.tif", frames, **options)
    write_mrc(folder / "a.mrc", frames.astype("i2"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}, frames.sum(axis=0)


@pytest.mark.parametrize("name", ["a.eer", "a.tif", "lzw.tif", "big.tif", "a.mrc"])
def test_a_part_of_a_file_is_never_taken_for_an_image(tmp_path, name):
    """Every beginning of a file, by itself and filled up with zeros to the full length."""
    (tmp_path / "whole").mkdir()
    files, total = small_files(tmp_path / "whole")
    data, path = files[name], tmp_path / name
    frames = 3 if name == "a.mrc" else 1

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, len(data)))
    def check(length):
        path.write_bytes(data[:length])
        try:
            image = read_image(path, frames=frames)
        except (NotReady, BadImage):
            assert length < len(data)
        else:
            np.testing.assert_array_equal(image, total)
        path.write_bytes(data[:length].ljust(len(data), b"\0"))
        try:
            read_image(path, frames=frames)
        except (NotReady, BadImage):
            assert length < len(data)

    check()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_an_eer_movie_filled_up_with_zeros_is_right_but_for_its_last_electron_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("eer")
    frames = electrons(3, (16, 20), 0.2)
    write_eer(folder / "a.eer", frames, 1.5)
    whole = (folder / "a.eer").read_bytes()
    length = data.draw(st.integers(0, len(whole)))
    (folder / "a.eer").write_bytes(whole[:length].ljust(len(whole), b"\0"))
    try:
        image = read_image(folder / "a.eer")
    except (NotReady, BadImage):
        assert length < len(whole)
    else:
        wrong = np.abs(image.astype(int) - frames.sum(axis=0)).sum()
        # Zeros are codes, too: in place of the last code's two bytes they may end at the last pixel like that did.
        assert wrong <= (length >= len(whole.rstrip(b"\0")) - 2)


@pytest.mark.parametrize("name", ["a.eer", "a.tif", "lzw.tif", "big.tif", "a.mrc"])
def test_damage_is_an_error_of_ours(tmp_path, name):
    """Bytes changed anywhere, most of them in the headers."""
    (tmp_path / "whole").mkdir()
    data, path = small_files(tmp_path / "whole")[0][name], tmp_path / name

    @settings(max_examples=150, deadline=None)
    @given(st.dictionaries(st.integers(0, 400) | st.integers(0, len(data) - 1), st.integers(0, 255), max_size=4))
    def check(changes):
        damaged = bytearray(data)
        for at, value in changes.items():
            damaged[min(at, len(data) - 1)] = value
        path.write_bytes(damaged)
        with contextlib.suppress(NotReady, BadImage):
            probe(path)

    check()


def test_strips_of_a_camera_frame_are_one_stream(tmp_path):
    frames = electrons(2, rate=0.3)
    write_eer(tmp_path / "a.eer", frames, None)
    data = bytearray((tmp_path / "a.eer").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.eer") as file:
        (at,), (length,) = file.pages[0].dataoffsets, file.pages[0].databytecounts
        tags = {code: file.pages[0].tags[code].offset for code in (273, 278, 279)}
        half = -(-file.pages[0].imagelength // 2)
    for code, values in ((273, (at, at + 8)), (279, (8, length - 8))):
        struct.pack_into("<HHQQ", data, tags[code], code, 16, 2, len(data))
        data += struct.pack("<2Q", *values)
    struct.pack_into("<HHQQ", data, tags[278], 278, 4, 1, half)
    (tmp_path / "a.eer").write_bytes(data)
    np.testing.assert_array_equal(list(read_frames(tmp_path / "a.eer")), frames)
