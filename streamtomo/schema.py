"""The JSON Schema of the messages, for programs that read the event stream or the journal."""

from __future__ import annotations

import json

import msgspec

from streamtomo.messages import Answer, Envelope, Request


def render() -> str:
    """JSON Schema (2020-12) of envelopes, requests and answers."""
    (envelope, request, answer), components = msgspec.json.schema_components((Envelope, Request, Answer))
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "streamtomo: a line of the journal, a message on the wire",
        **envelope,
        "$defs": {**components, "AnyRequest": request, "AnyAnswer": answer},
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"
