"""batchruntomo's directive files: the common directives read as settings, and a file that repeats a run in IMOD.

A directive is `key = value`; an empty value takes an option back. `any`, `a` and `b` name axes: of b nothing is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from streamtomo.errors import SettingsError
from streamtomo.export.imod import write_text

NM_TO_A = 10.0
TRACKING = {"0": "beads", "1": "patches", "2": "beads"}
"""runtime.Fiducials.any.trackingMethod; 2 is RAPTOR."""

Read = Callable[[str], dict[str, str]]
"""Settings (`table.key` to value) that a directive's value stands for."""


def _plain(path: str, factor: float = 1.0) -> Read:
    """A number; nothing where it is not above 0."""

    def read(value: str) -> dict[str, str]:
        number = factor * float(value) if value else 0.0
        return {path: f"{number:.10g}"} if number > 0 else {}

    return read


def _radial(value: str) -> dict[str, str]:
    cutoff, falloff = (float(word) for word in value.replace(",", " ").split())
    found = {"final.radial_cutoff": f"{min(cutoff, 0.5):g}"}
    if falloff > 0:
        found["final.radial_falloff"] = f"{falloff:g}"
    return found


def _last_of_list(value: str) -> dict[str, str]:
    words = value.replace("-", ",").split(",")
    return {"final.sirt_iterations": words[-1].strip()} if words[-1].strip() else {}


def _switch(path: str, on: str, off: str | None = None) -> Read:
    def read(value: str) -> dict[str, str]:
        chosen = on if value == "1" else off
        return {path: chosen} if chosen is not None else {}

    return read


SETTINGS: dict[str, Read] = {
    "setupset.copyarg.pixel": _plain("acquisition.pixel_size_A", NM_TO_A),
    "setupset.copyarg.gold": _plain("specimen.bead_nm"),
    "setupset.copyarg.rotation": lambda value: {"acquisition.tilt_axis_deg": value} if value else {},
    "setupset.copyarg.voltage": _plain("acquisition.voltage_kV"),
    "setupset.copyarg.Cs": _plain("acquisition.cs_mm"),
    "runtime.Fiducials.any.trackingMethod": lambda value: {"final.align": TRACKING[value]},
    "runtime.Fiducials.any.fiducialless": _switch("final.align", "coarse"),
    "runtime.AlignedStack.any.binByFactor": _plain("final.binning"),
    "comparam.tilt.tilt.RADIAL": _radial,
    "comparam.tilt.tilt.LOG": lambda value: {"final.log": "true" if value else "false"},
    "comparam.tilt.tilt.FakeSIRTiterations": _plain("final.sirt_like"),
    "comparam.tilt.tilt.MODE": lambda value: {"final.volume_type": "float32" if value == "2" else "int16"},
    "runtime.Reconstruction.any.useSirt": _switch("final.method", "sirt", "wbp"),
    "comparam.sirtsetup.sirtsetup.LeaveIterations": _last_of_list,
}
NEEDLESS = (
    "setupset.copyarg.name", "setupset.copyarg.userawtlt", "setupset.copyarg.extract", "setupset.copyarg.firstinc",
    "setupset.copyarg.focus", "setupset.copyarg.bfocus", "setupset.datasetDirectory", "setupset.scanHeader",
    "setupset.scopeTemplate", "setupset.systemTemplate", "setupset.userTemplate", "setupset.copyarg.twodir",
    "runtime.Preprocessing.any.removeXrays", "runtime.Preprocessing.any.archiveOriginal",
    "runtime.Fiducials.any.seedingMethod", "runtime.Postprocess.any.doTrimvol", "runtime.Trimvol.any.reorient",
    "comparam.tilt.tilt.AdjustOrigin",
)  # fmt: skip
"""Directives that ask for what is done, or found, anyway."""
REFUSED = {
    "setupset.copyarg.dual": "two axes are two series: finish each of them",
    "setupset.copyarg.montage": "montages are not read",
}


class Directives(NamedTuple):
    """What a file says."""

    overrides: tuple[str, ...]
    """Settings, as `table.key=value`."""
    unknown: tuple[str, ...]
    """Directives that nothing is done about."""


def read(path: Path) -> Directives:
    """The directives of a file as settings. Raises SettingsError for a file or a value that cannot be used."""
    found = _entries(path)
    overrides: dict[str, str] = {}
    unknown = []
    for key, value in found.items():
        if key in REFUSED and value == "1":
            raise SettingsError(f"{path}: {key} = 1: {REFUSED[key]}")
        if key in SETTINGS:
            try:
                overrides.update(SETTINGS[key](value))
            except (ValueError, KeyError):
                raise SettingsError(f"{path}: {key} = {value} is no value of this directive") from None
        elif key not in NEEDLESS and key not in REFUSED and key not in THICKNESS:
            unknown.append(key)
    overrides.update(_thickness(found, overrides, path))
    return Directives(tuple(f"{key}={value}" for key, value in overrides.items()), tuple(unknown))


THICKNESS = ("comparam.tilt.tilt.THICKNESS", "runtime.Reconstruction.any.binnedThickness")


def _thickness(found: Mapping[str, str], overrides: Mapping[str, str], path: Path) -> dict[str, str]:
    """Pixels to nm: the one setting that needs others."""
    unbinned, binned = (found.get(key) for key in THICKNESS)
    if not (unbinned or binned):
        return {}
    pixel = overrides.get("acquisition.pixel_size_A")
    if pixel is None:
        raise SettingsError(f"{path}: a thickness in pixels needs setupset.copyarg.pixel beside it")
    try:
        pixels = float(unbinned) if unbinned else float(binned or 0) * float(overrides.get("final.binning", 1))
    except ValueError:
        raise SettingsError(f"{path}: {unbinned or binned} is no thickness") from None
    return {"specimen.thickness_nm": f"{pixels * float(pixel) / NM_TO_A:.6g}"}


def _entries(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(f"{path}: line {number} is no directive: {text}")
        key, value = key.strip().replace(".a.", ".any."), value.strip()
        if value.startswith("<") and value.endswith(">"):
            raise SettingsError(f"{path}: {key} is still to be filled in ({value})")
        if ".b." not in key:
            found[key] = value
    return found


def write(path: Path, directives: Mapping[str, str | float | int]) -> None:
    """A directive file. Raises OutputError."""
    lines = [f"{key} = {value}\n" for key, value in directives.items()]
    write_text(path, "# Written by streamtomo: repeats this run in IMOD (batchruntomo -directive)\n" + "".join(lines))
