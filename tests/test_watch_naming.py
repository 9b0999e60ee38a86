"""What names of files tell."""

from datetime import UTC, datetime

import pytest

from streamtomo.watch.naming import file_key, folder_name, is_by_product, parse_name, stem_of


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
        ("TS_001_005_12deg.mrc", "TS_001", 5, 12.0),
        ("lamella_-60.mrc", "lamella", None, -60.0),
        ("lamella_60.0.mrc", "lamella", None, 60.0),
        ("lamella_60deg.tif", "lamella", None, 60.0),
        ("/data/a b/lamella_+3.5.mrc", "lamella", None, 3.5),
    ],
)
def test_names(name, series, order, angle):
    parsed = parse_name(name)
    assert (parsed.series, parsed.order, parsed.angle_deg) == (series, order, angle)


@pytest.mark.parametrize(
    "name", ["stack.mrc", "TS_01.mrc", "TS_01_60.mrc", "x_99.5.mrc", "IMG_20260115.tif", "0.0.mrc"]
)
def test_names_that_tell_nothing(name):
    assert parse_name(name) is None


def test_tomo5_names_carry_the_time():
    parsed = parse_name("Position_1_001_0.00_20260115_101011_EER.eer")
    assert parsed.tomo5
    assert parsed.acquired_s == datetime(2026, 1, 15, 10, 10, 11, tzinfo=UTC).timestamp()
    assert parse_name("Position_1_001_0.00_20261315_101011.mrc").acquired_s is None


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
