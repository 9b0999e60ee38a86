"""STAR files: tables of text, as RELION and Warp write them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Value = str | float | int
Table = dict[str, list[str]]


def render(tables: Mapping[str, Mapping[str, Sequence[Value]]]) -> str:
    """Blocks `data_NAME`, each a loop: columns by their label without the underscore."""
    return "".join(_block(name, columns) for name, columns in tables.items())


def _block(name: str, columns: Mapping[str, Sequence[Value]]) -> str:
    head = [f"_{label} #{number}" for number, label in enumerate(columns, start=1)]
    rows = [" ".join(_text(value) for value in row) for row in zip(*columns.values(), strict=True)]
    return "\n".join(["", f"data_{name}", "", "loop_", *head, *rows, "", ""])


def _text(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    if isinstance(value, int):
        return str(value)
    return f'"{value}"' if not value or any(letter.isspace() for letter in value) else value


def read(path: Path) -> dict[str, Table]:
    """The loops of a STAR file, by block and label."""
    tables: dict[str, Table] = {}
    table: Table = {}
    for line in path.read_text().splitlines():
        words = _words(line)
        if not words:
            continue
        if words[0].startswith("data_"):
            table = tables.setdefault(words[0][5:], {})
        elif words[0].startswith("_"):
            table[words[0][1:]] = []
        elif words[0] != "loop_":
            for label, word in zip(table, words, strict=True):
                table[label].append(word)
    return tables


def _words(line: str) -> list[str]:
    return shlex.split(line, comments=line.lstrip().startswith("#"), posix=True) if line.strip() else []


def numbers(column: Iterable[str]) -> list[float]:
    """A column of numbers."""
    return [float(word) for word in column]
