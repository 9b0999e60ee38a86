"""What a run would find: looked at without leaving a trace, and failing only where a run could not work."""

import os
import sys

import mrcfile
import msgspec
import numpy as np
import pytest
from runs import run_until_idle, write_series

from streamtomo import footprint, outfolder, selftest
from streamtomo.cli import main
from streamtomo.config import Acquisition, Final, Movies, Settings, Specimen, Watch
from streamtomo.messages import VERSION, Envelope, SessionStarted
from streamtomo.publish.journal import Journal
from streamtomo.watch import mounts, survey
from streamtomo.watch.settle import Seen

QUICK = ("--set", "watch.settle_s=0.05")


def tree(folder):
    return {str(path): path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def examine(scope, out=None, **tables):
    report = selftest.examine(scope, out, Settings(watch=Watch(settle_s=0.05), **tables))
    found = {}
    for one in report.findings:
        found.setdefault(one.about, []).append((one.level, one.text))
    return found, report


def test_a_folder_is_examined_and_no_trace_is_left(scope, tmp_path, capsys):
    before = tree(tmp_path)
    assert main(["selftest", str(scope), "--out", str(tmp_path / "new" / "out"), "--json", *QUICK]) == 0
    assert tree(tmp_path).keys() == before.keys()
    assert tree(scope) == {path: stamp for path, stamp in before.items() if path.startswith(str(scope))}
    report = msgspec.json.decode(capsys.readouterr().out)
    said = {one["about"]: one["text"] for one in report["findings"]}
    assert said["files"] == "6 images, 0 files that describe them; TS_000_0.0.mrc: TS at 0°"
    assert said["image"].startswith("TS_000_0.0.mrc: 32 x 32 i2, pixel")
    assert "for a series of 6 tilts: room for" in said["space"]
    assert [one["name"]["angle_deg"] for one in report["names"]] == [0.0, 3.0, 6.0, 9.0, 12.0]
    assert main(["selftest", str(scope), *QUICK]) == 0
    text = capsys.readouterr().out
    assert "A run would work." in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_folder_being_watched_is_neither_written_nor_opened_for_writing(scope, tmp_path):
    opened = []

    def hook(event, args):
        if event == "open" and isinstance(args[0], str) and args[0].startswith(str(scope)):
            opened.append((args[0], args[2]))

    sys.addaudithook(hook)
    examine(scope, tmp_path / "out")
    assert opened
    assert not [path for path, flags in opened if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)]


def test_what_changes_between_the_two_listings_is_not_opened(scope, monkeypatch):
    growing, real, probed = scope / "TS_000_0.0.mrc", selftest.probe, []

    def grow(_seconds):
        with growing.open("ab") as file:
            file.write(b"x")

    monkeypatch.setattr(selftest.time, "sleep", grow)
    monkeypatch.setattr(selftest, "probe", lambda path: probed.append(path) or real(path))
    found, _ = examine(scope)
    assert probed == [str(scope / "TS_001_3.0.mrc")]
    assert found["listing"][0][1].endswith("1 changed meanwhile")


@pytest.mark.parametrize(
    ("watched", "out", "about", "words"),
    [
        ("nowhere", "out", "folder", "is no folder"),
        ("scope", "scope/out", "folder", "lies in the watched folder"),
        ("scope", "a-file/out", "out", "cannot be written"),
        ("scope", "others", "out", "holds results of /elsewhere"),
        ("scope", "newer", "out", "was written by a newer streamtomo"),
    ],
)
def test_where_a_run_could_not_work_it_fails(scope, tmp_path, capsys, watched, out, about, words):
    (tmp_path / "a-file").write_text("")
    event = SessionStarted(watched="/elsewhere", out="", host="", pid=1, program="")
    for folder, version in (("others", VERSION), ("newer", VERSION + 1)):
        (tmp_path / folder).mkdir()
        book = Journal(tmp_path / folder / "journal.jsonl")
        book.append(Envelope(version=version, session="s", seq=1, time_s=0.0, event=event))
        book.close()
    assert main(["selftest", str(tmp_path / watched), "--out", str(tmp_path / out), "--json", *QUICK]) == 1
    failed = [one for one in msgspec.json.decode(capsys.readouterr().out)["findings"] if one["level"] == "failed"]
    assert [(one["about"], words in one["text"]) for one in failed] == [(about, True)]


def test_a_run_that_has_been_there_is_gone_on_with_and_one_at_work_is_left_alone(quick, scope, tmp_path):
    out = tmp_path / "out"
    run_until_idle(scope, out)
    found, report = examine(scope, out)
    assert "go on with them" in found["out"][0][1]
    assert not report.failed
    with outfolder.lock_out((scope,), out):
        found, report = examine(scope, out)
    assert found["out"][0][0] == "warning"
    assert not report.failed


def test_too_little_room_fails_and_room_for_no_series_is_warned_of(scope, tmp_path, monkeypatch):
    for free, level in ((0.5, "failed"), (1.0, "warning"), (9.0, "ok"), (None, "warning")):
        monkeypatch.setattr(selftest, "free_GB", lambda _, free=free: free)
        assert examine(scope, tmp_path / "out")[0]["space"][0][0] == level


def test_how_changes_are_noticed_is_told_with_the_kind_of_mount(scope, monkeypatch):
    monkeypatch.setattr(mounts, "read_table", lambda: f"1 1 0:1 / {scope} rw - nfs4 krios:/data rw\n")
    found, _ = examine(scope)
    assert found["mount"] == [("ok", f"NFS (nfs4), krios:/data at {scope}")]
    assert "listing every 1 s only: it lies on NFS" in found["changes"][0][1]


def test_references_are_tried_on_an_image(scope, tmp_path):
    gain = tmp_path / "gain.mrc"
    for shape, code in (((32, 32), "gain"), ((16, 24), "gain.shape")):
        mrcfile.write(gain, np.ones(shape, np.float32), overwrite=True)
        found, report = examine(scope, movies=Movies(gain=str(gain)))
        assert code in found
        assert not report.failed
    os.utime(gain, (1e9, 1e9))
    found, _ = examine(scope, movies=Movies(gain=str(gain), defects=str(tmp_path / "none.txt")))
    assert ("warning", True) in [(level, "more than 30 days" in text) for level, text in found["gain"]]
    assert "cannot be read (No such file" in found["defects"][0][1]


def test_a_file_that_is_no_image_is_named_and_the_next_one_looked_at(scope):
    (scope / "A_000_0.0.mrc").write_bytes(b"?" * 2000)
    found, report = examine(scope)
    assert [level for level, _ in found["image"]] == ["warning", "ok"]
    assert not report.failed


def test_names_that_tell_nothing_are_named(tmp_path):
    write_series(tmp_path / "in", "TS", (0.0,))
    (tmp_path / "in" / "TS_000_0.0.mrc").rename(tmp_path / "in" / "picture.mrc")
    found, _ = examine(tmp_path / "in")
    assert "1 tell no angle by name (picture.mrc: no number" in found["files"][0][1]


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [(100.0, "warning", "ahead by this or more"), (0.3, "ok", "behind by this or less"), (-7200.0, "ok", "2 h old")],
)
def test_one_time_of_a_file_proves_little_and_no_more_is_said(ahead, level, words):
    finding = survey.clock(Seen("/w/a", 1, 1000.0 + ahead), 1000.0, 0.6)
    assert (finding.level, words in finding.text) == (level, True)


def test_the_room_a_series_takes_is_that_of_its_files(tmp_path):
    """Against files of the sizes that the finishing would write."""
    settings = Settings(final=Final(binning=2, halves=True), specimen=Specimen(thickness_nm=80.0))
    said = footprint.series_bytes((300, 400), 41, settings, movies=True, axis_deg=85.0, pixel_size_A=10.0)
    stack = 41 * 200 * 150 * 4
    tomogram = 40 * 200 * 150 * 2
    assert said == stack + 3 * tomogram + 41 * 300 * 400 * 4


def test_the_number_of_tilts_is_the_settings_or_that_of_the_series_there(scope, tmp_path):
    for acquisition, tilts in (
        (Acquisition(), 6),
        (Acquisition(planned_tilts=61), 61),
        (Acquisition(planned_angles="-60:60:3"), 41),
    ):
        found, _ = examine(scope, tmp_path / "out", acquisition=acquisition)
        assert f"a series of {tilts} tilts" in found["space"][0][1]
