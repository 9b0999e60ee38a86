"""The live volume really gets better: its agreement with the simulated specimen, tilt by tilt."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from live_fsc import live, make_series, mean, of_live, of_truth


def test_it_gets_better_with_every_look_and_ends_as_good_as_the_true_geometry(tmp_path):
    series, looks = make_series(384, seed=3, dose=3.0, tilts=25, step=5.0), (5, 12, 25)
    quality = []
    for _, found in live(series, tmp_path, looks):
        quality.append(mean(of_live(series, found)))
    assert quality[0] < quality[1] < quality[2]
    assert quality[2] > 0.95 * mean(of_truth(series, found))
