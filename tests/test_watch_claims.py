"""Names of series across several watched folders, and across restarts."""

import shutil
import threading

import pytest
from runs import run_until_idle, settings, write_series
from test_watch_catalogue import Folder, info, mdoc, tilt

from streamtomo.engine import Engine
from streamtomo.model import RawImage
from streamtomo.watch.claims import Claims

BEGAN = {"/a": 0, "/b": 10, "/x/b": 20, "/c": 30}
"""Minute at which the series in each folder began."""


def names(sightings):
    return {one.series for one in sightings if isinstance(one, RawImage)}


def images(sightings):
    return [one for one in sightings if isinstance(one, RawImage)]


def by_name(folder, directory, *angles):
    files = {f"{directory}/TS_01_{n:03d}_{angle:.1f}.mrc": info() for n, angle in enumerate(angles)}
    folder.files |= files
    folder.now += 60.0 * BEGAN[directory]
    return folder.see(*files)


def by_stack(folder, directory, sections=3):
    text = mdoc(*(tilt(3 * z, BEGAN[directory] + z) for z in range(sections)))
    folder.files |= {f"{directory}/TS_01.mrc": info(sections), f"{directory}/TS_01.mrc.mdoc": text}
    return folder.see(f"{directory}/TS_01.mrc.mdoc")


def by_mdoc(folder, directory, *angles):
    frames = [f"x{directory[1:]}_{n}.tif" for n in range(len(angles))]
    began = BEGAN[directory]
    text = mdoc(*(tilt(angle, began + n, frames[n]) for n, angle in enumerate(angles)))
    folder.files |= {f"{directory}/{frame}": info() for frame in frames}
    folder.files |= {f"{directory}/TS_01.mdoc": text}
    return folder.see(f"{directory}/TS_01.mdoc", *(f"{directory}/{frame}" for frame in frames))


@pytest.mark.parametrize("write", [by_name, by_stack, by_mdoc])
def test_series_of_one_name_from_two_folders_have_two_names(write):
    claims = Claims()
    arguments = () if write is by_stack else (0.0, 3.0, 6.0)
    assert names(write(Folder(claims=claims), "/a", *arguments)) == {"TS_01"}
    assert names(write(Folder(claims=claims), "/b", *arguments)) == {"b_TS_01"}
    assert names(write(Folder(claims=claims), "/x/b", *arguments)) == {"b_TS_01_2"}


@pytest.mark.parametrize("write", [by_name, by_stack, by_mdoc])
def test_after_a_restart_each_series_goes_on_under_its_name_whatever_folder_is_seen_first(write):
    def arguments(count):
        return (count,) if write is by_stack else tuple(3.0 * n for n in range(count))

    claims = Claims()
    told = [write(Folder(claims=claims), directory, *arguments(3)) for directory in ("/a", "/b", "/x/b")]
    known = [image for sightings in told for image in images(sightings)]
    files, claims = {image.path: info() for image in known}, Claims()
    for directory, name in (("/x/b", "b_TS_01_2"), ("/b", "b_TS_01"), ("/c", "c_TS_01"), ("/a", "TS_01")):
        folder = Folder(known, claims=claims)
        folder.files |= files
        again = write(folder, directory, *arguments(4))
        assert names(again) == {name}, directory
        assert len(images(again)) == (4 if directory == "/c" else 1), "what is known is not told again"


def test_two_threads_never_get_one_name():
    claims, won = Claims(), []
    start = threading.Barrier(8)

    def claim(source):
        start.wait()
        won.extend((name, source) for name in map(str, range(500)) if claims.take(name, source))

    threads = [threading.Thread(target=claim, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for name, _ in won) == sorted(map(str, range(500)))


def test_a_series_that_is_begun_anew_in_one_file_never_gets_a_name_that_another_one_has():
    claims = Claims()
    assert claims.take("TS_2", "/b/TS_2.mrc")
    assert not claims.take("TS_2", "/b/TS_2.mrc", anew=True)
    assert claims.take("TS_3", "/a/TS.mrc", anew=True)
    assert claims.take("TS_3", "/a/TS.mrc")


def test_a_run_of_two_folders_keeps_them_apart_and_a_restart_does_too(quick, tmp_path):
    out, a, b = (tmp_path / name for name in ("out", "a", "b"))
    write_series(a, "TS_01", (0.0, 3.0, 6.0))
    write_series(b, "TS_01", (0.0, 3.0, 6.0, 9.0))
    first = Engine(a, out, settings(min_tilts=2), more=(b,), exit_when_idle_s=0.8)
    first.run()
    counts = {name: len(series.tilts) for name, series in first.series.items()}
    assert sorted(counts.values()) == [3, 4]
    home = {len(series.tilts): name for name, series in first.series.items()}
    shutil.copy(b / "TS_01_003_9.0.mrc", b / "TS_01_004_12.0.mrc")
    again = run_until_idle(a, out, min_tilts=2)
    assert {name: len(series.tilts) for name, series in again.series.items()} == {home[3]: 3, home[4]: 5}
    assert {image.path for image in (state.tilt.image for state in again.series[home[4]].tilts.values())} == {
        str(path) for path in b.iterdir()
    }
