"""Compiles the kernels of restoration with the types that are used later."""

from __future__ import annotations

import numpy as np

from streamtomo.lens import Microscope
from streamtomo.restore.beads3d import find_beads_3d
from streamtomo.restore.ctf import Focus, ViewFocus
from streamtomo.restore.denoise import Diffusion, default_k, diffuse
from streamtomo.restore.focus import estimate_focus
from streamtomo.restore.resample3d import resample
from streamtomo.restore.transfer import corrected


def warmup() -> None:
    """Run every kernel once on something small."""
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(24, 24, 24)).astype(np.float32)
    diffuse(volume, Diffusion(default_k(volume), 3))
    for voxels in (volume, np.rint(100 * volume).astype(np.int16)):
        find_beads_3d(voxels, 3.0)
        resample(voxels, np.eye(3, 4), np.empty_like(volume), np.empty(volume.shape, np.bool_))
    mapped = voxels.view()
    mapped.flags.writeable = False
    resample(mapped, np.eye(3, 4), np.empty_like(volume), np.empty(volume.shape, np.bool_))
    stack = rng.normal(100, 10, (2, 128, 128)).astype(np.float32)
    estimate_focus(stack, [0.0, 30.0], 5.0, Microscope())
    view = ViewFocus(defocus_um=3.0, sd_um=0.0, confidence=1.0, resolution_A=None)
    corrected(stack, [0.0, 30.0], 5.0, Focus(views=(view, view)), Microscope())
