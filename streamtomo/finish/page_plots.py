"""The drawings on a series' page: how well the views fit, how they were moved, how much light there was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from streamtomo import geometry
from streamtomo.export import fiducials
from streamtomo.finish.position import Position
from streamtomo.finish.steps_align import Solved, transforms
from streamtomo.finish.steps_restore import Lens
from streamtomo.finish.work import Cleaned, Coarse, Work
from streamtomo.model import Alignment, RawImage
from streamtomo.publish.plots import Curve, arrows, curves
from streamtomo.publish.report import Picture
from streamtomo.sums import Done, sum_path

TILT, ORDER = "tilt angle, degrees", "order of acquisition"
LEAST_TURN_DEG, LEAST_GROWTH = 0.006, 1e-4
"""Solved angles, axes and magnifications that vary less are the nominal ones, and are not drawn."""


def plots(work: Work) -> list[Picture]:
    """All that there is something to draw for."""
    found = [*_fit(work), *_solved(work), *_motion(work), *_light(work), *_lens(work)]
    return [Picture(caption, png) for caption, png in found if png is not None]


Found = Iterator[tuple[str, bytes | None]]


def _alignment(work: Work) -> Alignment:
    return work.product("solve", Solved).alignment


def _tilts(work: Work) -> list[float]:
    return [view.tilt_deg for view in _alignment(work).views]


# -- how well it fits ------------------------------------------------------------------------------------------------


def _fit(work: Work) -> Found:
    tilts, views = np.array(_tilts(work)), _alignment(work).views
    lines = [Curve("typical", tilts.tolist(), [view.residual_px for view in views])]
    path, binning = work.path(".resid"), work.product("clean", Cleaned).stack_binning
    if path.exists():
        found = fiducials.read_residuals(path)
        lengths = np.hypot(*found.residual.T) * binning
        largest = [float(lengths[found.view == row].max(initial=0.0)) for row in range(len(views))]
        seen = np.isin(np.arange(len(views)), found.view)
        lines.append(
            Curve("largest", tilts.tolist(), [top if any_ else None for top, any_ in zip(largest, seen, strict=True)])
        )
    yield "Residuals of the views, raw pixels", curves(lines, TILT, "residual, raw pixels")
    if path.exists():
        cleaned = work.product("clean", Cleaned)
        size = cleaned.nx, cleaned.ny
        drawn = arrows(found.xy * binning, found.residual * binning, tilts[found.view], size, TILT)
        yield "Residuals in the field of view: where the model sees a bead or patch, from where it was found", drawn


# -- what was solved -------------------------------------------------------------------------------------------------


def _solved(work: Work) -> Found:
    tilts, alignment = _tilts(work), _alignment(work)
    nominal = np.array([one.tilt.image.angle_deg for one in work.rows])
    back = np.array([geometry.invert(one)[:, :2] for one in transforms(alignment)])
    axes = np.degrees(np.arctan2(back[:, 1, 0] - back[:, 0, 1], back[:, 0, 0] + back[:, 1, 1])) - alignment.axis_deg
    growth = 100 * (np.sqrt(np.abs(np.linalg.det(back))) - 1)
    for caption, values, name, least in (
        ("Solved less nominal tilt", np.array(tilts) - nominal, "degrees", LEAST_TURN_DEG),
        ("Tilt axis of the views less that of the series", axes, "degrees", LEAST_TURN_DEG),
        ("Magnification of the views", growth, "per cent", 100 * LEAST_GROWTH),
    ):
        if np.abs(values).max() > least:
            yield caption, curves([Curve(caption, tilts, values.tolist())], TILT, name)


# -- how the specimen moved ------------------------------------------------------------------------------------------


def _motion(work: Work) -> Found:
    tilts, names = _tilts(work), ("along x", "along y")
    shifts = np.array(work.product("coarse", Coarse).shifts)
    final = np.array([geometry.invert(one)[:, 2] for one in transforms(_alignment(work))])
    change = [Curve(name, tilts, (final - shifts)[:, i].tolist()) for i, name in enumerate(names)]
    taken = np.argsort([one.tilt.index for one in work.rows])
    order = [work.rows[row].tilt.index for row in taken]
    drift = [Curve(name, order, final[taken, i].tolist()) for i, name in enumerate(names)]
    travel = [Curve("travel", order, [_travel(work, work.rows[row].tilt.image) for row in taken])]
    yield "Where the specimen is, in the order of acquisition", curves(drift, ORDER, "raw pixels")
    yield "Final less live alignment", curves(change, TILT, "raw pixels")
    yield "Way of the specimen through each movie", curves(travel, ORDER, "raw pixels")


def _travel(work: Work, image: RawImage) -> float | None:
    """Length of the specimen's way through a movie whose sum was kept, raw pixels."""
    if image.frames < 2:
        return None
    path = sum_path(image, work.settings, work.folder, with_drift=True).with_suffix(".json")
    try:
        done = msgspec.json.decode(Path(path).read_bytes(), type=Done)
    except (OSError, msgspec.MsgspecError):
        return None
    return done.travel_px if done.drift_px else None


# -- how much light there was ----------------------------------------------------------------------------------------


def _light(work: Work) -> Found:
    tilts, means = _tilts(work), np.array(work.product("clean", Cleaned).means)
    lines = [Curve("mean", tilts, means.tolist())]
    if len(means) > 2 and (means > 0).all():
        offset = work.product("position", Position).offset_deg
        way = 1 / geometry.tilt_terms(np.array(tilts) + offset).cos
        slope, start = np.polyfit(way, np.log(means), 1)
        law = np.exp(start + slope * way)
        lines.append(Curve("as an even slab absorbs", tilts, law.tolist(), line=True))
    yield "Mean counts", curves(lines, TILT, "counts")
    doses = [one.tilt.image.prior_dose_e_A2 for one in work.rows]
    if any(doses):
        taken = np.argsort([one.tilt.index for one in work.rows])
        order = [work.rows[row].tilt.index for row in taken]
        yield "Dose before each view", curves([Curve("dose", order, [doses[row] for row in taken])], ORDER, "e/Å²")


# -- the lens --------------------------------------------------------------------------------------------------------


def _lens(work: Work) -> Found:
    focus = work.product("ctf", Lens).focus if "ctf" in work.state else None
    if focus is None:
        return
    tilts, views = _tilts(work), focus.views
    found = Curve("underfocus", tilts, [view.defocus_um for view in views])
    yield "Focus of the views", curves([found], TILT, "underfocus at the tilt axis, µm")
    sure = Curve("confidence", tilts, [view.confidence for view in views])
    yield "How sure the focus is", curves([sure], TILT, "probability of 2 % or 100 nm")
