"""What the final alignment starts from: views where the live lane left them, and positions followed through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo.align.bundle import Poses, Tracks


class PlacedView(Struct, frozen=True, kw_only=True):
    """Where the live lane left one view."""

    index: int
    angle_deg: float
    shift_xy: tuple[float, float]
    """Where the specimen lies, raw pixels."""


class RefineView(PlacedView, frozen=True, kw_only=True):
    """One view as the live lane left it."""

    image: NDArray[np.float32]
    """Corrected and binned, `(ny, nx)`."""


class Tracked(Struct, frozen=True, kw_only=True):
    """Positions followed from view to view, in pixels of the images that they were measured in."""

    method: str
    """"beads", "patches", "mixed" or "coarse": then there are none."""
    note: str
    binning: int
    field: tuple[float, float] = (0.0, 0.0)
    """Width and height of the images."""
    view: tuple[int, ...] = ()
    """Row of each position, views in ascending tilt."""
    point: tuple[int, ...] = ()
    xy: tuple[tuple[float, float], ...] = ()
    weight: tuple[float, ...] = ()
    beads: int = 0
    """So many of the points, the first, are beads; the others are patches."""
    apart_px: float = 0.0
    """RMS distance of another alignment of the same views that is no worse by what is known."""
    bead_radius_px: float | None = None
    """Of these, as found in the images; None where nobody looked for it."""

    def tracks(self) -> Tracks:
        """As the solver takes them."""
        return Tracks(
            np.array(self.view, np.int64), np.array(self.point, np.int64), np.array(self.xy), np.array(self.weight)
        )


def tracked(
    method: str, note: str, measured: Tracks, *, binning: int, field: tuple[float, float], beads: int, apart_px: float
) -> Tracked:
    """Positions as they are kept."""
    return Tracked(
        method=method,
        note=note,
        binning=binning,
        field=field,
        view=tuple(measured.view.tolist()),
        point=tuple(measured.point.tolist()),
        xy=tuple((x, y) for x, y in measured.xy.tolist()),
        weight=tuple(measured.weight.tolist()),
        beads=beads,
        apart_px=apart_px,
    )


View = TypeVar("View", bound=PlacedView)


def in_order(views: Sequence[View]) -> list[View]:
    """In ascending tilt."""
    return sorted(views, key=lambda view: (view.angle_deg, view.index))


def start_poses(
    views: Sequence[PlacedView], axis_deg: float, binning: int, field: tuple[float, float] = (0.0, 0.0)
) -> Poses:
    """The live placements of views in ascending tilt, in pixels of images binned so, `field` pixels large."""
    return Poses(
        tilt_deg=np.array([view.angle_deg for view in views]),
        axis_deg=np.full(len(views), axis_deg),
        mag=np.ones(len(views)),
        shift=np.array([view.shift_xy for view in views]) / binning,
        field=field,
        when=np.array([view.index for view in views]),
    )
