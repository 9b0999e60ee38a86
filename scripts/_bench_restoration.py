"""What restoration costs: a series of 41 views of 1024 x 1024, a volume of 1024 x 1024 x 300."""

from __future__ import annotations

import numpy as np
from _bench_table import row, times_ms

from streamtomo import geometry
from streamtomo.lens import Microscope
from streamtomo.restore.beads3d import find_beads_3d
from streamtomo.restore.combine import combined_bands, sampling
from streamtomo.restore.ctf import Focus, ViewFocus
from streamtomo.restore.denoise import Diffusion, diffuse, preview
from streamtomo.restore.erase import erase_gold
from streamtomo.restore.focus import Search, estimate_focus
from streamtomo.restore.match import turn_about_z
from streamtomo.restore.transfer import corrected
from streamtomo.restore.warmup import warmup

TILTS = [3.0 * i for i in range(-20, 21)]
BEADS = 60
RADIUS_PX = 4.6


def bench_restoration(runs: int) -> None:
    """All tables."""
    warmup()
    print("\nrestoration, ms                                               minimum    median")
    stack = np.random.default_rng(0).normal(100, 10, (41, 1024, 1024)).astype(np.float32)
    _lens(stack, runs)
    _gold(stack, runs)
    _volumes(runs)


def _lens(stack: np.ndarray, runs: int) -> None:
    view = ViewFocus(defocus_um=4.0, sd_um=0, confidence=1, resolution_A=None)
    focus, microscope = Focus(views=(view,) * 41, snr=(0.2, 200.0)), Microscope()
    for name, search in (("", Search()), (", with astigmatism", Search(astigmatism=True))):
        row(
            f"focus of 41 views{name}",
            times_ms(lambda s=search: estimate_focus(stack, TILTS, 5.4, microscope, s), runs),
        )
    for how in ("flip", "wiener"):
        for pixel in (5.4, 10.8):
            name = f"41 views corrected, {how}, pixels of {pixel} Å"
            row(name, times_ms(lambda h=how, p=pixel: corrected(stack, TILTS, p, focus, microscope, h), runs))


def _gold(stack: np.ndarray, runs: int) -> None:
    rng = np.random.default_rng(1)
    beads = np.column_stack([rng.uniform(-480, 480, (BEADS, 2)), rng.choice([-70.0, 70.0], BEADS)])
    gold = stack.copy()
    for view, tilt in zip(gold, TILTS, strict=True):
        for x, y in np.rint(geometry.project(beads, tilt, 0.0) + 511.5).astype(int):
            view[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] -= 40
    row(f"{BEADS} beads erased in 41 views", times_ms(lambda: erase_gold(gold, TILTS, beads, RADIUS_PX), runs))
    volume = rng.normal(0, 1000, (300, 1024, 1024)).astype(np.int16)
    corner = np.array([511.5, 511.5, 149.5])
    for x, y, z in np.rint(beads + corner).astype(int):
        volume[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4] -= 9000
    row("beads found in 1024 x 1024 x 300 int16", times_ms(lambda: find_beads_3d(volume, RADIUS_PX), runs))


def _volumes(runs: int) -> None:
    rng = np.random.default_rng(2)
    volume, how = rng.normal(size=(96, 512, 512)).astype(np.float32), Diffusion(0.5, 12)
    best, middle = times_ms(lambda: diffuse(volume, how), runs)
    rate = volume.size * how.iterations / best / 1e3
    row(f"diffusion, 12 iterations of 512 x 512 x 96 ({rate:.0f} Mvoxel/s)", (best, middle))
    row(
        "preview of 3 K and 3 iterations on one section of it",
        times_ms(lambda: preview(volume, (0.3, 0.5, 1), (9, 18, 30)), 1),
    )
    seen = sampling(TILTS, len(volume)), sampling(TILTS, len(volume), turn_about_z(89.0))
    row("two axes combined, 512 x 512 x 96", times_ms(lambda: list(combined_bands(volume, volume, *seen)), runs))
