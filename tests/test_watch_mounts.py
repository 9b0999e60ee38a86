"""Mounts: their table, what sends events, and a watch over folders whose mount vanishes and returns."""

import errno
import os
import threading
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from streamtomo.config import Settings, Watch
from streamtomo.errors import NotReady
from streamtomo.messages import Warned
from streamtomo.model import RawImage
from streamtomo.watch import folder as watch_folder
from streamtomo.watch import mounts
from streamtomo.watch.folder import FolderWatch
from streamtomo.watch.pulse import Pulse

TABLE = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 27 0:40 / /mnt/krios rw,relatime shared:2 - nfs4 scope:/export/krios rw,vers=4.2,hard
41 27 0:41 / /mnt/krios2 rw - cifs //k3/frames rw
42 27 0:42 / /mnt/two\040words rw - fuse.sshfs me@host:/data rw
43 40 0:43 / /mnt/krios/disk rw - ext4 /dev/sdb1 rw
44 27 0:44 / /mnt/over rw - tmpfs tmpfs rw
45 27 0:45 / /mnt/over rw - 9p C:\134 rw
a line that is none
"""


def at(path):
    return mounts.covering(path, mounts.parse(TABLE))


@pytest.mark.parametrize(
    ("path", "kind", "events"),
    [("/home/me", "ext4", True), ("/mnt/krios", "nfs4", False), ("/mnt/krios/today", "nfs4", False),
     ("/mnt/krios2/a", "cifs", False), ("/mnt/krios22/a", "ext4", True), ("/mnt/krios/disk/a", "ext4", True),
     ("/mnt/two words/x", "fuse.sshfs", False), ("/mnt/over/x", "9p", False), ("/", "ext4", True)],
)  # fmt: skip
def test_the_longest_and_last_mount_above_a_folder_is_its_own(path, kind, events):
    assert (at(path).kind, at(path).sends_events) == (kind, events)


@pytest.mark.parametrize(("kind", "events"), [("fuseblk", True), ("xfs", True), ("overlay", True), ("nfs", False),
    ("smb3", False), ("vboxsf", False), ("drvfs", False), ("lustre", False), ("beegfs", False), ("gpfs", False),
    ("ceph", False), ("afs", False), ("fuse.glusterfs", False), ("fuse", False), ("nfsd", True)])  # fmt: skip
def test_only_local_file_systems_send_events(kind, events):
    assert mounts.Mount("/x", kind, "none").sends_events is events


def test_in_words_and_where_there_is_no_table(monkeypatch, tmp_path):
    assert str(at("/mnt/krios")) == "NFS (nfs4), scope:/export/krios at /mnt/krios"
    assert str(at("/mnt/krios2")).startswith("SMB (cifs), //k3/frames")
    assert [mount.point for mount in mounts.below("/mnt/krios", mounts.parse(TABLE))] == ["/mnt/krios/disk"]
    monkeypatch.setattr(mounts, "TABLE", tmp_path / "nothing")
    assert mounts.mount_of(tmp_path) is None


# -- the watch ---------------------------------------------------------------------------------------------------------


def write(path: Path, value: int = 0) -> None:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.full((6, 8), value, np.int16))


class Story:
    """A watch over `folder` on ground that the test makes; the time is told by the test."""

    def __init__(self, folder, monkeypatch, *, events="auto", kinds=()):
        self.table = ""
        monkeypatch.setattr(mounts, "read_table", lambda: self.table)
        self.mount(*kinds)
        self.now = 1000.0
        self.pulse = Pulse()
        settings = Settings(watch=Watch(settle_s=1.0, relist_s=1.0, events=events))
        self.watch = FolderWatch(folder, settings, pulse=self.pulse)

    def mount(self, *places):
        rows = [("/", "ext4", "/dev/vda"), *places]
        self.table = "".join(f"1 1 0:1 / {point} rw - {kind} {source} rw\n" for point, kind, source in rows)

    def after(self, seconds):
        told, end = [], self.now + seconds
        while self.now < end:
            self.now += 0.5
            told += self.watch.step(self.now)
        return told

    def codes(self, seconds):
        return [sighting.code for sighting in self.after(seconds) if isinstance(sighting, Warned)]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "in"
    path.mkdir()
    return path


def images(told):
    return [os.path.basename(sighting.path) for sighting in told if isinstance(sighting, RawImage)]


def test_on_a_network_mount_the_folder_is_listed_and_that_is_said_once_with_its_type(folder, monkeypatch):
    story = Story(folder, monkeypatch, kinds=[(folder.parent, "nfs4", "scope:/export")])
    (said,) = story.after(20.0)
    assert said.code == "folder.polling"
    assert "NFS (nfs4), scope:/export" in said.text
    assert "listed every 1 s" in said.text
    assert not [thread for thread in threading.enumerate() if "inotify" in thread.name.lower()]
    write(folder / "a_001_0.0.mrc")
    assert images(story.after(3.0)) == ["a_001_0.0.mrc"]


@pytest.mark.parametrize(("events", "listens"), [("auto", False), ("on", True), ("off", False)])
def test_the_setting_wins_over_the_mount(folder, monkeypatch, events, listens):
    story = Story(folder, monkeypatch, events=events, kinds=[(folder, "fuse.sshfs", "me@host:")])
    story.after(1.0)
    assert story.watch._events.listening is listens
    story.watch.close()


def test_a_mount_that_vanishes_is_an_alarm_and_nothing_is_forgotten_or_told_twice(folder, monkeypatch):
    krios = (folder, "nfs4", "scope:/export")
    story = Story(folder, monkeypatch, kinds=[krios])
    write(folder / "a_001_0.0.mrc")
    assert images(story.after(3.0)) == ["a_001_0.0.mrc"]
    (folder / "a_001_0.0.mrc").rename(folder.parent / "kept.mrc")
    story.mount()  # an empty directory where the mount was
    (said,) = story.after(20.0)
    assert said.code == "folder.gone"
    assert "no longer mounted: NFS" in said.text
    (folder.parent / "kept.mrc").rename(folder / "a_001_0.0.mrc")
    write(folder / "a_002_3.0.mrc")
    story.mount(krios)
    told = story.after(5.0)
    assert [sighting.code for sighting in told if isinstance(sighting, Warned)] == ["folder.back"]
    assert images(told) == ["a_002_3.0.mrc"]
    story.mount()
    for path in folder.iterdir():
        path.rename(folder.parent / path.name)
    (again,) = story.after(3.0)
    assert again.code == "folder.gone"
    assert again != said  # or who tells each thing once would keep silent


def test_a_mount_that_comes_after_the_start_is_no_alarm_nor_is_one_that_was_replaced(folder, monkeypatch):
    story = Story(folder, monkeypatch)
    assert story.codes(3.0) == []
    story.mount((folder, "nfs4", "scope:/export"))
    write(folder / "a_001_0.0.mrc")
    assert images(story.after(3.0)) == ["a_001_0.0.mrc"]
    story.mount((folder.parent, "nfs4", "scope:/export"))  # now with the folder inside
    assert story.codes(5.0) == []


def test_a_mount_inside_the_folder_may_vanish_and_the_rest_goes_on(folder, monkeypatch):
    inner = folder / "scope 2"
    inner.mkdir()
    place = (str(inner).replace(" ", r"\040"), "cifs", "//k3/x")
    story = Story(folder, monkeypatch, events="off", kinds=[place])
    write(inner / "b_001_0.0.mrc")
    assert images(story.after(3.0)) == ["b_001_0.0.mrc"]
    (inner / "b_001_0.0.mrc").rename(folder.parent / "kept.mrc")
    story.mount()
    write(folder / "a_001_0.0.mrc")
    told = story.after(5.0)
    assert [sighting.code for sighting in told if isinstance(sighting, Warned)] == ["folder.gone"]
    assert str(inner) in told[0].text
    assert images(told) == ["a_001_0.0.mrc"]
    assert story.pulse.gone == {str(inner): told[0].text}, "whatever else was found meanwhile"
    (folder.parent / "kept.mrc").rename(inner / "b_001_0.0.mrc")
    story.mount(place)
    told = story.after(5.0)
    assert [sighting.code for sighting in told] == ["folder.back"]
    assert story.pulse.gone == {}


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.ENOENT, errno.ETIMEDOUT])
def test_whatever_error_a_dead_mount_gives(folder, monkeypatch, number):
    story = Story(folder, monkeypatch, events="off")
    write(folder / "a_001_0.0.mrc")
    assert images(story.after(3.0)) == ["a_001_0.0.mrc"]
    real, dead = os.scandir, OSError(number, os.strerror(number))

    def scandir(path):
        if os.fspath(path) == str(folder):
            raise dead
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        (said,) = story.after(30.0)
    assert (said.code, os.strerror(number) in said.text) == ("folder.gone", True)
    assert [sighting.code for sighting in story.after(3.0)] == ["folder.back"]


def test_a_sub_folder_with_a_stale_handle_is_kept_and_a_deleted_one_is_not(folder, monkeypatch):
    inner = folder / "deep"
    inner.mkdir()
    story = Story(folder, monkeypatch, events="off")
    write(inner / "a_001_0.0.mrc")
    assert images(story.after(3.0)) == ["a_001_0.0.mrc"]
    opened, real = [], os.scandir

    def scandir(path):
        if os.fspath(path) == str(inner):
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        assert story.codes(5.0) == ["folder.gone"]
    monkeypatch.setattr("streamtomo.watch.catalogue.probe", opened.append)
    assert story.codes(5.0) == ["folder.back"]
    assert opened == []


def test_a_folder_that_is_suddenly_bare_is_one_whose_server_lost_its_disk(folder, monkeypatch):
    story = Story(folder, monkeypatch, events="off")
    for number in (1, 2):
        write(folder / f"a_{number:03d}_{number}.0.mrc")
    story.after(3.0)
    folder.rename(folder.parent / "away")
    folder.mkdir()
    (said,) = story.after(5.0)
    assert (said.code, "empty, though it held 2" in said.text) == ("folder.gone", True)
    folder.rmdir()
    (folder.parent / "away").rename(folder)
    assert [sighting.code for sighting in story.after(5.0)] == ["folder.back"]


def test_a_listing_that_hangs_can_be_seen_from_another_thread(folder, monkeypatch):
    story = Story(folder, monkeypatch, events="off")
    story.after(1.0)
    assert story.pulse.stuck(0.0) is None
    release, inside = threading.Event(), threading.Event()

    def scandir(path):
        inside.set()
        release.wait(10)
        return iter(())

    monkeypatch.setattr(os, "scandir", scandir)
    thread = threading.Thread(target=story.after, args=(1.0,))
    thread.start()
    assert inside.wait(10)
    words = story.pulse.stuck(0.0)
    assert str(folder) in words
    assert "listing" in words
    assert story.pulse.stuck() is None  # not yet longer than the limit
    assert story.pulse.stuck(0.0) == words
    release.set()
    thread.join()
    assert story.pulse.stuck(0.0) is None


def test_a_file_that_hangs_is_named_and_each_call_has_its_own_time(folder, monkeypatch):
    write(folder / "a_001_0.0.mrc")
    asked = []

    def probe(path, growing=False):
        asked.append(story.pulse.stuck(0.0))
        raise NotReady(path)

    monkeypatch.setattr(watch_folder, "DISK", watch_folder.DISK._replace(probe=probe))
    story = Story(folder, monkeypatch, events="off")
    story.after(3.0)
    assert f"{folder}/a_001_0.0.mrc: reading it has not come back" in asked[0]


def test_a_slow_listing_is_made_less_often(folder, monkeypatch):
    story = Story(folder, monkeypatch, events="off")
    ticks = iter(range(0, 10**6, 3))  # each listing takes 3 s by this clock
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    calls = []
    monkeypatch.setattr(story.watch, "_read", lambda *args: calls.append(story.now) or [])
    story.after(100.0)
    assert len(calls) == 4


def test_files_at_rest_are_looked_at_in_turns_and_a_change_is_found(folder, monkeypatch):
    story = Story(folder, monkeypatch, events="off")
    for number in range(40):
        write(folder / f"a_{number:03d}_{number}.0.mrc")
    assert len(images(story.after(3.0))) == 40
    story.after(700.0)
    asked, real = [], os.scandir

    class Entry:
        def __init__(self, entry):
            self.name, self.path, self.is_dir = entry.name, entry.path, entry.is_dir
            self._entry = entry

        def stat(self):
            asked.append(self.name)
            return self._entry.stat()

    monkeypatch.setattr(os, "scandir", lambda path: iter([Entry(entry) for entry in real(path)]))
    story.after(1.0)
    assert len(asked) < 20
    story.after(16.0)
    assert set(asked) == {f"a_{number:03d}_{number}.0.mrc" for number in range(40)}
    write(folder / "a_040_-1.0.mrc")
    assert images(story.after(3.0)) == ["a_040_-1.0.mrc"]
    os.utime(folder / "a_007_7.0.mrc", (1, 1))
    story.after(17.0)
    assert story.watch._settle.at_rest(str(folder / "a_007_7.0.mrc"), story.now - 600) is None
