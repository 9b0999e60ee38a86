"""The mdoc reader: every prefix of every file, values in all their spellings, and mdocfile as a second opinion."""

import math
import os
from datetime import UTC, datetime
from pathlib import Path

import mdocfile
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtomo.simulate.mdoc_text import Shot
from streamtomo.simulate.writers import open_writer
from streamtomo.watch.mdoc import acquisition_order, parse
from streamtomo.watch.naming import base_name

SHARED = Path(__file__).parents[2] / "shared" / "data" / "mdoc"
REAL = sorted(SHARED.rglob("*.mdoc")) if SHARED.is_dir() else []

GROWING = """PixelSpacing = 2.15\r
ImageFile = TS_01.mrc\r
ImageSize = 924 958\r
\r
[T = SerialEM: Digitized somewhere                     09-Mar-23  18:01:40    ]\r
\r
[T =     Tilt axis angle = 85.3, binning = 1  spot = 8  camera = 2]\r
\r
[ZValue = 0] \r
TiltAngle = 0.001\r
RotationAngle = 175.3\r
ExposureDose = 2.5\r
SubFramePath = D:\\DATA\\frames\\TS_01_000_0.0.mrc\r
DateTime = 09-Mar-23  18:01:41\r
\r
[ZValue = 1]\r
DateTime = 09-Mar-23  18:03:05\r
TiltAngle = -12.75\r
ExposureDose = 2.75\r
UnknownKey = whatever = this is\r
\r
[ZValue = 2]\r
TiltAngle = 3.125\r
DateTime = 09-Mar-23  18:02:05\r
ExposureDose = 2.25\r
"""

TOMO5 = """ImageFile = Position_10.mrc
PixelSpacing = 1.98

[T = Tomography: TITAN52339560 24-Mar-2023 12:13:13]

[T = TiltAxisAngle = -171.35 Binning = 1 SpotSize = 5]

[ZValue = 0]
TiltAngle = -20.01
RotationAngle = 81.35
SubFramePath = \\\\192.168.10.81\\Storage\\Position_10_001_-20.00_20230324_121311_EER.eer
DateTime = 24-Mar-2023 12:13:13
CameraLength = NaN
ChannelName =
"""


def texts(path):
    return path.read_bytes().decode("utf-8", errors="replace")


def grown(text):
    """All sections of a text that grows no more, by number."""
    mdoc = parse(text + "\n", settled=True, final=True)
    return mdoc, mdoc.sections


def values(section):
    """What a section tells by itself (the dose before it depends on the others, the reading of its date as well)."""
    told = msgspec.structs.asdict(section)
    told["clock"] = None if section.acquired_s is None else section.acquired_s % 86400
    return {key: value for key, value in told.items() if key not in ("prior_dose_e_A2", "acquired_s")}


def assert_no_half_read_value(part, whole):
    """A value is that of the whole file, or is not known yet."""
    for early, late in zip(part, whole, strict=False):
        told, expected = values(early), values(late)
        assert all(value in (None, expected[key]) for key, value in told.items()), (told, expected)


def assert_prefix(text, length, whole, sections):
    """What a prefix tells is what the whole tells, whether the file is thought to grow or to be settled."""
    start = text[:length]
    begun = sum(line.strip().startswith(("[ZValue", "[Image")) for line in start.split("\n")[:-1])
    for settled in (False, True):
        part = parse(start, settled=settled)
        if part.kind != "tilt series" or whole.kind != "tilt series":
            assert part.sections == ()
            continue
        assert part.pixel_size_A in (None, whole.pixel_size_A)
        assert part.image_file in (None, whole.image_file)
        assert_no_half_read_value(part.sections, sections)
        assert len(part.sections) <= begun - (not settled)
        followed = part.sections if not settled else part.sections[: begun - 1]
        assert [values(s) for s in followed] == [values(s) for s in sections[: len(followed)]]
        if settled and len(part.sections) == begun > 1:
            demanded = [key for key in values(sections[0]) if all(values(s)[key] is not None for s in sections)]
            assert all(values(part.sections[-1])[key] is not None for key in demanded), "released early"


def chosen_lengths(text):
    """The bytes round every line's end in the head and in two sections, every byte of the last lines, and some more."""
    starts = [i for i in range(len(text)) if text.startswith(("[ZValue", "[Image"), i)] or [0]
    second = (starts[1], starts[2]) if len(starts) > 2 else (0, 0)
    spans = [(0, starts[0] + 40), second, (starts[-1], len(text))]
    ends = [i + 1 for i, char in enumerate(text) if char == "\n" and any(a <= i < b for a, b in spans)]
    sampled = range(0, len(text), max(1, len(text) // 40))
    last = range(max(starts[-1], len(text) - 60), len(text) + 1)
    return sorted({*ends, *(end - 1 for end in ends), *(end - 2 for end in ends), *sampled, *last})


def assert_prefixes_agree(text):
    whole, sections = grown(text)
    for length in chosen_lengths(text):
        assert_prefix(text, length, whole, sections)


IDOC = """ImageSeries = 1\r
ImageSize = 924 958\r
DataMode = 1\r
PixelSpacing = 2.15\r
\r
T =     Tilt axis angle = 85.3, binning = 1  spot = 8  camera = 2\r
\r
[Image = TS_01_0001.tif]\r
TiltAngle = 0.001\r
RotationAngle = 175.3\r
SubFramePath = D:\\DATA\\frames\\other.tif\r
DateTime = 09-Mar-23  18:01:41\r
\r
[Image = sub folder/TS_01_0002.tif]\r
TiltAngle = -3.5\r
RotationAngle = 175.3\r
SubFramePath = D:\\DATA\\frames\\another.tif\r
DateTime = 09-Mar-23  18:02:41\r
"""


def simulated(pattern, folder):
    """The mdoc that the simulated microscope leaves for a short series."""
    writer = open_writer(
        pattern, folder, "TS_01", shape_yx=(8, 10), dtype="int16", pixel_size_A=2.15, axis_deg=85.3,
        started=datetime(2026, 1, 15, 10, 10, 10),
    )  # fmt: skip
    for i, angle in enumerate((0.02, 3.0, -3.0, -6.0, 6.01)):
        when = datetime(2026, 1, 15, 10, 11, 7 * i)
        image = np.full((8, 10), i, np.int16)
        writer.write(image, Shot(angle_deg=angle, when=when, dose_e_A2=2.5, prior_dose_e_A2=2.5 * i))
    writer.close()
    [path] = folder.glob("*.mdoc")
    return texts(path)


@pytest.mark.parametrize("text", [GROWING, TOMO5, GROWING.replace("\r\n", "\n"), IDOC])
def test_every_prefix_of_a_growing_file(text):
    whole, sections = grown(text)
    for length in range(len(text) + 1):
        assert_prefix(text, length, whole, sections)


@pytest.mark.parametrize("pattern", ["serialem-stack", "serialem-frames", "tomo5"])
def test_prefixes_of_what_each_writer_writes(pattern, tmp_path):
    text = simulated(pattern, tmp_path)
    assert [s.angle_deg for s in parse(text, settled=True).sections] == [0.02, 3.0, -3.0, -6.0, 6.01]
    assert_prefixes_agree(text)


@pytest.mark.skipif(not REAL, reason="the collection of real mdocs is not here")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_prefixes_of_real_files(path):
    """All bytes of all files: `STREAMTOMO_SLOW=1 pytest tests/test_watch_mdoc.py -k every_byte`, some minutes."""
    assert_prefixes_agree(texts(path))


@pytest.mark.skipif(not REAL or "STREAMTOMO_SLOW" not in os.environ, reason="slow: set STREAMTOMO_SLOW")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_every_byte_of_real_files(path):
    text = texts(path)
    whole, sections = grown(text)
    for length in range(len(text) + 1):
        assert_prefix(text, length, whole, sections)


@given(st.text(alphabet="[]TZValue=RotationAngleMontSection 0123456789.-:\r\n\t", max_size=300))
def test_no_text_makes_it_stumble(text):
    parse(text, settled=True)
    parse(GROWING[:400] + text, settled=False)


def test_a_growing_file_counts_its_last_section_only_when_settled():
    assert [s.z for s in parse(GROWING, settled=True).sections] == [0, 1, 2]
    assert [s.z for s in parse(GROWING, settled=False).sections] == [0, 1]
    cut = parse(GROWING[:-3], settled=True)
    assert [s.z for s in cut.sections] == [0, 1]
    assert cut.unfinished == "its last line has no end"
    assert parse(GROWING, settled=True).unfinished is None


def test_a_section_without_its_angle_is_unfinished():
    half = GROWING[: GROWING.index("TiltAngle = 3.125")]
    mdoc = parse(half, settled=True)
    assert mdoc.unfinished == "section 2 has no TiltAngle, DateTime, ExposureDose"
    assert [s.z for s in mdoc.sections] == [0, 1]
    assert [s.z for s in parse(half, settled=True, final=True).sections] == [0, 1]


def test_a_settled_section_waits_for_what_all_others_have_until_nothing_can_come():
    half = GROWING[: GROWING.rindex("ExposureDose")]
    assert [s.z for s in parse(half, settled=True).sections] == [0, 1]
    assert parse(half, settled=True).unfinished == "section 2 has no ExposureDose"
    final = parse(half, settled=True, final=True)
    assert [(s.z, s.dose_e_A2) for s in final.sections] == [(0, 2.5), (1, 2.75), (2, None)]


def test_values_of_a_section():
    mdoc = parse(GROWING, settled=True)
    first = mdoc.sections[0]
    assert mdoc.kind == "tilt series"
    assert mdoc.writer == "SerialEM"
    assert (mdoc.pixel_size_A, mdoc.tilt_axis_deg, mdoc.image_file) == (2.15, 85.3, "TS_01.mrc")
    assert (first.angle_deg, first.rotation_deg, first.file_name) == (0.001, 175.3, "TS_01_000_0.0.mrc")
    assert first.acquired_s == datetime(2023, 3, 9, 18, 1, 41, tzinfo=UTC).timestamp()


def test_dose_before_an_image_is_summed_in_the_order_of_time():
    mdoc = parse(GROWING, settled=True)
    assert acquisition_order(mdoc.sections) == [0, 2, 1]
    assert [s.prior_dose_e_A2 for s in mdoc.sections] == [0.0, 2.5 + 2.25, 2.5]


def section(z, **fields):
    return f"[ZValue = {z}]\nTiltAngle = {z}\n" + "".join(f"{key} = {value}\n" for key, value in fields.items()) + "\n"


def test_a_stated_prior_dose_wins_and_unmeasured_doses_stay_unknown():
    stated = parse(
        section(0, ExposureDose=2, PriorRecordDose=7.5) + section(1, ExposureDose=2), settled=True, final=True
    )
    assert [s.prior_dose_e_A2 for s in stated.sections] == [7.5, 2.0]
    unmeasured = parse(
        section(0, ExposureDose=0, PriorRecordDose=0) + section(1, ExposureDose=0), settled=True, final=True
    )
    assert [(s.dose_e_A2, s.prior_dose_e_A2) for s in unmeasured.sections] == [(None, None)] * 2
    gap = parse(section(0) + section(1, ExposureDose=3), settled=True)
    assert [s.prior_dose_e_A2 for s in gap.sections] == [None, None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("09-Mar-23  18:01:41", datetime(2023, 3, 9, 18, 1, 41)),
        ("9-Mar-2023 18:01:41", None),
        ("09-MAR-2023 18:01:41", datetime(2023, 3, 9, 18, 1, 41)),
        ("30-Nov-15   5:06:45", datetime(2015, 11, 30, 5, 6, 45)),
        ("2023-Mar-09 18:01:41", datetime(2023, 3, 9, 18, 1, 41)),
        ("45-Mar-09 18:01:41", datetime(2045, 3, 9, 18, 1, 41)),
        ("31-Feb-23  18:01:41", datetime(2031, 2, 23, 18, 1, 41)),
        ("", None),
        ("yesterday", None),
        ("09-Foo-23  18:01:41", None),
    ],
)
def test_dates(text, expected):
    acquired = parse(section(0, DateTime=text), settled=True).sections[0].acquired_s
    assert acquired == (None if expected is None else expected.replace(tzinfo=UTC).timestamp())


def test_year_first_dates_are_told_by_the_time_that_the_file_covers():
    texts = ["23-Mar-31  23:59:00", "23-Apr-01  00:01:00"]
    sections = parse("".join(section(z, DateTime=text) for z, text in enumerate(texts)), settled=True).sections
    assert sections[1].acquired_s - sections[0].acquired_s == 120
    texts = ["23-Mar-24  23:59:00", "24-Mar-24  00:01:00"]
    sections = parse("".join(section(z, DateTime=text) for z, text in enumerate(texts)), settled=True).sections
    assert sections[1].acquired_s - sections[0].acquired_s == 120


def titled(title, rotation):
    return parse(
        f"[T = {title}]\n" + section(0, **({} if rotation is None else {"RotationAngle": rotation})), settled=True
    )


@pytest.mark.parametrize(
    ("title", "rotation", "axis", "conflict"),
    [
        ("    Tilt axis angle = 85.3, binning = 4", 175.3, 85.3, False),
        ("Tilt axis angle = 94.0, binning = 4", -176, 94.0, False),
        ("Tilt axis angle = 85.3", -4.7, 85.3, False),
        ("Tilt axis angle = 85.3", None, 85.3, False),
        ("Tilt axis angle = 85.3", 120.0, 85.3, True),
        ("TiltAxisAngle = -171.35 Binning = 1", 81.35, -8.65, False),
        ("TiltAxisAngle = -171.35 Binning = 1", None, None, False),
        ("nothing", 10.0, -80.0, False),
    ],
)
def test_the_tilt_axis_and_its_two_sources(title, rotation, axis, conflict):
    mdoc = titled(title, rotation)
    assert mdoc.tilt_axis_deg == (None if axis is None else pytest.approx(axis))
    assert (mdoc.axis_conflict is not None) == conflict


def test_kinds_that_are_no_tilt_series():
    assert parse("", settled=True).kind == "empty"
    assert parse("PixelSpacing = 2\n[T = x]\n", settled=True).kind == "empty"
    assert parse("[FrameSet = 0]\nTiltAngle = 3\n", settled=True).kind == "frames"
    assert parse(section(0, PieceCoordinates="0 0 0"), settled=True).kind == "montage"
    assert parse("Montage = 1\n" + section(0), settled=True).kind == "montage"
    assert parse(section(0) + "[MontSection = 0]\n", settled=True).kind == "montage"


def test_tomo5_is_known_and_nan_is_nothing():
    mdoc = parse(TOMO5, settled=True)
    assert mdoc.writer == "Tomo5"
    assert mdoc.sections[0].file_name == "Position_10_001_-20.00_20230324_121311_EER.eer"


def test_base_names_of_windows_and_unix():
    names = [r"D:\a\b.mrc", "/a/b.mrc", r"..\a/b.mrc", "b.mrc", r"\\host\share\\b.mrc"]
    assert {base_name(name) for name in names} == {"b.mrc"}
    assert base_name("") is None


NO_TILT_SERIES = {
    "mdocfile/frame_set_multiple.mdoc": "frames",  # one movie that holds a whole series: its parts are no images
    "mdocfile/frame_set_single.mdoc": "frames",
    "from-issues/relion-1135_frameset_empty_datetime.mdoc": "frames",
    "mdocfile/montage_section.mdoc": "montage",
}
"""What `mdocfile` reads as a table of exposures and what is none of a tilt series, and why."""

NOT_WHOLE = {
    "from-issues/warp-143_4digit_year_cds.mdoc",  # cut off in its last section
    "cets-empiar/TS_001.mdoc", "cets-empiar/TS_complex.mdoc", "cets-empiar/TS_minimal.mdoc",
    "cets-empiar/TS_t_section_comma.mdoc", "ot2rec/Position_10.mdoc",  # no newline at the end
}  # fmt: skip
"""Files whose last section `mdocfile` believes at once, and we only when nothing more comes."""

COLUMNS = {
    "TiltAngle": "angle_deg", "ZValue": "z", "PixelSpacing": "pixel_size_A", "RotationAngle": "rotation_deg",
    "ExposureDose": "dose_e_A2", "StagePosition": "stage_um", "SubFramePath": "file_name", "DateTime": "acquired_s",
}  # fmt: skip


def as_ours(column, value):
    """A value of mdocfile's table in our terms: a dose of 0 was not measured, files by their base names."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    match column:
        case "ExposureDose":
            return value or None
        case "SubFramePath":
            return base_name(str(value))
        case "StagePosition":
            return tuple(value)
        case "DateTime":
            text = " ".join(str(value).split())
            form = "%d-%b-%Y %H:%M:%S" if len(text) > 18 else "%d-%b-%y %H:%M:%S"
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
        case _:
            return value


@pytest.mark.skipif(not REAL, reason="the collection of real mdocs is not here")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_whole_files_are_read_as_mdocfile_reads_them_or_are_no_tilt_series(path):
    name = path.relative_to(SHARED).as_posix()
    table, mdoc = mdocfile.read(path), parse(texts(path), settled=True)
    assert (mdoc.unfinished is not None) == (name in NOT_WHOLE)
    if mdoc.unfinished:
        assert len(mdoc.sections) == len(table) - 1
        mdoc = parse(texts(path) + "\n", settled=True, final=True)
    assert mdoc.kind == NO_TILT_SERIES.get(name, "tilt series")
    if mdoc.kind != "tilt series":
        assert mdoc.sections == ()
        return
    for column in COLUMNS.keys() & set(table.columns):
        expected = [as_ours(column, value) for value in table[column]]
        ours = [getattr(s, COLUMNS[column]) for s in mdoc.sections]
        if column == "PixelSpacing":  # mdocfile puts the value from the head where a section has none
            ours = [value or mdoc.pixel_size_A for value in ours]
        assert ours == expected, column


def test_an_idoc_describes_single_images():
    mdoc = parse(IDOC, settled=True)
    assert (mdoc.kind, mdoc.tilt_axis_deg, mdoc.pixel_size_A) == ("tilt series", 85.3, 2.15)
    assert [(s.z, s.file_name, s.angle_deg) for s in mdoc.sections] == [
        (0, "TS_01_0001.tif", 0.001),
        (1, "TS_01_0002.tif", -3.5),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("TiltAngle = -0.0", 0.0),
        ("TiltAngle = -0.0000001", -1e-7),
        ("TiltAngle=12.5", 12.5),
        ("  TiltAngle =  12.5 \t", 12.5),
        ("TiltAngle = nan", None),
        ("TiltAngle = 12,5", None),
        ("TiltAngle = 1e9", None),
        ("TiltAngle =", None),
    ],
)
def test_spellings_of_an_angle(line, expected):
    [section] = parse(f"[ZValue = 0]\n{line}\n", settled=True).sections
    assert section.angle_deg == expected
    assert expected is None or math.copysign(1, section.angle_deg) == math.copysign(1, expected)


def test_odd_lines_do_no_harm():
    odd = "\ufeff" + GROWING.replace("StageZ", "# StageZ") + "[ZValue = x]\r\n= 3\r\n[Other = 1]\r\n\0\r\n"
    assert parse(odd, settled=True).sections == parse(GROWING, settled=True).sections


def test_mdocfile_reads_the_same_of_ours(tmp_path):
    path = tmp_path / "TS_01.mrc.mdoc"
    path.write_text(GROWING.replace("\r\n", "\n").replace("UnknownKey = whatever = this is\n", ""))
    table = mdocfile.read(path)
    assert [s.angle_deg for s in parse(GROWING, settled=True).sections] == pytest.approx(list(table["TiltAngle"]))
