"""The quick defocus of a tilt, against the simulated microscope's lens, which has a code of its own."""

import numpy as np
import pytest

from streamtomo.config import Acquisition
from streamtomo.judge.defocus import TILE_PX, places, quick_defocus
from streamtomo.lens import Microscope
from streamtomo.livelook import defocus_of
from streamtomo.simulate.optics import Optics
from streamtomo.simulate.series import Plan, Series
from streamtomo.simulate.specimen import Recipe

MICROSCOPE = Microscope()


def seen_through(underfocus_um, pixel_A=4.0, seed=0, tiles=6):
    """White noise seen through the simulated lens, and twice as much noise of the electrons on it."""
    rng = np.random.default_rng(seed)
    shape = (TILE_PX, TILE_PX)
    gamma = np.angle(Optics(underfocus_um=underfocus_um, amplitude_contrast=0).transfer(shape, pixel_A))
    specimen = [np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) * np.sin(gamma)).real for _ in range(tiles)]
    return [(100 + one + rng.normal(0, 2, shape)).astype(np.float32) for one in specimen]


@pytest.mark.parametrize("underfocus_um", [1.2, 3.5, 8.0])
def test_rings_tell_the_defocus(underfocus_um):
    found = quick_defocus(seen_through(underfocus_um), 4.0, MICROSCOPE)
    assert found == pytest.approx(underfocus_um, abs=0.1)


def test_noise_blank_tiles_and_coarse_pixels_tell_nothing():
    rng = np.random.default_rng(1)
    for _ in range(20):
        noise = [rng.normal(100, 5, (TILE_PX, TILE_PX)).astype(np.float32) for _ in range(6)]
        assert quick_defocus(noise, 4.0, MICROSCOPE) is None
    assert quick_defocus([np.ones((TILE_PX, TILE_PX), np.float32)], 4.0, MICROSCOPE) is None
    assert quick_defocus(seen_through(3.0), 20.0, MICROSCOPE) is None
    assert quick_defocus([], 4.0, MICROSCOPE) is None


def test_tiles_lie_along_the_tilt_axis_if_the_specimen_is_tilted():
    flat, steep = (places((4096, 4096), 1.0, 90.0, tilt) for tilt in (0.0, 60.0))
    assert len(flat) == len(steep) == 6
    rows = {(rows.start + rows.stop) / 2 for rows, _ in steep}  # the axis lies along x
    assert max(abs(row - 2048) for row in rows) <= 512
    assert places((200, 200), 1.0, 0.0, 0.0) == []


@pytest.mark.parametrize("tilt", [0.0, 52.0])
def test_the_focus_on_the_axis_of_a_simulated_tilt(tilt):
    recipe = Recipe(beads=4, atoms_per_um3=1e7, scatterers_per_um3=1e5)
    optics = Optics(underfocus_um=3.0, gradient=1)
    series = Series(Plan((tilt,), (512, 512), 4.5, axis_deg=85.3, dose_e_A2=4, recipe=recipe, optics=optics, seed=2))
    raw = series.expose(0).image
    assert defocus_of(raw, tilt, 85.3, 4.5, Acquisition()) == pytest.approx(3.0, abs=0.15)
    assert defocus_of(raw, tilt, 85.3, None, Acquisition()) is None
