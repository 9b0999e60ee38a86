"""Movies as their user meets them: a simulated microscope writes frames, `streamtomo run` makes a tomogram of them."""

import json

import numpy as np
import pytest
from test_end_to_end import compare, events, simulate, streamtomo

from streamtomo import messages

pytest.importorskip("streamtomo.watch.eer", reason="the watcher does not tell movies yet")


@pytest.mark.parametrize("container", ["tif", "eer"])
def test_movies_are_summed_and_aligned(tmp_path, container):
    frames = {"tif": ("--frames", 6, "--dose", 1), "eer": ("--frames", 12, "--dose", 0.1)}[container]
    simulate(tmp_path / "scope", "--pattern", "serialem-frames", "--container", container, *frames, "--frame-drift", 4,
             "--tilts", 9, "--step", 5, "--dead-columns", 1, "--gain-file", "gain", "--gain-rotate", 1)  # fmt: skip
    references = tmp_path / "scope-references"
    given = {"gain": references / "gain.gain", "gain_rotate": 1, "defects": references / "defects.txt"}
    options = [word for key, value in given.items() for word in ("--set", f"movies.{key}={value}")]
    out = tmp_path / "out"
    done = streamtomo("run", tmp_path / "scope", "--out", out, "--plain", "--exit-when-idle", 1, *options)
    assert done.returncode == 0, done.stdout + done.stderr

    (finished,) = events(out, messages.FinishDone)
    assert len(finished.alignment.views) == 9
    assert not [e for e in events(out, messages.Warned) if e.code.startswith(("gain.", "defects.", "sums."))]
    truth = json.loads((tmp_path / "truth" / "TS_01.json").read_text())
    assert compare(out / "TS_01", truth, final=True).rms < 0.4
    sums = sorted((out / "TS_01" / "sums").glob("*.json"))
    assert len(sums) == 9
    if container == "tif":
        errors = []
        for path, view in zip(sums, truth["views"], strict=True):
            found = np.array(json.loads(path.read_text())["drift_px"])
            errors.append(np.sqrt(((found - view["frame_shifts_xy"]) ** 2).sum(axis=1).mean()))
        assert np.median(errors) < 0.4
