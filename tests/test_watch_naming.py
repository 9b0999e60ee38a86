"""What names of files tell."""

from datetime import UTC, datetime

import pytest

from streamtomo.errors import SettingsError
from streamtomo.watch.naming import Names, compile_pattern, file_key, folder_name, is_by_product, stem_of, why_not


@pytest.mark.parametrize(
    ("name", "series", "order", "angle"),
    [
        ("Position_1_001_0.00_20260115_101010_EER.eer", "Position_1", 1, 0.0),
        ("Position_1_2_041_-60.00_20260115_101010_fractions.tiff", "Position_1_2", 41, -60.0),
        ("Position_1_003_3.01_20260115_101010.mrc", "Position_1", 3, 3.01),
        ("TS_01_000_0.0.mrc", "TS_01", 0, 0.0),
        ("TS_01_012_-36.0.tif", "TS_01", 12, -36.0),
        ("name_001_-3.00.tif", "name", 1, -3.0),
        ("name_001_-3.tif", "name", 1, -3.0),
        ("s_mmm_01013_33.0_Oct08_07.46.46.tif", "s_mmm", 1013, 33.0),
        ("chrom_07_ts_010_167_000_-0.0.mrc", "chrom_07_ts_010_167", 0, 0.0),
        ("TS_001_005[-12.00]-42.mrc", "TS_001", 5, -12.0),
        ("L1_ts_001_00042_-3.0_Oct08_07.46.46.tif", "L1_ts_001", 42, -3.0),
        ("lamella_-3.0_Jan15_10.10.10.tif", "lamella", None, -3.0),
        ("TS_01_003_-3,50.mrc", "TS_01", 3, -3.5),
        ("TS_001_005_12deg.mrc", "TS_001", 5, 12.0),
        ("lamella_-60.mrc", "lamella", None, -60.0),
        ("lamella_60.0.mrc", "lamella", None, 60.0),
        ("lamella_60deg.tif", "lamella", None, 60.0),
        ("/data/a b/lamella_+3.5.mrc", "lamella", None, 3.5),
    ],
)
def test_names(name, series, order, angle):
    parsed = Names().parse(name)
    assert (parsed.series, parsed.order, parsed.angle_deg) == (series, order, angle)


@pytest.mark.parametrize(
    "name", ["stack.mrc", "TS_01.mrc", "TS_01_60.mrc", "x_99.5.mrc", "IMG_20260115.tif", "0.0.mrc"]
)
def test_names_that_tell_nothing(name):
    assert Names().parse(name) is None


def test_tomo5_names_carry_the_time():
    parsed = Names().parse("Position_1_001_0.00_20260115_101011_EER.eer")
    assert parsed.tomo5
    assert parsed.acquired_s == datetime(2026, 1, 15, 10, 10, 11, tzinfo=UTC).timestamp()
    assert Names().parse("Position_1_001_0.00_20261315_101011.mrc").acquired_s is None


def test_a_movie_and_its_sum_are_one_exposure():
    names = ["P_1_001_0.00_20260115_101010_EER.eer", "x/P_1_001_0.00_20260115_101010_fractions.tiff",
             "D:\\P_1_001_0.00_20260115_101010.mrc"]  # fmt: skip
    assert {file_key(name) for name in names} == {"P_1_001_0.00_20260115_101010"}


def test_stems():
    names = ["a/X.mrc", "a/X.mrc.mdoc", "a/X.mdoc", "a/X.rawtlt", "a/X.st.mdoc"]
    assert {stem_of(name) for name in names} == {"a/X"}


def test_by_products():
    assert is_by_product("a/Position_1_override.mdoc")
    assert is_by_product("L1_tgt_001.mrc.mdoc")
    assert is_by_product("L1_tgt_001_view.mrc")
    assert not is_by_product("L1_ts_001.mrc.mdoc")


@pytest.mark.parametrize(
    ("name", "folder"),
    [("TS 01/..", "TS_01"), ("..", "series"), ("", "series"), (".hidden", "hidden"), ("Probe_ä1", "Probe_ä1"),
     ("a\\b:c*?", "a_b_c")],
)  # fmt: skip
def test_series_names_can_be_folders(name, folder):
    assert folder_name(name) == folder
    assert len(folder_name("x" * 500)) == 120


def test_the_negative_zero_is_a_zero():
    assert str(Names().parse("TS_01_000_-0.0.mrc").angle_deg) == "0.0"


def test_a_date_before_the_name_is_no_part_of_it():
    names = Names()
    names.learn(["2024-04-14_17.57.51_TS_001_-51.0.tif", "2024-04-14_17.58.20_TS_001_-48.0.tif"])
    read = names.read("2024-04-14_17.58.20_TS_001_-48.0.tif")
    assert (read.series, read.order, read.tomo5) == ("TS_001", None, False)
    assert read.acquired_s == datetime(2024, 4, 14, 17, 58, 20, tzinfo=UTC).timestamp()


OWN = r"(?P<angle>[mp]?[-.\d]+)deg-(?P<order>\d+)-(?P<series>\w+)@(?P<date>\d+)T(?P<time>[\d:]+)"


def test_a_pattern_of_the_settings_comes_first_and_the_rest_stays():
    names = Names([OWN])
    read = names.parse("/x/-12.5deg-7-grid_3@260115T10:10:10.tif")
    assert (read.series, read.order, read.angle_deg, read.numbered) == ("grid_3", 7, -12.5, None)
    assert read.acquired_s == datetime(2026, 1, 15, 10, 10, 10, tzinfo=UTC).timestamp()
    assert names.parse("TS_01_000_0.0.mrc").series == "TS_01"
    assert names.parse("m12deg-7-grid_3@260115T10:10:10.tif") is None
    assert names.tried("x.tif").startswith("yours: ")


def test_a_pattern_of_the_settings_may_hold_the_suffix_and_means_what_it_says():
    names = Names([r"(?P<series>\w+)_(?P<order>\d+)_(?P<angle>-?\d+)\.tif"])
    paths = [f"TS_01_{angle}.tif" for angle in (0, 3, -3)]
    names.learn(paths)
    assert [(names.read(path).series, names.read(path).order) for path in paths] == [("TS", 1)] * 3


@pytest.mark.parametrize(
    ("pattern", "told"),
    [("(", "no regular expression"), ("(?P<series>.+)", r"lacks \(\?P<angle>"), ("a", "series.* and .*angle"),
     ("(?P<series>.+)_(?P<angle>.+)_(?P<dose>.+)", "group 'dose'")],
)  # fmt: skip
def test_patterns_that_cannot_be_used_are_refused(pattern, told):
    with pytest.raises(SettingsError, match=told):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("06mar12a_00004gr_00002sq_001_003.mrc", "Leginon"), ("TS_01.mrc", "number or angle"), ("x_99.5.mrc", "beyond 90"),
     ("map.tif", "no number"), ("a_override.mrc", "copy"), ("0.0.mrc", "fits no pattern")],
)  # fmt: skip
def test_what_keeps_a_name_from_being_read_is_told(name, reason):
    assert Names().parse(name) is None
    assert reason in why_not(name)
