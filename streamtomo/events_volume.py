"""What happens to the live volume of a series in the time between tilts."""

from __future__ import annotations

from streamtomo.happening import Happening


class VolumeRebuilt(Happening, frozen=True, kw_only=True, tag="volume.rebuilt"):
    """The live volume was made anew from all its views, with the placements and weights of now."""

    series: str
    views: int
    seconds: float
    moved: tuple[int, ...] = ()
    """Tilts that lie elsewhere than in the volume before: more is known of them by now."""


class TiltRealigned(Happening, frozen=True, kw_only=True, tag="tilt.realigned"):
    """A tilt that agreed badly with the volume of all others lies elsewhere in the volume from its next rebuild on.

    Its placement as told before is not changed: the final alignment measures it again.
    """

    series: str
    index: int
    shift_x: float
    shift_y: float
    """Where the specimen lies in it, raw pixels, as in a placement."""
    moved_px: float
    """How far from where it was, raw pixels."""
    before: float
    """Its correlation with the volume of all others before ..."""
    after: float
    """... and where it is put."""


class VolumeIterated(Happening, frozen=True, kw_only=True, tag="volume.iterated"):
    """The pictures of the live volume were made by iterations (SIRT), from views of a lower resolution."""

    series: str
    views: int
    iterations: int
    residual: float
    """What the last one but one left of the views, root mean square, as a fraction of them."""
    binning: int
    """Live pixels to one of those that were iterated."""
    seconds: float


class VolumeSaved(Happening, frozen=True, kw_only=True, tag="volume.saved"):
    """The live volume, as it was between two tilts, is in a file."""

    series: str
    path: str
    views: int
    seconds: float
    """That writing took."""
