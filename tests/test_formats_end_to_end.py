"""One exposure series in three formats gives one tomogram: rows that run down in a file do not mirror the specimen."""

from datetime import datetime, timedelta

import mrcfile
import numpy as np
import pytest
from test_end_to_end import streamtomo

from streamtomo.simulate.mdoc_text import Shot
from streamtomo.simulate.series import Motion, Plan, Series
from streamtomo.simulate.specimen import Recipe
from streamtomo.simulate.writers import open_writer

ANGLES = tuple(float(angle) for angle in range(-40, 41, 10))
MOST = 12
"""Counts of a pixel: an EER movie holds one in each camera frame, and the simulated camera has frames for so many."""


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """The tomograms, by format."""
    folder = tmp_path_factory.mktemp("formats")
    recipe = Recipe(thickness_nm=60, beads=6)
    plan = Plan(ANGLES, (160, 128), pixel_size_A=10.8, axis_deg=80, dose_e_A2=0.05, gain=1.0, recipe=recipe,
                motion=Motion(drift_px=2.0), hot=3, xrays=0)  # fmt: skip
    series = Series(plan)
    exposures = [np.clip(series.expose(index).image, 0, MOST).astype(np.int16) for index in range(len(ANGLES))]
    for image in exposures:
        image[:, 0] = MOST  # so that the camera is read often enough for all counts
    for kind in ("mrc", "tif", "eer"):
        (folder / "scope" / kind).mkdir(parents=True)
        dtype = "uint8" if kind == "eer" else "int16"
        writer = open_writer("plain", folder / "scope" / kind, kind, shape_yx=plan.shape_yx, dtype=dtype,
                             pixel_size_A=10.8, axis_deg=80, container=kind)  # fmt: skip
        for index, image in enumerate(exposures):
            shot = Shot(ANGLES[index], datetime(2026, 1, 15) + timedelta(seconds=20 * index))
            writer.write(image[None].astype(dtype) if kind == "eer" else image, shot)
        writer.close()
    out = folder / "out"
    settings = ("acquisition.tilt_axis_deg=80", "movies.drift=off", "final.align=coarse", "final.volume_type=float32")
    options = [word for setting in settings for word in ("--set", setting)]
    done = streamtomo("run", folder / "scope", "--out", out, "--plain", "--exit-when-idle", 1.5, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.parent.name: mrcfile.read(path) for path in out.glob("*/*_rec.mrc")}


def test_a_tiff_and_an_mrc_give_the_same_tomogram(volumes):
    assert volumes["mrc"].std() > 0
    assert np.array_equal(volumes["mrc"], volumes["tif"])


def test_an_eer_movie_gives_the_tomogram_of_its_counts(volumes):
    mrc, eer = (volumes[kind].ravel() for kind in ("mrc", "eer"))
    assert np.corrcoef(mrc, eer)[0, 1] > 0.999
    assert np.corrcoef(mrc, volumes["eer"][:, ::-1].ravel())[0, 1] < 0.5
