"""No false alarm on real series, whose tilts are judged as if they came now, some of them left out to save time."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import judge_bench

from streamtomo.config import Settings
from streamtomo.liveseries import LiveSeries
from streamtomo.model import RawImage, Tilt
from streamtomo.watch.images import probe, read_image

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "every", "pixel_A"), [("needle-haadf/HAADF.mrc", 3, 33.6), ("gold-spheres/N6_stack.mrc", 4, 2.6)]
)
def test_no_false_alarm_on_real_series(name, every, pixel_A):
    path = SHARED / name
    if not path.exists():
        pytest.skip("the real data are not here")
    info = probe(path)
    angles = info.angles or tuple(map(float, path.with_suffix(".rawtlt").read_text().split()))
    live, states = None, []
    for index, section in enumerate(range(0, info.sections, every)):
        raw = RawImage(
            series="real", path=str(path), section=section, nx=info.nx, ny=info.ny, angle_deg=angles[section]
        )
        live = live or LiveSeries(raw, 0.0, pixel_A, Settings())
        states.append(judge_bench.take(live, Tilt(index=index, image=raw), read_image(path, section)).state)
    assert "reject" not in states
    assert "bad" not in {one.verdict.state for one in live.judge.seen}
