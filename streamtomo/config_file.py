"""Settings files: reading, overriding, and writing the commented default.

A settings file is TOML with the tables of `config.Settings`; `--set table.key=value` overrides one value. Unknown
keys and values out of range are refused with the key's path and what is allowed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from streamtomo.config import Settings
from streamtomo.errors import SettingsError
from streamtomo.plan import planned_angles
from streamtomo.watch.naming import Names

_RENEW = "Is it from another version? `streamtomo init` writes all settings of this one"


class Field(NamedTuple):
    """One setting, as a person needs to know it."""

    table: str
    name: str
    kind: str
    """Type in words."""
    unit: str
    allowed: str
    """Range or choices in words; empty if anything of the type will do."""
    default: Any
    absent: str
    """What happens when an optional setting is not given; empty if it is not optional."""
    example: Any
    description: str

    @property
    def path(self) -> str:
        """`table.name`."""
        return f"{self.table}.{self.name}"


def fields() -> Iterator[Field]:
    """All settings, in the order of the file."""
    for table in msgspec.structs.fields(Settings):
        hints = get_type_hints(table.type, include_extras=True)
        for item in msgspec.structs.fields(table.type):
            yield _describe(table.name, item.name, hints[item.name], item.default)


def _describe(table: str, name: str, hint: Any, default: Any) -> Field:
    optional = get_origin(hint) in (Union, UnionType)
    if optional:
        hint = next(part for part in get_args(hint) if part is not NoneType)
    assert get_origin(hint) is Annotated, f"{table}.{name} has no description"
    kind, description, *facts = get_args(hint)
    meta = facts[0] if facts else Meta()
    extra = meta.extra or {}
    return Field(
        table=table,
        name=name,
        kind=_kind_in_words(kind),
        unit=extra.get("unit", ""),
        allowed=_range_in_words(kind, meta),
        default=default,
        absent=extra["absent"] if optional else "",
        example=extra.get("example", default),
        description=description,
    )


def _kind_in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of"
    if get_origin(kind) is tuple:
        return "list of texts"
    return {float: "number", int: "whole number", bool: "true or false", str: "text"}[kind]


def _range_in_words(kind: Any, meta: Meta) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f'"{choice}"' for choice in get_args(kind))
    low = f"from {meta.ge}" if meta.ge is not None else f"above {meta.gt}" if meta.gt is not None else ""
    high = f"to {meta.le}" if meta.le is not None else f"below {meta.lt}" if meta.lt is not None else ""
    return " ".join(part for part in (low, high) if part)


def load(path: Path | None = None, overrides: Iterable[str] = ()) -> Settings:
    """Settings from a TOML file (None: all defaults) and `table.key=value` overrides.

    Raises SettingsError with the key's path and the allowed range for anything unknown or out of range.
    """
    source = str(path) if path else "--set"
    tables = _read(path) if path else {}
    for override in overrides:
        _override(tables, override)
    return parse(tables, source)


def changed(settings: Settings, overrides: Iterable[str]) -> Settings:
    """These settings with `table.key=value` overrides; raises SettingsError as `load` does."""
    tables = msgspec.to_builtins(settings)
    for override in overrides:
        _override(tables, override)
    return parse(tables, "--set")


def as_overrides(path: Path | None, overrides: Iterable[str] = ()) -> tuple[str, ...]:
    """What a settings file sets, as `table.key=value`, with further overrides behind; raises SettingsError."""
    overrides = tuple(overrides)
    load(path, overrides)
    tables = _read(path) if path else {}
    set_there = [f"{table}.{key}={_toml(value)}" for table, keys in tables.items() for key, value in keys.items()]
    return (*set_there, *overrides)


def parse(tables: dict[str, Any], source: str) -> Settings:
    """Settings from nested tables, as TOML gives them; `source` is named in errors."""
    try:
        settings = msgspec.convert(tables, Settings)
        Names(settings.acquisition.name_patterns)
        planned_angles(settings.acquisition.planned_angles)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{source}: {_explain(str(error), tables)}") from None
    except SettingsError as error:
        raise SettingsError(f"{source}: {error}") from None
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: is not valid TOML ({error})") from None


def _override(tables: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    table, dot, name = key.strip().partition(".")
    if not (equals and dot and name):
        raise SettingsError(f"--set {override}: write it as table.key=value, for example specimen.thickness_nm=200")
    inner = tables.setdefault(table, {})
    if not isinstance(inner, dict):
        raise SettingsError(f"--set {override}: {table} is no table of settings")
    inner[name] = _value(text.strip())


def _value(text: str) -> Any:
    """A TOML value; anything that is none is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(error: str, tables: dict[str, Any]) -> str:
    found = re.search(r"`\$(?:\.([\w.]+))?(?:\[.*\])?`$", error)
    path = found.group(1) or "" if found else ""
    unknown = re.search(r"unknown field `(.*?)`", error)
    if unknown:
        return _explain_unknown(path, unknown.group(1))
    for setting in fields():
        if setting.path == path:
            value = tables.get(setting.table, {}).get(setting.name)
            allowed = f"{setting.kind} {setting.allowed}".strip()
            unit = f" ({setting.unit})" if setting.unit else ""
            return f"{path} = {value!r} is not allowed: {allowed}{unit}. {setting.description}"
    return error.replace("$.", "")


def _explain_unknown(table: str, name: str) -> str:
    if not table:
        known = ", ".join(item.name for item in msgspec.structs.fields(Settings))
        return f"{name} is no table of settings; known tables: {known}. {_RENEW}"
    known = ", ".join(setting.name for setting in fields() if setting.table == table)
    return f"{table}.{name} is no setting; known in [{table}]: {known}. {_RENEW}"


def table() -> str:
    """All settings as a table in Markdown, for the README."""
    lines = ["| setting | default | allowed | unit | |", "|---|---|---|---|---|"]
    for setting in fields():
        default = setting.absent if setting.absent else f"`{_toml(setting.default)}`"
        allowed = setting.allowed.replace("|", "\\|") or setting.kind
        lines.append(f"| `{setting.path}` | {default} | {allowed} | {setting.unit} | {setting.description} |")
    return "\n".join(lines) + "\n"


def render() -> str:
    """The commented settings file with all defaults."""
    lines = ["# Settings of streamtomo. Every value shown is the default; lines behind '# ' are not set.", ""]
    current = ""
    for setting in fields():
        if setting.table != current:
            current = setting.table
            lines += [f"[{current}]"]
        lines += _render_field(setting)
    return "\n".join(lines).rstrip() + "\n"


def _render_field(setting: Field) -> list[str]:
    allowed = f"{setting.kind} {setting.allowed}".strip()
    facts = ", ".join(part for part in (allowed, f"unit: {setting.unit}" if setting.unit else "") if part)
    absent = f"; absent: {setting.absent}" if setting.absent else ""
    if setting.absent or setting.default == ():
        line = f"# {setting.name} = {_toml(setting.example)}"
    else:
        line = f"{setting.name} = {_toml(setting.default)}"
    return [f"# {setting.description}", f"# ({facts}{absent})", line, ""]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return f"'{value}'" if "\\" in value else f'"{value}"'  # a literal text, for regular expressions
    return repr(value)
