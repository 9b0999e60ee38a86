"""Old sessions judged again from their journals."""

import msgspec
import pytest
from judged import DOSE_SYMMETRIC, bright_field, look, placement

from streamtomo import cli
from streamtomo.config import Judge
from streamtomo.messages import Envelope, SeriesOpened, TiltExcluded, TiltPlaced, TiltReceived
from streamtomo.model import Correction, RawImage, Tilt, Verdict
from streamtomo.publish.journal import Journal
from streamtomo.rejudge import again, report

INTERVAL_S = 30.0


def session(light, tilts=20, *, looks=True, more=()):
    """The envelopes of a series with this light at each tilt, all of whose tilts were good then."""
    events = [SeriesOpened(series="A", source="/a", nx=1000, ny=1000, planned_tilts=41)]
    for n, t in enumerate(DOSE_SYMMETRIC[:tilts]):
        image = RawImage(series="A", path=f"/a/{n}", nx=1000, ny=1000, angle_deg=t, acquired_s=1000.0 + INTERVAL_S * n)
        mean = light(n) * bright_field(t, 0.5)
        placed = TiltPlaced(
            series="A",
            index=n,
            angle_deg=t,
            correction=Correction(repaired=0, binning=1, mean=mean, sd=3.0),
            placement=placement(agreed_with=max(0, n - 2), neighbour=max(0, n - 2) if n else None),
            verdict=Verdict(state="good"),
            in_volume=True,
            look=look(mean) if looks else None,
        )
        events += [TiltReceived(series="A", tilt=Tilt(index=n, image=image)), placed]
    return [
        Envelope(version=1, session="s", seq=n, time_s=float(n), event=event)
        for n, event in enumerate([*events, *more], 1)
    ]


def test_a_good_session_stays_good():
    (one,) = again(session(lambda n: 1.0), Judge())
    assert one.rejected is None
    lines = list(report([one]))
    assert lines[0] == "A  20 tilts, good"
    assert lines[-1] == "0 of 1 series would have been rejected, which saves 0.0 of 9.5 min of beam time"


def test_a_beam_that_died_would_have_been_named():
    (one,) = again(session(lambda n: 0.01 if n >= 9 else 1.0), Judge())
    assert (one.at.index, one.rejected.first_fault) == (10, 9)
    assert one.saved_s() == 9 * INTERVAL_S
    text = "\n".join(report([one]))
    assert "rejected after tilt 10 at -15.0°: no beam in the last 2 tilts" in text
    assert "tilt   9 at  +15.0°  good -> bad: intensity 0.01 of what the other tilts predict" in text
    assert text.endswith("1 of 1 series would have been rejected, which saves 4.5 of 9.5 min of beam time")


def test_other_settings_judge_otherwise():
    dim = session(lambda n: 0.42 if 9 <= n <= 12 else 1.0)
    assert again(dim, Judge())[0].rejected is not None
    assert again(dim, Judge(preset="cautious"))[0].rejected is None
    assert again(dim, Judge(preset="off"))[0].judge.judgement.state == "good"


def test_journals_from_before_looks_are_judged_by_what_they_have():
    (one,) = again(session(lambda n: 0.01 if n >= 9 else 1.0, looks=False), Judge())
    assert one.rejected is not None
    assert any("from before looks were recorded" in line for line in report([one]))


def test_excluded_tilts_do_not_count():
    excluded = [TiltExcluded(series="A", index=3, reason="taken again")]
    (one,) = again(session(lambda n: 1.0, more=excluded), Judge())
    assert 3 not in {each.index for each in one.judge.seen}


def test_the_command_reads_an_output_folder_or_a_journal(tmp_path, capsys):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(*session(lambda n: 0.01 if n >= 9 else 1.0))
    journal.close()
    for source in (tmp_path, tmp_path / "journal.jsonl"):
        assert cli.main(["replay", "--judge-only", str(source), "--set", "judge.in_a_row=4"]) == 0
        assert "1 of 1 series would have been rejected" in capsys.readouterr().out
    assert cli.main(["replay", "--judge-only", str(tmp_path / "none")]) == 1
    assert "no journal" in capsys.readouterr().err


def test_playing_and_judging_exclude_each_other(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["replay", str(tmp_path)])
    assert "one of the arguments --into --judge-only is required" in capsys.readouterr().err


def test_looks_come_back_from_the_journal_as_they_were():
    seen = look(100.0, blocked=0.25, blocked_side="left")
    assert msgspec.json.decode(msgspec.json.encode(seen), type=type(seen)) == seen
