"""The verbs about finished series: `finish`, `combine`, `preview`, `report`, `check`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from streamtomo.cli_options import add_align, add_device, add_settings

if TYPE_CHECKING:
    from streamtomo.cli_options import Verbs


def add(verbs: Verbs) -> None:
    """Add the verbs to a command line."""
    _add_finish(verbs)
    _add_combine(verbs)
    _add_preview(verbs)
    _add_report(verbs)
    _add_check(verbs)


def _add_finish(verbs: Verbs) -> None:
    parser = verbs.add_parser("finish", help="finish a series again with other settings, or data collected elsewhere")
    parser.add_argument("series", nargs="?", help="name of a series of the run; or give --stack")
    parser.add_argument("--out", type=Path, required=True, help="output folder of the run")
    parser.add_argument("--stack", type=Path, help="a stack, an mdoc or a folder with one series; only ever read")
    parser.add_argument("--tilts", type=Path, help="text file with the tilt angle of each section of --stack")
    parser.add_argument(
        "--fiducials", type=Path, metavar="FID", help="solve by this bead model, NAME.fid corrected in 3dmod"
    )
    parser.add_argument("--from", dest="first", metavar="STEP", help="do this step and what follows from it again")
    parser.add_argument("--to", dest="last", metavar="STEP", help="end after this step")
    parser.add_argument("--directives", type=Path, metavar="ADOC", help="settings from a batchruntomo directive file")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and why; do nothing")
    parser.add_argument("--config", type=Path, help="settings file (see `streamtomo init`)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting, as in final.method=sirt"
    )
    add_device(parser)
    add_align(parser)
    parser.set_defaults(verb=_finish)


def _add_combine(verbs: Verbs) -> None:
    parser = verbs.add_parser("combine", help="combine two finished series of one area about two tilt axes")
    parser.add_argument(
        "series",
        nargs="*",
        metavar="SERIES",
        help="the two series, the first being the frame; one: its partner is found by name (TS_01a, TS_01b); none: "
        "all such pairs",
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder of the run")
    parser.add_argument("--turn", type=float, metavar="DEG", help="dual.turn_deg: of the second into the first")
    add_settings(parser)
    parser.set_defaults(verb=_combine)


def _add_preview(verbs: Verbs) -> None:
    parser = verbs.add_parser("preview", help="one section of a tomogram, diffused by several K and iterations")
    parser.add_argument("series", help="a finished series; NAME_nad_preview.png is written beside its tomogram")
    parser.add_argument("--out", type=Path, required=True, help="output folder of the run")
    parser.add_argument("--k", type=_numbers, default=(), metavar="K,...", help="denoise.k (half to twice the default)")
    parser.add_argument(
        "--iterations", type=_counts, default=(9, 18, 36), metavar="N,...", help="denoise.iterations (9,18,36)"
    )
    parser.add_argument("--section", type=int, metavar="Z", help="counted from 0 (the middle one)")
    parser.set_defaults(verb=_preview)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(one) for one in text.split(","))


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(","))


def _add_report(verbs: Verbs) -> None:
    parser = verbs.add_parser("report", help="write a page with a row a series: OUT/report.html")
    parser.add_argument("out", type=Path, help="output folder of a run")
    parser.set_defaults(verb=_report)


def _add_check(verbs: Verbs) -> None:
    parser = verbs.add_parser("check", help="look at finished series as other programs would; exit status 1 for faults")
    parser.add_argument("folder", type=Path, help="folder of a series, or output folder of a run")
    parser.set_defaults(verb=_check)


# -- what the verbs do -----------------------------------------------------------------------------------------------


def _finish(args: argparse.Namespace) -> int:
    from streamtomo.errors import SettingsError
    from streamtomo.finish import command
    from streamtomo.finish.recipe import Order

    if (args.series is None) == (args.stack is None):
        raise SettingsError("finish: give the name of a series, or --stack for data collected elsewhere")
    overrides = (*command.read_directives(args.directives), *args.set) if args.directives else tuple(args.set)
    if args.stack:
        job = command.job_of_stack(args.stack, args.tilts, args.out, overrides, args.config)
    else:
        job = command.job_of_run(args.out, args.series, overrides, args.config)
    if args.fiducials:
        job = command.with_fiducials(job, args.fiducials, dry_run=args.dry_run)
    return command.finish(job, Order(args.first, args.last), dry_run=args.dry_run)


def _combine(args: argparse.Namespace) -> int:
    from streamtomo.errors import SettingsError
    from streamtomo.finish import command

    if len(args.series) > 2:
        raise SettingsError("combine: give two series, one, or none")
    turn = () if args.turn is None else (f"dual.turn_deg={args.turn}",)
    return command.combine(args.out, args.series, (*args.set, *turn), args.config)


def _preview(args: argparse.Namespace) -> int:
    from streamtomo.finish import preview

    return preview.show(args.out / args.series, args.series, args.k, args.iterations, args.section)


def _report(args: argparse.Namespace) -> int:
    from streamtomo.finish.pages import write_session

    print(write_session(args.out))
    return 0


def _check(args: argparse.Namespace) -> int:
    from streamtomo.finish import command

    return command.check(args.folder)
