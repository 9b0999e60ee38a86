"""Stories of alarms: what was known when, and what was raised or cleared. Nothing here sleeps."""

from streamtomo.alarms import Alarms, Facts, FolderFacts
from streamtomo.config import Settings
from streamtomo.messages import AlarmCleared
from streamtomo.model import RawImage

SCOPE = "/scope"


def facts(now, collecting=True, gone=None, listed_s=None, backlog=0, free_GB=None):
    listed_s = now if listed_s is None else listed_s
    folder = FolderFacts(path=SCOPE, collecting=collecting, listed_s=listed_s, gone=gone)
    return Facts(backlog=backlog, free_GB=free_GB, folders=(folder,))


def image(written_s):
    return RawImage(series="TS", path="/scope/x", nx=1, ny=1, angle_deg=0.0, written_s=written_s)


def look(alarms, now, **known):
    news = alarms.look(facts(now, **known), now)
    return [f"-{one.code}" if isinstance(one, AlarmCleared) else one.code for one in news]


def fed(steps, lag=1.0):
    """Alarms after tilts that came with these pauses, and the time of the last."""
    alarms, now = Alarms(Settings()), 1000.0
    for step in (0.0, *steps):
        now += step
        alarms.arrived(SCOPE, image(now - lag), now)
    return alarms, now


def test_a_late_tilt_is_an_alarm_until_it_comes():
    alarms, now = fed([30.0] * 8)
    assert look(alarms, now + 89) == []
    assert look(alarms, now + 91) == ["tilt.late"]
    assert look(alarms, now + 200) == [], "said once"
    alarms.arrived(SCOPE, image(now + 200), now + 201)
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


def test_a_clock_that_differs_is_told_in_both_directions():
    ahead, now = fed([30.0] * 8, lag=-100.0)
    assert look(ahead, now) == ["clock.differs"]
    behind, now = fed([30.0] * 8, lag=100.0)
    assert look(behind, now) == ["clock.differs"]
    right, now = fed([30.0] * 8, lag=1.3)
    assert look(right, now) == []


def test_one_file_that_was_found_late_is_no_wrong_clock():
    alarms, now = fed([30.0] * 8)
    alarms.arrived(SCOPE, image(now - 500), now + 1)
    assert look(alarms, now + 1) == []


def test_a_folder_that_is_gone_or_hangs():
    alarms = Alarms(Settings())
    assert look(alarms, 1000.0) == []
    assert look(alarms, 1001.0, gone="no such folder") == ["folder.gone"]
    assert look(alarms, 1002.0) == ["-folder.gone"]
    assert look(alarms, 1100.0, listed_s=1002.0) == ["folder.stuck"]
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
        alarms.arrived(SCOPE, image(500.0), 1000.0 + 0.001 * n)
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
