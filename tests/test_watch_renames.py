"""A file that was renamed is known by its number on the disk, for as long as nobody else can have got it."""

import pytest

from streamtomo.watch.renames import KEEP_S, Renames
from streamtomo.watch.settle import Seen


def named(*seen, gone=None, gone_at=0.0, at=1.0):
    """Names seen at 0 s, one that vanished, and what the name `b`, seen at `at`, was before."""
    renames = Renames()
    for one in seen:
        renames.saw(one, 0.0)
    if gone:
        renames.gone(gone, gone_at)
    renames.saw(Seen("b", 10, 7.0, inode=1), at)
    return renames


def test_a_new_name_of_the_same_number_is_the_same_file():
    assert named(Seen("a", 10, 3.0, inode=1)).earlier("b") == "a"


def test_it_stays_so_when_the_file_changes_again():
    renames = named(Seen("a", 10, 3.0, inode=1))
    renames.saw(Seen("b", 10, 9.0, inode=1), 2.0)
    assert renames.earlier("b") == "a"


@pytest.mark.parametrize("late", [False, True])
def test_a_number_may_be_given_anew_some_time_after_its_file_is_gone(late):
    renames = named(Seen("a", 10, 3.0, inode=1), gone="a", at=KEEP_S + 0.1 if late else KEEP_S)
    assert renames.earlier("b") == (None if late else "a")


@pytest.mark.parametrize(
    "other", [Seen("a", 11, 3.0, inode=1), Seen("a", 10, 3.0, inode=2), Seen("b", 10, 3.0, inode=1)]
)
def test_another_length_another_number_or_the_same_name_tell_nothing(other):
    assert named(other).earlier("b") is None


def test_a_disk_without_numbers_tells_nothing():
    renames = Renames()
    renames.saw(Seen("a", 10, 3.0), 0.0)
    renames.saw(Seen("b", 10, 3.0), 1.0)
    assert renames.earlier("b") is None
