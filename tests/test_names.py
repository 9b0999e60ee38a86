"""The table of how names parse."""

import os

from streamtomo import names
from streamtomo.cli import main
from streamtomo.watch.naming import Names

FILES = (
    "Position_1_001_0.00_20260115_101010_EER.eer",
    "sub/TS_01_000_-0.0.mrc",
    "TS_01_001_3,5.mrc",
    "stack.mrc",
    "stack.mrc.mdoc",
    "stack2.st",
    "stack2.rawtlt",
    "06mar12a_00004gr_00002sq_00003hl_00002tomo_001_003.mrc",
    "amelo_20230811_33kx_hydraliftout_and_a_name_that_is_far_too_long_0211_-51.0.tif",
    "noangle.tif",
)


def test_every_name_is_shown_with_what_it_tells_or_why_it_does_not():
    lines = names.report("/x", [f"/x/{file}" for file in FILES], Names(), 20, None)
    text = "\n".join(lines)
    by_file = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert by_file["sub/TS_01_000_-0.0.mrc"].split()[1:4] == ["TS_01", "0", "0.00"]
    assert by_file["TS_01_001_3,5.mrc"].split()[1:4] == ["TS_01", "1", "3.50"]
    assert "10:10:10" in by_file["Position_1_001_0.00_20260115_101010_EER.eer"]
    assert by_file["stack.mrc"].endswith("told by stack.mrc.mdoc")
    assert by_file["stack2.st"].endswith("told by stack2.rawtlt")
    assert "no number" in by_file["noangle.tif"]
    assert "Leginon" in text
    assert "8 images, 2 files" in lines[0]
    assert "a  Tomo5" in text
    assert "name_patterns" in text


def test_on_a_terminal_it_fits_80_columns():
    folder = "/data/x"
    lines = names.report(folder, [f"{folder}/{file}" for file in FILES], Names(), 20, 80)
    assert max(map(len, lines)) <= 80
    assert any("…" in line and line.rstrip().endswith("b") for line in lines)


def test_of_many_files_the_first_are_shown_but_all_are_learnt_from(tmp_path, capsys):
    for number in range(30):
        (tmp_path / f"a_01_{number - 15}.00.tif").touch()
    before = {path: os.stat(path).st_atime_ns for path in tmp_path.iterdir()}
    assert main(["names", str(tmp_path), "--first", "3"]) == 0
    out = capsys.readouterr().out
    assert ".tif: 30, the first 3" in out
    assert out.count("a_01   ") == 3
    assert {path: os.stat(path).st_atime_ns for path in tmp_path.iterdir()} == before


def test_patterns_can_be_tried_and_bad_ones_and_folders_are_named(tmp_path, capsys):
    (tmp_path / "tilt-12of41.tif").touch()
    assert main(["names", str(tmp_path), "--pattern", r"(?P<series>\w+?)(?P<angle>-?\d+)of41"]) == 0
    assert "-12.00" in capsys.readouterr().out
    assert main(["names", str(tmp_path), "--set", "acquisition.name_patterns=['(']"]) == 1
    assert "no regular expression" in capsys.readouterr().err
    assert main(["names", str(tmp_path / "nowhere")]) == 1
    assert "cannot be listed" in capsys.readouterr().err
