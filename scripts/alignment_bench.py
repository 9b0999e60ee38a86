"""Errors of live and final alignments over simulated series: each is written, run as a user would, and compared.

RMS over probe points that fill the slab, after the best rigid motion, in raw pixels. Views left out do not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from alignment_error import compare

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
}


def run_case(options: str, folder: Path) -> dict:
    """Simulate and run one series; errors and what the summary says."""
    scope, out, truth = folder / "scope", folder / "out", folder / "truth"
    command = [sys.executable, "-m", "streamtomo"]
    simulate = [*command, "simulate", scope, "--interval", "0", "--truth", truth, *options.split()]
    subprocess.run(simulate, check=True, capture_output=True)
    run = [*command, "run", scope, "--out", out, "--plain", "--exit-when-idle", "2"]
    subprocess.run(run, check=True, capture_output=True)
    true = json.loads((truth / "TS_01.json").read_text())
    summary = json.loads((out / "TS_01" / "TS_01_summary.json").read_text())
    errors = {name: compare(out / "TS_01", true, final=final) for name, final in (("live", False), ("final", True))}
    return {"summary": summary, **errors}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"some of: {'; '.join(CASES)} (all)")
    cases = parser.parse_args().cases or list(CASES)
    print(f"{'raw px':18s}{'live':>8s}{'worst':>8s}{'final':>9s}{'worst':>8s}  views  by        finish s")
    for case in cases:
        with tempfile.TemporaryDirectory() as name:
            found = run_case(CASES[case], Path(name))
        live, final, alignment = found["live"], found["final"], found["summary"]["alignment"]
        worst = live.rms_per_view.max(), final.rms_per_view.max()
        print(
            f"{case:18s}{live.rms:8.2f}{worst[0]:8.2f}{final.rms:9.3f}{worst[1]:8.3f}{len(alignment['views']):7d}"
            f"  {alignment['method']:9s}{found['summary']['seconds']:6.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
