"""Where the specimen lies: its thickness, its pitch, its tilt at zero tilt, and the height of its middle.

Two witnesses. The beads lie on its surfaces: one plane, or two that are parallel. The density of a quick, small volume:
halves of the views show the specimen where it is, and agree nowhere else, so the planes in which they agree are sought.
Beads are the finer witness of the turn, the density is the one that sees all of the specimen.

A slab lies at `Ry(offset) Rx(pitch) P`, P in the specimen lying flat: a view at tilt t sees it at `t + offset` about
the tilt axis, after a turn by `pitch` about X.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.finish.depth import deep_enough, default_depth, find_depth
from streamtomo.finish.slab import Slab, find_slab, small_views

Array = NDArray[np.float64]
Image = NDArray[np.float32]

LEAST_TURN_DEG = 0.1
"""A smaller pitch is none: nobody sees it, and a level volume is made faster."""
SURE_SEEN = 0.4
"""A bead counts that is seen in this share of the views."""
LEAST_ON_SURFACE, LEAST_BEADS = 2, 5
TRIPLES = 60
APART = 5.0
"""Two surfaces are this many times further apart than beads are from them."""
LEAST_APART, FLAT = 0.015, 0.02
"""Shares of the beads' field: two surfaces nearer to each other are one; what is thicker than this is no surface."""
OUTLYING = 3.5
"""A bead further from its surface than this, in standard deviations, is not on it."""
TURNS_AGREE_DEG, THICKNESS_AGREES = 1.5, 0.25
"""Beads and density disagree beyond this."""


class Position(Struct, frozen=True, kw_only=True):
    """How the specimen lies in the aligned views, and the volume that holds it; lengths in pixels."""

    thickness_px: float | None
    """None where it cannot be told."""
    pitch_deg: float
    offset_deg: float
    """What is added to all tilt angles."""
    height_px: float
    """Of the specimen's middle above the tilt axis, in the specimen lying flat."""
    depth_px: float
    """Of the volume that holds it with a margin."""
    note: str
    warning: str = ""

    def in_pixels(self, binning: int) -> Position:
        """The same in pixels smaller by `binning`."""
        thickness = None if self.thickness_px is None else round(self.thickness_px * binning, 2)
        return msgspec.structs.replace(
            self,
            thickness_px=thickness,
            height_px=round(self.height_px * binning, 2),
            depth_px=round(self.depth_px * binning, 2),
        )

    def as_deep_as(self, depth_px: float) -> Position:
        """With a volume of another depth about the same middle."""
        return msgspec.structs.replace(self, depth_px=depth_px)


class Surfaces(NamedTuple):
    """Planes through beads, `z = slope_x x + slope_y y + middle +- apart / 2`."""

    slope_x: float
    slope_y: float
    middle: float
    apart: float
    """0 for a single plane."""
    spread: float
    """Standard deviation of the beads about their surface."""
    error_deg: float
    """Expected error of the slopes."""
    beads: int


def turn_of(slope_x: float, slope_y: float) -> tuple[float, float, float]:
    """Pitch and offset (degrees) of a plane `z = slope_x x + slope_y y`, and what makes heights distances from it."""
    offset = -np.arctan(slope_x)
    pitch = np.arctan(slope_y * np.cos(offset))
    return float(np.degrees(pitch)), float(np.degrees(offset)), float(np.cos(pitch) * np.cos(offset))


def find_position(
    images: Sequence[Image],
    transforms: Sequence[geometry.Array],
    tilts_deg: Sequence[float],
    *,
    points_px: Array,
    seen: Sequence[int],
    axis_deg: float,
    beads: bool,
    level: bool = False,
) -> Position:
    """Position of the specimen in views `(ny, nx)` with their raw-to-aligned transforms, in their pixels.

    `points_px` `(n, 3)` are the beads or patches of the alignment, each `seen` in so many views; patches lie anywhere
    in the specimen and say nothing about its surfaces. `level`: the specimen is taken as flat.
    """
    shape = geometry.aligned_shape((images[0].shape[0], images[0].shape[1]), axis_deg)
    small = small_views(images, transforms, shape)
    slab = find_slab(small, tilts_deg, (0.0, 0.0) if level else None)
    sure = points_px[np.asarray(seen, int) >= SURE_SEEN * len(images)] if len(points_px) else points_px
    start = (slab.slope_x, slab.slope_y) if slab else (0.0, 0.0)
    surfaces = fit_surfaces(sure, start) if beads and not level else None
    heard = points_px if beads else points_px[:0]
    if slab is None and surfaces is not None:
        slab = find_slab(small, tilts_deg, (surfaces.slope_x, surfaces.slope_y))
    if slab is None and (surfaces is None or not surfaces.apart):
        found = find_depth(small.views, tilts_deg)
        return _unknown(None if found is None else found * small.factor, surfaces, heard, shape)
    return _combined(slab, surfaces, heard, shape)


def _unknown(half_depth: float | None, one: Surfaces | None, beads: Array, shape: tuple[int, int]) -> Position:
    """Where the specimen ends is not known: deep enough for what the halves agree on, and for all beads.

    Beads on one surface tell how it is turned; without them it is taken as level.
    """
    pitch, offset, _ = turn_of(one.slope_x, one.slope_y) if one else (0.0, 0.0, 1.0)
    depth = default_depth(shape) if half_depth is None else deep_enough(half_depth, shape)
    return Position(
        thickness_px=None,
        pitch_deg=_noticeable(pitch),
        offset_deg=round(offset, 3),
        height_px=0.0,
        depth_px=max(depth, deep_enough(_reach_of(beads, pitch, offset, 0.0), shape)),
        note=f"turned by {one.beads} beads on one surface" if one else "no surface was found: taken as level",
    )


def _noticeable(pitch: float) -> float:
    return round(pitch, 3) if abs(pitch) >= LEAST_TURN_DEG else 0.0


def _combined(slab: Slab | None, surfaces: Surfaces | None, beads: Array, shape: tuple[int, int]) -> Position:
    warning = _disagreement(slab, surfaces)
    use_beads = surfaces is not None and (slab is None or surfaces.error_deg <= slab.error_deg)
    witness = surfaces if use_beads else slab
    assert witness is not None
    pitch, offset, flat = turn_of(witness.slope_x, witness.slope_y)
    thickness, middle = _extent(slab, surfaces, flat)
    reach = max(thickness / 2, _reach_of(beads, pitch, offset, middle))
    return Position(
        thickness_px=round(thickness, 2),
        pitch_deg=_noticeable(pitch),
        offset_deg=round(offset, 3),
        height_px=round(middle, 2),
        depth_px=deep_enough(reach, shape),
        note=_note(slab, surfaces, use_beads=use_beads),
        warning=warning,
    )


def _extent(slab: Slab | None, surfaces: Surfaces | None, flat: float) -> tuple[float, float]:
    """Thickness and height of the middle: the density's, or the surfaces' where there are two and it agrees."""
    if surfaces is not None and surfaces.apart and (slab is None or _thickness_agrees(slab, surfaces)):
        return surfaces.apart * flat, surfaces.middle * flat
    assert slab is not None
    return slab.thickness * flat, slab.middle * flat


def _reach_of(beads: Array, pitch: float, offset: float, middle: float) -> float:
    """How far the beads are from the middle of the specimen lying flat; those far off are dirt and do not count."""
    if not len(beads):
        return 0.0
    back = geometry.rotation_x(-pitch) @ geometry.rotation_y(-offset)
    heights = np.abs((beads @ back.T)[:, 2] - middle)
    return float(np.percentile(heights, 90))


def _thickness_agrees(slab: Slab, surfaces: Surfaces) -> bool:
    return abs(slab.thickness / max(surfaces.apart, 1e-6) - 1) <= THICKNESS_AGREES


def _disagreement(slab: Slab | None, surfaces: Surfaces | None) -> str:
    """In words; empty where there is only one witness, or both say the same."""
    if slab is None or surfaces is None:
        return ""
    by_beads, by_density = turn_of(surfaces.slope_x, surfaces.slope_y), turn_of(slab.slope_x, slab.slope_y)
    words = []
    for name, one, other in zip(("pitch", "tilt offset"), by_beads[:2], by_density[:2], strict=True):
        if abs(one - other) > TURNS_AGREE_DEG + 2 * (surfaces.error_deg + slab.error_deg):
            words.append(f"{name} {one:.1f}° by the beads, {other:.1f}° by the density")
    if surfaces.apart and not _thickness_agrees(slab, surfaces):
        words.append(f"thickness {surfaces.apart:.0f} px by the beads, {slab.thickness:.0f} px by the density")
    return f"the specimen's position is in doubt: {'; '.join(words)}" if words else ""


def _note(slab: Slab | None, surfaces: Surfaces | None, *, use_beads: bool) -> str:
    words = []
    if surfaces is not None:
        planes = "two surfaces" if surfaces.apart else "one surface"
        words.append(f"{surfaces.beads} beads on {planes}")
    if slab is not None:
        words.append("density of a small volume")
    return f"from {' and '.join(words)}; turn by the {'beads' if use_beads else 'density'}"


# -- beads -----------------------------------------------------------------------------------------------------------


def fit_surfaces(points: Array, start: tuple[float, float] = (0.0, 0.0)) -> Surfaces | None:
    """One plane or two parallel ones through beads `(n, 3)`, beside which few lie; None where there is none.

    `start`: slopes that they have roughly.
    """
    if len(points) < LEAST_BEADS:
        return None
    extent = float(np.ptp(points[:, :2], axis=0).max())
    single = _fit(points, np.zeros(len(points)), np.ones(len(points), bool))
    double = _double(points, start)
    if double is not None and double.apart > max(APART * double.spread, LEAST_APART * extent):
        return double
    if single is None or single.spread > FLAT * extent:
        return None  # they do not lie in a plane
    return single


def _double(points: Array, start: tuple[float, float]) -> Surfaces | None:
    """Two parallel planes, from the widest gaps in the heights above a first plane on.

    First planes are the one given, a level one, and those through three beads, which may lie on one surface.
    """
    best: Surfaces | None = None
    for slopes in (start, (0.0, 0.0), *_slopes_of_three(points)):
        heights = points[:, 2] - points[:, :2] @ np.array(slopes)
        for side in _splits(heights):
            found = _settled(points, side)
            if found is not None and (best is None or found.spread < best.spread):
                best = found
    return best


def _slopes_of_three(points: Array) -> list[tuple[float, float]]:
    """Slopes of planes through some sets of three beads, the same sets each time."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(TRIPLES):
        a, b, c = points[rng.choice(len(points), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        if abs(normal[2]) > 0.9 * np.hypot.reduce(normal) > 0:
            found.append((float(-normal[0] / normal[2]), float(-normal[1] / normal[2])))
    return found


def _splits(heights: Array) -> list[Array]:
    """Sides (-1, +1) by the widest gaps between the heights."""
    order = np.sort(heights)
    gaps = np.diff(order)
    widest = np.argsort(gaps)[::-1][:3]
    return [np.where(heights > (order[i] + order[i + 1]) / 2, 1.0, -1.0) for i in widest]


def _settled(points: Array, side: Array) -> Surfaces | None:
    """Planes and sides in turn until nothing changes, without beads that lie on neither."""
    kept = np.ones(len(points), bool)
    found: Surfaces | None = None
    for _ in range(10):
        if min((side[kept] > 0).sum(), (side[kept] < 0).sum()) < LEAST_ON_SURFACE:
            return None
        found = _fit(points, side, kept)
        if found is None:
            return None
        heights = points[:, 2] - points[:, :2] @ np.array([found.slope_x, found.slope_y]) - found.middle
        now = np.where(heights > 0, 1.0, -1.0)
        distance = np.abs(heights - now * found.apart / 2)
        limit = OUTLYING * max(1.4826 * float(np.median(distance)), 1e-3 * abs(found.apart))
        if (now == side).all() and ((distance <= limit) == kept).all():
            break
        side, kept = now, distance <= limit
    return found if found and found.apart > 0 and kept.mean() > 0.7 else None


def _fit(points: Array, side: Array, kept: NDArray[np.bool_]) -> Surfaces | None:
    """Least squares; `side` -1 or +1 for two planes, 0 for one."""
    columns = [points[kept, 0], points[kept, 1], np.ones(int(kept.sum()))]
    if side.any():
        columns.append(side[kept] / 2)
    design = np.stack(columns, axis=1)
    freedom = len(design) - design.shape[1]
    if freedom < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    found = np.linalg.lstsq(design, points[kept, 2], rcond=None)[0]
    spread = float(np.sqrt(((points[kept, 2] - design @ found) ** 2).sum() / freedom))
    errors = spread * np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    return Surfaces(
        slope_x=float(found[0]),
        slope_y=float(found[1]),
        middle=float(found[2]),
        apart=float(found[3]) if side.any() else 0.0,
        spread=spread,
        error_deg=float(np.degrees(errors[:2].max())),
        beads=len(design),
    )
