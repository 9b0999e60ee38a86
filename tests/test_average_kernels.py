"""Averaging, its parts: rotations, components, poses, wedges, agreement, classes, against what is known."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from _particles import cloud, drawn, random_turns, simulated, within_tilts

from streamtomo.average.classify import classify
from streamtomo.average.combine import add_up
from streamtomo.average.extract import Pile, box_masks, components_of, cut, inside, normalised
from streamtomo.average.fsc import agreement, crossing, shell_correlation
from streamtomo.average.kernels import seen_from
from streamtomo.average.match import Template, _threshold, match, peaks
from streamtomo.average.refine import Plan, halves_of, refine
from streamtomo.average.search import Poses, climb
from streamtomo.average.spectra import ball, components, levelled, padded, resampled, transform, wedge
from streamtomo.average.turns import angles_between_deg, distinct, even_turns, symmetry

N, VOXEL_A = 32, 12.0
TILTS = np.arange(-60.0, 61.0, 3.0)
RNG = np.random.default_rng(3)
PARTICLE = cloud(RNG, 220.0, points=40, sigma_A=14.0)


def boxes_of(sim, radius=10.0):
    whole, background = box_masks(N, radius)
    return np.stack([normalised(box, whole, background) for box in sim.boxes])


def pile_of(boxes, tilts=TILTS):
    return Pile(boxes, np.zeros(len(boxes), np.int64), [wedge(tilts)])


def test_even_turns_leave_no_gap():
    step = 20.0
    turns = even_turns(step)
    to_nearest = [angles_between_deg(turns, np.broadcast_to(one, turns.shape)).min() for one in random_turns(RNG, 40)]
    assert max(to_nearest) < 1.2 * step
    assert np.median(to_nearest) < 0.6 * step
    assert np.linalg.det(turns) == pytest.approx(np.ones(len(turns)))


@pytest.mark.parametrize(("name", "order"), [("C1", 1), ("c4", 4), ("D2", 4), ("D7", 14)])
def test_a_symmetry_is_a_group_and_leaves_its_share_of_turns(name, order):
    group = symmetry(name)
    assert len(group) == order
    products = np.einsum("aij,bjk->abik", group, group).reshape(-1, 3, 3)
    nearest = [min(np.abs(one - member).max() for member in group) for one in products]
    assert max(nearest) < 1e-9
    turns = even_turns(15.0)
    assert len(distinct(turns, group)) == pytest.approx(len(turns) / order, rel=0.05)


def test_an_unknown_symmetry_is_named():
    with pytest.raises(ValueError, match="T is no symmetry"):
        symmetry("T")


def test_a_box_survives_sampling_it_more_finely_and_back():
    box = drawn(PARTICLE, N, VOXEL_A, np.eye(3), np.zeros(3))
    assert resampled(resampled(box, 48), N) == pytest.approx(box, abs=float(2e-3 * box.max()))
    finer = drawn(PARTICLE, 48, VOXEL_A * N / 48, np.eye(3), np.zeros(3))
    assert resampled(box, 48) == pytest.approx(finer, abs=float(0.02 * finer.max()))


def test_the_average_of_known_poses_is_the_particle_with_its_hand():
    sim = simulated(PARTICLE, 24, N, VOXEL_A, snr=1e6, seed=1)
    of = components(N, N / 2 - 1)
    poses = Poses(np.arange(24), sim.turns, sim.shifts, np.ones(24))
    found = add_up(pile_of(sim.boxes), of, poses, symmetry("C1")).volume()
    mask = ball(N, 11.0)
    truth = -drawn(PARTICLE, N, VOXEL_A, np.eye(3), np.zeros(3))
    assert shell_correlation(levelled(found, mask), levelled(truth, mask))[:11].min() > 0.98
    mirrored = truth[:, :, ::-1].copy()
    assert shell_correlation(levelled(found, mask), levelled(mirrored, mask))[5:9].max() < 0.8


def test_a_pose_is_found_from_nearby():
    sim = simulated(PARTICLE, 12, N, VOXEL_A, snr=4.0, seed=2)
    data = components_of(pile_of(boxes_of(sim)), components(N, N / 2 - 1))
    reference = -drawn(PARTICLE, N, VOXEL_A, np.eye(3), np.zeros(3))
    off = Rotation.from_rotvec(np.radians(6) * np.eye(3)[np.arange(12) % 3]).as_matrix() @ sim.turns
    start = Poses(np.arange(12), off, sim.shifts + 0.7, np.zeros(12))
    found = climb(data, data.of.upto(9), levelled(reference, ball(N, 11.0)), start, 4.0)
    assert np.median(angles_between_deg(found.turns, sim.turns)) < 1.5
    assert np.median(np.linalg.norm(found.shifts - sim.shifts, axis=1)) < 0.15
    assert (found.scores > 0).all()


def test_the_wedge_is_where_no_view_looked():
    k = np.array([(10, 0, 0), (0, 10, 0), (0, 0, 10), (7, 0, 7), (3, 0, 10), (-3, 0, 10)], np.float32)
    share, factor = wedge(TILTS).at(k)
    assert share == pytest.approx([1, 1, 0, 1, 0, 0])
    assert factor == pytest.approx(np.ones(6))
    one_sided, _ = wedge(TILTS[20:]).at(np.array([(7, 0, 7), (7, 0, -7)], np.float32))
    assert one_sided == pytest.approx([1, 0])  # views at positive tilt see x and z of one sign
    turned, _ = wedge(TILTS, pitch_deg=90.0).at(np.array([(0, 10, 0), (0, 0, 10)], np.float32))
    assert turned == pytest.approx([0, 1])


def test_boxes_have_the_voxel_in_their_middle_and_the_mean_beyond_the_faces():
    tomogram = RNG.normal(size=(20, 30, 40)).astype(np.float32)
    box = cut(tomogram, np.array([12.3, 9.8, 10.4]), 16)
    assert box[8, 8, 8] == tomogram[10, 10, 12]
    edge = cut(tomogram, np.array([2.0, 15.0, 10.0]), 16)
    assert edge[8, 8, 8] == tomogram[10, 15, 2]
    assert (edge[:, :, :6] == edge[0, 0, 0]).all()
    assert inside(tomogram.shape, np.array([(12, 10, 10), (0, 0, 0)]), 16).tolist() == [True, False]


def test_a_curve_is_crossed_between_shells():
    assert crossing(np.array([1, 1, 0.5, 0.0]), 0.25) == pytest.approx(2.5)
    assert crossing(np.array([1, 0.9, 0.8]), 0.143) == 2.0


def test_matching_finds_particles_and_their_turns_and_no_gold():
    tomogram, places, turns = np.zeros((36, 72, 72), np.float32), [], random_turns(RNG, 4)
    for number, turn in enumerate(turns):
        x, y, z = 18 + 36 * (number % 2), 18 + 36 * (number // 2), 18
        places.append((x, y, z))
        tomogram[z - 16 : z + 16, y - 16 : y + 16, x - 16 : x + 16] -= drawn(PARTICLE, N, 20.0, turn, np.zeros(3))
    tomogram += RNG.normal(0, 4 * tomogram.std(), tomogram.shape)
    tomogram = within_tilts(tomogram, 60.0)
    tomogram[17:20, 34:37, 34:37] -= 100 * tomogram.std()
    box = -drawn(PARTICLE, 16, 20.0, np.eye(3), np.zeros(3))
    tried = np.concatenate([turns, random_turns(RNG, 12)])
    found = match(tomogram, Template(box, 5.5, tried), wedge(TILTS), 4, lambda part: None)
    distance = np.linalg.norm(found.xyz[:, None] - np.array(places), axis=2)
    assert distance.min(axis=0).max() < 1.5
    assert np.median(angles_between_deg(found.turns, turns[distance.argmin(axis=1)])) < 1e-3


def test_what_is_no_better_than_noise_is_no_place():
    rng = np.random.default_rng(8)
    noise, decoys = (np.sort(np.abs(rng.normal(0, 0.06, 2000)))[::-1] for _ in range(2))
    assert (noise >= _threshold(noise, decoys)).sum() <= 1
    particles = np.sort(rng.uniform(0.27, 0.5, 40))[::-1]
    scores = np.sort(np.concatenate([noise, particles]))[::-1]
    assert 36 <= (scores >= _threshold(scores, decoys)).sum() <= 43


def test_peaks_keep_their_distance():
    scores = np.zeros((9, 9, 30), np.float32)
    for x, value in ((5, 0.5), (8, 0.9), (20, 0.7)):
        scores[4, 4, x] = value
    xyz, found = peaks(scores, 0.1, 5.0, None)
    assert xyz == pytest.approx(np.array([(8, 4, 4), (20, 4, 4)]))
    assert found == pytest.approx([0.9, 0.7])


def test_classes_are_told_apart_whatever_their_wedges():
    other = PARTICLE._replace(masses=PARTICLE.masses * np.where(PARTICLE.xyz_A[:, 2] > 30, 0.0, 1.0))
    sims = [simulated(one, 20, N, VOXEL_A, snr=2.0, seed=seed) for one, seed in ((PARTICLE, 5), (other, 6))]
    boxes = np.concatenate([boxes_of(sim) for sim in sims])
    turns, shifts = (np.concatenate([getattr(sim, name) for sim in sims]) for name in ("turns", "shifts"))
    poses = Poses(np.arange(40), turns, shifts, np.ones(40))
    found = classify(pile_of(boxes), poses, ball(N, 11.0), 7.0, 2, seed=0).number
    truth = np.repeat([1, 2], 20)
    assert max((found == truth).mean(), (found == 3 - truth).mean()) > 0.9


def test_a_padded_spectrum_is_the_boxes_between_its_components():
    box = drawn(PARTICLE, N, VOXEL_A, np.eye(3), np.array([0.3, -0.2, 0.1]))
    spectrum = padded(box)
    of = components(N, 8)
    turn = random_turns(RNG, 1)
    seen = np.empty((1, len(of.k)), np.complex64)
    seen_from(spectrum, of.k, turn, seen)
    turned = drawn(PARTICLE, N, VOXEL_A, turn[0], turn[0] @ np.array([0.3, -0.2, 0.1]))
    truth = transform(turned).ravel()[of.at]
    assert np.abs(seen[0] - truth).max() < 0.02 * np.abs(truth).max()


def test_turns_found_reach_the_resolution_of_known_ones():
    n, voxel = 22, 20.0
    particle = cloud(np.random.default_rng(5), 260.0, sigma_A=14.0)
    sim = simulated(particle, 16, n, voxel, snr=0.5, seed=1, off_px=1.0)
    whole, background = box_masks(n, 6.5)
    pile = pile_of(np.stack([normalised(box, whole, background) for box in sim.boxes]))
    plan, half = Plan(13.0, symmetry("C1"), 2, 2.0), halves_of(16, 0)
    truth = Poses(np.arange(16), sim.turns, sim.shifts, np.ones(16))
    of = components(n, n / 2 - 1)
    halves = [add_up(pile, of, truth.at(half == number), plan.group).volume() for number in (0, 1)]
    known = agreement(halves[0], halves[1], plan.mask(n))
    reference = -drawn(particle, n, voxel, np.eye(3), np.zeros(3))
    found = refine(pile, plan, reference, half, lambda text: None)
    assert found.curve.resolution(n * voxel) < 1.2 * known.resolution(n * voxel)
    assert np.median(angles_between_deg(found.poses.turns, sim.turns)) < 12
    assert np.abs(found.both).max() > 0
