"""The clock by which silence is measured."""

import time

from streamtomo import steady


def test_it_shows_the_time_of_day_and_heeds_no_setting_of_the_clock(monkeypatch):
    before = steady.now_s()
    assert abs(before - time.time()) < 5
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= steady.now_s() - before < 5


def test_it_can_run_faster(monkeypatch):
    monkeypatch.setattr(steady, "_rate", 1.0)
    steady.run_faster(3600.0)
    before = steady.now_s()
    time.sleep(0.01)
    assert steady.now_s() - before >= 36.0
