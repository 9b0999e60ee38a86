"""What all events have in common."""

from __future__ import annotations

from msgspec import Struct


class Happening(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of all events."""
