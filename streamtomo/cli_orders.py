"""The verbs that ask something of a run: `close`, `exclude`, `pause`, `stop` and so on; and its keys."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from streamtomo.cli_options import add_align, add_keys_option, add_settings
from streamtomo.errors import SettingsError

if TYPE_CHECKING:
    from streamtomo.cli_options import Verbs
    from streamtomo.messages import Command


def add(verbs: Verbs) -> None:
    """Add the orders to a command line."""
    for name, words in (
        ("close", "say that a series is complete; it is finished at once"),
        ("reopen", "let a series wait for more tilts than were planned"),
        ("reject", "give a series up: nothing more is made of it, nothing is deleted"),
        ("retry", "try again what failed in a series: tilts, refused files, the finishing"),
        ("again", "let a run finish a series, again where it was, with other settings"),
        ("snapshot", "write the live volume of a series to a file, OUT/NAME/NAME_live.mrc, as it is now"),
        ("exclude", "leave tilts out of a series; nothing is deleted, a finished one is finished again"),
        ("restore", "count tilts again that were left out or judged bad"),
    ):
        parser = verbs.add_parser(name, help=words)
        if name == "retry":
            parser.add_argument("series", nargs="?", help="name of the series")
            parser.add_argument("--file", type=Path, help="instead of a series: a refused file, to be looked at again")
        else:
            parser.add_argument("series", help="name of the series")
        if name in ("exclude", "restore"):
            parser.add_argument(
                "tilts", type=int, nargs="+", help="numbers of the tilts, from 0, as the dashboard has them"
            )
        if name in ("exclude", "reject"):
            parser.add_argument("--reason", default="", help="why, in words")
        if name == "again":
            add_settings(parser)
            add_align(parser)
        _add_run_asked(parser, name)
    parser = verbs.add_parser("watch", help="let a run watch a further folder, or change the settings of one")
    parser.add_argument("folder", type=Path, help="folder that the microscope writes to")
    add_settings(parser)
    _add_run_asked(parser, "watch")
    for name, words in (
        ("pause", "let a run finish nothing for now; the series at work stands still, live processing goes on"),
        ("resume", "let a run finish series again"),
        ("stop", "end a run; it resumes with the same --out"),
    ):
        _add_run_asked(verbs.add_parser(name, help=words), name)


def _add_run_asked(parser: argparse.ArgumentParser, order: str) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--out", type=Path, help="output folder of the run, on this machine")
    which.add_argument("--at", metavar="ENDPOINT", help="tcp://HOST:PORT of a run on another machine; needs --keys")
    add_keys_option(parser)
    parser.set_defaults(verb=_order, order=order)


def add_keys(verbs: Verbs) -> None:
    """Add the verb that makes keys."""
    parser = verbs.add_parser("keys", help="make the keys with which a run is reached from other machines")
    parser.add_argument("folder", type=Path, help="the run's folder of keys, for the setting publish.curve_keys")
    parser.add_argument("--add", metavar="NAME", help="let one more person or program in")
    parser.add_argument("--read-only", action="store_true", help="who may listen, but give no orders")
    parser.set_defaults(verb=_keys)


# -- what the verbs do -----------------------------------------------------------------------------------------------


def _order(args: argparse.Namespace) -> int:
    from streamtomo.publish import ordering

    return ordering.give(_command(args), args.out, args.at, args.keys)


def _command(args: argparse.Namespace) -> Command:
    """The command that a verb stands for."""
    from streamtomo import config_file, messages

    match args.order:
        case "close":
            return messages.CloseSeries(series=args.series)
        case "reopen":
            return messages.ReopenSeries(series=args.series)
        case "reject":
            return messages.RejectSeries(series=args.series, reason=args.reason)
        case "retry":
            return _retry(args)
        case "again":
            return messages.FinishSeries(series=args.series, overrides=config_file.as_overrides(args.config, args.set))
        case "exclude":
            return messages.ExcludeTilts(series=args.series, tilts=tuple(args.tilts), reason=args.reason)
        case "restore":
            return messages.RestoreTilts(series=args.series, tilts=tuple(args.tilts))
        case "snapshot":
            return messages.SaveVolume(series=args.series)
        case "watch":
            overrides = config_file.as_overrides(args.config, args.set)
            return messages.WatchFolder(path=str(args.folder.absolute()), overrides=overrides)
        case "pause":
            return messages.PauseFinishing()
        case "resume":
            return messages.ResumeFinishing()
        case _:
            return messages.StopRun()


def _retry(args: argparse.Namespace) -> Command:
    from streamtomo.messages import RetryFile, RetrySeries

    if (args.series is None) == (args.file is None):
        raise SettingsError("retry: give a series or --file FILE")
    return RetrySeries(series=args.series) if args.file is None else RetryFile(path=str(args.file.absolute()))


def _keys(args: argparse.Namespace) -> int:
    from streamtomo.publish import ordering

    if args.read_only and args.add is None:
        raise SettingsError("--read-only is for somebody who is let in: give --add NAME")
    return ordering.make_keys(args.folder, args.add, read_only=args.read_only)
