"""The settle machine, in stories."""

from itertools import pairwise

import pytest

from streamtomo.watch.settle import Seen, Settle


class Story:
    """A settle machine whose time the test tells."""

    def __init__(self, settle_s=1.0):
        self.machine = Settle(settle_s)

    def write(self, at, size, path="a", mtime=None):
        self.machine.observe(Seen(path, size, at if mtime is None else mtime), at)

    def due(self, at):
        return [(due.seen.path, due.why) for due in self.machine.due(at, lambda path: path.endswith(".mdoc"))]


@pytest.fixture
def story():
    return Story()


def test_a_file_is_due_once_it_is_still(story):
    story.write(at=0.0, size=10)
    story.write(at=0.5, size=20)
    story.write(at=1.0, size=20, mtime=0.5)
    assert story.due(1.4) == []
    assert story.due(1.5) == [("a", "settled")]
    story.machine.done("a")
    assert story.due(9.0) == []
    assert story.machine.next_due() is None


def test_a_change_of_time_alone_is_a_change(story):
    story.write(at=0.0, size=10)
    story.write(at=0.9, size=10)
    assert story.due(1.5) == []
    assert story.machine.next_due() == pytest.approx(1.9)


def test_a_file_that_changes_later_is_looked_at_again(story):
    story.write(at=0.0, size=10)
    assert story.due(1.0)
    story.machine.done("a")
    story.write(at=5.0, size=20)
    assert story.due(5.9) == []
    assert story.due(6.0) == [("a", "settled")]


def test_one_that_is_not_ready_is_tried_with_growing_pauses_and_given_up(story):
    story.write(at=0.0, size=10)
    tries, now = [], 0.0
    while not tries or tries[-1][1] != "expired":
        now = story.machine.next_due()
        [(_, why)] = story.due(now)
        tries.append((now, why))
        story.machine.retry("a", now)
    pauses = [b[0] - a[0] for a, b in pairwise(tries)]
    assert pauses == sorted(pauses)
    assert 30.0 <= tries[-1][0] <= 45.0
    assert len(tries) < 12


def test_an_incomplete_file_that_grows_on_starts_afresh(story):
    story.write(at=0.0, size=10)
    story.machine.retry("a", 1.0)
    story.write(at=29.0, size=20)
    assert story.due(29.5) == []
    assert story.due(30.0) == [("a", "settled")]


def test_the_stall_is_never_short():
    assert Settle(0.05).stall_s == 20.0
    assert Settle(2.0).stall_s == 60.0


def test_an_mdoc_that_never_rests_is_peeked_at(story):
    for i in range(12):
        story.write(at=i / 2, size=i, path="x.mdoc")
        story.write(at=i / 2, size=i, path="x.mrc")
    assert story.due(5.6) == [("x.mdoc", "peek")]
    story.machine.peeked("x.mdoc", 5.6)
    story.write(at=6.0, size=99, path="x.mdoc")
    assert ("x.mdoc", "peek") not in story.due(6.5)
    assert ("x.mdoc", "settled") in story.due(7.0)


def test_files_are_due_in_the_order_they_were_written(story):
    story.write(at=0.0, size=1, path="late", mtime=-1.0)
    story.write(at=0.0, size=1, path="early", mtime=-9.0)
    assert story.due(1.0) == [("early", "settled"), ("late", "settled")]


def test_a_forgotten_file_is_not_due(story):
    story.write(at=0.0, size=1)
    story.machine.forget("a")
    assert story.due(9.0) == []
    story.machine.done("a")
    story.machine.retry("a", 9.0)


def test_undecided_until_looked_at_or_changed(story):
    story.write(at=0.0, size=1, path="a")
    story.write(at=0.0, size=1, path="b")
    story.write(at=0.3, size=2, path="b")
    assert story.machine.undecided("a")
    assert not story.machine.undecided("b")
    story.machine.done("a")
    assert not story.machine.undecided("a")


def test_a_file_that_is_done_can_be_asked_for_again(story):
    story.write(at=0.0, size=1)
    story.machine.done("a")
    story.machine.retry("a", 2.0)
    assert story.due(3.0) == [("a", "settled")]


def test_a_file_that_was_given_up_is_due_again_when_asked_and_has_all_its_time():
    settle = Settle(1.0)
    settle.observe(Seen("a", 1, 1.0), 0.0)
    settle.done("a")
    assert settle.due(500.0, lambda path: False) == []
    settle.again("a", 500.0)
    settle.again("nobody", 500.0)
    assert [due.why for due in settle.due(500.0, lambda path: False)] == ["settled"]
    settle.retry("a", 500.0)
    assert [due.why for due in settle.due(500.0 + settle.stall_s - 0.1, lambda path: False)] == ["settled"]
    assert [due.why for due in settle.due(500.0 + settle.stall_s, lambda path: False)] == ["expired"]
    settle.observe(Seen("a", 2, 600.0), 600.0)
    settle.again("a", 600.1)
    assert settle.due(600.1, lambda path: False) == [], "it is being written"
