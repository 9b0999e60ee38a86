"""Errors of live and final alignments over simulated series: each is written, run as a user would, and compared.

RMS over probe points that fill the slab, after the best rigid motion, in raw pixels. Views left out do not count.
Beside the final error stand what the program expected it to be, and the least that the electrons allow (`_bound`).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _bound import bound
from _truth import read_found
from alignment_error import compare, true_views

CASES = {
    "ordinary": "--seed 1",
    "bidirectional": "--scheme bidirectional --tilts 61 --step 2 --beads 30 --seed 12",
    "unidirectional": "--scheme unidirectional --tilts 67 --step 2 --beads 20 --seed 13",
    "jumps, 6 beads": "--beads 6 --bead-surface top --jump 9:160 --jump 25:160 --dark 15 --dose 2 --seed 14",
    "dead column": "--dead-columns 1 --hot 80 --seed 15",
    "no gold": "--beads 0 --pretilt 9 --seed 11",
    "thin, low dose": "--thickness 80 --dose 1 --seed 16",
    "thick": "--thickness 300 --seed 17",
    "5 nm gold": "--bead-size 5 --seed 18",
    "TIFF, axis -12": "--pattern serialem-frames --axis -12 --scheme bidirectional --size 700x900 --seed 21",
    "Tomo5, axis 175": "--pattern tomo5 --axis 175 --seed 22",
    "small field": "--size 512x512 --seed 23",
    "2 beads": "--size 700x700 --beads 2 --seed 24",
    "beam tilt": "--size 700x700 --beam-tilt 0.5 --seed 25",
    "ice that moves": "--size 700x700 --beads 30 --local-motion 2 --dome 6 --seed 26",
}


GRID = {
    "--scheme": ("dose-symmetric", "bidirectional", "unidirectional"),
    "--beads": (0, 4, 6, 10, 30),
    "--bead-surface": ("both", "both", "top"),
    "--bead-size": (5, 10, 10, 15),
    "--dose": (0.5, 1, 2, 3, 5),
    "--thickness": (80, 120, 150, 200, 300, 400),
    "--pitch": (0, 4),
    "--pretilt": (0, 0, -8, 15),
    "--drift": (3, 6, 15),
    "--axis": (-95, -60, -12, 0, 40, 85, 175),
    "--size": ("512x512", "512x512", "700x500", "1024x1024"),
}
"""Conditions that a random series is drawn from."""
FAULTS = (
    "",
    "",
    "",
    "--jump 9:100",
    "--dark 12",
    "--dead-columns 1 --hot 60",
    "--tilt-error 0.2",
    "--mag-change 0.004",
    "--beam-tilt 0.3",
    "--local-motion 1 --dome 4",
)
WRONG_AXIS_DEG = (0, 0, 0, 8, -8)
"""Error of the nominal axis, for the series as a whole."""
SOUND_PX = 2.0
"""A final alignment worse than this has failed."""
LIVE_PX = 5.0
"""A live one worse than this is no start for a final one, nor is its volume worth looking at."""


def drawn(seed: int) -> tuple[str, str]:
    """A random series: options for the simulator, and for the run."""
    rng = random.Random(seed)
    options = {key: rng.choice(values) for key, values in GRID.items()}
    tilts = rng.choice(((41, 3), (61, 2), (33, 4)))
    options |= {"--tilts": tilts[0], "--step": tilts[1], "--seed": seed}
    words = [f"{key}={value}" for key, value in options.items()]
    axis = options["--axis"] + rng.choice(WRONG_AXIS_DEG)
    run = "" if axis == options["--axis"] else f"--set acquisition.tilt_axis_deg={axis}"
    return " ".join([*words, rng.choice(FAULTS)]), run


def run_case(options: str, folder: Path, run_options: str = "") -> dict:
    """Simulate and run one series; errors and what the summary says."""
    scope, out, truth = folder / "scope", folder / "out", folder / "truth"
    command = [sys.executable, "-m", "streamtomo"]
    simulate = [*command, "simulate", scope, "--interval", "0", "--truth", truth, *options.split()]
    subprocess.run(simulate, check=True, capture_output=True)
    run = [*command, "run", scope, "--out", out, "--plain", "--exit-when-idle", "2", *run_options.split()]
    subprocess.run(run, check=True, capture_output=True)
    true = json.loads((truth / "TS_01.json").read_text())
    summary = json.loads((out / "TS_01" / "TS_01_summary.json").read_text())
    errors = {name: compare(out / "TS_01", true, final=final) for name, final in (("live", False), ("final", True))}
    order, _ = read_found(out / "TS_01", true["axis_deg"], final=True)
    least = bound(true, order, true_views(true, order)) if summary["alignment"]["method"] == "beads" else None
    return {"summary": summary, "bound": least, **errors}


def row(name: str, found: dict) -> str:
    """Errors of one series, the expected one beside the true one."""
    live, final, alignment = found["live"], found["final"], found["summary"]["alignment"]
    worst, expected = (live.rms_per_view.max(), final.rms_per_view.max()), alignment.get("error_px")
    told = f"{expected:9.3f}{final.rms / expected:7.2f}" if expected else f"{'-':>9s}{'-':>7s}"
    least = found["bound"]
    told += f"{least:8.3f}{final.rms / least:7.1f}" if least else f"{'-':>8s}{'-':>7s}"
    return (
        f"{name:18s}{live.rms:8.2f}{worst[0]:8.2f}{final.rms:9.3f}{worst[1]:8.3f}{told}{len(alignment['views']):7d}"
        f"  {alignment['method']:9s}{sum(found['summary']['seconds'].values()):6.0f}"
    )


def table(cases: dict[str, tuple[str, str]]) -> list[dict]:
    """Run the cases and print a row for each; what was found."""
    widths = {
        "live": 8,
        "worst ": 8,
        "final": 9,
        "worst": 8,
        "expected": 9,
        "ratio": 7,
        "bound": 8,
        "times": 7,
        "views": 7,
    }
    print("raw px            " + "".join(f"{word.strip():>{n}s}" for word, n in widths.items()))
    everything = []
    for name, (options, run_options) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                everything.append(run_case(options, Path(folder), run_options))
                print(row(name, everything[-1]), options if name.startswith("seed") else "", run_options, flush=True)
            except (subprocess.CalledProcessError, OSError, KeyError) as error:
                everything.append({})
                print(f"{name:18s} FAILED: {error} {options} {run_options}", flush=True)
    return everything


def summary(names: list[str], everything: list[dict]) -> None:
    """Quantiles by method, how often the expected error is right, and every failure by name."""
    for method in ("beads", "mixed", "patches", "coarse"):
        chosen = [one for one in everything if one and one["summary"]["alignment"]["method"] == method]
        if not chosen:
            continue
        live, final = (np.sort([one[which].rms for one in chosen]) for which in ("live", "final"))
        told = [one["final"].rms / e for one in chosen if (e := one["summary"]["alignment"].get("error_px"))]
        right = sum(0.7 <= ratio <= 1.4 for ratio in told)
        quantiles = [f"median {np.median(one):.3f}, 90 % {np.quantile(one, 0.9):.3f}" for one in (live, final)]
        print(f"{method:8s} {len(chosen):3d} series: live {quantiles[0]}; final {quantiles[1]}", end="")
        print(f", {sum(final > SOUND_PX)} failed; expected error right in {right} of {len(told)}", end="")
        above = [one["final"].rms / one["bound"] for one in chosen if one["bound"]]
        print(f"; {np.median(above):.1f} times the bound (median)" if above else "")
    for which, most in (("live", LIVE_PX), ("final", SOUND_PX)):
        bad = [
            f"{name} ({one[which].rms:.1f})"
            for name, one in zip(names, everything, strict=True)
            if one and one[which].rms > most
        ]
        print(f"{which} errors above {most:g} px: {', '.join(bad) or 'none'}")
    print(f"not finished: {', '.join(name for name, one in zip(names, everything, strict=True) if not one) or 'none'}")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"some of: {'; '.join(CASES)} (all)")
    parser.add_argument("--grid", type=int, metavar="N", help="N series drawn from a wide range of conditions instead")
    parser.add_argument("--seed", type=int, default=1000, help="of the first one (1000)")
    args = parser.parse_args()
    if args.grid:
        cases = {f"seed {seed}": drawn(seed) for seed in range(args.seed, args.seed + args.grid)}
        summary(list(cases), table(cases))
    else:
        table({name: (CASES[name], "") for name in args.cases or CASES})


if __name__ == "__main__":
    main()
