"""Movies in the live lane: their sums are kept with the series, and what is wrong with the gain is said once."""

import numpy as np
import pytest
import tifffile

from streamtomo.config import Movies, Settings
from streamtomo.finish.work import FinishJob, Work
from streamtomo.lane import Job, Lane
from streamtomo.messages import TiltFailed, TiltPlaced, Warned
from streamtomo.model import RawImage, Tilt
from streamtomo.simulate.references import write_references
from streamtomo.simulate.series import Plan, Series

ANGLES = (0.0, 3.0, -3.0)


def test_what_is_wrong_with_the_gain_is_said_once_for_a_series(tmp_path, monkeypatch):
    series = Series(Plan(ANGLES, (256, 256), dose_e_A2=0.6, frames=5, gain_spread=0.06, hot=0, xrays=0, dtype="uint8"))
    write_references(tmp_path, series.camera, rotate=1)
    settings = Settings(movies=Movies(gain=str(tmp_path / "gain.mrc")))
    lane, placed, events, out = Lane(settings), [], [], tmp_path / "out" / "TS"
    for index, angle in enumerate(ANGLES):
        path = tmp_path / f"{index}.tif"
        tifffile.imwrite(path, series.expose(index).image[:, ::-1], photometric="minisblack", metadata=None)
        image = RawImage(
            series="TS", path=str(path), frames=5, nx=256, ny=256, angle_deg=angle, acquired_s=1e9 + 60 * index
        )
        job = Job(
            tilt=Tilt(index=index, image=image), attempts=0, settled_s=0.0, axis_deg=85.3, pixel_size_A=10.8,
            folder=str(out), placed=tuple(placed), settings=settings,
        )  # fmt: skip
        news = lane.process(job)
        assert not [event for event in news if isinstance(event, TiltFailed)]
        placed += [(job.tilt, event) for event in news if isinstance(event, TiltPlaced)]
        events += news
    ways = [event.correction.drift_px for _, event in placed]
    assert all(1.5 < way < 4 for way in ways)
    noted = [measure.value for _, event in placed for measure in event.verdict.measures if measure.name == "drift"]
    assert noted == pytest.approx([1.08 * way for way in ways], rel=0.01)
    warned = [event for event in events if isinstance(event, Warned)]
    assert [(event.code, event.series) for event in warned] == [("gain.rotated", "TS")]
    assert "gain_rotate = 1" in warned[0].text
    assert len(list((out / "sums").glob("*.mrc"))) == len(ANGLES)

    monkeypatch.setattr("streamtomo.exposure.read_frames", None)  # the finishing finds the sums
    job = FinishJob(
        series="TS", folder=str(out), settings=settings, axis_deg=85.3, pixel_size_A=10.8, tilts=()
    )  # fmt: skip
    assert np.isfinite(Work(job, lambda event: None).repaired(placed[0][0])).all()
