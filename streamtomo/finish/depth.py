"""How deep the tomogram must be."""

from __future__ import annotations

MARGIN = 1.25
"""The tomogram is so many times deeper than the specimen."""


def default_depth(shape_yx: tuple[int, ...]) -> int:
    """Sections where nothing better is known: 0.3 of the longer side, even."""
    return max(2, round(0.3 * max(shape_yx) / 2) * 2)


def deep_enough(half_px: float, shape_yx: tuple[int, ...]) -> int:
    """Sections, even, that hold what reaches `half_px` above and below the middle, with a margin."""
    return int(min(max(shape_yx), max(16, round(MARGIN * 2 * half_px)))) // 2 * 2
