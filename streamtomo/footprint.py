"""How much room a series will take in the output folder, before it is there."""

from __future__ import annotations

import math

from streamtomo import geometry
from streamtomo.config import Settings
from streamtomo.config_preset import with_preset
from streamtomo.finish.depth import default_depth
from streamtomo.finish.steps_volume import final_binning


def series_bytes(
    shape_yx: tuple[int, int],
    tilts: int,
    settings: Settings,
    *,
    movies: bool,
    axis_deg: float = 0.0,
    pixel_size_A: float | None = None,
) -> int:
    """Bytes of the aligned stacks, the tomograms and, of `movies`, the sums; small files and the live cache left out.

    The tomogram is taken to be as deep as the settings say, else 0.3 of its longer side: its depth is found later.
    """
    ny, nx = shape_yx
    settings = with_preset(settings)
    final, thickness = settings.final, settings.specimen.thickness_nm
    binning = final_binning(nx, ny, final)
    section = math.prod(geometry.aligned_shape(shape_yx, axis_deg, binning))
    depth = default_depth(geometry.aligned_shape(shape_yx, axis_deg, binning))
    if thickness and pixel_size_A:
        depth = max(2, round(thickness * 10 / (pixel_size_A * binning) / 2) * 2)
    voxel = {"int16": 2, "float32": 4}[final.volume_type]
    volumes = (3 if final.halves else 1) + bool(settings.denoise.iterations)
    stacks = 1 + (settings.ctf.correct != "off") + bool(settings.erase.gold)
    return 4 * stacks * tilts * section + volumes * voxel * depth * section + (4 * tilts * ny * nx if movies else 0)
