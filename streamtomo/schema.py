"""The JSON Schema of the messages, for programs that read the event stream or the journal."""

from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec

from streamtomo.messages import VERSION, Answer, Envelope, Request
from streamtomo.publish.state import SessionState


def render() -> str:
    """JSON Schema (2020-12) of envelopes, snapshots, requests and answers."""
    records = (Envelope, SessionState, Request, Answer)
    (envelope, snapshot, request, answer), components = msgspec.json.schema_components(records)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:streamtomo:messages:{VERSION}",
        "title": "streamtomo: a line of the journal, a message on the wire",
        **envelope,
        "$defs": {**components, "AnySnapshot": snapshot, "AnyRequest": request, "AnyAnswer": answer},
    }
    return json.dumps(_cleaned(schema), indent=1, sort_keys=True) + "\n"


def _cleaned(part: Any) -> Any:
    """Texts without the indentation that some versions of msgspec leave in them."""
    if isinstance(part, dict):
        return {key: _cleaned(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_cleaned(one) for one in part]
    return inspect.cleandoc(part) if isinstance(part, str) else part
