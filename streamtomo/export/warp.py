"""Warp's tilt series: `NAME.tomostar`, and `NAME.xml` with the alignment.

Warp negates the stage's angles on import, so these are negated here, and only here. A point P from the volume's middle
is seen at `R(axis) [X cos t + Z sin t, Y] + offset + n / 2` pixels (times their size in Å), t the negated angle: its
middle of n pixels is half a pixel beyond ours. (Source: its code.) It is given no x-axis tilt: a pitch stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from streamtomo import geometry
from streamtomo.errors import OutputError
from streamtomo.export import star
from streamtomo.export.imod import write_bytes, write_text
from streamtomo.export.views import Exports
from streamtomo.geometry import Array

FOLDER = "warp"
HALF_PIXEL = 0.5


class Row(NamedTuple):
    """One view of Warp's alignment."""

    angle_deg: float
    """As Warp has it: negated."""
    axis_deg: float
    offset_A: Array
    pixel_A: float

    def project(self, points: Array) -> Array:
        """Where points `(n, 3)` from the volume's middle are seen, `(n, 2)` from the image's middle, as we count."""
        shift = self.offset_A / self.pixel_A + HALF_PIXEL
        return geometry.apply(geometry.aligned_to_raw(self.axis_deg, shift), geometry.project(points, -self.angle_deg))


def write(folder: Path, exports: Exports) -> list[str]:
    """Both files below `warp/`; their names. Raises OutputError."""
    base = folder / FOLDER
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{base}: cannot be made ({error.strerror})") from None
    write_text(base / f"{exports.name}.tomostar", star.render({"": _tomostar(exports)}))
    write_bytes(base / f"{exports.name}.xml", _xml(exports))
    return [f"{FOLDER}/{exports.name}{suffix}" for suffix in (".tomostar", ".xml")]


def _offsets(exports: Exports) -> list[Array]:
    return [exports.pixel_A * (view.shift - HALF_PIXEL) for view in exports.views]


def _doses(exports: Exports) -> list[float]:
    return [float(view.image.prior_dose_e_A2 or 0.0) for view in exports.views]


def _tomostar(exports: Exports) -> dict[str, list[star.Value]]:
    views, offsets = exports.views, _offsets(exports)
    return {
        "wrpMovieName": [view.image.path for view in views],
        "wrpAngleTilt": [-float(view.tilt_deg) for view in views],
        "wrpAxisAngle": [float(view.axis_deg) for view in views],
        "wrpAxisOffsetX": [float(x) for x, _ in offsets],
        "wrpAxisOffsetY": [float(y) for _, y in offsets],
        "wrpDose": list(_doses(exports)),
        "wrpAverageIntensity": [float(mean) for mean in exports.means],
        "wrpMaskedFraction": [0.0] * len(views),
    }


def _xml(exports: Exports) -> bytes:
    root = ElementTree.Element("TiltSeries", AreAnglesInverted="False", UnselectFilter="False", UnselectManual="")
    offsets = _offsets(exports)
    for tag, values in (
        ("Angles", (f"{-view.tilt_deg:.4f}" for view in exports.views)),
        ("Dose", (f"{dose:.4f}" for dose in _doses(exports))),
        ("UseTilt", ("True" for _ in exports.views)),
        ("AxisAngle", (f"{view.axis_deg:.5f}" for view in exports.views)),
        ("AxisOffsetX", (f"{x:.4f}" for x, _ in offsets)),
        ("AxisOffsetY", (f"{y:.4f}" for _, y in offsets)),
        ("MoviePath", (view.image.path for view in exports.views)),
    ):
        _lines(root, tag, values)
    options = ElementTree.SubElement(root, "OptionsCTF")
    pixel = f"{exports.pixel_A / exports.stack_binning:.5f}"
    for name, value in (
        ("PixelSizeX", pixel),
        ("PixelSizeY", pixel),
        ("Voltage", f"{exports.voltage_kV:g}"),
        ("Cs", f"{exports.cs_mm:g}"),
        ("Amplitude", f"{exports.amplitude_contrast:g}"),
    ):
        ElementTree.SubElement(options, "Param", Name=name, Value=value)
    ElementTree.indent(root, "\t")
    return bytes(ElementTree.tostring(root, encoding="utf-16", xml_declaration=True))


def _lines(root: ElementTree.Element, tag: str, values: Iterable[str]) -> None:
    ElementTree.SubElement(root, tag).text = "\n".join(values)


def read(path: Path, pixel_A: float) -> list[Row]:
    """The views of an XML file."""
    root = ElementTree.fromstring(path.read_bytes())
    columns = [
        [float(word) for word in (root.findtext(tag) or "").split()]
        for tag in ("Angles", "AxisAngle", "AxisOffsetX", "AxisOffsetY")
    ]
    return [Row(angle, axis, np.array([x, y]), pixel_A) for angle, axis, x, y in zip(*columns, strict=True)]
