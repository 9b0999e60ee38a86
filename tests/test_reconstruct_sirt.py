"""Filters and SIRT against truth: a phantom's slices, whose projections are known exactly."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from streamtomo import geometry
from streamtomo.reconstruct.backproject import Scaled
from streamtomo.reconstruct.filters import Filtering, radial_filter, ramp_start
from streamtomo.reconstruct.rays import Box, single_axis
from streamtomo.reconstruct.sirt import Limits, iterate, solver, until_plateau
from streamtomo.reconstruct.wbp import coverage_gain, level, make_slab, reconstruct, weighted

TILTS = np.arange(-60.0, 61.0, 3.0)
NZ, NX, ROWS, WIDE = 48, 128, 8, 192
"""The box; rows of y, each with a phantom of its own; width of the images."""
RADIAL = Filtering(0.4, 0.05)


def phantom(seed=3):
    """Gaussian blobs in each slice: `(ROWS, blobs)` of X, Z, width, height."""
    rng = np.random.default_rng(seed)
    shape = (ROWS, 12)
    return (
        rng.uniform(-NX / 2 + 12, NX / 2 - 12, shape),
        rng.uniform(-NZ / 2 + 8, NZ / 2 - 8, shape),
        rng.uniform(1.5, 4.0, shape),
        rng.normal(size=shape),
    )


def truth(blobs):
    z, x = (np.arange(n) - geometry.centre(n) for n in (NZ, NX))
    bx, bz, width, height = (part[..., None, None] for part in blobs)
    each = height * np.exp(-((x - bx) ** 2 + (z[:, None] - bz) ** 2) / (2 * width**2))
    return each.sum(axis=1)


def views(blobs, tilts=TILTS, noise=0.0, seed=1):
    """Exact line integrals of the blobs `(n, ROWS, WIDE)`."""
    x = np.arange(WIDE) - geometry.centre(WIDE)
    bx, bz, width, height = (part[..., None] for part in blobs)
    terms = geometry.tilt_terms(tilts)
    at = [bx * c + bz * s for c, s in zip(terms.cos, terms.sin, strict=True)]
    area = height * width * np.sqrt(2 * np.pi)
    clean = np.stack([(area * np.exp(-((x - u) ** 2) / (2 * width**2))).sum(axis=1) for u in at])
    return (clean + np.random.default_rng(seed).normal(0, noise, clean.shape)).astype(np.float32)


def shell_correlation(a, b, band, wedge_deg=60.0):
    """Correlation of the slices' transforms within a band of frequency, inside the sampled wedge."""
    fz, fx = np.fft.fftfreq(NZ)[:, None], np.fft.fftfreq(NX)[None, :]
    radius = np.hypot(fz, fx)
    seen = np.abs(np.degrees(np.arctan2(fz, np.abs(fx)))) <= wedge_deg
    inside = (radius >= band[0]) & (radius < band[1]) & seen
    fa, fb = (np.fft.fft2(one)[..., inside] for one in (a, b))
    return float((fa * fb.conj()).sum().real / np.sqrt((abs(fa) ** 2).sum() * (abs(fb) ** 2).sum()))


def wbp(stack, filtering=RADIAL, tilts=TILTS):
    padded = np.concatenate([slab for _, slab in reconstruct(stack, tilts, NZ, filtering=filtering, exact=True)])
    return padded[:, :, (WIDE - NX) // 2 : (WIDE + NX) // 2]


def sirt(stack, iterations, tilts=TILTS):
    return iterate(solver(single_axis(tilts), NZ, NX, WIDE), stack, iterations)


def test_the_residual_falls_and_the_truth_comes_nearer():
    blobs = phantom()
    voxels, residuals = sirt(views(blobs), 40)
    assert residuals[0] == pytest.approx(1.0)
    assert all(after < before for before, after in pairwise(residuals))
    assert residuals[-1] < 0.1
    assert shell_correlation(voxels, truth(blobs), (0.0, 0.2)) > 0.97
    errors = [np.linalg.norm(sirt(views(blobs), n)[0] - truth(blobs)) for n in (3, 10, 40)]
    assert errors[0] > errors[1] > errors[2], "what is in the missing wedge stays wrong"


def test_sirt_is_as_near_to_the_truth_as_back_projection_at_low_frequency():
    """With noise as strong as the signal; the missing wedge is left out of the comparison."""
    blobs = phantom()
    clean = views(blobs)
    noisy = views(blobs, noise=float(clean.std()))
    iterated, _ = sirt(noisy, 15)
    for band in ((0.0, 0.05), (0.05, 0.1)):
        ours = shell_correlation(iterated, truth(blobs), band)
        assert ours > shell_correlation(wbp(noisy), truth(blobs), band) - 0.01
        assert ours > 0.9


def test_halves_agree_where_there_is_signal_only():
    """Even against odd views: near 1 at low frequency, near 0 where there is noise."""
    blobs = phantom()
    noisy = views(blobs, noise=float(views(blobs).std()) / 2)
    for make in (lambda half, tilts: wbp(half, tilts=tilts), lambda half, tilts: sirt(half, 15, tilts)[0]):
        even, odd = (make(noisy[k::2], TILTS[k::2]) for k in (0, 1))
        assert shell_correlation(even, odd, (0.0, 0.06)) > 0.9
        assert abs(shell_correlation(even, odd, (0.35, 0.5))) < 0.15


@pytest.mark.parametrize("iterations", [5, 20])
def test_the_sirt_like_filter_looks_like_sirt(iterations):
    """More than the filter of fewer or more iterations does, or the ramp."""
    stack = views(phantom(), noise=1.0)
    target = sirt(stack, iterations)[0][:, 12:-12, 24:-24]

    def likeness(count):
        filtered = wbp(stack, Filtering(0.5, 0.05, sirt_like=count))[:, 12:-12, 24:-24]
        return float(np.corrcoef(filtered.ravel(), target.ravel())[0, 1])

    fewer, right, more, ramp = (likeness(count) for count in (iterations // 3, iterations, iterations * 4, 0))
    assert right > 0.99
    assert right > max(fewer, more, ramp)


def test_the_filter_of_many_iterations_is_the_ramp():
    start = ramp_start(np.radians(120), 100)
    ramp = radial_filter(1000, RADIAL, start)
    few, many = (radial_filter(1000, RADIAL._replace(sirt_like=n), start) for n in (1, 100000))
    assert many == pytest.approx(ramp, rel=1e-3)
    assert few[5:400] == pytest.approx(start, rel=1e-5), "one iteration is back-projection without a filter"
    assert ramp[: int(1000 * start)] == pytest.approx(start), "flat where all views overlap"
    assert ramp[100] == pytest.approx(0.1)


def test_hamming_is_the_classical_window():
    response = radial_filter(1000, Filtering(1e-6, 0.05, "hamming"))
    frequency = np.arange(501) / 1000
    assert response[1:] == pytest.approx((frequency * (0.54 + 0.46 * np.cos(2 * np.pi * frequency)))[1:], rel=1e-4)


def test_iterations_end_on_a_plateau():
    assert until_plateau([1.0, 0.5, 0.3, 0.299, 0.2989]) == 3
    assert until_plateau([1.0, 0.5, 0.25]) == 3


def test_density_never_falls_below_what_is_allowed():
    stack = views(phantom())
    voxels, residuals = iterate(solver(single_axis(TILTS), NZ, NX, WIDE), stack, 6, limits=Limits(not_below=-0.1))
    assert voxels.min() >= np.float32(-0.1)
    assert residuals[-1] < residuals[0]


def test_corners_that_few_views_see_are_brought_up():
    """A specimen that fills the field: with the gain its corners are as dense as its middle."""
    rng = np.random.default_rng(2)
    stack = np.repeat(rng.normal(size=(1, 8, 96)), 41, axis=0).astype(np.float32)
    taken = weighted(stack, TILTS)
    box = Box(64, 8, 96)
    gain = coverage_gain(taken, box)
    assert gain[32, 48] == pytest.approx(1.0, abs=0.01)
    assert gain[0, 2] > 1.3
    plain, evened = np.empty((8, 64, 96), np.float32), np.empty((8, 64, 96), np.float32)
    make_slab(taken, box, 0, plain, filtering=RADIAL, exact=True)
    make_slab(taken, box, 0, evened, filtering=RADIAL, scaled=Scaled(gain=gain), exact=True)
    assert evened == pytest.approx(plain * gain, rel=1e-4, abs=1e-5)


def test_irregular_angles_leave_no_stripes_on_a_flat_specimen():
    """Angles with gaps, repeats and one side only: a thin flat layer stays one."""
    rng = np.random.default_rng(8)
    tilts = np.sort(np.concatenate([rng.uniform(-20, 60, 30), [10.0, 10.0, 10.01, 44.0, 44.0]]))
    wave = np.cos(
        2 * np.pi * 0.05 * (np.arange(WIDE) - geometry.centre(WIDE))[None] / geometry.tilt_terms(tilts).cos[:, None]
    )
    stack = np.repeat(wave[:, None], 4, axis=1).astype(np.float32)
    slab = next(reconstruct(stack, tilts, 40, filtering=RADIAL, exact=True))[1][0]
    middle = slab[:, 60:-60]
    x = np.arange(WIDE)[60:-60] - geometry.centre(WIDE)
    heights = middle @ np.cos(2 * np.pi * 0.05 * x) / len(x) * 2
    assert abs(int(np.argmax(heights)) - 19.5) <= 1
    layer = middle[19:21].mean(axis=0)
    expected = np.cos(2 * np.pi * 0.05 * x)
    assert np.corrcoef(layer, expected)[0, 1] > 0.99


def test_an_x_axis_tilt_is_taken_out():
    """A bead seen through a specimen turned about x: it lands where the conventions say, in slabs of any rows."""
    bead, xtilt = np.array([7.0, 9.0, 6.0]), 8.0
    rows, columns = np.mgrid[:64, :72]
    stack = np.empty((len(TILTS), 64, 72), np.float32)
    for view, tilt in zip(stack, TILTS, strict=True):
        u, v = geometry.project(bead, tilt, xtilt)[0] + (geometry.centre(72), geometry.centre(64))
        view[:] = np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 8)
    taken = weighted(stack, TILTS, xtilt)
    volume = np.empty((64, 32, 72), np.float32)
    for y0 in range(0, 64, 24):
        make_slab(taken, Box(32, 64, 72), y0, volume[y0 : y0 + 24], filtering=RADIAL)
    y, z, x = (
        top - geometry.centre(n)
        for top, n in zip(np.unravel_index(volume.argmax(), volume.shape), volume.shape, strict=True)
    )
    assert (x, y, z) == pytest.approx(tuple(bead), abs=0.6)
    assert level(stack[0])[1] > 0


def test_integer_sums_are_as_near_to_the_truth_as_float_ones():
    blobs = phantom()
    noisy = views(blobs, noise=float(views(blobs).std()) / 2)
    wide = slice((WIDE - NX) // 2, (WIDE + NX) // 2)
    exact, quick = (
        np.concatenate([slab for _, slab in reconstruct(noisy, TILTS, NZ, filtering=RADIAL, exact=one)])[:, :, wide]
        for one in (True, False)
    )
    assert np.abs(exact - quick).max() > 0, "they are not the same sums"
    for band in ((0.0, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.4)):
        scores = [shell_correlation(one, truth(blobs), band) for one in (exact, quick)]
        assert scores[1] == pytest.approx(scores[0], abs=0.002)


def test_a_box_is_a_part_of_the_whole():
    """Off the centre in all three directions, and of another size."""
    noise = np.random.default_rng(6).normal(size=(len(TILTS), 64, 72))
    stack = ndimage.gaussian_filter1d(noise, 1.5, axis=2).astype(np.float32)
    taken = weighted(stack, TILTS)
    whole, part = np.empty((64, 32, 72), np.float32), np.empty((30, 32, 40), np.float32)
    make_slab(taken, Box(32, 64, 72), 0, whole, filtering=RADIAL, exact=True)
    for y0 in (0, 10, 20):
        make_slab(taken, Box(32, 30, 40, (5.0, -7.0, 3.0)), y0, part[y0 : y0 + 10], filtering=RADIAL, exact=True)
    expected = whole[10:40, 3:, 21:61]
    assert (part[:, :29] - expected).std() < 0.1 * expected.std(), "the phases' steps may fall elsewhere"
