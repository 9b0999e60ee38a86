"""What an output folder keeps, and what `clean` deletes of it."""

import mrcfile
import numpy as np
import pytest
from runs import done

from streamtomo import outfolder
from streamtomo.cli import main
from streamtomo.config import Settings
from streamtomo.housekeeping import take_stock
from streamtomo.messages import (
    VERSION,
    Envelope,
    SeriesCompleted,
    SessionStarted,
    TiltReceived,
    TiltUpdated,
)
from streamtomo.model import RawImage, Tilt
from streamtomo.publish.journal import Journal
from streamtomo.sums import Done, keep_sum, sum_path


@pytest.fixture
def out(tmp_path):
    """An output folder with a finished series, one of which a movie is gone, an open one, and what a crash left."""
    out = tmp_path / "out"
    events = [SessionStarted(watched=str(tmp_path), out=str(out), host="h", pid=1, program="0")]
    for series, lost in (("done", ()), ("lost", (1,)), ("open", ())):
        for index in range(2):
            path = tmp_path / f"{series}_{index}.eer"
            image = RawImage(series=series, path=str(path), frames=9, nx=16, ny=16, angle_deg=3.0 * index)
            events.append(TiltReceived(series=series, tilt=Tilt(index=index, image=image)))
            path.write_bytes(b"movie")
            kept = sum_path(image, Settings(), out / series, with_drift=True)
            keep_sum(kept, image, np.ones((16, 16), np.float32), Done(frames=9))
            if index in lost:
                path.unlink()
        for name in (f"{series}_ali.mrc", f"{series}_rec.mrc", f"{series}_even_rec.mrc", f"{series}.tlt"):
            (out / series / name).write_bytes(b"x" * 1000)
        (out / ".live" / series).mkdir(parents=True)
        (out / ".live" / series / "volume").write_bytes(b"x" * 1000)
        if series != "open":
            events += [SeriesCompleted(series=series, witness="count", text="", tilts=2), done(series)]
    for path in (out / "done" / "done_rec.mrc.part", out / "done" / "sums" / "y.mrc.part", out / "endpoint.json.part"):
        path.write_bytes(b"x" * 1000)
    (out / ".live" / "forgotten").mkdir()
    (out / ".live" / "forgotten" / "volume").write_bytes(b"x")
    (out / ".live" / ".camera" / "16x16_noscale_eer").mkdir(parents=True)
    (out / ".live" / ".camera" / "16x16_noscale_eer" / "12.places").write_bytes(b"x")
    (out / "mine").mkdir()
    (out / "mine" / "notes.part").write_bytes(b"x")
    (out / "mine" / "mine_ali.mrc").write_bytes(b"x")
    book = Journal(out / "journal.jsonl")
    for seq, event in enumerate(events, start=1):
        book.append(Envelope(version=VERSION, session="s", seq=seq, time_s=0.0, event=event))
    book.close()
    return out


def files(out):
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name != ".lock"}


def is_sum(name, *series):
    return "/sums/" in name and name.split("/")[0] in series


def test_nothing_is_deleted_unless_told_and_the_plan_says_why(out, capsys):
    before = files(out)
    assert main(["clean", str(out)]) == 0
    assert files(out) == before
    said = capsys.readouterr().out
    loose, rest = said.split("can be deleted, nothing is lost:")[1].split("only with --all-intermediate:")
    intermediate, stays = rest.split("stays:")
    assert "movie sums of done" in loose
    assert "live cache of forgotten" in loose
    assert "killed" in loose
    assert "aligned stack of done" in intermediate
    assert "movie sums of lost: their movies are not there any more" in stays
    assert "movie sums of open: made again from the movies; the series is collecting" in stays
    assert "clean " + str(out) + " --yes" in stays


def test_with_yes_only_what_can_be_made_again_goes(out):
    before = files(out)
    assert main(["clean", str(out), "--yes"]) == 0
    gone = before - files(out)
    lost_sums = [name for name in gone if is_sum(name, "lost")]
    assert {name.rsplit(".", 1)[1] for name in lost_sums} == {"mrc", "json"}
    assert len(lost_sums) == 2, "of the movie that is still there"
    sums = {name for name in before if is_sum(name, "done")}
    assert gone - set(lost_sums) == sums | {
        ".live/done/volume", ".live/lost/volume", ".live/forgotten/volume", "done/done_rec.mrc.part",
        "endpoint.json.part",
    }  # fmt: skip
    assert not (out / "done" / "sums").exists()
    assert {path.name for path in (out / ".live").iterdir()} == {".camera", "open"}


@pytest.mark.parametrize("change", [{"gone": "another exposure lies there"}, {"written_s": 1e9}])
def test_the_sum_of_a_movie_whose_place_another_one_has_stays(out, tmp_path, change):
    path = tmp_path / "done_0.eer"
    image = RawImage(series="done", path=str(path), frames=9, nx=16, ny=16, angle_deg=0.0, **change)
    book = Journal(out / "journal.jsonl")
    event = TiltUpdated(series="done", tilt=Tilt(index=0, image=image))
    book.append(Envelope(version=VERSION, session="s", seq=99, time_s=0.0, event=event))
    book.close()
    assert main(["clean", str(out), "--yes"]) == 0
    assert len([name for name in files(out) if is_sum(name, "done")]) == 2


def test_aligned_stacks_of_finished_series_go_where_that_is_asked_for(out):
    before = files(out)
    assert main(["clean", str(out), "--yes", "--all-intermediate"]) == 0
    assert {name for name in before - files(out) if name.endswith("_ali.mrc")} == {
        "done/done_ali.mrc",
        "lost/lost_ali.mrc",
    }
    assert {"done/done_rec.mrc", "done/done_even_rec.mrc", "done/done.tlt", "journal.jsonl"} <= files(out)


def test_every_file_is_counted_once_and_links_are_not_followed(out, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.part").write_bytes(b"x")
    (out / "done" / "link").symlink_to(elsewhere)
    (out / "done" / "file.part").symlink_to(elsewhere / "precious.part")
    assert sorted(str(item.path.relative_to(out)) for item in take_stock(out)) == sorted(
        files(out) - {"done/file.part", "done/link/precious.part"}
    )
    assert main(["clean", str(out), "--yes"]) == 0
    assert (elsewhere / "precious.part").exists()


def test_while_a_run_is_at_work_nothing_is_deleted(out, tmp_path, capsys):
    before = files(out)
    with outfolder.lock_out((), out):
        assert main(["clean", str(out), "--yes"]) == 1
        assert "a run is at work there" in capsys.readouterr().err
        assert main(["clean", str(out)]) == 0
        assert "nothing can be deleted before it has ended" in capsys.readouterr().out
    assert files(out) == before


def test_a_folder_that_is_none_of_a_run_is_refused(tmp_path, capsys):
    mrcfile.write(tmp_path / "TS_ali.mrc", np.zeros((2, 2), np.int16))
    assert main(["clean", str(tmp_path), "--yes"]) == 1
    assert "holds no results of a run" in capsys.readouterr().err
    assert files(tmp_path) == {"TS_ali.mrc"}


def test_what_cannot_be_deleted_is_named(out, capsys, monkeypatch):
    def refuse(path, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    assert main(["clean", str(out), "--yes"]) == 1
    assert "cannot be deleted (Permission denied)" in capsys.readouterr().out
