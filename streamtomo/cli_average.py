"""The verb `average`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from streamtomo.cli_options import add_settings, count, positive

if TYPE_CHECKING:
    from streamtomo.cli_options import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb to a command line."""
    parser = verbs.add_parser("average", help="average the particles of finished series: subvolume averages, classes")
    parser.add_argument(
        "series",
        type=Path,
        nargs="+",
        help="folders of finished series (OUT/NAME), or OUT: all that are finished in it",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the average; made if need be")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--particles",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="IMOD models (.mod) or tables of x, y, z in voxels (.csv), one for each series in the same order; or one "
        "star file of RELION (.star), or one .csv with a column series",
    )
    where.add_argument(
        "--match",
        metavar="TEMPLATE",
        help="find the particles: by a volume (.mrc), such as a former average, or by a dark ball (sphere)",
    )
    parser.add_argument("--most", type=count, metavar="N", help="with --match: at most so many in each series")
    parser.add_argument(
        "--reference", type=Path, metavar="MRC", help="begin with this volume; only its coarse features are used"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="with --match: average anew whenever another series is finished, until Ctrl-C",
    )
    parser.add_argument("--diameter-nm", type=positive, metavar="NM", help="average.diameter_nm")
    parser.add_argument("--symmetry", help="average.symmetry: C1, C4, D7, ...")
    add_settings(parser)
    parser.set_defaults(verb=_average)


def _average(args: argparse.Namespace) -> int:
    from streamtomo import averaging, averaging_session, config_file
    from streamtomo.errors import SettingsError
    from streamtomo.outfolder import leave_away

    given = {"diameter_nm": args.diameter_nm, "symmetry": args.symmetry}
    also = [f"average.{name}={value}" for name, value in given.items() if value is not None]
    settings = config_file.load(args.config, [*also, *args.set])
    order = averaging.Order(
        series=tuple(args.series),
        out=args.out,
        particles=tuple(args.particles or ()),
        template=args.match,
        most=args.most,
        reference=args.reference,
    )
    leave_away(settings.run.umask)
    if args.follow:
        if args.match is None:
            raise SettingsError("--follow needs --match: nobody has picked the particles of a series to come")
        averaging_session.follow(order, settings)
    return averaging.average(order, settings)
