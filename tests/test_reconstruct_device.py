"""The path for a graphics device gives what the kernels give; here numpy stands in for the device's array library."""

import sys
import types

import numpy as np
import pytest

from streamtomo.cli import main
from streamtomo.errors import SettingsError
from streamtomo.reconstruct import arrays, device
from streamtomo.reconstruct.backproject import Scaled, backproject
from streamtomo.reconstruct.filters import Filtering, filter_views, row_filter
from streamtomo.reconstruct.project import project
from streamtomo.reconstruct.rays import Rays, single_axis
from streamtomo.reconstruct.sirt import Limits, iterate, solver

TILTS = np.array([-60.0, -31.0, -3.0, 0.0, 17.0, 44.0, 62.0])
RNG = np.random.default_rng(4)


def library():
    """cupy where there is a device, else numpy."""
    try:
        import cupy
    except ImportError:
        return np
    return cupy if cupy.is_available() else np


@pytest.fixture
def both():
    """A function that does something with the kernels, and then with the library."""

    def compared(work):
        results = []
        for one in (None, library()):
            device.use_library(one)
            results.append(work())
        device.use_library(None)
        return results

    yield compared
    device.use_library(None)


def close(ours, theirs, tolerance=1e-5):
    assert theirs == pytest.approx(ours, abs=tolerance * float(np.abs(ours).max()))


@pytest.mark.parametrize("lean", [0.0, 0.13])
def test_back_projection_is_the_same(both, lean):
    rays = single_axis(TILTS, (3.3, -7.0))
    rays = Rays(rays.step, rays.lean_x, lean * np.linspace(-1, 1, len(TILTS)), rays.x0)
    rows = 9 if rays.level else 4 * (9 + 2 * rays.margin(21))
    images = RNG.normal(size=(len(TILTS), rows, 40)).astype(np.float32)
    gains = RNG.uniform(0.5, 1.5, len(TILTS)).astype(np.float32)
    weights = Scaled(2.0, 1.0, RNG.uniform(0.5, 2, (21, 50)).astype(np.float32))

    def work(dtype=np.float32):
        out = np.zeros((21, 9, 50), dtype).transpose(1, 0, 2)
        backproject(images, rays, gains, out, scaled=weights, exact=True)
        return out.copy()

    close(*both(work))
    ours, theirs = both(lambda: work(np.int16))
    assert np.abs(ours - theirs).max() <= 1


def test_projection_is_the_same_and_the_exact_transpose(both):
    rays, n = single_axis(TILTS), len(TILTS)
    voxels = RNG.normal(size=(5, 21, 50)).astype(np.float32)
    images = RNG.normal(size=(n, 5, 40)).astype(np.float32)
    ours, theirs = both(lambda: project(voxels, rays, 40))
    close(ours, theirs)
    back = np.empty_like(voxels)
    both(lambda: backproject(images, rays, np.ones(n, np.float32), back, exact=True))
    inner = float((theirs.astype(np.float64) * images).sum())
    size = float(np.linalg.norm(back) * np.linalg.norm(voxels))
    assert abs(inner - float((back.astype(np.float64) * voxels).sum())) < 1e-5 * size


def test_filtering_is_the_same(both):
    views = RNG.normal(50, 3, size=(4, 6, 61)).astype(np.float32)
    means, by = np.full(4, 50, np.float32), row_filter(61, Filtering(0.3, 0.05))
    close(*both(lambda: filter_views(views, means, by)))


@pytest.mark.parametrize("limits", [Limits(), Limits(not_below=-0.05, mask=RNG.integers(0, 2, (5, 21, 50)))])
def test_iterations_are_the_same(both, limits):
    images = RNG.normal(size=(len(TILTS), 5, 60)).astype(np.float32)
    of = solver(single_axis(TILTS), 21, 50, 60)
    (ours, left), (theirs, left_there) = both(lambda: iterate(of, images, 6, relaxation=1.2, limits=limits))
    close(ours, theirs, 1e-3)  # what is left is rounded to counts: a sum in another order may round another way
    assert left_there == pytest.approx(left, rel=1e-4)


def test_iterations_project_and_back_project_by_an_exact_pair():
    of = solver(single_axis(TILTS), 21, 50, 60)
    voxels = RNG.normal(size=(3, 21, 50)).astype(np.float32)
    for i in range(len(TILTS)):
        view = RNG.normal(size=(3, of.table.length)).astype(np.float32)
        forward = arrays._brought_together(np, arrays._collected(np, voxels, of.table, i), of)
        spread = arrays._spread_out(np, view, of).reshape(3, -1)
        back = arrays._seen_by(np, spread, of.table, i, 50, 3)
        products = [float((a.astype(np.float64) * b).sum()) for a, b in ((forward, view), (back, voxels))]
        assert products[0] == pytest.approx(products[1], abs=1e-5 * float(np.linalg.norm(forward) ** 2))


def fake(available):
    made = types.ModuleType("cupy")
    made.is_available, made.__version__ = (lambda: available), "0"
    return made


def test_a_device_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.setattr(device, "_chosen", [])
    monkeypatch.setattr(device, "_told", [])
    monkeypatch.setitem(sys.modules, "cupy", fake(True))
    assert device.in_words() == ""
    assert device.use("auto") == device.in_words() == "graphics device (cupy 0)"
    runtime = types.SimpleNamespace(getDeviceProperties=lambda number: {"name": b"Fast One"})
    sys.modules["cupy"].cuda = types.SimpleNamespace(runtime=runtime)
    assert device.use("auto") == "graphics device (Fast One, cupy 0)"
    assert device.arrays() is sys.modules["cupy"]
    assert device.rows(32) > 32
    assert device.use("cpu") == "processor (as set)"
    assert device.arrays() is None
    assert device.rows(32) == 32
    device.use("gpu")
    assert device.arrays() is not None


@pytest.mark.parametrize("library", [None, fake(False)])
def test_where_there_is_none_the_kernels_are_used_and_asking_for_it_fails(monkeypatch, library, tmp_path, capsys):
    monkeypatch.setattr(device, "_told", [])
    monkeypatch.setitem(sys.modules, "cupy", library)
    assert device.use("auto").startswith("processor (cupy ")
    with pytest.raises(SettingsError, match=r"run\.device is gpu, but cupy"):
        device.use("gpu")
    assert device.arrays() is None
    (tmp_path / "scope").mkdir()
    assert main(["run", str(tmp_path / "scope"), "--out", str(tmp_path / "out"), "--plain", "--device", "gpu"]) == 1
    assert "or use --device cpu" in capsys.readouterr().err
