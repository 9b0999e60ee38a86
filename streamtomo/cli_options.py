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
    """A short form of a setting."""
    parser.add_argument(
        "--device",
        dest="set",
        action="append",
        type=_device,
        metavar="cpu|gpu",
        help="where reconstructions are computed: the setting run.device",
    )


def _device(text: str) -> str:
    if text not in ("auto", "cpu", "gpu"):
        raise argparse.ArgumentTypeError(f"{text} is neither cpu nor gpu")
    return f"run.device={text}"


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
