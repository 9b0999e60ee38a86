"""All views of a series placed anew, in an order of their own: however they came, they end at the same places.

While a series runs each view is placed by what is known when it comes, far from any other one perhaps. Afterwards they
are placed from the lowest tilt outwards, each against its true neighbours, and one that none of these recognises waits
for the others. Where most are not recognised it is the lowest that shows something else: then the others begin without.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from streamtomo.align.live import Interrupted, LiveAligner
from streamtomo.align.places import Shift, own_order
from streamtomo.config import Align

Image = NDArray[np.float32]


class Settling:
    """The views of one series being placed anew; it may be left at any view and taken up again."""

    def __init__(self, settings: Align, axis_deg: float, binning: int) -> None:
        self.settings, self.axis_deg, self.binning = settings, axis_deg, binning
        self._interrupted: Callable[[], bool] = lambda: False
        self._odd: set[int] = set()
        """Views that come last, as the others have nothing in common with them."""
        self._begin()

    def _begin(self) -> None:
        self._aligner = LiveAligner(self.settings, self.axis_deg, self.binning, measure_axis=False)
        self._aligner.interrupted = lambda: self._interrupted()
        self._done: list[int] = []

    @property
    def nbytes(self) -> int:
        """Memory held by images beyond those given."""
        return self._aligner.nbytes

    def shifts(
        self, views: Mapping[int, tuple[float, Image]], interrupted: Callable[[], bool]
    ) -> dict[int, Shift] | None:
        """Where the specimen lies in each view that was recognised, raw pixels; None if interrupted.

        `views` are tilt angle and image by index. A series that grew at its ends goes on where it stood.
        """
        self._interrupted = interrupted
        with contextlib.suppress(Interrupted):
            return self._shifts(views)
        return None

    def _shifts(self, views: Mapping[int, tuple[float, Image]]) -> dict[int, Shift]:
        while True:
            order = own_order({index: angle for index, (angle, _) in views.items()})
            order.sort(key=self._odd.__contains__)  # those that are odd come last, else all stay as they are
            waiting = self._all_placed(order, views)
            known = [index for index in order if index not in waiting]
            if 2 * len(known) >= len(order) or self._odd.issuperset(known):
                return {index: self._aligner.shift_of(index) for index in known}
            self._odd.update(known)

    def _all_placed(self, order: list[int], views: Mapping[int, tuple[float, Image]]) -> list[int]:
        """Place views in this order; those that nothing recognises."""
        if not self._done or self._done != order[: len(self._done)]:
            self._begin()
        for index in order[len(self._done) :]:
            self._place(index, *views[index])
            self._done.append(index)
        waiting = [index for index in order if not self._aligner.knows(index)]
        while waiting:
            self._done = []  # those that waited are out of order: the next time all begins anew
            found = [index for index in waiting if self._place(index, *views[index])]
            if not found:
                break
            waiting = [index for index in waiting if index not in found]
        return waiting

    def _place(self, index: int, angle_deg: float, image: Image) -> bool:
        """Place a view, if it is recognised."""
        placement = self._aligner.place(index, angle_deg, image)
        if placement.credible:
            if self._interrupted():
                raise Interrupted
            self._aligner.accept(index, angle_deg, image, placement)
        return placement.credible
