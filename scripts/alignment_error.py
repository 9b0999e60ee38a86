"""Prints how far a finished series' live and final alignments are from a simulator's truth, in raw pixels.

Probe points fill the slab; what is left of their distances after the best rigid motion is the error (`_truth`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from _truth import Errors, TrueView, errors, probe_grid, read_found

from streamtomo.simulate.creep import Wave, crept


def compare(folder: Path, truth: dict, *, final: bool) -> Errors:
    """The live (`.prexg`) or the final (`.xf`, `.tlt`) alignment in `folder` against the truth's views."""
    ny, nx = truth["shape_yx"]
    thickness_px = truth["specimen"]["thickness_nm"] * 10 / truth["pixel_size_A"]
    order, found = read_found(folder, truth["axis_deg"], final=final)
    return errors(true_views(truth, order), found, probe_grid(nx, ny, thickness_px))


def true_views(truth: dict, order: list[int]) -> list[TrueView]:
    """Some views of a truth file, by their order of acquisition."""
    views = [truth["views"][index] for index in order]
    lean, waves = truth.get("beam_tilt_deg", 0.0), tuple(Wave(**wave) for wave in truth.get("waves", ()))
    if not waves:
        return [replace(true_view(view), beam_deg=lean) for view in views]
    creeps = [partial(crept, waves=waves, share=view["settled"]) for view in views]
    return [replace(true_view(view), beam_deg=lean, moved=creep) for view, creep in zip(views, creeps, strict=True)]


def true_view(view: dict) -> TrueView:
    """One view of a truth file."""
    return TrueView(view["tilt_deg"], view["axis_deg"], *view["shift_xy"], mag=view["mag"])


def report(name: str, found: Errors) -> str:
    """One line: RMS, its parts across and along the tilt axis, the worst view, the largest distance."""
    across, along = found.rms_across_along
    worst = found.rms_per_view.max()
    return f"{name:6s}{found.rms:9.3f}{across:9.3f}{along:9.3f}{worst:12.3f}{found.max:9.3f}"


def main() -> None:
    """Print two lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="folder of the series in the output folder of a run")
    parser.add_argument("truth", type=Path, help="the series' truth, a JSON file of `streamtomo simulate`")
    args = parser.parse_args()
    truth = json.loads(args.truth.read_text())
    print("raw px     RMS   across    along  worst view      max")
    for name, final in (("live", False), ("final", True)):
        print(report(name, compare(args.results, truth, final=final)))


if __name__ == "__main__":
    main()
