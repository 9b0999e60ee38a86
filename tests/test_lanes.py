"""Which of the waiting tilts the live lane takes next."""

from streamtomo.config import Settings
from streamtomo.lanes import EVEN, LiveQueue
from streamtomo.model import RawImage
from streamtomo.series import Process, Series


def image(series, n, exposed_s):
    path = f"/data/{series}_{n:03d}.mrc"
    return RawImage(series=series, path=path, nx=64, ny=64, angle_deg=3.0 * n, acquired_s=exposed_s)


def queue(tmp_path, *exposures):
    """Tilts (series, number, time of exposure) that arrived in this order."""
    live = LiveQueue(Settings(), tmp_path, done=print, idle=print)
    series_of = {}
    for name, n, exposed_s in exposures:
        series = series_of.setdefault(name, Series(name, Settings()))
        for command in series.image(image(name, n, exposed_s), 0.0, live=True):
            if isinstance(command, Process):
                live.add(series.tilts[command.index].tilt, live=True)
    return live, series_of


def taken(live, series_of):
    names = []
    while live.backlog:
        names.append(live.feed(series_of).name)
        live.at_work = False
    return "".join(names)


def test_series_collected_in_turn_are_processed_in_turn_even_if_one_is_listed_after_the_other(tmp_path):
    files = [("A", n, 10.0 * n) for n in range(4)] + [("B", n, 10.0 * n + 5) for n in range(4)]
    assert taken(*queue(tmp_path, *files)) == "ABABABAB"


def test_what_is_collected_now_does_not_wait_for_an_old_series(tmp_path):
    old = [("A", n, float(n)) for n in range(2 * EVEN)]
    assert taken(*queue(tmp_path, *old, ("B", 0, 1000.0)))[0] == "B"


def test_of_one_series_the_first_to_arrive_is_the_first(tmp_path):
    live, series_of = queue(tmp_path, ("A", 1, 20.0), ("A", 0, 10.0))
    live.feed(series_of)
    assert live._jobs.get_nowait().tilt.image.acquired_s == 20.0


def test_one_at_a_time(tmp_path):
    live, series_of = queue(tmp_path, ("A", 0, 0.0), ("A", 1, 1.0))
    assert live.feed(series_of) is not None
    assert live.feed(series_of) is None
    assert live.backlog == 2
