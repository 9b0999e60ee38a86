"""The tilt angles that a series is planned to have."""

from __future__ import annotations

from streamtomo.errors import SettingsError

MOST = 2000
"""Tilts of a series; a step that is too small by mistake gives more."""


def planned_angles(text: str | None) -> tuple[float, ...]:
    """Angles (degrees, ascending) from `from:to:step` or from numbers with commas; none where nothing is planned.

    Raises SettingsError with the two forms.
    """
    if text is None:
        return ()
    try:
        angles = _steps(*map(float, text.split(":"))) if ":" in text else [float(one) for one in text.split(",")]
    except (TypeError, ValueError):
        angles = []
    if not angles or len(angles) > MOST or not all(abs(angle) <= 90 for angle in angles):
        raise SettingsError(
            f"acquisition.planned_angles = {text!r} is not allowed: write it as from:to:step, such as -60:60:3, or one "
            f"by one, such as 0,3,-3,6,-6; from -90 to 90, {MOST} at most"
        )
    return tuple(sorted(set(angles)))


def _steps(first: float, last: float, step: float) -> list[float]:
    """From the first to the last, both included; raises ValueError where no steps lead there."""
    if step == 0 or not 0 <= (count := (last - first) / step) < MOST:
        raise ValueError
    return [first + step * n for n in range(int(count + 1e-6) + 1)]
