"""Readers of images, against files written byte by byte here, by mrcfile and by tifffile."""

import struct
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from mrcfile.dtypes import get_ext_header_dtype

from streamtomo.errors import BadImage, NotReady
from streamtomo.watch.images import is_image, probe, read_image

_DATA = Path(__file__).parents[2] / "shared" / "data"
SHARED = _DATA if _DATA.is_dir() else None
needs_shared = pytest.mark.skipif(SHARED is None, reason="the collection of real files is not here")


def mrc_bytes(
    images, *, mode, order="<", extended=b"", stamp=None, magic=b"MAP ", cell=None, nint=0, nreal=0, **fields
):
    """An MRC file, all of whose numbers can be chosen."""
    nz, ny, nx = images.shape
    head = bytearray(1024)
    struct.pack_into(order + "10i", head, 0, nx, ny, nz, mode, 0, 0, 0, nx, ny, nz)
    cell = (2.5 * nx, 2.5 * ny, 2.5 * nz) if cell is None else cell
    struct.pack_into(order + "6f", head, 40, *cell, 90, 90, 90)
    struct.pack_into(order + "3f", head, 76, float(images.min()), float(images.max()), float(images.mean()))
    struct.pack_into(order + "i", head, 92, len(extended))
    head[104:108] = fields.get("exttyp", b"\0\0\0\0")
    struct.pack_into(order + "2h", head, 128, nint, nreal)
    if "imod_flags" in fields:
        struct.pack_into(order + "2i", head, 152, 1146047817, fields["imod_flags"])
    head[208:212] = magic
    head[212:214] = (b"DD" if order == "<" else b"\x11\x11") if stamp is None else stamp
    titles = fields.get("titles", [])
    struct.pack_into(order + "i", head, 220, len(titles))
    for i, title in enumerate(titles):
        head[224 + 80 * i : 224 + 80 * i + len(title)] = title.encode()
    return bytes(head) + extended + images.astype(images.dtype.newbyteorder(order)).tobytes()


@pytest.fixture
def write(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


MODES = [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2")]


def ramp(dtype, shape=(3, 4, 6)):
    return (np.arange(np.prod(shape)).reshape(shape) - (0 if np.dtype(dtype).kind == "u" else 20)).astype(dtype)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("mode", "dtype"), MODES)
def test_every_mode_and_byte_order_gives_native_contiguous_arrays(write, mode, dtype, order):
    images = ramp(dtype)
    path = write("a.mrc", mrc_bytes(images, mode=mode, order=order, extended=b"x" * 96))
    image = read_image(path, 1)
    np.testing.assert_array_equal(image, images[1])
    assert image.dtype == np.dtype(dtype)
    assert image.dtype.isnative
    assert image.flags.c_contiguous
    assert image.flags.writeable
    info = probe(path)
    assert (info.nx, info.ny, info.sections, info.pixel_size_A) == (6, 4, 3, 2.5)
    assert info.expected_bytes == path.stat().st_size


def test_half_floats_become_floats(write):
    images = ramp("f2")
    image = read_image(write("a.mrc", mrc_bytes(images, mode=12)), 2)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, images[2])


@pytest.mark.parametrize(
    ("images", "fields", "dtype"),
    [
        (ramp("i1"), {}, "i1"),
        (ramp("i1"), {"imod_flags": 1}, "i1"),
        (np.full((1, 2, 2), 200, "u1"), {"imod_flags": 0}, "u1"),
        (np.full((1, 2, 2), 200, "u1"), {}, "u1"),
    ],
)
def test_bytes_are_signed_unless_their_writer_says_or_shows_otherwise(write, images, fields, dtype):
    path = write("a.mrc", mrc_bytes(images, mode=0, **fields))
    assert read_image(path, 0).dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read_image(path, 0), images[0])


@pytest.mark.parametrize(("stamp", "order"), [(b"DA", ">"), (b"\x11\x11", "<"), (b"\0\0", ">"), (b"\0\0", "<")])
def test_a_wrong_machine_stamp_is_not_believed(write, stamp, order):
    images = ramp("i2")
    path = write("a.mrc", mrc_bytes(images, mode=1, order=order, stamp=stamp, magic=b"\0\0\0\0"))
    np.testing.assert_array_equal(read_image(path, 2), images[2])


@pytest.mark.parametrize(
    ("cell", "pixel"), [((-12.0, 8, 6), 2.0), ((6.0, 4, 3), None), ((0.0, 0, 0), None), ((float("nan"), 0, 0), None)]
)
def test_pixel_sizes_that_nobody_measured_are_unknown(write, cell, pixel):
    assert probe(write("a.mrc", mrc_bytes(ramp("i2"), mode=1, cell=cell))).pixel_size_A == pixel


def test_what_mrcfile_writes_is_read(tmp_path):
    images = ramp("f4")
    with mrcfile.new(tmp_path / "a.mrc", images) as file:
        file.set_image_stack()
        file.voxel_size = 1.37
    assert probe(tmp_path / "a.mrc").pixel_size_A == pytest.approx(1.37, rel=1e-5)
    np.testing.assert_array_equal(read_image(tmp_path / "a.mrc", 1), images[1])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("exttyp", [b"SERI", b"\0\0\0\0"])
def test_angles_in_serialems_extended_header(write, order, exttyp):
    records = b"".join(struct.pack(order + "h2hh", angle, 1, 2, 3) for angle in (-300, 0, 325)).ljust(64, b"\0")
    data = mrc_bytes(
        ramp("i2"), mode=1, order=order, extended=records, nint=8, nreal=1 | 4 | 8, exttyp=exttyp,
        titles=["SerialEM: somewhere", "    Tilt axis angle = -85.3, binning = 1  spot = 6  camera = 1"],
    )  # fmt: skip
    info = probe(write("a.st", data))
    assert info.angles == (-3.0, 0.0, 3.25)
    assert info.angles_from == "SerialEM"
    assert info.tilt_axis_deg == -85.3


def test_angles_in_old_fei_extended_header(write):
    records = np.zeros((1024, 32), "<f4")
    records[:3, 0], records[:3, 11] = (-76, -74, -72), 3.36e-9
    data = mrc_bytes(ramp("i2"), mode=1, extended=records.tobytes(), nreal=32, magic=b"\0\0\0\0", stamp=b"\0\0")
    info = probe(write("a.mrc", data))
    assert info.angles == (-76.0, -74.0, -72.0)
    assert info.angles_from == "FEI"
    assert info.pixel_size_A == pytest.approx(33.6)


@pytest.mark.parametrize("name", [b"FEI1", b"FEI2"])
def test_angles_in_new_fei_extended_header_as_mrcfile_lays_it_out(write, name):
    dtype = get_ext_header_dtype(name, "<")
    records = np.zeros(3, dtype)
    records["Metadata size"], records["Pixel size X"] = dtype.itemsize, 2.17e-10
    records["Alpha tilt"] = (-3.0, 0.1, 3.0)
    info = probe(write("a.mrc", mrc_bytes(ramp("f4"), mode=2, extended=records.tobytes(), exttyp=name)))
    assert info.angles == (-3.0, 0.1, 3.0)
    assert info.pixel_size_A == pytest.approx(2.17)


def test_nonsense_in_an_extended_header_gives_no_angles(write):
    records = np.full((3, 32), np.nan, "<f4")
    info = probe(write("a.mrc", mrc_bytes(ramp("i2"), mode=1, extended=records.tobytes(), nreal=32)))
    assert info.angles is None
    assert info.pixel_size_A == 2.5


def test_every_prefix_of_a_stack_is_not_ready(write):
    data = mrc_bytes(ramp("i2"), mode=1, extended=b"e" * 40)
    for length in [*range(0, len(data) - 1, 7), len(data) - 1]:
        path = write("a.mrc", data[:length])
        with pytest.raises(NotReady, match=r"a\.mrc"):
            probe(path)


def test_whole_sections_of_a_growing_stack_can_be_read(write):
    images = ramp("i2")
    path = write("a.mrc", mrc_bytes(images, mode=1)[:-10])
    assert probe(path, growing=True).whole_sections == 2
    np.testing.assert_array_equal(read_image(path, 1), images[1])
    with pytest.raises(NotReady, match="section 2"):
        read_image(path, 2)
    with pytest.raises(BadImage, match="no section 3"):
        read_image(path, 3)


def with_word(place, value):
    data = bytearray(mrc_bytes(ramp("i2"), mode=1))
    struct.pack_into("<i", data, place, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("text.mrc", b"this is a note of mine\n" * 3, "is text"),
        ("long.mrc", b"this is a note of mine\n" * 99, "is text"),
        ("wave.mrc", with_word(12, 4), "complex float32"),
        ("odd.mrc", with_word(12, 77), "mode 77 is no known"),
        ("far.mrc", with_word(92, -4), "says that -4 bytes of extended header"),
        ("noise.mrc", bytes(range(256)) * 8, "no MRC file"),
        ("a.mrc.gz", b"\x1f\x8b", "unpack"),
        ("a.eer", b"no movie" * 9, "EER"),
        ("a.tif", mrc_bytes(ramp("i2"), mode=1), "no TIFF"),
    ],
)
def test_what_never_will_be_an_image_is_refused_with_its_reason(write, name, data, reason):
    with pytest.raises(BadImage, match=reason) as caught:
        probe(write(name, data))
    assert name in str(caught.value)


@pytest.mark.parametrize("data", [b"", bytes(1024), bytes(2000)])
def test_a_header_that_is_still_empty_is_not_ready(write, data):
    with pytest.raises(NotReady):
        probe(write("a.mrc", data))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f4"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_tiff_rows_run_upward(tmp_path, dtype, compression):
    image = ramp(dtype, (5, 7))
    tifffile.imwrite(tmp_path / "a.tif", image, compression=compression)
    read = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(read, image[::-1])
    assert read.flags.c_contiguous
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", flip_tiff=False), image)


def test_frames_of_a_tiff_movie_are_summed(tmp_path):
    frames = ramp("u2", (4, 5, 7))
    tifffile.imwrite(tmp_path / "a.tiff", frames, photometric="minisblack", compression="lzw")
    info = probe(tmp_path / "a.tiff")
    assert (info.nx, info.ny, info.sections, info.frames) == (7, 5, 1, 4)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tiff"), frames.sum(axis=0)[::-1])


def test_big_endian_tiff_and_its_pixel_size(tmp_path):
    image = ramp("i2", (5, 7))
    tifffile.imwrite(
        tmp_path / "a.tif", image, byteorder=">", resolution=(1e8 / 2.5, 1e8 / 2.5), resolutionunit="CENTIMETER"
    )
    assert probe(tmp_path / "a.tif").pixel_size_A == pytest.approx(2.5)
    read = read_image(tmp_path / "a.tif")
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, image[::-1])


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("compression", [None, "lzw"])
def test_no_prefix_of_a_tiff_is_taken_for_the_whole(tmp_path, compression, bigtiff):
    rng = np.random.default_rng(3)
    whole = tmp_path / "whole.tif"
    frames = rng.integers(0, 9, (2, 16, 16), dtype="u2")
    tifffile.imwrite(whole, frames, photometric="minisblack", compression=compression, bigtiff=bigtiff)
    data, path = whole.read_bytes(), tmp_path / "a.tif"
    for length in [0, 3, 7, 8, 9, 100, *range(200, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(NotReady):
            probe(path)


def test_colour_is_no_image_of_ours(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8, 3), "u1"), photometric="rgb")
    with pytest.raises(BadImage, match="grey"):
        probe(tmp_path / "a.tif")


def test_names_of_images():
    assert all(map(is_image, ["a.mrc", "b.MRC", "c.st", "d.tiff", "e.eer", "f.mrc.gz", "g.tif.bz2"]))
    assert not any(map(is_image, ["a.mdoc", "b.txt", "c.gz", "d", "e.mrc.mdoc", "f.rec"]))


@needs_shared
@pytest.mark.parametrize(
    ("name", "shape", "pixel"),
    [
        ("needle-haadf/HAADF.mrc", (77, 256, 256), 33.6),
        ("gold-spheres/N6_stack.mrc", (116, 256, 256), 2.6),
        ("mrc/de_movie.mrc", (32, 4, 8), 10.0),
        ("mrc/swapped_byte_order.mrc", (1, 2, 10), None),
        ("mrc/temp.mrc", (3, 128, 128), 2.0),
    ],
)
def test_real_files(name, shape, pixel):
    info = probe(SHARED / name)
    assert (info.sections, info.ny, info.nx) == shape
    assert info.pixel_size_A == pixel
    assert np.isfinite(read_image(SHARED / name, info.sections - 1)).all()


@needs_shared
def test_angles_of_a_real_old_header_equal_those_beside():
    nominal = tuple(map(float, (SHARED / "needle-haadf/HAADF.rawtlt").read_text().split()))
    assert probe(SHARED / "needle-haadf/HAADF.mrc").angles == nominal
