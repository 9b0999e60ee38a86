"""What a preset of the finishing means: values of the settings that a person did not set."""

from __future__ import annotations

from typing import Any

import msgspec

from streamtomo.config import Settings
from streamtomo.config_final import PRESETS

COLUMNS = ("quick", "standard", "full")


def with_preset(settings: Settings) -> Settings:
    """What is set, and for the rest what `final.preset` says."""
    column = COLUMNS.index(settings.final.preset)
    changed: dict[str, dict[str, Any]] = {}
    for path, values in PRESETS.items():
        table, _, name = path.partition(".")
        if getattr(getattr(settings, table), name) is None:
            changed.setdefault(table, {})[name] = values[column]
    tables = {table: msgspec.structs.replace(getattr(settings, table), **values) for table, values in changed.items()}
    return msgspec.structs.replace(settings, **tables)
