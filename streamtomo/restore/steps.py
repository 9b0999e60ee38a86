"""The steps of the recipe that restore: settings and arrays in, arrays and records out, files nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamtomo.config import Ctf, Denoise, Erase
from streamtomo.lens import Microscope
from streamtomo.restore.beads3d import find_beads_3d
from streamtomo.restore.ctf import Focus
from streamtomo.restore.denoise import Diffusion, default_k, diffused_slabs
from streamtomo.restore.erase import Erased, erase_gold
from streamtomo.restore.focus import Search, estimate_focus
from streamtomo.restore.transfer import corrected

Array = NDArray[np.float64]
Image = NDArray[np.float32]

PROVED = 3.0
"""Logarithm of the odds from which a hand is proved."""
LEAST_CONFIDENCE = 0.15
"""Views are not corrected where half of them are less sure of their focus."""
SAME_BEAD = 1.5
"""Radii within which a bead found is one that was known."""


class LensResult(NamedTuple):
    """Views after the lens was dealt with."""

    stack: Image
    """`(n, ny, nx)`; the input itself where nothing was corrected."""
    focus: Focus | None
    """None: it could not be found."""
    warnings: tuple[str, ...]


def lens_step(
    stack: Image,
    tilts_deg: Sequence[float],
    pixel_A: float,
    settings: Ctf,
    microscope: Microscope,
    progress: Callable[[float], None] = lambda _: None,
) -> LensResult:
    """Find the focus of aligned views `(n, ny, nx)` in ascending tilt, and correct them as the settings say.

    `pixel_A` is that of the stack; `tilts_deg` those of the specimen's plane (with the pre-tilt of a lamella). What
    stands in the way is a warning, and the views stay as they are.
    """
    hand = {"auto": 0, "normal": 1, "inverted": -1}[settings.hand]
    if settings.lowest_um >= settings.highest_um:
        why = f"ctf.lowest_um = {settings.lowest_um:g} is not below ctf.highest_um = {settings.highest_um:g}"
        return LensResult(stack, None, (f"the lens is not corrected: {why}",))
    search = Search(settings.lowest_um, settings.highest_um, settings.astigmatism, settings.phase_plate, hand)
    try:
        focus = estimate_focus(stack, tilts_deg, pixel_A, microscope, search)
    except ValueError as error:
        return LensResult(stack, None, (f"the lens is not corrected: {error}",))
    warnings = _hand_warnings(focus, hand)
    sure = float(np.median([view.confidence for view in focus.views]))
    if sure < LEAST_CONFIDENCE:
        told = f"the lens is not corrected: the views show no rings that tell their focus (confidence {sure:.2f})"
        return LensResult(stack, focus, (told,))
    if settings.correct == "flip" or settings.correct == "wiener":
        stack = corrected(stack, tilts_deg, pixel_A, focus, microscope, settings.correct, progress)
    return LensResult(stack, focus, warnings)


def _hand_warnings(focus: Focus, wanted: int) -> tuple[str, ...]:
    """A focus that rises to the wrong side, if that is proved."""
    if wanted == 0 and focus.hand == -1 and focus.hand_odds > PROVED:
        return (
            f"the focus rises to the side that the tilt axis and the signs of the angles say is lower (odds "
            f"e^{focus.hand_odds:.0f}): if the axis is 180 degrees off the tomogram has the wrong hand; if it is right "
            "set ctf.hand = inverted",
        )
    if wanted and focus.hand_odds < -PROVED:
        told = "normal" if wanted == 1 else "inverted"
        return (f"ctf.hand = {told}, but the focus rises to the other side (odds e^{-focus.hand_odds:.0f})",)
    return ()


def gold_step(
    stack: Image,
    tilts_deg: Sequence[float],
    pixel_A: float | None,
    settings: Erase,
    *,
    radius_px: float,
    solved_xyz: Array,
    volume: NDArray[Any] | None = None,
    volume_binning: int = 1,
    sign: float = -1.0,
    xtilts_deg: Sequence[float] | float = 0.0,
) -> tuple[Erased, Array]:
    """Erase all gold from aligned views `(n, ny, nx)`; also the beads `(m, 3)` that were erased.

    `solved_xyz` `(k, 3)` are the beads of the alignment, in pixels of the stack from the specimen's centre; the others
    are found in a `volume` `(nz, ny, nx)` made from the stack, where one is given, whose voxels are `volume_binning`
    pixels wide. Beads have `radius_px`.
    """
    beads = np.asarray(solved_xyz, np.float64).reshape(-1, 3)
    if volume is not None:
        beads = volume_binning * all_beads(volume, radius_px / volume_binning, beads / volume_binning, sign)
    edge = settings.edge_nm * 10 / pixel_A if settings.edge_nm and pixel_A else None
    return erase_gold(stack, tilts_deg, beads, radius_px, sign=sign, xtilts_deg=xtilts_deg, edge_px=edge), beads


def all_beads(volume: NDArray[Any], radius_px: float, solved_xyz: Array, sign: float) -> Array:
    """Beads `(m, 3)` of the alignment and those found in a volume besides."""
    found = find_beads_3d(volume, radius_px, sign=sign, known_xyz=solved_xyz).xyz
    if not len(solved_xyz) or not len(found):
        return np.concatenate([solved_xyz, found])
    new = cKDTree(solved_xyz).query(found)[0] > SAME_BEAD * radius_px
    return np.concatenate([solved_xyz, found[new]])


def diffusion_step(volume: NDArray[Any], settings: Denoise) -> tuple[Diffusion, Iterator[tuple[int, Image]]]:
    """How a volume `(nz, ny, nx)`, also a memory-mapped file, is diffused; its slabs `(nz, rows, nx)` from y = 0 on."""
    how = Diffusion(settings.k or default_k(volume, settings.sigma), settings.iterations or 0, settings.sigma)
    return how, diffused_slabs(volume, how)
