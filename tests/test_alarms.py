"""Stories of alarms: what was known when, and what was raised or cleared. Nothing here sleeps."""

import math

import pytest

from streamtomo.alarms import Alarms, Facts, FolderFacts
from streamtomo.config import Settings
from streamtomo.messages import AlarmCleared

SCOPE = "/scope"


def facts(collecting=True, backlog=0, free_GB=None, **known):
    folder = FolderFacts(path=SCOPE, collecting=collecting, **known)
    return Facts(backlog=backlog, free_GB=free_GB, folders=(folder,))


def look(alarms, now, **known):
    news = alarms.look(facts(**known), now)
    return [f"-{one.code}" if isinstance(one, AlarmCleared) else one.code for one in news]


def fed(steps):
    """Alarms after tilts that came with these pauses, and the time of the last."""
    alarms, now = Alarms(Settings()), 1000.0
    for step in (0.0, *steps):
        now += step
        alarms.arrived(SCOPE, now)
    return alarms, now


def test_a_late_tilt_is_an_alarm_until_it_comes():
    alarms, now = fed([30.0] * 8)
    assert look(alarms, now + 89) == []
    assert look(alarms, now + 91) == ["tilt.late"]
    assert look(alarms, now + 200) == [], "said once"
    alarms.arrived(SCOPE, now + 201)
    assert look(alarms, now + 201) == ["-tilt.late"]


def test_nothing_is_late_when_no_series_is_open():
    alarms, now = fed([30.0] * 8)
    assert look(alarms, now + 500, collecting=False) == []


def test_files_that_come_in_batches_are_not_late():
    alarms, now = fed([0.1, 0.1, 300.0] * 6)
    assert look(alarms, now + 600) == []
    assert look(alarms, now + 1000) == ["tilt.late"]


def test_two_tilts_do_not_make_a_usual_interval():
    alarms, now = fed([5.0])
    assert look(alarms, now + 5000) == []


@pytest.mark.parametrize(
    ("clock_s", "told"),
    [
        (None, []),
        ((99.5, 100.5), ["clock.differs"]),
        ((-100.5, -99.5), ["clock.differs"]),
        ((0.8, math.inf), ["clock.differs"]),
        ((-0.4, 0.6), []),
        ((-2.5, -2.0), []),  # times may be cut to 2 s
    ],
)
def test_a_clock_that_differs_is_told_in_both_directions(clock_s, told):
    alarms = Alarms(Settings())
    assert look(alarms, 1000.0, clock_s=clock_s) == told
    assert look(alarms, 1000.5, clock_s=None) == [], "while the proofs contradict each other it stands"
    assert look(alarms, 1001.0, clock_s=(-0.1, 0.1)) == [f"-{code}" for code in told]


def test_a_folder_that_is_gone_or_hangs():
    alarms = Alarms(Settings())
    assert look(alarms, 1000.0) == []
    assert look(alarms, 1001.0, gone="no such folder") == ["folder.gone"]
    assert look(alarms, 1002.0) == ["-folder.gone"]
    assert look(alarms, 1100.0, stuck="a listing has not come back") == ["folder.stuck"]
    assert look(alarms, 1101.0) == ["-folder.stuck"]


def test_a_backlog_that_stays_is_an_alarm_and_does_not_flicker():
    alarms = Alarms(Settings())
    for second in range(20):
        assert look(alarms, float(second), backlog=12) == []
    assert look(alarms, 20.0, backlog=12) == ["behind"]
    assert look(alarms, 21.0, backlog=6) == []
    assert look(alarms, 22.0, backlog=4) == ["-behind"]


def test_a_stack_that_comes_at_once_is_no_alarm():
    alarms = Alarms(Settings())
    for n in range(77):
        alarms.arrived(SCOPE, 1000.0 + 0.001 * n)
    for second in range(60):
        assert look(alarms, 1000.0 + second, backlog=max(0, 77 - second)) == []


def test_disk_low_and_full():
    alarms = Alarms(Settings())
    assert look(alarms, 1.0, free_GB=100.0) == []
    assert look(alarms, 2.0, free_GB=4.0) == ["disk.low"]
    assert look(alarms, 3.0, free_GB=0.5) == ["disk.full"]
    assert look(alarms, 4.0, free_GB=1.1) == []
    assert look(alarms, 5.0, free_GB=3.0) == ["-disk.full"]
    assert look(alarms, 6.0, free_GB=7.0) == ["-disk.low"]


def test_when_the_disk_will_be_full_is_foretold():
    alarms = Alarms(Settings())
    news = []
    for minute in range(40):
        news += look(alarms, 60.0 * minute, free_GB=200.0 - 1.0 * minute)
    assert news == [], "three hours are left"
    for minute in range(40, 110):
        news += look(alarms, 60.0 * minute, free_GB=200.0 - 1.0 * minute)
    assert news == ["disk.soon"]
