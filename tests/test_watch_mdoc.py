"""The mdoc reader: every prefix of every file, values in all their spellings, and mdocfile as a second opinion."""

import math
from datetime import UTC, datetime
from pathlib import Path

import mdocfile
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtomo.watch.mdoc import acquisition_order, base_name, parse

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


def assert_prefixes_agree(text, step=1):
    """Whatever a prefix tells of a section that another one follows, the whole tells too; nothing is half read."""
    whole = parse(text + "\n", settled=True)
    facts = [(s.z, s.angle_deg, s.pixel_size_A, s.rotation_deg, s.dose_e_A2, s.file_name) for s in whole.sections]
    for length in range(0, len(text), step):
        part = parse(text[:length], settled=False)
        if part.kind != "tilt series" or whole.kind != "tilt series":
            continue
        told = [(s.z, s.angle_deg, s.pixel_size_A, s.rotation_deg, s.dose_e_A2, s.file_name) for s in part.sections]
        assert told == facts[: len(told)]
        assert part.pixel_size_A in (None, whole.pixel_size_A)
        assert part.image_file in (None, whole.image_file)
        settled = parse(text[:length], settled=True)
        values = {fact[1] for fact in facts} | {None}
        assert {s.angle_deg for s in settled.sections} <= values


@pytest.mark.parametrize("text", [GROWING, TOMO5, GROWING.replace("\r\n", "\n")])
def test_every_prefix_of_a_growing_file(text):
    assert_prefixes_agree(text)


@pytest.mark.skipif(not REAL, reason="the collection of real mdocs is not here")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_prefixes_of_real_files(path):
    text = texts(path)
    assert_prefixes_agree(text, step=max(1, len(text) // 150))
    for length in range(min(len(text), 4000)):
        parse(text[:length], settled=True)


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
    assert parse(half, settled=True).unfinished == "section 2 has no TiltAngle"


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
    stated = parse(section(0, ExposureDose=2, PriorRecordDose=7.5) + section(1, ExposureDose=2), settled=True)
    assert [s.prior_dose_e_A2 for s in stated.sections] == [7.5, 2.0]
    unmeasured = parse(section(0, ExposureDose=0, PriorRecordDose=0) + section(1, ExposureDose=0), settled=True)
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


@pytest.mark.skipif(not REAL, reason="the collection of real mdocs is not here")
@pytest.mark.parametrize(
    "name", ["mdocfile/tilt_series.mdoc", "aretomo3/L1_ts_001.mrc.mdoc", "etspy/SerialEM_MultiTilt_Test__test_000.mdoc"]
)
def test_mdocfile_reads_the_same(name):
    table = mdocfile.read(SHARED / name)
    sections = parse(texts(SHARED / name), settled=True).sections
    assert [s.angle_deg for s in sections] == pytest.approx(list(table["TiltAngle"]))
    assert [s.z for s in sections] == list(table["ZValue"])
    assert [s.pixel_size_A for s in sections] == pytest.approx(list(table["PixelSpacing"]))
    if "SubFramePath" in table and not any(
        isinstance(path, float) and math.isnan(path) for path in table["SubFramePath"]
    ):
        assert [s.file_name for s in sections] == [base_name(str(path)) for path in table["SubFramePath"]]


def test_mdocfile_reads_the_same_of_ours(tmp_path):
    path = tmp_path / "TS_01.mrc.mdoc"
    path.write_text(GROWING.replace("\r\n", "\n").replace("UnknownKey = whatever = this is\n", ""))
    table = mdocfile.read(path)
    assert [s.angle_deg for s in parse(GROWING, settled=True).sections] == pytest.approx(list(table["TiltAngle"]))
