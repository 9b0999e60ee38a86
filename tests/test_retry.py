"""Refused files that are looked at again, and what a run says of its folders when it begins."""

import os

import mrcfile
import numpy as np
import pytest
from runs import run, settings, told, wait_for

from streamtomo import cli, messages
from streamtomo.engine import Engine
from streamtomo.messages import FileRefused, FileRetried, FolderTested, RetryFile, RetrySeries, TiltPlaced
from streamtomo.orders import refused_of
from streamtomo.publish.client import send_command
from streamtomo.publish.journal import Journal
from streamtomo.telling import Teller


def test_a_refused_file_is_looked_at_again_on_request_and_is_refused_again_or_taken_in(quick, scope, tmp_path):
    out, late = tmp_path / "out", scope / "TS_006_18.0.mrc"
    mrcfile.write(late, np.full((32, 32), 7, np.int16))
    good, times = late.read_bytes(), (late.stat().st_atime, late.stat().st_mtime)
    late.write_bytes(b"?" * len(good))
    os.utime(late, times)
    engine = Engine(scope, out, settings())
    refused = lambda event: isinstance(event, FileRefused)  # noqa: E731
    begun = []
    engine.listeners.append(lambda one: begun.append(one.event))
    thread = run(engine)
    if not any(map(refused, begun)):
        wait_for(engine, refused)
    wait_for(engine, refused, begin=lambda: send_command(out, RetryFile(path=str(late))))
    assert str(late).encode() in engine.state()
    late.write_bytes(good)
    os.utime(late, times)  # nothing that a listing could see has changed
    taken = lambda event: isinstance(event, TiltPlaced) and event.index == 6  # noqa: E731
    answers = []
    wait_for(engine, taken, begin=lambda: answers.append(send_command(out, RetrySeries(series="TS"))))
    assert (answers[0].ok, str(late) in answers[0].text) == (True, True)
    assert not send_command(out, RetryFile(path=str(late))).ok
    assert "no series TS_99" in send_command(out, RetrySeries(series="TS_99")).text
    broken = scope / "TS_99_000_0.0.mrc"
    wait_for(engine, lambda event: isinstance(event, FileRefused), begin=lambda: broken.write_bytes(b"?" * 2000))
    assert str(broken) in send_command(out, RetrySeries(series="TS_99")).text, "a series of refused files only"
    engine.stop("done")
    thread.join(20)
    assert [one.path for one in told(out, FileRefused)][:3] == [str(late), str(late), str(broken)]
    assert [one.path for one in told(out, FileRetried)] == [str(late), str(late), str(broken)]


def test_after_a_restart_a_file_that_was_asked_for_may_be_refused_once_more(tmp_path):
    book = Journal(tmp_path / "journal.jsonl")
    events = (FileRefused(path="/a", reason="r"), FileRefused(path="/b", reason="r"), FileRetried(path="/a"))
    for seq, event in enumerate(events, start=1):
        book.append(messages.Envelope(version=messages.VERSION, session="s", seq=seq, time_s=0.0, event=event))
    book.close()
    heard = []
    teller = Teller(tmp_path, [lambda one: heard.append(one.event)])
    list(teller.open())
    assert teller.refused() == ["/b"]
    for event in events[:2]:
        teller.once(event)
    teller.close()
    assert heard == [events[0]]


def test_refused_files_belong_to_a_series_by_their_names():
    files = ["/w/TS_01_003_9.0.mrc", "/w/TS_01.mrc", "/w/TS_01.mrc.mdoc", "/w/TS_010.mrc", "/w/x.tif", "/w/TS_01.st"]
    assert refused_of("TS_01", settings(), files) == [files[0], files[1], files[2], files[5]]


@pytest.mark.parametrize("words", [["retry"], ["retry", "TS", "--file", "a.mrc"]])
def test_a_series_or_a_file_is_retried_not_both(words, tmp_path, capsys):
    assert cli.main([*words, "--out", str(tmp_path)]) == 1
    assert "give a series or --file" in capsys.readouterr().err


def test_a_run_says_of_each_folder_what_it_is_like(quick, scope, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    engine = Engine(scope, tmp_path / "out", settings(), more=(more,), exit_when_idle_s=0.8)
    engine.run()
    said = {
        one.path: {finding.about: finding.text for finding in one.findings} for one in told(engine.out, FolderTested)
    }
    assert said.keys() == {str(scope), str(more)}
    assert said[str(scope)]["files"] == "6 images, 0 files that describe them; TS_000_0.0.mrc: TS at 0°"
    assert "by a listing every 0.05 s" in said[str(scope)]["changes"]
    assert said[str(more)]["files"] == "nothing there yet"
