"""The verbs of the command `streamtomo`.

Each imports what it needs when it runs: viewers start without numpy or numba.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from streamtomo import __version__, cli_average, cli_finish, cli_orders
from streamtomo.cli_options import add_align, add_device, add_keys_option, add_settings, count, positive
from streamtomo.errors import StreamtomoError

if TYPE_CHECKING:
    from streamtomo.cli_options import Verbs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    args = _parser(arguments).parse_args(arguments)
    try:
        return int(args.verb(args))
    except StreamtomoError as error:
        print(f"streamtomo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(arguments: Sequence[str] | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamtomo",
        description="Live cryo-electron tomography: watches the folder that a microscope writes to, shows the tomogram "
        "while the tilt series runs, and ends with the aligned final one.",
    )
    parser.add_argument("--version", action="version", version=f"streamtomo {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for add in (_add_demo, _add_run, _add_replay, _add_status, _add_dashboard, cli_orders.add, _add_init):
        add(verbs)
    for add in (_add_names, _add_selftest, _add_clean, cli_orders.add_keys, cli_finish.add, cli_average.add):
        add(verbs)
    words = sys.argv[1:] if arguments is None else arguments
    _add_simulate(verbs, complete="simulate" in words)
    _add_warmup(verbs)
    _add_finish_job(verbs)
    return parser


def _add_run(verbs: Verbs) -> None:
    parser = verbs.add_parser("run", help="process the tilt series in a folder, live")
    parser.add_argument(
        "watched", type=Path, nargs="+", help="folder that the microscope writes to (or several); it is only ever read"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for all results; give the same one to resume")
    _add_run_options(parser)
    parser.set_defaults(verb=_run)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    add_device(parser)
    add_align(parser)
    parser.add_argument(
        "--exit-when-idle",
        type=positive,
        metavar="SECONDS",
        help="close all series, finish them and end when nothing new came for so long",
    )
    parser.add_argument("--plain", action="store_true", help="lines of text instead of the dashboard")
    parser.add_argument("--verbose", action="store_true", help="every event in the log, and on the terminal if --plain")


def _add_demo(verbs: Verbs) -> None:
    parser = verbs.add_parser("demo", help="a simulated microscope, processed live: see what streamtomo does")
    parser.add_argument("--out", type=Path, help="folder to make (default: ./streamtomo-demo)")
    parser.add_argument("--interval", type=positive, default=1.0, metavar="SECONDS", help="time between tilts (1)")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated specimen (1)")
    parser.add_argument("--plain", action="store_true", help="lines of text instead of the dashboard")
    parser.set_defaults(verb=_demo)


def _add_replay(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "replay", help="play an old session, or a finished stack, as if it were being acquired; or only judge it again"
    )
    parser.add_argument("source", type=Path, help="a folder, or one stack with its .rawtlt, mdoc or header angles")
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--into", type=Path, help="folder to write to, as the microscope would")
    task.add_argument(
        "--judge-only",
        action="store_true",
        help="SOURCE is an output folder or its journal: say what would have been rejected, when, and what that saves",
    )
    parser.add_argument("--speed", type=positive, default=1.0, help="times faster than it was acquired (1)")
    parser.add_argument(
        "--interval", type=positive, metavar="SECONDS", help="time between tilts, instead of the recorded one"
    )
    parser.add_argument("--config", type=Path, help="settings file, for --judge-only")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, as in judge.preset=cautious",
    )
    parser.set_defaults(verb=_replay)


def _add_simulate(verbs: Verbs, *, complete: bool) -> None:
    parser = verbs.add_parser("simulate", help="the simulated microscope: writes tilt series like the real ones")
    if complete:  # its many options need numpy: only when asked for
        from streamtomo.simulate import command

        command.add_arguments(parser)
    parser.set_defaults(verb=_simulate)


def _add_status(verbs: Verbs) -> None:
    parser = verbs.add_parser("status", help="what a running process is doing")
    parser.add_argument("endpoint", nargs="?", help="tcp://HOST:PORT, a port, or an output folder")
    add_keys_option(parser)
    parser.add_argument("--config", type=Path, help="settings file whose publish.curve_keys are the keys")
    parser.add_argument("--json", action="store_true", help="the whole state as JSON")
    parser.set_defaults(verb=_status)


def _add_dashboard(verbs: Verbs) -> None:
    parser = verbs.add_parser("dashboard", help="attach to running processes from another terminal")
    parser.add_argument("endpoints", nargs="*", help="tcp://HOST:PORT, ports, or output folders")
    parser.add_argument("--once", action="store_true", help="print one screen and end")
    parser.add_argument("--plain", action="store_true", help="a line of text for each event, also on a terminal")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="show a recorded session: OUT/journal.jsonl")
    parser.add_argument("--speed", type=positive, default=10.0, help="times faster than it happened (10)")
    add_keys_option(parser)
    parser.add_argument("--config", type=Path, help="settings file whose publish.curve_keys are the keys")
    parser.set_defaults(verb=_dashboard)


def _add_init(verbs: Verbs) -> None:
    parser = verbs.add_parser("init", help="write a commented settings file")
    parser.add_argument("file", type=Path, nargs="?", default=Path("streamtomo.toml"), help="(streamtomo.toml)")
    parser.set_defaults(verb=_init)


def _add_names(verbs: Verbs) -> None:
    parser = verbs.add_parser("names", help="how the names of a folder's files are understood")
    parser.add_argument("folder", type=Path, help="folder that the microscope writes to; no file is opened")
    parser.add_argument("--first", type=count, default=20, metavar="N", help="files of each kind (20)")
    parser.add_argument(
        "--pattern", action="append", default=[], metavar="REGEX", help="try this before the settings' patterns"
    )
    add_settings(parser)
    parser.set_defaults(verb=_names)


def _add_selftest(verbs: Verbs) -> None:
    parser = verbs.add_parser("selftest", help="what a run would find: mounts, events, rights, space, clocks, names")
    parser.add_argument("watched", type=Path, help="folder that the microscope writes to; it is only ever read")
    parser.add_argument("--out", type=Path, help="folder for the results; rights and space are tried there")
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_settings(parser)
    parser.set_defaults(verb=_selftest)


def _add_clean(verbs: Verbs) -> None:
    parser = verbs.add_parser("clean", help="what an output folder keeps, and what of it can be deleted")
    parser.add_argument("out", type=Path, help="output folder of a run")
    parser.add_argument("--yes", action="store_true", help="delete it; without this nothing is deleted")
    parser.add_argument(
        "--all-intermediate", action="store_true", help="also what a new finishing would need to make again"
    )
    parser.set_defaults(verb=_clean)


def _add_warmup(verbs: Verbs) -> None:
    parser = verbs.add_parser("warmup", help="compile all kernels, so that the first tilt does not wait")
    parser.set_defaults(verb=_warmup)


def _add_finish_job(verbs: Verbs) -> None:
    parser = verbs.add_parser("finish-job", help="(internal) the finishing process of a run")
    parser.add_argument("job", nargs="?", help="job file (default: one that standard input tells, once all is loaded)")
    parser.set_defaults(verb=_finish_job)
    parser = verbs.add_parser("cluster-job", help="(internal) the same where a cluster does the work")
    parser.add_argument("job", help="job file")
    parser.set_defaults(verb=_cluster_job)


# -- what the verbs do -----------------------------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    from streamtomo import config_file
    from streamtomo.console import run_here

    settings = config_file.load(args.config, args.set)
    return run_here(
        args.watched,
        args.out,
        settings,
        exit_when_idle_s=args.exit_when_idle,
        plain=args.plain,
        verbose=args.verbose,
    )


def _demo(args: argparse.Namespace) -> int:
    from streamtomo.demo import demo

    return demo(args.out, interval_s=args.interval, seed=args.seed, plain=args.plain)


def _replay(args: argparse.Namespace) -> int:
    if args.judge_only:
        from streamtomo import config_file
        from streamtomo.rejudge import judge_again

        return judge_again(args.source, config_file.load(args.config, args.set).judge)
    from streamtomo.replay import replay

    return replay(args.source, args.into, speed=args.speed, interval_s=args.interval)


def _simulate(args: argparse.Namespace) -> int:
    from streamtomo.simulate import command

    return command.main(args)


def _status(args: argparse.Namespace) -> int:
    from streamtomo.publish import viewer

    return viewer.status(args.endpoint, json=args.json, keys=_keys_of(args))


def _keys_of(args: argparse.Namespace) -> Path | None:
    """The folder of keys: given, or named by a settings file."""
    if args.keys is None and args.config is not None:
        from streamtomo import config_file

        keys = config_file.load(args.config).publish.curve_keys
        return Path(keys) if keys else None
    return Path(args.keys) if args.keys else None


def _dashboard(args: argparse.Namespace) -> int:
    from streamtomo.publish import viewer

    if args.journal is not None:
        return viewer.replay(args.journal, args.speed, once=args.once, plain=args.plain)
    return viewer.dashboard(args.endpoints, _keys_of(args), once=args.once, plain=args.plain)


def _init(args: argparse.Namespace) -> int:
    from streamtomo import config_file
    from streamtomo.errors import OutputError

    try:
        with args.file.open("x", encoding="utf-8") as file:
            file.write(config_file.render())
    except FileExistsError:
        raise OutputError(f"{args.file}: exists already; name another file") from None
    except OSError as error:
        raise OutputError(f"{args.file}: cannot be written ({error.strerror})") from None
    print(f"wrote {args.file}; use it with: streamtomo run WATCHED --out OUT --config {args.file}")
    return 0


def _names(args: argparse.Namespace) -> int:
    from streamtomo import config_file, names

    patterns = config_file.load(args.config, args.set).acquisition.name_patterns
    return names.show(args.folder, (*args.pattern, *patterns), args.first)


def _selftest(args: argparse.Namespace) -> int:
    from streamtomo import config_file, selftest

    settings = config_file.load(args.config, args.set)
    return selftest.show(args.watched, args.out, settings, json=args.json)


def _clean(args: argparse.Namespace) -> int:
    from streamtomo import housekeeping

    return housekeeping.clean(args.out, delete=args.yes, all_intermediate=args.all_intermediate)


def _warmup(_args: argparse.Namespace) -> int:
    from streamtomo.warmup import warm_all

    warm_all(print)
    return 0


def _finish_job(args: argparse.Namespace) -> int:
    from streamtomo.finish.worker import main as work

    return work(args.job)


def _cluster_job(args: argparse.Namespace) -> int:
    from streamtomo.cluster_job import main as work

    return work(args.job)
