"""Small simulated series in memory, as the finishing gets them: corrected images, live placements with errors."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from streamtomo import geometry
from streamtomo.correct.prepare import prepare
from streamtomo.finish.tracked import RefineView
from streamtomo.simulate.pose import View
from streamtomo.simulate.series import Motion, Plan, Series
from streamtomo.simulate.specimen import Recipe

TILTS = tuple(float(t) for t in range(-60, 61, 4))


class Simulated(NamedTuple):
    """Views in ascending tilt, and what is true of them."""

    views: list[RefineView]
    true: list[View]
    series: Series
    binning: int

    @property
    def beads_px(self):
        """True bead positions `(n, 3)` in raw pixels."""
        return self.series.specimen.beads_nm * 10 / self.series.plan.pixel_size_A


@lru_cache(maxsize=8)
def simulated(
    *,
    beads=8,
    size=384,
    axis=20.0,
    seed=5,
    tilts=TILTS,
    binning=1,
    error_px=2.0,
    dose=3.0,
    surface="both",
    tilt_error=0,
    thickness=100.0,
    pitch=0.0,
    pretilt=0.0,
    beam_tilt=0.0,
    local_px=0.0,
    dome_px=0.0,
):
    """A series whose live placements are wrong by a smooth drift and noise of `error_px`."""
    recipe = Recipe(thickness_nm=thickness, beads=beads, bead_surface=surface, pitch_deg=pitch, pretilt_deg=pretilt)
    motion = Motion(tilt_error_deg=tilt_error, beam_tilt_deg=beam_tilt, local_px=local_px, dome_px=dome_px)
    plan = Plan(
        tilts, (size, size), axis_deg=axis, dose_e_A2=dose, recipe=recipe, motion=motion, seed=seed, hot=5, xrays=3
    )
    series = Series(plan)
    rng = np.random.default_rng(seed)
    drift = np.sin(np.linspace(0, 4, len(tilts)))[:, None] * error_px + rng.normal(0, error_px / 4, (len(tilts), 2))
    views = [
        RefineView(
            index=i,
            angle_deg=float(series.read_deg[i]),
            image=prepare(series.expose(i).image, binning, 8.0)[0],
            shift_xy=tuple(np.array(true.shift_xy) + drift[i]),
        )
        for i, true in enumerate(series.views)
    ]
    return Simulated(views, series.views, series, binning)


def alignment_error(alignment, true):
    """RMS distance in raw pixels between where probes are seen and where the alignment says, best motion removed."""
    probes = np.random.default_rng(0).uniform(-1, 1, (40, 3)) * (150, 150, 40)
    rows, seen = [], []
    for view in alignment.views:
        xf = np.array(view.xf)
        transform = np.column_stack([xf[:4].reshape(2, 2), xf[4:]])
        seen.append(geometry.apply(transform, true[view.index].raw(probes)))
        rows.append(geometry.project(np.eye(3), view.tilt_deg).T)
    design, target = np.concatenate(rows), np.concatenate(np.transpose(seen, (0, 2, 1)))
    # Any linear map of the specimen is allowed: a little more than a rigid motion, and a linear problem.
    basis = np.vstack([probes.T, np.ones(len(probes))])
    moved = np.linalg.lstsq(design, target, rcond=None)[0]
    affine = moved @ np.linalg.pinv(basis)
    return float(np.sqrt(2 * ((design @ affine @ basis - target) ** 2).mean()))
