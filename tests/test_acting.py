"""What verdicts lead to: advice, flags, commands."""

import os
import re
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from runs import QuickLane, settings
from runs import told as told_in

from streamtomo.acting import Actor, run_command
from streamtomo.config_judge import Judge
from streamtomo.engine import Engine
from streamtomo.messages import SeriesJudged, Warned

REJECT = SeriesJudged(
    series="TS_1", state="reject", reasons=("no beam in the last 2 tilts",), first_fault=9, usable="9 of 41 tilts"
)
WATCH = SeriesJudged(series="TS_1", state="watch")
SERIALEM = Path(__file__).parents[1] / "scripts" / "serialem"
SCRIPT_COMMANDS = {
    "scriptname", "nomessageboxonerror", "errorstolog", "suppressreports", "reportcurrentfilename", "runinshell", "if",
    "endif", "echo", "test", "abortiffailed",
}  # fmt: skip
"""Those of SerialEM's list of script commands that the script uses."""


class Told:
    def __init__(self):
        self.events, self.there = [], threading.Event()

    def __call__(self, events):
        self.events += events
        self.there.set()


@pytest.fixture
def told():
    return Told()


def actor(out, told, **settings):
    return Actor(Judge(**settings), out, told)


def test_off_does_nothing(tmp_path, told):
    assert actor(tmp_path, told).judged(REJECT) == []
    assert list(tmp_path.iterdir()) == []


def test_advice_says_what_to_do_and_writes_nothing(tmp_path, told):
    (news,) = actor(tmp_path, told, action="advice").judged(REJECT)
    assert news.code == "series.reject"
    assert news.text == (
        "TS_1: end this series (no beam in the last 2 tilts); first tilt at fault: 9; usable: 9 of 41 tilts"
    )
    assert list(tmp_path.iterdir()) == []


def test_act_writes_a_flag_that_goes_with_the_verdict(tmp_path, told):
    one = actor(tmp_path, told, action="act")
    one.judged(REJECT)
    lines = (tmp_path / "judge" / "TS_1.reject").read_text().splitlines()
    assert lines[0] == "TS_1"
    assert "reason: no beam in the last 2 tilts" in lines
    (news,) = one.judged(WATCH)
    assert "taken back" in news.text
    assert not (tmp_path / "judge" / "TS_1.reject").exists()
    assert one.judged(WATCH) == []


def test_act_starts_the_command_once_without_a_shell(tmp_path, told):
    script = "import sys; print(*sys.argv[1:])"
    command = (sys.executable, "-c", script, "{series}", "why={reason};$(id)", "{flag}")
    one = actor(tmp_path, told, action="act", command=command)
    one.judged(REJECT)
    assert told.there.wait(20)
    (event,) = told.events
    said = f"TS_1 why=no beam in the last 2 tilts;$(id) {tmp_path / 'judge' / 'TS_1.reject'}"
    assert event.text.endswith(f"ended with status 0: {said}")
    told.there.clear()
    one.judged(REJECT)
    assert len(told.events) == 1


def test_what_is_filled_in_is_not_filled_again(tmp_path, told):
    odd = SeriesJudged(series="{flag}", state="reject")
    command = (sys.executable, "-c", "import sys; print(sys.argv[1])", "<{series}>")
    actor(tmp_path, told, action="act", command=command).judged(odd)
    assert told.there.wait(20)
    assert told.events[0].text.endswith("status 0: <{flag}>")


def test_a_command_has_a_limit_and_may_be_missing():
    assert run_command([sys.executable, "-c", "import time; time.sleep(60)"], 0.2) == "was ended after 0.2 s"
    assert run_command(["/no/such/program"], 1.0) == "cannot be started (No such file or directory)"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_flag_that_cannot_be_written_is_told(tmp_path, told):
    tmp_path.chmod(0o500)
    news = actor(tmp_path, told, action="act").judged(REJECT)
    tmp_path.chmod(0o700)
    assert "cannot be written" in news[-1].text


def test_the_serialem_script_uses_documented_commands_only():
    for line in (SERIALEM / "stop_rejected.txt").read_text().splitlines():
        text = line.strip()
        if text and not text.startswith("#") and not re.match(r"\w+ = ", text):
            assert text.split()[0].lower() in SCRIPT_COMMANDS, line


class RejectingLane(QuickLane):
    """Rejects every series with its fourth tilt."""

    def process(self, job):
        events = super().process(job)
        if job.tilt.index == 3:
            name = job.tilt.image.series
            events.append(SeriesJudged(series=name, state="reject", reasons=("no beam",), first_fault=2))
        return events


def test_a_run_acts_where_it_is_told_to(quick, scope, tmp_path, monkeypatch):
    monkeypatch.setattr("streamtomo.lanes.Lane", RejectingLane)
    out = tmp_path / "out"
    judge = Judge(action="act", command=(sys.executable, "-c", "print('told')"))
    Engine(scope, out, msgspec.structs.replace(settings(), judge=judge), exit_when_idle_s=1.0).run()
    assert (out / "judge" / "TS.reject").read_text().startswith("TS\nverdict: reject\nreason: no beam\n")
    assert {"series.reject", "judge.command"} <= {event.code for event in told_in(out, Warned)}
    other = tmp_path / "other"
    Engine(scope, other, settings(), exit_when_idle_s=0.8).run()
    assert not (other / "judge").exists()
