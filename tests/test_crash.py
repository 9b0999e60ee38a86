"""Killed at any instant, a run ends as if nothing had happened."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from crash_test import Plan, crash_test


def test_killed_at_random_instants_it_ends_as_an_undisturbed_run(tmp_path):
    plan = Plan(kills=5, size=256, tilts=9, series=2, interval_s=0.15, align="coarse", longest_life_s=3.5)
    assert crash_test(tmp_path, plan).faults == []
