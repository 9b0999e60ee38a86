"""What the verbs have in common: options, and what is allowed for them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    Verbs: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Settings file and single settings."""
    parser.add_argument("--config", type=Path, help="settings file (see `streamtomo init`)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting, as in specimen.bead_nm=10"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where reconstructions are computed."""
    _add_short(parser, "--device", "run.device", ("auto", "cpu", "gpu"), "where reconstructions are computed")


def add_align(parser: argparse.ArgumentParser) -> None:
    """What the final alignment follows."""
    ways = ("auto", "beads", "patches", "mixed", "coarse")
    _add_short(parser, "--align", "final.align", ways, "what the final alignment follows")


def _add_short(parser: argparse.ArgumentParser, option: str, setting: str, values: tuple[str, ...], what: str) -> None:
    """An option that is a short form of a setting."""

    def override(text: str) -> str:
        if text not in values:
            raise argparse.ArgumentTypeError(f"{text} is none of {', '.join(values)}")
        return f"{setting}={text}"

    parser.add_argument(
        option,
        dest="set",
        action="append",
        type=override,
        metavar="|".join(values),
        help=f"{what}: the setting {setting}",
    )


def add_keys_option(parser: argparse.ArgumentParser) -> None:
    """The folder of keys for a run elsewhere."""
    parser.add_argument(
        "--keys", type=Path, metavar="DIR", help="folder with server.key and client.key_secret (see `streamtomo keys`)"
    )


def positive(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def count(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
