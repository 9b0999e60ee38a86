"""What the times of files prove about another clock. The time is told by the test."""

import os
import time

import pytest

from streamtomo.config import Settings, Watch
from streamtomo.watch.clocks import FileClock
from streamtomo.watch.folder import FolderWatch
from streamtomo.watch.pulse import Pulse
from streamtomo.watch.settle import Seen


class Acquisition:
    """Files that are written by a clock `ahead` of the watcher's, which looks every second."""

    def __init__(self, ahead, granularity=0.001):
        self.clock = FileClock(agree_s=0.6)
        self.now, self.ahead, self.granularity = 1000.0, ahead, granularity
        self.files = {}

    def look(self, new=True):
        self.now += 1.0
        for path, (size, mtime) in self.files.items():
            self.clock.saw(Seen(path, size, mtime), self.now, new=new)
        return self.clock.bounds()

    def write(self, path, size, mtime=None):
        """Half way between two looks."""
        time = self.now + 0.5 + self.ahead
        self.files[path] = (size, time // self.granularity * self.granularity if mtime is None else mtime)

    def grow(self, tilts=6):
        for n in range(tilts):
            for path in ("/w/TS.mrc", "/w/TS.mrc.mdoc"):
                self.write(path, n)
                self.look()
        return self.clock.bounds()


@pytest.mark.parametrize("ahead", [-3600.0, -5.0, 0.0, 5.0, 3600.0])
def test_files_that_grow_tell_the_difference_from_both_sides(ahead):
    low, high = Acquisition(ahead).grow()
    assert low <= ahead <= high + 1e-6
    assert high - low < 1.1


def test_two_tilts_prove_nothing_nor_does_one_file():
    assert Acquisition(-100.0).grow(tilts=2) is None
    story = Acquisition(-100.0)
    for n in range(20):
        story.write("/w/TS.mrc", n)
        assert story.look() is None


def test_copies_that_keep_their_times_prove_nothing():
    """cp -p: a file grows with the time of now, and gets its old one with its last bytes; rsync: it appears with it."""
    story = Acquisition(0.0)
    for n in range(12):
        story.write(f"/w/{n}.mrc", 1)
        story.look()
        story.write(f"/w/{n}.mrc", 2, mtime=story.now - 500.0)
        story.write(f"/w/rsync_{n}.mrc", 2, mtime=story.now - 500.0)
        assert story.look() is None


def test_a_growing_file_copied_again_and_again_with_its_time_proves_nothing():
    """Each round brings what was written meanwhile, with a lag that varies: the proofs contradict each other."""
    story = Acquisition(0.0)
    for n, lag in enumerate((10.0, 52.0, 34.0, 3.0, 21.0, 47.0, 60.0, 15.0)):
        for _ in range(60):
            assert story.look() is None
        for path in ("/w/TS.mrc", "/w/TS.mrc.mdoc"):
            story.write(path, n, mtime=story.now - lag)


def test_files_that_were_there_before_prove_nothing_and_new_ones_from_the_future_do():
    story = Acquisition(7.0)
    for n in range(8):
        story.write(f"/w/{n}.mrc", 1)
    assert story.look(new=False) is None
    for n in range(8):
        story.write(f"/w/new_{n}.mrc", 1)
        story.look()
    low, high = story.clock.bounds()
    assert 6.4 < low <= 7.0 < high


def test_a_clock_that_is_set_right_is_right_soon():
    story = Acquisition(300.0)
    assert story.grow()[0] > 299
    story.ahead = 0.0
    low, high = story.grow(tilts=5)
    assert low <= 0.0 <= high


def test_a_network_drive_that_shows_old_states_for_a_while_makes_no_clock_wrong():
    """A look may show a file as it was up to 10 s ago: the writing then lies before the look before."""
    story = Acquisition(0.0)
    for n in range(1, 20):
        for path, late in (("/w/TS.mrc", 10.0 * (n % 4 > 0)), ("/w/TS.mrc.mdoc", 0.0)):
            story.files[path] = (n, story.now + 0.5 - late)
        bounds = story.look()
        story.now += 29.0
        assert bounds is None or bounds[1] >= -0.6


def test_the_watch_tells_what_its_own_looks_prove(tmp_path):
    pulse, now = Pulse(), time.monotonic()
    on_the_wall = time.time() - now
    watch = FolderWatch(tmp_path, Settings(watch=Watch(settle_s=0.5, relist_s=1.0, events="off")), pulse=pulse)
    for n in range(1, 8):
        for name in ("TS.mrc", "TS.mrc.mdoc"):
            (tmp_path / name).write_bytes(b"x" * n)
            os.utime(tmp_path / name, (now + on_the_wall - 100.0,) * 2)
        now += 1.1
        watch.step(now)
    low, high = pulse.clock_s
    assert low <= -99.99
    assert -100.01 <= high < -98.5
