"""How a setting is written down: `name: Annotated[type, "what it is", facts(unit, range ...)] = default`."""

from __future__ import annotations

from typing import Any

from msgspec import Meta, Struct


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the tables of settings: closed to unknown keys."""


def facts(unit: str = "", *, absent: str | None = None, example: Any = None, **bounds: Any) -> Meta:
    """What a setting must be, and what a person wants to know besides its description.

    Args:
        unit: its unit; empty if it has none.
        absent: what happens when an optional setting is not given; all of those need it.
        example: a value for the settings file, where the default is none.
        bounds: `ge`, `gt`, `le`, `lt`, `min_length` or `pattern`, as msgspec checks them.
    """
    told = {"unit": unit, "absent": absent, "example": example}
    return Meta(extra={name: value for name, value in told.items() if value is not None}, **bounds)
