"""Movies as their user meets them: a simulated microscope writes frames, `streamtomo run` makes tomograms of them."""

import json

import numpy as np
from test_end_to_end import compare, events, simulate, streamtomo

from streamtomo import messages

TILTS = 9
FRAMES = {"tif": ("--frames", 6, "--dose", 1), "eer": ("--frames", 12, "--dose", 0.1)}
WITHIN_PX = {"TS_tif": 0.4, "TS_eer": 0.8}
"""With a tenth of the electrons the second one is noisier."""


def test_movies_of_two_kinds_are_summed_and_aligned(tmp_path):
    """A TIFF and an EER series of one camera, whose reference is stored turned by a quarter."""
    watched, out, references = (tmp_path / name for name in ("scope", "out", "scope-references"))
    for kind, frames in FRAMES.items():
        simulate(watched, "--pattern", "serialem-frames", "--container", kind, *frames, "--name", f"TS_{kind}",
                 "--frame-drift", 4, "--tilts", TILTS, "--step", 5, "--dead-columns", 1, "--gain-file", "gain",
                 "--gain-rotate", 1)  # fmt: skip
    given = {"gain": references / "gain.gain", "gain_rotate": 1, "defects": references / "defects.txt"}
    options = [word for key, value in given.items() for word in ("--set", f"movies.{key}={value}")]
    done = streamtomo("run", watched, "--out", out, "--plain", "--exit-when-idle", 1, *options)
    assert done.returncode == 0, done.stdout + done.stderr

    assert {event.series for event in events(out, messages.FinishDone)} == {"TS_tif", "TS_eer"}
    warned = [event.code for event in events(out, messages.Warned)]
    assert not [code for code in warned if code.startswith(("gain.", "defects.", "sums."))]
    for name in ("TS_tif", "TS_eer"):
        truth = json.loads((tmp_path / "truth" / f"{name}.json").read_text())
        assert compare(out / name, truth, final=True).rms < WITHIN_PX[name]
        sums = [json.loads(path.read_text()) for path in sorted((out / name / "sums").glob("*.json"))]
        assert len(sums) == TILTS
        for kept, view in zip(sums, truth["views"], strict=True):
            found, true = np.array(kept["drift_px"]), np.array(view["frame_shifts_xy"])
            assert np.hypot(*(found[-1] - found[0] - true[-1] + true[0])) < 2.0  # of 4
